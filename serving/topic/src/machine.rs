//! The machine of a shard: takes events apart, hands them to the producers, the subscriptions and the state log, and
//! keeps the three together.

use std::collections::{BTreeMap, BTreeSet};

use types::WallTime;
use types::chain::LogKind;
use types::topic::{StartPosition, SubscriptionMode, SubscriptionRecord};
use types::{ByteSize, Epoch, MonoTime, Offset, Problem, Reason, SequenceId, SubscriptionId};

use crate::opening::FIRST_GENERATION;
use crate::producers::{ProducerTable, Producers};
use crate::state::{SnapshotSource, StateLog, Waiter};
use crate::subscription::{Consumer, Done, Pumped, Scene, Subscription, check_duration};
use crate::{
    Ack, AckResult, AckSet, Config, ConsumerReady, Effect, Event, Extend, Nack, OpenConsumer,
    OpenProducer, Opened, OpeningNotes, Position, Publish, RangeProblem, StreamId, Token,
    TopicStats, problems,
};

/// One shard as its users see it: producers, subscriptions and consumers over two logs it only appends to and reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    config: Config,
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
    is_over: bool,
    notes: OpeningNotes,
}

/// The moment of an event.
#[derive(Debug, Clone, Copy)]
struct At {
    now: MonoTime,
    wall: WallTime,
}

impl Topic {
    pub(crate) fn new(
        config: Config,
        opened: &Opened,
        table: ProducerTable,
        (subscriptions, notes): (Vec<Subscription>, OpeningNotes),
    ) -> Self {
        let subscriptions = subscriptions.into_iter().map(|found| (found.id, found));
        Self {
            config,
            epoch: opened.epoch,
            first_offset: opened.first_offset,
            producers: Producers::new(opened.epoch, table, opened.next_offset),
            state: StateLog::new(opened.state_next_offset),
            subscriptions: subscriptions.collect(),
            consumers: BTreeMap::new(),
            at_tail: BTreeSet::new(),
            due: BTreeSet::new(),
            due_of: BTreeMap::new(),
            is_delivery_held: false,
            is_over: false,
            notes,
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
            cursors_missing: self.notes.cursors_missing,
            subscriptions: self
                .subscriptions
                .values()
                .map(|found| found.stats(end))
                .collect(),
        }
    }

    /// The epoch of its owner.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The first offset that is not confirmed.
    pub const fn confirmed_end(&self) -> Offset {
        self.producers.confirmed_end()
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
        let wants_snapshot = self.producers.wants_snapshot(&self.config);
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
        if let Some(opened) = self.producers.open(&self.config, open, effects) {
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

    // Subscriptions.

    fn create_cursor(&mut self, record: &SubscriptionRecord, effects: &mut Vec<Effect>) {
        let id = record.id;
        if let Some(found) = self.subscriptions.get(&id) {
            if found.is_durable {
                let generation = found.generation;
                effects.push(Effect::CursorDurable {
                    subscription: id,
                    generation,
                });
            }
            return; // Else the one who asked first is answered, and with it everybody.
        }
        if self.subscriptions.len() >= self.config.subscriptions_max {
            let problem = problems::limit("subscriptions_max", self.config.subscriptions_max);
            effects.push(Effect::CursorRefused {
                subscription: id,
                problem,
            });
            return;
        }
        let end = self.producers.confirmed_end();
        let start = match record.start {
            StartPosition::Earliest => self.first_offset,
            // Not what is in flight: it may come to nothing, and the cursor would point beyond the end.
            StartPosition::Latest => end,
            StartPosition::Offset(offset) => offset.clamp(self.first_offset, end),
        };
        let cursor = AckSet::new(start);
        let found = Subscription::new(record, FIRST_GENERATION, cursor, false);
        self.state.add_cursor(found.key(), start);
        self.subscriptions.insert(id, found);
    }

    fn open_consumer(&mut self, at: At, open: OpenConsumer, effects: &mut Vec<Effect>) {
        let stream = open.stream;
        assert!(
            !self.consumers.contains_key(&stream) && !self.producers.has_stream(stream),
            "stream numbers are never reused"
        );
        let id = open.subscription;
        match self.admit_consumer(open) {
            Err(problem) => effects.push(Effect::EndStream { stream, problem }),
            Ok(consumer) => {
                let found = &self.subscriptions[&id];
                let ready = ConsumerReady {
                    mode: found.mode,
                    ack_deadline: consumer.ack_deadline,
                    generation: found.generation,
                    cursor: found.acked().mark(),
                };
                effects.push(Effect::ConsumerReady { stream, ready });
                self.consumers.insert(stream, id);
                self.with(at, id, effects, |found, scene, _| {
                    found.add_consumer(scene, stream, consumer);
                });
            }
        }
    }

    fn admit_consumer(&self, open: OpenConsumer) -> Result<Consumer, Problem> {
        let id = open.subscription;
        let found = self.subscriptions.get(&id);
        let found = found.ok_or_else(|| problems::no_subscription(id))?;
        if !found.is_durable {
            let text = "the subscription is being created";
            return Err(
                Problem::new(Reason::ShardOpening, text).retry_after(self.config.read_retry)
            );
        }
        if let Some(mode) = open.mode.filter(|mode| *mode != found.mode) {
            return Err(problems::wrong_mode(&found.name, found.mode, mode));
        }
        let count = found.consumers().count();
        if found.mode == SubscriptionMode::Exclusive
            && let Some(holder) = found.consumers().next()
        {
            return Err(problems::exclusive_held(&found.name, holder.name.as_ref()));
        }
        if count >= self.config.consumers_max {
            return Err(problems::limit("consumers_max", self.config.consumers_max));
        }
        let (min, max) = (self.config.ack_deadline_min, self.config.ack_deadline_max);
        if let Some(asked) = open.ack_deadline {
            check_duration("ack_deadline", asked, min, max)?;
        }
        let own = found.ack_deadline.clamp(min, max);
        let ack_deadline = open.ack_deadline.unwrap_or(own);
        let mut consumer = Consumer::new(open.name, ack_deadline, open.confirm_acks);
        consumer.grant(open.permits.0, open.permits.1)?;
        Ok(consumer)
    }

    /// The subscription of a consumer's stream that may still ask for something.
    fn consumer_of(&self, stream: StreamId, effects: &mut Vec<Effect>) -> Option<SubscriptionId> {
        if self.producers.has_stream(stream) {
            refuse(stream, problems::wrong_stream("consumer"), effects);
        }
        let id = self.consumers.get(&stream).copied()?;
        if self.subscriptions[&id].is_finishing(stream) {
            refuse(stream, problems::after_close(), effects);
            return None;
        }
        Some(id)
    }

    fn grant(
        &mut self,
        at: At,
        stream: StreamId,
        (messages, bytes): (i64, i64),
        effects: &mut Vec<Effect>,
    ) {
        let Some(id) = self.consumer_of(stream, effects) else {
            return;
        };
        self.with(at, id, effects, |found, _, effects| {
            let consumer = found
                .consumer_mut(stream)
                .expect("streams and consumers agree");
            if let Err(problem) = consumer.grant(messages, bytes) {
                refuse(stream, problem, effects);
            }
        });
    }

    fn ack(&mut self, at: At, ack: &Ack, effects: &mut Vec<Effect>) {
        let (stream, request_id) = (ack.stream, ack.request_id);
        let Some(id) = self.consumer_of(stream, effects) else {
            return;
        };
        let found = self
            .subscriptions
            .get_mut(&id)
            .expect("streams and subscriptions agree");
        let key = found.key();
        let consumer = found
            .consumer_mut(stream)
            .expect("streams and consumers agree");
        let confirms = consumer.confirm_acks && request_id != 0;
        if confirms && consumer.waiting_acks >= self.config.waiting_acks_max {
            let max = u64::try_from(self.config.waiting_acks_max).unwrap_or(u64::MAX);
            let wait = self.config.overload_wait;
            let problem = problems::overloaded("waiting_acks_max", max, wait);
            answer(stream, request_id, Err(problem), false, effects);
            return;
        }
        let done = self.with(at, id, effects, |found, scene, _| {
            Some(found.ack(scene, ack))
        });
        let done = match done.expect("the subscription is there") {
            Ok(done) => done,
            Err(problem) => return answer(stream, request_id, Err(problem), false, effects),
        };
        let flush_at = at.now.after(self.config.ack_delay);
        for range in &done.acked {
            self.state.add_acked(key, *range, flush_at);
        }
        if !confirms {
            return answer(stream, request_id, Ok(done), false, effects);
        }
        let result = AckResult {
            request_id,
            problems: done.problems,
            confirmed: true,
        };
        let found = self.subscriptions.get_mut(&id).expect("it was there above");
        let consumer = found.consumer_mut(stream).expect("it was there above");
        consumer.waiting_acks += 1;
        if let Some(waiter) = self.state.wait(Waiter::Ack { stream, result }) {
            self.durable(at, waiter, effects);
        }
    }

    /// A confirmed ack is on disk.
    fn ack_durable(
        &mut self,
        at: At,
        stream: StreamId,
        result: AckResult,
        effects: &mut Vec<Effect>,
    ) {
        let Some(id) = self.consumers.get(&stream) else {
            return; // Nobody is there to hear it.
        };
        let found = self
            .subscriptions
            .get_mut(id)
            .expect("streams and subscriptions agree");
        let consumer = found
            .consumer_mut(stream)
            .expect("streams and consumers agree");
        consumer.waiting_acks -= 1;
        let is_done = consumer.is_finishing && consumer.waiting_acks == 0;
        effects.push(Effect::AckResult { stream, result });
        if is_done {
            self.close(at, stream, effects);
            effects.push(Effect::Finished { stream });
        }
    }

    fn nack(&mut self, at: At, nack: &Nack, effects: &mut Vec<Effect>) {
        if let Some(id) = self.consumer_of(nack.stream, effects) {
            let done = self.with(at, id, effects, |found, scene, _| {
                Some(found.nack(scene, nack))
            });
            let done = done.expect("the subscription is there");
            answer(nack.stream, nack.request_id, done, true, effects);
        }
    }

    fn extend(&mut self, at: At, extend: &Extend, effects: &mut Vec<Effect>) {
        if let Some(id) = self.consumer_of(extend.stream, effects) {
            let change = |found: &mut Subscription, scene: Scene<'_>, _: &mut Vec<Effect>| {
                Some(found.extend(scene, extend))
            };
            let done = self.with(at, id, effects, change);
            let done = done.expect("the subscription is there");
            answer(extend.stream, extend.request_id, done, true, effects);
        }
    }
}

fn refuse(stream: StreamId, problem: Problem, effects: &mut Vec<Effect>) {
    effects.push(Effect::Refuse { stream, problem });
}

/// Answers a request that waits for nothing. One without a number hears of problems only.
fn answer(
    stream: StreamId,
    request_id: u64,
    done: Result<Done, Problem>,
    confirmed: bool,
    effects: &mut Vec<Effect>,
) {
    let is_done = done.is_ok();
    let problems = match done {
        Ok(done) => done.problems,
        Err(problem) => vec![RangeProblem {
            range: None,
            problem,
        }],
    };
    if request_id == 0 {
        if let Some(first) = problems.into_iter().next() {
            let problem = match first.range {
                Some(range) => first.problem.with("range", range),
                None => first.problem,
            };
            refuse(stream, problem, effects);
        }
        return;
    }
    let result = AckResult {
        request_id,
        problems,
        confirmed: confirmed && is_done,
    };
    effects.push(Effect::AckResult { stream, result });
}
