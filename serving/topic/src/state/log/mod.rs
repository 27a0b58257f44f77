//! The writer of the state log.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use types::chain::LogKind;
use types::{LedgerId, MonoTime, Offset, Payload, SubscriptionId};

use super::format::{self, CursorKey, Kind, Part, RECORD_RANGES_MAX};
use crate::Token;
use crate::producers::{ProducerOpened, ProducerTable};
use crate::{AckResult, AckSet, Append, Config, Effect, OffsetRange, Position, RangeSet, StreamId};

/// Who waits for a write to be durable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Waiter {
    /// A named producer's stream.
    Producer(StreamId),
    /// A subscription's first cursor.
    Cursor(SubscriptionId),
    /// A confirmed ack.
    Ack { stream: StreamId, result: AckResult },
    /// Who asked below which offset nobody needs anything.
    Floor(Offset),
}

/// What a snapshot is made of.
pub(crate) struct SnapshotSource<'a, C> {
    /// Every cursor, ascending.
    pub(crate) cursors: C,
    /// What is confirmed of producers.
    pub(crate) table: &'a ProducerTable,
}

/// The writer. One write is in flight at a time (several entries when it is large); all that comes meanwhile gathers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct StateLog {
    next_token: u64,
    next_offset: Offset,
    /// Boxed, as most topics write none most of the time.
    flight: Option<Box<Flight>>,
    pending: Pending,
    /// Somebody waits for what is pending.
    is_urgent: bool,
    /// When to write what nobody waits for.
    flush_at: Option<MonoTime>,
    /// The newest ledger known.
    ledger: Option<LedgerId>,
    /// The ledger in which the newest snapshot of this owner begins.
    snapshot_ledger: Option<LedgerId>,
    /// Bytes of the last snapshot.
    snapshot_bytes: u64,
    /// Up to which entry of the message log the newest durable snapshot knows all producers, inclusive.
    covered: Option<Position>,
    /// The ledger that holds the newest durable snapshot from its first entry to its last.
    whole_in: Option<LedgerId>,
    /// The newest such ledger that has a successor, so that its end is final: what is older is needed by nobody, not even
    /// when an operator gives up the end of the log.
    closed_whole: Option<LedgerId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Flight {
    tokens: VecDeque<Token>,
    waiters: Vec<Waiter>,
    snapshot: Option<Snapshot>,
    /// Where its first entry is.
    ledger: Option<LedgerId>,
}

/// A snapshot on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Snapshot {
    covered: Option<Position>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Pending {
    cursors: BTreeMap<CursorKey, Offset>,
    acks: BTreeMap<CursorKey, RangeSet>,
    opened: Vec<ProducerOpened>,
    waiters: Vec<Waiter>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.cursors.is_empty()
            && self.acks.is_empty()
            && self.opened.is_empty()
            && self.waiters.is_empty()
    }
}

impl StateLog {
    /// A writer behind what is there: its newest snapshot covers the message log up to `covered`.
    pub(crate) fn new(next_offset: Offset, covered: Option<Position>) -> Self {
        Self {
            next_token: 0,
            next_offset,
            flight: None,
            pending: Pending::default(),
            is_urgent: false,
            flush_at: None,
            ledger: None,
            snapshot_ledger: None,
            snapshot_bytes: 0,
            covered,
            whole_in: None,
            closed_whole: None,
        }
    }

    /// Up to which entry of the message log no header is needed by a later owner, inclusive.
    pub(crate) const fn covered(&self) -> Option<Position> {
        self.covered
    }

    /// The first ledger that a later owner needs; none while that is not known.
    pub(crate) const fn needed_from(&self) -> Option<LedgerId> {
        self.closed_whole
    }

    /// A newer ledger is known: those before it are closed.
    fn goes_on_in(&mut self, ledger: LedgerId) {
        self.ledger = self.ledger.max(Some(ledger));
        if self.whole_in < self.ledger {
            self.closed_whole = self.closed_whole.max(self.whole_in);
        }
    }

    pub(crate) const fn snapshot_bytes(&self) -> u64 {
        self.snapshot_bytes
    }

    /// When what nobody waits for is to be written.
    pub(crate) const fn deadline(&self) -> Option<MonoTime> {
        if self.flight.is_some() {
            return None; // The answer comes first.
        }
        self.flush_at
    }

    /// Notes a cursor to be made.
    pub(crate) fn add_cursor(&mut self, key: CursorKey, mark: Offset) {
        self.pending.cursors.insert(key, mark);
        self.pending.waiters.push(Waiter::Cursor(key.subscription));
        self.is_urgent = true;
    }

    /// Notes a producer's stream.
    pub(crate) fn add_opened(&mut self, stream: StreamId, opened: ProducerOpened) {
        self.pending.opened.push(opened);
        self.pending.waiters.push(Waiter::Producer(stream));
        self.is_urgent = true;
    }

    /// Notes acked offsets, to be written by `flush_at` at the latest.
    pub(crate) fn add_acked(&mut self, key: CursorKey, range: OffsetRange, flush_at: MonoTime) {
        self.pending.acks.entry(key).or_default().insert(range);
        self.flush_at.get_or_insert(flush_at);
    }

    /// Notes somebody who waits for all that was noted before. Gives the answer back when it is durable already.
    pub(crate) fn wait(&mut self, waiter: Waiter) -> Option<Waiter> {
        if !self.pending.is_empty() {
            self.is_urgent = true;
            self.pending.waiters.push(waiter);
            return None;
        }
        match &mut self.flight {
            Some(flight) => flight.waiters.push(waiter),
            None => return Some(waiter),
        }
        None
    }

    /// A ledger was opened.
    pub(crate) fn ledger_started(&mut self, ledger: LedgerId) {
        self.goes_on_in(ledger);
    }

    /// Writes what is pending, if it is time and nothing is in flight. Tells whether it wrote a snapshot.
    pub(crate) fn write<'a, C>(
        &mut self,
        config: &Config,
        now: MonoTime,
        wants_snapshot: bool,
        source: impl FnOnce() -> SnapshotSource<'a, C>,
        effects: &mut Vec<Effect>,
    ) -> bool
    where
        C: Iterator<Item = (CursorKey, &'a AckSet)>,
    {
        let is_due = self.is_urgent || self.flush_at.is_some_and(|at| at <= now);
        if self.flight.is_some() || !(is_due || wants_snapshot) {
            return false;
        }
        let is_fresh = self.snapshot_ledger.is_some() && self.snapshot_ledger == self.ledger;
        let is_snapshot = wants_snapshot || !is_fresh;
        let pending = std::mem::take(&mut self.pending);
        let (entries, snapshot) = if is_snapshot {
            // It holds everything that is pending.
            let source = source();
            let covered = source.table.covered;
            let entries = encode_snapshot(config, self.next_offset.get(), source);
            self.snapshot_bytes = entries.iter().map(|entry| byte_len(entry)).sum();
            (entries, Some(Snapshot { covered }))
        } else {
            (encode_delta(config, &pending), None)
        };
        self.is_urgent = false;
        self.flush_at = None;
        let mut tokens = VecDeque::with_capacity(entries.len());
        for entry in entries {
            tokens.push_back(self.append(entry, effects));
        }
        self.flight = Some(Box::new(Flight {
            tokens,
            waiters: pending.waiters,
            snapshot,
            ledger: None,
        }));
        is_snapshot
    }

    fn append(&mut self, entry: Bytes, effects: &mut Vec<Effect>) -> Token {
        let token = Token::new(self.next_token);
        self.next_token += 1;
        self.next_offset = self.next_offset.next();
        effects.push(Effect::Append(Append {
            log: LogKind::State,
            token,
            payload: Payload::whole(entry),
            next_offset: self.next_offset,
        }));
        token
    }

    /// An entry is durable. Returns those who waited, once the whole write is.
    ///
    /// # Panics
    ///
    /// When it is not the oldest in flight: a log confirms in order.
    pub(crate) fn appended(&mut self, token: Token, position: Position) -> Vec<Waiter> {
        self.goes_on_in(position.ledger);
        let flight = self.flight.as_mut();
        let flight = flight.expect("a log confirms only what was appended");
        let first = flight.tokens.pop_front();
        assert_eq!(first, Some(token), "a log confirms in order");
        let began_in = *flight.ledger.get_or_insert(position.ledger);
        if !flight.tokens.is_empty() {
            return Vec::new();
        }
        let flight = self.flight.take().expect("it was there above");
        // One that a roll cut in two is not whole in the newest ledger: the next write is a snapshot again.
        if let Some(snapshot) = flight.snapshot {
            self.snapshot_ledger = Some(began_in);
            self.covered = snapshot.covered;
            if began_in == position.ledger {
                self.whole_in = Some(began_in);
            }
        }
        flight.waiters
    }
}

fn byte_len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("lengths fit 64 bits")
}

/// Cuts records into entries.
struct Entries {
    max: usize,
    kind: Kind,
    done: Vec<Bytes>,
    open: BytesMut,
}

impl Entries {
    fn new(config: &Config, kind: Kind) -> Self {
        let mut open = BytesMut::new();
        format::put_kind(&mut open, kind);
        Self {
            max: config.state_entry_bytes.as_usize(),
            kind,
            done: Vec::new(),
            open,
        }
    }

    /// Adds a record, and begins a new entry when this one is full.
    fn add(&mut self, put: impl FnOnce(&mut BytesMut)) {
        if self.open.len() >= self.max {
            if let Kind::Snapshot(part) = &mut self.kind {
                part.index += 1;
            }
            let mut next = BytesMut::new();
            format::put_kind(&mut next, self.kind);
            let full = std::mem::replace(&mut self.open, next);
            self.done.push(format::finish(full));
        }
        put(&mut self.open);
    }

    fn acked(&mut self, key: CursorKey, ranges: impl Iterator<Item = OffsetRange>) {
        let mut chunk = Vec::new();
        for range in ranges {
            chunk.push(range);
            if chunk.len() == RECORD_RANGES_MAX {
                self.add(|open| format::put_acked(open, key, &chunk));
                chunk.clear();
            }
        }
        if !chunk.is_empty() {
            self.add(|open| format::put_acked(open, key, &chunk));
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.done.push(format::finish(self.open));
        self.done
    }
}

fn encode_delta(config: &Config, pending: &Pending) -> Vec<Bytes> {
    let mut entries = Entries::new(config, Kind::Delta);
    for (key, mark) in &pending.cursors {
        entries.add(|open| format::put_cursor(open, *key, *mark, &[]));
    }
    for opened in &pending.opened {
        entries.add(|open| format::put_opened(open, opened));
    }
    for (key, acks) in &pending.acks {
        entries.acked(*key, acks.iter());
    }
    entries.finish()
}

fn encode_snapshot<'a, C>(config: &Config, id: u64, source: SnapshotSource<'a, C>) -> Vec<Bytes>
where
    C: Iterator<Item = (CursorKey, &'a AckSet)>,
{
    let part = Part {
        id,
        index: 0,
        is_last: false,
    };
    let mut entries = Entries::new(config, Kind::Snapshot(part));
    let table = source.table;
    entries.add(|open| format::put_table(open, table));
    for (name, named) in &table.names {
        entries.add(|open| format::put_producer(open, name, named));
    }
    for (key, cursor) in source.cursors {
        entries.add(|open| format::put_cursor(open, key, cursor.mark(), &[]));
        entries.acked(key, cursor.above().iter());
    }
    complete(entries)
}

/// Puts the mark of completeness on the last part.
fn complete(mut entries: Entries) -> Vec<Bytes> {
    let Kind::Snapshot(part) = entries.kind else {
        return entries.finish();
    };
    let mut head = BytesMut::new();
    format::put_kind(&mut head, Kind::Snapshot(part));
    let last = Part {
        is_last: true,
        ..part
    };
    let mut whole = BytesMut::with_capacity(entries.open.len());
    format::put_kind(&mut whole, Kind::Snapshot(last));
    whole.extend_from_slice(&entries.open[head.len()..]);
    entries.open = whole;
    entries.finish()
}

#[cfg(test)]
mod tests;
