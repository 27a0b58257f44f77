//! A shard that serves: the topic, what it appended, and what it reads.

use std::collections::VecDeque;
use std::time::Duration;

use ledger::Owner;
use topic::{Effect, Event, Position, ReadRequest, StoredEntry, Topic};
use types::chain::{LedgerRecord, LinkEnd, LogKind};
use types::{ByteSize, LedgerId, LedgerSeq, MonoTime, Offset, Payload, Problem, Reason, TopicName};

use super::ShardSetup;
use super::chain::{EndFacts, MessageChain};
use super::config::ShardConfig;
use super::event::{ShardEffect, Told};
use super::reads::{Library, Reads};
use super::runs::{RunId, RunOutput};
use super::sources::{Sources, Step};
use super::tail::Entries;
use super::trim::{Floor, Trimmer};

/// What is kept of the tail is dropped when nothing was published or read for so long.
const TAIL_IDLE: Duration = Duration::from_secs(10);

/// How long publishers are told to wait when too few bookies take writes.
const BOOKIES_WAIT: Duration = Duration::from_millis(500);

/// What a served shard works with besides itself.
#[derive(Debug)]
pub(super) struct Around<'a> {
    pub(super) config: &'a ShardConfig,
    pub(super) sources: &'a mut Sources,
    pub(super) owner: &'a mut Owner,
    pub(super) owner_effects: &'a mut Vec<ledger::Effect>,
}

/// A shard that serves.
#[derive(Debug, Clone)]
pub(super) struct Serving {
    pub(super) topic_name: TopicName,
    pub(super) topic: Topic,
    pub(super) topic_effects: Vec<Effect>,
    pub(super) chain: MessageChain,
    pub(super) trimmer: Trimmer,
    tail: Entries,
    /// Bytes that the tail may have.
    tail_limit: ByteSize,
    tail_used_at: MonoTime,
    /// Made when first something is to be read or dropped: a new topic has none.
    reads: Option<Box<Reads>>,
    /// Appends that are not confirmed, in order; message log, then state log.
    in_flight: [VecDeque<InFlight>; 2],
    /// Bytes in the open ledger of the state log, or since it was last asked to be rolled.
    state_bytes: u64,
    /// Publishing is held because too few bookies take writes.
    is_short_of_bookies: bool,
    pub(super) is_releasing: bool,
}

/// An append that is not confirmed.
#[derive(Debug, Clone)]
struct InFlight {
    token: topic::Token,
    payload: Payload,
}

impl Serving {
    /// A shard that begins to serve.
    pub(super) fn new(
        now: MonoTime,
        setup: &ShardSetup,
        topic: Topic,
        chain: MessageChain,
    ) -> Self {
        Self {
            topic_name: setup.topic.clone(),
            topic,
            topic_effects: Vec::new(),
            chain,
            trimmer: Trimmer::new(now, &setup.config),
            tail: Entries::default(),
            tail_limit: setup.config.tail_cache,
            tail_used_at: now,
            reads: None,
            in_flight: [VecDeque::new(), VecDeque::new()],
            state_bytes: 0,
            is_short_of_bookies: false,
            is_releasing: false,
        }
    }

    /// Bytes of the newest entries that are kept in memory.
    pub(super) fn tail_bytes(&self) -> u64 {
        self.tail.bytes()
    }

    /// Keeps no more of them than so many bytes from now on.
    pub(super) fn limit_tail(&mut self, limit: ByteSize) {
        self.tail_limit = limit;
        self.tail.shrink(limit);
    }

    /// Gives back the room that it has from busier times.
    pub(super) fn shrink(&mut self) {
        if let Some(reads) = &mut self.reads {
            reads.shrink();
        }
        for log in &mut self.in_flight {
            log.shrink_to_fit();
        }
    }

    /// The topic.
    pub(super) const fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Hands an event to the topic.
    pub(super) fn event(&mut self, step: &Step<'_>, event: Event) {
        self.topic
            .handle(step.now, step.wall, event, &mut self.topic_effects);
    }

    /// Whether deliveries may go on: only while this node is certain to be the owner, and has not handed the shard over.
    pub(super) fn lease(&mut self, step: &Step<'_>, is_certain: bool) {
        let held = !is_certain || self.is_releasing;
        self.event(step, Event::HoldDelivery { held });
    }

    /// Admits nothing any more: what was appended is confirmed, then the owner hands the shard over.
    pub(super) fn release(&mut self, step: &Step<'_>, problem: Problem) {
        self.is_releasing = true;
        self.event(step, Event::HoldDelivery { held: true });
        let problem = Some(problem);
        self.event(step, Event::HoldPublishing { problem });
    }

    /// Whether anything of the state log is not confirmed.
    pub(super) fn writes_state(&self) -> bool {
        !self.in_flight[place(LogKind::State)].is_empty()
    }

    /// Too few bookies take writes: what comes now is refused before anything of it was sent.
    pub(super) fn short_of_bookies(&mut self, step: &Step<'_>) {
        if self.is_short_of_bookies || self.is_releasing {
            return;
        }
        self.is_short_of_bookies = true;
        let text = "fewer bookies than the ack quorum can be written, try again later";
        let problem = Problem::new(Reason::InsufficientBookies, text).retry_after(BOOKIES_WAIT);
        let problem = Some(problem);
        self.event(step, Event::HoldPublishing { problem });
    }

    fn enough_bookies(&mut self, step: &Step<'_>) {
        if std::mem::take(&mut self.is_short_of_bookies) && !self.is_releasing {
            self.event(step, Event::HoldPublishing { problem: None });
        }
    }

    /// Performs what the topic wants. True when there was something.
    pub(super) fn perform(&mut self, step: &mut Step<'_>, around: &mut Around<'_>) -> bool {
        let answers = self.reads.as_mut().map(|reads| reads.take_answers());
        for event in answers.into_iter().flatten() {
            self.event(step, event);
        }
        if self.topic_effects.is_empty() {
            return false;
        }
        let mut effects = std::mem::take(&mut self.topic_effects);
        for effect in effects.drain(..) {
            self.perform_one(step, around, effect);
        }
        if self.topic_effects.is_empty() {
            self.topic_effects = effects; // Keeps its memory.
        }
        true
    }

    fn perform_one(&mut self, step: &mut Step<'_>, around: &mut Around<'_>, effect: Effect) {
        let (stream, told) = match effect {
            Effect::Append(append) => return self.append(step, around, append),
            Effect::Read(request) => return self.read(step, around, request),
            Effect::Unreadable(unreadable) => {
                step.effects.push(ShardEffect::Unreadable(unreadable));
                return;
            }
            Effect::CursorDurable {
                subscription,
                generation,
            } => {
                step.effects.push(ShardEffect::CursorDurable {
                    subscription,
                    generation,
                });
                return;
            }
            Effect::CursorRefused {
                subscription,
                problem,
            } => {
                step.effects.push(ShardEffect::CursorRefused {
                    subscription,
                    problem,
                });
                return;
            }
            Effect::Floor {
                offset,
                covered,
                state,
            } => {
                let floor = Floor {
                    offset,
                    covered,
                    state,
                };
                return self.floor_told(step, around, floor);
            }
            Effect::ProducerReady { stream, ready } => (stream, Told::ProducerReady(ready)),
            Effect::Receipt { stream, receipt } => (stream, Told::Receipt(receipt)),
            Effect::ConsumerReady { stream, ready } => (stream, Told::ConsumerReady(ready)),
            Effect::Deliver { stream, delivery } => (stream, Told::Delivery(delivery)),
            Effect::AckResult { stream, result } => (stream, Told::AckResult(result)),
            Effect::Heartbeat { stream, heartbeat } => (stream, Told::Heartbeat(heartbeat)),
            Effect::Refuse { stream, problem } => (stream, Told::Refused(problem)),
            Effect::EndStream { stream, problem } => (stream, Told::Ended(problem)),
            Effect::Finished { stream } => (stream, Told::Finished),
        };
        step.effects.push(ShardEffect::Tell { stream, told });
    }

    fn append(&mut self, step: &Step<'_>, around: &mut Around<'_>, append: topic::Append) {
        self.in_flight[place(append.log)].push_back(InFlight {
            token: append.token,
            payload: append.payload.clone(),
        });
        let event = ledger::Event::Append {
            log: append.log,
            token: ledger::Token::new(append.token.get()),
            payload: append.payload,
            next_offset: append.next_offset,
        };
        around.owner.handle(step.now, event, around.owner_effects);
    }

    fn read(&mut self, step: &mut Step<'_>, around: &mut Around<'_>, request: ReadRequest) {
        self.tail_used_at = step.now;
        let (reads, mut library) = self.library(around);
        reads.request(step, &mut library, request);
    }

    fn library<'a>(&'a mut self, around: &'a mut Around<'_>) -> (&'a mut Reads, Library<'a>) {
        let library = Library {
            config: around.config,
            chain: &mut self.chain,
            tail: &self.tail,
            sources: around.sources,
        };
        (self.reads.get_or_insert_default(), library)
    }

    /// The owner confirmed the oldest append of a log.
    pub(super) fn confirmed(
        &mut self,
        step: &Step<'_>,
        around: &mut Around<'_>,
        log: LogKind,
        token: ledger::Token,
        (position, next_offset): (Position, Offset),
    ) {
        let first = self.in_flight[place(log)].pop_front();
        let InFlight {
            token: own,
            payload,
        } = first.expect("only appends are confirmed");
        assert_eq!(
            own.get(),
            token.get(),
            "confirmed in the order of the appends"
        );
        let bytes = u64::try_from(payload.len()).expect("lengths fit 64 bits");
        match log {
            LogKind::Message => {
                let entry = StoredEntry::decode(position, &payload);
                let entry = entry.expect("the topic wrote its header");
                let end = EndFacts::of(&entry.header);
                self.chain.confirmed(position, next_offset, bytes, end);
                self.tail.push(entry);
                self.tail.shrink(self.tail_limit);
                self.tail_used_at = step.now;
                self.enough_bookies(step);
            }
            LogKind::State => {
                self.state_bytes += bytes;
                if self.state_bytes >= self.topic.state_roll_size().get() {
                    // Asked again after as much again: it comes to nothing while too few bookies can be written.
                    self.state_bytes = 0;
                    let roll = ledger::Event::Roll(LogKind::State);
                    around.owner.handle(step.now, roll, around.owner_effects);
                }
            }
        }
        let token = own;
        self.event(
            step,
            Event::Appended {
                log,
                token,
                position,
            },
        );
    }

    /// A log has a new open ledger.
    pub(super) fn extended(
        &mut self,
        step: &Step<'_>,
        around: &mut Around<'_>,
        log: LogKind,
        (ledger, first_offset): (&LedgerRecord, Offset),
    ) {
        around.sources.keep(ledger);
        let ledger = ledger.id;
        match log {
            LogKind::Message => {
                self.chain.extended(ledger, first_offset);
                self.enough_bookies(step);
            }
            LogKind::State => {
                self.state_bytes = 0;
                self.event(step, Event::StateLedgerStarted { ledger });
            }
        }
    }

    /// The open ledger of a log was closed: at the last entry that was confirmed.
    pub(super) fn closed(&mut self, log: LogKind, ledger: LedgerId, end: LinkEnd) {
        if log == LogKind::Message {
            let known = self.chain.end_of(ledger);
            assert_eq!(known, Some(end), "a ledger is closed at its LAC");
            self.chain.close(ledger);
        }
    }

    /// The oldest ledgers of a log are dropped.
    pub(super) fn trimmed(
        &mut self,
        around: &mut Around<'_>,
        log: LogKind,
        first: LedgerSeq,
        first_offset: Offset,
    ) {
        if log == LogKind::Message {
            self.chain.trim(first, first_offset);
        }
        if let Some(view) = around.owner.view() {
            around.sources.forget(view.record.chain(log).log, first);
        }
    }

    /// The topic's record may have changed.
    pub(super) const fn forget_retention(&mut self) {
        self.trimmer.forget_retention();
    }

    /// Something became of a run.
    pub(super) fn output(
        &mut self,
        step: &mut Step<'_>,
        around: &mut Around<'_>,
        run: RunId,
        output: RunOutput,
    ) {
        if self.trimmer.reads(run) {
            return self.trim_output(step, around, &output);
        }
        let (reads, mut library) = self.library(around);
        // A run that was given up is nobody's.
        reads.output(step, &mut library, run, output);
    }

    /// Records of ledgers came, or did not.
    pub(super) fn records(
        &mut self,
        step: &mut Step<'_>,
        around: &mut Around<'_>,
        outcome: Result<(), (&[LedgerId], Problem)>,
    ) {
        self.trim_records(step, around, outcome.is_ok());
        let (reads, mut library) = self.library(around);
        match outcome {
            Ok(()) => reads.records_came(step, &mut library),
            Err((ledgers, problem)) => {
                reads.records_failed(step, &mut library, ledgers, &problem);
            }
        }
    }

    /// When to call [`Serving::expire`].
    pub(super) fn deadline(&self) -> Option<MonoTime> {
        let tail = (!self.tail.is_empty()).then(|| self.tail_used_at.after(TAIL_IDLE));
        [
            self.topic.deadline(),
            self.reads.as_ref().and_then(|reads| reads.deadline()),
            tail,
            self.trimmer.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time has passed.
    pub(super) fn expire(&mut self, step: &mut Step<'_>, around: &mut Around<'_>) {
        if self.topic.deadline().is_some_and(|at| at <= step.now) {
            self.event(step, Event::Deadline);
        }
        let reads = self.reads.as_ref();
        let reads = reads.and_then(|reads| reads.deadline());
        if reads.is_some_and(|at| at <= step.now) {
            let (reads, mut library) = self.library(around);
            reads.expire(step, &mut library);
        }
        self.look_for_trims(step, around);
        if self.tail_used_at.after(TAIL_IDLE) <= step.now {
            self.tail.clear();
        }
    }
}

const fn place(log: LogKind) -> usize {
    match log {
        LogKind::Message => 0,
        LogKind::State => 1,
    }
}
