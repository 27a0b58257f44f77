//! Consumers.

use std::time::Duration;

use futures::StreamExt;
use ledgerline_client::{ByteSize, Message, Reason, SubscriptionMode};
use pb::consume_request::Frame as Up;
use pb::consume_response::Frame as Down;
use proto::raw::v1 as pb;

use super::fake::{Consuming, Fake, World, in_time, refusal};

pub(super) const SUBSCRIPTION: &str = "t/subscriptions/s";

pub(super) fn say(frame: Down) -> pb::ConsumeResponse {
    pb::ConsumeResponse { frame: Some(frame) }
}

/// Takes a consumer in.
pub(super) async fn ready(server: &mut Fake) -> (pb::OpenConsumer, Consuming) {
    let mut stream = server.consuming().await;
    let Some(Up::Open(open)) = stream.next().await.unwrap().frame else {
        panic!("not opened")
    };
    let ready = pb::ConsumerReady {
        mode: pb::SubscriptionMode::Shared.into(),
        ack_deadline: Some(proto::time::duration_to_wire(Duration::from_secs(30))),
        generation: 3,
        ..pb::ConsumerReady::default()
    };
    stream.send(say(Down::Ready(ready))).await;
    (open, stream)
}

/// The next frame that is no grant, and what was granted before it.
async fn request(stream: &mut Consuming, granted: &mut (i64, i64)) -> Option<Up> {
    loop {
        match stream.next().await?.frame.unwrap() {
            Up::Permits(permits) => {
                granted.0 += permits.messages;
                granted.1 += permits.bytes;
            }
            other => return Some(other),
        }
    }
}

pub(super) async fn permits(stream: &mut Consuming) -> (i64, i64) {
    let Some(Up::Permits(permits)) = stream.next().await.unwrap().frame else {
        panic!("no grant")
    };
    (permits.messages, permits.bytes)
}

/// One delivery of messages from an offset on. Returns the bytes it takes of the grant.
async fn deliver(stream: &Consuming, first: u64, payloads: &[&str]) -> i64 {
    let mut batch = bytes::BytesMut::new();
    for payload in payloads {
        let parts = types::batch::MessageParts {
            payload: payload.as_bytes(),
            ..Default::default()
        };
        parts.append_to(&mut batch);
    }
    let bytes = i64::try_from(batch.len()).unwrap();
    let delivery = pb::Delivery {
        first: Some(pb::MessagePosition {
            offset: first,
            ..Default::default()
        }),
        delivery_attempt: 1,
        generation: 3,
        producer: Some(pb::ProducerStamp {
            producer_name: "p".to_owned(),
            epoch: 9,
            first_sequence_id: first + 100,
        }),
        body: Some(pb::delivery::Body::Batch(batch.freeze())),
        ..pb::Delivery::default()
    };
    stream
        .send(say(Down::Deliveries(pb::Deliveries {
            items: vec![delivery],
        })))
        .await;
    bytes
}

async fn confirm(stream: &Consuming, request_id: u64, problems: Vec<pb::AckProblem>) {
    let result = pb::AckResult {
        request_id,
        confirmed: true,
        problems,
    };
    stream
        .send(say(Down::AckResults(pb::AckResults {
            items: vec![result],
        })))
        .await;
}

fn ranges(ranges: &[pb::OffsetRange]) -> Vec<(u64, u64)> {
    ranges
        .iter()
        .map(|range| (range.start, range.end))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn messages_come_in_order_with_what_is_known_of_them() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let builder = world
        .client
        .consumer(SUBSCRIPTION)
        .mode(SubscriptionMode::Shared)
        .name("me");
    let opening = tokio::spawn(builder.create_if_missing().open());
    let (open, mut stream) = ready(&mut server).await;
    assert_eq!(
        open.subscription,
        "tenants/default/namespaces/default/topics/t/subscriptions/s"
    );
    assert!(open.create_if_missing && open.confirm_acks && open.consumer_name == "me");
    let mut consumer = in_time(opening).await.unwrap().unwrap();
    assert_eq!(consumer.mode(), Some(SubscriptionMode::Shared));
    assert_eq!(permits(&mut stream).await, (1_000, 8 << 20));

    assert!(consumer.try_recv().unwrap().is_none());
    deliver(&stream, 5, &["a", "b"]).await;
    let first = in_time(consumer.recv()).await.unwrap();
    assert_eq!((first.offset(), first.message()), (5, &Message::from("a")));
    let second = in_time(consumer.next()).await.unwrap().unwrap();
    assert_eq!((second.offset(), second.attempt()), (6, 1));
    assert_eq!(second.producer().unwrap().sequence, 106);
}

#[tokio::test(start_paused = true)]
async fn acks_gather_into_ranges_and_receipts_tell_when_they_are_durable() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let opening = tokio::spawn(world.client.consumer(SUBSCRIPTION).open());
    let (_, mut stream) = ready(&mut server).await;
    let mut consumer = in_time(opening).await.unwrap().unwrap();
    deliver(&stream, 0, &["a", "b", "c", "d"]).await;
    let mut messages = Vec::new();
    for _ in 0..4 {
        messages.push(in_time(consumer.recv()).await.unwrap());
    }
    consumer.ack(&messages[0]);
    consumer.ack(&messages[1]);
    let kept = consumer.ack_confirmed(&messages[3]);
    let mut granted = (0, 0);
    let Some(Up::Ack(ack)) = request(&mut stream, &mut granted).await else {
        panic!("no ack")
    };
    assert_eq!(
        (ranges(&ack.ranges), ack.generation),
        (vec![(0, 2), (3, 4)], 3)
    );
    let lost = consumer.ack_confirmed(&messages[2]);
    confirm(&stream, ack.request_id, Vec::new()).await;
    in_time(kept).await.unwrap();

    let Some(Up::Ack(ack)) = request(&mut stream, &mut granted).await else {
        panic!("no ack")
    };
    let problem = pb::AckProblem {
        ranges: vec![pb::OffsetRange { start: 2, end: 3 }],
        status: refusal(Reason::LeaseLost),
    };
    confirm(&stream, ack.request_id, vec![problem]).await;
    assert_eq!(in_time(lost).await.unwrap_err().reason(), Reason::LeaseLost);
    assert_eq!(consumer.acker().acks_refused(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_is_granted_again_and_never_more() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let builder = world
        .client
        .consumer(SUBSCRIPTION)
        .credit(10, ByteSize::kib(1));
    let opening = tokio::spawn(builder.open());
    let (_, mut stream) = ready(&mut server).await;
    let mut consumer = in_time(opening).await.unwrap().unwrap();
    let mut left = permits(&mut stream).await;
    assert_eq!(left, (10, 1024));
    let mut next = 0;
    for _ in 0..50 {
        let count = usize::try_from(left.0).unwrap();
        left.1 -= deliver(&stream, next, &vec!["x"; count]).await;
        left.0 = 0;
        for _ in 0..count {
            let message = in_time(consumer.recv()).await.unwrap();
            assert_eq!(message.offset(), next);
            next += 1;
        }
        let more = permits(&mut stream).await;
        left = (left.0 + more.0, left.1 + more.1);
        assert!(left.0 <= 10 && left.1 <= 1024, "{left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_break_untaken_messages_are_dropped_and_acks_are_sent_before_the_grant() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let builder = world
        .client
        .consumer(SUBSCRIPTION)
        .credit(10, ByteSize::kib(1));
    let opening = tokio::spawn(builder.open());
    let (_, mut stream) = ready(&mut server).await;
    let mut consumer = in_time(opening).await.unwrap().unwrap();
    assert_eq!(permits(&mut stream).await, (10, 1024));
    deliver(&stream, 0, &["a", "b"]).await;
    deliver(&stream, 2, &["c"]).await;
    let taken = in_time(consumer.recv()).await.unwrap();
    let acked = consumer.ack_confirmed(&taken);
    let Some(Up::Ack(_)) = request(&mut stream, &mut (0, 0)).await else {
        panic!("no ack")
    };
    drop(stream); // The answer is lost.

    let (open, mut stream) = ready(&mut server).await;
    assert_eq!(open.initial_permits.unwrap().messages, 0);
    let Some(Up::Ack(again)) = stream.next().await.unwrap().frame else {
        panic!("acks first")
    };
    assert_eq!(ranges(&again.ranges), [(0, 1)]);
    assert_eq!(permits(&mut stream).await, (10, 1024), "whole again");
    confirm(&stream, again.request_id, Vec::new()).await;
    in_time(acked).await.unwrap();
    deliver(&stream, 1, &["b", "c"]).await;
    for offset in [1, 2] {
        assert_eq!(
            in_time(consumer.recv()).await.unwrap().offset(),
            offset,
            "each once"
        );
    }
    assert!(consumer.try_recv().unwrap().is_none());

    // Nothing can be asked for the lease of before.
    let error = consumer
        .extend(&taken, Duration::from_secs(1))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::LeaseLost);
}

#[tokio::test(start_paused = true)]
async fn nacks_and_extensions_go_to_the_server() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let opening = tokio::spawn(world.client.consumer(SUBSCRIPTION).open());
    let (_, mut stream) = ready(&mut server).await;
    let mut consumer = in_time(opening).await.unwrap().unwrap();
    deliver(&stream, 0, &["a", "b"]).await;
    let a = in_time(consumer.recv()).await.unwrap();
    let b = in_time(consumer.recv()).await.unwrap();
    consumer.nack(&a, Duration::from_secs(2));
    consumer.nack(&b, Duration::from_secs(2));
    let mut granted = (0, 0);
    let Some(Up::Nack(nack)) = request(&mut stream, &mut granted).await else {
        panic!("no nack")
    };
    assert_eq!(
        (ranges(&nack.ranges), nack.delay.unwrap().seconds),
        (vec![(0, 2)], 2)
    );

    let acker = consumer.acker();
    let extending = tokio::spawn(async move { acker.extend(&b, Duration::from_secs(9)).await });
    let Some(Up::Extend(extend)) = request(&mut stream, &mut granted).await else {
        panic!("none")
    };
    assert_eq!(extend.deadline.unwrap().seconds, 9);
    confirm(&stream, extend.request_id, Vec::new()).await;
    in_time(extending).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_the_server_cannot_use_leaves_nobody_waiting() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let opening = tokio::spawn(world.client.consumer(SUBSCRIPTION).open());
    let (_, mut stream) = ready(&mut server).await;
    let mut consumer = in_time(opening).await.unwrap().unwrap();
    deliver(&stream, 0, &["a"]).await;
    let message = in_time(consumer.recv()).await.unwrap();
    let acked = consumer.ack_confirmed(&message);
    let Some(Up::Ack(_)) = request(&mut stream, &mut (0, 0)).await else {
        panic!("no ack")
    };
    let problem = types::Problem::bad_field("ack.ranges", "the test says so");
    let error = pb::StreamError {
        status: Some(proto::status::to_rpc(&problem)),
    };
    stream.send(say(Down::Error(error))).await;
    assert_eq!(in_time(acked).await.unwrap_err().reason(), Reason::BadField);
    deliver(&stream, 1, &["b"]).await;
    assert_eq!(
        in_time(consumer.recv()).await.unwrap().offset(),
        1,
        "the stream goes on"
    );
}

#[tokio::test(start_paused = true)]
async fn messages_whose_lease_lapsed_while_they_waited_here_are_not_given_out() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let opening = tokio::spawn(world.client.consumer(SUBSCRIPTION).open());
    let (_, stream) = ready(&mut server).await;
    let mut consumer = in_time(opening).await.unwrap().unwrap();
    deliver(&stream, 0, &["a"]).await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    deliver(&stream, 7, &["h"]).await;
    assert_eq!(in_time(consumer.recv()).await.unwrap().offset(), 7);
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_acks_and_then_says_so() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let opening = tokio::spawn(world.client.consumer(SUBSCRIPTION).open());
    let (_, mut stream) = ready(&mut server).await;
    let mut consumer = in_time(opening).await.unwrap().unwrap();
    deliver(&stream, 0, &["a"]).await;
    let message = in_time(consumer.recv()).await.unwrap();
    consumer.ack(&message);
    let closing = tokio::spawn(consumer.close());
    let Some(Up::Ack(ack)) = request(&mut stream, &mut (0, 0)).await else {
        panic!("no ack")
    };
    confirm(&stream, ack.request_id, Vec::new()).await;
    let Some(Up::Close(_)) = request(&mut stream, &mut (0, 0)).await else {
        panic!("no close")
    };
    drop(stream);
    in_time(closing).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_second_exclusive_consumer_is_told_but_a_shadow_of_this_one_is_waited_for() {
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let opening = tokio::spawn(world.client.consumer(SUBSCRIPTION).open());
    server.consuming().await.end(Reason::ExclusiveHeld).await;
    let error = in_time(opening).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::ExclusiveHeld);

    let opening = tokio::spawn(world.client.consumer(SUBSCRIPTION).open());
    let (_, stream) = ready(&mut server).await;
    let mut consumer = in_time(opening).await.unwrap().unwrap();
    drop(stream);
    server.consuming().await.end(Reason::ExclusiveHeld).await;
    let (_, stream) = ready(&mut server).await;
    deliver(&stream, 0, &["a"]).await;
    assert_eq!(in_time(consumer.recv()).await.unwrap().offset(), 0);
    stream.end(Reason::SubscriptionNotFound).await;
    let error = in_time(consumer.recv()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::SubscriptionNotFound);
}
