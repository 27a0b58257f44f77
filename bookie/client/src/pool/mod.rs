//! The pool: one connection to each bookie, shared by all shards of a node.

mod adds;
mod beside;
mod lanes;
mod queue;
mod reads;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use types::storage::{ReadRun, RunItem};
use types::{BookieId, ByteSize, ClusterId};

use crate::{Directory, LocalBookie};
use queue::Queue;

/// The limits and the patience of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Most bytes that wait for one bookie, beyond what its stream has taken.
    pub queue_bytes: ByteSize,
    /// Most bytes of one frame of adds; a larger entry travels alone.
    pub frame_bytes: ByteSize,
    /// How long a connection or a handshake may take.
    pub connect_timeout: Duration,
    /// How long a read may take.
    pub read_timeout: Duration,
    /// The first wait before a lost connection is opened again; doubles up to `retry_max`.
    pub retry: Duration,
    /// The longest wait before a lost connection is opened again.
    pub retry_max: Duration,
    /// Most reads under way at one bookie; others wait their turn.
    pub reads_max: usize,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            queue_bytes: ByteSize::mib(64),
            frame_bytes: ByteSize::mib(1),
            connect_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(5),
            retry: Duration::from_millis(50),
            retry_max: Duration::from_secs(1),
            reads_max: 64,
        }
    }
}

/// What a shard orders from a bookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// A request of the ledger's owner.
    Request(ledger::Request),
    /// A run of entries, for a reader.
    Run {
        /// The caller's own name for it; comes back with the answer.
        tag: u64,
        /// What to read.
        run: ReadRun,
    },
}

/// What became of an order on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way, or waits for its turn.
    Queued,
    /// Too many bytes wait for this bookie already; the order was dropped.
    Full,
    /// There is no connection to this bookie; the order was dropped. [`PoolEvent::Connected`] follows when there is.
    Down,
}

/// What a shard hears from the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolEvent {
    /// Answers of a bookie to requests.
    Answers {
        /// Which bookie.
        bookie: BookieId,
        /// The answers, in the order they came.
        answers: Vec<ledger::Answer>,
    },
    /// Entries of a run.
    Run {
        /// Which bookie.
        bookie: BookieId,
        /// The caller's name for the run.
        tag: u64,
        /// The entries, in order.
        items: Vec<RunItem>,
        /// Whether nothing more comes for this tag: the run is at its end, or the bookie failed.
        is_last: bool,
    },
    /// The stream of adds is open (again). What was sent before and not answered never will be.
    Connected(BookieId),
    /// The stream of adds is gone, or could not be opened. Told once, until it is open again.
    Lost(BookieId),
}

/// Where a shard hears from the pool.
pub trait PoolInbox: fmt::Debug + Send + Sync + 'static {
    /// Takes what the pool tells. Never waits, and never calls the pool.
    fn tell(&self, event: PoolEvent);
}

/// The other end of [`inbox`].
pub type PoolEvents = mpsc::UnboundedReceiver<PoolEvent>;

impl PoolInbox for mpsc::UnboundedSender<PoolEvent> {
    fn tell(&self, event: PoolEvent) {
        // Who is gone needs no answer.
        let _ = self.send(event);
    }
}

/// Makes an inbox for [`BookiePool::register`] out of a channel, for those who have none of their own.
#[expect(
    clippy::disallowed_methods,
    reason = "what waits is bounded by what was ordered; a bookie of this process cannot wait for room"
)]
pub fn inbox() -> (Arc<dyn PoolInbox>, PoolEvents) {
    let (inbox, events) = mpsc::unbounded_channel();
    (Arc::new(inbox), events)
}

/// The connections of a serving node to its bookies. Clones are the same pool.
#[derive(Clone)]
pub struct BookiePool {
    shared: Arc<Shared>,
}

/// What the tasks of a pool share.
struct Shared {
    host: host::Host,
    config: PoolConfig,
    cluster: ClusterId,
    directory: Directory,
    local: Option<Arc<dyn LocalBookie>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_key: u64,
    inboxes: BTreeMap<u64, Arc<dyn PoolInbox>>,
    bookies: BTreeMap<BookieId, Arc<Bookie>>,
}

/// One bookie as the pool sees it.
struct Bookie {
    id: BookieId,
    queue: Queue,
    reads: reads::Reads,
    lanes: lanes::Lanes,
}

impl BookiePool {
    /// Makes a pool of the bookies that `directory` knows. Connections are opened on first need; a bookie of the same
    /// process may be called instead.
    pub fn new(
        host: &host::Host,
        config: PoolConfig,
        cluster: ClusterId,
        directory: Directory,
        local: Option<Arc<dyn LocalBookie>>,
    ) -> Self {
        let shared = Shared {
            host: host.fork("bookie-pool"),
            config,
            cluster,
            directory,
            local,
            state: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The bookies there are, with what meta knows of them.
    pub fn directory(&self) -> &Directory {
        &self.shared.directory
    }

    /// Begins to connect to the bookies there are, so that the next shard need not wait for it.
    pub fn connect(&self) {
        let bookies = self.shared.directory.bookies();
        for bookie in bookies.iter().filter(|bookie| bookie.live) {
            self.shared.bookie(bookie.id);
        }
    }

    /// Adds a shard: answers to what it orders through the returned link arrive in `inbox`, where no more waits than it
    /// ordered, and word of each bookie. The shard leaves the pool when the link is dropped.
    pub fn register(&self, inbox: Arc<dyn PoolInbox>) -> BookieLink {
        let mut state = self.shared.lock();
        let key = state.next_key;
        state.next_key += 1;
        state.inboxes.insert(key, inbox);
        BookieLink {
            shared: Arc::clone(&self.shared),
            key,
        }
    }
}

impl fmt::Debug for BookiePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BookiePool")
            .field("cluster", &self.shared.cluster)
            .finish_non_exhaustive()
    }
}

/// A shard's way to the bookies.
pub struct BookieLink {
    shared: Arc<Shared>,
    key: u64,
}

impl BookieLink {
    /// Orders something from a bookie; never waits. Adds to one bookie keep their order.
    pub fn send(&self, bookie: BookieId, order: Order) -> Sent {
        let bookie = self.shared.bookie(bookie);
        match order {
            Order::Request(request @ (ledger::Request::Add(_) | ledger::Request::SetLac(_))) => {
                bookie
                    .queue
                    .push(self.key, request, self.shared.config.queue_bytes)
            }
            Order::Request(request) => self.read(&bookie, reads::Read::Request(request)),
            Order::Run { tag, run } => self.read(&bookie, reads::Read::Run { tag, run }),
        }
    }

    fn read(&self, bookie: &Arc<Bookie>, read: reads::Read) -> Sent {
        let task = reads::run(Arc::clone(&self.shared), Arc::clone(bookie), self.key, read);
        self.shared.host.tasks.spawn("bookie-read", task);
        Sent::Queued
    }
}

impl fmt::Debug for BookieLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BookieLink")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Drop for BookieLink {
    fn drop(&mut self) {
        self.shared.lock().inboxes.remove(&self.key);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid after each statement: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bookie's connection; starts its task on first need.
    fn bookie(self: &Arc<Self>, id: BookieId) -> Arc<Bookie> {
        let mut state = self.lock();
        if let Some(bookie) = state.bookies.get(&id) {
            return Arc::clone(bookie);
        }
        let bookie = Arc::new(Bookie {
            id,
            queue: Queue::default(),
            reads: reads::Reads::new(self.config.reads_max),
            lanes: lanes::Lanes::default(),
        });
        state.bookies.insert(id, Arc::clone(&bookie));
        drop(state);
        self.host.tasks.spawn(
            "bookie-adds",
            adds::run(Arc::clone(self), Arc::clone(&bookie)),
        );
        bookie
    }

    /// The bookie itself, when it is in this process.
    fn local(&self, id: BookieId) -> Option<&dyn LocalBookie> {
        self.local.as_deref().filter(|local| local.id() == id)
    }

    /// Puts an event into one shard's inbox.
    fn tell(&self, key: u64, event: PoolEvent) {
        if let Some(inbox) = self.lock().inboxes.get(&key) {
            inbox.tell(event);
        }
    }

    /// Puts an event into every shard's inbox.
    fn tell_all(&self, event: &PoolEvent) {
        for inbox in self.lock().inboxes.values() {
            inbox.tell(event.clone());
        }
    }
}
