//! A serving node in the process of its bookie, as in standalone: entries need no connection.

use std::time::Duration;

use host::disk::sim::Latency;

use crate::consume::publish;
use crate::support::{Cluster, Plan, Publishing, batch, open_producer, until};

async fn beside() -> Cluster {
    let plan = Plan {
        beside: true,
        ..Plan::default()
    };
    Cluster::start(plan).await
}

#[tokio::test(start_paused = true)]
async fn entries_reach_a_bookie_of_the_same_process_without_a_connection() {
    let cluster = beside().await;
    publish(&cluster, "orders", &["a"]).await;
    cluster.cut_off_bookie(0);
    let more: Vec<String> = (0..100).map(|number| format!("message {number}")).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    publish(&cluster, "orders", &more).await;
}

#[tokio::test(start_paused = true)]
async fn a_bookie_stops_at_once_although_a_serving_node_of_its_process_hands_it_adds() {
    let mut cluster = beside().await;
    publish(&cluster, "orders", &["a"]).await;
    let began = tokio::time::Instant::now();
    cluster.stop_bookie(0).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_serving_node_that_is_killed_with_adds_at_its_bookie_comes_back_and_acks_what_is_synced()
{
    let mut cluster = beside().await;
    publish(&cluster, "orders", &["a"]).await;
    let open = || open_producer("orders", "press");
    let (mut stream, _) = Publishing::open(cluster.client(0), open()).await.unwrap();
    let sync = Duration::from_millis(400);
    let latency = |per_sync| Latency {
        per_sync,
        ..Latency::default()
    };
    cluster.disk(0).set_latency(latency(sync));
    for number in 0..8 {
        stream.send(number, batch(["of the first"])).await;
    }
    tokio::time::sleep(sync / 4).await;
    cluster.kill_serving(0).await;
    assert!(stream.receipts(8).await.is_err(), "the stream is over");
    cluster.start_serving(0).await;

    let (mut stream, ready) = until(|| Publishing::open(cluster.client(0), open())).await;
    let next = ready.last_sequence_id.map_or(0, |last| last + 1);
    let began = tokio::time::Instant::now();
    stream.send(next, batch(["of the next"])).await;
    let receipt = stream.receipt().await;
    assert_eq!(receipt.status, None, "{receipt:?}");
    let took = began.elapsed();
    assert!(took >= sync, "acked before it was synced: {took:?}");
}
