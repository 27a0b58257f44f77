//! The history as tables.

mod names;
mod rows;

use std::collections::{BTreeMap, HashMap};

pub(super) use names::{Names, Word, small};
pub(super) use rows::{
    AckRow, Astray, Message, Moved, NONE, Named, Recv, Session, Stream, Sub, TailRow, Tick,
    TickKind, first_ack,
};

use super::findings::Stats;
use crate::history::format::VERSION;
use crate::history::{
    Acked, Event, Guarantees, Outcome, Phase, Received, Seek, Sent, Start, Stored, Subscribed,
    SubscriptionType,
};

/// How far beyond the numbers seen so far a number may lie and still be taken for dense: sends race each other.
const NEAR: u64 = 1 << 16;

/// Complaints kept.
const COMPLAINTS: usize = 5;

/// All that a history says. Filled event by event, then [settled](Records::settle) once.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) promises: Guarantees,
    pub(super) stats: Stats,
    pub(super) names: Names,
    pub(super) streams: Vec<Stream>,
    pub(super) messages: Vec<Message>,
    /// Partitions by number.
    pub(super) partitions: Vec<Word>,
    /// The first offset that must still be there, by partition.
    pub(super) trims: Vec<u64>,
    /// When its topic was deleted, or [`NONE`], by partition.
    pub(super) deletions: Vec<u64>,
    pub(super) named: Vec<Named>,
    /// Messages excluded by a subscription's filter: (message, subscription's name). Sorted when settled.
    pub(super) excluded: Vec<(u32, Word)>,
    pub(super) subs: Vec<Sub>,
    pub(super) sessions: Vec<Session>,
    pub(super) recvs: Vec<Recv>,
    /// Acks as invoked, one row a message. Sorted when settled, like the next two.
    pub(super) acks: Vec<AckRow>,
    pub(super) confirmed: Vec<AckRow>,
    pub(super) nacks: Vec<AckRow>,
    pub(super) tails: Vec<TailRow>,
    pub(super) ticks: Vec<Tick>,
    /// Deliveries with the wrong content, by their row in `recvs`.
    pub(super) corrupt: Vec<usize>,
    /// Deliveries that cannot be read at all: subscription and offset.
    pub(super) unreadable: Vec<(u32, u64)>,
    pub(super) astray: Vec<Astray>,
    pub(super) has_meta: bool,
    pub(super) has_end: bool,
    /// What is wrong with the history itself: how often, and the first of it in words.
    pub(super) complaint_count: u64,
    pub(super) complaints: Vec<String>,
    stream_of: HashMap<(Word, u32), u32>,
    partition_of: HashMap<Word, u32>,
    sub_of: HashMap<(Word, u32), u32>,
    session_of: HashMap<(Word, Word), u32>,
    batches: u32,
}

impl Records {
    /// Notes one event.
    pub(super) fn note(&mut self, event: &Event<'_>) {
        self.stats.events += 1;
        if self.has_end {
            self.complain(|| "an event after the end".to_owned());
        }
        match event {
            Event::Meta { v, g } => self.meta(*v, *g),
            Event::Send(sent) => self.sent(sent),
            Event::Ok(stored) => self.stored(stored),
            Event::Fail(outcome) => {
                self.stats.fails += 1;
                let message = self.refused(outcome);
                self.messages[message as usize].fails += 1;
            }
            Event::Info(outcome) => {
                self.stats.infos += 1;
                let message = self.refused(outcome);
                self.messages[message as usize].infos += 1;
            }
            Event::Sub(subscribed) => self.subscribed(subscribed),
            Event::Open(open) => {
                let (sub, consumer) = (self.names.intern(open.sub.as_str()), open.c.as_str());
                let consumer = self.names.intern(consumer);
                self.opened(sub, consumer, open.t);
            }
            Event::Close(close) => self.closed(close.sub.as_str(), close.c.as_str()),
            Event::Recv(received) => self.received(received),
            Event::Ack(acked) => {
                let sub = self.acked(acked, |records| &mut records.acks);
                let list = &mut self.subs[sub as usize].cumulative;
                list.extend(acked.cu.map(|end| (acked.t, end)));
            }
            Event::AckOk(acked) => {
                self.stats.acks_confirmed += acked.ms.len() as u64;
                let sub = self.acked(acked, |records| &mut records.confirmed);
                let list = &mut self.subs[sub as usize].cumulative_confirmed;
                list.extend(acked.cu.map(|end| (acked.t, end)));
            }
            Event::Nack(acked) => {
                self.acked(acked, |records| &mut records.nacks);
            }
            Event::Seek(seek) => self.seek(seek),
            Event::Trim(trim) => {
                let partition = self.partition(trim.p.as_str());
                let first = &mut self.trims[partition as usize];
                *first = trim.o.max(*first);
            }
            Event::Tail(tail) => {
                let partition = self.partition(tail.p.as_str());
                self.tails.push(TailRow {
                    partition,
                    begun: tail.t0,
                    done: tail.t,
                    next: tail.o.map_or(0, |last| last.saturating_add(1)),
                });
            }
            Event::Unsub(gone) => {
                let sub = self.sub(gone.sub.as_str(), gone.p.as_str());
                self.subs[sub as usize].is_deleted = true;
            }
            Event::Deleted(gone) => {
                let partition = self.partition(gone.p.as_str());
                self.deletions[partition as usize] = gone.t;
            }
            Event::Drained(drained) => {
                let sub = self.sub(drained.sub.as_str(), drained.p.as_str());
                self.subs[sub as usize].drained = Some(self.stats.events);
            }
            Event::Nem(fault) => self.stats.faults += u64::from(fault.ph == Phase::Start),
            Event::End => self.has_end = true,
        }
    }

    /// Notes that the history itself is not as it should be.
    pub(super) fn complain(&mut self, text: impl FnOnce() -> String) {
        self.complaint_count += 1;
        if self.complaints.len() < COMPLAINTS {
            self.complaints.push(text());
        }
    }

    /// Puts the tables in order, once, when all is noted.
    pub(super) fn settle(&mut self) {
        self.acks.sort_unstable();
        self.confirmed.sort_unstable();
        self.nacks.sort_unstable();
        self.excluded.sort_unstable();
        for sub in &mut self.subs {
            for list in [&mut sub.cumulative, &mut sub.cumulative_confirmed] {
                list.sort_unstable();
                let mut highest = 0;
                for (_, end) in list {
                    highest = highest.max(*end);
                    *end = highest;
                }
            }
        }
        let undeclared = self.subs.iter().filter(|sub| !sub.is_declared).count();
        for _ in 0..undeclared {
            self.complain(|| "a subscription that no `sub` line declares".to_owned());
        }
        self.stats.messages = self.messages.iter().filter(|m| m.is_real()).count() as u64;
        self.stats.sessions = self.sessions.len() as u64;
    }

    /// The partition of a message.
    pub(super) fn partition_of(&self, message: u32) -> u32 {
        let stream = self.messages[message as usize].stream;
        self.streams[stream as usize].partition
    }

    /// Whether a partition was deleted with its topic.
    pub(super) fn is_deleted(&self, partition: u32) -> bool {
        self.deletions[partition as usize] != NONE
    }

    /// Whether `sub`'s filter excludes `message`.
    pub(super) fn is_excluded(&self, message: u32, sub: Word) -> bool {
        !self.excluded.is_empty() && self.excluded.binary_search(&(message, sub)).is_ok()
    }

    /// A message in words.
    pub(super) fn describe(&self, message: u32) -> String {
        let row = &self.messages[message as usize];
        let stream = &self.streams[row.stream as usize];
        let writer = self.names.text(stream.writer);
        let partition = self.describe_partition(stream.partition);
        format!("writer={writer} partition={partition} n={}", row.n)
    }

    /// A subscription in words.
    pub(super) fn describe_sub(&self, sub: u32) -> String {
        let sub = &self.subs[sub as usize];
        let name = self.names.text(sub.name);
        format!("subscription={name}")
    }

    /// A partition's name.
    pub(super) fn describe_partition(&self, partition: u32) -> &str {
        self.names.text(self.partitions[partition as usize])
    }

    fn meta(&mut self, version: u32, promises: Guarantees) {
        if version != VERSION {
            self.complain(|| format!("version {version} of the format, {VERSION} is known"));
        }
        if self.has_meta && promises != self.promises {
            self.complain(|| "two lines `meta` that promise different things".to_owned());
        }
        self.has_meta = true;
        self.promises = promises;
    }

    fn sent(&mut self, sent: &Sent<'_>) {
        self.stats.sends += 1;
        let id = self.message(sent.w.as_str(), sent.p.as_str(), sent.n);
        let key = sent.k.as_ref().map(|key| self.names.intern(key.as_str()));
        for sub in &sent.x {
            let sub = self.names.intern(sub.as_str());
            self.excluded.push((id, sub));
        }
        let message = &mut self.messages[id as usize];
        message.sends += 1;
        message.first_send = message.first_send.min(sent.t);
        message.hash = sent.h.or(message.hash);
        message.key = key.or(message.key);
        message.due = sent.due.unwrap_or(message.due);
        self.tick(sent.t, id, TickKind::Send);
    }

    fn stored(&mut self, stored: &Stored<'_>) {
        self.stats.oks += 1;
        let id = self.message(stored.w.as_str(), stored.p.as_str(), stored.n);
        let message = &mut self.messages[id as usize];
        message.oks += 1;
        message.ok_at = message.ok_at.min(stored.t);
        if let Some(offset) = stored.o {
            self.named.push(Named {
                message: id,
                offset,
                epoch: stored.ep.unwrap_or(NONE),
            });
        }
        self.outcome_of(id);
        self.tick(stored.t, id, TickKind::Ok);
    }

    fn refused(&mut self, outcome: &Outcome<'_>) -> u32 {
        let id = self.message(outcome.w.as_str(), outcome.p.as_str(), outcome.n);
        self.outcome_of(id);
        self.tick(outcome.t, id, TickKind::Refused);
        id
    }

    /// Complains where an outcome comes without a send: invocations are logged first.
    fn outcome_of(&mut self, id: u32) {
        if !self.messages[id as usize].is_real() {
            let text = self.describe(id);
            self.complain(|| format!("an outcome without a send: {text}"));
        }
    }

    fn subscribed(&mut self, subscribed: &Subscribed<'_>) {
        let id = self.sub(subscribed.sub.as_str(), subscribed.p.as_str());
        let sub = &mut self.subs[id as usize];
        if sub.is_declared {
            return; // Found, not made: what it is was said the first time.
        }
        sub.is_declared = true;
        sub.kind = subscribed.ty;
        sub.start = subscribed.from;
        sub.made_at = subscribed.t;
    }

    fn opened(&mut self, sub: Word, consumer: Word, t: u64) -> u32 {
        let id = small(self.sessions.len());
        self.sessions.push(Session {
            consumer,
            opened_at: t,
            ended: None,
        });
        if let Some(before) = self.session_of.insert((sub, consumer), id) {
            self.end_session(before);
        }
        id
    }

    fn closed(&mut self, sub: &str, consumer: &str) {
        let key = (self.names.intern(sub), self.names.intern(consumer));
        match self.session_of.get(&key) {
            Some(&session) => self.end_session(session),
            None => self.complain(|| format!("a close without an open subscription={sub}")),
        }
    }

    fn end_session(&mut self, session: u32) {
        let now = self.stats.events;
        self.sessions[session as usize].ended.get_or_insert(now);
    }

    fn received(&mut self, received: &Received<'_>) {
        let sub = self.sub(received.sub.as_str(), received.p.as_str());
        let session = self.session(received.sub.as_str(), received.c.as_str());
        let batch = self.batches;
        self.batches = self.batches.wrapping_add(1);
        for delivered in &received.ms {
            self.stats.deliveries += 1;
            self.stats.redeliveries += u64::from(delivered.redelivered);
            if delivered.w.as_str().is_empty() {
                self.unreadable.push((sub, delivered.o));
                continue;
            }
            let partition = delivered.astray.as_ref().unwrap_or(&received.p);
            let message = self.message(delivered.w.as_str(), partition.as_str(), delivered.n);
            if *partition != received.p {
                self.astray.push(Astray {
                    sub,
                    message,
                    offset: delivered.o,
                });
                continue;
            }
            let sent = self.messages[message as usize].hash;
            if let (Some(sent), Some(got)) = (sent, delivered.hash)
                && sent != got
            {
                self.corrupt.push(self.recvs.len());
            }
            self.recvs.push(Recv {
                t: received.t,
                offset: delivered.o,
                message,
                session,
                sub,
                batch,
                redelivered: delivered.redelivered,
            });
        }
    }

    fn acked(&mut self, acked: &Acked<'_>, rows: fn(&mut Self) -> &mut Vec<AckRow>) -> u32 {
        let sub = self.sub(acked.sub.as_str(), acked.p.as_str());
        for (writer, n) in &acked.ms {
            let message = self.message(writer.as_str(), acked.p.as_str(), *n);
            rows(self).push(AckRow {
                sub,
                message,
                t: acked.t,
            });
        }
        sub
    }

    fn seek(&mut self, seek: &Seek<'_>) {
        let sub = self.sub(seek.sub.as_str(), seek.p.as_str());
        self.subs[sub as usize].seeks.push(Moved {
            begun: seek.t0,
            done: seek.t,
            to: seek.o,
        });
    }

    fn tick(&mut self, t: u64, message: u32, kind: TickKind) {
        let partition = self.partition_of(message);
        self.ticks.push(Tick { t, partition, kind });
    }

    fn partition(&mut self, name: &str) -> u32 {
        let word = self.names.intern(name);
        let next = small(self.partitions.len());
        let id = *self.partition_of.entry(word).or_insert(next);
        if id == next {
            self.partitions.push(word);
            self.trims.push(0);
            self.deletions.push(NONE);
        }
        id
    }

    fn message(&mut self, writer: &str, partition: &str, n: u64) -> u32 {
        let writer = self.names.intern(writer);
        let partition = self.partition(partition);
        let next_stream = small(self.streams.len());
        let id = *self
            .stream_of
            .entry((writer, partition))
            .or_insert(next_stream);
        if id == next_stream {
            self.streams.push(Stream {
                writer,
                partition,
                dense: Vec::new(),
                far: BTreeMap::new(),
            });
        }
        let stream = &mut self.streams[id as usize];
        stream.message(n, |n| {
            let message = small(self.messages.len());
            self.messages.push(Message::new(id, n));
            message
        })
    }

    fn sub(&mut self, name: &str, partition: &str) -> u32 {
        let name = self.names.intern(name);
        let partition = self.partition(partition);
        let next = small(self.subs.len());
        let id = *self.sub_of.entry((name, partition)).or_insert(next);
        if id == next {
            self.subs.push(Sub {
                name,
                partition,
                kind: SubscriptionType::Shared,
                start: Start::Latest,
                made_at: NONE,
                is_declared: false,
                is_deleted: false,
                drained: None,
                seeks: Vec::new(),
                cumulative: Vec::new(),
                cumulative_confirmed: Vec::new(),
            });
        }
        id
    }

    fn session(&mut self, sub: &str, consumer: &str) -> u32 {
        let key = (self.names.intern(sub), self.names.intern(consumer));
        if let Some(&session) = self.session_of.get(&key) {
            return session;
        }
        self.complain(|| format!("a delivery without an open subscription={sub}"));
        self.opened(key.0, key.1, 0)
    }
}

impl Stream {
    /// The message with number `n`, made by `make` when it is new.
    fn message(&mut self, n: u64, mut make: impl FnMut(u64) -> u32) -> u32 {
        let known = self.dense.len() as u64;
        if let Some(&message) = usize::try_from(n).ok().and_then(|n| self.dense.get(n)) {
            return message;
        }
        if n - known >= NEAR {
            return *self.far.entry(n).or_insert_with(|| make(n));
        }
        for number in known..=n {
            // Those between that are never sent stay unreal: they take no part in anything.
            let message = self.far.remove(&number).unwrap_or_else(|| make(number));
            self.dense.push(message);
        }
        self.dense[usize::try_from(n).expect("an index of a table in memory")]
    }
}
