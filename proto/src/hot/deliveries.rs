//! Frames of deliveries, cut at a size that every stub takes.

use bytes::Bytes;
use prost::Message;
use types::batch::Body;
use types::{Generation, Offset, ProducerEpoch, ProducerName, SequenceId, ShardId, WallTime};

use super::batches::wire_compressed;
use crate::raw::v1::{
    ConsumeResponse, Deliveries, Delivery, MessagePosition, ProducerStamp, consume_response,
    delivery,
};
use crate::time;
use crate::transport::FRAME_TARGET;

/// Fills frames with deliveries. A frame is full at [`FRAME_TARGET`] bytes, unless one delivery alone is larger.
#[derive(Debug, Default)]
pub struct DeliveriesBuilder {
    items: Vec<Delivery>,
    bytes: usize,
}

impl DeliveriesBuilder {
    /// Adds a delivery. Returns the frame before it when the delivery does not fit into that one any more.
    #[must_use = "the frame is to be sent"]
    pub fn push(&mut self, delivery: Delivery) -> Option<ConsumeResponse> {
        // The field's tag and length take at most six bytes.
        let bytes = delivery.encoded_len() + 6;
        let full = !self.items.is_empty() && self.bytes + bytes > FRAME_TARGET;
        let frame = if full { self.finish() } else { None };
        self.items.push(delivery);
        self.bytes += bytes;
        frame
    }

    /// The frame of what is left; none when there is nothing.
    #[must_use = "the frame is to be sent"]
    pub fn finish(&mut self) -> Option<ConsumeResponse> {
        if self.items.is_empty() {
            return None;
        }
        self.bytes = 0;
        let items = std::mem::take(&mut self.items);
        Some(ConsumeResponse {
            frame: Some(consume_response::Frame::Deliveries(Deliveries { items })),
        })
    }
}

/// A batch, or a part of one, for a consumer.
#[derive(Debug, Clone)]
pub struct DeliveryParts {
    /// The shard.
    pub shard: ShardId,
    /// The offset of the first message.
    pub first: Offset,
    /// The offset of each message; empty when they are dense from `first`.
    pub offsets: Vec<u64>,
    /// Where it is stored, opaque to clients.
    pub token: Bytes,
    /// The batch.
    pub batch: Body,
    /// How many messages it has.
    pub count: u32,
    /// When the server took it in.
    pub published: WallTime,
    /// 1 on the first delivery.
    pub attempt: u32,
    /// When the lease ends.
    pub lease_expires: Option<WallTime>,
    /// Who published it, and the number of the message at `first`.
    pub producer: Option<(ProducerName, ProducerEpoch, SequenceId)>,
    /// The cursor's generation.
    pub generation: Generation,
}

/// Makes a delivery.
pub fn delivery(parts: DeliveryParts) -> Delivery {
    let bytes = parts.batch.bytes;
    let body = match parts.batch.compression {
        None => delivery::Body::Batch(bytes),
        Some(compression) => {
            delivery::Body::Compressed(wire_compressed(bytes, compression, parts.count))
        }
    };
    Delivery {
        first: Some(MessagePosition {
            shard: parts.shard.to_string(),
            offset: parts.first.get(),
            token: parts.token,
        }),
        offsets: parts.offsets,
        publish_time: Some(time::to_wire(parts.published)),
        delivery_attempt: parts.attempt,
        lease_expire_time: parts.lease_expires.map(time::to_wire),
        producer: parts.producer.map(|(name, epoch, first)| ProducerStamp {
            producer_name: name.to_string(),
            epoch: epoch.get(),
            first_sequence_id: first.get(),
        }),
        generation: parts.generation.get(),
        body: Some(body),
    }
}
