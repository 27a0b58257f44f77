//! Shards that move as planned: balance, drained nodes, clean stops.

use std::collections::BTreeMap;
use std::time::Duration;

use pb::cluster_service_client::ClusterServiceClient;
use pb::publisher_client::PublisherClient;
use pb::routing_client::RoutingClient;
use pb::topic_service_client::TopicServiceClient;
use proto::raw::v1 as pb;
use proto::status::from_status;
use types::{Quorum, Reason};

use crate::admin::create_subscription;
use crate::support::{
    Cluster, Consuming, Plan, Publishing, batch, body, in_time, offsets, open_consumer,
    open_producer, until,
};

const SHARED: pb::SubscriptionMode = pb::SubscriptionMode::Shared;

/// One bookie, and so many serving nodes that move what they like at once.
async fn cluster(serving: usize) -> Cluster {
    Cluster::start(Plan {
        serving,
        rest: Duration::ZERO,
        ..Plan::default()
    })
    .await
}

/// The same, with nodes that move nothing for the sake of balance.
async fn resting(serving: usize) -> Cluster {
    Cluster::start(Plan {
        serving,
        ..Plan::default()
    })
    .await
}

async fn status(cluster: &Cluster, node: usize) -> pb::ClusterStatus {
    let mut client = ClusterServiceClient::new(cluster.client(node));
    let request = pb::GetClusterStatusRequest {};
    let answer = in_time(client.get_cluster_status(request)).await;
    answer.unwrap().into_inner()
}

/// How many shards each serving node has.
async fn shards(cluster: &Cluster, node: usize) -> BTreeMap<String, u64> {
    let status = status(cluster, node).await;
    let serving = status.nodes.into_iter();
    let serving = serving.filter(|it| it.role() == pb::NodeRole::Serving);
    serving.map(|it| (it.name, it.shards)).collect()
}

async fn wait_for_shards(cluster: &Cluster, node: usize, wanted: &[(&str, u64)]) {
    let wanted = wanted
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count));
    let wanted: BTreeMap<_, _> = wanted.collect();
    let mut seen = BTreeMap::new();
    for _ in 0..300 {
        seen = shards(cluster, node).await;
        if seen == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{seen:?} is not {wanted:?}");
}

async fn drain(
    cluster: &Cluster,
    node: usize,
    name: &str,
    draining: bool,
) -> Result<(), tonic::Status> {
    let mut client = ClusterServiceClient::new(cluster.client(node));
    let request = pb::DrainNodeRequest {
        node: name.to_owned(),
        draining,
        ..pb::DrainNodeRequest::default()
    };
    in_time(client.drain_node(request)).await.map(drop)
}

async fn publish_to(cluster: &Cluster, node: usize, topics: &[&str]) {
    for topic in topics {
        let mut client = PublisherClient::new(cluster.client(node));
        let request = body(topic, batch(["m"]));
        in_time(client.publish(request)).await.unwrap();
    }
}

async fn create(cluster: &Cluster, topics: &[&str]) {
    for name in topics {
        let mut client = TopicServiceClient::new(cluster.client(0));
        let request = pb::CreateTopicRequest {
            topic_id: (*name).to_owned(),
            ..pb::CreateTopicRequest::default()
        };
        in_time(client.create_topic(request)).await.unwrap();
    }
}

/// Who serves a topic, by asking a node.
async fn owner(cluster: &Cluster, node: usize, topic: &str) -> String {
    let ask = || async {
        let mut client = RoutingClient::new(cluster.client(node));
        let topic = topic.to_owned();
        let answer = client.lookup_topic(pb::LookupTopicRequest { topic }).await;
        answer.map(|answer| answer.into_inner().shards[0].endpoint.clone())
    };
    until(ask).await
}

/// The owner that the end of a stream names, to be asked at once.
fn named_owner(status: &tonic::Status) -> String {
    let problem = from_status(status);
    assert_eq!(problem.reason, Reason::NotOwner, "{problem:?}");
    assert_eq!(problem.retry_after, Some(Duration::ZERO));
    problem.metadata["owner_endpoint"].clone()
}

#[tokio::test(start_paused = true)]
async fn topics_that_one_node_has_opened_are_spread_over_all() {
    let cluster = cluster(3).await;
    publish_to(&cluster, 0, &["a", "b", "c", "d", "e", "f"]).await;
    let wanted = [("serving-1", 2), ("serving-2", 2), ("serving-3", 2)];
    wait_for_shards(&cluster, 1, &wanted).await;
    let metrics = cluster.monitor_serving(0).await.metrics().await;
    assert_eq!(metrics.sum("ledgerline_serving_moves_total"), 4.0);
    assert_eq!(metrics.sum("ledgerline_serving_move_seconds_count"), 4.0);
    // And they stay.
    let before = [owner(&cluster, 0, "a").await, owner(&cluster, 0, "f").await];
    tokio::time::sleep(Duration::from_secs(120)).await;
    let after = [owner(&cluster, 2, "a").await, owner(&cluster, 2, "f").await];
    assert_eq!(before, after);
    wait_for_shards(&cluster, 1, &wanted).await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_nobody_asks_for_is_opened_once_and_by_one() {
    let mut cluster = resting(2).await;
    create(&cluster, &["quiet", "still"]).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let counts = shards(&cluster, 0).await;
    assert_eq!(counts.values().sum::<u64>(), 2, "{counts:?}");
    let mut unasked = 0.0;
    for node in 0..2 {
        let metrics = cluster.monitor_serving(node).await.metrics().await;
        unasked += metrics.sum("ledgerline_serving_shards_opened_unasked_total");
    }
    assert_eq!(unasked, 2.0);
    // Also after all that had them died.
    cluster.kill_serving(0).await;
    wait_for_shards(&cluster, 1, &[("serving-1", 0), ("serving-2", 2)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_moves_away_from_a_drained_node_and_its_clients_lose_nothing() {
    let plan = Plan {
        bookies: 3,
        serving: 3,
        quorum: Quorum::THREE_TWO,
        ..Plan::default()
    };
    let cluster = Cluster::start(plan).await;
    let name = "orders/subscriptions/s";
    let (mut stream, _) =
        until(|| Publishing::open(cluster.client(0), open_producer("orders", "p"))).await;
    let created = pb::CreateSubscriptionRequest {
        subscription: Some(pb::Subscription {
            mode: SHARED.into(),
            ..pb::Subscription::default()
        }),
        ..create_subscription("orders", "s")
    };
    let mut admin =
        pb::subscription_service_client::SubscriptionServiceClient::new(cluster.client(0));
    admin.create_subscription(created).await.unwrap();
    let (mut consumer, _) =
        until(|| Consuming::open(cluster.client(2), open_consumer(name, SHARED))).await;
    for number in 0..5 {
        stream.send(number, batch([format!("m{number}")])).await;
        assert_eq!(stream.receipt().await.status, None);
    }
    assert_eq!(
        offsets(&consumer.messages(5).await.unwrap()),
        [0, 1, 2, 3, 4]
    );
    assert_eq!(owner(&cluster, 0, "orders").await, cluster.endpoint(0));

    drain(&cluster, 1, "serving-1", true).await.unwrap();
    // Both ends are told to come again at once, and where.
    let to = named_owner(&loop {
        if let Err(status) = stream.next().await {
            break status;
        }
    });
    assert_ne!(to, cluster.endpoint(0));
    let named = named_owner(&loop {
        if let Err(status) = consumer.next().await {
            break status;
        }
    });
    assert_eq!(named, to);

    // Whichever node is asked: the drained one passes on, and holds nothing any more.
    for node in 0..3 {
        assert_eq!(owner(&cluster, node, "orders").await, to);
    }
    let (mut stream, ready) =
        until(|| Publishing::open(cluster.client(0), open_producer("orders", "p"))).await;
    assert_eq!(ready.last_sequence_id, Some(4));
    stream.send(5, batch(["m5"])).await;
    assert_eq!(stream.receipt().await.first.unwrap().offset, 5);
    let (mut consumer, _) =
        until(|| Consuming::open(cluster.client(0), open_consumer(name, SHARED))).await;
    let again = consumer.messages(6).await.unwrap();
    assert_eq!(offsets(&again), [0, 1, 2, 3, 4, 5]);
    let nodes = status(&cluster, 0).await.nodes;
    let drained = nodes.iter().find(|it| it.name == "serving-1").unwrap();
    assert!(drained.draining, "{drained:?}");
    assert_eq!(drained.shards, 0);
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_opens_nothing_also_after_a_restart_until_it_is_taken_back() {
    let mut cluster = cluster(2).await;
    drain(&cluster, 0, "serving-1", true).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    publish_to(&cluster, 0, &["a", "b"]).await;
    wait_for_shards(&cluster, 0, &[("serving-1", 0), ("serving-2", 2)]).await;
    cluster.stop_serving(0).await;
    cluster.start_serving(0).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    publish_to(&cluster, 0, &["c", "d"]).await;
    wait_for_shards(&cluster, 0, &[("serving-1", 0), ("serving-2", 4)]).await;
    drain(&cluster, 0, "serving-1", false).await.unwrap();
    wait_for_shards(&cluster, 0, &[("serving-1", 2), ("serving-2", 2)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_that_is_the_last_one_alive_serves() {
    let mut cluster = resting(2).await;
    drain(&cluster, 0, "serving-1", true).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    publish_to(&cluster, 0, &["a"]).await;
    cluster.kill_serving(1).await;
    let publish = || async {
        let mut client = PublisherClient::new(cluster.client(0));
        client.publish(body("a", batch(["m"]))).await
    };
    until(publish).await;
    assert_eq!(owner(&cluster, 0, "a").await, cluster.endpoint(0));
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_refused_for_a_name_that_nobody_has_and_for_the_last_node() {
    let mut cluster = resting(2).await;
    for draining in [true, false] {
        let problem = from_status(&drain(&cluster, 0, "nobody", draining).await.unwrap_err());
        assert_eq!(problem.reason, Reason::BadField, "{problem:?}");
        assert!(problem.message.contains("name=nobody"), "{problem:?}");
    }
    drain(&cluster, 0, "serving-1", true).await.unwrap();
    let problem = from_status(&drain(&cluster, 0, "serving-2", true).await.unwrap_err());
    assert!(problem.message.contains("live=2 drained=1"), "{problem:?}");
    cluster.stop_serving(1).await;
    drain(&cluster, 0, "serving-1", false).await.unwrap();
    let problem = from_status(&drain(&cluster, 0, "serving-1", true).await.unwrap_err());
    assert!(problem.message.contains("live=1 drained=0"), "{problem:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_gives_all_topics_to_others_before_the_node_is_gone() {
    let mut cluster = resting(3).await;
    let topics = ["a", "b", "c", "d", "e", "f"];
    publish_to(&cluster, 0, &topics).await;
    wait_for_shards(
        &cluster,
        1,
        &[("serving-1", 6), ("serving-2", 0), ("serving-3", 0)],
    )
    .await;
    cluster.stop_serving(0).await;
    let counts = shards(&cluster, 1).await;
    let wanted = [("serving-2", 3), ("serving-3", 3)];
    let wanted = wanted.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(counts, BTreeMap::from(wanted));
    // Nobody had to be asked for that.
    publish_to(&cluster, 1, &topics).await;
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_does_not_wait_out_its_time_for_a_topic_that_cannot_be_written() {
    for serving in [1, 2] {
        let mut cluster = resting(serving).await;
        let open = || Publishing::open(cluster.client(0), open_producer("orders", "p"));
        let (mut stream, _) = until(open).await;
        stream.send(0, batch(["m0"])).await;
        assert_eq!(stream.receipt().await.status, None);
        cluster.disk(0).set_capacity(Some(2 << 20));
        tokio::time::sleep(Duration::from_secs(5)).await;
        stream.send(1, batch(["m1"])).await;
        let waits = tokio::time::timeout(Duration::from_secs(1), stream.receipts(1)).await;
        assert!(waits.is_err(), "{waits:?}");
        let begun = tokio::time::Instant::now();
        cluster.stop_serving(0).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(6), "{took:?}");
        // Nothing of it is lost to the next owner.
        cluster.disk(0).set_capacity(None);
        cluster.start_serving(0).await;
        let open = || Publishing::open(cluster.client(0), open_producer("orders", "p"));
        let (mut stream, ready) = until(open).await;
        let next = ready.last_sequence_id.unwrap() + 1;
        stream.send(next, batch(["next"])).await;
        assert_eq!(stream.receipt().await.first.unwrap().offset, next);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_finds_the_next_owner_dead_gives_its_topics_up() {
    let mut cluster = resting(2).await;
    publish_to(&cluster, 0, &["a"]).await;
    // Its address answers no more, and meta does not know that yet.
    cluster.kill_serving(1).await;
    cluster.stop_serving(0).await;
    cluster.start_serving(0).await;
    let publish = || async {
        let mut client = PublisherClient::new(cluster.client(0));
        client.publish(body("a", batch(["m"]))).await
    };
    until(publish).await;
}
