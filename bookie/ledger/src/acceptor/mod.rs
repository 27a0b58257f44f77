//! The rules a bookie answers by: what may be written, what is fenced, and when "I never had it" may be said.
//!
//! Pure decisions over a few facts per log. The bookie's engine owns the entries, the journal and the index; it asks
//! here before it does anything, in the order of the requests of a log, and tells what became durable. A crash is a
//! new [`Acceptor`] made from what was durable: [`Acceptor::restore`] from the last checkpoint, then
//! [`Acceptor::replay_add`] and [`Acceptor::replay_fence`] for each record of the journal.
//!
//! What is *in effect* and what is *durable* differ only for fences: a fence shuts out lower epochs at once, and is
//! answered only when it is durable. Every other fact is true from the moment it is seen, so persisting it early or
//! losing it with an unsynced add does no harm.

use std::collections::{BTreeMap, BTreeSet};

use types::storage::{Add, AddKind, AddResult, LacResult, SealedReason, SetLac};
use types::{Crc32c, EntryId, Epoch, LedgerId, LedgerSeq, LogId, Offset, Revision};

#[cfg(test)]
mod tests;

/// What makes two copies of an entry the same. Neither epoch nor LAC is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// The entry's checksum, over its place and its bytes.
    pub crc: Crc32c,
    /// Bytes of the payload.
    pub len: u64,
    /// The first offset after the entry.
    pub next_offset: Offset,
}

impl Fingerprint {
    /// The fingerprint of the entry that an add brings.
    pub fn of(add: &Add) -> Self {
        Self {
            crc: add.entry.crc,
            len: u64::try_from(add.entry.payload.len()).unwrap_or(u64::MAX),
            next_offset: add.entry.next_offset,
        }
    }
}

/// What the engine holds at the place an add names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Held {
    /// Nothing.
    Absent,
    /// A copy that reads can see and the journal has not synced yet.
    Visible(Fingerprint),
    /// A copy that would survive a power loss.
    Durable(Fingerprint),
    /// Something that cannot be read or verified. It is written again.
    Unreadable,
}

/// What to do with an add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddDecision {
    /// Answer this at once.
    Answer(AddResult),
    /// Make the entry visible to reads, journal it, and answer [`AddResult::Stored`] when the journal has synced it.
    Append,
    /// The same entry is visible and not durable yet: answer [`AddResult::Stored`] when that first copy is durable.
    Wait,
}

/// What to do with a request that fences. Whatever it is, the look-up comes after this call and before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FenceDecision {
    /// Answer `Fenced` at once: a higher epoch holds the log.
    Refuse {
        /// That epoch.
        by: Epoch,
    },
    /// The fence is in effect. Journal it, call [`Acceptor::fence_durable`] when it is synced, then answer.
    Journal,
    /// The same fence is on its way to the journal: answer when it is durable.
    Wait,
    /// The fence is durable already: answer.
    Durable,
}

/// What a read says of an entry that was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Missing {
    /// It was never here, and this bookie knows.
    NeverHad,
    /// This bookie cannot say.
    Unknown,
}

/// What a bookie remembers of a log, as a checkpoint keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LogFacts {
    /// The highest epoch that fenced the log.
    pub fence: Option<Epoch>,
    /// The highest ledger of the log that a writer or a recovery added to.
    pub highest: Option<LedgerSeq>,
    /// The first ledger that is not trimmed.
    pub first_live: LedgerSeq,
    /// The highest LAC seen, and the ledger it is of: the newest one, the only one that may be open.
    pub lac: Option<(LedgerSeq, EntryId)>,
}

/// A log's facts, and how much of its fence is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Log {
    facts: LogFacts,
    durable_fence: Option<Epoch>,
}

/// A bookie's rules and the facts they stand on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Acceptor {
    born: Revision,
    logs: BTreeMap<LogId, Log>,
    deleted: BTreeSet<LogId>,
}

impl Acceptor {
    /// A bookie that remembers nothing, born at a revision of meta.
    pub const fn new(born: Revision) -> Self {
        Self {
            born,
            logs: BTreeMap::new(),
            deleted: BTreeSet::new(),
        }
    }

    /// A bookie as its last checkpoint has it. Everything given is durable.
    pub fn restore(
        born: Revision,
        logs: impl IntoIterator<Item = (LogId, LogFacts)>,
        deleted: impl IntoIterator<Item = LogId>,
    ) -> Self {
        let logs = logs.into_iter().map(|(log, facts)| {
            let durable_fence = facts.fence;
            (
                log,
                Log {
                    facts,
                    durable_fence,
                },
            )
        });
        Self {
            born,
            logs: logs.collect(),
            deleted: deleted.into_iter().collect(),
        }
    }

    /// The revision since which this bookie vouches for what it does not have.
    pub const fn born(&self) -> Revision {
        self.born
    }

    /// The facts of every log in order, for a checkpoint. Fences that are in effect and not durable yet are among
    /// them: fencing early does no harm.
    pub fn facts(&self) -> impl Iterator<Item = (LogId, LogFacts)> {
        self.logs.iter().map(|(log, held)| (*log, held.facts))
    }

    /// The deleted logs in order, for a checkpoint.
    pub fn deleted(&self) -> impl Iterator<Item = LogId> {
        self.deleted.iter().copied()
    }

    /// The epoch that fences a log now, durable or not.
    pub fn fence_of(&self, log: LogId) -> Option<Epoch> {
        self.logs.get(&log)?.facts.fence
    }

    /// The epoch that fences a log and would survive a power loss.
    pub fn durable_fence_of(&self, log: LogId) -> Option<Epoch> {
        self.logs.get(&log)?.durable_fence
    }

    /// Whether a log was deleted here.
    pub fn is_deleted(&self, log: LogId) -> bool {
        self.deleted.contains(&log)
    }

    /// Whether a ledger was trimmed or deleted here.
    pub fn is_dropped(&self, ledger: LedgerId) -> bool {
        self.deleted.contains(&ledger.log())
            || self
                .logs
                .get(&ledger.log())
                .is_some_and(|log| ledger.seq() < log.facts.first_live)
    }

    /// Decides an add, given what is held at its place. The checksum of the entry was verified before.
    ///
    /// [`AddDecision::Append`] and [`AddDecision::Wait`] have taken effect on the facts when this returns.
    pub fn add(&mut self, add: &Add, held: Held) -> AddDecision {
        if let Some(refusal) = self.refusal(add) {
            return AddDecision::Answer(refusal);
        }
        let fingerprint = Fingerprint::of(add);
        let decision = match held {
            // An unreadable copy is replaced: its ledger has one writer, so the bytes can only be the same.
            Held::Absent | Held::Unreadable => AddDecision::Append,
            Held::Visible(copy) if copy == fingerprint => AddDecision::Wait,
            Held::Durable(copy) if copy == fingerprint => AddDecision::Answer(AddResult::Stored),
            Held::Visible(_) | Held::Durable(_) => AddDecision::Answer(AddResult::Mismatch),
        };
        if decision != AddDecision::Answer(AddResult::Mismatch) {
            self.note_add(add.ledger, add.kind, add.lac);
        }
        decision
    }

    /// The checks in their order. Repair writes skip all but one (R9).
    fn refusal(&self, add: &Add) -> Option<AddResult> {
        let facts = self.logs.get(&add.ledger.log()).map(|log| log.facts);
        let facts = facts.unwrap_or_default();
        let is_repair = add.kind == AddKind::Repair;
        if let Some(by) = facts.fence.filter(|fence| add.epoch < *fence && !is_repair) {
            return Some(AddResult::Fenced { by });
        }
        if self.is_dropped(add.ledger) {
            return Some(AddResult::Sealed(SealedReason::Dropped));
        }
        if is_repair {
            return None;
        }
        if facts.highest.is_some_and(|seen| seen > add.ledger.seq()) {
            return Some(AddResult::Sealed(SealedReason::SuccessorSeen));
        }
        // Another life of this bookie may have held entries of this ledger and lost them: its word would count twice.
        if add.kind == AddKind::Write && add.created < self.born {
            return Some(AddResult::Sealed(SealedReason::OlderThanBirth));
        }
        None
    }

    /// Keeps what an accepted add says of its log. A repair changes nothing about what others may write.
    fn note_add(&mut self, ledger: LedgerId, kind: AddKind, lac: Option<EntryId>) {
        if kind == AddKind::Repair {
            return;
        }
        let facts = &mut self.logs.entry(ledger.log()).or_default().facts;
        facts.highest = facts.highest.max(Some(ledger.seq()));
        if let Some(lac) = lac {
            raise_lac(facts, ledger.seq(), lac);
        }
    }

    /// Lets a fence take effect. A log never seen before is fenced like any other (I9).
    pub fn fence(&mut self, log: LogId, epoch: Epoch) -> FenceDecision {
        if self.deleted.contains(&log) {
            // Nothing is ever written to a deleted log: that is more than any fence.
            return FenceDecision::Durable;
        }
        let held = self.logs.entry(log).or_default();
        match held.facts.fence {
            Some(by) if epoch < by => FenceDecision::Refuse { by },
            Some(by) if epoch == by && held.durable_fence == Some(by) => FenceDecision::Durable,
            // A second request of the same epoch must not be answered before the fence is durable either (I8).
            Some(by) if epoch == by => FenceDecision::Wait,
            Some(_) | None => {
                held.facts.fence = Some(epoch);
                FenceDecision::Journal
            }
        }
    }

    /// Notes that the fence of `epoch` would survive a power loss.
    ///
    /// # Panics
    ///
    /// When that fence never took effect.
    pub fn fence_durable(&mut self, log: LogId, epoch: Epoch) {
        if self.deleted.contains(&log) {
            return;
        }
        let held = self.logs.entry(log).or_default();
        assert!(
            held.facts.fence >= Some(epoch),
            "a durable fence was in effect before"
        );
        held.durable_fence = held.durable_fence.max(Some(epoch));
    }

    /// What to say of an entry that was looked for and not found. `index_intact` is false when anything that could
    /// have held it is damaged or unreadable.
    pub fn absent(&self, ledger: LedgerId, created: Revision, index_intact: bool) -> Missing {
        // A revision is one transaction, so a birth and a ledger never share one.
        if index_intact && created >= self.born && !self.is_dropped(ledger) {
            Missing::NeverHad
        } else {
            Missing::Unknown
        }
    }

    /// The highest LAC seen for a ledger; a lower bound of what is confirmed.
    pub fn lac(&self, ledger: LedgerId) -> Option<EntryId> {
        let (seq, lac) = self.logs.get(&ledger.log())?.facts.lac?;
        (seq == ledger.seq()).then_some(lac)
    }

    /// The answer to a question for a ledger's LAC, its fence having been dealt with.
    pub fn lac_answer(&self, ledger: LedgerId) -> LacResult {
        LacResult::Lac(self.lac(ledger))
    }

    /// Takes the LAC that an idle writer sent on its own; an old epoch's is dropped.
    pub fn set_lac(&mut self, set: &SetLac) {
        if self.is_dropped(set.ledger) || self.fence_of(set.ledger.log()) > Some(set.epoch) {
            return;
        }
        let facts = &mut self.logs.entry(set.ledger.log()).or_default().facts;
        raise_lac(facts, set.ledger.seq(), set.lac);
    }

    /// Takes meta's word that the ledgers of a log before `first_live` are trimmed; whether that is news. Durable when
    /// the caller's checkpoint says so; refusing early does no harm, and no entry may go before.
    pub fn trim(&mut self, log: LogId, first_live: LedgerSeq) -> bool {
        if self.deleted.contains(&log) {
            return false;
        }
        let facts = &mut self.logs.entry(log).or_default().facts;
        let is_news = facts.first_live < first_live;
        facts.first_live = facts.first_live.max(first_live);
        is_news
    }

    /// Takes meta's word that a log is deleted; whether that is news. What is remembered of it shrinks to its number.
    pub fn delete(&mut self, log: LogId) -> bool {
        self.logs.remove(&log);
        self.deleted.insert(log)
    }

    /// Replays the record of an add.
    pub fn replay_add(&mut self, ledger: LedgerId, kind: AddKind, lac: Option<EntryId>) {
        if !self.is_dropped(ledger) {
            self.note_add(ledger, kind, lac);
        }
    }

    /// Replays the record of a fence: in effect and durable.
    pub fn replay_fence(&mut self, log: LogId, epoch: Epoch) {
        if self.deleted.contains(&log) {
            return;
        }
        let held = self.logs.entry(log).or_default();
        held.facts.fence = held.facts.fence.max(Some(epoch));
        held.durable_fence = held.durable_fence.max(Some(epoch));
    }
}

/// Raises the LAC of the newest ledger; an older ledger is closed, and meta knows its end.
fn raise_lac(facts: &mut LogFacts, seq: LedgerSeq, lac: EntryId) {
    facts.lac = facts.lac.max(Some((seq, lac)));
}
