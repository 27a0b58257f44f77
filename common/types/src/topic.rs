//! The records of topics and subscriptions.

use std::time::Duration;

use crate::{
    ByteSize, NamespaceName, Quorum, ShardId, SubscriptionId, SubscriptionName, TenantName,
};
use crate::{TopicId, TopicName, WallTime};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TenantRecord {
    /// Its name.
    pub name: TenantName,
    /// When it was made.
    pub created_at: WallTime,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamespaceRecord {
    /// Its name.
    pub name: NamespaceName,
    /// When it was made.
    pub created_at: WallTime,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicRecord {
    /// Which topic.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// The copies of its messages.
    pub quorum: Quorum,
    /// How long messages stay that no subscription needs.
    pub retention: Retention,
    /// Its shards: one for now.
    pub shards: Vec<ShardId>,
    /// When it was made.
    pub created_at: WallTime,
}

/// How long messages stay that no subscription needs any more. What a subscription has not acked stays, however old.
///
/// With both limits, the one that is reached first lets a message go; with none, everything stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Retention {
    /// Since they were published. Zero: they go once every subscription has acked them.
    pub time: Option<Duration>,
    /// Bytes of the newest messages that stay, as stored, before replication.
    pub bytes: Option<ByteSize>,
}

impl Retention {
    /// That of a topic that names none: a week.
    pub const DEFAULT: Self = Self {
        time: Some(Duration::from_secs(7 * 24 * 60 * 60)),
        bytes: None,
    };

    /// Everything stays for good.
    pub const FOREVER: Self = Self {
        time: None,
        bytes: None,
    };
}

impl Default for Retention {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How a subscription shares messages among its consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubscriptionMode {
    /// One consumer, in order.
    Exclusive,
    /// Any number of consumers, each message to one of them.
    Shared,
}

/// Where a new subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StartPosition {
    /// With the oldest message there is.
    Earliest,
    /// With the first message published after it was created.
    Latest,
    /// With this offset.
    Offset(crate::Offset),
}

/// How a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubscriptionState {
    /// Numbered, but the owner has not made its first cursor durable yet: nobody may use it.
    Creating,
    /// Its cursor is durable.
    Active,
    /// It is no more. Its record stays until another one of its name is made, under another number.
    Deleted,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubscriptionRecord {
    /// Which subscription.
    pub id: SubscriptionId,
    /// The topic it belongs to.
    pub topic: TopicId,
    /// Its name.
    pub name: SubscriptionName,
    /// How it shares messages.
    pub mode: SubscriptionMode,
    /// How long a delivered message may stay unacked before it is delivered again.
    pub ack_deadline: Duration,
    /// Where it starts.
    pub start: StartPosition,
    /// How far the making of it is.
    pub state: SubscriptionState,
    /// When it was made.
    pub created_at: WallTime,
}
