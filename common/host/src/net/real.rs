//! TCP, and the network that routes each address to TCP or to pipes.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the network that others are sent to"
)]

use std::io;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::net::{TcpListener, TcpStream};

use super::{Address, Conn, Incoming, Net, Pipes};

/// Addresses that begin so are pipes.
const PIPE_SCHEME: &str = "pipe:";

/// TCP, without Nagle's delay.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpNet;

/// TCP for addresses `host:port`, pipes for names that begin with `pipe:`. Clones share the pipes.
#[derive(Debug, Clone, Default)]
pub struct Network {
    pipes: Pipes,
}

impl Network {
    /// A network whose pipes are shared with others.
    pub fn with_pipes(pipes: Pipes) -> Self {
        Self { pipes }
    }

    /// Its pipes.
    pub fn pipes(&self) -> &Pipes {
        &self.pipes
    }

    fn route(&self, to: &Address) -> &dyn Net {
        if to.as_str().starts_with(PIPE_SCHEME) {
            &self.pipes
        } else {
            &TcpNet
        }
    }
}

impl Net for Network {
    fn listen(&self, at: &Address) -> BoxFuture<'static, io::Result<Incoming>> {
        self.route(at).listen(at)
    }

    fn connect(&self, to: &Address) -> BoxFuture<'static, io::Result<Box<dyn Conn>>> {
        self.route(to).connect(to)
    }
}

impl Net for TcpNet {
    fn listen(&self, at: &Address) -> BoxFuture<'static, io::Result<Incoming>> {
        let at = at.clone();
        async move {
            let listener = TcpListener::bind(at.as_str())
                .await
                .map_err(|error| cannot_listen(&at, &error))?;
            let local = Address::new(listener.local_addr()?.to_string());
            let conns = stream::unfold(listener, |listener| async move {
                let accepted = listener
                    .accept()
                    .await
                    .map(|(socket, peer)| (without_delay(socket), Address::new(peer.to_string())));
                Some((accepted, listener))
            });
            Ok(Incoming {
                local,
                conns: conns.boxed(),
            })
        }
        .boxed()
    }

    fn connect(&self, to: &Address) -> BoxFuture<'static, io::Result<Box<dyn Conn>>> {
        let to = to.clone();
        async move { TcpStream::connect(to.as_str()).await.map(without_delay) }.boxed()
    }
}

/// Small frames leave at once. A socket that refuses the setting is dying; its first read tells why.
fn without_delay(socket: TcpStream) -> Box<dyn Conn> {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "socket keeps its delay");
    }
    Box::new(socket)
}

/// The same kind of error, with the address and the next move in its text: this one goes to a person who starts a node.
fn cannot_listen(at: &Address, error: &io::Error) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("address is in use, stop the other process or choose another address={at}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("address is not one of this machine address={at}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("address needs more rights, choose a port above 1023 address={at}")
        }
        _ => format!("cannot listen, an address is written host:port address={at} cause={error}"),
    };
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn bytes_cross_both_ways_over_tcp_and_over_pipes() {
        let net = Network::default();
        for at in ["127.0.0.1:0", "pipe:0", "pipe:meta"] {
            let mut incoming = net.listen(&Address::new(at)).await.unwrap();
            let mut client = net.connect(&incoming.local).await.unwrap();
            let (mut server, peer) = incoming.conns.next().await.unwrap().unwrap();
            assert_ne!(peer, incoming.local);

            client.write_all(b"ping").await.unwrap();
            let mut bytes = [0; 4];
            server.read_exact(&mut bytes).await.unwrap();
            server.write_all(&bytes).await.unwrap();
            drop(server);
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"ping", "{at}");
        }
    }

    #[tokio::test]
    async fn an_address_in_use_is_told_with_its_name() {
        let net = Network::default();
        for at in ["127.0.0.1:0", "pipe:a"] {
            let incoming = net.listen(&Address::new(at)).await.unwrap();
            let error = net.listen(&incoming.local).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            assert!(
                error.to_string().contains(incoming.local.as_str()),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn nobody_there_is_refused_and_a_dropped_listener_frees_its_address() {
        let net = Network::default();
        for at in ["127.0.0.1:0", "pipe:b"] {
            let incoming = net.listen(&Address::new(at)).await.unwrap();
            let local = incoming.local.clone();
            drop(incoming);
            let error = net.connect(&local).await.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            net.listen(&local).await.unwrap();
        }
    }

    #[tokio::test]
    async fn nonsense_addresses_err() {
        for at in ["", "nonsense", "127.0.0.1:99999"] {
            let error = TcpNet.listen(&Address::new(at)).await.unwrap_err();
            assert!(error.to_string().contains("host:port"), "{error}");
            assert!(TcpNet.connect(&Address::new(at)).await.is_err());
        }
    }
}
