//! Where records live. The order of keys is the order of their bytes, and lists of names come out of ranges.

use types::cluster::NodeRole;
use types::{
    BookieId, LedgerId, LedgerSeq, LogId, NamespaceName, NodeName, SessionId, ShardId,
    SubscriptionName, TenantName, TopicName,
};

use crate::codec::{encode_key, key_prefix};

/// The place of one record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The cluster's id.
    Cluster,
    /// The next number of everything that is numbered.
    Counters,
    /// A tenant.
    Tenant(TenantName),
    /// A namespace.
    Namespace(NamespaceName),
    /// A topic.
    Topic(TopicName),
    /// A subscription.
    Subscription(SubscriptionName),
    /// A shard with its two chains.
    Shard(ShardId),
    /// Which shard a log belongs to.
    Log(LogId),
    /// A ledger.
    Ledger(LedgerId),
    /// What an operator gave up of a ledger, and why.
    Loss(LedgerId),
    /// A node by its role and name.
    Node(NodeRole, NodeName),
    /// A node's process instance.
    Session(SessionId),
    /// A bookie.
    Bookie(BookieId),
    /// Rewritten at each birth of a bookie: the revision that last changed it is the birth.
    Birth(BookieId),
    /// Which bookie has a name.
    BookieName(NodeName),
}

/// Keys from `start` to before `end`, at most `limit` of them.
///
/// The bounds are in the bytes of [`encode_key`](crate::encode_key), so that a range may begin at any text a user
/// gives and not only at a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    /// The first key that may be in it.
    pub start: Vec<u8>,
    /// The first key after it.
    pub end: Vec<u8>,
    /// Most keys.
    pub limit: usize,
}

impl KeyRange {
    /// Keys that begin with `prefix`.
    pub fn prefix(prefix: Vec<u8>, limit: usize) -> Self {
        let end = after_prefix(&prefix);
        Self {
            start: prefix,
            end,
            limit,
        }
    }

    /// The ledgers after one, or all, in their order.
    pub fn ledgers(after: Option<LedgerId>, limit: usize) -> Self {
        let any = Key::Ledger(LedgerId::new(LogId::new(0), LedgerSeq::new(0)));
        let all = Self::prefix(key_prefix(&any), limit);
        match after {
            Some(after) => all.after(&encode_key(&Key::Ledger(after))),
            None => all,
        }
    }

    /// The shards there are.
    pub fn shards(limit: usize) -> Self {
        Self::prefix(key_prefix(&Key::Shard(ShardId::new(0))), limit)
    }

    /// The same, without the keys up to and including `after`.
    #[must_use]
    pub fn after(mut self, after: &[u8]) -> Self {
        let mut next = after.to_vec();
        next.push(0);
        self.start = self.start.max(next);
        self
    }

    /// Whether keys whose bytes begin with `first` may lie between the bounds.
    pub(crate) fn reaches(&self, first: u8) -> bool {
        self.start.first().is_none_or(|start| *start <= first)
            && self.end.first().is_none_or(|end| first <= *end)
    }

    /// Whether a key's bytes lie between the bounds.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && key < self.end.as_slice()
    }
}

/// The first bytes after all that begin with `prefix`.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    end
}
