//! The one look into a compressed batch on receipt.

use types::batch::{self, BatchError, Compression, Facts};
use types::{Problem, Reason};

use crate::{OpenError, is_within_ratio, open};

/// What a compressed batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What any batch may be: it holds for the batch once opened, and its bytes as they came are no more either.
    pub batch: batch::Limits,
    /// How many times as large as it came a batch may be, if that is more than 1 MiB.
    pub ratio_max: u32,
}

/// Why a compressed batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CompressedError {
    /// Its own bytes, or those that it claims to open to, are too many.
    #[error("the batch is too large; send fewer messages in each bytes={bytes} max={max}")]
    TooLarge {
        /// The field that says so.
        field: &'static str,
        /// How many.
        bytes: usize,
        /// Most bytes allowed.
        max: usize,
    },
    /// It shrank by more than is believed.
    #[error(
        "the batch is compressed too much; send it as it is, or in parts of 1 MiB \
         compressed={compressed} uncompressed={uncompressed} max_ratio={max}"
    )]
    Ratio {
        /// Its bytes.
        compressed: usize,
        /// How many it claims to open to.
        uncompressed: usize,
        /// The highest ratio of the two.
        max: u32,
    },
    /// It cannot be opened.
    #[error("{0}; compress the encoded batch again")]
    Open(OpenError),
    /// It holds another number of messages than it claims.
    #[error(
        "the batch has another number of messages than it claims claimed={claimed} actual={actual}"
    )]
    Count {
        /// What it claims.
        claimed: u32,
        /// How many there are.
        actual: u32,
    },
    /// What is in it is refused.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

impl CompressedError {
    /// The refusal as it goes to the producer; `field` is where the compressed batch is in its request.
    pub fn problem(&self, field: &str) -> Problem {
        let message = self.to_string();
        let inside = |name: &str| format!("{field}.{name}");
        match *self {
            Self::TooLarge {
                field: name,
                bytes,
                max,
            } => Problem::new(Reason::MessageTooLarge, message)
                .with_field(inside(name))
                .with("bytes", bytes)
                .with("max_bytes", max),
            Self::Ratio { max, .. } => Problem::new(Reason::MessageTooLarge, message)
                .with_field(inside("data"))
                .with("max_ratio", max),
            Self::Open(OpenError::Stream { .. }) => {
                Problem::new(Reason::MalformedBatch, message).with_field(inside("data"))
            }
            Self::Open(OpenError::Short { actual, .. }) => {
                Problem::new(Reason::MalformedBatch, message)
                    .with_field(inside("uncompressed_bytes"))
                    .with("actual", actual)
            }
            Self::Count { actual, .. } => Problem::new(Reason::MalformedBatch, message)
                .with_field(inside("message_count"))
                .with("actual", actual),
            Self::Batch(error) => error.problem(field),
        }
    }
}

/// Opens a batch and walks it: is it what it claims to be, with `count` messages, and could it have come as it is?
///
/// # Errors
///
/// The first fault; the producer changes the batch. Nothing of a refused batch may be used.
pub fn check(
    compression: Compression,
    count: u32,
    data: &[u8],
    limits: &Limits,
) -> Result<Facts, CompressedError> {
    let max = limits.batch.batch_bytes_max;
    let claimed = compression.uncompressed_bytes as usize;
    for (field, bytes) in [("data", data.len()), ("uncompressed_bytes", claimed)] {
        if bytes > max {
            return Err(CompressedError::TooLarge { field, bytes, max });
        }
    }
    if !is_within_ratio(data.len(), claimed, limits.ratio_max) {
        return Err(CompressedError::Ratio {
            compressed: data.len(),
            uncompressed: claimed,
            max: limits.ratio_max,
        });
    }
    let opened = open(compression, data).map_err(CompressedError::Open)?;
    let facts = batch::check(&opened, &limits.batch)?;
    if facts.count != count {
        return Err(CompressedError::Count {
            claimed: count,
            actual: facts.count,
        });
    }
    Ok(facts)
}
