//! `Consume`: opening, deliveries, acks, and what is lost by nobody.

use bytes::Bytes;
use prost_types::Duration as Span;
use proto::raw::v1 as pb;
use proto::raw::v1::publisher_client::PublisherClient;
use proto::v1::consume_request::Frame as Up;
use tonic::Code;
use types::Reason;

use crate::support::{
    Cluster, Consuming, Plan, ack, batch, body, consuming, offsets, open_consumer, refusal,
    refused, topic_of,
};

const EXCLUSIVE: pb::SubscriptionMode = pb::SubscriptionMode::Exclusive;
const SHARED: pb::SubscriptionMode = pb::SubscriptionMode::Shared;

pub(crate) async fn publish(cluster: &Cluster, topic: &str, payloads: &[&str]) {
    let mut client = PublisherClient::new(cluster.client(0));
    client.publish(body(topic, batch(payloads))).await.unwrap();
}

async fn open(
    cluster: &Cluster,
    name: &str,
    mode: pb::SubscriptionMode,
) -> (Consuming, pb::ConsumerReady) {
    let opened = Consuming::open(cluster.client(0), open_consumer(name, mode)).await;
    opened.unwrap()
}

fn seconds(seconds: i64) -> Option<Span> {
    Some(Span { seconds, nanos: 0 })
}

#[tokio::test(start_paused = true)]
async fn messages_come_in_order_and_an_ack_is_confirmed_for_good() {
    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a", "b", "c"]).await;
    let (mut consumer, ready) = open(&cluster, "orders/subscriptions/s", EXCLUSIVE).await;
    assert_eq!(ready.mode(), EXCLUSIVE);
    assert_eq!(ready.cursor, 0);
    assert!(!ready.session.is_empty() && ready.ack_deadline.is_some() && ready.limits.is_some());
    let messages = consumer.messages(3).await.unwrap();
    assert_eq!(offsets(&messages), [0, 1, 2]);
    assert!(messages.iter().all(|m| m.attempt == 1));
    consumer.ack(1, 0, 2, ready.generation).await;
    drop(consumer);

    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let (mut consumer, ready) = open(&cluster, "orders/subscriptions/s", EXCLUSIVE).await;
    assert_eq!(ready.cursor, 2);
    let messages = consumer.messages(1).await.unwrap();
    assert_eq!((messages[0].offset, messages[0].attempt), (2, 2));
    // All below it, in one word.
    let set = pb::AckSet {
        cumulative_end: 3,
        ranges: Vec::new(),
        ..ack(2, 0, 0, ready.generation)
    };
    consumer.frame(Up::Ack(set)).await;
    let result = consumer.result().await;
    assert!(result.confirmed && result.problems.is_empty(), "{result:?}");
    consumer.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_opens_with_another_frame_is_refused() {
    let cluster = Cluster::small().await;
    let permits = pb::Permits {
        messages: 1,
        bytes: 1,
    };
    let wrong = [
        None,
        Some(Up::Permits(permits)),
        Some(Up::Ack(ack(1, 0, 1, 0))),
        Some(Up::Close(pb::CloseConsumer {})),
    ];
    for frame in wrong {
        let mut stream = consuming(cluster.client(0), frame).await.unwrap();
        let answer = stream.next().await;
        let problem = refused(answer, Code::InvalidArgument, Reason::BadFrame, "frame");
        assert!(problem.message.contains("open"), "{problem:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_opens_a_consumer_is_checked_field_by_field() {
    let cluster = Cluster::small().await;
    let name = "orders/subscriptions/s";
    let good = || open_consumer(name, EXCLUSIVE);
    let minus = |messages, bytes| Some(pb::Permits { messages, bytes });
    let bad = [
        (open_consumer("orders", EXCLUSIVE), "open.subscription"),
        (
            open_consumer("a b/subscriptions/s", EXCLUSIVE),
            "open.subscription",
        ),
        (
            open_consumer("orders/subscriptions/..", EXCLUSIVE),
            "open.subscription",
        ),
        (pb::OpenConsumer { mode: 77, ..good() }, "open.mode"),
        (
            pb::OpenConsumer {
                consumer_name: "\u{7}".to_owned(),
                ..good()
            },
            "open.consumer_name",
        ),
        (
            pb::OpenConsumer {
                ack_deadline: seconds(-1),
                ..good()
            },
            "open.ack_deadline",
        ),
        (
            pb::OpenConsumer {
                ack_deadline: seconds(8 * 24 * 3600),
                ..good()
            },
            "open.ack_deadline",
        ),
        (
            pb::OpenConsumer {
                initial_permits: minus(-1, 0),
                ..good()
            },
            "open.initial_permits",
        ),
        (
            pb::OpenConsumer {
                initial_permits: minus(0, -1),
                ..good()
            },
            "open.initial_permits",
        ),
        (
            pb::OpenConsumer {
                initial_position: Some(pb::Position {
                    at: Some(pb::position::At::Boundary(77)),
                }),
                ..good()
            },
            "open.initial_position",
        ),
    ];
    for (open, field) in bad {
        let answer = Consuming::open(cluster.client(0), open).await;
        refused(answer, Code::InvalidArgument, Reason::BadField, field);
    }
    open(&cluster, name, EXCLUSIVE).await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_named() {
    let plan = Plan {
        auto_create_topics: false,
        ..Plan::default()
    };
    let cluster = Cluster::start(plan).await;
    for create_if_missing in [false, true] {
        let open = pb::OpenConsumer {
            create_if_missing,
            ..open_consumer("orders/subscriptions/s", EXCLUSIVE)
        };
        let answer = Consuming::open(cluster.client(0), open).await;
        let problem = refused(answer, Code::NotFound, Reason::TopicNotFound, "");
        assert_eq!(problem.resource, Some(topic_of("orders")));
    }

    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a"]).await;
    let open = pb::OpenConsumer {
        create_if_missing: false,
        ..open_consumer("orders/subscriptions/s", EXCLUSIVE)
    };
    let answer = Consuming::open(cluster.client(0), open).await;
    let problem = refused(answer, Code::NotFound, Reason::SubscriptionNotFound, "");
    let name = format!("{}/subscriptions/s", topic_of("orders"));
    assert_eq!(problem.resource, Some(name));
    assert!(problem.message.contains("create"), "{problem:?}");
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_subscription_has_one_consumer_and_says_who() {
    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a"]).await;
    let name = "orders/subscriptions/s";
    let first = pb::OpenConsumer {
        consumer_name: "first".to_owned(),
        ..open_consumer(name, EXCLUSIVE)
    };
    let (mut holder, ready) = Consuming::open(cluster.client(0), first).await.unwrap();
    let second = || Consuming::open(cluster.client(0), open_consumer(name, EXCLUSIVE));
    let problem = refused(
        second().await,
        Code::FailedPrecondition,
        Reason::ExclusiveHeld,
        "",
    );
    assert_eq!(problem.metadata["holder"], "first");
    // The holder notices nothing.
    assert_eq!(offsets(&holder.messages(1).await.unwrap()), [0]);
    holder.ack(1, 0, 1, ready.generation).await;
    holder.frame(Up::Close(pb::CloseConsumer {})).await;
    holder.end().await.unwrap();
    let (mut next, _) = second().await.unwrap();
    next.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn the_mode_is_the_subscriptions_and_exclusive_unless_said() {
    let cluster = Cluster::small().await;
    let name = "orders/subscriptions/s";
    let unsaid = pb::SubscriptionMode::Unspecified;
    let (first, ready) = open(&cluster, name, unsaid).await;
    assert_eq!(ready.mode(), EXCLUSIVE);
    let answer = Consuming::open(cluster.client(0), open_consumer(name, SHARED)).await;
    let (code, reason) = (Code::FailedPrecondition, Reason::WrongMode);
    let problem = refused(answer, code, reason, "open.mode");
    assert_eq!(problem.metadata["mode"], "EXCLUSIVE");
    drop(first);

    let (mut shared, ready) = open(&cluster, "orders/subscriptions/t", SHARED).await;
    publish(&cluster, "orders", &["a"]).await;
    shared.messages(1).await.unwrap();
    let set = pb::AckSet {
        cumulative_end: 1,
        ranges: Vec::new(),
        ..ack(1, 0, 0, ready.generation)
    };
    shared.frame(Up::Ack(set)).await;
    let result = shared.result().await;
    assert!(!result.confirmed);
    let status = result.problems[0].status.as_ref();
    refusal(
        status,
        Code::FailedPrecondition,
        Reason::WrongMode,
        "cumulative_end",
    );
    // The message is still its own, and may be acked by name.
    shared.ack(2, 0, 1, ready.generation).await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_starts_where_it_is_told() {
    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a", "b", "c"]).await;
    use pb::position::{At, Boundary};
    let starts: [(Option<At>, u64); 4] = [
        (None, 0),
        (Some(At::Boundary(Boundary::Latest.into())), 3),
        (Some(At::Offset(2)), 2),
        (Some(At::Offset(99)), 3),
    ];
    for (index, (at, cursor)) in starts.into_iter().enumerate() {
        let open = pb::OpenConsumer {
            initial_position: Some(pb::Position { at }),
            ..open_consumer(&format!("orders/subscriptions/s{index}"), EXCLUSIVE)
        };
        let (_, ready) = Consuming::open(cluster.client(0), open).await.unwrap();
        assert_eq!(ready.cursor, cursor, "start {index}");
    }
}

#[tokio::test(start_paused = true)]
async fn consumers_that_come_at_once_share_the_one_subscription() {
    let cluster = Cluster::full().await;
    publish(&cluster, "orders", &["a", "b", "c"]).await;
    let name = "orders/subscriptions/s";
    let one = |node: usize| {
        let open = pb::OpenConsumer {
            initial_permits: Some(pb::Permits {
                messages: 1,
                bytes: 100,
            }),
            ..open_consumer(name, SHARED)
        };
        Consuming::open(cluster.client(node), open)
    };
    let (a, b, c) = futures::join!(one(0), one(1), one(0));
    let mut seen = Vec::new();
    for opened in [a, b, c] {
        let (mut consumer, ready) = opened.unwrap();
        let messages = consumer.messages(1).await.unwrap();
        let offset = messages[0].offset;
        seen.push(offset);
        consumer.ack(1, offset, offset + 1, ready.generation).await;
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_large_message_and_any_bytes_come_back_as_they_were() {
    let cluster = Cluster::small().await;
    let payload: Vec<u8> = (0..60_000_u32).map(|n| (n % 251) as u8).collect();
    let mut client = PublisherClient::new(cluster.client(0));
    client
        .publish(body("orders", batch([&payload])))
        .await
        .unwrap();
    let (mut consumer, _) = open(&cluster, "orders/subscriptions/s", EXCLUSIVE).await;
    let messages = consumer.messages(1).await.unwrap();
    assert_eq!(messages[0].payload, Bytes::from(payload));
}
