//! Topics that change, and topics that are deleted.

use pb::subscription_service_client::SubscriptionServiceClient;
use pb::topic_service_client::TopicServiceClient;
use prost_types::{Duration as Span, FieldMask};
use proto::raw::v1 as pb;
use tonic::{Code, Status};
use types::{Quorum, Reason};

use crate::admin::create_subscription;
use crate::consume::publish;
use crate::support::{
    Cluster, Consuming, Plan, Publishing, batch, offsets, open_consumer, open_producer, refused,
    until,
};

const GONE: (Code, Reason) = (Code::NotFound, Reason::TopicNotFound);

fn update(name: &str, retention: Option<pb::Retention>, paths: &[&str]) -> pb::UpdateTopicRequest {
    pb::UpdateTopicRequest {
        topic: Some(pb::Topic {
            name: name.to_owned(),
            retention,
            ..pb::Topic::default()
        }),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
    }
}

fn keep(seconds: i64, bytes: Option<u64>) -> Option<pb::Retention> {
    Some(pb::Retention {
        time: Some(Span { seconds, nanos: 0 }),
        bytes,
    })
}

/// Two serving nodes that make no topic by themselves.
async fn cluster() -> Cluster {
    let plan = Plan {
        bookies: 3,
        serving: 2,
        quorum: Quorum::THREE_TWO,
        auto_create_topics: false,
        ..Plan::default()
    };
    Cluster::start(plan).await
}

async fn make(cluster: &Cluster) {
    let create = pb::CreateTopicRequest {
        topic_id: "orders".to_owned(),
        ..pb::CreateTopicRequest::default()
    };
    let mut topics = TopicServiceClient::new(cluster.client(0));
    topics.create_topic(create).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn retention_is_a_week_or_what_the_topic_says_and_can_be_changed() {
    let cluster = cluster().await;
    let mut topics = TopicServiceClient::new(cluster.client(0));
    let create = |id: &str, retention| pb::CreateTopicRequest {
        topic: Some(pb::Topic {
            retention,
            ..pb::Topic::default()
        }),
        topic_id: id.to_owned(),
        ..pb::CreateTopicRequest::default()
    };
    let made = topics.create_topic(create("week", None)).await.unwrap();
    assert_eq!(made.into_inner().retention, keep(7 * 24 * 3600, None));
    let made = topics
        .create_topic(create("hour", keep(3600, Some(9))))
        .await;
    assert_eq!(made.unwrap().into_inner().retention, keep(3600, Some(9)));
    let forever = Some(pb::Retention::default());
    let made = topics.create_topic(create("ever", forever)).await.unwrap();
    assert_eq!(made.into_inner().retention, forever);

    // By any node, and read by any.
    let mut other = TopicServiceClient::new(cluster.client(1));
    for paths in [&["retention"][..], &[]] {
        let changed = other
            .update_topic(update("week", keep(0, None), paths))
            .await;
        assert_eq!(changed.unwrap().into_inner().retention, keep(0, None));
    }
    let read = || async {
        let name = "week".to_owned();
        let topic = topics
            .clone()
            .get_topic(pb::GetTopicRequest { name })
            .await?;
        match topic.into_inner().retention == keep(0, None) {
            true => Ok(()),
            false => Err(Status::unavailable("not heard yet")),
        }
    };
    until(read).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_is_refused_by_field() {
    let cluster = cluster().await;
    let mut topics = TopicServiceClient::new(cluster.client(0));
    make(&cluster).await;
    let bad = (Code::InvalidArgument, Reason::BadField);
    let century = 101 * 366 * 24 * 3600;
    for (request, field) in [
        (update("a b", keep(1, None), &[]), "topic.name"),
        (update("orders", None, &[]), "topic.retention"),
        (
            update("orders", keep(-1, None), &[]),
            "topic.retention.time",
        ),
        (
            update("orders", keep(century, None), &[]),
            "topic.retention.time",
        ),
        (update("orders", keep(1, None), &["quorum"]), "update_mask"),
        (pb::UpdateTopicRequest::default(), "topic.name"),
    ] {
        refused(topics.update_topic(request).await, bad.0, bad.1, field);
    }
    let answer = topics.update_topic(update("x", keep(1, None), &[])).await;
    refused(answer, GONE.0, GONE.1, "");
    let delete = |name: &str| pb::DeleteTopicRequest {
        name: name.to_owned(),
        ..pb::DeleteTopicRequest::default()
    };
    refused(
        topics.delete_topic(delete("a b")).await,
        bad.0,
        bad.1,
        "name",
    );
    refused(topics.delete_topic(delete("x")).await, GONE.0, GONE.1, "");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_is_gone_for_everybody_and_its_name_is_free() {
    let cluster = cluster().await;
    make(&cluster).await;
    publish(&cluster, "orders", &["a", "b", "c"]).await;
    let mut subscriptions = SubscriptionServiceClient::new(cluster.client(0));
    let create = || create_subscription("orders", "s");
    subscriptions.create_subscription(create()).await.unwrap();
    let name = "orders/subscriptions/s";
    let exclusive = pb::SubscriptionMode::Exclusive;
    let open = open_consumer(name, exclusive);
    let (mut consumer, _) = Consuming::open(cluster.client(1), open).await.unwrap();
    let open = open_producer("orders", "p");
    let (mut producer, _) = Publishing::open(cluster.client(1), open).await.unwrap();
    producer.send(1, batch(["last"])).await;
    producer.receipts(1).await.unwrap();

    // By the node that does not own it.
    let mut topics = TopicServiceClient::new(cluster.client(1));
    let get = || pb::GetTopicRequest {
        name: "orders".to_owned(),
    };
    let old = topics.get_topic(get()).await.unwrap().into_inner();
    let delete = || pb::DeleteTopicRequest {
        name: "orders".to_owned(),
        uid: old.uid.clone(),
    };
    topics.delete_topic(delete()).await.unwrap();
    while producer.next().await.is_ok() {}
    while consumer.next().await.is_ok() {}
    for node in 0..2 {
        let mut topics = TopicServiceClient::new(cluster.client(node));
        let gone = || async {
            let answer = topics.clone().delete_topic(delete()).await;
            match answer {
                Err(status) if status.code() == Code::NotFound => Ok(()),
                other => Err(Status::unavailable(format!("{other:?}"))),
            }
        };
        until(gone).await;
        refused(topics.get_topic(get()).await, GONE.0, GONE.1, "");
        let again = Publishing::open(cluster.client(node), open_producer("orders", "p")).await;
        refused(again, GONE.0, GONE.1, "");
        let again = Consuming::open(cluster.client(node), open_consumer(name, exclusive)).await;
        refused(again, GONE.0, GONE.1, "");
    }

    // A new one of its name has nothing of it: no message, no subscription, no producer's number. A call that meant the old
    // one and comes late does nothing to it.
    make(&cluster).await;
    refused(topics.delete_topic(delete()).await, GONE.0, GONE.1, "");
    let list = pb::ListSubscriptionsRequest {
        parent: "orders".to_owned(),
        ..pb::ListSubscriptionsRequest::default()
    };
    let listed = subscriptions.list_subscriptions(list).await.unwrap();
    assert_eq!(listed.into_inner().subscriptions, []);
    subscriptions.create_subscription(create()).await.unwrap();
    publish(&cluster, "orders", &["x", "y"]).await;
    let open = || Consuming::open(cluster.client(0), open_consumer(name, exclusive));
    let (mut consumer, ready) = until(open).await;
    assert_eq!(ready.cursor, 0);
    assert_eq!(offsets(&consumer.messages(2).await.unwrap()), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_whose_owner_died_is_recovered_and_deleted() {
    let mut cluster = cluster().await;
    make(&cluster).await;
    publish(&cluster, "orders", &["a", "b", "c"]).await;
    cluster.kill_serving(0).await;
    let delete = || async {
        let mut topics = TopicServiceClient::new(cluster.client(1));
        let name = "orders".to_owned();
        let uid = String::new();
        match topics
            .delete_topic(pb::DeleteTopicRequest { name, uid })
            .await
        {
            // An earlier try whose answer was lost.
            Err(status) if status.code() == Code::NotFound => Ok(()),
            answer => answer.map(drop),
        }
    };
    until(delete).await;
    let mut topics = TopicServiceClient::new(cluster.client(1));
    let get = pb::GetTopicRequest {
        name: "orders".to_owned(),
    };
    refused(topics.get_topic(get).await, GONE.0, GONE.1, "");
}
