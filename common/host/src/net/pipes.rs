//! Listeners and connections in memory, for nodes that share a process: standalone, tests.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::{Address, Conn, Incoming, Net};

/// Bytes a connection holds in each direction before its writer waits.
const BUFFER_BYTES: usize = 256 * 1024;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 128;

/// An in-memory network: any name can be listened on; a name that ends in `:0` becomes one that nobody has. Clones are
/// the same network.
#[derive(Debug, Clone, Default)]
pub struct Pipes {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    listeners: BTreeMap<Address, mpsc::Sender<(DuplexStream, Address)>>,
    /// Numbers given to listeners and to the near ends of connections.
    next: u64,
}

impl Pipes {
    /// An empty network.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that may panic runs under the lock, so a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, at: &Address) -> io::Result<Listener> {
        let mut state = self.state();
        let local = state.name(at);
        if state.listeners.contains_key(&local) {
            let text = format!("address is in use address={local}");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let (sender, conns) = mpsc::channel(BACKLOG);
        state.listeners.insert(local.clone(), sender);
        Ok(Listener {
            local,
            conns,
            pipes: self.clone(),
        })
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn name(&mut self, asked: &Address) -> Address {
        let Some(stem) = asked.as_str().strip_suffix(":0") else {
            return asked.clone();
        };
        loop {
            let name = Address::new(format!("{stem}:{}", self.number()));
            if !self.listeners.contains_key(&name) {
                return name;
            }
        }
    }
}

/// A name while it is listened on.
struct Listener {
    local: Address,
    conns: mpsc::Receiver<(DuplexStream, Address)>,
    pipes: Pipes,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.pipes.state().listeners.remove(&self.local);
    }
}

impl Net for Pipes {
    fn listen(&self, at: &Address) -> BoxFuture<'static, io::Result<Incoming>> {
        let begun = self.begin(at).map(|listener| Incoming {
            local: listener.local.clone(),
            conns: stream::unfold(listener, |mut listener| async move {
                let (conn, peer) = listener.conns.recv().await?;
                let conn: Box<dyn Conn> = Box::new(conn);
                Some((Ok((conn, peer)), listener))
            })
            .boxed(),
        });
        std::future::ready(begun).boxed()
    }

    fn connect(&self, to: &Address) -> BoxFuture<'static, io::Result<Box<dyn Conn>>> {
        let (pipes, to) = (self.clone(), to.clone());
        async move {
            let refused = || {
                let text = format!("nobody listens address={to}");
                io::Error::new(io::ErrorKind::ConnectionRefused, text)
            };
            let (listener, near) = {
                let mut state = pipes.state();
                let listener = state.listeners.get(&to).cloned().ok_or_else(refused)?;
                (
                    listener,
                    Address::new(format!("pipe:client:{}", state.number())),
                )
            };
            let (here, there) = tokio::io::duplex(BUFFER_BYTES);
            listener.send((there, near)).await.map_err(|_| refused())?;
            let conn: Box<dyn Conn> = Box::new(here);
            Ok(conn)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_ending_in_zero_become_distinct_ones() {
        let pipes = Pipes::new();
        let first = pipes.listen(&Address::new("pipe:0")).await.unwrap();
        let second = pipes.listen(&Address::new("pipe:0")).await.unwrap();
        assert_ne!(first.local, second.local);
        assert!(!first.local.as_str().ends_with(":0"));
    }

    #[tokio::test]
    async fn two_networks_do_not_meet() {
        let (one, other) = (Pipes::new(), Pipes::new());
        let incoming = one.listen(&Address::new("pipe:x")).await.unwrap();
        assert!(other.connect(&incoming.local).await.is_err());
        assert!(one.clone().connect(&incoming.local).await.is_ok());
    }

    #[tokio::test]
    async fn a_connection_that_was_never_accepted_ends_with_its_listener() {
        use tokio::io::AsyncReadExt as _;
        let pipes = Pipes::new();
        let incoming = pipes.listen(&Address::new("pipe:x")).await.unwrap();
        let mut conn = pipes.connect(&incoming.local).await.unwrap();
        drop(incoming);
        assert_eq!(conn.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
