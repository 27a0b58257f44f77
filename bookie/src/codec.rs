//! Little-endian numbers in byte runs, and the envelope of small files: checksummed, versioned, exact in length.

use types::crc32c;

/// Bytes of an envelope before its body.
pub(crate) const ENVELOPE: usize = 24;

/// Appends fixed-width numbers to a byte vector.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u128(&mut self, value: u128) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A flag byte, then the number or zero.
    pub(crate) fn option(&mut self, value: Option<u64>) {
        self.u8(u8::from(value.is_some()));
        self.u64(value.unwrap_or(0));
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Takes fixed-width numbers from the front of a byte run; `None` when it is too short.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// Reads what [`Writer::option`] wrote. The outer `None` is malformed, the inner one absent.
    pub(crate) fn option(&mut self) -> Option<Option<u64>> {
        let flag = self.u8()?;
        let value = self.u64()?;
        match (flag, value) {
            (0, 0) => Some(None),
            (1, value) => Some(Some(value)),
            _ => None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why an envelope's body is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Not what was written: a checksum, the length or the magic is wrong.
    Damaged,
    /// Whole, and of a later format.
    Newer(u32),
}

/// Wraps a body: `magic 8, format 4, body length 4, body crc 4, header crc 4, body`.
pub(crate) fn seal(magic: [u8; 8], format: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(ENVELOPE + body.len()));
    out.bytes(&magic);
    out.u32(format);
    out.u32(u32::try_from(body.len()).expect("small files are below 4 GiB"));
    out.u32(crc32c(body).get());
    let header_crc = crc32c(&out.0).get();
    out.u32(header_crc);
    out.bytes(body);
    out.0
}

/// Unwraps what [`seal`] made.
pub(crate) fn unseal(magic: [u8; 8], known: u32, bytes: &[u8]) -> Result<&[u8], Broken> {
    let (header, body) = bytes.split_at_checked(ENVELOPE).ok_or(Broken::Damaged)?;
    let mut reader = Reader(header);
    let read = |reader: &mut Reader<'_>| reader.u32().ok_or(Broken::Damaged);
    if reader.take(8) != Some(&magic[..]) {
        return Err(Broken::Damaged);
    }
    let format = read(&mut reader)?;
    let length = read(&mut reader)?;
    let body_crc = read(&mut reader)?;
    if crc32c(&header[..ENVELOPE - 4]).get() != read(&mut reader)? {
        return Err(Broken::Damaged);
    }
    if format > known {
        return Err(Broken::Newer(format));
    }
    if usize::try_from(length) != Ok(body.len()) || crc32c(body).get() != body_crc {
        return Err(Broken::Damaged);
    }
    Ok(body)
}

/// A `usize` as the 64 bits it has on every machine this runs on.
pub(crate) fn wide(value: usize) -> u64 {
    u64::try_from(value).expect("a usize fits 64 bits")
}

/// A number that was checked to be small as a `usize`.
pub(crate) fn narrow(value: u64) -> usize {
    usize::try_from(value).expect("sizes in memory fit a usize")
}

/// A number that was checked to be small as 32 bits.
pub(crate) fn small(value: usize) -> u32 {
    u32::try_from(value).expect("lengths in files are below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 8] = *b"LLTEST01";

    #[test]
    fn an_envelope_gives_its_body_back_and_no_flipped_or_cut_one() {
        let sealed = seal(MAGIC, 3, b"the body");
        assert_eq!(unseal(MAGIC, 3, &sealed), Ok(&b"the body"[..]));
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                unseal(MAGIC, 3, &flipped),
                Err(Broken::Damaged),
                "bit {bit}"
            );
        }
        for cut in 0..sealed.len() {
            assert_eq!(unseal(MAGIC, 3, &sealed[..cut]), Err(Broken::Damaged));
        }
        let mut longer = sealed;
        longer.push(0);
        assert_eq!(unseal(MAGIC, 3, &longer), Err(Broken::Damaged));
    }

    #[test]
    fn a_later_format_is_told_from_damage() {
        assert_eq!(
            unseal(MAGIC, 3, &seal(MAGIC, 4, b"")),
            Err(Broken::Newer(4))
        );
    }
}
