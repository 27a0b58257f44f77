//! The machine of a shard: takes events apart, hands them to the producers, the subscriptions and the state log, and
//! keeps the three together.

mod consumers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use types::WallTime;
use types::chain::LogKind;
use types::{ByteSize, Epoch, MonoTime, Offset, Problem, SequenceId, SubscriptionId};

use crate::producers::{ProducerTable, Producers};
use crate::state::{SnapshotSource, StateLog, Waiter};
use crate::subscription::{Pumped, Scene, Subscription};
use crate::{
    AckSet, Config, Effect, Event, OffsetRange, OpenProducer, Opened, OpeningNotes, Position,
    Publish, StreamId, Token, TopicStats, problems,
};

/// One shard as its users see it: producers, subscriptions and consumers over two logs it only appends to and reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    config: Arc<Config>,
    epoch: Epoch,
    first_offset: Offset,
    producers: Producers,
    state: StateLog,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    /// Whose consumer a stream is.
    consumers: BTreeMap<StreamId, SubscriptionId>,
    /// Subscriptions with permits and nothing to deliver: they hear of every new message.
    at_tail: BTreeSet<SubscriptionId>,
    /// When something is due in a subscription, by time and by subscription.
    due: BTreeSet<(MonoTime, SubscriptionId)>,
    due_of: BTreeMap<SubscriptionId, MonoTime>,
    is_delivery_held: bool,
    /// The next state entry is to be a snapshot, so that old entries of the message log are needed by nobody.
    is_cover_wanted: bool,
    is_over: bool,
    /// Of [`OpeningNotes`].
    cursors_missing: u64,
}

/// The moment of an event.
#[derive(Debug, Clone, Copy)]
struct At {
    now: MonoTime,
    wall: WallTime,
}

impl Topic {
    pub(crate) fn new(
        config: Arc<Config>,
        opened: &Opened,
        (table, covered): (ProducerTable, Option<Position>),
        (subscriptions, notes): (Vec<Subscription>, OpeningNotes),
    ) -> Self {
        let subscriptions = subscriptions.into_iter().map(|found| (found.id, found));
        Self {
            config,
            epoch: opened.epoch,
            first_offset: opened.first_offset,
            producers: Producers::new(opened.epoch, table, opened.next_offset),
            state: StateLog::new(opened.state_next_offset, covered),
            subscriptions: subscriptions.collect(),
            consumers: BTreeMap::new(),
            at_tail: BTreeSet::new(),
            due: BTreeSet::new(),
            due_of: BTreeMap::new(),
            is_delivery_held: false,
            is_cover_wanted: false,
            is_over: false,
            cursors_missing: notes.cursors_missing,
        }
    }

    /// Takes one event in and says what is to be done about it. `now` orders leases and waits, `wall` is only shown.
    ///
    /// # Panics
    ///
    /// On what no correct shell does: a stream number used twice, an append confirmed out of order, entries beyond
    /// what is confirmed.
    pub fn handle(
        &mut self,
        now: MonoTime,
        wall: WallTime,
        event: Event,
        effects: &mut Vec<Effect>,
    ) {
        if self.is_over {
            return;
        }
        let at = At { now, wall };
        // On every event, so that a busy shell that never comes to its timer lapses leases all the same.
        self.tick(at, effects);
        self.dispatch(at, event, effects);
        self.write_state(at, effects);
    }

    fn dispatch(&mut self, at: At, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::OpenProducer(open) => self.open_producer(open, effects),
            Event::Publish(publish) => self.publish(at, publish, effects),
            Event::PublishOnce {
                stream,
                count,
                body,
            } => {
                let first_sequence = SequenceId::new(0);
                let publish = Publish {
                    stream,
                    first_sequence,
                    count,
                    body,
                };
                self.producers
                    .publish_once(&self.config, at.wall, publish, effects);
            }
            Event::CloseStream { stream } => self.close(at, stream, effects),
            Event::FinishStream { stream } => self.finish(at, stream, effects),
            Event::CreateCursor { subscription } => self.create_cursor(&subscription, effects),
            Event::OpenConsumer(open) => self.open_consumer(at, open, effects),
            Event::Permits {
                stream,
                messages,
                bytes,
            } => self.grant(at, stream, (messages, bytes), effects),
            Event::Ack(ack) => self.ack(at, &ack, effects),
            Event::Nack(nack) => self.nack(at, &nack, effects),
            Event::Extend(extend) => self.extend(at, &extend, effects),
            Event::Appended {
                log,
                token,
                position,
            } => self.appended(at, log, (token, position), effects),
            Event::StateLedgerStarted { ledger } => self.state.ledger_started(ledger),
            Event::EntriesRead {
                subscription,
                read,
                entries,
            } => self.with(at, subscription, effects, |found, scene, effects| {
                found.entries_read(scene, read, &entries, effects);
            }),
            Event::ReadFailed {
                subscription,
                read,
                problem: _, // The shell logs it.
            } => self.with(at, subscription, effects, |found, scene, _| {
                found.read_failed(scene, read);
            }),
            Event::DropSubscription { subscription } => {
                self.drop_subscription(subscription, effects);
            }
            Event::FindFloor => {
                let floor = Waiter::Floor(self.lowest_cursor());
                if let Some(waiter) = self.state.wait(floor) {
                    self.durable(at, waiter, effects);
                }
            }
            Event::Cover => self.is_cover_wanted = true,
            Event::Trimming { first_offset } => {
                self.first_offset = self.first_offset.max(first_offset);
            }
            Event::HoldPublishing { problem } => self.producers.hold(problem),
            Event::HoldDelivery { held } => self.hold_delivery(at, held, effects),
            Event::Over { problem } => self.over(&problem, effects),
            Event::Deadline => {}
        }
    }

    /// When to call again with [`Event::Deadline`], if nothing else happens before.
    pub fn deadline(&self) -> Option<MonoTime> {
        if self.is_over {
            return None;
        }
        let due = self.due.first().map(|(at, _)| *at);
        due.into_iter().chain(self.state.deadline()).min()
    }

    /// How it stands.
    pub fn stats(&self) -> TopicStats {
        let end = self.producers.confirmed_end();
        TopicStats {
            first_offset: self.first_offset,
            confirmed_end: end,
            producers: self.producers.stats(),
            cursors_missing: self.cursors_missing,
            subscriptions: self
                .subscriptions
                .values()
                .map(|found| found.stats(end))
                .collect(),
        }
    }

    /// Bytes of the batches of the message log that are confirmed.
    pub const fn log_bytes(&self) -> u64 {
        self.producers.table().log_bytes
    }

    /// The epoch of its owner.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The first offset that is not confirmed.
    pub const fn confirmed_end(&self) -> Offset {
        self.producers.confirmed_end()
    }

    /// Every subscription has acked all messages below it, durably or not; the confirmed end when there is none.
    pub fn lowest_cursor(&self) -> Offset {
        let marks = self
            .subscriptions
            .values()
            .map(|found| found.acked().mark());
        marks
            .min()
            .unwrap_or_else(|| self.producers.confirmed_end())
    }

    /// The messages that wait for the disk.
    pub const fn unconfirmed(&self) -> OffsetRange {
        self.producers.unconfirmed()
    }

    /// What is acked of a subscription, durable or not.
    pub fn acked(&self, subscription: SubscriptionId) -> Option<&AckSet> {
        self.subscriptions
            .get(&subscription)
            .map(Subscription::acked)
    }

    /// The size at which the shell should roll the state log: so large that a snapshot is a small part of it, however
    /// large the snapshot is.
    pub fn state_roll_size(&self) -> ByteSize {
        let several = self.state.snapshot_bytes().saturating_mul(8);
        self.config.state_roll.max(ByteSize::new(several))
    }

    // Keeping the parts together.

    /// What subscriptions see, and the subscriptions.
    fn split(&mut self, at: At) -> (Scene<'_>, &mut BTreeMap<SubscriptionId, Subscription>) {
        let scene = Scene {
            config: &self.config,
            now: at.now,
            wall: at.wall,
            confirmed_end: self.producers.confirmed_end(),
            is_held: self.is_delivery_held,
        };
        (scene, &mut self.subscriptions)
    }

    /// Changes a subscription, and lets it go on from there.
    fn with<R: Default>(
        &mut self,
        at: At,
        id: SubscriptionId,
        effects: &mut Vec<Effect>,
        change: impl FnOnce(&mut Subscription, Scene<'_>, &mut Vec<Effect>) -> R,
    ) -> R {
        let (scene, subscriptions) = self.split(at);
        let Some(found) = subscriptions.get_mut(&id) else {
            return R::default();
        };
        let result = change(found, scene, effects);
        let pumped = found.pump(scene, effects);
        let deadline = found.deadline();
        if pumped == Pumped::AtTail {
            self.at_tail.insert(id);
        } else {
            self.at_tail.remove(&id);
        }
        self.reschedule(id, deadline);
        result
    }

    fn reschedule(&mut self, id: SubscriptionId, deadline: Option<MonoTime>) {
        let before = match deadline {
            Some(at) => self.due_of.insert(id, at),
            None => self.due_of.remove(&id),
        };
        if before == deadline {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, id));
        }
        if let Some(at) = deadline {
            self.due.insert((at, id));
        }
    }

    fn tick(&mut self, at: At, effects: &mut Vec<Effect>) {
        while let Some((_, id)) = self.due.first().copied().filter(|(due, _)| *due <= at.now) {
            self.with(at, id, effects, Subscription::tick);
        }
    }

    fn write_state(&mut self, at: At, effects: &mut Vec<Effect>) {
        let wants_snapshot = self.is_cover_wanted || self.producers.wants_snapshot(&self.config);
        let subscriptions = self.subscriptions.values();
        let table = self.producers.table();
        let source = || SnapshotSource {
            cursors: subscriptions.map(|found| (found.key(), found.acked())),
            table,
        };
        let config = &self.config;
        let is_snapshot = self
            .state
            .write(config, at.now, wants_snapshot, source, effects);
        if is_snapshot {
            self.producers.snapped();
            self.is_cover_wanted = false;
        }
    }

    fn appended(
        &mut self,
        at: At,
        log: LogKind,
        (token, position): (Token, Position),
        effects: &mut Vec<Effect>,
    ) {
        match log {
            LogKind::Message => {
                self.producers
                    .appended(&self.config, token, position, effects);
                for id in std::mem::take(&mut self.at_tail) {
                    self.with(at, id, effects, |_, _, _| ());
                }
            }
            LogKind::State => {
                for waiter in self.state.appended(token, position) {
                    self.durable(at, waiter, effects);
                }
            }
        }
    }

    /// What somebody waited for is durable.
    fn durable(&mut self, at: At, waiter: Waiter, effects: &mut Vec<Effect>) {
        match waiter {
            Waiter::Producer(stream) => self.producers.opened(&self.config, stream, effects),
            Waiter::Cursor(id) => {
                if let Some(found) = self.subscriptions.get_mut(&id) {
                    found.is_durable = true;
                    let generation = found.generation;
                    effects.push(Effect::CursorDurable {
                        subscription: id,
                        generation,
                    });
                }
            }
            Waiter::Ack { stream, result } => self.ack_durable(at, stream, result, effects),
            Waiter::Floor(offset) => effects.push(Effect::Floor {
                offset,
                covered: self.state.covered(),
                state: self.state.needed_from(),
            }),
        }
    }

    fn hold_delivery(&mut self, at: At, held: bool, effects: &mut Vec<Effect>) {
        self.is_delivery_held = held;
        let all: Vec<SubscriptionId> = self.subscriptions.keys().copied().collect();
        for id in all {
            self.with(at, id, effects, |_, _, _| ());
        }
    }

    fn over(&mut self, problem: &Problem, effects: &mut Vec<Effect>) {
        self.is_over = true;
        let consumers = std::mem::take(&mut self.consumers).into_keys();
        for stream in self.producers.take_streams().chain(consumers) {
            let problem = problem.clone();
            effects.push(Effect::EndStream { stream, problem });
        }
    }

    // Producers.

    fn open_producer(&mut self, open: OpenProducer, effects: &mut Vec<Effect>) {
        let stream = open.stream;
        assert!(
            !self.consumers.contains_key(&stream),
            "stream numbers are never reused"
        );
        let is_certain = !self.is_delivery_held;
        let opened = self.producers.open(&self.config, open, is_certain, effects);
        if let Some(opened) = opened {
            self.state.add_opened(stream, opened);
        }
    }

    fn publish(&mut self, at: At, publish: Publish, effects: &mut Vec<Effect>) {
        if self.consumers.contains_key(&publish.stream) {
            refuse(publish.stream, problems::wrong_stream("producer"), effects);
            return;
        }
        self.producers
            .publish(&self.config, at.wall, publish, effects);
    }

    // Streams of both kinds.

    fn close(&mut self, at: At, stream: StreamId, effects: &mut Vec<Effect>) {
        self.producers.close(stream);
        if let Some(id) = self.consumers.remove(&stream) {
            self.with(at, id, effects, |found, _, _| found.remove_consumer(stream));
        }
    }

    fn finish(&mut self, at: At, stream: StreamId, effects: &mut Vec<Effect>) {
        self.producers.finish(stream, effects);
        let Some(id) = self.consumers.get(&stream).copied() else {
            return;
        };
        let is_done = self.with(at, id, effects, |found, _, _| found.finish_consumer(stream));
        if is_done {
            self.close(at, stream, effects);
            effects.push(Effect::Finished { stream });
        }
    }
}

fn refuse(stream: StreamId, problem: Problem, effects: &mut Vec<Effect>) {
    effects.push(Effect::Refuse { stream, problem });
}
