//! Compression: by producers that want it, and opened by every consumer.

use bytes::{Bytes, BytesMut};
use ledgerline_client::{ByteSize, Codec, Message, Reason};
use pb::consume_request::Frame as Asked;
use pb::consume_response::Frame as Said;
use pb::publish_batch::Body;
use pb::publish_stream_request::Frame as Up;
use proto::raw::v1 as pb;
use types::batch::MessageParts;

use super::consuming::{self, SUBSCRIPTION, permits};
use super::fake::{Consuming, Publishing, World, in_time};
use super::publishing::{ready_with, receipt};

fn texts(count: u64) -> Vec<String> {
    let text = |number| format!("a coffee, and another coffee, for table {number}");
    (0..count).map(text).collect()
}

async fn batch(stream: &mut Publishing) -> pb::PublishBatch {
    match stream.next().await.unwrap().frame {
        Some(Up::Batch(batch)) => batch,
        other => panic!("no batch: {other:?}"),
    }
}

fn payloads(batch: &Bytes) -> Vec<Bytes> {
    let payload = |record: types::batch::Record| {
        let message: pb::Message = prost::Message::decode(batch.slice(record.message)).unwrap();
        message.payload
    };
    types::batch::records(batch).map(payload).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_compressed_as_the_user_says_and_its_checksum_is_of_what_is_sent() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    for codec in Codec::ALL {
        let opening = tokio::spawn(world.client.producer("t").compression(codec).create());
        let (_, mut stream) = ready_with(&mut server, None, 1_000).await;
        let producer = in_time(opening).await.unwrap().unwrap();
        let texts = texts(100);
        let messages = texts.iter().map(|text| Message::from(text.clone()));
        let stored = producer.send_all(messages).await.unwrap();
        let sent = batch(&mut stream).await;
        let Some(Body::Compressed(compressed)) = sent.body else {
            panic!("{codec}: {sent:?}");
        };
        assert_eq!(sent.crc32c, Some(types::crc32c(&compressed.data).get()));
        assert_eq!(compressed.message_count, 100);
        assert_eq!(compressed.codec, proto::hot::wire_codecs([codec])[0]);
        let body = proto::hot::Incoming::compressed(compressed).unwrap().body;
        let opened = compression::open(body.compression.unwrap(), &body.bytes).unwrap();
        assert_eq!(payloads(&opened), texts);
        stream.send(receipt(0, 100, 10)).await;
        assert_eq!(in_time(stored).await.unwrap().count, 100);

        producer.send("short").await.unwrap().ignore();
        let sent = batch(&mut stream).await;
        assert!(matches!(sent.body, Some(Body::Batch(_))), "it would grow");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_no_compressed_batches_gets_plain_ones_also_when_they_are_repeated() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let builder = world.client.producer("t").compression(Codec::Zstd);
    let opening = tokio::spawn(builder.create());
    let (_, mut stream) = ready_with(&mut server, None, 1_000).await;
    let producer = in_time(opening).await.unwrap().unwrap();
    let texts = texts(100);
    let messages = texts.iter().map(|text| Message::from(text.clone()));
    let stored = producer.send_all(messages).await.unwrap();
    let sent = batch(&mut stream).await;
    assert!(matches!(sent.body, Some(Body::Compressed(_))), "{sent:?}");
    drop(stream);

    let (_, mut stream) = ready_with(&mut server, None, 0).await;
    let again = batch(&mut stream).await;
    assert_eq!(again.first_sequence_id, 0);
    let Some(Body::Batch(plain)) = again.body else {
        panic!("{again:?}");
    };
    assert_eq!(payloads(&plain), texts);
    stream.send(receipt(0, 100, 10)).await;
    assert_eq!(in_time(stored).await.unwrap().count, 100);
}

/// A delivery of these messages as a producer with this codec sent them.
fn delivery(codec: Codec, first: u64, texts: &[String]) -> (pb::Delivery, pb::CompressedBatch) {
    let mut batch = BytesMut::new();
    for text in texts {
        let parts = MessageParts {
            payload: text.as_bytes(),
            ..MessageParts::default()
        };
        parts.append_to(&mut batch);
    }
    let body = compression::Compressor::new(codec).compress(batch.freeze(), 1_000);
    let compressed = pb::CompressedBatch {
        codec: proto::hot::wire_codecs([codec])[0],
        message_count: u32::try_from(texts.len()).unwrap(),
        uncompressed_bytes: body.compression.unwrap().uncompressed_bytes,
        data: body.bytes,
    };
    let delivery = pb::Delivery {
        first: Some(pb::MessagePosition {
            offset: first,
            ..pb::MessagePosition::default()
        }),
        delivery_attempt: 1,
        generation: 3,
        body: Some(pb::delivery::Body::Compressed(compressed.clone())),
        ..pb::Delivery::default()
    };
    (delivery, compressed)
}

async fn deliver(stream: &Consuming, delivery: pb::Delivery) {
    let items = vec![delivery];
    let frame = Said::Deliveries(pb::Deliveries { items });
    stream.send(consuming::say(frame)).await;
}

#[tokio::test(start_paused = true)]
async fn a_compressed_batch_is_opened_and_gives_the_credit_back_that_it_came_with() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let builder = world.client.consumer(SUBSCRIPTION);
    let opening = tokio::spawn(builder.credit(100, ByteSize::mib(1)).open());
    let (open, mut stream) = consuming::ready(&mut server).await;
    assert_eq!(open.codecs, proto::hot::wire_codecs(Codec::ALL));
    let mut consumer = in_time(opening).await.unwrap().unwrap();
    assert_eq!(permits(&mut stream).await, (100, 1 << 20));
    let texts = texts(100);
    for (first, codec) in (0..).step_by(100).zip(Codec::ALL) {
        let (delivery, compressed) = delivery(codec, first, &texts);
        deliver(&stream, delivery).await;
        for (offset, text) in (first..).zip(&texts) {
            let message = in_time(consumer.recv()).await.unwrap();
            assert_eq!(message.offset(), offset);
            assert_eq!(message.payload(), text.as_bytes());
        }
        assert!(consumer.try_recv().unwrap().is_none());
        let mut granted = (0, 0);
        while granted.0 < 100 {
            let (messages, bytes) = permits(&mut stream).await;
            granted = (granted.0 + messages, granted.1 + bytes);
        }
        let came = i64::try_from(compressed.data.len()).unwrap();
        assert_eq!(granted, (100, came), "{codec}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_does_not_open_ends_the_consumer_with_a_word_for_it() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let (_, good) = delivery(Codec::Zstd, 7, &texts(50));
    let cut_off = pb::CompressedBatch {
        data: good.data.slice(1..),
        ..good.clone()
    };
    let bomb = pb::CompressedBatch {
        uncompressed_bytes: u32::MAX,
        ..good.clone()
    };
    let unknown = pb::CompressedBatch { codec: 99, ..good };
    for batch in [cut_off, bomb, unknown] {
        let opening = tokio::spawn(world.client.consumer(SUBSCRIPTION).open());
        let (_, mut stream) = consuming::ready(&mut server).await;
        let mut consumer = in_time(opening).await.unwrap().unwrap();
        permits(&mut stream).await;
        let (whole, _) = delivery(Codec::Lz4, 0, &texts(7));
        deliver(&stream, whole.clone()).await;
        let bad = pb::Delivery {
            first: Some(pb::MessagePosition {
                offset: 7,
                ..pb::MessagePosition::default()
            }),
            body: Some(pb::delivery::Body::Compressed(batch)),
            ..whole
        };
        deliver(&stream, bad).await;
        for offset in 0..7 {
            assert_eq!(in_time(consumer.recv()).await.unwrap().offset(), offset);
        }
        for _ in 0..2 {
            let error = in_time(consumer.recv()).await.unwrap_err();
            assert_eq!(error.reason(), Reason::EntryLost);
            assert!(error.to_string().contains("offset 7"), "{error}");
        }
        let frame = stream.next().await.unwrap().frame;
        assert!(matches!(frame, Some(Asked::Close(_))), "{frame:?}");
        drop(stream);
        let closed = in_time(consumer.close()).await.unwrap_err();
        assert_eq!(closed.reason(), Reason::EntryLost);
    }
}
