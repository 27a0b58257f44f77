//! Producers.

use std::time::Duration;

use bytes::Bytes;
use ledgerline_client::{ByteSize, Message, Reason, Stored};
use pb::publish_stream_request::Frame as Up;
use pb::publish_stream_response::Frame as Down;
use proto::raw::v1 as pb;

use super::fake::{Fake, Publishing, World, in_time, refusal};

pub(super) fn say(frame: Down) -> pb::PublishStreamResponse {
    pb::PublishStreamResponse { frame: Some(frame) }
}

/// Takes a producer in.
pub(crate) async fn ready(server: &mut Fake, last: Option<u64>) -> (pb::OpenProducer, Publishing) {
    ready_with(server, last, 0).await
}

/// Takes a producer in, and says how far its batches may be compressed.
pub(super) async fn ready_with(
    server: &mut Fake,
    last: Option<u64>,
    compression_ratio_max: u32,
) -> (pb::OpenProducer, Publishing) {
    let mut stream = server.publishing().await;
    let Some(Up::Open(open)) = stream.next().await.unwrap().frame else {
        panic!("not opened")
    };
    let limits = pb::Limits {
        message_bytes_max: 1 << 20,
        compression_ratio_max,
        ..pb::Limits::default()
    };
    let ready = pb::ProducerReady {
        epoch: 1,
        limits: Some(limits),
        credits: Some(pb::Permits {
            messages: 1000,
            bytes: 1 << 20,
        }),
        last_sequence_id: last,
    };
    stream.send(say(Down::Ready(ready))).await;
    (open, stream)
}

/// The next batch: its first number and its messages.
pub(crate) async fn batch(stream: &mut Publishing) -> Option<(u64, Vec<Bytes>)> {
    let Some(Up::Batch(batch)) = stream.next().await?.frame else {
        panic!("no batch")
    };
    let Some(pb::publish_batch::Body::Batch(body)) = batch.body else {
        panic!("empty")
    };
    assert_eq!(batch.crc32c, Some(types::crc32c(&body).get()));
    let payload = |record: types::batch::Record| {
        let message: pb::Message = prost::Message::decode(body.slice(record.message)).unwrap();
        message.payload
    };
    Some((
        batch.first_sequence_id,
        types::batch::records(&body).map(payload).collect(),
    ))
}

pub(crate) fn receipt(first: u64, count: u32, offset: u64) -> pb::PublishStreamResponse {
    let first_position = pb::MessagePosition {
        offset,
        ..pb::MessagePosition::default()
    };
    let receipt = pb::Receipt {
        first_sequence_id: first,
        count,
        first: Some(first_position),
        ..pb::Receipt::default()
    };
    say(Down::Receipts(pb::Receipts {
        items: vec![receipt],
    }))
}

fn refused(first: u64, reason: Reason) -> pb::PublishStreamResponse {
    let receipt = pb::Receipt {
        first_sequence_id: first,
        status: refusal(reason),
        ..pb::Receipt::default()
    };
    say(Down::Receipts(pb::Receipts {
        items: vec![receipt],
    }))
}

#[tokio::test(start_paused = true)]
async fn what_waits_while_a_batch_is_in_flight_travels_together() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let opening = tokio::spawn(world.client.producer("t").create());
    let (open, mut stream) = ready(&mut server, None).await;
    assert!(open.understands_redirect && !open.resume && open.producer_name.starts_with("auto-"));
    let producer = in_time(opening).await.unwrap().unwrap();

    let first = producer.send("a").await.unwrap();
    assert_eq!(
        batch(&mut stream).await.unwrap(),
        (0, vec![Bytes::from("a")])
    );
    let second = producer.send("b").await.unwrap();
    let third = producer
        .send_all(["c", "d"].map(Message::from))
        .await
        .unwrap();
    stream.send(receipt(0, 1, 10)).await;
    let stored = Stored {
        first_offset: Some(10),
        count: 1,
        duplicate: false,
    };
    assert_eq!(in_time(first).await.unwrap(), stored);
    let together = vec![Bytes::from("b"), Bytes::from("c"), Bytes::from("d")];
    assert_eq!(batch(&mut stream).await.unwrap(), (1, together));
    stream.send(receipt(1, 3, 20)).await;
    assert_eq!(in_time(second).await.unwrap().first_offset, Some(20));
    let stored = Stored {
        first_offset: Some(21),
        count: 2,
        duplicate: false,
    };
    assert_eq!(in_time(third).await.unwrap(), stored);
    in_time(producer.close()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_producer_with_a_name_tells_how_many_of_its_messages_are_stored_and_goes_on_after_them() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    for (last, stored) in [(None, 0), (Some(6), 7)] {
        let opening = tokio::spawn(world.client.producer("t").name("orders-1").create());
        let (open, mut stream) = ready(&mut server, last).await;
        assert_eq!(open.producer_name, "orders-1");
        let producer = in_time(opening).await.unwrap().unwrap();
        assert_eq!(producer.stored_before(), stored);
        producer.send_and_forget("x").await.unwrap();
        assert_eq!(batch(&mut stream).await.unwrap().0, stored);
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_followed_and_the_same_batch_goes_out_again() {
    let world = World::new("pipe:a");
    let (mut a, mut b) = (world.server("pipe:a").await, world.server("pipe:b").await);
    let opening = tokio::spawn(world.client.producer("t").create());
    let (_, mut stream) = ready(&mut a, None).await;
    let producer = in_time(opening).await.unwrap().unwrap();
    let sent = producer.send("x").await.unwrap();
    let before = batch(&mut stream).await;

    let redirect = pb::Redirect {
        endpoint: "pipe:b".to_owned(),
        epoch: 2,
    };
    stream.send(say(Down::Redirect(redirect))).await;
    let (open, mut stream) = ready(&mut b, None).await;
    assert!(open.resume, "batches may be in flight from before");
    assert_eq!(open.producer_name, producer.name().as_str());
    assert_eq!(batch(&mut stream).await, before);
    stream.send(receipt(0, 1, 0)).await;
    in_time(sent).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_address_is_asked_when_one_is_dead() {
    let world = World::new("pipe:dead,pipe:b");
    let mut server = world.server("pipe:b").await;
    let opening = tokio::spawn(world.client.producer("t").create());
    ready(&mut server, None).await;
    in_time(opening).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_heard_of_in_a_redirect_is_asked_when_the_named_ones_are_gone() {
    let world = World::new("pipe:a");
    let (mut a, mut b) = (world.server("pipe:a").await, world.server("pipe:b").await);
    let opening = tokio::spawn(world.client.producer("t").create());
    let stream = a.publishing().await;
    let redirect = pb::Redirect {
        endpoint: "pipe:b".to_owned(),
        epoch: 2,
    };
    stream.send(say(Down::Redirect(redirect))).await;
    let (_, stream) = ready(&mut b, None).await;
    let _producer = in_time(opening).await.unwrap().unwrap();
    in_time(a.host.tasks.stop(super::fake::PATIENCE))
        .await
        .unwrap();
    drop(a);
    drop(stream);
    ready(&mut b, None).await;
}

#[tokio::test(start_paused = true)]
async fn a_fenced_producer_is_over_and_says_so_from_then_on() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let opening = tokio::spawn(world.client.producer("t").name("mine").create());
    let (_, mut stream) = ready(&mut server, None).await;
    let producer = in_time(opening).await.unwrap().unwrap();
    let sent = producer.send("x").await.unwrap();
    batch(&mut stream).await;
    stream.end(Reason::ProducerFenced).await;
    let error = in_time(sent).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    let later = in_time(producer.send("y")).await.unwrap_err();
    assert_eq!(later.reason(), Reason::ProducerFenced);
    assert_eq!(
        in_time(producer.close()).await.unwrap_err().reason(),
        Reason::ProducerFenced
    );
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_server_gets_the_same_again_in_order() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let producer = world.client.producer("t").batch_bytes(ByteSize::new(1));
    let opening = tokio::spawn(producer.create());
    let (_, mut stream) = ready(&mut server, None).await;
    let producer = in_time(opening).await.unwrap().unwrap();
    let sent = [
        producer.send("a").await.unwrap(),
        producer.send("b").await.unwrap(),
    ];
    let before = [batch(&mut stream).await, batch(&mut stream).await];
    stream.send(refused(0, Reason::Overloaded)).await;
    stream.send(refused(1, Reason::SequenceOutOfOrder)).await;
    assert_eq!([batch(&mut stream).await, batch(&mut stream).await], before);
    stream.send(receipt(0, 1, 0)).await;
    stream.send(receipt(1, 1, 1)).await;
    for receipt in sent {
        in_time(receipt).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn opening_ends_with_the_patience_though_the_server_is_silent() {
    let world = World::new("pipe:a");
    let _silent = world.server("pipe:a").await;
    let patience = Duration::from_secs(2);
    let begun = tokio::time::Instant::now();
    let error = world.client.producer("t").timeout(patience).create().await;
    assert_eq!(error.unwrap_err().reason(), Reason::Unreachable);
    let name = "t/subscriptions/s";
    let error = world.client.consumer(name).timeout(patience).open().await;
    assert_eq!(error.unwrap_err().reason(), Reason::Unreachable);
    let took = begun.elapsed();
    assert!(patience * 2 <= took && took < patience * 3, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_sending_waits_for_room() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let producer = world.client.producer("t").memory(ByteSize::kib(64));
    let opening = tokio::spawn(producer.create());
    let (_, mut stream) = ready(&mut server, None).await;
    let producer = in_time(opening).await.unwrap().unwrap();
    let large = vec![7; 40 << 10];
    let first = producer.send(large.clone()).await.unwrap();
    let error = producer.try_send(large.clone()).unwrap_err();
    assert_eq!(error.reason(), Reason::Overloaded);
    let mut second = Box::pin(producer.send(large.clone()));
    assert!(futures::poll!(&mut second).is_pending());
    batch(&mut stream).await;
    stream.send(receipt(0, 1, 0)).await;
    in_time(first).await.unwrap();
    in_time(second).await.unwrap().ignore();

    let error = producer.send(vec![0; 1 << 20]).await.unwrap_err();
    assert_eq!(
        error.reason(),
        Reason::MessageTooLarge,
        "above the server's limit"
    );
}

#[tokio::test(start_paused = true)]
async fn dropped_receipts_are_counted_and_ignored_ones_are_not() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let opening = tokio::spawn(world.client.producer("t").create());
    let (_, mut stream) = ready(&mut server, None).await;
    let producer = in_time(opening).await.unwrap().unwrap();
    drop(producer.send("a").await.unwrap());
    producer.send("b").await.unwrap().ignore();
    producer.send_and_forget("c").await.unwrap();
    assert_eq!(producer.receipts_ignored(), 1);
    let flushed = tokio::spawn({
        let producer = producer.clone();
        async move { producer.flush().await }
    });
    let mut next = 0;
    while next < 3 {
        let (first, messages) = batch(&mut stream).await.unwrap();
        let count = u32::try_from(messages.len()).unwrap();
        stream.send(receipt(first, count, first)).await;
        next = first + u64::from(count);
    }
    in_time(flushed).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_not_there_is_told_at_once() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let opening = tokio::spawn(world.client.producer("t").create());
    server.publishing().await.end(Reason::TopicNotFound).await;
    let error = in_time(opening).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::TopicNotFound);
    let error = world
        .client
        .producer("no/such/name")
        .create()
        .await
        .unwrap_err();
    assert_eq!(error.problem().field.as_deref(), Some("topic"));
}

/// What a server has of a producer.
#[derive(Default)]
struct Log {
    messages: Vec<Bytes>,
}

/// Serves streams of one producer as a real server does, but loses receipts, breaks streams and refuses batches as the
/// dice fall. Ends once `wanted` messages are stored and told.
async fn unreliable(mut server: Fake, dice: host::Rng, wanted: usize) -> Log {
    let mut log = Log::default();
    let mut is_told = false;
    while !is_told {
        let last = (log.messages.len() as u64).checked_sub(1);
        let (_, mut stream) = ready(&mut server, last).await;
        while let Some((first, messages)) = batch(&mut stream).await {
            let next = log.messages.len() as u64;
            let count = u32::try_from(messages.len()).unwrap();
            if first > next {
                stream
                    .send(refused(first, Reason::SequenceOutOfOrder))
                    .await;
                continue;
            }
            match dice.below(10) {
                0 => break, // Before it is stored.
                1 if first == next => {
                    stream.send(refused(first, Reason::Overloaded)).await;
                    continue;
                }
                dice => {
                    assert!(
                        first == next || first + u64::from(count) <= next,
                        "half a repeat"
                    );
                    if first == next {
                        log.messages.extend(messages);
                    }
                    if dice < 5 {
                        break; // Stored, and nobody hears of it.
                    }
                    stream.send(receipt(first, count, first)).await;
                    is_told = log.messages.len() == wanted;
                }
            }
        }
    }
    log
}

#[tokio::test(start_paused = true)]
async fn over_lost_receipts_breaks_and_refusals_each_message_is_stored_once_and_in_order() {
    const MESSAGES: usize = 400;
    for seed in 0..20 {
        let world = World::new("pipe:a");
        let server = world.server("pipe:a").await;
        let log = tokio::spawn(unreliable(server, host::Rng::seeded(seed), MESSAGES));
        let producer = world
            .client
            .producer("t")
            .batch_bytes(ByteSize::new(40))
            .in_flight(4);
        let producer = in_time(producer.create()).await.unwrap();
        let mut receipts = Vec::new();
        let payloads: Vec<_> = (0..MESSAGES).map(|n| Bytes::from(n.to_string())).collect();
        for (n, payload) in payloads.iter().enumerate() {
            receipts.push(in_time(producer.send(payload.clone())).await.unwrap());
            if n % 7 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for (n, receipt) in receipts.into_iter().enumerate() {
            let stored = tokio::time::timeout(Duration::from_secs(3600), receipt);
            assert_eq!(
                stored.await.unwrap().unwrap().first_offset,
                Some(n as u64),
                "seed {seed}"
            );
        }
        drop(producer);
        let log = in_time(log).await.unwrap();
        assert!(log.messages == payloads, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_gives_no_receipt_is_given_up_in_time() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let patience = Duration::from_secs(3);
    let builder = world.client.producer("t").in_flight(1).timeout(patience);
    let opening = tokio::spawn(builder.create());
    let (_, mut stream) = ready(&mut server, None).await;
    let producer = in_time(opening).await.unwrap().unwrap();
    // Time without work is no silence.
    tokio::time::sleep(patience * 2).await;
    let sent = producer.send("a").await.unwrap();
    batch(&mut stream).await.unwrap();
    let waits = producer.send("b").await.unwrap();
    let refusal = in_time(sent).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::OutcomeUnknown);
    // What was never sent is known not to be stored.
    let refusal = in_time(waits).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::Unreachable);
    assert!(producer.send("c").await.is_err());
}
