//! Batches on the wire, plain and compressed: their bytes are passed on as they are.

use bytes::Bytes;
use types::batch::{Body, Codec, Codecs, Compression};
use types::{Crc32c, Problem, Reason, SequenceId, crc32c};

use crate::raw::v1 as pb;

/// A batch as it came in: its checksum verified where it had one, and nothing of it looked into yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Its bytes, and how to open them where it is compressed.
    pub body: Body,
    /// How many messages its sender says it has, where it is compressed.
    pub claimed_count: Option<u32>,
}

impl Incoming {
    fn plain(batch: Bytes) -> Self {
        Self {
            body: batch.into(),
            claimed_count: None,
        }
    }

    /// Reads a compressed batch.
    ///
    /// # Errors
    ///
    /// `BAD_FIELD` for a codec that this version does not know.
    pub fn compressed(wire: pb::CompressedBatch) -> Result<Self, Problem> {
        let codec = codec(wire.codec).ok_or_else(|| {
            let text = "this version opens zstd (1), lz4 (2) and snappy (3); name one of them, or send a plain batch";
            Problem::bad_field("compressed.codec", text).with("codec", wire.codec)
        })?;
        let compression = Compression {
            codec,
            uncompressed_bytes: wire.uncompressed_bytes,
        };
        Ok(Self {
            body: Body {
                bytes: wire.data,
                compression: Some(compression),
            },
            claimed_count: Some(wire.message_count),
        })
    }
}

/// The frame of a batch of so many messages.
pub fn publish_frame(
    first: SequenceId,
    body: Body,
    count: u32,
    crc: Option<Crc32c>,
) -> pb::PublishStreamRequest {
    use pb::publish_batch::Body::{Batch, Compressed};
    let batch = pb::PublishBatch {
        first_sequence_id: first.get(),
        crc32c: crc.map(Crc32c::get),
        body: Some(match body.compression {
            None => Batch(body.bytes),
            Some(compression) => Compressed(wire_compressed(body.bytes, compression, count)),
        }),
    };
    pb::PublishStreamRequest {
        frame: Some(pb::publish_stream_request::Frame::Batch(batch)),
    }
}

/// Reads the batch of a frame and verifies its checksum where it has one.
///
/// # Errors
///
/// `BAD_FIELD` when it holds no batch, or one of a codec that this version does not know; `PAYLOAD_CORRUPT` when the
/// checksum does not match.
pub fn published(frame: pb::PublishBatch) -> Result<Incoming, Problem> {
    use pb::publish_batch::Body::{Batch, Compressed};
    let batch = match frame.body {
        Some(Batch(batch)) => Incoming::plain(batch),
        Some(Compressed(batch)) => Incoming::compressed(batch)?,
        None => return Err(missing()),
    };
    verify(frame.crc32c, batch)
}

/// Reads the batch of a unary request and verifies its checksum where it has one. The request may still be passed on.
///
/// # Errors
///
/// As [`published`].
pub fn published_once(request: &pb::PublishRequest) -> Result<Incoming, Problem> {
    use pb::publish_request::Body::{Batch, Compressed};
    let batch = match request.body.clone() {
        Some(Batch(batch)) => Incoming::plain(batch),
        Some(Compressed(batch)) => Incoming::compressed(batch)?,
        None => return Err(missing()),
    };
    verify(request.crc32c, batch)
}

/// The codecs that a consumer names. Those that this version does not know are passed over: it stores no such batches.
pub fn codecs(wire: &[i32]) -> Codecs {
    wire.iter().filter_map(|one| codec(*one)).collect()
}

/// Codecs for the wire.
pub fn wire_codecs(codecs: impl IntoIterator<Item = Codec>) -> Vec<i32> {
    let wire = codecs.into_iter().map(|one| wire_codec(one).into());
    wire.collect()
}

/// A compressed batch for the wire.
pub(super) fn wire_compressed(
    data: Bytes,
    compression: Compression,
    count: u32,
) -> pb::CompressedBatch {
    pb::CompressedBatch {
        codec: wire_codec(compression.codec).into(),
        message_count: count,
        uncompressed_bytes: compression.uncompressed_bytes,
        data,
    }
}

fn codec(wire: i32) -> Option<Codec> {
    match pb::Codec::try_from(wire).ok()? {
        pb::Codec::Unspecified => None,
        pb::Codec::Zstd => Some(Codec::Zstd),
        pb::Codec::Lz4 => Some(Codec::Lz4),
        pb::Codec::Snappy => Some(Codec::Snappy),
    }
}

const fn wire_codec(codec: Codec) -> pb::Codec {
    match codec {
        Codec::Zstd => pb::Codec::Zstd,
        Codec::Lz4 => pb::Codec::Lz4,
        Codec::Snappy => pb::Codec::Snappy,
    }
}

fn missing() -> Problem {
    Problem::bad_field("batch", "is missing")
}

fn verify(expected: Option<u32>, batch: Incoming) -> Result<Incoming, Problem> {
    let actual = expected.map(|_| crc32c(&batch.body.bytes).get());
    if actual == expected {
        return Ok(batch);
    }
    let message = "the batch was damaged on its way, or crc32c is not that of its bytes as they are sent; send it again";
    let mut problem = Problem::new(Reason::PayloadCorrupt, message).with_field("crc32c");
    if let (Some(expected), Some(actual)) = (expected, actual) {
        problem = problem.with("expected", expected).with("actual", actual);
    }
    Err(problem)
}
