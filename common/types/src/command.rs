//! What nodes ask of meta, and what it answers. Time and ids travel *in* the command, so that planning it is pure.

use std::time::Duration;

use crate::chain::{
    Claim, LedgerRecord, LogStanding, Move, ShardCommand, ShardOutcome, ShardView, WholeCopy,
};
use crate::cluster::{
    BookieClaim, BookieRecord, BookieState, NodeRole, ServingNode, SessionRecord, ShardPlace,
};
use crate::topic::{
    NamespaceRecord, Retention, StartPosition, SubscriptionMode, SubscriptionRecord, TenantRecord,
    TopicRecord,
};
use crate::{
    BookieId, ClusterId, CommandId, Epoch, LedgerId, LogId, NamespaceName, NodeName, Quorum,
    Revision, SessionId, ShardId, SubscriptionId, SubscriptionName, TenantName, TopicId, TopicName,
    WallTime,
};

/// Most ledgers of one [`Command::CopiesWhole`].
pub const COPIES_MAX: usize = 16;

/// A change of the metadata. Each is one transaction; none is half done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Command {
    /// Makes the first records of an empty store: the cluster's id, the default tenant and namespace.
    Bootstrap {
        /// The id to take when the store has none.
        cluster: ClusterId,
        /// Now.
        at: WallTime,
    },
    /// Starts a process instance of a node, and ends the node's older one.
    OpenSession {
        /// What the node does.
        role: NodeRole,
        /// The node's name: the same name is the same node.
        name: NodeName,
        /// Where other nodes reach it.
        address: String,
        /// Where clients reach it; empty for a bookie.
        endpoint: String,
        /// How long it counts as alive after a keep-alive.
        lease: Duration,
        /// Makes a repeated call harmless: the same id is the same session.
        command: CommandId,
    },
    /// Revives an expired session (a live one needs no change of the record).
    ReviveSession {
        /// The session.
        session: SessionId,
    },
    /// Marks a live session expired. From meta's own lease clock only.
    ExpireSession {
        /// The session.
        session: SessionId,
    },
    /// Ends a session: the node stops.
    EndSession {
        /// The session.
        session: SessionId,
    },
    /// Registers a bookie, or registers it anew: decides whether it is born again.
    RegisterBookie {
        /// What the bookie found on its disk.
        claim: BookieClaim,
        /// Its session.
        session: SessionId,
    },
    /// Tells how a bookie stands and how far its journal is; refused for an old incarnation's session.
    ReportBookie {
        /// Which bookie.
        id: BookieId,
        /// Its session.
        session: SessionId,
        /// Its journal mark.
        mark: u64,
        /// How it stands.
        state: BookieState,
    },
    /// Says whether a bookie's copies are to move to others.
    DrainBookie {
        /// Which bookie.
        id: BookieId,
        /// Whether they are; false takes an earlier word back.
        draining: bool,
    },
    /// Takes a drained bookie out of the cluster, for good.
    RetireBookie {
        /// Which bookie. No ledger names it any more.
        id: BookieId,
    },
    /// Says whether a serving node's shards are to move to others. Refused when nobody would be left to take them.
    DrainServing {
        /// The node's name.
        name: NodeName,
        /// Whether they are; false takes an earlier word back.
        draining: bool,
    },
    /// Sends a copy of a closed ledger to another bookie, or calls that off. From meta's own auditor only. An earlier
    /// move is forgotten.
    AssignCopy {
        /// The ledger.
        ledger: LedgerId,
        /// The move; none to call off.
        moving: Option<Move>,
    },
    /// A bookie's word that it holds every entry of some closed ledgers, durable and intact. What no longer fits is
    /// passed over: a bookie that is to take a place takes it by the assignment that it read before it looked, and by no
    /// other.
    CopiesWhole {
        /// Which bookie.
        bookie: BookieId,
        /// Its session.
        session: SessionId,
        /// Its birth.
        born: Revision,
        /// The copies, at most [`COPIES_MAX`].
        copies: Vec<WholeCopy>,
    },
    /// Makes a tenant.
    CreateTenant {
        /// Its name.
        name: TenantName,
        /// Now.
        at: WallTime,
    },
    /// Makes a namespace of a tenant that exists.
    CreateNamespace {
        /// Its name.
        name: NamespaceName,
        /// Now.
        at: WallTime,
    },
    /// Makes a topic with one shard in a namespace that exists.
    CreateTopic {
        /// Its name.
        name: TopicName,
        /// Its copies.
        quorum: Quorum,
        /// How long messages stay that no subscription needs.
        retention: Retention,
        /// Now.
        at: WallTime,
    },
    /// Changes how long a topic's messages stay. Its owner hears of it.
    UpdateTopic {
        /// Its name.
        name: TopicName,
        /// How long messages stay that no subscription needs.
        retention: Retention,
    },
    /// Takes a topic away with its subscriptions and all its messages. Its owner has closed both logs before and says
    /// so: nothing is acked of it any more.
    DeleteTopic {
        /// Its name.
        name: TopicName,
        /// Its number: another one that took its name meanwhile stays.
        id: TopicId,
        /// The session that owns its shard.
        session: SessionId,
        /// At this epoch: a word that comes late finds the topic opened again, and leaves it.
        epoch: Epoch,
    },
    /// Removes some of what a deleted topic's shard left behind, and at last its record. From meta itself only.
    SweepShard {
        /// Which shard.
        shard: ShardId,
    },
    /// Numbers a subscription; it is not usable before [`Command::ActivateSubscription`].
    CreateSubscription {
        /// Its name.
        name: SubscriptionName,
        /// How it shares messages.
        mode: SubscriptionMode,
        /// How long a delivered message may stay unacked.
        ack_deadline: Duration,
        /// Where it starts.
        start: StartPosition,
        /// Now.
        at: WallTime,
    },
    /// The owner has the first cursor durable.
    ActivateSubscription {
        /// The subscription.
        name: SubscriptionName,
        /// Its number.
        id: SubscriptionId,
    },
    /// Takes a subscription away: the next owner does not know it, and this one, whose session it names, forgets it when
    /// it hears of it. Again is the same.
    DeleteSubscription {
        /// The subscription.
        name: SubscriptionName,
        /// Its number: another one that took its name meanwhile stays.
        id: SubscriptionId,
        /// The session that owns the topic's shard.
        session: SessionId,
    },
    /// Claims a shard.
    ClaimShard(Claim),
    /// An owner's change of its shard.
    ChangeShard(ShardCommand),
    /// The operator's audited last resort: closes a ledger that cannot be recovered, naming what is given up.
    AcceptLoss {
        /// The ledger, in state `Recovering`.
        ledger: LedgerId,
        /// Its end from now on; entries above it are given up.
        last: Option<crate::EntryId>,
        /// The first offset after that end; of no account when nothing is kept.
        next_offset: crate::Offset,
        /// Who says so and why, kept in the audit record.
        reason: String,
        /// Now.
        at: WallTime,
    },
}

impl Command {
    /// Its kind in one word, for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Bootstrap { .. } => "bootstrap",
            Self::OpenSession { .. } => "open_session",
            Self::ReviveSession { .. } => "revive_session",
            Self::ExpireSession { .. } => "expire_session",
            Self::EndSession { .. } => "end_session",
            Self::RegisterBookie { .. } => "register_bookie",
            Self::ReportBookie { .. } => "report_bookie",
            Self::DrainBookie { .. } => "drain_bookie",
            Self::RetireBookie { .. } => "retire_bookie",
            Self::DrainServing { .. } => "drain_serving",
            Self::AssignCopy { .. } => "assign_copy",
            Self::CopiesWhole { .. } => "copies_whole",
            Self::CreateTenant { .. } => "create_tenant",
            Self::CreateNamespace { .. } => "create_namespace",
            Self::CreateTopic { .. } => "create_topic",
            Self::UpdateTopic { .. } => "update_topic",
            Self::DeleteTopic { .. } => "delete_topic",
            Self::SweepShard { .. } => "sweep_shard",
            Self::CreateSubscription { .. } => "create_subscription",
            Self::ActivateSubscription { .. } => "activate_subscription",
            Self::DeleteSubscription { .. } => "delete_subscription",
            Self::ClaimShard(_) => "claim_shard",
            Self::ChangeShard(_) => "change_shard",
            Self::AcceptLoss { .. } => "accept_loss",
        }
    }
}

/// The answer to a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reply {
    /// Done; nothing to tell.
    Done,
    /// The cluster's id.
    Cluster(ClusterId),
    /// The session as it stands.
    Session(SessionRecord),
    /// The bookie as registered.
    Bookie(BookieRecord),
    /// The tenant.
    Tenant(TenantRecord),
    /// The namespace.
    Namespace(NamespaceRecord),
    /// The topic.
    Topic(TopicRecord),
    /// The subscription.
    Subscription(SubscriptionRecord),
    /// The outcome of a claim or of an owner's command.
    Shard(ShardOutcome),
}

/// A read of the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Query {
    /// The cluster's id.
    Cluster,
    /// A tenant by name.
    Tenant(TenantName),
    /// Tenants in order of name.
    Tenants(Page),
    /// A namespace by name.
    Namespace(NamespaceName),
    /// A tenant's namespaces in order of name.
    Namespaces(TenantName, Page),
    /// A topic by name.
    Topic(TopicName),
    /// A namespace's topics in order of name.
    Topics(NamespaceName, Page),
    /// A subscription by name.
    Subscription(SubscriptionName),
    /// A topic's subscriptions in order of name.
    Subscriptions(TopicName, Page),
    /// A shard with its tails.
    Shard(ShardId),
    /// Ledgers by id, as many as exist, in the order asked.
    Ledgers(Vec<LedgerId>),
    /// What became of logs, at most 256. Those that were never given out are left out of the answer.
    Logs(Vec<LogId>),
    /// Every bookie there is.
    Bookies,
    /// Every session that has not ended.
    Sessions,
    /// Serving nodes in order of name: those whose newest session has not ended, and those that are drained.
    ServingNodes,
    /// The shards of all topics, in order of the topic's full name: a page counts topics.
    Shards(Page),
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Page {
    /// Only names after this one.
    pub after: Option<String>,
    /// Most items.
    pub limit: usize,
}

/// The answer to a [`Query`], with the revision it was read at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for a moment, and the large ones are the common ones"
)]
pub enum Answer {
    /// The cluster's id.
    Cluster(ClusterId),
    /// A tenant; none when there is no such.
    Tenant(Option<TenantRecord>),
    /// Tenants.
    Tenants(Vec<TenantRecord>),
    /// A namespace.
    Namespace(Option<NamespaceRecord>),
    /// Namespaces.
    Namespaces(Vec<NamespaceRecord>),
    /// A topic.
    Topic(Option<TopicRecord>),
    /// Topics.
    Topics(Vec<TopicRecord>),
    /// A subscription.
    Subscription(Option<SubscriptionRecord>),
    /// Subscriptions.
    Subscriptions(Vec<SubscriptionRecord>),
    /// A shard, and its owner's session where it has one.
    Shard(Option<ShardView>, Option<SessionRecord>),
    /// Ledgers.
    Ledgers(Vec<LedgerRecord>),
    /// Logs, in the order asked.
    Logs(Vec<(LogId, LogStanding)>),
    /// Bookies.
    Bookies(Vec<BookieRecord>),
    /// Sessions.
    Sessions(Vec<SessionRecord>),
    /// Serving nodes.
    ServingNodes(Vec<ServingNode>),
    /// Shards, those of a topic together.
    Shards(Vec<ShardPlace>),
}

/// What changed, told to watchers. Carries names, not contents: the watcher reads what it cares for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// A shard's record changed.
    Shard(ShardId),
    /// A topic was made, changed or deleted.
    Topic(TopicName),
    /// A subscription was made or changed.
    Subscription(SubscriptionName),
    /// A bookie registered or stands otherwise.
    Bookie(BookieId),
    /// A session began, expired, revived or ended.
    Session(SessionId),
}

/// One committed change, in the order of revisions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChangeEvent {
    /// The revision that committed it.
    pub revision: Revision,
    /// What changed.
    pub change: Change,
}
