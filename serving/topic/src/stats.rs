//! How a shard stands, for people.

use types::topic::SubscriptionMode;
use types::{Generation, Offset, SubscriptionId};

/// A shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicStats {
    /// The first offset there is.
    pub first_offset: Offset,
    /// The first offset not confirmed yet.
    pub confirmed_end: Offset,
    /// Its producers.
    pub producers: ProducerStats,
    /// Subscriptions whose cursor was missing when the shard was opened, and that began anew with the earliest message.
    pub cursors_missing: u64,
    /// Its subscriptions.
    pub subscriptions: Vec<SubscriptionStats>,
}

/// The producers of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProducerStats {
    /// Open streams.
    pub streams: usize,
    /// Names remembered.
    pub names: usize,
    /// Batches appended and not confirmed.
    pub in_flight_batches: usize,
    /// Their bytes.
    pub in_flight_bytes: u64,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubscriptionStats {
    /// Which subscription.
    pub subscription: SubscriptionId,
    /// Its cursor's generation.
    pub generation: Generation,
    /// How it shares messages.
    pub mode: SubscriptionMode,
    /// Everything below it is acked.
    pub cursor: Offset,
    /// Confirmed messages not acked, delivered or not.
    pub backlog: u64,
    /// Messages delivered and not acked.
    pub unacked: u64,
    /// Messages that wait to be delivered again.
    pub waiting: u64,
    /// Its consumers.
    pub consumers: usize,
}
