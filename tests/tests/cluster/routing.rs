//! Who serves what, and what a server is.

use pb::routing_client::RoutingClient;
use proto::raw::v1 as pb;
use tonic::Code;
use types::Reason;

use crate::support::{BATCH_MAX, Cluster, MESSAGE_MAX, Plan, in_time, refused, topic_of};

fn lookup(topic: &str) -> pb::LookupTopicRequest {
    pb::LookupTopicRequest {
        topic: topic.to_owned(),
    }
}

fn watch(topic: &str) -> pb::WatchTopicRequest {
    pb::WatchTopicRequest {
        topic: topic.to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn every_node_names_the_one_owner() {
    let cluster = Cluster::full().await;
    let mut routes = Vec::new();
    for node in [1, 0, 1] {
        let mut client = RoutingClient::new(cluster.client(node));
        let route = client.lookup_topic(lookup("orders")).await.unwrap();
        routes.push(route.into_inner());
    }
    assert_eq!(routes[0].topic, topic_of("orders"));
    let [shard] = &routes[0].shards[..] else {
        panic!("{routes:?}");
    };
    assert_eq!(shard.endpoint, cluster.endpoint(1), "who was asked first");
    assert!(shard.epoch > 0);
    assert!(routes.iter().all(|route| *route == routes[0]), "{routes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_the_route_and_its_change() {
    let mut cluster = Cluster::full().await;
    let mut owner = RoutingClient::new(cluster.client(0));
    owner.lookup_topic(lookup("orders")).await.unwrap();
    let mut client = RoutingClient::new(cluster.client(1));
    let mut routes = client
        .watch_topic(watch("orders"))
        .await
        .unwrap()
        .into_inner();
    let before = in_time(routes.message()).await.unwrap().unwrap();
    assert_eq!(before.shards[0].endpoint, cluster.endpoint(0));
    cluster.kill_serving(0).await;
    let after = in_time(routes.message()).await.unwrap().unwrap();
    assert_eq!(after.shards[0].endpoint, cluster.endpoint(1));
    assert!(after.shards[0].epoch > before.shards[0].epoch);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_cannot_be_looked_up_is_named() {
    let plan = Plan {
        auto_create_topics: false,
        ..Plan::default()
    };
    let cluster = Cluster::start(plan).await;
    let mut client = RoutingClient::new(cluster.client(0));
    for name in ["", "a b", "tenants/a"] {
        let answer = client.lookup_topic(lookup(name)).await;
        refused(answer, Code::InvalidArgument, Reason::BadField, "topic");
        let answer = client.watch_topic(watch(name)).await;
        refused(answer, Code::InvalidArgument, Reason::BadField, "topic");
    }
    let (code, reason) = (Code::NotFound, Reason::TopicNotFound);
    refused(
        client.lookup_topic(lookup("orders")).await,
        code,
        reason,
        "",
    );
    refused(client.watch_topic(watch("orders")).await, code, reason, "");
}

#[tokio::test(start_paused = true)]
async fn a_server_says_what_it_takes() {
    let cluster = Cluster::small().await;
    let mut client = RoutingClient::new(cluster.client(0));
    let info = client.get_server_info(pb::GetServerInfoRequest {}).await;
    let info = info.unwrap().into_inner();
    assert_eq!(info.node, "serving-1");
    assert_eq!(info.cluster_id.len(), 32);
    assert!(!info.version.is_empty());
    let limits = info.limits.unwrap();
    assert_eq!(limits.message_bytes_max, MESSAGE_MAX as u64);
    assert_eq!(limits.batch_bytes_max, BATCH_MAX as u64);
    assert!(limits.batch_messages_max > 0 && limits.page_size_max > 0);
    assert!(limits.unacked_messages_max > 0 && limits.ranges_max > 0);
}
