//! Protobuf's encoding, as much of it as a walk needs.

use super::Malformed;

/// How a field's value is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireType {
    /// A number of one to ten bytes.
    Varint,
    /// Eight bytes.
    Fixed64,
    /// A length and so many bytes.
    Delimited,
    /// Four bytes.
    Fixed32,
}

/// Where a walk found what is wrong: the byte it stood at, and what.
pub(super) type Fault = (usize, Malformed);

/// Reads from the front of a run of bytes. Knows where in the whole batch it stands.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads a whole batch.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where it stands in the batch.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next field's number and how its value is encoded.
    pub(super) fn tag(&mut self) -> Result<(u32, WireType), Fault> {
        let start = self.at;
        let tag = self.short_varint()?;
        let wire = match tag & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Delimited,
            3 | 4 => return Err((start, Malformed::Group)),
            5 => WireType::Fixed32,
            _ => return Err((start, Malformed::WireType)),
        };
        match tag >> 3 {
            0 => Err((start, Malformed::FieldZero)),
            field => Ok((field, wire)),
        }
    }

    /// The bytes of a delimited value, to be read in turn.
    pub(super) fn delimited(&mut self) -> Result<Reader<'a>, Fault> {
        let len = self.short_varint()?;
        let len = usize::try_from(len).map_err(|_| (self.at, Malformed::Truncated))?;
        let at = self.at;
        let bytes = self.take(len)?;
        Ok(Reader { bytes, at })
    }

    /// The bytes of a delimited value that is text.
    pub(super) fn text(&mut self) -> Result<(), Fault> {
        let text = self.delimited()?;
        match std::str::from_utf8(text.bytes) {
            Ok(_) => Ok(()),
            Err(error) => Err((text.at + error.valid_up_to(), Malformed::NotUtf8)),
        }
    }

    /// Passes over a value.
    pub(super) fn skip(&mut self, wire: WireType) -> Result<(), Fault> {
        match wire {
            WireType::Varint => self.long_varint(),
            WireType::Fixed64 => self.take(8).map(drop),
            WireType::Delimited => self.delimited().map(drop),
            WireType::Fixed32 => self.take(4).map(drop),
        }
    }

    /// Bytes left.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let Some((taken, rest)) = self.bytes.split_at_checked(len) else {
            return Err((self.at, Malformed::Truncated));
        };
        self.bytes = rest;
        self.at += len;
        Ok(taken)
    }

    /// A tag or a length: 32 bits in at most five bytes.
    fn short_varint(&mut self) -> Result<u32, Fault> {
        let start = self.at;
        let mut value: u32 = 0;
        for (index, &byte) in self.bytes.iter().take(5).enumerate() {
            if index == 4 && byte > 0x0f {
                return Err((start, Malformed::LongVarint));
            }
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.bytes = &self.bytes[index + 1..];
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err((start, Malformed::Truncated))
    }

    /// A value of up to 64 bits in at most ten bytes, passed over.
    fn long_varint(&mut self) -> Result<(), Fault> {
        for (index, &byte) in self.bytes.iter().take(10).enumerate() {
            if index == 9 && byte > 0x01 {
                return Err((self.at, Malformed::LongVarint));
            }
            if byte < 0x80 {
                self.bytes = &self.bytes[index + 1..];
                self.at += index + 1;
                return Ok(());
            }
        }
        Err((self.at, Malformed::Truncated))
    }
}
