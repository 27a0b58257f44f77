//! Channels.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use types::Problem;

use host::net::{Address, Conn, Net};

use super::{
    CONNECTION_WINDOW, ConnectionTask, HEADERS_MAX, HTTP_FRAME_MAX, KEEPALIVE_INTERVAL,
    KEEPALIVE_TIMEOUT, STREAM_WINDOW,
};

/// What may differ from channel to channel.
#[derive(Debug, Clone)]
pub struct ChannelOptions {
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long any call may take that does not say so itself. None for streams: they live long.
    pub call_timeout: Option<Duration>,
    /// How long the connection may be silent before the other side is asked whether it lives.
    pub keepalive_interval: Duration,
    /// How long the answer to that may take.
    pub keepalive_timeout: Duration,
}

impl ChannelOptions {
    /// For links whose loss holds others up until it is noticed: four seconds after the other side was last heard it is
    /// given up, and connected again in tries of a second. What TCP still tries to send on a link that was cut it would
    /// send again ever more rarely.
    pub fn attentive() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            call_timeout: None,
            keepalive_interval: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(2),
        }
    }
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            call_timeout: None,
            keepalive_interval: KEEPALIVE_INTERVAL,
            keepalive_timeout: KEEPALIVE_TIMEOUT,
        }
    }
}

/// A channel to `to`, connected when it is first used and again after each break. Clones share the connection.
///
/// A call fails at once when no connection can be made; see [`crate::status::was_never_sent`].
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn channel(net: &Arc<dyn Net>, to: &Address) -> Channel {
    channel_with(net, to, &ChannelOptions::default())
}

/// As [`channel`], with options.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn channel_with(net: &Arc<dyn Net>, to: &Address, options: &ChannelOptions) -> Channel {
    // The names of pipes are no URIs; the other side does not care.
    let endpoint = Endpoint::from_shared(format!("http://{to}"))
        .unwrap_or_else(|_| Endpoint::from_static("http://ledgerline"));
    let mut endpoint = endpoint
        .executor(ConnectionTask::default())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(HTTP_FRAME_MAX)
        .http2_max_header_list_size(HEADERS_MAX)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true);
    if let Some(timeout) = options.call_timeout {
        endpoint = endpoint.timeout(timeout);
    }
    let net = Arc::clone(net);
    let to = to.clone();
    let timeout = options.connect_timeout;
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_uri| {
        // Not polled before the deadline runs, so that a simulated network sees the connect where it is awaited.
        let (net, to) = (Arc::clone(&net), to.clone());
        async move { connect(net.as_ref(), &to, timeout).await.map(TokioIo::new) }
    }))
}

async fn connect(net: &dyn Net, to: &Address, timeout: Duration) -> io::Result<Box<dyn Conn>> {
    match tokio::time::timeout(timeout, net.connect(to)).await {
        Ok(Ok(conn)) => Ok(conn),
        Ok(Err(error)) => Err(io::Error::new(
            error.kind(),
            format!("{error} address={to}"),
        )),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no connection within {timeout:?} address={to}"),
        )),
    }
}

/// The address in an endpoint such as `http://host:port`, or in an address without a scheme.
///
/// # Errors
///
/// `BAD_FIELD` when it is another scheme, has a path, or names no port.
pub fn address_of(endpoint: &str) -> Result<Address, Problem> {
    let bad = |what: &str| {
        let text: String = endpoint.chars().take(80).collect();
        Problem::bad_field(
            "endpoint",
            format!("{what}; expected http://host:port endpoint={text:?}"),
        )
    };
    let rest = match endpoint.split_once("://") {
        None => endpoint,
        Some(("http", rest)) => rest,
        Some(("https", _)) => return Err(bad("TLS is not supported yet")),
        Some(_) => return Err(bad("unknown scheme")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) || rest.contains(char::is_whitespace) {
        return Err(bad("not a plain address"));
    }
    if rest.starts_with("pipe:") && rest.len() > "pipe:".len() {
        return Ok(Address::new(rest));
    }
    match rest.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(Address::new(rest))
        }
        _ => Err(bad("no host or no port")),
    }
}
