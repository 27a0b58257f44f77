//! A batch as it travels and is stored: encoded, and compressed or not.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

/// How a batch is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Zstandard: one frame.
    Zstd,
    /// LZ4: one block.
    Lz4,
    /// Snappy: one raw block.
    Snappy,
}

impl Codec {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Lz4, Self::Snappy];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no codec's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a codec is zstd, lz4 or snappy")]
pub struct CodecError;

impl FromStr for Codec {
    type Err = CodecError;

    fn from_str(text: &str) -> Result<Self, CodecError> {
        let named = Self::ALL.into_iter().find(|codec| codec.name() == text);
        named.ok_or(CodecError)
    }
}

/// Some codecs, such as those that a consumer opens batches of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Codecs(u8);

impl Codecs {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// The same and one more.
    #[must_use]
    pub const fn with(self, codec: Codec) -> Self {
        Self(self.0 | Self::bit(codec))
    }

    /// Whether it is among them.
    pub const fn has(self, codec: Codec) -> bool {
        self.0 & Self::bit(codec) != 0
    }

    const fn bit(codec: Codec) -> u8 {
        match codec {
            Codec::Zstd => 1,
            Codec::Lz4 => 2,
            Codec::Snappy => 4,
        }
    }
}

impl FromIterator<Codec> for Codecs {
    fn from_iter<I: IntoIterator<Item = Codec>>(codecs: I) -> Self {
        codecs.into_iter().fold(Self::NONE, Self::with)
    }
}

/// How the bytes of a batch are to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Compression {
    /// How they were made.
    pub codec: Codec,
    /// How many bytes the encoded batch has.
    pub uncompressed_bytes: u32,
}

/// The bytes of a batch as the producer sent them, passed on and stored as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Body {
    /// The encoded batch, or what a codec made of it.
    pub bytes: Bytes,
    /// How to open it; none for a batch that is not compressed.
    pub compression: Option<Compression>,
}

impl Body {
    /// Its bytes, as they are: what it takes of memory, disks, permits and credits.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl From<Bytes> for Body {
    /// A batch that is not compressed.
    fn from(bytes: Bytes) -> Self {
        Self {
            bytes,
            compression: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_is_read_by_its_name_and_by_nothing_else() {
        for codec in Codec::ALL {
            assert_eq!(codec.to_string().parse(), Ok(codec));
        }
        assert_eq!("gzip".parse::<Codec>(), Err(CodecError));
    }

    #[test]
    fn codecs_hold_what_was_put_in() {
        let two = Codecs::NONE.with(Codec::Zstd).with(Codec::Snappy);
        let held: Vec<_> = Codec::ALL.iter().filter(|codec| two.has(**codec)).collect();
        assert_eq!(held, [&Codec::Zstd, &Codec::Snappy]);
        assert_eq!(
            Codec::ALL.into_iter().collect::<Codecs>(),
            two.with(Codec::Lz4)
        );
    }
}
