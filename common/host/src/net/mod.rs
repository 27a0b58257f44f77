//! Bytes between nodes: the seam below which a simulation may stand.

mod pipes;
mod real;

pub use pipes::Pipes;
pub use real::{Network, TcpNet};

use std::fmt;
use std::io;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};

/// Where a node listens or is reached: `host:port`, or the name of an in-memory pipe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

impl Address {
    /// An address from its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One connection.
pub trait Conn: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Conn for T {}

/// A listener: the address it got (with the port, where 0 was asked), and the connections as they come.
pub struct Incoming {
    /// Where it listens.
    pub local: Address,
    /// Each connection with the address of its other end.
    pub conns: BoxStream<'static, io::Result<(Box<dyn Conn>, Address)>>,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// A network. Real sockets, in-memory pipes and the simulator implement it.
pub trait Net: Send + Sync + fmt::Debug + 'static {
    /// Accepts connections at `at` until the returned stream is dropped.
    fn listen(&self, at: &Address) -> BoxFuture<'static, io::Result<Incoming>>;

    /// Opens one connection. The caller sets the deadline.
    fn connect(&self, to: &Address) -> BoxFuture<'static, io::Result<Box<dyn Conn>>>;
}
