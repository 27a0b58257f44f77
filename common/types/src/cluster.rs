//! The records of nodes: their sessions, and the bookies' identity.

use std::time::Duration;

use crate::{BookieId, Incarnation, NodeId, NodeName, Revision, SessionId};

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeRole {
    /// Speaks to clients, puts messages in order.
    Serving,
    /// Stores ledgers.
    Bookie,
}

/// A node's process instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionRecord {
    /// The session.
    pub id: SessionId,
    /// What the node does.
    pub role: NodeRole,
    /// The node, the same over restarts.
    pub node: NodeId,
    /// The node's name.
    pub name: NodeName,
    /// Where other nodes reach it: `host:port`.
    pub address: String,
    /// Where clients reach it: `http://host:port`. Empty for a bookie.
    pub endpoint: String,
    /// How long it counts as alive after its last keep-alive.
    pub lease: Duration,
    /// How it stands.
    pub state: SessionState,
}

/// How a session stands. A replaced or ended one never comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// Its keep-alives come.
    Live,
    /// Its lease ran out. A keep-alive revives it; until then its shards may be claimed.
    Expired,
    /// A newer process took the node's name. It is renewed no more, but its process may not know yet: its shards may be
    /// claimed once its lease has run out, when it ends.
    Replaced,
    /// It stopped, or its node has a newer one and its lease has run out.
    Ended,
}

/// How a bookie stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BookieState {
    /// Takes new ledgers.
    ReadWrite,
    /// Takes no new ledgers; reads, fences and recovery go on.
    ReadOnly,
}

/// A bookie as meta knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BookieRecord {
    /// Which bookie.
    pub id: BookieId,
    /// Its name, unique among bookies.
    pub name: NodeName,
    /// Where other nodes reach it: `host:port`.
    pub address: String,
    /// The revision since which it vouches for what it does not have. Filled in by the store.
    pub born: Revision,
    /// How often it has started.
    pub incarnation: Incarnation,
    /// Its last journal mark as it told it: a disk older than that is born again.
    pub mark: u64,
    /// How it stands.
    pub state: BookieState,
    /// Its process instance.
    pub session: SessionId,
    /// Whether that session is live.
    pub live: bool,
}

/// What a bookie finds on its disk and tells meta before it answers anybody.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BookieClaim {
    /// Its name.
    pub name: NodeName,
    /// Where other nodes reach it.
    pub address: String,
    /// The number on its disk; none on a blank one.
    pub id: Option<BookieId>,
    /// The birth on its disk.
    pub born: Option<Revision>,
    /// The incarnation on its disk, already raised and durable.
    pub incarnation: Incarnation,
    /// Its journal mark.
    pub mark: u64,
    /// Whether it found that it lost something: it asks to be born again.
    pub damaged: bool,
}
