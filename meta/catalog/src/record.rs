//! What a key holds. Where `types` has the record, it is that; here is what only meta itself sees.

use types::chain::{Assignment, LedgerRecord, LedgerState, LogKind, ShardRecord, Verified};
use types::cluster::{BookieDuty, BookieRecord, BookieState, SessionRecord};
use types::topic::{NamespaceRecord, SubscriptionRecord, TenantRecord, TopicRecord};
use types::{
    BookieId, ClusterId, CommandId, EntryId, Incarnation, LedgerId, LogId, NodeId, NodeName,
    Offset, Quorum, Revision, SessionId, ShardId, SubscriptionId, TopicId, WallTime, ZoneName,
};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Record {
    /// At [`Key::Cluster`](crate::Key::Cluster).
    Cluster(ClusterId),
    /// At [`Key::Counters`](crate::Key::Counters).
    Counters(Counters),
    /// At [`Key::Tenant`](crate::Key::Tenant).
    Tenant(TenantRecord),
    /// At [`Key::Namespace`](crate::Key::Namespace).
    Namespace(NamespaceRecord),
    /// At [`Key::Topic`](crate::Key::Topic).
    Topic(TopicRecord),
    /// At [`Key::Subscription`](crate::Key::Subscription).
    Subscription(SubscriptionRecord),
    /// At [`Key::Shard`](crate::Key::Shard).
    Shard(ShardRecord),
    /// At [`Key::Log`](crate::Key::Log).
    Log(LogRecord),
    /// At [`Key::Ledger`](crate::Key::Ledger).
    Ledger(LedgerBody),
    /// At [`Key::Loss`](crate::Key::Loss).
    Loss(LossRecord),
    /// At [`Key::Node`](crate::Key::Node).
    Node(NodeRecord),
    /// At [`Key::Session`](crate::Key::Session).
    Session(SessionRecord),
    /// At [`Key::Bookie`](crate::Key::Bookie).
    Bookie(BookieBody),
    /// At [`Key::Birth`](crate::Key::Birth): empty, its revision says it all.
    Birth,
    /// At [`Key::Birth`](crate::Key::Birth), carried over from another store: the birth as that store had it.
    BornAt(Revision),
    /// At [`Key::BookieName`](crate::Key::BookieName).
    BookieName(BookieId),
}

/// The next number of everything that is numbered. Numbers only grow, so that none is given twice (I14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Counters {
    /// The next log.
    pub log: LogId,
    /// The next topic.
    pub topic: TopicId,
    /// The next shard.
    pub shard: ShardId,
    /// The next subscription.
    pub subscription: SubscriptionId,
    /// The next node.
    pub node: NodeId,
    /// The next bookie.
    pub bookie: BookieId,
    /// The next session.
    pub session: SessionId,
}

impl Counters {
    /// Those of an empty store. Numbers begin at 1, so that a 0 in a log line is seen to be a mistake.
    pub const FIRST: Self = Self {
        log: LogId::new(1),
        topic: TopicId::new(1),
        shard: ShardId::new(1),
        subscription: SubscriptionId::new(1),
        node: NodeId::new(1),
        bookie: BookieId::new(1),
        session: SessionId::new(1),
    };
}

/// The shard of a log. It stays when the log is deleted: the positive word that its ledgers may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogRecord {
    /// Which shard.
    pub shard: ShardId,
    /// Which of its two logs.
    pub kind: LogKind,
    /// Its topic was deleted.
    pub is_deleted: bool,
}

/// A ledger's record without what its key and its revision say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LedgerBody {
    /// The bookies that hold it.
    pub ensemble: Vec<BookieId>,
    /// Its quorum.
    pub quorum: Quorum,
    /// How far it is.
    pub state: LedgerState,
    /// The bookies whose copy was found whole, each once.
    pub verified: Vec<Verified>,
    /// The copy that is on its way to another bookie.
    pub moving: Option<Assignment>,
    /// The revision that made it in the store it was carried over from; none where this store made it.
    pub created: Option<Revision>,
}

impl LedgerBody {
    /// One that is not closed: nobody's copy was looked at.
    pub const fn tail(ensemble: Vec<BookieId>, quorum: Quorum, state: LedgerState) -> Self {
        Self {
            ensemble,
            quorum,
            state,
            verified: Vec::new(),
            moving: None,
            created: None,
        }
    }

    /// The whole record; `made` is when this store made it.
    pub fn with(&self, id: LedgerId, made: Revision) -> LedgerRecord {
        LedgerRecord {
            id,
            created: self.created.unwrap_or(made),
            ensemble: self.ensemble.clone(),
            quorum: self.quorum,
            state: self.state,
            verified: self.verified.clone(),
            moving: self.moving,
        }
    }
}

/// What an operator gave up: the audit record of `ledger accept-loss`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LossRecord {
    /// The end the ledger was given: entries above it are given up.
    pub last: Option<EntryId>,
    /// The first offset after that end.
    pub next_offset: Offset,
    /// Who said so and why.
    pub reason: String,
    /// When.
    pub at: WallTime,
}

/// A node: its number over all restarts, and its newest session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeRecord {
    /// Its number.
    pub id: NodeId,
    /// Its newest session.
    pub session: SessionId,
    /// The command that opened that session: the same id again is the same session.
    pub opened_by: CommandId,
    /// Its older sessions whose lease may still run.
    pub replaced: Vec<SessionId>,
    /// Whether a serving node's shards are to move to others; a bookie has its duty for that.
    pub is_drained: bool,
}

/// A bookie's record without what its key, its birth and its session say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BookieBody {
    /// Its name.
    pub name: NodeName,
    /// Where other nodes reach it.
    pub address: String,
    /// Its failure domain.
    pub zone: Option<ZoneName>,
    /// How often it has started.
    pub incarnation: Incarnation,
    /// Its last journal mark.
    pub mark: u64,
    /// How it stands.
    pub state: BookieState,
    /// What the operators want of it.
    pub duty: BookieDuty,
    /// Its process instance.
    pub session: SessionId,
}

impl BookieBody {
    /// The whole record.
    pub fn with(&self, id: BookieId, born: Revision, live: bool) -> BookieRecord {
        BookieRecord {
            id,
            name: self.name.clone(),
            address: self.address.clone(),
            zone: self.zone.clone(),
            born,
            incarnation: self.incarnation,
            mark: self.mark,
            state: self.state,
            duty: self.duty,
            session: self.session,
            live,
        }
    }
}
