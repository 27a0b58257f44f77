//! The one pass over a batch on receipt.

use std::fmt;

use super::wire::{Fault, Reader, WireType};
use super::{MESSAGES, field};
use crate::{Problem, Reason};

/// How large a batch and its messages may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one encoded message.
    pub message_bytes_max: usize,
    /// Most bytes of the encoded batch.
    pub batch_bytes_max: usize,
    /// Most messages.
    pub messages_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 5 << 20,
            batch_bytes_max: 8 << 20,
            messages_max: 1 << 16,
        }
    }
}

/// What a pass over a batch finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// How many messages, one or more.
    pub count: u32,
    /// Bytes of the largest encoded message.
    pub largest: usize,
}

/// What is wrong with the encoding of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// It ends in the middle of something.
    Truncated,
    /// A number takes more bytes than it may.
    LongVarint,
    /// A field with the number 0.
    FieldZero,
    /// A field is encoded in a way that its type does not allow, or that does not exist.
    WireType,
    /// A group, which proto3 does not have.
    Group,
    /// Text is not UTF-8.
    NotUtf8,
    /// The batch has a field other than its messages.
    UnknownBatchField,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "it ends in the middle of a field",
            Self::LongVarint => "a number takes too many bytes",
            Self::FieldZero => "a field has the number 0",
            Self::WireType => "a field is encoded in a way its type does not allow",
            Self::Group => "it holds a group, which proto3 does not have",
            Self::NotUtf8 => "a text is not UTF-8",
            Self::UnknownBatchField => "the batch has a field that this version does not know",
        })
    }
}

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// It has no messages.
    #[error("a batch needs at least one message")]
    Empty,
    /// Its bytes are no batch.
    #[error("the batch is malformed: {what} message={message} byte={at}")]
    Malformed {
        /// The index of the message with the fault.
        message: u32,
        /// Where in the batch the fault is.
        at: usize,
        /// What it is.
        what: Malformed,
    },
    /// A message is too large.
    #[error("a message is too large message={message} bytes={bytes} max={max}")]
    MessageTooLarge {
        /// The index of the message.
        message: u32,
        /// Its encoded size.
        bytes: usize,
        /// Most bytes allowed.
        max: usize,
    },
    /// The batch is too large.
    #[error("the batch is too large; send fewer messages in each bytes={bytes} max={max}")]
    BatchTooLarge {
        /// Its size.
        bytes: usize,
        /// Most bytes allowed.
        max: usize,
    },
    /// The batch has too many messages.
    #[error("the batch has too many messages; send fewer in each max={max}")]
    TooManyMessages {
        /// Most messages allowed.
        max: u32,
    },
}

impl BatchError {
    /// The refusal as it goes to the producer; `field` is where the batch is in its request.
    pub fn problem(&self, field: &str) -> Problem {
        let message = self.to_string();
        match *self {
            Self::Empty => {
                Problem::new(Reason::BadField, message).with_field(format!("{field}.messages"))
            }
            Self::Malformed {
                message: index, at, ..
            } => Problem::new(Reason::MalformedBatch, message)
                .with_field(format!("{field}.messages[{index}]"))
                .with("byte", at),
            Self::MessageTooLarge {
                message: index,
                bytes,
                max,
            } => Problem::new(Reason::MessageTooLarge, message)
                .with_field(format!("{field}.messages[{index}]"))
                .with("bytes", bytes)
                .with("max_bytes", max),
            Self::BatchTooLarge { bytes, max } => Problem::new(Reason::MessageTooLarge, message)
                .with_field(field)
                .with("bytes", bytes)
                .with("max_bytes", max),
            Self::TooManyMessages { max } => Problem::new(Reason::MessageTooLarge, message)
                .with_field(format!("{field}.messages"))
                .with("max_messages", max),
        }
    }
}

/// Walks a batch from end to end: is it well formed, within the limits, and what is in it?
///
/// # Errors
///
/// The first fault; the producer changes the batch. Nothing of a refused batch may be used.
pub fn check(batch: &[u8], limits: &Limits) -> Result<Facts, BatchError> {
    if batch.len() > limits.batch_bytes_max {
        return Err(BatchError::BatchTooLarge {
            bytes: batch.len(),
            max: limits.batch_bytes_max,
        });
    }
    let mut facts = Facts {
        count: 0,
        largest: 0,
    };
    let mut reader = Reader::new(batch);
    while !reader.is_empty() {
        let malformed = |(at, what): Fault| BatchError::Malformed {
            message: facts.count,
            at,
            what,
        };
        let message = next_message(&mut reader).map_err(malformed)?;
        if facts.count == limits.messages_max {
            return Err(BatchError::TooManyMessages {
                max: limits.messages_max,
            });
        }
        if message.len() > limits.message_bytes_max {
            return Err(BatchError::MessageTooLarge {
                message: facts.count,
                bytes: message.len(),
                max: limits.message_bytes_max,
            });
        }
        facts.largest = facts.largest.max(message.len());
        check_message(message).map_err(malformed)?;
        facts.count += 1;
    }
    if facts.count == 0 {
        return Err(BatchError::Empty);
    }
    Ok(facts)
}

/// The next message of a batch.
pub(super) fn next_message<'a>(batch: &mut Reader<'a>) -> Result<Reader<'a>, Fault> {
    let at = batch.at();
    match batch.tag()? {
        (MESSAGES, WireType::Delimited) => batch.delimited(),
        (MESSAGES, _) => Err((at, Malformed::WireType)),
        _ => Err((at, Malformed::UnknownBatchField)),
    }
}

fn check_message(mut message: Reader<'_>) -> Result<(), Fault> {
    while !message.is_empty() {
        let at = message.at();
        let (number, wire) = message.tag()?;
        let is_known = matches!(
            number,
            field::PAYLOAD
                | field::ORDERING_KEY
                | field::ATTRIBUTES
                | field::EVENT_TIME
                | field::CONTENT_TYPE
        );
        if is_known && wire != WireType::Delimited {
            return Err((at, Malformed::WireType));
        }
        match number {
            field::ORDERING_KEY | field::CONTENT_TYPE => message.text()?,
            field::ATTRIBUTES => check_attribute(message.delimited()?)?,
            field::EVENT_TIME => check_time(message.delimited()?)?,
            _ => message.skip(wire)?,
        }
    }
    Ok(())
}

/// An entry of the map: key 1 and value 2, both text.
fn check_attribute(mut entry: Reader<'_>) -> Result<(), Fault> {
    while !entry.is_empty() {
        let at = entry.at();
        match entry.tag()? {
            (1 | 2, WireType::Delimited) => entry.text()?,
            (1 | 2, _) => return Err((at, Malformed::WireType)),
            (_, wire) => entry.skip(wire)?,
        }
    }
    Ok(())
}

/// A `google.protobuf.Timestamp`: seconds 1 and nanoseconds 2, both numbers.
fn check_time(mut time: Reader<'_>) -> Result<(), Fault> {
    while !time.is_empty() {
        let at = time.at();
        let (number, wire) = time.tag()?;
        if matches!(number, 1 | 2) && wire != WireType::Varint {
            return Err((at, Malformed::WireType));
        }
        time.skip(wire)?;
    }
    Ok(())
}
