//! What nodes ask of meta, and what it answers. Time and ids travel *in* the command, so that planning it is pure.

use std::time::Duration;

use crate::chain::{Claim, LedgerRecord, ShardCommand, ShardOutcome, ShardView};
use crate::cluster::{BookieClaim, BookieRecord, BookieState, NodeRole, SessionRecord};
use crate::topic::{
    NamespaceRecord, StartPosition, SubscriptionMode, SubscriptionRecord, TenantRecord, TopicRecord,
};
use crate::{
    BookieId, ClusterId, CommandId, LedgerId, NamespaceName, NodeName, Quorum, Revision, SessionId,
    ShardId, SubscriptionId, SubscriptionName, TenantName, TopicName, WallTime,
};

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
        /// Now.
        at: WallTime,
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
            Self::CreateTenant { .. } => "create_tenant",
            Self::CreateNamespace { .. } => "create_namespace",
            Self::CreateTopic { .. } => "create_topic",
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
    /// Every bookie there is.
    Bookies,
    /// Every session that has not ended.
    Sessions,
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
    /// Bookies.
    Bookies(Vec<BookieRecord>),
    /// Sessions.
    Sessions(Vec<SessionRecord>),
}

/// What changed, told to watchers. Carries names, not contents: the watcher reads what it cares for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// A shard's record changed.
    Shard(ShardId),
    /// A topic was made or changed.
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
