//! The bytes of an entry of the message log: a header, then the producer's batch as it came.
//!
//! ```text
//! version        u8   2, or 3 for a compressed batch
//! producer kind  u8   0 unnamed, 1 named
//! shard epoch    u64  of the owner that numbered the entry
//! first offset   u64
//! count          u32  of messages, at least 1
//! publish time   u64  nanoseconds since 1970-01-01 UTC, the owner's clock
//! first sequence u64  the producer's number of the first message
//! log bytes      u64  of the batches of the log up to this one, this one included; what retention counts
//! producer       u64  the producer's epoch (named) or its number within the shard epoch (unnamed)
//! name           u8 length, bytes   (named only)
//! codec          u8   1 zstd, 2 lz4, 3 snappy   (version 3 only)
//! uncompressed   u32  bytes of the encoded MessageBatch   (version 3 only)
//! body                the encoded MessageBatch, compressed in version 3, up to the end of the entry
//! ```
//!
//! A batch that is not compressed is written as version 2, as ever: programs that know no other go on reading it.
//!
//! Numbers are little-endian. The checksum is the ledger entry's own. What a reader does not know (a higher version,
//! another kind) it refuses.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use types::batch::{Body, Codec, Compression};
use types::{
    EntryId, Epoch, LedgerId, Offset, Payload, ProducerEpoch, ProducerName, SequenceId, WallTime,
};

use crate::codec::{Reader, put_text};

/// The version of an entry whose batch is not compressed.
pub const VERSION: u8 = 2;

/// The version of an entry whose batch is compressed.
pub const VERSION_COMPRESSED: u8 = 3;

/// The longest header: so many first bytes of an entry are enough for [`EntryHeader::decode`].
pub const HEADER_LEN_MAX: usize = 54 + 1 + 255 + 5;

const UNNAMED: u8 = 0;
const NAMED: u8 = 1;

/// Bytes that are not what this code, or an older one, wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// They end too early.
    #[error("entry ends too early")]
    Short,
    /// A newer program wrote them.
    #[error("entry of an unknown version version={version}")]
    Version {
        /// The version found.
        version: u8,
    },
    /// They break a rule of the format.
    #[error("malformed entry what={what}")]
    Malformed {
        /// Which part.
        what: &'static str,
    },
}

/// Where an entry is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The ledger.
    pub ledger: LedgerId,
    /// The entry of the ledger.
    pub entry: EntryId,
}

impl std::fmt::Debug for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ledger, self.entry)
    }
}

/// Who published an entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProducerIdentity {
    /// A producer whose numbers outlive its streams.
    Named {
        /// Its name.
        name: ProducerName,
        /// The epoch of its stream. Grows with every stream of any name of the shard.
        epoch: ProducerEpoch,
    },
    /// A producer that ended with its stream.
    Unnamed {
        /// Its number, unique together with the shard epoch.
        id: u64,
    },
}

/// The facts of an entry, made by the owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntryHeader {
    /// The epoch of the owner that numbered it.
    pub shard_epoch: Epoch,
    /// The offset of its first message.
    pub first_offset: Offset,
    /// How many messages it has.
    pub count: u32,
    /// When the owner numbered it.
    pub publish_time: WallTime,
    /// Who published it.
    pub producer: ProducerIdentity,
    /// The producer's number of its first message.
    pub first_sequence: SequenceId,
    /// Bytes of the batches of the log up to this one, this one included.
    pub log_bytes: u64,
    /// How to open its batch; none for one that is not compressed.
    pub compression: Option<Compression>,
}

impl EntryHeader {
    /// The first offset after the entry.
    pub fn next_offset(&self) -> Offset {
        self.first_offset.plus(u64::from(self.count))
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(64);
        let version = match self.compression {
            None => VERSION,
            Some(_) => VERSION_COMPRESSED,
        };
        let (kind, producer) = match &self.producer {
            ProducerIdentity::Unnamed { id } => (UNNAMED, *id),
            ProducerIdentity::Named { epoch, .. } => (NAMED, epoch.get()),
        };
        bytes.put_u8(version);
        bytes.put_u8(kind);
        bytes.put_u64_le(self.shard_epoch.get());
        bytes.put_u64_le(self.first_offset.get());
        bytes.put_u32_le(self.count);
        bytes.put_u64_le(self.publish_time.as_nanos());
        bytes.put_u64_le(self.first_sequence.get());
        bytes.put_u64_le(self.log_bytes);
        bytes.put_u64_le(producer);
        if let ProducerIdentity::Named { name, .. } = &self.producer {
            put_text(&mut bytes, name.as_str());
        }
        if let Some(compression) = self.compression {
            bytes.put_u8(codec_number(compression.codec));
            bytes.put_u32_le(compression.uncompressed_bytes);
        }
        bytes.freeze()
    }

    /// Reads it from the first bytes of an entry, and tells how many they are. At most [`HEADER_LEN_MAX`] are looked at.
    ///
    /// # Errors
    ///
    /// [`FormatError`] when they are not a header.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), FormatError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION && version != VERSION_COMPRESSED {
            return Err(FormatError::Version { version });
        }
        let kind = reader.u8()?;
        let shard_epoch = Epoch::new(reader.u64()?);
        let first_offset = Offset::new(reader.u64()?);
        let count = reader.u32()?;
        let publish_time = WallTime::from_nanos(reader.u64()?);
        let first_sequence = SequenceId::new(reader.u64()?);
        let log_bytes = reader.u64()?;
        let number = reader.u64()?;
        let producer = match kind {
            UNNAMED => ProducerIdentity::Unnamed { id: number },
            NAMED => ProducerIdentity::Named {
                name: read_name(&mut reader)?,
                epoch: ProducerEpoch::new(number),
            },
            _ => {
                return Err(FormatError::Malformed {
                    what: "producer kind",
                });
            }
        };
        let compression = match version {
            VERSION_COMPRESSED => Some(read_compression(&mut reader)?),
            _ => None,
        };
        let span = u64::from(count);
        if count == 0 || first_sequence.checked_plus(span).is_none() {
            return Err(FormatError::Malformed { what: "count" });
        }
        if first_offset.get().checked_add(span).is_none() {
            return Err(FormatError::Malformed {
                what: "first offset",
            });
        }
        let header = Self {
            shard_epoch,
            first_offset,
            count,
            publish_time,
            producer,
            first_sequence,
            log_bytes,
            compression,
        };
        Ok((header, bytes.len() - reader.remaining()))
    }
}

/// Reads a producer's name.
pub(crate) fn read_name(reader: &mut Reader<'_>) -> Result<ProducerName, FormatError> {
    let bad = FormatError::Malformed {
        what: "producer name",
    };
    reader.text()?.parse().or(Err(bad))
}

/// Reads how to open a batch.
fn read_compression(reader: &mut Reader<'_>) -> Result<Compression, FormatError> {
    let number = reader.u8()?;
    let known = Codec::ALL
        .into_iter()
        .find(|codec| codec_number(*codec) == number);
    let codec = known.ok_or(FormatError::Malformed { what: "codec" })?;
    Ok(Compression {
        codec,
        uncompressed_bytes: reader.u32()?,
    })
}

const fn codec_number(codec: Codec) -> u8 {
    match codec {
        Codec::Zstd => 1,
        Codec::Lz4 => 2,
        Codec::Snappy => 3,
    }
}

/// An entry of the message log, taken apart once by whoever read it and then shared: clones copy no message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoredEntry {
    /// Where it is.
    pub position: Position,
    /// Its facts.
    pub header: EntryHeader,
    /// The batch as its producer sent it; the header says whether that is compressed.
    pub body: Bytes,
}

impl StoredEntry {
    /// The batch as its producer sent it, and how to open it.
    pub fn batch(&self) -> Body {
        Body {
            bytes: self.body.clone(),
            compression: self.header.compression,
        }
    }

    /// Takes an entry's payload apart, without copying the batch.
    ///
    /// # Errors
    ///
    /// [`FormatError`] when the payload does not begin with a header.
    pub fn decode(position: Position, payload: &Payload) -> Result<Self, FormatError> {
        let (head, body) = (payload.head(), payload.body());
        if head.is_empty() {
            let (header, len) = EntryHeader::decode(body)?;
            let body = body.slice(len..);
            return Ok(Self {
                position,
                header,
                body,
            });
        }
        if let Ok((header, len)) = EntryHeader::decode(head)
            && len == head.len()
        {
            let body = body.clone();
            return Ok(Self {
                position,
                header,
                body,
            });
        }
        let mut whole = payload.to_bytes();
        let (header, len) = EntryHeader::decode(&whole)?;
        whole.advance(len);
        Ok(Self {
            position,
            header,
            body: whole,
        })
    }
}

#[cfg(test)]
mod tests;
