//! A server that tests play: each stream that a client opens is handed to the test.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use host::Host;
use host::net::{Address, Net, Pipes};
use ledgerline_client::Client;
use proto::raw::v1 as pb;
use proto::transport::{Routes, ServerOptions, serve};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use types::{Problem, Reason};

/// No step of a test takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A network with a client on it.
pub(crate) struct World {
    pub(crate) net: Arc<dyn Net>,
    pub(crate) client: Client,
}

impl World {
    /// A client that knows these servers.
    pub(crate) fn new(addresses: &str) -> Self {
        let net: Arc<dyn Net> = Arc::new(Pipes::new());
        let host = Host::simulated("client", 1).with_net(Arc::clone(&net));
        let client = Client::builder()
            .addresses(addresses)
            .host(host)
            .build()
            .unwrap();
        Self { net, client }
    }

    /// Starts a server.
    pub(crate) async fn server(&self, name: &str) -> Fake {
        let host = Host::simulated(name, 2).with_net(Arc::clone(&self.net));
        let incoming = host.net.listen(&Address::new(name)).await.unwrap();
        let (publishers, streams) = mpsc::channel(16);
        let (consumers, subscriptions) = mpsc::channel(16);
        let routes = Routes::new()
            .add(pb::publisher_server::PublisherServer::new(Publishers(
                publishers,
            )))
            .add(pb::subscriber_server::SubscriberServer::new(Consumers(
                consumers,
            )));
        let stop = host.tasks.token();
        host.tasks.spawn("serve", async move {
            serve(
                incoming,
                routes,
                &ServerOptions::public(),
                stop.cancelled_owned(),
            )
            .await
        });
        Fake {
            publishers: streams,
            consumers: subscriptions,
            host,
        }
    }
}

/// A server, and the streams that come to it.
pub(crate) struct Fake {
    publishers: mpsc::Receiver<Publishing>,
    consumers: mpsc::Receiver<Consuming>,
    pub(crate) host: Host,
}

impl Fake {
    /// The next producer's stream.
    pub(crate) async fn publishing(&mut self) -> Publishing {
        in_time(self.publishers.recv())
            .await
            .expect("a client comes")
    }

    /// The next consumer's stream.
    pub(crate) async fn consuming(&mut self) -> Consuming {
        in_time(self.consumers.recv())
            .await
            .expect("a client comes")
    }
}

/// Waits, but not for ever.
pub(crate) async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it does not hang")
}

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// One stream, as the server sees it. Dropping it breaks the stream.
pub(crate) struct Session<In, Out> {
    incoming: Streaming<In>,
    outgoing: mpsc::Sender<Result<Out, Status>>,
}

impl<In, Out> Session<In, Out> {
    pub(crate) async fn next(&mut self) -> Option<In> {
        in_time(self.incoming.next()).await?.ok()
    }

    pub(crate) async fn send(&self, frame: impl Into<Out>) {
        // The client may be gone, which the test sees elsewhere.
        let _ = self.outgoing.send(Ok(frame.into())).await;
    }

    /// Ends the stream with an error.
    pub(crate) async fn end(self, reason: Reason) {
        let status = proto::status::to_status(&Problem::new(reason, "the test says so"));
        let _ = self.outgoing.send(Err(status)).await;
    }
}

pub(crate) type Publishing = Session<pb::PublishStreamRequest, pb::PublishStreamResponse>;
pub(crate) type Consuming = Session<pb::ConsumeRequest, pb::ConsumeResponse>;

fn open<In, Out: Send + 'static>(
    request: Request<Streaming<In>>,
) -> (Session<In, Out>, Response<Frames<Out>>) {
    let (outgoing, frames) = mpsc::channel(64);
    let session = Session {
        incoming: request.into_inner(),
        outgoing,
    };
    (
        session,
        Response::new(Box::pin(ReceiverStream::new(frames))),
    )
}

struct Publishers(mpsc::Sender<Publishing>);

#[tonic::async_trait]
impl pb::publisher_server::Publisher for Publishers {
    type PublishStreamStream = Frames<pb::PublishStreamResponse>;

    async fn publish(
        &self,
        _: Request<pb::PublishRequest>,
    ) -> Result<Response<pb::PublishResponse>, Status> {
        Err(Status::unimplemented("the client publishes over streams"))
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<pb::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let (session, response) = open(request);
        self.0
            .send(session)
            .await
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(response)
    }
}

struct Consumers(mpsc::Sender<Consuming>);

#[tonic::async_trait]
impl pb::subscriber_server::Subscriber for Consumers {
    type ConsumeStream = Frames<pb::ConsumeResponse>;

    async fn consume(
        &self,
        request: Request<Streaming<pb::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        let (session, response) = open(request);
        self.0
            .send(session)
            .await
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(response)
    }
}

/// A refusal as receipts and results carry it.
pub(crate) fn refusal(reason: Reason) -> Option<tonic_types::Status> {
    Some(proto::status::to_rpc(&Problem::new(
        reason,
        "the test says so",
    )))
}
