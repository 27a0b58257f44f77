//! Sees everything from outside, and checks the invariants of the ledger protocol by number.

mod commits;

use std::collections::{BTreeMap, BTreeSet};

use bookie::{Answer, Ask, Stats};
use types::cluster::BookieRecord;
use types::storage::{AddKind, AddResult, Entry, LacResult, ReadResult, RunItem, SealedReason};
use types::{BookieId, Crc32c, EntryId, Epoch, LedgerId, LogId};

use super::marks::{Mark, Marks};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its number, or a word where it has none.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

/// What a check found.
pub(super) type Found = Vec<Violation>;

/// A place in a ledger.
type Spot = (LedgerId, EntryId);

/// What has happened, as far as a check needs it.
#[derive(Debug, Default)]
pub(super) struct Observer {
    ids: Vec<Option<BookieId>>,
    /// Bookies whose disks were harmed on purpose.
    damaged: Vec<bool>,
    /// Those whose last frame may have been harmed: it cannot be told from one that was torn, so what it held may be
    /// missed without a word. One such bookie is within the promise: all else is still checked.
    blind: Vec<bool>,
    /// Counts what arrives and what is answered.
    ordinal: u64,
    /// Who said that it stored an entry, a bit for each bookie.
    stored: BTreeMap<Spot, u32>,
    /// The one payload of each entry (I13).
    payloads: BTreeMap<Spot, Crc32c>,
    /// When an add first came to a bookie (I10).
    came: BTreeMap<(usize, Spot), u64>,
    /// The fences a bookie answered for, and when (I8, I9, I10).
    fences: BTreeMap<(usize, LogId), BTreeMap<Epoch, u64>>,
    /// The highest LAC of a ledger that anybody showed (I7).
    lacs: BTreeMap<LedgerId, EntryId>,
    /// How far an owner confirmed a ledger (I1, I2, I6).
    confirmed: BTreeMap<LedgerId, EntryId>,
    /// The ends of closed ledgers.
    ends: BTreeMap<LedgerId, Option<EntryId>>,
    /// Who said to a recovery that it never had an entry (I12).
    negatives: BTreeMap<(Spot, Epoch), u32>,
    /// The checkpoint mark of each process (I20).
    checkpoints: BTreeMap<(usize, u32), u64>,
    /// Copies that a bookie was told to forget, since they live elsewhere.
    given_up: BTreeSet<(usize, LedgerId)>,
    commits: u64,
}

fn found(rule: &'static str, what: String) -> Found {
    vec![Violation { rule, what }]
}

impl Observer {
    pub(super) fn new(bookies: usize) -> Self {
        Self {
            ids: vec![None; bookies],
            damaged: vec![false; bookies],
            blind: vec![false; bookies],
            ..Self::default()
        }
    }

    /// Somebody harms a bookie's disk.
    pub(super) fn damage(&mut self, bookie: usize) {
        self.damaged[bookie] = true;
    }

    pub(super) fn may_be_damaged(&self, bookie: usize) -> bool {
        self.damaged[bookie]
    }

    /// Somebody harms bytes that a bookie has just written.
    pub(super) fn blind(&mut self, bookie: usize) {
        self.damaged[bookie] = true;
        self.blind[bookie] = true;
    }

    /// Whether that was done to this bookie.
    pub(super) fn is_blind(&self, bookie: usize) -> bool {
        self.blind[bookie]
    }

    /// Whether the disk of another bookie was harmed too.
    pub(super) fn is_other_damaged(&self, bookie: usize) -> bool {
        let mut others = self.damaged.iter().enumerate();
        others.any(|(at, is_damaged)| at != bookie && *is_damaged)
    }

    /// A bookie hears that a copy lives elsewhere.
    pub(super) fn gave_up(&mut self, bookie: usize, ledger: LedgerId) {
        self.given_up.insert((bookie, ledger));
    }

    pub(super) fn bookie_opened(&mut self, bookie: usize, record: &BookieRecord) -> Found {
        let known = self.ids[bookie].replace(record.id);
        match known.is_none_or(|known| known == record.id) {
            true => Vec::new(),
            false => found("M", format!("bookie-{bookie} has two numbers")),
        }
    }

    /// I20: the checkpoint mark never passes what is durable and never goes back.
    pub(super) fn engine_stands(&mut self, bookie: usize, life: u32, stats: &Stats) -> Found {
        let before = self
            .checkpoints
            .insert((bookie, life), stats.mark)
            .unwrap_or(0);
        if stats.mark < before || stats.mark > stats.durable_frame + 1 {
            let what = format!(
                "bookie-{bookie}: mark {before} -> {} durable {}",
                stats.mark, stats.durable_frame
            );
            return found("I20", what);
        }
        Vec::new()
    }

    /// A request comes to a bookie.
    pub(super) fn asked(&mut self, bookie: usize, ask: &Ask) {
        self.ordinal += 1;
        // A repair goes by no fence.
        if let Ask::Add(add) = ask
            && add.kind != AddKind::Repair
        {
            let spot = (add.ledger, add.entry.id);
            self.came.entry((bookie, spot)).or_insert(self.ordinal);
        }
    }

    /// A bookie answers.
    pub(super) fn replied(
        &mut self,
        bookie: usize,
        ask: &Ask,
        answer: &Answer,
        marks: &mut Marks,
    ) -> Found {
        self.ordinal += 1;
        match (ask, answer) {
            (Ask::Add(add), Answer::Add(result)) => self.added(bookie, add, *result, marks),
            (Ask::Read(read), Answer::Read(result)) => self.read(bookie, read, result, marks),
            (Ask::ReadLac(read), Answer::ReadLac(LacResult::Lac(lac))) => {
                self.fenced(bookie, read.ledger.log(), read.fence);
                self.lac_shown(read.ledger, *lac)
            }
            (Ask::ReadLac(_), Answer::ReadLac(LacResult::Fenced { .. })) => {
                marks.hit(Mark::ReadFenced);
                Vec::new()
            }
            (Ask::ReadRun(run), Answer::ReadRun(items)) => self.run(bookie, run, items),
            (Ask::ReadLac(_), Answer::ReadLac(LacResult::Busy))
            | (Ask::Holdings(_), Answer::Holdings(_)) => Vec::new(),
            _ => found(
                "engine",
                format!("bookie-{bookie} answers {ask:?} with {answer:?}"),
            ),
        }
    }

    fn added(
        &mut self,
        bookie: usize,
        add: &types::storage::Add,
        result: AddResult,
        marks: &mut Marks,
    ) -> Found {
        let spot = (add.ledger, add.entry.id);
        match result {
            AddResult::Stored => {}
            AddResult::Fenced { .. } => marks.hit(Mark::AddFenced),
            AddResult::Sealed(SealedReason::SuccessorSeen) => marks.hit(Mark::AddSuccessorSeen),
            AddResult::Sealed(SealedReason::OlderThanBirth) => marks.hit(Mark::AddOlderThanBirth),
            AddResult::Sealed(SealedReason::Dropped) => {}
            AddResult::Busy => marks.hit(Mark::AddBusy),
            AddResult::ReadOnly => {}
            AddResult::Mismatch => {
                return found("I13", format!("bookie-{bookie} holds another {spot:?}"));
            }
        }
        if result != AddResult::Stored {
            return Vec::new();
        }
        if add.kind == AddKind::Recovery {
            marks.hit(Mark::WroteBack);
        }
        *self.stored.entry(spot).or_default() |= 1 << bookie;
        let mut all = self.payload(bookie, add.ledger, &add.entry);
        if add.kind == AddKind::Repair {
            return all;
        }
        // I8, I9, I10: a fence that was answered holds, whatever happened to the bookie since.
        let fences = self.fences.get(&(bookie, add.ledger.log()));
        let higher = fences.and_then(|f| f.range(add.epoch.next()..).map(|(_, at)| *at).min());
        let came = self.came.get(&(bookie, spot)).copied().unwrap_or(u64::MAX);
        if higher.is_some_and(|fenced| fenced < came) {
            all.extend(found(
                "I10",
                format!("bookie-{bookie} stores {spot:?} of epoch {} that came after a fence was answered", add.epoch),
            ));
        }
        all
    }

    /// I13, I22: an entry has one payload, and it is whole.
    fn payload(&mut self, bookie: usize, ledger: LedgerId, entry: &Entry) -> Found {
        let spot = (ledger, entry.id);
        if !entry.is_intact(ledger) {
            return found(
                "I22",
                format!("bookie-{bookie} gives damaged bytes of {spot:?}"),
            );
        }
        let first = *self.payloads.entry(spot).or_insert(entry.crc);
        match first == entry.crc {
            true => Vec::new(),
            false => found(
                "I13",
                format!("bookie-{bookie} gives another payload of {spot:?}"),
            ),
        }
    }

    fn fenced(&mut self, bookie: usize, log: LogId, fence: Option<Epoch>) {
        if let Some(epoch) = fence {
            let ordinal = self.ordinal;
            let fences = self.fences.entry((bookie, log)).or_default();
            fences.entry(epoch).or_insert(ordinal);
        }
    }

    fn read(
        &mut self,
        bookie: usize,
        read: &types::storage::Read,
        result: &ReadResult,
        marks: &mut Marks,
    ) -> Found {
        let spot = (read.ledger, read.entry);
        match result {
            ReadResult::Found { entry, lac } => {
                self.fenced(bookie, read.ledger.log(), read.fence);
                let mut all = self.payload(bookie, read.ledger, entry);
                all.extend(self.lac_shown(read.ledger, *lac));
                all
            }
            ReadResult::NeverHad => {
                marks.hit(Mark::SaidNeverHad);
                self.fenced(bookie, read.ledger.log(), read.fence);
                if let Some(epoch) = read.fence {
                    *self.negatives.entry((spot, epoch)).or_default() |= 1 << bookie;
                }
                self.never_had(bookie, spot)
            }
            ReadResult::Unknown => {
                marks.hit(Mark::SaidUnknown);
                self.fenced(bookie, read.ledger.log(), read.fence);
                Vec::new()
            }
            ReadResult::Fenced { .. } => {
                marks.hit(Mark::ReadFenced);
                Vec::new()
            }
            ReadResult::Busy => Vec::new(),
        }
    }

    /// I11: who stored it never says that it never had it.
    fn never_had(&self, bookie: usize, spot: Spot) -> Found {
        let stored = self.stored.get(&spot).copied().unwrap_or(0);
        match stored & (1 << bookie) {
            0 => Vec::new(),
            _ if self.blind[bookie] || self.given_up.contains(&(bookie, spot.0)) => Vec::new(),
            _ => found(
                "I11",
                format!("bookie-{bookie} stored {spot:?} and says it never had it"),
            ),
        }
    }

    fn run(&mut self, bookie: usize, run: &types::storage::ReadRun, items: &[RunItem]) -> Found {
        let mut at = run.first;
        let mut all = Vec::new();
        for item in items {
            match item {
                RunItem::Entry(entry) => {
                    all.extend(self.payload(bookie, run.ledger, entry));
                    at = entry.id.next();
                }
                RunItem::Prefix { id, .. } => at = id.next(),
                RunItem::NeverHad => all.extend(self.never_had(bookie, (run.ledger, at))),
                RunItem::Unknown | RunItem::Busy => {}
            }
        }
        all
    }

    /// I7: no LAC that is shown passes the end.
    fn lac_shown(&mut self, ledger: LedgerId, lac: Option<EntryId>) -> Found {
        let Some(lac) = lac else {
            return Vec::new();
        };
        let highest = self.lacs.entry(ledger).or_insert(lac);
        *highest = lac.max(*highest);
        match self.ends.get(&ledger) {
            Some(end) if Some(lac) > *end => found(
                "I7",
                format!("LAC {lac} of {ledger} shown, its end is {end:?}"),
            ),
            _ => Vec::new(),
        }
    }
}
