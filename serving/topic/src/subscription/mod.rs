//! One subscription: its cursor, its consumers, and who holds which messages until when.
//!
//! Every offset is in exactly one state: acked; leased to a consumer; ready to be delivered again; delayed until its
//! time; or not delivered yet, at or beyond the frontier. Leases and attempts live in memory only: after a change of
//! owner everything not acked is delivered again, as the first attempt.

mod acks;
mod consumer;
mod dispatch;
mod opened;
mod part;

use std::collections::BTreeMap;
use std::time::Duration;

use types::topic::SubscriptionMode;
use types::{Generation, MonoTime, Offset, SubscriptionId, SubscriptionName};

pub(crate) use acks::{Done, check_duration};
pub(crate) use consumer::Consumer;
pub(crate) use dispatch::{Pumped, Scene};
use opened::Opened;

use crate::spans::Spans;
use crate::state::CursorKey;
use crate::{
    AckSet, Effect, Heartbeat, OffsetRange, Position, ReadRequest, StreamId, SubscriptionStats,
};

/// Who holds messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    consumer: StreamId,
    /// How often they were delivered, this time included.
    attempt: u32,
}

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Subscription {
    pub(crate) id: SubscriptionId,
    pub(crate) name: SubscriptionName,
    pub(crate) mode: SubscriptionMode,
    pub(crate) ack_deadline: Duration,
    pub(crate) generation: Generation,
    /// Its first cursor is on disk.
    pub(crate) is_durable: bool,
    acked: AckSet,
    leases: Spans<Lease>,
    /// To be delivered again, with how often they were.
    ready: Spans<u32>,
    /// To be delivered again at their time.
    delayed: Spans<u32>,
    /// Nothing at or beyond it was delivered.
    frontier: Offset,
    consumers: BTreeMap<StreamId, Consumer>,
    /// Whose turn it was last.
    last_served: Option<StreamId>,
    /// The read that is not answered.
    read: Option<ReadRequest>,
    next_read: u64,
    /// When to read again after a failure.
    retry_at: Option<MonoTime>,
    /// The batch that could not be read last.
    unreadable: Option<Position>,
    heartbeat_at: Option<MonoTime>,
    opened: Opened,
}

impl Subscription {
    pub(crate) fn new(
        record: &types::topic::SubscriptionRecord,
        generation: Generation,
        acked: AckSet,
        is_durable: bool,
    ) -> Self {
        Self {
            id: record.id,
            name: record.name.clone(),
            mode: record.mode,
            ack_deadline: record.ack_deadline,
            generation,
            is_durable,
            frontier: acked.mark(),
            acked,
            leases: Spans::new(),
            ready: Spans::new(),
            delayed: Spans::new(),
            consumers: BTreeMap::new(),
            last_served: None,
            read: None,
            next_read: 0,
            retry_at: None,
            unreadable: None,
            heartbeat_at: None,
            opened: Opened::default(),
        }
    }

    pub(crate) const fn key(&self) -> CursorKey {
        CursorKey {
            subscription: self.id,
            generation: self.generation,
        }
    }

    pub(crate) const fn acked(&self) -> &AckSet {
        &self.acked
    }

    pub(crate) fn consumer_mut(&mut self, stream: StreamId) -> Option<&mut Consumer> {
        self.consumers.get_mut(&stream)
    }

    /// Whether a consumer said that it is done.
    pub(crate) fn is_finishing(&self, stream: StreamId) -> bool {
        self.consumers
            .get(&stream)
            .is_some_and(|consumer| consumer.is_finishing)
    }

    /// Its consumers that are not on their way out.
    pub(crate) fn consumers(&self) -> impl Iterator<Item = &Consumer> + '_ {
        self.consumers
            .values()
            .filter(|consumer| !consumer.is_finishing)
    }

    pub(crate) fn add_consumer(&mut self, scene: Scene<'_>, stream: StreamId, consumer: Consumer) {
        self.consumers.insert(stream, consumer);
        let next = scene.now.after(scene.config.heartbeat);
        self.heartbeat_at.get_or_insert(next);
    }

    /// A consumer is gone: what it held is ready for others at once, the attempt counted.
    pub(crate) fn remove_consumer(&mut self, stream: StreamId) {
        self.release(stream);
        self.consumers.remove(&stream);
        if self.consumers.is_empty() {
            self.heartbeat_at = None;
            self.opened.forget();
        }
    }

    /// A consumer is done: as if it were gone, but its acks are still answered. Tells whether none is waiting.
    pub(crate) fn finish_consumer(&mut self, stream: StreamId) -> bool {
        self.release(stream);
        let Some(consumer) = self.consumers.get_mut(&stream) else {
            return false;
        };
        consumer.is_finishing = true;
        consumer.waiting_acks == 0
    }

    fn release(&mut self, stream: StreamId) {
        let held = self
            .leases
            .iter()
            .filter(|piece| piece.value.consumer == stream);
        let held: Vec<OffsetRange> = held.map(|piece| piece.range).collect();
        for range in held {
            self.give_back(range);
        }
    }

    /// Ends the leases of a range, and has it delivered again.
    fn give_back(&mut self, range: OffsetRange) {
        let (ready, consumers) = (&mut self.ready, &mut self.consumers);
        self.leases.take(range, |piece| {
            if let Some(consumer) = consumers.get_mut(&piece.value.consumer) {
                consumer.unacked -= piece.range.len();
            }
            ready.insert(piece.range, piece.at, piece.value.attempt);
        });
    }

    /// Lapses leases and ends waits whose time has come, and sends the heartbeats that are due.
    pub(crate) fn tick(&mut self, scene: Scene<'_>, effects: &mut Vec<Effect>) {
        while let Some(piece) = self.leases.take_due(scene.now) {
            if let Some(consumer) = self.consumers.get_mut(&piece.value.consumer) {
                consumer.unacked -= piece.range.len();
            }
            self.ready
                .insert(piece.range, piece.at, piece.value.attempt);
        }
        while let Some(piece) = self.delayed.take_due(scene.now) {
            self.ready.insert(piece.range, piece.at, piece.value);
        }
        if self.heartbeat_at.is_some_and(|at| at <= scene.now) {
            self.heartbeat_at = Some(scene.now.after(scene.config.heartbeat));
            let streams: Vec<StreamId> = self.consumers.keys().copied().collect();
            for stream in streams {
                let heartbeat = self.heartbeat(scene, stream);
                effects.push(Effect::Heartbeat { stream, heartbeat });
            }
        }
        // Behind the heartbeats: a retry that is due now has not read anything yet.
        self.retry_at = self.retry_at.filter(|at| *at > scene.now);
    }

    fn heartbeat(&self, scene: Scene<'_>, stream: StreamId) -> Heartbeat {
        Heartbeat {
            backlog: self.acked.unacked_below(scene.confirmed_end),
            blocked: self.blocked(scene, stream),
        }
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        let retry = self
            .retry_at
            .filter(|_| self.read.is_none() && !self.consumers.is_empty());
        let times = [
            self.leases.next_due(),
            self.delayed.next_due(),
            retry,
            self.heartbeat_at,
        ];
        times.into_iter().flatten().min()
    }

    pub(crate) fn stats(&self, confirmed_end: Offset) -> SubscriptionStats {
        SubscriptionStats {
            subscription: self.id,
            generation: self.generation,
            mode: self.mode,
            cursor: self.acked.mark(),
            backlog: self.acked.unacked_below(confirmed_end),
            unacked: self.leases.count(),
            waiting: self.ready.count() + self.delayed.count(),
            consumers: self.consumers().count(),
        }
    }
}
