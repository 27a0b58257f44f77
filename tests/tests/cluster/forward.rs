//! Any node takes any request: it passes it on to the owner, or says where to go.

use pb::publisher_client::PublisherClient;
use pb::subscription_service_client::SubscriptionServiceClient;
use pb::topic_service_client::TopicServiceClient;
use proto::raw::v1 as pb;
use proto::raw::v1::publish_stream_request::Frame as Up;
use proto::raw::v1::publish_stream_response::Frame as Down;
use tonic::Code;
use types::Reason;

use crate::consume::publish;
use crate::support::{
    Cluster, Consuming, Delivered, Publishing, batch, body, consuming, offsets, open_consumer,
    open_producer, publishing, refusal, refused,
};

const EXCLUSIVE: pb::SubscriptionMode = pb::SubscriptionMode::Exclusive;
const NAME: &str = "orders/subscriptions/s";

/// A cluster whose first node owns the topic `orders`, which holds one message.
async fn owned() -> Cluster {
    let cluster = Cluster::full().await;
    publish(&cluster, "orders", &["first"]).await;
    cluster
}

#[tokio::test(start_paused = true)]
async fn a_batch_reaches_the_owner_and_its_refusal_comes_back() {
    let cluster = owned().await;
    let mut client = PublisherClient::new(cluster.client(1));
    let answer = client
        .publish(body("orders", batch(["second"])))
        .await
        .unwrap();
    let receipt = answer.into_inner().receipts.remove(0);
    assert_eq!(receipt.first.unwrap().offset, 1);
    let mut wrong = body("orders", batch(["third"]));
    wrong.crc32c = Some(17);
    let answer = client.publish(wrong).await;
    refused(answer, Code::DataLoss, Reason::PayloadCorrupt, "crc32c");
}

#[tokio::test(start_paused = true)]
async fn a_publish_stream_works_through_the_other_node() {
    let cluster = owned().await;
    let open = || open_producer("orders", "p");
    let (mut stream, ready) = Publishing::open(cluster.client(1), open()).await.unwrap();
    assert_eq!(ready.last_sequence_id, None);
    stream.send(0, batch(["a"])).await;
    stream.send(2, batch(["gap"])).await;
    stream.send(1, batch(["b"])).await;
    let receipts = stream.receipts(3).await.unwrap();
    assert_eq!(receipts[0].first.as_ref().unwrap().offset, 1);
    let (code, reason) = (Code::FailedPrecondition, Reason::SequenceOutOfOrder);
    refusal(receipts[1].status.as_ref(), code, reason, "");
    assert_eq!(receipts[2].first.as_ref().unwrap().offset, 2);
    // Half-closed here, half-closed there.
    stream.send(2, batch(["c"])).await;
    stream.half_close();
    assert_eq!(stream.receipt().await.first.unwrap().offset, 3);
    stream.end().await.unwrap();
    // The name is known at the owner itself.
    let (_, ready) = Publishing::open(cluster.client(0), open()).await.unwrap();
    assert_eq!(ready.last_sequence_id, Some(2));
    let unknown = pb::OpenProducer {
        resume: true,
        ..open_producer("orders", "q")
    };
    let answer = Publishing::open(cluster.client(1), unknown).await;
    refused(
        answer,
        Code::FailedPrecondition,
        Reason::ProducerUnknown,
        "open.resume",
    );
}

#[tokio::test(start_paused = true)]
async fn a_consume_stream_works_through_the_other_node() {
    let cluster = owned().await;
    let open = || open_consumer(NAME, EXCLUSIVE);
    let (mut consumer, ready) = Consuming::open(cluster.client(1), open()).await.unwrap();
    assert_eq!(offsets(&consumer.messages(1).await.unwrap()), [0]);
    consumer.ack(1, 0, 1, ready.generation).await;
    // Another is refused wherever it asks.
    for node in [0, 1] {
        let answer = Consuming::open(cluster.client(node), open()).await;
        refused(answer, Code::FailedPrecondition, Reason::ExclusiveHeld, "");
    }
    // A client that breaks off behind the other node frees the subscription at the owner.
    drop(consumer);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let (_, ready) = Consuming::open(cluster.client(0), open()).await.unwrap();
    assert_eq!(ready.cursor, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_understands_it_is_sent_to_the_owner() {
    let cluster = owned().await;
    let open = Up::Open(pb::OpenProducer {
        understands_redirect: true,
        ..open_producer("orders", "p")
    });
    let mut stream = publishing(cluster.client(1), Some(open.clone()))
        .await
        .unwrap();
    match stream.next().await.unwrap() {
        Down::Redirect(to) => {
            assert_eq!(to.endpoint, cluster.endpoint(0));
            assert!(to.epoch > 0);
        }
        other => panic!("{other:?}"),
    }
    stream.end().await.unwrap();
    let mut stream = publishing(cluster.client(0), Some(open)).await.unwrap();
    assert!(matches!(stream.next().await.unwrap(), Down::Ready(_)));

    let open = pb::OpenConsumer {
        understands_redirect: true,
        ..open_consumer(NAME, EXCLUSIVE)
    };
    let first = pb::consume_request::Frame::Open(open);
    let mut stream = consuming(cluster.client(1), Some(first)).await.unwrap();
    match stream.next().await.unwrap() {
        Delivered::Redirect(to) => assert_eq!(to.endpoint, cluster.endpoint(0)),
        other => panic!("{other:?}"),
    }
    stream.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_is_passed_on_once_and_refused_at_the_second_wrong_node() {
    let cluster = owned().await;
    let mut client = PublisherClient::new(cluster.client(1));
    let mut request = tonic::Request::new(body("orders", batch(["a"])));
    proto::headers::mark_forwarded(request.metadata_mut(), "serving-9");
    let answer = client.publish(request).await;
    let problem = refused(answer, Code::Unavailable, Reason::NotOwner, "");
    assert_eq!(problem.metadata["owner_endpoint"], cluster.endpoint(0));
    assert!(problem.metadata.contains_key("epoch"));
    assert_eq!(problem.retry_after, Some(std::time::Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn subscriptions_and_stats_are_answered_by_the_owner_through_any_node() {
    let cluster = owned().await;
    let mut client = SubscriptionServiceClient::new(cluster.client(1));
    let create = |id: &str| pb::CreateSubscriptionRequest {
        parent: "orders".to_owned(),
        subscription: None,
        subscription_id: id.to_owned(),
    };
    let made = client
        .create_subscription(create("s"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(made.state(), pb::SubscriptionState::Active);
    let answer = client.create_subscription(create("s")).await;
    refused(answer, Code::AlreadyExists, Reason::AlreadyExists, "");
    let stats = pb::GetSubscriptionStatsRequest {
        name: NAME.to_owned(),
    };
    let stats = client
        .get_subscription_stats(stats)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((stats.backlog_messages, stats.next_offset), (1, 1));
    let mut client = TopicServiceClient::new(cluster.client(1));
    let stats = pb::GetTopicStatsRequest {
        name: "orders".to_owned(),
    };
    let stats = client.get_topic_stats(stats).await.unwrap().into_inner();
    assert_eq!(stats.shards[0].endpoint, cluster.endpoint(0));
}
