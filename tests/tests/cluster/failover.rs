//! Nodes that die: what was acked is kept, in order and once.

use std::collections::BTreeSet;
use std::time::Duration;

use host::disk::sim::{Fault, OpKind};
use pb::publisher_client::PublisherClient;
use pb::subscription_service_client::SubscriptionServiceClient;
use proto::raw::v1 as pb;
use proto::status::from_status;
use tonic::Code;
use types::{ErrorKind, Quorum, Reason};

use crate::admin::create_subscription;
use crate::consume::publish;
use crate::support::{
    Cluster, Consuming, Plan, Publishing, batch, body, offsets, open_consumer, open_producer, until,
};

const EXCLUSIVE: pb::SubscriptionMode = pb::SubscriptionMode::Exclusive;
const NAME: &str = "orders/subscriptions/s";

fn three(serving: usize) -> Plan {
    Plan {
        bookies: 3,
        serving,
        quorum: Quorum::THREE_TWO,
        ..Plan::default()
    }
}

async fn producer(cluster: &Cluster, node: usize) -> (Publishing, pb::ProducerReady) {
    until(|| Publishing::open(cluster.client(node), open_producer("orders", "p"))).await
}

async fn consumer(cluster: &Cluster, node: usize) -> (Consuming, pb::ConsumerReady) {
    until(|| Consuming::open(cluster.client(node), open_consumer(NAME, EXCLUSIVE))).await
}

async fn send_acked(stream: &mut Publishing, numbers: std::ops::Range<u64>) -> Vec<u64> {
    let mut places = Vec::new();
    for number in numbers {
        stream.send(number, batch([format!("m{number}")])).await;
        let receipt = stream.receipt().await;
        assert_eq!(receipt.status, None, "{receipt:?}");
        places.push(receipt.first.expect("it is stored").offset);
    }
    places
}

#[tokio::test(start_paused = true)]
async fn another_node_goes_on_where_the_dead_owner_was() {
    let mut cluster = Cluster::full().await;
    let (mut stream, _) = producer(&cluster, 0).await;
    assert_eq!(send_acked(&mut stream, 0..10).await, Vec::from_iter(0..10));
    let (mut before, ready) = consumer(&cluster, 0).await;
    before.messages(10).await.unwrap();
    before.ack(1, 0, 4, ready.generation).await;
    before.ack(2, 6, 7, ready.generation).await;

    let died = tokio::time::Instant::now();
    cluster.kill_serving(0).await;
    assert!(stream.receipts(1).await.is_err(), "the stream is over");
    assert!(before.next().await.is_err(), "the stream is over");

    // The same bytes under the same number: stored once.
    let (mut stream, ready) = producer(&cluster, 1).await;
    assert!(
        died.elapsed() < Duration::from_secs(5),
        "{:?}",
        died.elapsed()
    );
    assert_eq!(ready.last_sequence_id, Some(9));
    stream.send(9, batch(["m9"])).await;
    let receipt = stream.receipt().await;
    assert!(receipt.duplicate, "{receipt:?}");
    assert_eq!(receipt.first.unwrap().offset, 9);
    assert_eq!(send_acked(&mut stream, 10..12).await, [10, 11]);

    let (mut after, ready) = consumer(&cluster, 1).await;
    assert_eq!(ready.cursor, 4);
    let messages = after.messages(7).await.unwrap();
    assert_eq!(offsets(&messages), [4, 5, 7, 8, 9, 10, 11]);
    for message in &messages {
        assert_eq!(message.payload, format!("m{}", message.offset));
    }
    after.ack(1, 4, 12, ready.generation).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_behind_another_node_ends_with_a_word_to_try_again() {
    let mut cluster = Cluster::full().await;
    publish(&cluster, "orders", &["m"]).await;
    let (mut stream, _) = producer(&cluster, 1).await;
    let (mut consumer, _) = consumer(&cluster, 1).await;
    consumer.messages(1).await.unwrap();
    cluster.kill_serving(0).await;
    for status in [
        stream.receipts(1).await.unwrap_err(),
        consumer.next().await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        let problem = from_status(&status);
        assert_eq!(problem.kind(), ErrorKind::Retry, "{problem:?}");
        assert!(!status.details().is_empty(), "{status:?}");
    }
    // And it works again behind the same node, which serves the topic itself now.
    let (mut stream, _) = producer(&cluster, 1).await;
    assert_eq!(send_acked(&mut stream, 0..1).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn publishing_goes_on_without_one_bookie_of_three_and_shards_can_be_opened() {
    let mut cluster = Cluster::start(three(2)).await;
    let (mut stream, _) = producer(&cluster, 0).await;
    send_acked(&mut stream, 0..5).await;
    cluster.kill_bookie(0).await;
    assert_eq!(send_acked(&mut stream, 5..10).await, Vec::from_iter(5..10));
    // The owner dies too: the next one recovers the shard from the two that are left.
    cluster.kill_serving(0).await;
    let (mut stream, ready) = producer(&cluster, 1).await;
    assert_eq!(ready.last_sequence_id, Some(9));
    assert_eq!(send_acked(&mut stream, 10..12).await, [10, 11]);
    let (mut consumer, _) = consumer(&cluster, 1).await;
    let messages = consumer.messages(12).await.unwrap();
    assert_eq!(offsets(&messages), Vec::from_iter(0..12));
    // A topic that nobody has served yet.
    let mut client = PublisherClient::new(cluster.client(1));
    client.publish(body("fresh", batch(["m"]))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn with_too_few_bookies_publishing_waits_and_loses_nothing() {
    let mut cluster = Cluster::start(three(1)).await;
    let (mut stream, _) = producer(&cluster, 0).await;
    send_acked(&mut stream, 0..3).await;
    cluster.kill_bookie(0).await;
    cluster.kill_bookie(1).await;
    stream.send(3, batch(["m3"])).await;
    let waits = tokio::time::timeout(Duration::from_secs(5), stream.receipts(1)).await;
    // Either it waits still, or it was refused with a word to come again: never a false receipt.
    if let Ok(Ok(receipts)) = &waits {
        let status = receipts[0]
            .status
            .as_ref()
            .expect("one bookie is no quorum");
        let problem = proto::status::from_rpc(status);
        assert!(
            matches!(problem.kind(), ErrorKind::Busy | ErrorKind::Retry),
            "{problem:?}"
        );
    }
    cluster.start_bookie(0).await;
    let (mut stream, ready) = producer(&cluster, 0).await;
    let next = ready.last_sequence_id.unwrap() + 1;
    assert!(next == 3 || next == 4, "{ready:?}");
    assert_eq!(
        send_acked(&mut stream, next..6).await,
        Vec::from_iter(next..6)
    );
    let (mut consumer, _) = consumer(&cluster, 0).await;
    let messages = consumer.messages(6).await.unwrap();
    let payloads: Vec<_> = messages.iter().map(|m| m.payload.clone()).collect();
    assert_eq!(payloads, ["m0", "m1", "m2", "m3", "m4", "m5"]);
}

#[tokio::test(start_paused = true)]
async fn everything_acked_is_there_after_power_failed_everywhere() {
    let mut cluster = Cluster::full().await;
    let (mut stream, _) = producer(&cluster, 0).await;
    send_acked(&mut stream, 0..20).await;
    let (mut before, ready) = consumer(&cluster, 1).await;
    before.messages(20).await.unwrap();
    before.ack(1, 0, 5, ready.generation).await;
    for index in 0..2 {
        cluster.kill_serving(index).await;
    }
    for index in 0..3 {
        cluster.kill_bookie(index).await;
    }
    cluster.kill_meta().await;

    cluster.start_meta().await;
    for index in 0..3 {
        cluster.start_bookie(index).await;
    }
    for index in 0..2 {
        cluster.start_serving(index).await;
    }
    let (mut after, ready) = consumer(&cluster, 1).await;
    assert_eq!(ready.cursor, 5);
    let messages = after.messages(15).await.unwrap();
    assert_eq!(offsets(&messages), Vec::from_iter(5..20));
    let (mut stream, ready) = producer(&cluster, 0).await;
    assert_eq!(ready.last_sequence_id, Some(19));
    assert_eq!(send_acked(&mut stream, 20..22).await, [20, 21]);
}

#[tokio::test(start_paused = true)]
async fn while_meta_is_away_a_topic_is_served_as_before() {
    let mut cluster = Cluster::start(three(1)).await;
    let (mut stream, _) = producer(&cluster, 0).await;
    send_acked(&mut stream, 0..2).await;
    cluster.kill_meta().await;
    assert_eq!(send_acked(&mut stream, 2..4).await, [2, 3]);
    tokio::time::sleep(Duration::from_secs(20)).await;
    cluster.start_meta().await;
    let (mut stream, _) = producer(&cluster, 0).await;
    assert_eq!(send_acked(&mut stream, 4..6).await, [4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_bookie_that_comes_back_after_a_power_loss_holds_what_it_promised() {
    let mut cluster = Cluster::start(three(1)).await;
    let mut seen = BTreeSet::new();
    for round in 0..3_usize {
        let (mut stream, ready) = producer(&cluster, 0).await;
        let next = ready.last_sequence_id.map_or(0, |last| last + 1);
        seen.extend(send_acked(&mut stream, next..next + 4).await);
        cluster.kill_bookie(round).await;
        seen.extend(send_acked(&mut stream, next + 4..next + 6).await);
        cluster.start_bookie(round).await;
    }
    assert_eq!(Vec::from_iter(seen), Vec::from_iter(0..18));
    let (mut consumer, _) = consumer(&cluster, 0).await;
    let messages = consumer.messages(18).await.unwrap();
    for (number, message) in (0_u64..).zip(&messages) {
        assert_eq!(message.offset, number);
        assert_eq!(message.payload, format!("m{number}"));
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_disks_are_full_publishing_waits_and_reading_goes_on() {
    let cluster = Cluster::start(three(1)).await;
    let (mut stream, _) = producer(&cluster, 0).await;
    send_acked(&mut stream, 0..3).await;
    // A subscription that is to be made needs room; one that is there does not.
    drop(consumer(&cluster, 0).await);
    for index in 0..3 {
        cluster.disk(index).set_capacity(Some(6 << 20));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    stream.send(3, batch(["m3"])).await;
    let waits = tokio::time::timeout(Duration::from_secs(20), stream.receipts(1)).await;
    assert!(waits.is_err(), "no receipt before it is stored: {waits:?}");
    let (mut consumer, ready) = consumer(&cluster, 0).await;
    assert_eq!(offsets(&consumer.messages(3).await.unwrap()), [0, 1, 2]);
    let mut admin = SubscriptionServiceClient::new(cluster.client(0));
    let late = admin
        .create_subscription(create_subscription("orders", "late"))
        .await;
    let problem = from_status(&late.unwrap_err());
    assert_eq!(problem.reason, Reason::OutcomeUnknown, "{problem:?}");

    for index in 0..3 {
        cluster.disk(index).set_capacity(None);
    }
    let receipt = stream.receipt().await;
    assert_eq!(receipt.first.unwrap().offset, 3, "it is stored, once");
    assert_eq!(send_acked(&mut stream, 4..6).await, [4, 5]);
    assert_eq!(offsets(&consumer.messages(3).await.unwrap()), [3, 4, 5]);
    consumer.ack(1, 0, 6, ready.generation).await;
    admin
        .create_subscription(create_subscription("orders", "late"))
        .await
        .expect("repeated, it goes on with what was begun");
}

#[tokio::test(start_paused = true)]
async fn a_bookie_whose_sync_fails_ends_and_publishing_goes_on_without_it() {
    let cluster = Cluster::full().await;
    let (mut stream, _) = producer(&cluster, 0).await;
    send_acked(&mut stream, 0..5).await;
    cluster.disk(0).fail_next(OpKind::Sync, Fault::Io);
    send_acked(&mut stream, 5..10).await;
    let failure = cluster.bookie_failure(0).await;
    assert!(failure.reason.contains("storage failed"), "{failure}");
    send_acked(&mut stream, 10..15).await;
}
