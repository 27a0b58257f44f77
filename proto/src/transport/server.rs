//! Servers.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use host::net::{Address, Conn, Incoming};
use hyper::body;
use hyper::server::conn::http2;
use hyper::service::Service as HyperService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::Service as _;

use super::gate::Gated;
use super::routes::Answered;
use super::{
    CONNECTION_WINDOW, ConnectionTask, HEADERS_MAX, HTTP_FRAME_MAX, KEEPALIVE_INTERVAL,
    KEEPALIVE_TIMEOUT, Routes, STREAM_WINDOW,
};

/// How long accepting pauses after an error, such as no free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Streams that a peer opened and reset before they were looked at; with one more the connection ends. HTTP/2's "rapid reset".
const RESETS_PENDING_MAX: usize = 20;

/// Streams of one connection, over its whole life, that may end by a mistake of the peer's, such as one stream more than it may
/// have, or data behind a refusal; with one more the connection ends. A client that lives for months makes some.
const ERROR_RESETS_MAX: usize = 100_000;

/// Bytes of a stream that wait in its connection for the socket; its answers wait behind them.
const SEND_BUFFER: usize = 400 << 10;

/// What may differ from server to server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Most calls and streams at a time on one connection.
    pub streams_max: u32,
    /// Bytes on their way on one stream before the server has to read.
    pub stream_window: u32,
    /// Bytes on their way on one connection before the server has to read: what a connection may cost in memory.
    pub connection_window: u32,
    /// How long connections may drain after the shutdown began; then they are cut.
    pub drain: Duration,
}

impl ServerOptions {
    /// For clients: many connections, each of them cheap.
    pub const fn public() -> Self {
        Self {
            streams_max: 1024,
            stream_window: 4 << 20,
            connection_window: 8 << 20,
            drain: Duration::from_secs(5),
        }
    }

    /// For nodes: few connections, each of them wide.
    pub const fn internal() -> Self {
        Self {
            streams_max: 4096,
            stream_window: STREAM_WINDOW,
            connection_window: CONNECTION_WINDOW,
            drain: Duration::from_secs(2),
        }
    }
}

/// The address of a connection's other end, in each request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress(pub Address);

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a request came from; none for one that did not come over [`serve`].
pub fn peer_of<T>(request: &tonic::Request<T>) -> Option<&Address> {
    request
        .extensions()
        .get()
        .map(|PeerAddress(address)| address)
}

/// Serves `routes` on the connections that come, until `shutdown` is ready; then refuses new connections, lets calls
/// end for [`ServerOptions::drain`], and cuts what is left.
///
/// Returns when every connection has ended. An error in accepting one is logged and followed by a pause; it never
/// ends the server.
///
/// # Errors
///
/// None in today's transport; a server that returns one has stopped.
///
/// # Cancel safety
///
/// Dropping the future refuses new connections and cuts those there are.
pub async fn serve(
    mut incoming: Incoming,
    routes: Routes,
    options: &ServerOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let server = Server {
        routes,
        options: options.clone(),
        closing: CancellationToken::new(),
        cut: CancellationToken::new(),
        open: TaskTracker::new(),
    };
    let _cut_on_drop = server.cut.clone().drop_guard();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased; // The end first.
            () = &mut shutdown => break,
            conn = accepted(&mut incoming) => match conn {
                Some((conn, peer)) => server.open(conn, peer),
                None => break,
            },
        }
    }
    // New connections are refused from here on.
    drop(incoming);
    server.closing.cancel();
    server.open.close();
    let drained = tokio::time::timeout(server.options.drain, server.open.wait()).await;
    if drained.is_err() {
        server.cut.cancel();
        server.open.wait().await;
    }
    Ok(())
}

/// The next connection. After an error it waits a moment: accepting again at once would spin for as long as the cause lasts.
///
/// # Cancel safety
///
/// No connection is lost.
async fn accepted(incoming: &mut Incoming) -> Option<(Box<dyn Conn>, Address)> {
    loop {
        match incoming.conns.next().await? {
            Ok(accepted) => return Some(accepted),
            Err(error) => {
                tracing::warn!(at = %incoming.local, %error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What the connections of one server share.
struct Server {
    routes: Routes,
    options: ServerOptions,
    /// Tells connections to end when their calls have.
    closing: CancellationToken,
    /// Breaks them.
    cut: CancellationToken,
    open: TaskTracker,
}

impl Server {
    /// Serves a connection, beside the others.
    fn open(&self, conn: Box<dyn Conn>, peer: Address) {
        let task = ConnectionTask::default();
        let service = Calls {
            routes: self.routes.clone(),
            peer: PeerAddress(peer),
            task: task.clone(),
        };
        let conn = TokioIo::new(Gated::new(conn, task.clone(), self.cut.clone()));
        let served = self.http(&task).serve_connection(conn, service);
        let closing = self.closing.clone();
        task.spawn(self.open.track_future(async move {
            let mut served = pin!(served);
            let ended = tokio::select! {
                biased;
                ended = &mut served => ended,
                () = closing.cancelled() => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "connection broke");
            }
        }));
    }

    fn http(&self, task: &ConnectionTask) -> http2::Builder<ConnectionTask> {
        let mut http = http2::Builder::new(task.clone());
        http.timer(TokioTimer::new())
            .max_concurrent_streams(self.options.streams_max)
            .initial_stream_window_size(self.options.stream_window)
            .initial_connection_window_size(self.options.connection_window)
            .max_frame_size(HTTP_FRAME_MAX)
            .max_header_list_size(HEADERS_MAX)
            .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
            .max_local_error_reset_streams(ERROR_RESETS_MAX)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(Some(KEEPALIVE_INTERVAL))
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        http
    }
}

/// The calls of one connection.
struct Calls {
    routes: Routes,
    peer: PeerAddress,
    task: ConnectionTask,
}

impl HyperService<Request<body::Incoming>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answered;

    fn call(&self, request: Request<body::Incoming>) -> Answered {
        let mut request = request.map(Body::new);
        let extensions = request.extensions_mut();
        extensions.insert(self.peer.clone());
        extensions.insert(self.task.clone());
        self.routes.clone().call(request)
    }
}
