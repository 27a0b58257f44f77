//! A node's network inside turmoil: TCP whose packets take simulated time, get lost, and end with their machine.
//!
//! Every byte that a process writes or reads goes into the run's trace, so that two runs of a seed that differ anywhere
//! on the wire differ there.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use host::net::{Address, Conn, Incoming, Net};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use super::trace::Trace;

/// The network of the simulated machine that a node runs on. Addresses are `machine:port`; one listens at
/// `0.0.0.0:port`.
#[derive(Debug, Clone, Default)]
pub struct SimNet {
    trace: Option<Trace>,
}

impl SimNet {
    /// A network that tells a trace what goes over it.
    pub fn traced(trace: Trace) -> Self {
        Self { trace: Some(trace) }
    }

    fn conn(&self, socket: TcpStream) -> Box<dyn Conn> {
        match &self.trace {
            Some(trace) => Box::new(Traced {
                ends: socket
                    .local_addr()
                    .and_then(|local| Ok(format!("{local} {}", socket.peer_addr()?)))
                    .unwrap_or_default(),
                socket,
                trace: trace.clone(),
            }),
            None => Box::new(socket),
        }
    }
}

impl Net for SimNet {
    fn listen(&self, at: &Address) -> BoxFuture<'static, io::Result<Incoming>> {
        let (net, at) = (self.clone(), at.clone());
        async move {
            let listener = TcpListener::bind(at.as_str()).await?;
            let local = Address::new(listener.local_addr()?.to_string());
            let conns = stream::unfold((net, listener), |(net, listener)| async move {
                let accepted = listener
                    .accept()
                    .await
                    .map(|(socket, peer)| (net.conn(socket), Address::new(peer.to_string())));
                Some((accepted, (net, listener)))
            });
            Ok(Incoming {
                local,
                conns: conns.boxed(),
            })
        }
        .boxed()
    }

    fn connect(&self, to: &Address) -> BoxFuture<'static, io::Result<Box<dyn Conn>>> {
        let (net, to) = (self.clone(), to.clone());
        async move { Ok(net.conn(TcpStream::connect(to.as_str()).await?)) }.boxed()
    }
}

/// A connection whose bytes are in the trace.
struct Traced {
    socket: TcpStream,
    /// Its addresses, near and far.
    ends: String,
    trace: Trace,
}

impl AsyncRead for Traced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, into);
        if read.is_ready() {
            let bytes = &into.filled()[before..];
            self.trace.bytes("reads", &self.ends, bytes);
        }
        read
    }
}

impl AsyncWrite for Traced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        if let Poll::Ready(Ok(len)) = written {
            self.trace.bytes("writes", &self.ends, &bytes[..len]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
