//! One shard served: the owner of its ledgers, the topic its users see, its replay and its reads, as one machine.
//!
//! [`Shard`] is synchronous and pure: no task, no clock, no channel. The production task ([`super::task`]) and the
//! simulator drive exactly this. One value is one attempt to serve; it ends with [`ShardEffect::Over`].

mod config;
mod event;

pub use config::{ShardConfig, ShardConfigError};
pub use event::{Ended, QueryId, Request, ShardEffect, ShardEvent, Told};

use topic::TopicStats;
use types::{Epoch, MonoTime, Problem, SessionId, ShardId, TopicName, WallTime};

/// How far a shard is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It is being claimed, recovered or replayed.
    Opening {
        /// What is waited for, when it takes longer than usual.
        waits_for: Option<String>,
    },
    /// It serves.
    Serving {
        /// The owner's epoch.
        epoch: Epoch,
    },
    /// It is being given up.
    Releasing,
    /// It is over; what clients are told.
    Over(Problem),
}

/// Who serves what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSetup {
    /// The shard.
    pub shard: ShardId,
    /// The topic it belongs to.
    pub topic: TopicName,
    /// The node's session.
    pub session: SessionId,
    /// 128 random bits, fresh for each [`Shard`]: the ids of its commands are made from it.
    pub seed: u128,
    /// Limits and patience.
    pub config: ShardConfig,
}

/// One shard served.
#[derive(Debug, Clone)]
pub struct Shard {
    setup: ShardSetup,
}

impl Shard {
    /// A shard to be: nothing happens before [`ShardEvent::Open`].
    pub fn new(setup: ShardSetup) -> Self {
        Self { setup }
    }

    /// Takes an event and adds what is to be done to `effects`.
    pub fn handle(
        &mut self,
        _now: MonoTime,
        _wall: WallTime,
        _event: ShardEvent,
        _effects: &mut Vec<ShardEffect>,
    ) {
    }

    /// When to call again with [`ShardEvent::Deadline`].
    pub fn deadline(&self) -> Option<MonoTime> {
        None
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        Status::Opening { waits_for: None }
    }

    /// How the topic stands; none unless it serves.
    pub fn stats(&self) -> Option<TopicStats> {
        None
    }

    /// What it was made of.
    pub fn setup(&self) -> &ShardSetup {
        &self.setup
    }
}
