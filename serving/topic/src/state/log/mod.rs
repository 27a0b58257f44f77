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
    flight: Option<Flight>,
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
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Flight {
    tokens: VecDeque<Token>,
    waiters: Vec<Waiter>,
    is_snapshot: bool,
    /// Where its first entry is.
    ledger: Option<LedgerId>,
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
    pub(crate) fn new(next_offset: Offset) -> Self {
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

    /// Forgets what is not written of a subscription that is no more: an ack of a cursor that no snapshot holds could
    /// not be read back.
    pub(crate) fn drop_cursor(&mut self, subscription: SubscriptionId) {
        let is_kept = |key: &CursorKey| key.subscription != subscription;
        self.pending.cursors.retain(|key, _| is_kept(key));
        self.pending.acks.retain(|key, _| is_kept(key));
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
        self.ledger = self.ledger.max(Some(ledger));
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
        let entries = if is_snapshot {
            // It holds everything that is pending.
            let entries = encode_snapshot(config, self.next_offset.get(), source());
            self.snapshot_bytes = entries.iter().map(|entry| byte_len(entry)).sum();
            entries
        } else {
            encode_delta(config, &pending)
        };
        self.is_urgent = false;
        self.flush_at = None;
        let mut tokens = VecDeque::with_capacity(entries.len());
        for entry in entries {
            tokens.push_back(self.append(entry, effects));
        }
        self.flight = Some(Flight {
            tokens,
            waiters: pending.waiters,
            is_snapshot,
            ledger: None,
        });
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
        let flight = self.flight.as_mut();
        let flight = flight.expect("a log confirms only what was appended");
        let first = flight.tokens.pop_front();
        assert_eq!(first, Some(token), "a log confirms in order");
        self.ledger = self.ledger.max(Some(position.ledger));
        let began_in = *flight.ledger.get_or_insert(position.ledger);
        if !flight.tokens.is_empty() {
            return Vec::new();
        }
        let flight = self.flight.take().expect("it was there above");
        // One that a roll cut in two is not whole in the newest ledger: the next write is a snapshot again.
        if flight.is_snapshot {
            self.snapshot_ledger = Some(began_in);
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
    entries.add(|open| format::put_table(open, table.last_epoch, table.covered));
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
