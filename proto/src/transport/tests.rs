use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::{Request, Response, Status, Streaming};
use tower::ServiceExt;

use host::net::{Address, Conn, Incoming, Net, Pipes};
use host::{Clock, SIMULATED_START};

use super::*;
use crate::bookie_v1::bookie_client::BookieClient;
use crate::bookie_v1::bookie_server::{Bookie, BookieServer};
use crate::bookie_v1::{
    AddEntriesRequest, AddEntriesResponse, DescribeRequest, DescribeResponse, DescribeSpaceRequest,
    DescribeSpaceResponse, ReadLacRequest, ReadLacResponse, ReadRequest, ReadResponse,
    ReadRunRequest, ReadRunResponse,
};
use crate::status;

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers a description with the caller's address as its name, writable if what the call does beside runs in the same task as it
/// does, a stream of adds with silence, and a question for space with a panic.
#[derive(Debug, Default)]
struct Fake;

#[tonic::async_trait]
impl Bookie for Fake {
    type AddEntriesStream = Frames<AddEntriesResponse>;
    type ReadRunStream = Frames<ReadRunResponse>;

    async fn add_entries(
        &self,
        _: Request<Streaming<AddEntriesRequest>>,
    ) -> Result<Response<Self::AddEntriesStream>, Status> {
        Ok(Response::new(stream::pending().boxed()))
    }

    async fn read(&self, _: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        Ok(Response::new(std::future::pending().await))
    }

    async fn read_lac(
        &self,
        _: Request<ReadLacRequest>,
    ) -> Result<Response<ReadLacResponse>, Status> {
        Err(status::to_status(&types::Problem::bad_field(
            "ledger",
            "is missing",
        )))
    }

    async fn read_run(
        &self,
        _: Request<ReadRunRequest>,
    ) -> Result<Response<Self::ReadRunStream>, Status> {
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn describe_space(
        &self,
        _: Request<DescribeSpaceRequest>,
    ) -> Result<Response<DescribeSpaceResponse>, Status> {
        panic!("a defect of one call")
    }

    async fn describe(
        &self,
        request: Request<DescribeRequest>,
    ) -> Result<Response<DescribeResponse>, Status> {
        let name = peer_of(&request)
            .map(ToString::to_string)
            .unwrap_or_default();
        let (told, beside) = oneshot::channel();
        ConnectionTask::of(&request).spawn(async move {
            let _ = told.send(tokio::task::id());
        });
        Ok(Response::new(DescribeResponse {
            name,
            writable: beside.await == Ok(tokio::task::id()),
            ..DescribeResponse::default()
        }))
    }
}

struct Running {
    stop: Option<oneshot::Sender<()>>,
    ended: Pin<Box<dyn Future<Output = io::Result<()>> + Send>>,
}

impl Running {
    async fn stop(mut self) {
        drop(self.stop.take());
        self.ended.await.unwrap();
    }
}

/// Runs a server beside the test; its tasks are the test runtime's.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's server, joined by the test"
)]
async fn start(net: &Arc<dyn Net>, at: &Address, options: ServerOptions) -> Running {
    let incoming = net.listen(at).await.unwrap();
    let routes = Routes::new().add(BookieServer::new(Fake));
    let (stop, stopped) = oneshot::channel::<()>();
    let server = async move {
        let stopped = stopped.map(drop);
        serve(incoming, routes, &options, stopped).await
    };
    let ended = tokio::spawn(server).map(|ended| ended.unwrap()).boxed();
    Running {
        stop: Some(stop),
        ended,
    }
}

fn pipes() -> (Arc<dyn Net>, Address) {
    (Arc::new(Pipes::new()), Address::new("pipe:bookie-1"))
}

#[tokio::test]
async fn a_call_goes_over_a_pipe_and_knows_where_it_came_from() {
    let (net, at) = pipes();
    let server = start(&net, &at, ServerOptions::internal()).await;
    let mut client = BookieClient::new(channel(&net, &at));
    let answer = client
        .describe(DescribeRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(!answer.name.is_empty());
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn what_a_call_does_beside_runs_in_the_task_of_its_connection() {
    let (net, at) = pipes();
    let server = start(&net, &at, ServerOptions::internal()).await;
    let mut client = BookieClient::new(channel(&net, &at));
    let answer = client.describe(DescribeRequest::default()).await.unwrap();
    assert!(answer.into_inner().writable);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_panics_is_reset_and_others_of_its_connection_go_on() {
    let (net, at) = pipes();
    let server = start(&net, &at, ServerOptions::internal()).await;
    let mut client = BookieClient::new(channel(&net, &at));
    let adds = client.add_entries(stream::pending()).await.unwrap();
    let mut adds = adds.into_inner();
    let failed = client.describe_space(DescribeSpaceRequest::default()).await;
    let problem = status::from_status(&failed.unwrap_err());
    assert_eq!(problem.reason, types::Reason::OutcomeUnknown);
    client.describe(DescribeRequest::default()).await.unwrap();
    assert!(adds.next().now_or_never().is_none(), "it is open still");
    drop((client, adds));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_dropped_cuts_its_connections() {
    let (net, at) = pipes();
    let incoming = net.listen(&at).await.unwrap();
    let routes = Routes::new().add(BookieServer::new(Fake));
    let options = ServerOptions::internal();
    let mut client = BookieClient::new(channel(&net, &at));
    let mut adds = {
        let never = std::future::pending();
        let mut serving = Box::pin(serve(incoming, routes, &options, never));
        tokio::select! {
            ended = &mut serving => panic!("{ended:?}"),
            adds = client.add_entries(stream::pending()) => adds.unwrap().into_inner(),
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(1), adds.next()).await;
    assert!(matches!(ended, Ok(Some(Err(_)))), "{ended:?}");
}

#[tokio::test]
async fn a_problem_arrives_whole() {
    let (net, at) = pipes();
    let server = start(&net, &at, ServerOptions::public()).await;
    let mut client = BookieClient::new(channel(&net, &at));
    let status = client
        .read_lac(ReadLacRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        status::from_status(&status),
        types::Problem::bad_field("ledger", "is missing")
    );
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_service_is_answered_as_grpc_wants() {
    let (net, at) = pipes();
    let server = start(&net, &at, ServerOptions::public()).await;
    let mut client = crate::v1::routing_client::RoutingClient::new(channel(&net, &at));
    let status = client
        .get_server_info(crate::v1::GetServerInfoRequest {})
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_call_to_nobody_is_known_not_to_have_arrived_and_succeeds_once_somebody_is_there() {
    let (net, at) = pipes();
    let mut client = BookieClient::new(channel(&net, &at));
    let status = client
        .describe(DescribeRequest::default())
        .await
        .unwrap_err();
    assert!(status::was_never_sent(&status), "{status:?}");
    let problem = status::from_status(&status);
    assert_eq!(problem.reason, types::Reason::Unreachable);
    assert!(problem.message.contains("bookie-1"), "{}", problem.message);
    let server = start(&net, &at, ServerOptions::internal()).await;
    client.describe(DescribeRequest::default()).await.unwrap();
    drop(client);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_drain_is_cut_and_its_outcome_is_unknown() {
    let (net, at) = pipes();
    let options = ServerOptions {
        drain: Duration::from_secs(2),
        ..ServerOptions::internal()
    };
    let server = start(&net, &at, options).await;
    let mut client = BookieClient::new(channel(&net, &at));
    client.describe(DescribeRequest::default()).await.unwrap();
    let begun = Instant::now();
    let (hung, ()) = tokio::join!(client.read(ReadRequest::default()), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        server.stop().await;
    });
    let waited = begun.elapsed();
    assert!(
        waited >= Duration::from_secs(2) && waited < Duration::from_secs(4),
        "{waited:?}"
    );
    let problem = status::from_status(&hung.unwrap_err());
    assert_eq!(problem.reason, types::Reason::OutcomeUnknown);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_given_up_when_its_caller_does_not_wait_any_more() {
    let routes = Routes::new().add(BookieServer::new(Fake));
    let empty = http_body_util::Full::<bytes::Bytes>::from(&[0; 5][..]); // In gRPC's framing.
    let request = http::Request::post("/ledgerline.bookie.v1.Bookie/Read")
        .header("grpc-timeout", "50m")
        .body(Body::new(empty))
        .unwrap();
    let begun = Instant::now();
    let answer = routes.oneshot(request).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_millis(50));
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_stops_at_once() {
    let (net, at) = pipes();
    let server = start(&net, &at, ServerOptions::internal()).await;
    let client = BookieClient::new(channel(&net, &at));
    client
        .clone()
        .describe(DescribeRequest::default())
        .await
        .unwrap();
    let begun = Instant::now();
    server.stop().await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}

/// A network that never connects.
#[derive(Debug)]
struct Nowhere;

impl Net for Nowhere {
    fn listen(&self, _: &Address) -> BoxFuture<'static, io::Result<Incoming>> {
        std::future::pending().boxed()
    }

    fn connect(&self, _: &Address) -> BoxFuture<'static, io::Result<Box<dyn Conn>>> {
        std::future::pending().boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn connecting_has_a_deadline() {
    let net: Arc<dyn Net> = Arc::new(Nowhere);
    let options = ChannelOptions {
        connect_timeout: Duration::from_secs(1),
        ..ChannelOptions::default()
    };
    let mut client = BookieClient::new(channel_with(&net, &Address::new("h:1"), &options));
    let begun = Instant::now();
    let status = client
        .describe(DescribeRequest::default())
        .await
        .unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert!(status::was_never_sent(&status), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_accepts_and_says_nothing_is_noticed() {
    let (net, at) = pipes();
    let mut silent = net.listen(&at).await.unwrap();
    let mut client = BookieClient::new(channel(&net, &at));
    let begun = Instant::now();
    let (status, _conn) = tokio::join!(
        client.describe(DescribeRequest::default()),
        silent.conns.next()
    );
    assert!(begun.elapsed() <= KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT + Duration::from_secs(1));
    let problem = status::from_status(&status.unwrap_err());
    assert_eq!(problem.reason, types::Reason::OutcomeUnknown);
}

#[tokio::test(start_paused = true)]
async fn errors_in_accepting_pause_and_never_end_the_server() {
    let (pipes, at) = pipes();
    let Incoming { local, conns } = pipes.listen(&at).await.unwrap();
    let begun = Instant::now();
    let errors = stream::repeat_with(|| Err(io::Error::other("no file descriptors"))).take(30);
    let incoming = Incoming {
        local,
        conns: errors.chain(conns).boxed(),
    };
    let routes = Routes::new().add(BookieServer::new(Fake));
    let (stop, stopped) = mpsc::channel::<()>(1);
    let mut stopped = stopped;
    let shutdown = async move {
        stopped.recv().await;
    };
    let mut client = BookieClient::new(channel(&pipes, &at));
    let options = ServerOptions::internal();
    let (served, ()) = tokio::join!(serve(incoming, routes, &options, shutdown), async {
        client.describe(DescribeRequest::default()).await.unwrap();
        drop((client, stop));
    });
    served.unwrap();
    assert!(
        begun.elapsed() >= Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused_by_name() {
    let (net, at) = pipes();
    let incoming = net.listen(&at).await.unwrap();
    let small = BookieServer::new(Fake).max_decoding_message_size(1000);
    let routes = Routes::new().add(small);
    let options = ServerOptions::internal();
    let mut client = BookieClient::new(channel(&net, &at));
    let call = async {
        let target = crate::bookie_v1::Target {
            cluster: vec![7; 5000].into(),
            ..crate::bookie_v1::Target::default()
        };
        client
            .describe(DescribeRequest {
                target: Some(target),
            })
            .await
            .unwrap_err()
    };
    tokio::select! {
        ended = serve(incoming, routes, &options, std::future::pending()) => panic!("{ended:?}"),
        status = call => {
            assert_eq!(status::from_status(&status).reason, types::Reason::MessageTooLarge);
        }
    }
}

#[tokio::test]
async fn each_refusal_is_told_once_and_no_answer_is() {
    let (net, at) = pipes();
    let incoming = net.listen(&at).await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let small = BookieServer::new(Fake).max_decoding_message_size(1000);
    let routes = Routes::new().add(small);
    let routes = routes.on_refusal(move |problem| tell.lock().unwrap().push(problem.reason));
    let options = ServerOptions::internal();
    let mut client = BookieClient::new(channel(&net, &at));
    let calls = async {
        client.describe(DescribeRequest::default()).await.unwrap();
        let refused = client.read_lac(ReadLacRequest::default()).await;
        assert!(refused.is_err());
        let target = Some(crate::bookie_v1::Target {
            cluster: vec![7; 5000].into(),
            ..crate::bookie_v1::Target::default()
        });
        let too_large = client.describe(DescribeRequest { target }).await;
        assert!(too_large.is_err());
    };
    tokio::select! {
        ended = serve(incoming, routes, &options, std::future::pending()) => panic!("{ended:?}"),
        () = calls => {}
    }
    let expected = [types::Reason::BadField, types::Reason::MessageTooLarge];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[test]
fn only_plain_addresses_are_taken() {
    for (text, address) in [
        ("http://127.0.0.1:6650", "127.0.0.1:6650"),
        ("http://node-1:6650/", "node-1:6650"),
        ("[::1]:6650", "[::1]:6650"),
        ("localhost:1", "localhost:1"),
        ("http://pipe:serving-1", "pipe:serving-1"),
        ("pipe:serving-1", "pipe:serving-1"),
    ] {
        assert_eq!(address_of(text).unwrap().as_str(), address);
    }
    for text in [
        "",
        "localhost",
        "https://h:1",
        "ftp://h:1",
        "http://h:1/x",
        "h:99999",
        ":1",
        "a b:1",
        "u@h:1",
        "pipe:",
    ] {
        assert_eq!(
            address_of(text).unwrap_err().field.as_deref(),
            Some("endpoint"),
            "{text}"
        );
    }
}

#[test]
fn routes_name_their_services() {
    let routes = Routes::new().add(BookieServer::new(Fake));
    assert_eq!(
        routes.names().collect::<Vec<_>>(),
        ["ledgerline.bookie.v1.Bookie"]
    );
    assert_eq!(format!("{routes:?}"), "[\"ledgerline.bookie.v1.Bookie\"]");
}

#[tokio::test(start_paused = true)]
async fn answers_carry_the_date_of_the_nodes_clock() {
    let clock = Clock::simulated(SIMULATED_START);
    let routes = Routes::new().dated(&clock).add(BookieServer::new(Fake));
    for path in ["/ledgerline.bookie.v1.Bookie/Describe", "/no/such"] {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let answer = routes.clone().oneshot(request).await.unwrap();
        let date = &answer.headers()["date"];
        assert_eq!(date, "Thu, 01 Jan 2026 00:00:00 GMT", "{path}");
    }
}
