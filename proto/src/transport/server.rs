//! Servers.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use host::net::{Address, Incoming};

use super::gate::Gated;
use super::{
    CONNECTION_WINDOW, HEADERS_MAX, HTTP_FRAME_MAX, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Routes,
    STREAM_WINDOW,
};

/// How long accepting pauses after an error, such as no free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    incoming: Incoming,
    routes: Routes,
    options: &ServerOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let cut = CancellationToken::new();
    let _cut_on_drop = cut.clone().drop_guard();
    let begun = CancellationToken::new();
    let announced = async {
        shutdown.await;
        begun.cancel();
    };
    let conns = accepted(incoming, cut.clone());
    let serving = builder(options).serve_with_incoming_shutdown(routes, conns, announced);
    let impatience = async {
        begun.cancelled().await;
        tokio::time::sleep(options.drain).await;
        cut.cancel();
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        biased; // The end before the end of patience.
        ended = serving => ended.map_err(io::Error::other),
        never = impatience => match never {},
    }
}

fn builder(options: &ServerOptions) -> Server {
    Server::builder()
        .max_concurrent_streams(options.streams_max)
        .initial_stream_window_size(options.stream_window)
        .initial_connection_window_size(options.connection_window)
        .max_frame_size(HTTP_FRAME_MAX)
        .http2_max_header_list_size(HEADERS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

/// The connections as the server takes them. After an error it waits a moment: accepting again at once would spin for
/// as long as the cause lasts.
fn accepted(
    incoming: Incoming,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Gated>> + Send {
    let Incoming { local, conns } = incoming;
    stream::unfold((conns, local, cut), async |(mut conns, local, cut)| {
        loop {
            match conns.next().await? {
                Ok((conn, peer)) => {
                    let conn = Gated::new(conn, peer, cut.clone());
                    return Some((Ok(conn), (conns, local, cut)));
                }
                Err(error) => {
                    tracing::warn!(at = %local, %error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}
