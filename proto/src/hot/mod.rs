//! The frames of the hot streams, built and read without copying a payload: `PublishBatch` up, `Deliveries` down, and
//! entries between nodes. Everything else about their encoding is the generated code's, and only this module should
//! have to change when it is to be faster.
//!
//! A batch or an entry's payload is a `Bytes` here: a slice of what the transport received, passed on as it is. Our
//! code copies it nowhere; the transport copies it once into each connection's buffer when it is sent.

mod adds;
mod deliveries;
#[cfg(test)]
mod tests;

pub use adds::AddBatchBuilder;
pub use deliveries::{DeliveriesBuilder, DeliveryParts, delivery};

use bytes::Bytes;
use types::{Crc32c, Problem, Reason, SequenceId, crc32c};

use crate::raw::v1::{
    PublishBatch, PublishRequest, PublishStreamRequest, publish_batch, publish_request,
    publish_stream_request,
};

/// A batch as it came in: encoded, its checksum verified where it had one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The number of its first message.
    pub first: SequenceId,
    /// The encoded `MessageBatch`. Not looked into yet.
    pub batch: Bytes,
}

/// The frame of a batch, encoded as a `MessageBatch`.
pub fn publish_frame(first: SequenceId, batch: Bytes, crc: Option<Crc32c>) -> PublishStreamRequest {
    let batch = PublishBatch {
        first_sequence_id: first.get(),
        crc32c: crc.map(Crc32c::get),
        body: Some(publish_batch::Body::Batch(batch)),
    };
    PublishStreamRequest {
        frame: Some(publish_stream_request::Frame::Batch(batch)),
    }
}

/// Reads the frame of a batch and verifies its checksum where it has one.
///
/// # Errors
///
/// `BAD_FIELD` when it holds no batch, `PAYLOAD_CORRUPT` when the checksum does not match.
pub fn published(frame: PublishBatch) -> Result<Published, Problem> {
    let Some(publish_batch::Body::Batch(batch)) = frame.body else {
        return Err(Problem::bad_field("batch", "a batch is needed"));
    };
    verify(frame.crc32c, &batch)?;
    Ok(Published {
        first: SequenceId::new(frame.first_sequence_id),
        batch,
    })
}

/// Takes the batch out of a unary request and verifies its checksum where it has one.
///
/// # Errors
///
/// `BAD_FIELD` when it holds no batch, `PAYLOAD_CORRUPT` when the checksum does not match.
pub fn published_once(request: &mut PublishRequest) -> Result<Bytes, Problem> {
    let Some(publish_request::Body::Batch(batch)) = request.body.take() else {
        return Err(Problem::bad_field("batch", "a batch is needed"));
    };
    verify(request.crc32c, &batch)?;
    Ok(batch)
}

fn verify(expected: Option<u32>, batch: &Bytes) -> Result<(), Problem> {
    let Some(expected) = expected.map(Crc32c::new) else {
        return Ok(());
    };
    let actual = crc32c(batch);
    if actual == expected {
        return Ok(());
    }
    let message = format!(
        "the batch was damaged on its way, or its crc32c is not that of the encoded batch; send it again \
         expected={expected} actual={actual}"
    );
    Err(Problem::new(Reason::PayloadCorrupt, message)
        .with_field("batch.crc32c")
        .with("expected", expected)
        .with("actual", actual))
}
