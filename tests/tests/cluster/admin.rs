//! Tenants, namespaces, topics, subscriptions, and how they stand.

use pb::cluster_service_client::ClusterServiceClient;
use pb::namespace_service_client::NamespaceServiceClient;
use pb::subscription_service_client::SubscriptionServiceClient;
use pb::tenant_service_client::TenantServiceClient;
use pb::topic_service_client::TopicServiceClient;
use prost_types::Duration as Span;
use proto::raw::v1 as pb;
use tonic::Code;
use types::{Quorum, Reason};

use crate::consume::publish;
use crate::support::{Cluster, Consuming, Plan, offsets, open_consumer, refused, topic_of, until};

const BAD: (Code, Reason) = (Code::InvalidArgument, Reason::BadField);

/// Names that cannot be, as the last part of a name.
const NO_NAMES: [&str; 6] = ["", "a b", ".", "..", "a/b", "\u{202e}"];

#[tokio::test(start_paused = true)]
async fn tenants_are_made_read_and_listed() {
    let cluster = Cluster::small().await;
    let mut client = TenantServiceClient::new(cluster.client(0));
    let create = |id: &str| pb::CreateTenantRequest {
        tenant: None,
        tenant_id: id.to_owned(),
    };
    for id in ["b", "a"] {
        let tenant = client.create_tenant(create(id)).await.unwrap().into_inner();
        assert_eq!(tenant.name, format!("tenants/{id}"));
        assert!(tenant.create_time.is_some());
        let get = pb::GetTenantRequest {
            name: tenant.name.clone(),
        };
        assert_eq!(client.get_tenant(get).await.unwrap().into_inner(), tenant);
    }
    for id in NO_NAMES {
        refused(
            client.create_tenant(create(id)).await,
            BAD.0,
            BAD.1,
            "tenant_id",
        );
    }
    let answer = client.create_tenant(create("a")).await;
    let problem = refused(answer, Code::AlreadyExists, Reason::AlreadyExists, "");
    assert_eq!(problem.resource.as_deref(), Some("tenants/a"));

    let get = |name: &str| pb::GetTenantRequest {
        name: name.to_owned(),
    };
    refused(client.get_tenant(get("a")).await, BAD.0, BAD.1, "name");
    let answer = client.get_tenant(get("tenants/x")).await;
    let problem = refused(answer, Code::NotFound, Reason::TenantNotFound, "");
    assert_eq!(problem.resource.as_deref(), Some("tenants/x"));

    let list = |page_size, page_token: String| pb::ListTenantsRequest {
        page_size,
        page_token,
    };
    let answer = client.list_tenants(list(-1, String::new())).await;
    refused(answer, BAD.0, BAD.1, "page_size");
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let page = client
            .list_tenants(list(1, token))
            .await
            .unwrap()
            .into_inner();
        names.extend(page.tenants.into_iter().map(|t| t.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["tenants/a", "tenants/b", "tenants/default"]);
}

#[tokio::test(start_paused = true)]
async fn namespaces_are_made_read_and_listed() {
    let cluster = Cluster::small().await;
    let mut client = NamespaceServiceClient::new(cluster.client(0));
    let create = |parent: &str, id: &str| pb::CreateNamespaceRequest {
        parent: parent.to_owned(),
        namespace: None,
        namespace_id: id.to_owned(),
    };
    let made = client
        .create_namespace(create("tenants/default", "n"))
        .await;
    let made = made.unwrap().into_inner();
    assert_eq!(made.name, "tenants/default/namespaces/n");
    let get = |name: &str| pb::GetNamespaceRequest {
        name: name.to_owned(),
    };
    let got = client.get_namespace(get(&made.name)).await.unwrap();
    assert_eq!(got.into_inner(), made);

    for id in NO_NAMES {
        let answer = client.create_namespace(create("tenants/default", id)).await;
        refused(answer, BAD.0, BAD.1, "namespace_id");
    }
    let answer = client.create_namespace(create("default", "m")).await;
    refused(answer, BAD.0, BAD.1, "parent");
    let answer = client.create_namespace(create("tenants/x", "m")).await;
    refused(answer, Code::NotFound, Reason::TenantNotFound, "");
    let answer = client
        .create_namespace(create("tenants/default", "n"))
        .await;
    refused(answer, Code::AlreadyExists, Reason::AlreadyExists, "");
    refused(client.get_namespace(get("n")).await, BAD.0, BAD.1, "name");
    let answer = client
        .get_namespace(get("tenants/default/namespaces/x"))
        .await;
    refused(answer, Code::NotFound, Reason::NamespaceNotFound, "");

    let list = |parent: &str, page_size| pb::ListNamespacesRequest {
        parent: parent.to_owned(),
        page_size,
        page_token: String::new(),
    };
    let page = client.list_namespaces(list("tenants/default", 0)).await;
    let names: Vec<_> = page.unwrap().into_inner().namespaces;
    let names: Vec<_> = names.into_iter().map(|n| n.name).collect();
    assert_eq!(
        names,
        [
            "tenants/default/namespaces/default",
            "tenants/default/namespaces/n"
        ]
    );
    let answer = client.list_namespaces(list("tenants/default", -1)).await;
    refused(answer, BAD.0, BAD.1, "page_size");
    let answer = client.list_namespaces(list("x", 0)).await;
    refused(answer, BAD.0, BAD.1, "parent");
}

fn create_topic(parent: &str, id: &str, quorum: Option<(u32, u32)>) -> pb::CreateTopicRequest {
    pb::CreateTopicRequest {
        parent: parent.to_owned(),
        topic: quorum.map(|(write, ack)| pb::Topic {
            quorum: Some(pb::Quorum { write, ack }),
            ..pb::Topic::default()
        }),
        topic_id: id.to_owned(),
    }
}

fn get_topic(name: &str) -> pb::GetTopicRequest {
    pb::GetTopicRequest {
        name: name.to_owned(),
    }
}

fn list_topics(parent: &str, page_size: i32, page_token: &str) -> pb::ListTopicsRequest {
    pb::ListTopicsRequest {
        parent: parent.to_owned(),
        page_size,
        page_token: page_token.to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn topics_are_made_and_read() {
    let cluster = Cluster::full().await;
    let mut client = TopicServiceClient::new(cluster.client(0));
    let made = client.create_topic(create_topic("", "orders", None)).await;
    let made = made.unwrap().into_inner();
    assert_eq!(made.name, topic_of("orders"));
    assert_eq!(made.quorum, Some(pb::Quorum { write: 3, ack: 2 }));
    assert_eq!(made.shards.len(), 1);
    assert!(!made.uid.is_empty() && made.create_time.is_some());
    for name in ["orders", &made.name] {
        let got = client.get_topic(get_topic(name)).await.unwrap();
        assert_eq!(got.into_inner(), made);
    }
    let parent = "tenants/default/namespaces/default";
    let one = client
        .create_topic(create_topic(parent, "one", Some((1, 1))))
        .await;
    let one = one.unwrap().into_inner();
    assert_eq!(one.quorum, Some(pb::Quorum { write: 1, ack: 1 }));

    for id in NO_NAMES {
        let answer = client.create_topic(create_topic(parent, id, None)).await;
        refused(answer, BAD.0, BAD.1, "topic_id");
    }
    for quorum in [(0, 0), (2, 2), (2, 3), (8, 1), (u32::MAX, 1)] {
        let answer = client
            .create_topic(create_topic("", "t", Some(quorum)))
            .await;
        refused(answer, BAD.0, BAD.1, "topic.quorum");
    }
    let answer = client
        .create_topic(create_topic("default", "t", None))
        .await;
    refused(answer, BAD.0, BAD.1, "parent");
    let elsewhere = "tenants/default/namespaces/x";
    let answer = client
        .create_topic(create_topic(elsewhere, "t", None))
        .await;
    refused(answer, Code::NotFound, Reason::NamespaceNotFound, "");
    let answer = client.create_topic(create_topic("", "orders", None)).await;
    let problem = refused(answer, Code::AlreadyExists, Reason::AlreadyExists, "");
    assert_eq!(problem.resource, Some(topic_of("orders")));
    refused(
        client.get_topic(get_topic("a b")).await,
        BAD.0,
        BAD.1,
        "name",
    );
    let answer = client.get_topic(get_topic("x")).await;
    let problem = refused(answer, Code::NotFound, Reason::TopicNotFound, "");
    assert_eq!(problem.resource, Some(topic_of("x")));
}

#[tokio::test(start_paused = true)]
async fn lists_of_topics_come_in_pages_in_order_of_name() {
    let cluster = Cluster::small().await;
    let mut client = TopicServiceClient::new(cluster.client(0));
    for id in ["d", "a", "c", "b", "e"] {
        client
            .create_topic(create_topic("", id, None))
            .await
            .unwrap();
    }
    let (mut names, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = client.list_topics(list_topics("", 2, &token)).await;
        let page = page.unwrap().into_inner();
        assert!(page.topics.len() <= 2);
        names.extend(page.topics.into_iter().map(|t| t.name));
        token = page.next_page_token;
        pages += 1;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, 3);
    let expected: Vec<_> = ["a", "b", "c", "d", "e"].map(topic_of).into();
    assert_eq!(names, expected);
    let page = client.list_topics(list_topics("", i32::MAX, "")).await;
    assert_eq!(page.unwrap().into_inner().topics.len(), 5);
    let page = client.list_topics(list_topics("", 2, "no such name")).await;
    page.unwrap();
    let answer = client.list_topics(list_topics("", i32::MIN, "")).await;
    refused(answer, BAD.0, BAD.1, "page_size");
    let answer = client.list_topics(list_topics("x", 0, "")).await;
    refused(answer, BAD.0, BAD.1, "parent");
}

pub(crate) fn create_subscription(topic: &str, id: &str) -> pb::CreateSubscriptionRequest {
    pb::CreateSubscriptionRequest {
        parent: topic.to_owned(),
        subscription: None,
        subscription_id: id.to_owned(),
    }
}

fn with(set: impl FnOnce(&mut pb::Subscription)) -> pb::CreateSubscriptionRequest {
    let mut subscription = pb::Subscription::default();
    set(&mut subscription);
    pb::CreateSubscriptionRequest {
        subscription: Some(subscription),
        ..create_subscription("orders", "bad")
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_cannot_be_is_refused_by_field() {
    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a"]).await;
    let mut client = SubscriptionServiceClient::new(cluster.client(0));
    let made = client
        .create_subscription(create_subscription("orders", "s"))
        .await;
    made.unwrap();
    let get = |name: &str| pb::GetSubscriptionRequest {
        name: name.to_owned(),
    };
    for id in NO_NAMES {
        let answer = client
            .create_subscription(create_subscription("orders", id))
            .await;
        refused(answer, BAD.0, BAD.1, "subscription_id");
    }
    let minus = Span {
        seconds: -1,
        nanos: 0,
    };
    let forever = Span {
        seconds: 8 * 24 * 3600,
        nanos: 0,
    };
    let nowhere = pb::Position {
        at: Some(pb::position::At::Boundary(77)),
    };
    let bad = [
        (create_subscription("a b", "s"), "parent"),
        (with(|s| s.mode = 77), "subscription.mode"),
        (
            with(|s| s.ack_deadline = Some(minus)),
            "subscription.ack_deadline",
        ),
        (
            with(|s| s.ack_deadline = Some(forever)),
            "subscription.ack_deadline",
        ),
        (
            with(|s| s.initial_position = Some(nowhere)),
            "subscription.initial_position",
        ),
    ];
    for (request, field) in bad {
        refused(
            client.create_subscription(request).await,
            BAD.0,
            BAD.1,
            field,
        );
    }
    let answer = client
        .create_subscription(create_subscription("orders", "s"))
        .await;
    refused(answer, Code::AlreadyExists, Reason::AlreadyExists, "");
    let answer = client
        .create_subscription(create_subscription("x", "s"))
        .await;
    refused(answer, Code::NotFound, Reason::TopicNotFound, "");
    refused(
        client.get_subscription(get("orders")).await,
        BAD.0,
        BAD.1,
        "name",
    );
    let answer = client.get_subscription(get("orders/subscriptions/x")).await;
    refused(answer, Code::NotFound, Reason::SubscriptionNotFound, "");
}

#[tokio::test(start_paused = true)]
async fn subscriptions_are_made_read_and_listed() {
    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a", "b"]).await;
    let mut client = SubscriptionServiceClient::new(cluster.client(0));
    let made = client
        .create_subscription(create_subscription("orders", "s"))
        .await;
    let made = made.unwrap().into_inner();
    assert_eq!(made.name, format!("{}/subscriptions/s", topic_of("orders")));
    assert_eq!(made.mode(), pb::SubscriptionMode::Exclusive);
    assert_eq!(made.state(), pb::SubscriptionState::Active);
    assert!(made.ack_deadline.is_some() && made.create_time.is_some() && !made.uid.is_empty());
    let get = |name: &str| pb::GetSubscriptionRequest {
        name: name.to_owned(),
    };
    for name in ["orders/subscriptions/s", &made.name] {
        let got = client.get_subscription(get(name)).await.unwrap();
        assert_eq!(got.into_inner(), made);
    }

    client
        .create_subscription(create_subscription("orders", "a"))
        .await
        .unwrap();
    let list = |parent: &str, page_size, token: &str| pb::ListSubscriptionsRequest {
        parent: parent.to_owned(),
        page_size,
        page_token: token.to_owned(),
    };
    let page = client.list_subscriptions(list("orders", 1, "")).await;
    let page = page.unwrap().into_inner();
    assert!(page.subscriptions[0].name.ends_with("/a"));
    let token = page.next_page_token;
    let page = client.list_subscriptions(list("orders", 1, &token)).await;
    assert_eq!(page.unwrap().into_inner().subscriptions, [made]);
    let answer = client.list_subscriptions(list("orders", -1, "")).await;
    refused(answer, BAD.0, BAD.1, "page_size");
    let answer = client.list_subscriptions(list("x", 0, "")).await;
    refused(answer, Code::NotFound, Reason::TopicNotFound, "");
    let answer = client.list_subscriptions(list("a b", 0, "")).await;
    refused(answer, BAD.0, BAD.1, "parent");
}

#[tokio::test(start_paused = true)]
async fn stats_say_how_a_topic_and_a_subscription_stand() {
    let cluster = Cluster::small().await;
    publish(&cluster, "orders", &["a", "b", "c"]).await;
    let name = "orders/subscriptions/s";
    let open = open_consumer(name, pb::SubscriptionMode::Exclusive);
    let (mut consumer, ready) = Consuming::open(cluster.client(0), open).await.unwrap();
    consumer.messages(3).await.unwrap();
    consumer.ack(1, 0, 1, ready.generation).await;

    let mut topics = TopicServiceClient::new(cluster.client(0));
    let stats = |name: &str| pb::GetTopicStatsRequest {
        name: name.to_owned(),
    };
    let answer = topics
        .get_topic_stats(stats("orders"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.name, topic_of("orders"));
    let shard = &answer.shards[0];
    assert_eq!((shard.first_offset, shard.next_offset), (0, 3));
    assert_eq!(shard.subscriptions, 1);
    assert_eq!(shard.endpoint, cluster.endpoint(0));
    assert!(shard.epoch > 0);
    refused(
        topics.get_topic_stats(stats("a b")).await,
        BAD.0,
        BAD.1,
        "name",
    );
    let answer = topics.get_topic_stats(stats("x")).await;
    refused(answer, Code::NotFound, Reason::TopicNotFound, "");

    let mut subscriptions = SubscriptionServiceClient::new(cluster.client(0));
    let stats = |name: &str| pb::GetSubscriptionStatsRequest {
        name: name.to_owned(),
    };
    let answer = subscriptions.get_subscription_stats(stats(name)).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!((answer.backlog_messages, answer.unacked_messages), (2, 2));
    assert_eq!(
        (answer.cursor, answer.next_offset, answer.consumers),
        (1, 3, 1)
    );
    let answer = subscriptions.get_subscription_stats(stats("orders")).await;
    refused(answer, BAD.0, BAD.1, "name");
    let answer = subscriptions
        .get_subscription_stats(stats("orders/subscriptions/x"))
        .await;
    refused(answer, Code::NotFound, Reason::SubscriptionNotFound, "");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_subscription_is_gone_for_its_consumers_for_other_nodes_and_for_the_next_owner() {
    let mut cluster = Cluster::full().await;
    publish(&cluster, "orders", &["a", "b"]).await;
    let name = "orders/subscriptions/s";
    let shared = pb::SubscriptionMode::Shared;
    let mut consumers = Vec::new();
    for node in 0..2 {
        let open = || Consuming::open(cluster.client(node), open_consumer(name, shared));
        consumers.push(until(open).await.0);
    }
    // By the node that does not own the topic.
    let mut admin = SubscriptionServiceClient::new(cluster.client(1));
    let delete = |name: &str| pb::DeleteSubscriptionRequest {
        name: name.to_owned(),
        ..pb::DeleteSubscriptionRequest::default()
    };
    refused(
        admin.delete_subscription(delete("orders")).await,
        BAD.0,
        BAD.1,
        "name",
    );
    let missing = (Code::NotFound, Reason::SubscriptionNotFound);
    let answer = admin
        .delete_subscription(delete("orders/subscriptions/x"))
        .await;
    refused(answer, missing.0, missing.1, "");
    let answer = admin.delete_subscription(delete("x/subscriptions/s")).await;
    refused(answer, Code::NotFound, Reason::TopicNotFound, "");
    admin.delete_subscription(delete(name)).await.unwrap();
    for consumer in &mut consumers {
        let end = loop {
            match consumer.next().await {
                Ok(_) => {}
                Err(status) => break status,
            }
        };
        assert_eq!(
            proto::status::from_status(&end).reason,
            Reason::SubscriptionNotFound,
            "{end:?}"
        );
    }
    refused(
        admin.delete_subscription(delete(name)).await,
        missing.0,
        missing.1,
        "",
    );
    let get = pb::GetSubscriptionRequest {
        name: name.to_owned(),
    };
    refused(admin.get_subscription(get).await, missing.0, missing.1, "");
    let list = pb::ListSubscriptionsRequest {
        parent: "orders".to_owned(),
        ..pb::ListSubscriptionsRequest::default()
    };
    let listed = admin.list_subscriptions(list).await.unwrap().into_inner();
    assert_eq!(listed.subscriptions, []);
    // The name may be used again: from its start, also by the next owner.
    admin
        .create_subscription(create_subscription("orders", "s"))
        .await
        .unwrap();
    cluster.kill_serving(0).await;
    let exclusive = pb::SubscriptionMode::Exclusive;
    let open = || Consuming::open(cluster.client(1), open_consumer(name, exclusive));
    let (mut consumer, ready) = until(open).await;
    assert_eq!(ready.cursor, 0);
    assert_eq!(offsets(&consumer.messages(2).await.unwrap()), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_late_deletion_leaves_the_next_subscription_of_the_name_alone() {
    let cluster = Cluster::full().await;
    publish(&cluster, "orders", &["a"]).await;
    let name = "orders/subscriptions/s";
    let get = || pb::GetSubscriptionRequest {
        name: name.to_owned(),
    };
    // By the node that does not own the topic.
    let mut admin = SubscriptionServiceClient::new(cluster.client(1));
    let create = || create_subscription("orders", "s");
    admin.create_subscription(create()).await.unwrap();
    let old = admin.get_subscription(get()).await.unwrap().into_inner();
    let delete = || pb::DeleteSubscriptionRequest {
        name: name.to_owned(),
        uid: old.uid.clone(),
    };
    admin.delete_subscription(delete()).await.unwrap();
    admin.create_subscription(create()).await.unwrap();

    let late = admin.delete_subscription(delete()).await;

    refused(late, Code::NotFound, Reason::SubscriptionNotFound, "");
    let new = admin.get_subscription(get()).await.unwrap().into_inner();
    assert_ne!(new.uid, old.uid);
}

#[tokio::test(start_paused = true)]
async fn the_cluster_says_how_it_stands_and_who_does_not_answer() {
    let plan = Plan {
        bookies: 3,
        quorum: Quorum::THREE_TWO,
        ..Plan::default()
    };
    let mut cluster = Cluster::start(plan).await;
    let client = ClusterServiceClient::new(cluster.client(0));
    let ask = || {
        let mut client = client.clone();
        async move {
            let answer = client
                .get_cluster_status(pb::GetClusterStatusRequest {})
                .await;
            answer.unwrap().into_inner()
        }
    };
    let status = ask().await;
    assert_eq!(status.standing(), pb::Standing::Ok, "{status:?}");
    assert_eq!((status.nodes.len(), status.bookies.len()), (4, 3));
    assert!(status.concerns.is_empty() && status.cluster_id.len() == 32);

    cluster.kill_bookie(1).await;
    let status = until(|| async {
        let status = ask().await;
        if status.standing() == pb::Standing::Degraded {
            Ok(status)
        } else {
            Err(tonic::Status::unavailable("not noticed yet"))
        }
    })
    .await;
    assert!(status.concerns[0].contains("bookie-2"), "{status:?}");
}
