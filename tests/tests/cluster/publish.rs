//! `Publish`: one batch, one answer.

use bytes::Bytes;
use futures::stream;
use proto::hot::PUBLISH_ONCE;
use proto::raw::v1 as pb;
use proto::raw::v1::publisher_client::PublisherClient;
use tonic::Code;
use tonic::transport::Channel;
use types::Reason;

use crate::support::{
    BATCH_MAX, Cluster, Consuming, MESSAGE_MAX, Plan, batch, body, crc_of, open_consumer, refused,
    topic_of,
};

fn publisher(channel: Channel) -> PublisherClient<Channel> {
    PublisherClient::new(channel)
        .max_encoding_message_size(64 << 20)
        .max_decoding_message_size(64 << 20)
}

/// What a consumer from the beginning gets: the payloads that are stored, all of them.
async fn stored(cluster: &Cluster, topic: &str, count: usize) -> Vec<Bytes> {
    let name = format!("{topic}/subscriptions/audit");
    let open = open_consumer(&name, pb::SubscriptionMode::Exclusive);
    let opened = Consuming::open(cluster.client(0), open).await;
    let (mut consumer, _) = opened.unwrap();
    let messages = consumer.messages(count).await.unwrap();
    consumer.is_quiet().await;
    messages.into_iter().map(|m| m.payload).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_stored_and_its_place_told() {
    let cluster = Cluster::small().await;
    let mut client = publisher(cluster.client(0));
    for (first, payloads) in [(0, vec!["a", "b"]), (2, vec!["c"])] {
        let count = u32::try_from(payloads.len()).unwrap();
        let batch = batch(payloads);
        let mut request = body("orders", batch.clone());
        request.crc32c = Some(crc_of(&batch));
        let answer = client.publish(request).await.unwrap().into_inner();
        let [receipt] = &answer.receipts[..] else {
            panic!("{answer:?}");
        };
        assert_eq!((receipt.first_sequence_id, receipt.count), (0, count));
        assert_eq!(receipt.status, None);
        assert_eq!(receipt.first.as_ref().unwrap().offset, first);
        assert!(receipt.publish_time.is_some() && !receipt.duplicate);
        assert_eq!(receipt.achieved(), pb::Durability::Sync);
    }
    assert_eq!(stored(&cluster, "orders", 3).await, ["a", "b", "c"]);
}

/// A batch of one message with one field of these bytes.
fn field(tag: u8, bytes: &[u8]) -> Bytes {
    let len = u8::try_from(bytes.len()).unwrap();
    let mut batch = vec![0x0a, len + 2, tag, len];
    batch.extend_from_slice(bytes);
    batch.into()
}

#[tokio::test(start_paused = true)]
async fn what_is_no_batch_is_refused_with_its_place_and_stores_nothing() {
    let cluster = Cluster::small().await;
    let mut client = publisher(cluster.client(0));
    let good = batch(["good"]);
    let attribute: &[u8] = &[0x0a, 0x02, 0xc3, 0x28];
    let bad: [(&str, Bytes); 8] = [
        ("it ends in the middle", good.slice(..good.len() - 1)),
        (
            "another field of the batch",
            [&good[..], &[0x12, 0]].concat().into(),
        ),
        ("a group", Bytes::from_static(&[0x0a, 1, 0x0b])),
        ("field zero", Bytes::from_static(&[0x0a, 2, 0x02, 0])),
        (
            "a payload that is a number",
            Bytes::from_static(&[0x0a, 2, 0x08, 1]),
        ),
        ("an ordering key that is not UTF-8", field(0x12, b"\xff")),
        ("an attribute that is not UTF-8", field(0x22, attribute)),
        ("a content type that is not UTF-8", field(0x72, b"a\x80")),
    ];
    for (what, bytes) in bad {
        let answer = client.publish(body("orders", bytes)).await;
        // The fault of the second one lies behind its only message.
        let place = if what == "another field of the batch" {
            "batch.messages[1]"
        } else {
            "batch.messages[0]"
        };
        let problem = refused(answer, Code::InvalidArgument, Reason::MalformedBatch, place);
        assert!(problem.metadata.contains_key("byte"), "{what}: {problem:?}");
    }
    let answer = client.publish(body("orders", Bytes::new())).await;
    refused(
        answer,
        Code::InvalidArgument,
        Reason::BadField,
        "batch.messages",
    );
    let missing = pb::PublishRequest {
        topic: "orders".to_owned(),
        body: None,
        crc32c: None,
    };
    let answer = client.publish(missing).await;
    refused(answer, Code::InvalidArgument, Reason::BadField, "batch");
    let nothing = stream::empty::<pb::PublishRequest>();
    let call = PUBLISH_ONCE.call::<_, pb::PublishResponse>(cluster.client(0), nothing);
    let status = call.await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    assert_eq!(status.message(), "Missing request message.");

    client.publish(body("orders", good)).await.unwrap();
    assert_eq!(stored(&cluster, "orders", 1).await, ["good"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_refused_with_the_limit() {
    let cluster = Cluster::small().await;
    let mut client = publisher(cluster.client(0));
    let large = batch([vec![1_u8; MESSAGE_MAX]]);
    let answer = client.publish(body("orders", large)).await;
    let (code, reason) = (Code::InvalidArgument, Reason::MessageTooLarge);
    let problem = refused(answer, code, reason, "batch.messages[0]");
    assert_eq!(problem.metadata["max_bytes"], MESSAGE_MAX.to_string());

    let many = batch(vec![
        vec![1_u8; MESSAGE_MAX / 2];
        2 * BATCH_MAX / MESSAGE_MAX
    ]);
    let problem = refused(
        client.publish(body("orders", many)).await,
        code,
        reason,
        "batch",
    );
    assert_eq!(problem.metadata["max_bytes"], BATCH_MAX.to_string());

    let tiny = batch(vec![""; (1 << 16) + 1]);
    let answer = client.publish(body("orders", tiny)).await;
    let problem = refused(answer, code, reason, "batch.messages");
    assert_eq!(problem.metadata["max_messages"], (1 << 16).to_string());

    // More than the transport reads at all.
    let huge = Bytes::from(vec![0; (16 << 20) + 1]);
    refused(
        client.publish(body("orders", huge)).await,
        code,
        reason,
        "batch",
    );

    client
        .publish(body("orders", batch(["fits"])))
        .await
        .unwrap();
    assert_eq!(stored(&cluster, "orders", 1).await, ["fits"]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_checksum_is_refused_and_the_same_bytes_may_come_again() {
    let cluster = Cluster::small().await;
    let mut client = publisher(cluster.client(0));
    let mut request = body("orders", batch(["a"]));
    request.crc32c = Some(17);
    let answer = client.publish(request.clone()).await;
    let problem = refused(answer, Code::DataLoss, Reason::PayloadCorrupt, "crc32c");
    assert_eq!(problem.kind(), types::ErrorKind::Retry);
    request.crc32c = Some(crc_of(&batch(["a"])));
    client.publish(request).await.unwrap();
    assert_eq!(stored(&cluster, "orders", 1).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_cannot_be_is_refused_by_name() {
    let plan = Plan {
        auto_create_topics: false,
        ..Plan::default()
    };
    let cluster = Cluster::start(plan).await;
    let mut client = publisher(cluster.client(0));
    let long = "x".repeat(256);
    for name in ["", "a b", "..", "a/b", "topics/a", "ä", &long] {
        let answer = client.publish(body(name, batch(["a"]))).await;
        refused(answer, Code::InvalidArgument, Reason::BadField, "topic");
    }
    let answer = client.publish(body("orders", batch(["a"]))).await;
    let problem = refused(answer, Code::NotFound, Reason::TopicNotFound, "");
    assert_eq!(problem.resource, Some(topic_of("orders")));
    assert!(problem.message.contains("create"), "{problem:?}");
}
