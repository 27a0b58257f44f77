//! gRPC over a [`host::net::Net`]: the one place that knows how channels and servers are set up.
//!
//! Every limit is explicit, none is a library's default: streams, windows, frame and header sizes, keep-alives on both
//! sides. The limits on the size of one message belong to each generated client and server and are set there, from
//! [`PUBLIC_MESSAGE_MAX`] and [`INTERNAL_MESSAGE_MAX`].
//!
//! A dead peer is noticed within [`KEEPALIVE_INTERVAL`] and [`KEEPALIVE_TIMEOUT`] even when nothing is sent; a dead
//! process whose machine lives, at once.

mod client;
mod connection_task;
mod deadline;
mod gate;
mod rotation;
mod routes;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ChannelOptions, address_of, channel, channel_with};
pub use connection_task::ConnectionTask;
pub use rotation::{Rotation, Turn};
pub use routes::Routes;
pub use server::{PeerAddress, ServerOptions, peer_of, serve};

use std::time::Duration;

/// Most bytes of one message of the public services: a batch of 8 MiB, and frames of several small batches.
pub const PUBLIC_MESSAGE_MAX: usize = 16 << 20;

/// Most bytes of one message of the internal services: an entry, and frames of several small ones.
pub const INTERNAL_MESSAGE_MAX: usize = 16 << 20;

/// A frame of several batches or entries is cut at this many bytes, unless one alone is larger: many stubs receive
/// at most 4 MiB, and a slow reader's neighbours should not wait behind a long frame.
pub const FRAME_TARGET: usize = 1 << 20;

/// How long a connection may be silent before it is asked whether it lives.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// How long the answer to that may take.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes on their way on one stream before the reader has to read: a hot stream's pipe.
const STREAM_WINDOW: u32 = 8 << 20;

/// Bytes on their way on one connection.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Most bytes of one HTTP/2 frame: a payload that came in one is not copied, and batches are no larger unless they are
/// told to be. On a slow link an answer to a keep-alive waits for the frame before it.
const HTTP_FRAME_MAX: u32 = 256 << 10;

/// Most bytes of the headers of one request or answer; an error's details are among them.
const HEADERS_MAX: u32 = 32 << 10;
