//! A node's network inside turmoil: TCP whose packets take simulated time, get lost, and end with their machine.

use std::io;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use host::net::{Address, Conn, Incoming, Net};
use turmoil::net::{TcpListener, TcpStream};

/// The network of the simulated machine that a node runs on. Addresses are `machine:port`; one listens at
/// `0.0.0.0:port`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimNet;

impl Net for SimNet {
    fn listen(&self, at: &Address) -> BoxFuture<'static, io::Result<Incoming>> {
        let at = at.clone();
        async move {
            let listener = TcpListener::bind(at.as_str()).await?;
            let local = Address::new(listener.local_addr()?.to_string());
            let conns = stream::unfold(listener, |listener| async move {
                let accepted = listener.accept().await.map(|(socket, peer)| {
                    let conn: Box<dyn Conn> = Box::new(socket);
                    (conn, Address::new(peer.to_string()))
                });
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
        async move {
            let socket = TcpStream::connect(to.as_str()).await?;
            let conn: Box<dyn Conn> = Box::new(socket);
            Ok(conn)
        }
        .boxed()
    }
}
