//! Sees everything, and checks the invariants of the ledger protocol by number.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use catalog::{Key, LedgerBody, MemStore, Record};
use types::chain::{LedgerState, LogKind, ShardRecord};
use types::storage::Entry;
use types::{Crc32c, EntryId, LedgerId, ShardId};

use super::bookie::Bookie;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its number: `I1` …
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// What a world must show at least once for its search to prove anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Goal {
    /// An entry was acked.
    Acked,
    /// An entry was acked by the second owner or a later one.
    AckedBySuccessor,
    /// A recovery ended and its close was committed.
    Opened,
    /// A recovery wrote an entry back.
    WrittenBack,
    /// A ledger was sealed and extended.
    Extended,
    /// An entry was written again in a successor.
    Rewritten,
    /// An owner ended at a `Fenced` answer.
    OverByFence,
    /// An owner ended at the record of another epoch.
    OverByRecord,
    /// A command was repeated after an unknown outcome.
    CommandRepeated,
    /// A command met a record that had moved.
    CommandConflicted,
    /// A bookie refused an add because it was born after the ledger.
    RefusedByBirth,
    /// A bookie could not say whether it ever had an entry.
    SaidUnknown,
    /// A bookie crashed and lost what was not durable.
    LostUnsynced,
    /// An add came again before its first copy was durable.
    WaitedForFirstCopy,
    /// The LAC was sent on its own.
    LacAlone,
    /// A shard was given up.
    Released,
}

/// An entry's bytes and place in short.
type Print = (Crc32c, u8);

/// What has happened, as far as a check needs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Observer {
    /// What was acked, and by which owner.
    acks: BTreeMap<(LedgerId, EntryId), u8>,
    /// What ever was shown under a number: one payload for ever (I13).
    payloads: BTreeMap<(LedgerId, EntryId), Print>,
}

/// What the checks look at.
pub(super) struct Scene<'a> {
    pub(super) bookies: &'a [super::Shared<Bookie>],
    pub(super) meta: &'a MemStore,
    pub(super) shard: ShardId,
    /// How many bookies lost what they had.
    pub(super) losses: usize,
}

impl Scene<'_> {
    /// The shard's record.
    fn record(&self) -> &ShardRecord {
        match self.meta.image().get(&Key::Shard(self.shard)) {
            Some(catalog::Versioned {
                record: Record::Shard(record),
                ..
            }) => record,
            other => unreachable!("the world has its shard: {other:?}"),
        }
    }

    fn ledger(&self, id: LedgerId) -> Option<&LedgerBody> {
        match &self.meta.image().get(&Key::Ledger(id))?.record {
            Record::Ledger(body) => Some(body),
            other => unreachable!("a ledger's key holds a ledger: {other:?}"),
        }
    }
}

fn broken(rule: &'static str, what: String) -> Result<(), Violation> {
    Err(Violation { rule, what })
}

/// The number a payload carries: which append it is.
fn token_of(entry: &Entry) -> u8 {
    entry.payload.to_bytes().first().copied().unwrap_or(0)
}

impl Observer {
    /// A bookie shows an entry to reads (I13).
    pub(super) fn shown(&mut self, ledger: LedgerId, entry: &Entry) -> Result<(), Violation> {
        let print = (entry.crc, token_of(entry));
        let first = *self.payloads.entry((ledger, entry.id)).or_insert(print);
        if first != print {
            let what = format!("{ledger} {} has two payloads", entry.id);
            return broken("I13", what);
        }
        Ok(())
    }

    /// An owner acked an entry (I1, I2, I6, I15, I16).
    pub(super) fn acked(
        &mut self,
        scene: &Scene<'_>,
        owner: u8,
        ledger: LedgerId,
        entry: EntryId,
    ) -> Result<(), Violation> {
        let Some(record) = scene.ledger(ledger) else {
            return broken(
                "I15",
                format!("{ledger} {entry} acked in a ledger meta does not know"),
            );
        };
        if let LedgerState::Closed { last, .. } = record.state
            && last < Some(entry)
        {
            let what =
                format!("{ledger} {entry} acked by owner {owner} above its closed end {last:?}");
            return broken("I6", what);
        }
        for below in (0..=entry.get()).map(EntryId::new) {
            let holders = scene.bookies.iter().filter(|bookie| {
                record.ensemble.contains(&bookie.id()) && bookie.ever_durable(ledger, below)
            });
            if holders.count() < record.quorum.ack() {
                return broken("I2", format!("{ledger} {entry} acked, {below} not on Qa"));
            }
        }
        self.acks.insert((ledger, entry), owner);
        self.check_acks(scene)
    }

    /// The record changed, or a copy was lost: closed ledgers hold what was acked, in order, once.
    pub(super) fn check_acks(&self, scene: &Scene<'_>) -> Result<(), Violation> {
        for (ledger, entry) in self.acks.keys() {
            let Some(record) = scene.ledger(*ledger) else {
                return broken("I18", format!("{ledger} is gone"));
            };
            if let LedgerState::Closed { last, .. } = record.state
                && last < Some(*entry)
            {
                let what = format!("{ledger} {entry} was acked and is above the end {last:?}");
                return broken("I1", what);
            }
            let mut copies = scene.bookies.iter().filter(|bookie| {
                record.ensemble.contains(&bookie.id()) && bookie.is_durable(*ledger, *entry)
            });
            let is_promised = scene.losses < record.quorum.ack();
            if is_promised && copies.next().is_none() {
                return broken(
                    "I1",
                    format!("{ledger} {entry} was acked and no copy is left"),
                );
            }
        }
        Ok(())
    }

    /// The record changed (I3, I4, I5, I14, I17, I18).
    pub(super) fn meta_changed(
        &self,
        before: &MemStore,
        scene: &Scene<'_>,
    ) -> Result<(), Violation> {
        let steps = catalog::check_step(before.image(), scene.meta.image());
        let whole = catalog::check(scene.meta.image());
        if let Some(found) = steps.into_iter().chain(whole).next() {
            return broken(found.rule, found.what);
        }
        self.check_acks(scene)?;

        for kind in LogKind::BOTH {
            self.check_order(scene, kind)?;
        }
        for bookie in scene.bookies {
            Self::check_lacs(scene, bookie)?;
        }
        Ok(())
    }

    /// What the closed ledgers of a log hold: each append once, those of one owner in their order (I17).
    fn check_order(&self, scene: &Scene<'_>, kind: LogKind) -> Result<(), Violation> {
        let record = scene.record();
        let chain = record.chain(kind);
        let mut seen = BTreeSet::new();
        let mut newest = BTreeMap::new();
        for link in &chain.links {
            let id = LedgerId::new(chain.log, link.seq);
            let Some(end) = link.end.and_then(|end| end.last) else {
                continue;
            };
            for entry in (0..=end.get()).map(EntryId::new) {
                let Some((_, token)) = self.payloads.get(&(id, entry)) else {
                    return broken(
                        "I1",
                        format!("{id} ends at {end} and {entry} was never written"),
                    );
                };
                let before = newest.insert(token / 16, *token);
                if !seen.insert(*token) || before > Some(*token) {
                    return broken("I17", format!("append {token} is twice or late in {id}"));
                }
                let is_held = scene.bookies.iter().any(|b| b.is_durable(id, entry));
                if !is_held && scene.losses < record.quorum.ack() {
                    return broken(
                        "I1",
                        format!("{id} {entry} is below the end and on no bookie"),
                    );
                }
            }
        }
        Ok(())
    }

    /// The LAC a bookie shows is at or below the end (I5, I7).
    pub(super) fn check_lacs(scene: &Scene<'_>, bookie: &Bookie) -> Result<(), Violation> {
        for (ledger, lac) in bookie.lacs() {
            let state = scene.ledger(ledger).map(|body| body.state);
            if let Some(LedgerState::Closed { last, .. }) = state
                && Some(lac) > last
            {
                let id = bookie.id();
                return broken(
                    "I7",
                    format!("{id} shows LAC {lac} of {ledger} that ends at {last:?}"),
                );
            }
        }
        Ok(())
    }
}
