//! What rots on a disk is made good from other copies before they are needed.

use std::time::Duration;

use proto::raw::v1 as pb;
use proto::raw::v1::publisher_client::PublisherClient;

use crate::support::{Cluster, Consuming, Monitor, batch, body, offsets, open_consumer, until};

/// Bytes of each message here: some tens of them fill a memtable.
const SIZE: usize = 50_000;
/// Messages: several data files of them.
const COUNT: usize = 100;

async fn metric(monitor: &Monitor, name: &str) -> f64 {
    let name = format!("ledgerline_bookie_{name}");
    monitor.metrics().await.sum(&name)
}

#[tokio::test(start_paused = true)]
async fn a_rotten_copy_is_made_good_and_serves_alone_when_the_others_are_gone() {
    let mut cluster = Cluster::full().await;
    let payload = "x".repeat(SIZE);
    for _ in 0..COUNT {
        until(async || {
            let mut client = PublisherClient::new(cluster.client(0));
            client.publish(body("orders", batch([&payload]))).await
        })
        .await;
    }
    // The next owner closes the ledger; the copies are found whole.
    cluster.stop_serving(0).await;
    cluster.start_serving(0).await;
    let open = open_consumer(
        "orders/subscriptions/audit",
        pb::SubscriptionMode::Exclusive,
    );
    let opened = Consuming::open(cluster.client(0), open.clone()).await;
    drop(opened.unwrap());
    tokio::time::sleep(Duration::from_secs(60)).await;

    let disk = cluster.disk(0);
    let mut data = disk.files();
    data.retain(|path| path.extension().is_some_and(|end| end == "data"));
    assert!(data.len() > 1, "{data:?}");
    for path in &data {
        let half = disk.contents(path).unwrap().len() as u64 / 2;
        disk.flip(path, half * 8).unwrap();
    }
    let monitor = cluster.monitor_bookie(0).await;
    assert_eq!(metric(&monitor, "damaged_blocks_total").await, 0.0);
    // The first pass begins within ten minutes.
    tokio::time::sleep(Duration::from_secs(660)).await;
    assert!(metric(&monitor, "damaged_blocks_total").await >= data.len() as f64);
    assert!(metric(&monitor, "repair_mended_ledgers_total").await > 0.0);

    cluster.kill_bookie(1).await;
    cluster.kill_bookie(2).await;
    let (mut consumer, _) = Consuming::open(cluster.client(0), open).await.unwrap();
    let messages = consumer.messages(COUNT).await.unwrap();
    assert_eq!(offsets(&messages), (0..COUNT as u64).collect::<Vec<_>>());
}
