//! The records of nodes: their sessions, and the bookies' identity.

use std::time::Duration;

use crate::{
    BookieId, Incarnation, NodeId, NodeName, Revision, SessionId, ShardId, TopicName, ZoneName,
};

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

/// A serving node as meta knows it, over all its restarts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServingNode {
    /// Its newest session.
    pub session: SessionRecord,
    /// Whether its shards are to move to others. The word belongs to the node's name: a restart takes nothing back.
    pub is_drained: bool,
}

impl ServingNode {
    /// Whether it may be given shards.
    pub fn takes_shards(&self) -> bool {
        self.session.state == SessionState::Live && !self.is_drained
    }
}

/// A shard and whom it was last claimed by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShardPlace {
    /// Which shard.
    pub shard: ShardId,
    /// Its topic.
    pub topic: TopicName,
    /// The session of its owner; none before the first and after a release.
    pub owner: Option<SessionId>,
}

/// How a bookie stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BookieState {
    /// Takes new ledgers.
    ReadWrite,
    /// Takes no new ledgers; reads, fences and recovery go on.
    ReadOnly,
}

/// What the operators want of a bookie. Unlike [`BookieState`] it survives restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BookieDuty {
    /// It stores ledgers.
    Active,
    /// Its copies move to others, and it takes no new ledgers.
    Draining,
    /// It is no part of the cluster any more, for good: no ledger names it.
    Gone,
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
    /// The failure domain it shares with others; none: it fails alone.
    pub zone: Option<ZoneName>,
    /// The revision since which it vouches for what it does not have. Filled in by the store.
    pub born: Revision,
    /// How often it has started.
    pub incarnation: Incarnation,
    /// Its last journal mark as it told it: a disk older than that is born again.
    pub mark: u64,
    /// How it stands.
    pub state: BookieState,
    /// What the operators want of it.
    pub duty: BookieDuty,
    /// Its process instance.
    pub session: SessionId,
    /// Whether that session is live.
    pub live: bool,
}

impl BookieRecord {
    /// Whether it may be given ledgers while it lives: it takes writes, and nobody wants it empty.
    pub fn takes_ledgers(&self) -> bool {
        self.state == BookieState::ReadWrite && self.duty == BookieDuty::Active
    }
}

/// What a bookie finds on its disk and tells meta before it answers anybody.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BookieClaim {
    /// Its name.
    pub name: NodeName,
    /// Where other nodes reach it.
    pub address: String,
    /// Its failure domain.
    pub zone: Option<ZoneName>,
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

/// Which life of a cluster's metadata a store holds. Each move to another store and each restore begins a new one.
///
/// A store that was neither moved nor restored is of the default one: 0, without a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MetaGeneration {
    /// How many there were before it.
    pub number: u64,
    /// Random bits: of two that follow the same one, each has its own.
    pub mark: u128,
    /// The mark of the one that it goes on from without a break; none after a restore, which may have forgotten some of it.
    pub goes_on: Option<u128>,
}

impl MetaGeneration {
    /// The next one, with random bits of its own.
    #[must_use]
    pub const fn next(self, mark: u128, is_move: bool) -> Self {
        Self {
            number: self.number + 1,
            mark,
            goes_on: if is_move { Some(self.mark) } else { None },
        }
    }

    /// Whether it goes on from `older` without a break, so that all that was told then holds now.
    pub fn goes_on_from(&self, older: &Self) -> bool {
        self.number == older.number + 1 && self.goes_on == Some(older.mark)
    }

    /// Whether it is the same one.
    pub const fn is(&self, other: &Self) -> bool {
        self.number == other.number && self.mark == other.mark
    }
}

impl std::fmt::Display for MetaGeneration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{:08x}", self.number, self.mark >> 96)
    }
}
