//! What goes on an open consumer's stream: permits, leases, refusals that leave it usable.

use std::time::Duration;

use prost_types::Duration as Span;
use proto::raw::v1 as pb;
use proto::v1::consume_request::Frame as Up;
use tonic::Code;
use types::Reason;

use crate::consume::publish;
use crate::support::{
    Cluster, Consuming, Delivered, ack, in_time, offsets, open_consumer, refusal, refused,
};

const SHARED: pb::SubscriptionMode = pb::SubscriptionMode::Shared;
const EXCLUSIVE: pb::SubscriptionMode = pb::SubscriptionMode::Exclusive;
const NAME: &str = "orders/subscriptions/s";

async fn open(cluster: &Cluster, open: pb::OpenConsumer) -> (Consuming, u32) {
    let (stream, ready) = Consuming::open(cluster.client(0), open).await.unwrap();
    (stream, ready.generation)
}

fn range(start: u64, end: u64) -> Vec<pb::OffsetRange> {
    vec![pb::OffsetRange { start, end }]
}

fn nack(request_id: u64, ranges: Vec<pb::OffsetRange>, generation: u32) -> pb::Nack {
    pb::Nack {
        request_id,
        ranges,
        generation,
        ..pb::Nack::default()
    }
}

fn extend(request_id: u64, ranges: Vec<pb::OffsetRange>, generation: u32) -> pb::ExtendDeadline {
    pb::ExtendDeadline {
        request_id,
        ranges,
        generation,
        deadline: Some(Span {
            seconds: 60,
            nanos: 0,
        }),
        ..pb::ExtendDeadline::default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_sends_what_was_granted_and_no_more() {
    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a", "b", "c", "d"]).await;
    let none = pb::OpenConsumer {
        initial_permits: None,
        ..open_consumer(NAME, EXCLUSIVE)
    };
    let (mut consumer, _) = open(&cluster, none).await;
    consumer.is_quiet().await;
    let permits = |messages, bytes| Up::Permits(pb::Permits { messages, bytes });
    consumer.frame(permits(2, 1_000)).await;
    assert_eq!(offsets(&consumer.messages(2).await.unwrap()), [0, 1]);
    consumer.is_quiet().await;

    for (messages, bytes) in [(-1, 0), (0, -1), (i64::MIN, i64::MIN)] {
        consumer.frame(permits(messages, bytes)).await;
        let error = consumer.error().await;
        let (code, reason) = (Code::InvalidArgument, Reason::BadField);
        refusal(error.status.as_ref(), code, reason, "permits");
    }
    // Each may be as large as it likes; their sum may not.
    for _ in 0..2 {
        consumer.frame(permits(0, i64::MAX)).await;
    }
    let error = consumer.error().await;
    let (code, reason) = (Code::InvalidArgument, Reason::BadField);
    refusal(error.status.as_ref(), code, reason, "permits");

    consumer.frame(permits(1, 0)).await;
    assert_eq!(offsets(&consumer.messages(1).await.unwrap()), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_says_why_nothing_comes() {
    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a", "b"]).await;
    let one = pb::OpenConsumer {
        initial_permits: Some(pb::Permits {
            messages: 1,
            bytes: 100,
        }),
        ..open_consumer(NAME, EXCLUSIVE)
    };
    let (mut consumer, _) = open(&cluster, one).await;
    consumer.messages(1).await.unwrap();
    let heartbeat = consumer.heartbeat().await;
    assert_eq!(heartbeat.backlog_messages, 2);
    assert_eq!(heartbeat.blocked_reason(), pb::BlockedReason::NoPermits);
    assert!(heartbeat.server_time.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_cannot_be_used_is_told_and_the_stream_goes_on() {
    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a"]).await;
    let (mut consumer, generation) = open(&cluster, open_consumer(NAME, EXCLUSIVE)).await;
    consumer.messages(1).await.unwrap();
    let set = |ranges| pb::AckSet {
        ranges,
        ..ack(1, 0, 1, generation)
    };
    let elsewhere = pb::AckSet {
        shard: "shard-99".to_owned(),
        ..ack(1, 0, 1, generation)
    };
    let late = pb::Nack {
        delay: Some(Span {
            seconds: -1,
            nanos: 0,
        }),
        ..nack(1, range(0, 1), generation)
    };
    let never = pb::ExtendDeadline {
        deadline: Some(Span {
            seconds: 0,
            nanos: 0,
        }),
        ..extend(1, range(0, 1), generation)
    };
    let bad = [
        (Some(Up::Ack(set(vec![]))), Reason::BadField, "ack.ranges"),
        (
            Some(Up::Ack(set(range(1, 1)))),
            Reason::BadField,
            "ack.ranges[0]",
        ),
        (
            Some(Up::Ack(set(range(2, 1)))),
            Reason::BadField,
            "ack.ranges[0]",
        ),
        (Some(Up::Ack(elsewhere)), Reason::BadField, "ack.shard"),
        (
            Some(Up::Nack(nack(1, vec![], generation))),
            Reason::BadField,
            "nack.ranges",
        ),
        (Some(Up::Nack(late)), Reason::BadField, "nack.delay"),
        (
            Some(Up::Extend(extend(1, vec![], generation))),
            Reason::BadField,
            "extend.ranges",
        ),
        (Some(Up::Extend(never)), Reason::BadField, "extend.deadline"),
        (
            Some(Up::Open(open_consumer(NAME, EXCLUSIVE))),
            Reason::BadFrame,
            "frame",
        ),
        (None, Reason::BadFrame, "frame"),
    ];
    for (frame, reason, field) in bad {
        consumer.frame(frame).await;
        let error = consumer.error().await;
        refusal(error.status.as_ref(), Code::InvalidArgument, reason, field);
    }
    consumer.ack(2, 0, 1, generation).await;
}

#[tokio::test(start_paused = true)]
async fn an_ack_beyond_what_exists_or_of_an_older_cursor_is_refused() {
    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a", "b"]).await;
    let (mut consumer, generation) = open(&cluster, open_consumer(NAME, EXCLUSIVE)).await;
    consumer.messages(2).await.unwrap();

    let mut set = ack(1, 0, 1, generation);
    set.ranges.push(pb::OffsetRange { start: 1, end: 3 });
    consumer.frame(Up::Ack(set)).await;
    let result = consumer.result().await;
    let [problem] = &result.problems[..] else {
        panic!("{result:?}");
    };
    assert_eq!(problem.ranges, range(1, 3));
    refusal(
        problem.status.as_ref(),
        Code::OutOfRange,
        Reason::AckOutOfRange,
        "",
    );
    assert!(result.confirmed, "the rest is done: {result:?}");

    let beyond = pb::AckSet {
        cumulative_end: 3,
        ranges: Vec::new(),
        ..ack(2, 0, 0, generation)
    };
    consumer.frame(Up::Ack(beyond)).await;
    let result = consumer.result().await;
    let status = result.problems[0].status.as_ref();
    refusal(status, Code::OutOfRange, Reason::AckOutOfRange, "");

    consumer.frame(Up::Ack(ack(3, 1, 2, generation + 1))).await;
    let result = consumer.result().await;
    assert!(!result.confirmed && result.problems[0].ranges.is_empty());
    let status = result.problems[0].status.as_ref();
    let (code, reason) = (Code::FailedPrecondition, Reason::GenerationOld);
    refusal(status, code, reason, "generation");

    // The first message was acked, the second was not.
    drop(consumer);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (mut consumer, generation) = open(&cluster, open_consumer(NAME, EXCLUSIVE)).await;
    assert_eq!(offsets(&consumer.messages(1).await.unwrap()), [1]);
    consumer.ack(1, 1, 2, generation).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_lapsed_goes_to_another_and_the_late_ack_is_refused() {
    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a"]).await;
    let short = pb::OpenConsumer {
        ack_deadline: Some(Span {
            seconds: 1,
            nanos: 0,
        }),
        initial_permits: Some(pb::Permits {
            messages: 1,
            bytes: 1_000,
        }),
        ..open_consumer(NAME, SHARED)
    };
    let (mut slow, generation) = open(&cluster, short).await;
    assert_eq!(slow.messages(1).await.unwrap()[0].attempt, 1);
    let (mut other, _) = open(&cluster, open_consumer(NAME, SHARED)).await;
    let messages = other.messages(1).await.unwrap();
    assert_eq!((messages[0].offset, messages[0].attempt), (0, 2));

    let status = Code::FailedPrecondition;
    for frame in [
        Up::Ack(ack(1, 0, 1, generation)),
        Up::Nack(nack(1, range(0, 1), generation)),
        Up::Extend(extend(1, range(0, 1), generation)),
    ] {
        slow.frame(frame).await;
        let result = slow.result().await;
        let [problem] = &result.problems[..] else {
            panic!("{result:?}");
        };
        assert_eq!(problem.ranges, range(0, 1));
        refusal(problem.status.as_ref(), status, Reason::LeaseLost, "");
    }
    other.ack(1, 0, 1, generation).await;
    // The slow one is a consumer all the same.
    slow.frame(Up::Permits(pb::Permits {
        messages: 10,
        bytes: 1_000,
    }))
    .await;
    drop(other);
    publish(&cluster, "orders", &["b"]).await;
    assert_eq!(offsets(&slow.messages(1).await.unwrap()), [1]);
    slow.ack(2, 1, 2, generation).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_given_back_comes_again_and_one_extended_stays() {
    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a", "b"]).await;
    let short = pb::OpenConsumer {
        ack_deadline: Some(Span {
            seconds: 5,
            nanos: 0,
        }),
        ..open_consumer(NAME, SHARED)
    };
    let (mut consumer, generation) = open(&cluster, short).await;
    consumer.messages(2).await.unwrap();
    consumer
        .frame(Up::Extend(extend(1, range(1, 2), generation)))
        .await;
    let result = consumer.result().await;
    assert!(result.problems.is_empty(), "{result:?}");
    consumer
        .frame(Up::Nack(nack(2, range(0, 1), generation)))
        .await;
    let (mut again, mut answered) = (None, false);
    while again.is_none() || !answered {
        match consumer.next().await.unwrap() {
            Delivered::AckResults(results) => {
                assert!(results.items[0].problems.is_empty(), "{results:?}");
                answered = true;
            }
            Delivered::Deliveries(frame) => {
                let messages = crate::support::delivered(&frame.items[0]);
                again = Some((messages[0].offset, messages[0].attempt));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(again, Some((0, 2)));
    // The first one lapses after 5 s and comes a third time; the extended one does not.
    let messages = consumer.messages(1).await.unwrap();
    assert_eq!((messages[0].offset, messages[0].attempt), (0, 3));
    consumer.ack(3, 0, 2, generation).await;
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_stream_has_its_acks_answered() {
    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a", "b"]).await;
    let (mut consumer, generation) = open(&cluster, open_consumer(NAME, EXCLUSIVE)).await;
    consumer.messages(2).await.unwrap();
    consumer.frame(Up::Ack(ack(1, 0, 1, generation))).await;
    consumer.half_close();
    assert!(consumer.result().await.confirmed);
    consumer.end().await.unwrap();
    // What it held is free at once.
    let (mut next, _) = open(&cluster, open_consumer(NAME, EXCLUSIVE)).await;
    assert_eq!(offsets(&next.messages(1).await.unwrap()), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_gone_leaves_its_messages_to_others() {
    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a", "b"]).await;
    let (mut first, _) = open(&cluster, open_consumer(NAME, SHARED)).await;
    first.messages(2).await.unwrap();
    let (mut second, generation) = open(&cluster, open_consumer(NAME, SHARED)).await;
    drop(first);
    let messages = second.messages(2).await.unwrap();
    assert!(messages.iter().all(|m| m.attempt == 2), "{messages:?}");
    second.ack(1, 0, 2, generation).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_told_to_open() {
    let cluster = Cluster::small().await;
    let (_up, frames) = tokio::sync::mpsc::channel::<pb::ConsumeRequest>(1);
    let mut client = pb::subscriber_client::SubscriberClient::new(cluster.client(0));
    let frames = tokio_stream::wrappers::ReceiverStream::new(frames);
    let mut stream = in_time(client.consume(frames)).await.unwrap().into_inner();
    let answer = in_time(stream.message()).await;
    refused(answer, Code::InvalidArgument, Reason::BadFrame, "frame");
}
