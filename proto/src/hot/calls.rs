//! Calls of hot methods, from both sides: as the generated client and server make them, but for the copies.

use std::convert::Infallible;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use prost::Message;
use tonic::body::Body;
use tonic::codegen::http::header::{CONTENT_TYPE, HeaderMap, TE};
use tonic::codegen::http::{self, HeaderValue, Method, Uri, Version};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tower::{Service, ServiceExt};

use crate::transport::{INTERNAL_MESSAGE_MAX, PUBLIC_MESSAGE_MAX};

use super::messages::{Messages, Side};
use super::outgoing::Outgoing;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const ENCODING: &str = "grpc-encoding";
const ACCEPTED: &str = "grpc-accept-encoding";

/// A method with a stream of `Up` to the server and a stream of `Down` back. Of a unary method each has one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HotMethod {
    /// Its path: `/package.Service/Method`.
    pub path: &'static str,
    /// Most bytes of one message.
    pub most: usize,
}

/// `Publisher.PublishStream`: batches up, receipts down.
pub const PUBLISH: HotMethod = HotMethod {
    path: "/ledgerline.v1.Publisher/PublishStream",
    most: PUBLIC_MESSAGE_MAX,
};

/// `Publisher.Publish`: a batch up, its receipt down.
pub const PUBLISH_ONCE: HotMethod = HotMethod {
    path: "/ledgerline.v1.Publisher/Publish",
    most: PUBLIC_MESSAGE_MAX,
};

/// `Subscriber.Consume`: acks up, deliveries down.
pub const CONSUME: HotMethod = HotMethod {
    path: "/ledgerline.v1.Subscriber/Consume",
    most: PUBLIC_MESSAGE_MAX,
};

/// `Bookie.AddEntries`: entries up, answers down.
pub const ADD_ENTRIES: HotMethod = HotMethod {
    path: "/ledgerline.bookie.v1.Bookie/AddEntries",
    most: INTERNAL_MESSAGE_MAX,
};

/// `Bookie.ReadRun`: one request up, entries down.
pub const READ_RUN: HotMethod = HotMethod {
    path: "/ledgerline.bookie.v1.Bookie/ReadRun",
    most: INTERNAL_MESSAGE_MAX,
};

/// What a server answers.
pub type Answer<Down> = Result<Response<BoxStream<'static, Result<Down, Status>>>, Status>;

impl HotMethod {
    /// Calls it.
    ///
    /// # Errors
    ///
    /// The server's refusal, or the transport's; see [`crate::status::was_never_sent`].
    pub async fn call<Up, Down>(
        self,
        channel: Channel,
        messages: impl Stream<Item = Up> + Send + Unpin + 'static,
    ) -> Result<Response<Messages<Down>>, Status>
    where
        Up: Message + 'static,
        Down: Message + Default,
    {
        let mut channel = channel;
        let ready = ServiceExt::<http::Request<Body>>::ready(&mut channel).await;
        let channel = ready.map_err(|error| {
            let text = format!("Service was not ready: {error}");
            Status::unknown(text)
        })?;
        let body = Outgoing::of_client(messages.map(Ok), self.most);
        let mut request = http::Request::new(Body::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(self.path);
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, GRPC);
        let answer = channel.call(request).await;
        let (parts, body) = answer
            .map_err(|error| Status::from_error(Box::new(error)))?
            .into_parts();
        uncompressed(&parts.headers)?;
        let side = match Status::from_header_map(&parts.headers) {
            Some(status) if status.code() != Code::Ok => return Err(status),
            Some(_) => Side::ClientOfNothing,
            None => Side::Client(parts.status),
        };
        Ok(Response::new(Messages::new(body, side, self.most)))
    }

    /// Answers a call of it.
    pub(crate) async fn answer<Up, Down, F>(
        self,
        request: http::Request<Body>,
        handler: impl FnOnce(Request<Messages<Up>>) -> F,
    ) -> http::Response<Body>
    where
        Up: Message + Default,
        Down: Message + 'static,
        F: Future<Output = Answer<Down>>,
    {
        if let Err(status) = uncompressed(request.headers()) {
            return status.into_http();
        }
        let request = request.map(|body| Messages::new(body, Side::Server, self.most));
        match handler(Request::from_http(request)).await {
            Err(status) => status.into_http(),
            Ok(answer) => {
                let body = Outgoing::of_server(answer.into_inner(), self.most);
                let mut answer = http::Response::new(Body::new(body));
                answer.headers_mut().insert(CONTENT_TYPE, GRPC);
                answer
            }
        }
    }
}

/// A server's answer to calls of one path.
pub(crate) trait Hot: Send + Sync {
    fn call(
        &self,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, Infallible>>;
}

/// A method and who answers it.
pub(crate) struct Answering<H, Up, Down> {
    pub(crate) method: HotMethod,
    pub(crate) handler: H,
    pub(crate) messages: std::marker::PhantomData<fn(Up) -> Down>,
}

impl<H, Up, Down, F> Hot for Answering<H, Up, Down>
where
    Up: Message + Default + 'static,
    Down: Message + 'static,
    H: Fn(Request<Messages<Up>>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer<Down>> + Send + 'static,
{
    fn call(
        &self,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, Infallible>> {
        let (method, handler) = (self.method, self.handler.clone());
        async move { Ok(method.answer(request, handler).await) }.boxed()
    }
}

/// Refuses what is compressed as a whole: nothing was agreed on.
fn uncompressed(headers: &HeaderMap) -> Result<(), Status> {
    match headers.get(ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let text = format!(
                "messages are taken as they are, not compressed by the transport encoding={encoding:?}"
            );
            let mut status = Status::unimplemented(text);
            let accepted = MetadataValue::from_static("identity");
            status.metadata_mut().insert(ACCEPTED, accepted);
            Err(status)
        }
        _ => Ok(()),
    }
}
