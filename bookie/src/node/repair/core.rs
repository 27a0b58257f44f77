//! Decisions of the repair: whom to ask for what is missing, how fast, and when to try again what failed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use types::chain::LedgerRecord;
use types::cluster::BookieRecord;
use types::storage::{Entry, ReadRun, RunItem};
use types::{BookieId, ByteSize, EntryId, LedgerId, MonoTime};

/// Most bytes of payloads that are read, and then written, at a time; a larger entry comes alone.
const RUN_BYTES: u64 = 4 << 20;
/// The first wait before a ledger that could not be copied is tried again; it doubles.
const AGAIN: Duration = Duration::from_secs(2);
/// The longest such wait.
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// Most ledgers that meta is told of as not to be copied now.
const STUCK_MAX: usize = 1000;

/// What to do next for a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Read this run there.
    Read {
        /// Whom to ask.
        from: BookieId,
        /// What.
        run: ReadRun,
    },
    /// Everything that was missing came.
    Done,
    /// Every bookie that may have this entry was asked, and none could give it; `is_nowhere` when none is expected to.
    Failed {
        /// The first entry that is missing.
        entry: EntryId,
        /// Whether asking again soon is of no use: all that are alive have answered, and do not have it.
        is_nowhere: bool,
    },
}

/// A bookie that may have what is missing.
#[derive(Debug, Clone)]
struct Source {
    bookie: BookieId,
    is_live: bool,
    /// What came of asking it for the entry that is wanted now.
    tried: Option<Tried>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// It does not have it, or cannot read it.
    Without,
    /// It did not answer, or is too busy.
    Silent,
}

/// One ledger's missing entries, fetched run by run.
#[derive(Debug, Clone)]
pub struct Fetch {
    record: LedgerRecord,
    missing: VecDeque<(EntryId, EntryId)>,
    sources: Vec<Source>,
}

impl Fetch {
    /// Fetches for `own` what is missing of a ledger, from its other bookies: those that are known to have a whole copy
    /// first, and those that are not alive last.
    pub fn new(
        record: &LedgerRecord,
        own: BookieId,
        bookies: &[BookieRecord],
        missing: Vec<(EntryId, EntryId)>,
    ) -> Self {
        let mut sources: Vec<(bool, bool, Source)> = Vec::new();
        for bookie in record.ensemble.iter().filter(|id| **id != own) {
            let known = bookies.iter().find(|known| known.id == *bookie);
            let is_live = known.is_some_and(|known| known.live);
            let is_whole = known.is_some_and(|known| record.is_verified(*bookie, known.born));
            let source = Source {
                bookie: *bookie,
                is_live,
                tried: None,
            };
            sources.push((!is_live, !is_whole, source));
        }
        sources.sort_by_key(|(is_dead, is_unseen, _)| (*is_dead, *is_unseen));
        Self {
            record: record.clone(),
            missing: missing.into(),
            sources: sources.into_iter().map(|(.., source)| source).collect(),
        }
    }

    /// What to do next.
    pub fn next(&self) -> Next {
        let Some((first, last)) = self.missing.front().copied() else {
            return Next::Done;
        };
        match self.sources.iter().find(|source| source.tried.is_none()) {
            Some(source) => Next::Read {
                from: source.bookie,
                run: ReadRun {
                    ledger: self.record.id,
                    created: self.record.created,
                    first,
                    last,
                    max_bytes: RUN_BYTES,
                    payload_limit: None,
                },
            },
            None => {
                let is_silent =
                    |source: &Source| source.is_live && source.tried == Some(Tried::Silent);
                Next::Failed {
                    entry: first,
                    is_nowhere: !self.sources.iter().any(is_silent),
                }
            }
        }
    }

    /// Takes the verified items that a bookie gave, or none when it did not answer; gives the entries to store.
    pub fn came(&mut self, from: BookieId, items: Option<Vec<RunItem>>) -> Vec<Entry> {
        let Some((first, last)) = self.missing.front().copied() else {
            return Vec::new();
        };
        let tried = match &items {
            None => Tried::Silent,
            Some(items) if items.last() == Some(&RunItem::Busy) => Tried::Silent,
            Some(_) => Tried::Without,
        };
        let mut next = first;
        let mut entries = Vec::new();
        for item in items.into_iter().flatten() {
            match item {
                RunItem::Entry(entry) if entry.id == next && next <= last => {
                    next = next.next();
                    entries.push(entry);
                }
                RunItem::Entry(_)
                | RunItem::Prefix { .. }
                | RunItem::NeverHad
                | RunItem::Unknown
                | RunItem::Busy => break,
            }
        }
        if next > first {
            // For the next entry it, too, is asked again.
            self.missing.pop_front();
            if next <= last {
                self.missing.push_front((next, last));
            }
            for source in &mut self.sources {
                source.tried = None;
            }
        } else if let Some(source) = self.sources.iter_mut().find(|it| it.bookie == from) {
            source.tried = Some(tried);
        }
        entries
    }
}

/// Holds the repair to a rate: after so many bytes it waits until they are paid for.
#[derive(Debug, Clone)]
pub(in crate::node) struct Pace {
    bytes_per_second: u64,
    free_at: MonoTime,
}

impl Pace {
    /// At a rate of so much a second.
    pub(in crate::node) fn new(rate: ByteSize) -> Self {
        Self {
            bytes_per_second: rate.get().max(1),
            free_at: MonoTime::ZERO,
        }
    }

    /// Notes that so much passed; says how long to wait before the next. What was not used before is not saved up.
    pub(in crate::node) fn passed(&mut self, now: MonoTime, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(now).after(cost);
        self.free_at.since(now)
    }
}

/// Ledgers that could not be copied, and when to try again.
#[derive(Debug, Clone, Default)]
pub struct Setbacks(BTreeMap<LedgerId, Setback>);

#[derive(Debug, Clone, Copy)]
struct Setback {
    until: MonoTime,
    wait: Duration,
    is_nowhere: bool,
}

impl Setbacks {
    /// A ledger could not be copied. True when an entry of it is nowhere and was not so before: to be told once.
    pub fn failed(&mut self, now: MonoTime, ledger: LedgerId, is_nowhere: bool) -> bool {
        let earlier = self.0.get(&ledger);
        let wait = earlier.map_or(AGAIN, |earlier| (earlier.wait * 2).min(AGAIN_MAX));
        let is_news = is_nowhere && !earlier.is_some_and(|earlier| earlier.is_nowhere);
        let setback = Setback {
            until: now.after(wait),
            wait,
            is_nowhere,
        };
        self.0.insert(ledger, setback);
        is_news
    }

    /// A ledger was copied.
    pub fn over(&mut self, ledger: LedgerId) {
        self.0.remove(&ledger);
    }

    /// Whether a ledger is not to be tried yet.
    pub fn is_waiting(&self, now: MonoTime, ledger: LedgerId) -> bool {
        self.0.get(&ledger).is_some_and(|it| now < it.until)
    }

    /// The ledgers whose turn has not come again since an entry of them was nowhere. What was not tried again long after its
    /// turn came is due no more, and forgotten.
    pub fn stuck(&mut self, now: MonoTime) -> Vec<LedgerId> {
        self.0.retain(|_, it| now < it.until.after(AGAIN_MAX * 2));
        let stuck = self.0.iter().filter(|(_, it)| it.is_nowhere);
        let stuck = stuck.filter(|(_, it)| now < it.until).take(STUCK_MAX);
        stuck.map(|(ledger, _)| *ledger).collect()
    }

    /// How many ledgers to ask for, so that `wanted` of them can be tried: those that wait and are not told as stuck are
    /// given again, before others.
    pub fn limit(&self, now: MonoTime, wanted: usize, stuck: &[LedgerId]) -> usize {
        let waiting = self.0.values().filter(|it| now < it.until).count();
        wanted + waiting.saturating_sub(stuck.len())
    }
}
