//! Compressed batches: they come out as they went in, or opened for whoever needs that.

use bytes::Bytes;
use compression::Compressor;
use proto::raw::v1 as pb;
use proto::raw::v1::publish_stream_request::Frame as Up;
use proto::raw::v1::publisher_client::PublisherClient;
use proto::v1::consume_request::Frame;
use tonic::Code;
use tonic::transport::Channel;
use types::Reason;
use types::batch::Codec;

use crate::support::{
    BATCH_MAX, Cluster, Consuming, Delivered, MESSAGE_MAX, Publishing, Received, batch, body,
    crc_of, offsets, open_consumer, open_producer, refusal, refused, until,
};

const EXCLUSIVE: pb::SubscriptionMode = pb::SubscriptionMode::Exclusive;
const NAME: &str = "orders/subscriptions/s";
const COUNT: u32 = 30;

/// The payload of the message at an offset.
fn text(offset: u64) -> String {
    format!("a coffee, and another coffee, for table {offset}")
}

/// A plain batch whose messages have offsets from `first` on.
fn lines(first: u64) -> Bytes {
    batch((first..first + u64::from(COUNT)).map(text))
}

/// The same bytes as a client with this codec sends them.
fn squeezed(codec: Codec, plain: &Bytes, message_count: u32) -> pb::CompressedBatch {
    let body = Compressor::new(codec).compress(plain.clone(), 1_000);
    let compression = body.compression.expect("it shrinks");
    pb::CompressedBatch {
        codec: proto::hot::wire_codecs([codec])[0],
        message_count,
        uncompressed_bytes: compression.uncompressed_bytes,
        data: body.bytes,
    }
}

/// A batch of each codec, one after the other.
fn each() -> Vec<pb::CompressedBatch> {
    let codecs = (0..).step_by(COUNT as usize).zip(Codec::ALL);
    codecs
        .map(|(first, codec)| squeezed(codec, &lines(first), COUNT))
        .collect()
}

async fn producer(channel: Channel) -> Publishing {
    let opened = Publishing::open(channel, open_producer("orders", "p")).await;
    opened.unwrap().0
}

async fn send(stream: &Publishing, first: u64, batch: pb::CompressedBatch) {
    let batch = pb::PublishBatch {
        first_sequence_id: first,
        crc32c: Some(crc_of(&batch.data)),
        body: Some(pb::publish_batch::Body::Compressed(batch)),
    };
    stream.frame(Some(Up::Batch(batch))).await;
}

/// Publishes a batch of each codec over a stream.
async fn publish(channel: Channel) -> Vec<pb::CompressedBatch> {
    let mut stream = producer(channel).await;
    let batches = each();
    for (first, batch) in (0..).step_by(COUNT as usize).zip(&batches) {
        send(&stream, first, batch.clone()).await;
        let receipt = stream.receipt().await;
        assert_eq!((receipt.status, receipt.count), (None, COUNT));
        assert_eq!(receipt.first.unwrap().offset, first);
    }
    batches
}

/// A consumer that opens batches of these codecs.
async fn consumer(channel: Channel, codecs: &[Codec]) -> Consuming {
    let open = pb::OpenConsumer {
        codecs: proto::hot::wire_codecs(codecs.iter().copied()),
        ..open_consumer(NAME, EXCLUSIVE)
    };
    Consuming::open(channel, open).await.unwrap().0
}

/// The next deliveries, until they hold so many messages.
async fn deliveries(consumer: &mut Consuming, count: usize) -> Vec<pb::Delivery> {
    let mut all: Vec<pb::Delivery> = Vec::new();
    let messages = |all: &[pb::Delivery]| -> usize { all.iter().map(|one| read(one).len()).sum() };
    while messages(&all) < count {
        match consumer.next().await.unwrap() {
            Delivered::Deliveries(frame) => all.extend(frame.items),
            other => panic!("not messages: {other:?}"),
        }
    }
    all
}

fn read(delivery: &pb::Delivery) -> Vec<Received> {
    crate::support::delivered(delivery)
}

fn compressed(delivery: &pb::Delivery) -> Option<&pb::CompressedBatch> {
    match delivery.body.as_ref().unwrap() {
        pb::delivery::Body::Compressed(batch) => Some(batch),
        pb::delivery::Body::Batch(_) => None,
    }
}

fn are_all(messages: &[Received], count: u64) {
    assert_eq!(offsets(messages), Vec::from_iter(0..count));
    for message in messages {
        assert_eq!(message.payload, text(message.offset));
    }
}

#[tokio::test(start_paused = true)]
async fn a_compressed_batch_is_delivered_as_it_was_sent() {
    let cluster = Cluster::small().await;
    let sent = publish(cluster.client(0)).await;
    let mut consumer = consumer(cluster.client(0), &Codec::ALL).await;
    let delivered = deliveries(&mut consumer, 90).await;
    let batches: Vec<_> = delivered.iter().filter_map(compressed).cloned().collect();
    assert_eq!(batches, sent);
    are_all(&delivered.iter().flat_map(read).collect::<Vec<_>>(), 90);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_that_it_opens_a_codec_gets_plain_batches() {
    let cluster = Cluster::small().await;
    publish(cluster.client(0)).await;
    let mut consumer = consumer(cluster.client(0), &[Codec::Snappy]).await;
    let delivered = deliveries(&mut consumer, 90).await;
    let is_compressed: Vec<bool> = delivered
        .iter()
        .map(|one| compressed(one).is_some())
        .collect();
    assert_eq!(is_compressed, [false, false, true], "zstd, lz4, snappy");
    are_all(&delivered.iter().flat_map(read).collect::<Vec<_>>(), 90);
}

#[tokio::test(start_paused = true)]
async fn single_permits_get_single_messages() {
    let cluster = Cluster::small().await;
    publish(cluster.client(0)).await;
    let open = pb::OpenConsumer {
        codecs: proto::hot::wire_codecs(Codec::ALL),
        initial_permits: None,
        ..open_consumer(NAME, EXCLUSIVE)
    };
    let (mut consumer, _) = Consuming::open(cluster.client(0), open).await.unwrap();
    let mut all = Vec::new();
    for _ in 0..90 {
        let one = pb::Permits {
            messages: 1,
            bytes: 1_000,
        };
        consumer.frame(Frame::Permits(one)).await;
        all.extend(consumer.messages(1).await.unwrap());
    }
    are_all(&all, 90);
}

#[tokio::test(start_paused = true)]
async fn messages_given_back_come_again_one_by_one() {
    let cluster = Cluster::small().await;
    publish(cluster.client(0)).await;
    let open = pb::OpenConsumer {
        codecs: proto::hot::wire_codecs(Codec::ALL),
        ..open_consumer(NAME, EXCLUSIVE)
    };
    let (mut consumer, ready) = Consuming::open(cluster.client(0), open).await.unwrap();
    consumer.messages(90).await.unwrap();
    let back = [(7, 8), (29, 31), (89, 90)];
    let nack = pb::Nack {
        ranges: back
            .map(|(start, end)| pb::OffsetRange { start, end })
            .to_vec(),
        generation: ready.generation,
        ..pb::Nack::default()
    };
    consumer.frame(Frame::Nack(nack)).await;
    let again = consumer.messages(4).await.unwrap();
    assert_eq!(offsets(&again), [7, 29, 30, 89]);
    for message in again {
        assert_eq!(
            (message.payload, message.attempt),
            (text(message.offset).into(), 2)
        );
    }
}

/// Compressed batches that are refused, with the reason and the field.
fn bad() -> Vec<(pb::CompressedBatch, Reason, &'static str)> {
    let plain = lines(0);
    let good = squeezed(Codec::Zstd, &plain, COUNT);
    let cut_off = good.data.slice(..good.data.len() - 1);
    let malformed = Bytes::from([&b"\x0a\x03\x12\x01\xff"[..]; 40].concat());
    let gigabytes = pb::CompressedBatch {
        uncompressed_bytes: u32::MAX,
        ..good.clone()
    };
    let with = |change: fn(&mut pb::CompressedBatch)| {
        let mut batch = good.clone();
        change(&mut batch);
        batch
    };
    let one_message = |len: usize| squeezed(Codec::Lz4, &batch([vec![7; len]]), 1);
    let many = batch(std::iter::repeat_n(vec![7; MESSAGE_MAX / 2], 9));
    let (batch, large) = (Reason::MalformedBatch, Reason::MessageTooLarge);
    let damaged = pb::CompressedBatch {
        data: cut_off,
        ..good.clone()
    };
    vec![
        (with(|batch| batch.codec = 0), Reason::BadField, "codec"),
        (with(|batch| batch.codec = 9), Reason::BadField, "codec"),
        (
            with(|batch| batch.message_count -= 1),
            batch,
            "message_count",
        ),
        (
            with(|batch| batch.message_count += 1),
            batch,
            "message_count",
        ),
        (with(|batch| batch.uncompressed_bytes -= 1), batch, "data"),
        (
            with(|batch| batch.uncompressed_bytes += 1),
            batch,
            "uncompressed_bytes",
        ),
        (with(|batch| batch.codec = 2), batch, "data"),
        (damaged, batch, "data"),
        (gigabytes, large, "uncompressed_bytes"),
        (
            squeezed(Codec::Snappy, &malformed, 40),
            batch,
            "messages[0]",
        ),
        (one_message(MESSAGE_MAX), large, "messages[0]"),
        (squeezed(Codec::Zstd, &many, 9), large, "uncompressed_bytes"),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_not_what_it_claims_is_refused_and_the_stream_goes_on() {
    const { assert!(BATCH_MAX < 9 * MESSAGE_MAX / 2) };
    let cluster = Cluster::small().await;
    let mut stream = producer(cluster.client(0)).await;
    for (batch, reason, field) in bad() {
        send(&stream, 0, batch).await;
        let receipt = stream.receipt().await;
        assert_eq!((receipt.first_sequence_id, &receipt.first), (0, &None));
        let field = format!("batch.compressed.{field}");
        refusal(
            receipt.status.as_ref(),
            Code::InvalidArgument,
            reason,
            &field,
        );
    }
    let good = squeezed(Codec::Zstd, &lines(0), COUNT);
    let damaged = pb::PublishBatch {
        first_sequence_id: 0,
        crc32c: Some(17),
        body: Some(pb::publish_batch::Body::Compressed(good.clone())),
    };
    stream.frame(Some(Up::Batch(damaged))).await;
    let status = stream.receipt().await.status;
    let (code, reason) = (Code::DataLoss, Reason::PayloadCorrupt);
    refusal(status.as_ref(), code, reason, "batch.crc32c");
    send(&stream, 0, good).await;
    assert_eq!(stream.receipt().await.first.unwrap().offset, 0);
}

#[tokio::test(start_paused = true)]
async fn unary_publishing_takes_compressed_batches_and_refuses_bad_ones_at_any_node() {
    let cluster = Cluster::full().await;
    for node in 0..2 {
        let mut client = PublisherClient::new(cluster.client(node));
        let request = |batch| pb::PublishRequest {
            body: Some(pb::publish_request::Body::Compressed(batch)),
            ..body("orders", Bytes::new())
        };
        for (batch, reason, field) in bad() {
            let answer = client.publish(request(batch)).await;
            let field = format!("compressed.{field}");
            refused(answer, Code::InvalidArgument, reason, &field);
        }
        let first = node as u64 * u64::from(COUNT);
        let good = squeezed(Codec::Lz4, &lines(first), COUNT);
        let answer = client.publish(request(good)).await.unwrap().into_inner();
        assert_eq!(answer.receipts[0].count, COUNT);
        assert_eq!(answer.receipts[0].first.as_ref().unwrap().offset, first);
    }
    let mut consumer = consumer(cluster.client(0), &[]).await;
    are_all(&consumer.messages(60).await.unwrap(), 60);
}

#[tokio::test(start_paused = true)]
async fn the_next_owner_reads_compressed_batches_and_so_does_who_asks_another_node() {
    let mut cluster = Cluster::full().await;
    let sent = publish(cluster.client(0)).await;
    let mut through = consumer(cluster.client(1), &Codec::ALL).await;
    let delivered = deliveries(&mut through, 90).await;
    let batches: Vec<_> = delivered.iter().filter_map(compressed).cloned().collect();
    assert_eq!(batches, sent, "a forwarding node passes on what was asked");
    drop(through);

    cluster.kill_serving(0).await;
    let open = || open_consumer(NAME, EXCLUSIVE);
    let (mut consumer, _) = until(|| Consuming::open(cluster.client(1), open())).await;
    are_all(&consumer.messages(90).await.unwrap(), 90);
    let again = Publishing::open(cluster.client(1), open_producer("orders", "p")).await;
    let (mut stream, ready) = again.unwrap();
    assert_eq!(
        ready.last_sequence_id,
        Some(89),
        "counts are read from headers"
    );
    send(&stream, 90, squeezed(Codec::Zstd, &lines(90), COUNT)).await;
    assert_eq!(stream.receipt().await.first.unwrap().offset, 90);
}
