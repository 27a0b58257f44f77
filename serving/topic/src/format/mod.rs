//! The bytes of an entry of the message log: a header, then the producer's encoded batch as it came.
//!
//! ```text
//! version        u8   1
//! producer kind  u8   0 unnamed, 1 named
//! shard epoch    u64  of the owner that numbered the entry
//! first offset   u64
//! count          u32  of messages, at least 1
//! publish time   u64  nanoseconds since 1970-01-01 UTC, the owner's clock
//! first sequence u64  the producer's number of the first message
//! producer       u64  the producer's epoch (named) or its number within the shard epoch (unnamed)
//! name           u8 length, bytes   (named only)
//! body                the encoded MessageBatch, up to the end of the entry
//! ```
//!
//! Numbers are little-endian. The checksum is the ledger entry's own. What a reader does not know (a higher version,
//! another kind) it refuses.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use types::{
    EntryId, Epoch, LedgerId, Offset, Payload, ProducerEpoch, ProducerName, SequenceId, WallTime,
};

use crate::codec::{Reader, put_text};

/// The version this code writes.
pub const VERSION: u8 = 1;

/// The longest header: so many first bytes of an entry are enough for [`EntryHeader::decode`].
pub const HEADER_LEN_MAX: usize = 46 + 1 + 255;

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
}

impl EntryHeader {
    /// The first offset after the entry.
    pub fn next_offset(&self) -> Offset {
        self.first_offset.plus(u64::from(self.count))
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(64);
        let (kind, producer) = match &self.producer {
            ProducerIdentity::Unnamed { id } => (UNNAMED, *id),
            ProducerIdentity::Named { epoch, .. } => (NAMED, epoch.get()),
        };
        bytes.put_u8(VERSION);
        bytes.put_u8(kind);
        bytes.put_u64_le(self.shard_epoch.get());
        bytes.put_u64_le(self.first_offset.get());
        bytes.put_u32_le(self.count);
        bytes.put_u64_le(self.publish_time.as_nanos());
        bytes.put_u64_le(self.first_sequence.get());
        bytes.put_u64_le(producer);
        if let ProducerIdentity::Named { name, .. } = &self.producer {
            put_text(&mut bytes, name.as_str());
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
        if version != VERSION {
            return Err(FormatError::Version { version });
        }
        let kind = reader.u8()?;
        let shard_epoch = Epoch::new(reader.u64()?);
        let first_offset = Offset::new(reader.u64()?);
        let count = reader.u32()?;
        let publish_time = WallTime::from_nanos(reader.u64()?);
        let first_sequence = SequenceId::new(reader.u64()?);
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

/// An entry of the message log, taken apart once by whoever read it and then shared: clones copy no message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoredEntry {
    /// Where it is.
    pub position: Position,
    /// Its facts.
    pub header: EntryHeader,
    /// The encoded batch.
    pub body: Bytes,
}

impl StoredEntry {
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
