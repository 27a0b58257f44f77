//! CRC32C (Castagnoli, RFC 3720), the one checksum of every stored and sent byte.

use std::fmt;

/// A CRC32C.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Crc32c(u32);

impl Crc32c {
    /// Makes it from its number.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Crc32c {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The checksum of one run of bytes.
pub fn crc32c(bytes: &[u8]) -> Crc32c {
    Crc32c(crc_fast::crc32_iscsi(bytes))
}

/// The checksum of several runs of bytes as if they were one.
///
/// # Panics
///
/// Never: a checksum of 32 bits fits.
pub fn crc32c_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Crc32c {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    let wide = digest.finalize();
    Crc32c(u32::try_from(wide).expect("a 32-bit checksum fits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_check_value() {
        assert_eq!(crc32c(b"123456789").get(), 0xe306_9283);
    }

    #[test]
    fn parts_sum_to_the_whole() {
        assert_eq!(
            crc32c_of([&b"1234"[..], b"", b"56789"]),
            crc32c(b"123456789")
        );
    }
}
