//! Sizes in bytes, as people write them: `512`, `64KiB`, `1MiB`, `1.5GiB`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a size, write a number with B, KiB, MiB, GiB or TiB, such as 64MiB text={text:?}")]
pub struct ByteSizeError {
    text: String,
}

const UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl ByteSize {
    /// Makes it from bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Makes it from units of 1,024 bytes.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// Makes it from units of 1,048,576 bytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// Its bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Its bytes as a length in memory.
    ///
    /// # Panics
    ///
    /// On a machine whose memory cannot be that long.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).expect("sizes fit the machine's memory")
    }
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let fail = || ByteSizeError {
            text: text.to_owned(),
        };
        let trimmed = text.trim();
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(unit, size)| trimmed.strip_suffix(unit).map(|digits| (digits, *size)))
            .unwrap_or((trimmed, 1));
        let (whole, part) = digits.trim().split_once('.').unwrap_or((digits.trim(), ""));
        let plain = |s: &str| s.len() <= 12 && s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !plain(whole) || !plain(part) {
            return Err(fail());
        }
        let whole: u128 = whole.parse().map_err(|_| fail())?;
        let scale = 10_u128.pow(u32::try_from(part.len()).map_err(|_| fail())?);
        let part: u128 = if part.is_empty() {
            0
        } else {
            part.parse().map_err(|_| fail())?
        };
        let bytes = (whole * scale + part) * u128::from(unit) / scale;
        u64::try_from(bytes).map(Self).map_err(|_| fail())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = UNITS
            .iter()
            .find(|(_, size)| self.0 >= *size)
            .copied()
            .unwrap_or(("B", 1));
        if self.0.is_multiple_of(size) {
            return write!(f, "{}{unit}", self.0 / size);
        }
        let tenths = u128::from(self.0) * 10 / u128::from(size);
        write!(f, "{}.{}{unit}", tenths / 10, tenths % 10)
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write_and_shows_it_again() {
        for (text, bytes, shown) in [
            ("512", 512, "512B"),
            ("64KiB", 65_536, "64KiB"),
            (" 1 MiB ", 1 << 20, "1MiB"),
            ("1.5GiB", 1_610_612_736, "1.5GiB"),
            ("0", 0, "0B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(
                (size.get(), size.to_string().as_str()),
                (bytes, shown),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "B",
            "-1",
            "1MB",
            "1e9",
            "1..5",
            "99999999999TiB",
            "0x10",
            "1.KiB.2",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
