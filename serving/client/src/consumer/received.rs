//! Messages as they are received.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use prost::Message as _;
use proto::raw::v1 as pb;
use types::{MonoTime, Reason, WallTime};

use crate::{Error, Message};

/// A message that was delivered, to be acked.
#[derive(Debug, Clone)]
pub struct Received {
    message: Message,
    offset: u64,
    delivery: Arc<Delivery>,
}

/// Which of a producer's messages a message is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProducerStamp {
    /// The producer's name.
    pub name: Arc<str>,
    /// Which opening of that name.
    pub epoch: u64,
    /// The message's number in the producer's sequence.
    pub sequence: u64,
}

/// What the messages of one delivery have in common.
#[derive(Debug)]
pub(super) struct Delivery {
    /// On which stream it came.
    pub(super) session: u64,
    pub(super) generation: u32,
    first_offset: u64,
    attempt: u32,
    publish_time: Option<WallTime>,
    lease_expires: Option<WallTime>,
    /// Name, epoch, number of the message at `first_offset`.
    producer: Option<(Arc<str>, u64, u64)>,
    /// When the lease is over, by this machine's clock. Others may have the messages then.
    pub(super) expires: MonoTime,
}

impl Received {
    /// What was published.
    pub const fn message(&self) -> &Message {
        &self.message
    }

    /// What was published, by value. Ack it before, or keep a clone of this.
    pub fn into_message(self) -> Message {
        self.message
    }

    /// The content.
    pub const fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// Its number in the topic: dense, from 0.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// How often it was delivered, this time included. Counted anew when the topic's owner changed.
    pub fn attempt(&self) -> u32 {
        self.delivery.attempt
    }

    /// When the server took it in.
    pub fn publish_time(&self) -> Option<WallTime> {
        self.delivery.publish_time
    }

    /// When it goes to somebody else unless it is acked or extended, by the server's clock.
    pub fn lease_expires(&self) -> Option<WallTime> {
        self.delivery.lease_expires
    }

    /// Who published it; none for a producer without a name.
    pub fn producer(&self) -> Option<ProducerStamp> {
        let (name, epoch, first) = self.delivery.producer.as_ref()?;
        let since_first = self.offset.saturating_sub(self.delivery.first_offset);
        Some(ProducerStamp {
            name: Arc::clone(name),
            epoch: *epoch,
            sequence: first + since_first,
        })
    }

    /// On which of the consumer's streams it came: a number that goes up with each reconnect.
    pub fn session(&self) -> u64 {
        self.delivery.session
    }

    pub(super) fn delivery(&self) -> &Delivery {
        &self.delivery
    }
}

/// A delivery that waits to be taken, message by message.
#[derive(Debug)]
pub(super) struct Batch {
    /// What is left of it, encoded.
    body: Bytes,
    /// The whole of it, until its first message is taken: what waits takes no more memory than it came with.
    compressed: Option<pb::CompressedBatch>,
    /// What a compressed batch took of the credit. Its first message gives it back.
    compressed_bytes: Option<u64>,
    /// How many were taken.
    index: u64,
    /// The offset of each; empty when they are dense.
    offsets: Vec<u64>,
    delivery: Arc<Delivery>,
}

impl Batch {
    pub(super) fn new(wire: pb::Delivery, session: u64, expires: MonoTime) -> Self {
        let first_offset = wire.first.map_or(0, |first| first.offset);
        let time = |time: Option<_>| time.as_ref().and_then(proto::time::from_wire);
        let delivery = Delivery {
            session,
            generation: wire.generation,
            first_offset,
            attempt: wire.delivery_attempt,
            publish_time: time(wire.publish_time),
            lease_expires: time(wire.lease_expire_time),
            producer: wire.producer.map(|stamp| {
                (
                    Arc::from(stamp.producer_name),
                    stamp.epoch,
                    stamp.first_sequence_id,
                )
            }),
            expires,
        };
        let (body, compressed) = match wire.body {
            Some(pb::delivery::Body::Batch(body)) => (body, None),
            Some(pb::delivery::Body::Compressed(batch)) => (Bytes::new(), Some(batch)),
            None => (Bytes::new(), None),
        };
        Self {
            body,
            compressed_bytes: compressed.as_ref().map(|batch| batch.data.len() as u64),
            compressed,
            index: 0,
            offsets: wire.offsets,
            delivery: Arc::new(delivery),
        }
    }

    pub(super) fn session(&self) -> u64 {
        self.delivery.session
    }

    pub(super) fn expires(&self) -> MonoTime {
        self.delivery.expires
    }

    /// The next message and the bytes it took of the credit. What is left of a batch that is damaged is passed over: its
    /// messages are delivered again.
    ///
    /// # Errors
    ///
    /// `ENTRY_LOST`: a compressed batch cannot be opened. It would come again and again.
    pub(super) fn next(&mut self) -> Result<Option<(Received, u64)>, Error> {
        if let Some(batch) = self.compressed.take() {
            self.body = open(batch).map_err(|why| self.not_opened(&why))?;
        }
        Ok(self.next_opened())
    }

    fn next_opened(&mut self) -> Option<(Received, u64)> {
        let record = types::batch::records(&self.body).next()?;
        let bytes = match &mut self.compressed_bytes {
            None => record.whole.end as u64,
            Some(bytes) => std::mem::take(bytes),
        };
        let message = self.body.slice(record.message);
        self.body.advance(record.whole.end);
        let dense = self.delivery.first_offset + self.index;
        let at = usize::try_from(self.index).ok();
        let offset = at
            .and_then(|at| self.offsets.get(at).copied())
            .unwrap_or(dense);
        self.index += 1;
        match proto::v1::Message::decode(message) {
            Ok(message) => {
                let message = Message::from_wire(message);
                let delivery = Arc::clone(&self.delivery);
                Some((
                    Received {
                        message,
                        offset,
                        delivery,
                    },
                    bytes,
                ))
            }
            Err(error) => {
                tracing::error!(offset, %error, "a delivered message cannot be read");
                None
            }
        }
    }

    fn not_opened(&self, why: &str) -> Error {
        let first = self.delivery.first_offset;
        let message = format!(
            "the compressed batch at offset {first} cannot be opened; consume with a client that does not name its codec, \
             and compare what that gets: {why}"
        );
        Error::new(Reason::EntryLost, message)
    }
}

/// Opens a batch of at most the size that a plain one could have had.
fn open(batch: pb::CompressedBatch) -> Result<Bytes, String> {
    let body = proto::hot::Incoming::compressed(batch)
        .map_err(|problem| problem.message)?
        .body;
    let Some(compression) = body.compression else {
        return Ok(body.bytes);
    };
    let (bytes, max) = (
        compression.uncompressed_bytes as usize,
        proto::transport::PUBLIC_MESSAGE_MAX,
    );
    if bytes > max {
        return Err(format!("it claims to be too large bytes={bytes} max={max}"));
    }
    compression::open(compression, &body.bytes).map_err(|error| error.to_string())
}
