//! What a monitor sees of nodes at their admin ports.

use std::time::Duration;

use proto::raw::v1 as pb;
use proto::raw::v1::publisher_client::PublisherClient;
use proto::status::from_status;
use tests::page::Page;
use types::Reason;

use crate::support::{
    Cluster, Consuming, Monitor, Plan, Publishing, batch, body, open_consumer, open_producer,
};

const SHARED: pb::SubscriptionMode = pb::SubscriptionMode::Shared;

/// How much a number has grown. Both pages must tell it.
fn grown(before: &Page, after: &Page, name: &str, labels: &[(&str, &str)]) -> f64 {
    let value = |page: &Page| {
        let value = page.get(name, labels);
        value.unwrap_or_else(|| panic!("no {name} {labels:?}"))
    };
    value(after) - value(before)
}

async fn publisher(cluster: &Cluster) -> Publishing {
    let opened = Publishing::open(cluster.client(0), open_producer("orders", "p")).await;
    opened.unwrap().0
}

#[tokio::test(start_paused = true)]
async fn a_serving_node_counts_what_is_published_delivered_and_acked() {
    let cluster = Cluster::small().await;
    let monitor = cluster.monitor_serving(0).await;
    let mut stream = publisher(&cluster).await;
    let before = monitor.metrics().await;
    let (one, two) = (batch(["a", "b"]), batch(["c"]));
    let bytes = one.len() + two.len();
    stream.send(0, one.clone()).await;
    stream.receipt().await;
    stream.send(2, two).await;
    stream.receipt().await;
    stream.send(0, one).await;
    assert!(stream.receipt().await.duplicate);
    stream.send(7, batch(["x"])).await;
    stream.receipt().await;
    let subscription = open_consumer("orders/subscriptions/s", SHARED);
    let opened = Consuming::open(cluster.client(0), subscription).await;
    let (mut consumer, ready) = opened.unwrap();
    consumer.messages(3).await.unwrap();
    consumer.ack(1, 0, 3, ready.generation).await;
    let after = monitor.metrics().await;

    let name = |end: &str| format!("ledgerline_serving_{end}");
    let grown = |end: &str, labels: &[_]| grown(&before, &after, &name(end), labels);
    let stored = [("result", "stored")];
    assert_eq!(grown("published_batches_total", &stored), 2.0);
    assert_eq!(grown("published_messages_total", &stored), 3.0);
    assert_eq!(grown("published_bytes_total", &stored), bytes as f64);
    let duplicate = [("result", "duplicate")];
    assert_eq!(grown("published_batches_total", &duplicate), 1.0);
    let refused = [("reason", "SEQUENCE_OUT_OF_ORDER")];
    assert_eq!(grown("batches_refused_total", &refused), 1.0);
    assert_eq!(grown("publish_seconds_count", &[]), 4.0);
    assert_eq!(grown("delivered_messages_total", &[]), 3.0);
    assert_eq!(grown("redelivered_messages_total", &[]), 0.0);
    assert_eq!(grown("acks_total", &[("kind", "ack")]), 1.0);
    let streams = |page: &Page, kind| page.get(&name("streams"), &[("kind", kind)]);
    assert_eq!(streams(&after, "publish"), Some(1.0));
    assert_eq!(streams(&after, "consume"), Some(1.0));
    assert_eq!(
        after.get(&name("shards"), &[("state", "serving")]),
        Some(1.0)
    );
    assert_eq!(after.get(&name("memory_used_bytes"), &[]), Some(0.0));
    assert_eq!(after.get(&name("lease_certain"), &[]), Some(1.0));
    assert!(after.get("process_start_time_seconds", &[]).is_some());

    drop((stream, consumer));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let later = monitor.metrics().await;
    assert_eq!(later.sum(&name("streams")), 0.0, "they were closed");
    assert_eq!(
        later.names().collect::<Vec<_>>(),
        after.names().collect::<Vec<_>>()
    );
}

#[tokio::test(start_paused = true)]
async fn what_comes_again_is_counted_as_such() {
    let cluster = Cluster::small().await;
    let monitor = cluster.monitor_serving(0).await;
    let mut stream = publisher(&cluster).await;
    stream.send(0, batch(["a", "b"])).await;
    stream.receipt().await;
    for times in [1.0, 2.0] {
        let subscription = open_consumer("orders/subscriptions/s", SHARED);
        let opened = Consuming::open(cluster.client(0), subscription).await;
        opened.unwrap().0.messages(2).await.unwrap();
        let page = monitor.metrics().await;
        let delivered = page.sum("ledgerline_serving_delivered_messages_total");
        assert_eq!(delivered, 2.0 * times);
        let again = page.sum("ledgerline_serving_redelivered_messages_total");
        assert_eq!(again, 2.0 * (times - 1.0));
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_of_calls_and_of_streams_are_counted_by_reason() {
    let plan = Plan {
        auto_create_topics: false,
        ..Plan::default()
    };
    let cluster = Cluster::start(plan).await;
    let monitor = cluster.monitor_serving(0).await;
    let name = "ledgerline_serving_requests_refused_total";
    let labels = [("reason", "TOPIC_NOT_FOUND")];
    let before = monitor.metrics().await;
    let mut client = PublisherClient::new(cluster.client(0));
    let answer = client.publish(body("orders", batch(["a"]))).await;
    assert_eq!(
        from_status(&answer.unwrap_err()).reason,
        Reason::TopicNotFound
    );
    let between = monitor.metrics().await;
    assert_eq!(grown(&before, &between, name, &labels), 1.0);
    let opened = Publishing::open(cluster.client(0), open_producer("orders", "p")).await;
    assert_eq!(
        from_status(&opened.unwrap_err()).reason,
        Reason::TopicNotFound
    );
    let after = monitor.metrics().await;
    assert_eq!(grown(&between, &after, name, &labels), 1.0);
    assert_eq!(after.sum(name), 2.0, "and nothing else was");
}

#[tokio::test(start_paused = true)]
async fn a_bookie_and_meta_count_what_a_message_costs_them() {
    let cluster = Cluster::small().await;
    let (bookie, meta) = (
        cluster.monitor_bookie(0).await,
        cluster.monitor_meta().await,
    );
    let (before, meta_before) = (bookie.metrics().await, meta.metrics().await);
    let mut stream = publisher(&cluster).await;
    stream.send(0, batch(["a", "b"])).await;
    stream.receipt().await;
    // The engine's own numbers are told now and then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (after, meta_after) = (bookie.metrics().await, meta.metrics().await);

    let name = |end: &str| format!("ledgerline_bookie_{end}");
    let grown_by = |end: &str, labels: &[_]| grown(&before, &after, &name(end), labels);
    assert!(grown_by("adds_total", &[("result", "stored")]) >= 1.0);
    assert!(grown_by("stored_bytes_total", &[]) >= 2.0);
    assert!(grown_by("journal_sync_seconds_count", &[]) >= 1.0);
    assert!(grown_by("journal_records_total", &[]) >= 1.0);
    assert!(after.get(&name("memtable_bytes"), &[]) > Some(0.0));
    assert!(after.get(&name("free_bytes"), &[]) > Some(0.0));
    assert_eq!(after.get(&name("writable"), &[]), Some(1.0));
    assert_eq!(after.get(&name("journal_queue_bytes"), &[]), Some(0.0));

    let commands = "ledgerline_meta_commands_total";
    for kind in ["create_topic", "claim_shard"] {
        let labels = [("kind", kind), ("outcome", "done")];
        assert!(meta_after.get(commands, &labels) >= Some(1.0), "{kind}");
    }
    let commits = "ledgerline_meta_commit_seconds_count";
    assert!(grown(&meta_before, &meta_after, commits, &[]) >= 2.0);
    assert!(grown(&meta_before, &meta_after, "ledgerline_meta_revision", &[]) >= 2.0);
    assert_eq!(meta_after.get("ledgerline_meta_leases", &[]), Some(2.0));
}

async fn ready(monitor: &Monitor) -> (u16, String) {
    assert_eq!(
        monitor.get("/healthz").await.0,
        200,
        "it works all the time"
    );
    monitor.get("/readyz").await
}

fn ok() -> (u16, String) {
    (200, "ok\n".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_node_that_drains_is_not_ready() {
    let mut cluster = Cluster::small().await;
    let monitor = cluster.monitor_serving(0).await;
    let mut stream = publisher(&cluster).await;
    stream.send(0, batch(["a"])).await;
    stream.receipt().await;
    assert_eq!(ready(&monitor).await, ok());
    // What is in flight cannot be confirmed: the drain takes all the time it has.
    cluster.kill_bookie(0).await;
    stream.send(1, batch(["b"])).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let watched = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        ready(&monitor).await
    };
    let ((), draining) = tokio::join!(cluster.stop_serving(0), watched);
    assert_eq!(draining, (503, "serving: draining\n".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_bookie_is_not_ready_while_its_disk_is_nearly_full() {
    let cluster = Cluster::small().await;
    let monitor = cluster.monitor_bookie(0).await;
    assert_eq!(ready(&monitor).await, ok());
    cluster.disk(0).set_capacity(Some(4 << 20));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let full = "bookie: read-only, a disk is nearly full\n".to_owned();
    assert_eq!(ready(&monitor).await, (503, full));
    let page = monitor.metrics().await;
    assert_eq!(page.get("ledgerline_bookie_writable", &[]), Some(0.0));
    cluster.disk(0).set_capacity(None);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(ready(&monitor).await, ok());
}

#[tokio::test(start_paused = true)]
async fn nodes_that_meta_does_not_hear_are_not_ready_until_it_does() {
    let mut cluster = Cluster::small().await;
    let nodes = [
        cluster.monitor_serving(0).await,
        cluster.monitor_bookie(0).await,
    ];
    assert_eq!(ready(&cluster.monitor_meta().await).await, ok());
    cluster.kill_meta().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for (monitor, part) in nodes.iter().zip(["serving", "bookie"]) {
        let away = format!("{part}: meta is not reachable\n");
        assert_eq!(ready(monitor).await, (503, away));
    }
    cluster.start_meta().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    for monitor in &nodes {
        assert_eq!(ready(monitor).await, ok());
    }
}
