//! A serving node in the process of its bookie, as in standalone: entries need no connection.

use std::time::Duration;

use crate::consume::publish;
use crate::support::{Cluster, Plan};

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
async fn a_bookie_stops_at_once_although_a_serving_node_of_its_process_has_a_stream_of_adds() {
    let mut cluster = beside().await;
    publish(&cluster, "orders", &["a"]).await;
    let began = tokio::time::Instant::now();
    cluster.stop_bookie(0).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}
