//! Streams as a client sees them.

use bytes::Bytes;
use proto::raw::v1 as pb;
use proto::v1 as plain;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::wire::{ack, bytes_of, in_time};

/// A stream: frames up and frames down.
#[derive(Debug)]
pub(crate) struct Duplex<Up, Down> {
    up: Option<mpsc::Sender<Up>>,
    down: Streaming<Down>,
}

pub(crate) type Publishing = Duplex<pb::PublishStreamRequest, pb::PublishStreamResponse>;
pub(crate) type Consuming = Duplex<pb::ConsumeRequest, pb::ConsumeResponse>;

impl<Up, Down> Duplex<Up, Down> {
    /// Sends nothing more; the server may still.
    pub(crate) fn half_close(&mut self) {
        self.up = None;
    }

    async fn push(&self, frame: Up) {
        let up = self.up.as_ref().expect("it is not half-closed");
        // A server that has ended the stream says so on the other side.
        let _ = in_time(up.send(frame)).await;
    }

    async fn pull(&mut self) -> Result<Option<Down>, Status> {
        in_time(self.down.message()).await
    }

    /// The status the stream ends with.
    pub(crate) async fn end(&mut self) -> Result<(), Status>
    where
        Down: std::fmt::Debug,
    {
        match self.pull().await {
            Ok(Some(frame)) => panic!("another frame came: {frame:?}"),
            Ok(None) => Ok(()),
            Err(status) => Err(status),
        }
    }
}

/// Opens a publish stream and sends its first frame.
pub(crate) async fn publishing(
    channel: Channel,
    first: Option<pb::publish_stream_request::Frame>,
) -> Result<Publishing, Status> {
    let (up, frames) = mpsc::channel(16);
    let _ = up.send(pb::PublishStreamRequest { frame: first }).await;
    let mut client = pb::publisher_client::PublisherClient::new(channel)
        .max_encoding_message_size(64 << 20)
        .max_decoding_message_size(64 << 20);
    let answer = client.publish_stream(ReceiverStream::new(frames));
    let down = in_time(answer).await?.into_inner();
    Ok(Publishing { up: Some(up), down })
}

/// The frame that opens a producer.
pub(crate) fn open_producer(topic: &str, name: &str) -> plain::OpenProducer {
    plain::OpenProducer {
        topic: topic.to_owned(),
        producer_name: name.to_owned(),
        ..plain::OpenProducer::default()
    }
}

impl Publishing {
    /// Opens a producer.
    pub(crate) async fn open(
        channel: Channel,
        open: plain::OpenProducer,
    ) -> Result<(Self, plain::ProducerReady), Status> {
        let first = pb::publish_stream_request::Frame::Open(open);
        let mut stream = publishing(channel, Some(first)).await?;
        match stream.next().await? {
            pb::publish_stream_response::Frame::Ready(ready) => Ok((stream, ready)),
            other => panic!("it is not ready: {other:?}"),
        }
    }

    /// Sends any frame.
    pub(crate) async fn frame(&self, frame: Option<pb::publish_stream_request::Frame>) {
        self.push(pb::PublishStreamRequest { frame }).await;
    }

    /// Sends a batch under a number.
    pub(crate) async fn send(&self, first: u64, batch: Bytes) {
        self.send_with(first, Some(batch), None).await;
    }

    /// Sends a batch with a checksum, or none at all.
    pub(crate) async fn send_with(&self, first: u64, batch: Option<Bytes>, crc32c: Option<u32>) {
        let batch = pb::PublishBatch {
            first_sequence_id: first,
            crc32c,
            body: batch.map(pb::publish_batch::Body::Batch),
        };
        self.frame(Some(pb::publish_stream_request::Frame::Batch(batch)))
            .await;
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Result<pb::publish_stream_response::Frame, Status> {
        let frame = self.pull().await?;
        let frame = frame.ok_or_else(|| Status::cancelled("the stream ended"))?;
        Ok(frame.frame.expect("no frame is empty"))
    }

    /// The next receipts, as many as are asked for.
    pub(crate) async fn receipts(&mut self, count: usize) -> Result<Vec<plain::Receipt>, Status> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.next().await? {
                pb::publish_stream_response::Frame::Receipts(receipts) => {
                    all.extend(receipts.items);
                }
                other => panic!("not receipts: {other:?}"),
            }
        }
        Ok(all)
    }

    /// The next receipt alone.
    pub(crate) async fn receipt(&mut self) -> plain::Receipt {
        let mut all = self.receipts(1).await.expect("the stream lives");
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
}

/// Opens a consume stream and sends its first frame.
pub(crate) async fn consuming(
    channel: Channel,
    first: Option<plain::consume_request::Frame>,
) -> Result<Consuming, Status> {
    let (up, frames) = mpsc::channel(16);
    let _ = up.send(plain::ConsumeRequest { frame: first }).await;
    let mut client = pb::subscriber_client::SubscriberClient::new(channel)
        .max_encoding_message_size(64 << 20)
        .max_decoding_message_size(64 << 20);
    let answer = client.consume(ReceiverStream::new(frames));
    let down = in_time(answer).await?.into_inner();
    Ok(Consuming { up: Some(up), down })
}

/// The frame that opens a consumer, with room for many messages; the subscription is made when it is missing.
pub(crate) fn open_consumer(
    subscription: &str,
    mode: plain::SubscriptionMode,
) -> plain::OpenConsumer {
    plain::OpenConsumer {
        subscription: subscription.to_owned(),
        mode: mode.into(),
        confirm_acks: true,
        initial_permits: Some(plain::Permits {
            messages: 10_000,
            bytes: 64 << 20,
        }),
        create_if_missing: true,
        ..plain::OpenConsumer::default()
    }
}

/// One message as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) offset: u64,
    pub(crate) payload: Bytes,
    pub(crate) attempt: u32,
}

/// The messages of a delivery.
pub(crate) fn delivered(delivery: &pb::Delivery) -> Vec<Received> {
    let payloads = match delivery.body.clone() {
        Some(pb::delivery::Body::Batch(batch)) => bytes_of(&batch),
        Some(pb::delivery::Body::Compressed(batch)) => {
            let count = batch.message_count;
            let body = proto::hot::Incoming::compressed(batch).unwrap().body;
            let compression = body.compression.expect("it is compressed");
            let payloads = bytes_of(&compression::open(compression, &body.bytes).unwrap());
            assert_eq!(payloads.len(), count as usize, "the count is true");
            payloads
        }
        None => panic!("a delivery has a batch"),
    };
    let first = delivery.first.as_ref().expect("a delivery has a place");
    let offsets: Vec<u64> = if delivery.offsets.is_empty() {
        (first.offset..).take(payloads.len()).collect()
    } else {
        delivery.offsets.clone()
    };
    assert_eq!(offsets.len(), payloads.len(), "each message has an offset");
    let received = |(offset, payload)| Received {
        offset,
        payload,
        attempt: delivery.delivery_attempt,
    };
    offsets.into_iter().zip(payloads).map(received).collect()
}

/// Their offsets.
pub(crate) fn offsets(messages: &[Received]) -> Vec<u64> {
    messages.iter().map(|message| message.offset).collect()
}

/// What a consumer was told, heartbeats aside.
pub(crate) type Delivered = pb::consume_response::Frame;

impl Consuming {
    /// Opens a consumer.
    pub(crate) async fn open(
        channel: Channel,
        open: plain::OpenConsumer,
    ) -> Result<(Self, plain::ConsumerReady), Status> {
        let first = plain::consume_request::Frame::Open(open);
        let mut stream = consuming(channel, Some(first)).await?;
        match stream.next().await? {
            Delivered::Ready(ready) => Ok((stream, ready)),
            other => panic!("it is not ready: {other:?}"),
        }
    }

    /// Sends any frame.
    pub(crate) async fn frame(&self, frame: impl Into<Option<plain::consume_request::Frame>>) {
        let frame = frame.into();
        self.push(plain::ConsumeRequest { frame }).await;
    }

    /// The next frame that is no heartbeat.
    pub(crate) async fn next(&mut self) -> Result<Delivered, Status> {
        in_time(async {
            loop {
                let frame = self.down.message().await?;
                let frame = frame.ok_or_else(|| Status::cancelled("the stream ended"))?;
                match frame.frame.expect("no frame is empty") {
                    Delivered::Heartbeat(_) => {}
                    frame => return Ok(frame),
                }
            }
        })
        .await
    }

    /// The next messages, as many as are asked for.
    pub(crate) async fn messages(&mut self, count: usize) -> Result<Vec<Received>, Status> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.next().await? {
                Delivered::Deliveries(frame) => {
                    all.extend(frame.items.iter().flat_map(delivered));
                }
                other => panic!("not messages: {other:?}"),
            }
        }
        assert_eq!(all.len(), count, "{all:?}");
        Ok(all)
    }

    /// The next answer to an ack, a nack or an extension.
    pub(crate) async fn result(&mut self) -> plain::AckResult {
        match self.next().await.expect("the stream lives") {
            Delivered::AckResults(mut results) => {
                assert_eq!(results.items.len(), 1, "{results:?}");
                results.items.remove(0)
            }
            other => panic!("not an answer: {other:?}"),
        }
    }

    /// Acks and waits until it is confirmed.
    pub(crate) async fn ack(&mut self, request: u64, start: u64, end: u64, generation: u32) {
        let set = ack(request, start, end, generation);
        self.frame(plain::consume_request::Frame::Ack(set)).await;
        let result = self.result().await;
        assert!(result.confirmed && result.problems.is_empty(), "{result:?}");
    }

    /// The error of a frame that could not be used.
    pub(crate) async fn error(&mut self) -> plain::StreamError {
        match self.next().await.expect("the stream lives") {
            Delivered::Error(error) => error,
            other => panic!("not an error: {other:?}"),
        }
    }

    /// Asserts that nothing comes for a while.
    pub(crate) async fn is_quiet(&mut self) {
        let quiet = std::time::Duration::from_secs(3);
        if let Ok(frame) = tokio::time::timeout(quiet, self.next()).await {
            panic!("something came: {frame:?}");
        }
    }
}

impl Consuming {
    /// The next heartbeat.
    pub(crate) async fn heartbeat(&mut self) -> plain::Heartbeat {
        let frame = self.pull().await.expect("the stream lives");
        match frame.and_then(|frame| frame.frame) {
            Some(Delivered::Heartbeat(heartbeat)) => heartbeat,
            other => panic!("not a heartbeat: {other:?}"),
        }
    }
}
