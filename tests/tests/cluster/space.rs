//! Disks do not only grow: what a deleted topic took comes back.

use std::path::PathBuf;
use std::time::Duration;

use proto::raw::v1 as pb;
use proto::raw::v1::publisher_client::PublisherClient;
use proto::raw::v1::topic_service_client::TopicServiceClient;

use crate::support::{
    Cluster, Consuming, Monitor, batch, body, offsets, open_consumer, topic_of, until,
};

/// Bytes of each message here: some tens of them fill a memtable.
const SIZE: usize = 50_000;

async fn fill(cluster: &Cluster, topic: &str, count: usize) {
    let payload = "x".repeat(SIZE);
    for _ in 0..count {
        until(async || {
            let mut client = PublisherClient::new(cluster.client(0));
            client.publish(body(topic, batch([&payload]))).await
        })
        .await;
    }
}

/// Bytes that a bookie's data files take on its disk.
fn on_disk(cluster: &Cluster, index: usize) -> usize {
    let disk = cluster.disk(index);
    let files = disk.files();
    let is_data = |path: &&PathBuf| path.extension().is_some_and(|end| end == "data");
    let data = files.iter().filter(is_data);
    data.map(|path| disk.contents(path).unwrap().len()).sum()
}

async fn metric(monitor: &Monitor, name: &str) -> f64 {
    let name = format!("ledgerline_bookie_{name}");
    monitor.metrics().await.sum(&name)
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_gives_its_bytes_back_on_every_bookie() {
    let cluster = Cluster::full().await;
    fill(&cluster, "kept", 3).await;
    fill(&cluster, "gone", 100).await;
    let before: Vec<usize> = (0..3).map(|index| on_disk(&cluster, index)).collect();
    assert!(before.iter().all(|bytes| *bytes > 2 << 20), "{before:?}");

    until(async || {
        let name = topic_of("gone");
        let mut client = TopicServiceClient::new(cluster.client(0));
        let uid = String::new();
        client
            .delete_topic(pb::DeleteTopicRequest { name, uid })
            .await
    })
    .await;
    // Two rounds of asking, and what the engine then does.
    tokio::time::sleep(Duration::from_secs(70)).await;
    for (index, before) in before.iter().enumerate() {
        let after = on_disk(&cluster, index);
        assert!(after < before / 4, "{index}: {before} {after}");
        let monitor = cluster.monitor_bookie(index).await;
        assert_eq!(metric(&monitor, "data_reclaimable_bytes").await, 0.0);
        assert!(metric(&monitor, "data_files_dropped_total").await > 0.0);
    }

    let open = open_consumer("kept/subscriptions/audit", pb::SubscriptionMode::Exclusive);
    let (mut consumer, _) = Consuming::open(cluster.client(0), open).await.unwrap();
    let messages = consumer.messages(3).await.unwrap();
    assert_eq!(offsets(&messages), [0, 1, 2], "the other topic is whole");
}
