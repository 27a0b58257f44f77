//! Streams without copies, against each other and against the generated client and server.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::ready;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use host::net::{Address, Net, Pipes};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use prost::Message;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request as HttpRequest, StatusCode};
use tonic::{Code, Request, Response, Status, Streaming};
use types::{Problem, Reason, SequenceId};

use super::messages::{Messages, Side};
use super::outgoing::Outgoing;
use super::segments::Segments;
use super::*;
use crate::raw::v1::publisher_client::PublisherClient;
use crate::raw::v1::publisher_server::{Publisher, PublisherServer};
use crate::raw::v1::{
    PublishBatch, PublishRequest, PublishResponse, PublishStreamRequest, PublishStreamResponse,
    publish_stream_request,
};
use crate::transport::{Routes, ServerOptions, channel, serve};

fn frame(first: u64, len: usize) -> PublishStreamRequest {
    let byte = u8::try_from(first % 251).unwrap();
    publish_frame(
        SequenceId::new(first),
        Bytes::from(vec![byte; len]).into(),
        1,
        None,
    )
}

/// gRPC's framing, as the generated code writes it.
fn framed(message: &impl Message) -> Vec<u8> {
    let len = u32::try_from(message.encoded_len()).unwrap();
    let mut bytes = vec![0];
    bytes.extend(len.to_be_bytes());
    bytes.extend(message.encode_to_vec());
    bytes
}

fn body_of(runs: Vec<Bytes>, trailers: Option<HeaderMap>) -> Body {
    let runs = runs.into_iter().map(Frame::data);
    let frames = runs
        .chain(trailers.map(Frame::trailers))
        .map(Ok::<_, Status>);
    Body::new(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())))
}

async fn read(body: Body, side: Side) -> Result<Vec<PublishStreamRequest>, Status> {
    Messages::new(body, side, 1 << 20).try_collect().await
}

/// The bytes cut at these places.
fn cut(bytes: &[u8], mut places: Vec<prop::sample::Index>) -> Vec<Bytes> {
    let all = Bytes::copy_from_slice(bytes);
    let mut places: Vec<usize> = places
        .drain(..)
        .map(|it| it.index(bytes.len() + 1))
        .collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let runs = places.windows(2).map(|two| all.slice(two[0]..two[1]));
    runs.collect()
}

proptest! {
    #[test]
    fn what_is_encoded_is_what_the_generated_code_encodes(lens in prop::collection::vec(0_usize..20_000, 0..6)) {
        let mut segments = Segments::default();
        let mut expected = Vec::new();
        for (&len, first) in lens.iter().zip(0..) {
            segments.add(&frame(first, len), 1 << 20).unwrap();
            expected.extend(framed(&frame(first, len)));
        }
        let mut written = Vec::new();
        while let Some(run) = segments.take() {
            written.extend(run);
        }
        prop_assert_eq!(written, expected);
    }

    #[test]
    fn messages_are_read_however_the_bytes_were_cut(
        lens in prop::collection::vec(0_usize..20_000, 0..6),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let frames: Vec<_> = lens.iter().zip(0..).map(|(&len, first)| frame(first, len)).collect();
        let bytes: Vec<u8> = frames.iter().flat_map(framed).collect();
        let reading = read(body_of(cut(&bytes, places), None), Side::Server);
        let got = reading.now_or_never().expect("all is there").unwrap();
        prop_assert_eq!(got, frames);
    }

    #[test]
    fn bytes_that_are_no_messages_are_refused_and_end_the_stream(
        bytes in prop::collection::vec(any::<u8>(), 1..200),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let body = body_of(cut(&bytes, places), None);
        let mut incoming = Messages::<PublishStreamRequest>::new(body, Side::Server, 1 << 20);
        let mut next = || incoming.next().now_or_never().expect("all is there");
        let items = std::iter::from_fn(&mut next).take_while(Result::is_ok).count();
        prop_assert!(items <= bytes.len() / 5);
        prop_assert!(next().is_none());
    }
}

#[test]
fn a_large_payload_is_passed_on_as_it_is_and_a_small_one_is_copied() {
    for (len, is_shared) in [(64 * 1024, true), (4096, true), (4095, false)] {
        let batch = Bytes::from(vec![7; len]);
        let mut segments = Segments::default();
        let message = publish_frame(SequenceId::new(1), batch.clone().into(), 1, None);
        segments.add(&message, 1 << 20).unwrap();
        let mut is_there = false;
        while let Some(run) = segments.take() {
            is_there |= run.as_ptr() == batch.as_ptr();
        }
        assert_eq!(is_there, is_shared, "{len}");
    }
}

#[tokio::test]
async fn a_large_payload_is_a_part_of_the_run_it_came_in_and_a_small_one_keeps_nothing_else() {
    for (len, is_part) in [(16 * 1024, true), (16 * 1024 - 1, false)] {
        let batch = Bytes::from(vec![7; len]);
        let message = publish_frame(SequenceId::new(1), batch.clone().into(), 1, None);
        let bytes = Bytes::from(framed(&message));
        let head = bytes.len() - len;
        // The bytes around it may come by themselves.
        let runs = vec![bytes.slice(..head), bytes.slice(head..)];
        let read = read(body_of(runs, None), Side::Server).await.unwrap();
        assert_eq!(read.len(), 1);
        for frame in read {
            let body = published(batch_of(frame)).unwrap().body.bytes;
            assert_eq!(body, batch);
            assert_eq!(bytes.as_ptr_range().contains(&body.as_ptr()), is_part);
        }
    }
}

fn batch_of(frame: PublishStreamRequest) -> PublishBatch {
    match frame.frame {
        Some(publish_stream_request::Frame::Batch(batch)) => batch,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stream_that_is_not_grpc_is_refused() {
    let whole = framed(&frame(1, 10));
    let mut compressed = whole.clone();
    compressed[0] = 1;
    let long = framed(&frame(1, 2 << 20));
    let cases = [
        (whole[..whole.len() - 1].to_vec(), Code::Internal),
        (whole[..3].to_vec(), Code::Internal),
        (compressed, Code::Internal),
        (long, Code::OutOfRange),
        (vec![0, 0, 0, 0, 1, 0xff], Code::Internal),
    ];
    for (bytes, code) in cases {
        let status = read(body_of(vec![bytes.clone().into()], None), Side::Server).await;
        assert_eq!(status.unwrap_err().code(), code, "{bytes:?}");
    }
    let undecodable = read(
        body_of(vec![vec![0, 0, 0, 0, 1, 0xff].into()], None),
        Side::Server,
    );
    let problem = crate::status::undecodable(&undecodable.await.unwrap_err()).unwrap();
    assert_eq!(problem.reason, Reason::BadFrame);
    let long = read(
        body_of(vec![framed(&frame(1, 2 << 20)).into()], None),
        Side::Server,
    );
    let problem = crate::status::undecodable(&long.await.unwrap_err()).unwrap();
    assert_eq!(problem.reason, Reason::MessageTooLarge);
}

#[tokio::test]
async fn a_client_learns_how_the_stream_ended() {
    let bytes: Bytes = framed(&frame(1, 10)).into();
    let trailers = |status: Status| {
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).unwrap();
        Some(trailers)
    };
    let client = Side::Client(StatusCode::OK);
    let done = read(
        body_of(vec![bytes.clone()], trailers(Status::ok(""))),
        client,
    )
    .await;
    assert_eq!(done.unwrap().len(), 1);
    let refusal = trailers(Status::unavailable("not now"));
    let refused = read(body_of(vec![bytes.clone()], refusal), client)
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "not now")
    );
    let cut_off = read(body_of(vec![bytes], None), client).await.unwrap_err();
    assert_eq!(cut_off.code(), Code::Unknown);
    let proxy = Side::Client(StatusCode::BAD_GATEWAY);
    let by_proxy = read(body_of(Vec::new(), None), proxy).await.unwrap_err();
    assert_eq!(by_proxy.code(), Code::Unavailable);
    assert!(
        read(body_of(Vec::new(), None), Side::ClientOfNothing)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn small_messages_that_are_there_gather_and_none_waits_for_the_next() {
    let (messages, waiting) = mpsc::channel(8);
    let waiting = stream::unfold(waiting, |mut it| async { Some((it.recv().await?, it)) });
    let mut body = Outgoing::of_client(waiting.boxed(), 1 << 20);
    for first in 0..3 {
        messages.try_send(Ok(frame(first, 10))).unwrap();
    }
    let gathered = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let expected: Vec<u8> = (0..3).flat_map(|first| framed(&frame(first, 10))).collect();
    assert_eq!(gathered, expected);
    messages.try_send(Ok(frame(3, 10))).unwrap();
    let alone = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(alone, framed(&frame(3, 10)));
    drop(messages);
    assert!(body.frame().await.is_none());
}

/// Answers each batch with its number and its length as an epoch; refuses an empty one.
#[derive(Debug, Clone)]
struct Echo;

fn echo(frame: Result<PublishStreamRequest, Status>) -> Result<PublishStreamResponse, Status> {
    let batch = batch_of(frame?);
    let first_sequence_id = batch.first_sequence_id;
    let read = published(batch).map_err(|p| crate::status::to_status(&p))?;
    let bytes = read.body.bytes;
    if bytes.is_empty() {
        let problem = Problem::bad_field("batch", "is empty");
        return Err(crate::status::to_status(&problem));
    }
    let receipt = crate::raw::v1::Receipt {
        first_sequence_id,
        count: u32::try_from(bytes.len()).unwrap(),
        ..Default::default()
    };
    let items = vec![receipt];
    let receipts = crate::raw::v1::Receipts { items };
    Ok(PublishStreamResponse {
        frame: Some(crate::raw::v1::publish_stream_response::Frame::Receipts(
            receipts,
        )),
    })
}

#[tonic::async_trait]
impl Publisher for Echo {
    type PublishStreamStream = stream::BoxStream<'static, Result<PublishStreamResponse, Status>>;

    async fn publish(
        &self,
        _: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        Ok(Response::new(request.into_inner().map(echo).boxed()))
    }
}

/// Serves with the generated code or without copies.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's server, gone with its runtime"
)]
async fn served(is_hot: bool) -> tonic::transport::Channel {
    let net: Arc<dyn Net> = Arc::new(Pipes::new());
    let incoming = net.listen(&Address::new("pipe:echo")).await.unwrap();
    let local = incoming.local.clone();
    let mut routes = Routes::new().add(PublisherServer::new(Echo));
    if is_hot {
        routes = routes.hot(
            PUBLISH,
            |request: Request<Messages<PublishStreamRequest>>| {
                let answers = request.into_inner().map(echo).boxed();
                ready(Ok(Response::new(answers)))
            },
        );
    }
    tokio::spawn(async move {
        let options = ServerOptions::public();
        serve(incoming, routes, &options, std::future::pending()).await
    });
    channel(&net, &local)
}

#[tokio::test]
async fn streams_without_copies_and_generated_ones_understand_each_other() {
    const LENS: [usize; 5] = [10, 5_000, 100_000, 3 << 20, 1];
    let frames = || stream::iter(LENS.iter().zip(0..).map(|(&len, first)| frame(first, len)));
    let expected: Vec<_> = frames().map(Ok).map(echo).try_collect().await.unwrap();
    for is_hot in [false, true] {
        let channel = served(is_hot).await;
        let mut client = PublisherClient::new(channel.clone());
        let answers = client.publish_stream(frames()).await.unwrap().into_inner();
        let got: Vec<_> = answers.try_collect().await.unwrap();
        assert_eq!(got, expected, "generated client");
        let answers: Messages<PublishStreamResponse> =
            PUBLISH.call(channel, frames()).await.unwrap().into_inner();
        let got: Vec<_> = answers.try_collect().await.unwrap();
        assert_eq!(got, expected, "client without copies");
    }
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_a_stream_arrives_whole_behind_what_was_answered() {
    for is_hot in [false, true] {
        let frames = stream::iter([frame(0, 10), frame(1, 0), frame(2, 10)]);
        let channel = served(is_hot).await;
        let mut answers: Messages<PublishStreamResponse> =
            PUBLISH.call(channel, frames).await.unwrap().into_inner();
        assert!(answers.next().await.unwrap().is_ok());
        let status = answers.next().await.unwrap().unwrap_err();
        let problem = crate::status::from_status(&status);
        assert_eq!(problem.field.as_deref(), Some("batch"));
        assert!(answers.next().await.is_none());
    }
}

#[tokio::test]
async fn a_hot_method_refuses_a_stream_that_is_compressed_as_a_whole() {
    use tower::ServiceExt as _;
    let handler = |request: Request<Messages<PublishStreamRequest>>| {
        ready(Ok(Response::new(request.into_inner().map(echo).boxed())))
    };
    let routes = Routes::new().hot(PUBLISH, handler);
    let request = HttpRequest::builder()
        .uri(PUBLISH.path)
        .header("grpc-encoding", "gzip");
    let answer = routes
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(answer.headers()["grpc-accept-encoding"], "identity");
}

#[test]
fn hot_methods_are_where_the_generated_code_has_them() {
    let descriptors = prost_types::FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
    for hot in [PUBLISH, CONSUME] {
        let is_there = descriptors.file.iter().any(|file| {
            file.service.iter().any(|service| {
                let service_path = format!("/{}.{}/", file.package(), service.name());
                let mut methods = service.method.iter();
                methods.any(|method| hot.path == format!("{service_path}{}", method.name()))
            })
        });
        assert!(is_there, "{}", hot.path);
    }
}
