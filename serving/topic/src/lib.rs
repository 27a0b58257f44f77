#![doc = include_str!("../DESIGN.md")]

mod codec;
mod config;
mod cursor;
mod effect;
mod event;
pub mod format;
mod machine;
mod opening;
mod problems;
mod producers;
mod ranges;
mod spans;
pub mod state;
mod stats;
mod subscription;

pub use config::{Config, ConfigError};
pub use cursor::AckSet;
pub use effect::{
    AckResult, Append, BatchFault, BlockedReason, ConsumerReady, Delivery, Effect, Heartbeat,
    ProducerLimits, ProducerReady, RangeProblem, ReadRequest, Receipt, Stored, Unreadable,
};
pub use event::{Ack, Event, Extend, Nack, OpenConsumer, OpenProducer, Publish};
pub use format::{EntryHeader, FormatError, Position, ProducerIdentity, StoredEntry};
pub use machine::Topic;
pub use opening::{Opened, Opening, OpeningError, OpeningNotes};
pub use ranges::{OffsetRange, RangeSet};
pub use stats::{ProducerStats, SubscriptionStats, TopicStats};

use std::fmt;

/// One client stream of this shard: a producer's or a consumer's. The shell numbers them and never uses a number twice
/// in the life of a [`Topic`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// Makes it from its number.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream-{}", self.0)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream-{}", self.0)
    }
}

/// Names one append to one log until it is confirmed. Tokens of a log are 0, 1, 2 … in the order of the appends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// Makes it from its number.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// Names one read of a subscription until it is answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(u64);

impl ReadId {
    /// Makes it from its number.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for ReadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read-{}", self.0)
    }
}
