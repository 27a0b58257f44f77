//! The standard services, and requests that are none.

use futures::stream;
use proto::raw::v1 as pb;
use tonic::Code;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use types::Reason;

use crate::consume::publish;
use crate::support::{Cluster, in_time, refused};

fn health(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn health_is_told_for_the_node_and_its_services() {
    let cluster = Cluster::small().await;
    let mut client = HealthClient::new(cluster.client(0));
    let names = [
        "",
        "ledgerline.v1.Publisher",
        "ledgerline.v1.Subscriber",
        "readiness",
    ];
    for name in names {
        let answer = client.check(health(name)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{name}");
        let mut watch = client.watch(health(name)).await.unwrap().into_inner();
        let first = in_time(watch.message()).await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving, "{name}");
    }
    let answer = client.check(health("no such service")).await;
    assert_eq!(answer.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_node_says_that_it_is_not_ready_and_its_topics_move_at_once() {
    let mut cluster = Cluster::full().await;
    publish(&cluster, "orders", &["a"]).await;
    let mut client = HealthClient::new(cluster.client(0));
    let mut watch = client
        .watch(health("readiness"))
        .await
        .unwrap()
        .into_inner();
    in_time(watch.message()).await.unwrap();
    let (told, ()) = futures::join!(in_time(watch.message()), cluster.stop_serving(0));
    assert_eq!(told.unwrap().unwrap().status(), ServingStatus::NotServing);

    let started = tokio::time::Instant::now();
    let mut other = pb::publisher_client::PublisherClient::new(cluster.client(1));
    let batch = crate::support::batch(["b"]);
    let answer = other.publish(crate::support::body("orders", batch)).await;
    let receipt = answer.unwrap().into_inner().receipts.remove(0);
    assert_eq!(receipt.first.unwrap().offset, 1);
    assert!(
        started.elapsed() < std::time::Duration::from_secs(1),
        "no lease had to lapse"
    );
}

/// Asks a server what services it has.
macro_rules! reflected {
    ($module:ident, $channel:expr) => {{
        use reflection::server_reflection_request::MessageRequest;
        use reflection::server_reflection_response::MessageResponse;
        use tonic_reflection::pb::$module as reflection;
        let mut client =
            reflection::server_reflection_client::ServerReflectionClient::new($channel);
        let ask = |message| reflection::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message),
        };
        let symbol = "ledgerline.v1.Publisher".to_owned();
        let questions = vec![
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol(symbol)),
            ask(MessageRequest::FileContainingSymbol(
                "no.such.Thing".to_owned(),
            )),
        ];
        let answers = client.server_reflection_info(stream::iter(questions)).await;
        let mut answers = answers.unwrap().into_inner();
        let names = match in_time(answers.message())
            .await
            .unwrap()
            .unwrap()
            .message_response
        {
            Some(MessageResponse::ListServicesResponse(list)) => {
                list.service.into_iter().map(|s| s.name).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        match in_time(answers.message())
            .await
            .unwrap()
            .unwrap()
            .message_response
        {
            Some(MessageResponse::FileDescriptorResponse(file)) => {
                assert!(!file.file_descriptor_proto.is_empty());
            }
            other => panic!("{other:?}"),
        }
        let answer = in_time(answers.message()).await;
        assert_eq!(answer.unwrap_err().code(), Code::NotFound);
        names
    }};
}

#[tokio::test(start_paused = true)]
async fn reflection_of_both_versions_describes_every_service() {
    let cluster = Cluster::small().await;
    let services = [
        "grpc.health.v1.Health",
        "ledgerline.v1.ClusterService",
        "ledgerline.v1.NamespaceService",
        "ledgerline.v1.Publisher",
        "ledgerline.v1.Routing",
        "ledgerline.v1.Subscriber",
        "ledgerline.v1.SubscriptionService",
        "ledgerline.v1.TenantService",
        "ledgerline.v1.TopicService",
    ];
    let new = reflected!(v1, cluster.client(0));
    let old = reflected!(v1alpha, cluster.client(0));
    for service in services {
        assert!(
            new.iter().any(|name| name == service),
            "{service} of {new:?}"
        );
        assert!(
            old.iter().any(|name| name == service),
            "{service} of {old:?}"
        );
    }
}

/// A request of raw bytes, as a client that speaks another protocol may send it.
mod raw {
    use bytes::{Buf, BufMut, Bytes};
    use tonic::Status;
    use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

    #[derive(Debug, Default, Clone, Copy)]
    pub(super) struct AsItIs;

    impl Codec for AsItIs {
        type Encode = Bytes;
        type Decode = Bytes;
        type Encoder = Self;
        type Decoder = Self;

        fn encoder(&mut self) -> Self {
            Self
        }

        fn decoder(&mut self) -> Self {
            Self
        }
    }

    impl Encoder for AsItIs {
        type Item = Bytes;
        type Error = Status;

        fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
            into.put(item);
            Ok(())
        }
    }

    impl Decoder for AsItIs {
        type Item = Bytes;
        type Error = Status;

        fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
            Ok(Some(from.copy_to_bytes(from.remaining())))
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_request_get_a_typed_refusal_with_their_place() {
    let cluster = Cluster::small().await;
    let mut client = Grpc::new(cluster.client(0));
    // A topic that is not UTF-8; a length without bytes; a number where a text belongs.
    let bad: [(&'static [u8], &str); 3] = [
        (b"\x0a\x02\xff\xfe", "topic"),
        (b"\x0a\x09x", "topic"),
        (b"\x08\x01", "topic"),
    ];
    let (code, reason) = (Code::InvalidArgument, Reason::BadFrame);
    for (bytes, field) in bad {
        client.ready().await.unwrap();
        let request = tonic::Request::new(bytes::Bytes::from_static(bytes));
        let path = PathAndQuery::from_static("/ledgerline.v1.Publisher/Publish");
        let answer = client.unary(request, path, raw::AsItIs).await;
        refused(answer, code, reason, field);

        client.ready().await.unwrap();
        let frames = stream::iter([bytes::Bytes::from_static(b"\x0a\x04\x0a\x02\xff\xfe")]);
        let path = PathAndQuery::from_static("/ledgerline.v1.Publisher/PublishStream");
        let request = tonic::Request::new(frames);
        let answer = client.streaming(request, path, raw::AsItIs).await;
        let mut answers = answer.unwrap().into_inner();
        refused(
            in_time(answers.message()).await,
            code,
            reason,
            "frame.topic",
        );
    }
    // The connection is as good as before.
    let mut publisher = pb::publisher_client::PublisherClient::new(cluster.client(0));
    let batch = crate::support::batch(["a"]);
    publisher
        .publish(crate::support::body("orders", batch))
        .await
        .unwrap();
}
