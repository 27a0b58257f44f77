//! The runs of entries being read from the bookies.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger::{Reader, ReaderEffect, ReaderEvent, RunPlan};
use types::storage::RunItem;
use types::{BookieId, EntryId, MonoTime};

use super::event::ShardEffect;
use super::shrink_map;

/// How long a bookie that kept a run waiting is asked last: a dead one costs each reader one wait in so long.
const SLOW_FOR: Duration = Duration::from_secs(10);

/// Names one run while it is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RunId(u64);

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunOutput {
    /// Its next entry, or the first bytes of it.
    Item(RunItem),
    /// It is complete, as far as its byte limit allows.
    Done,
    /// No copy has this entry in a state that can be read.
    Lost(EntryId),
}

/// The runs under way, and which answer belongs to which.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs {
    readers: BTreeMap<RunId, Reader>,
    tags: BTreeMap<u64, Asked>,
    next_run: u64,
    next_tag: u64,
    /// Bookies that kept a run waiting, and when.
    slow: BTreeMap<BookieId, MonoTime>,
    buffer: Vec<ReaderEffect>,
}

impl Runs {
    /// Gives back the room that it has from busier times. Its numbers go on: a late answer must not be a new run's.
    pub(super) fn shrink(&mut self) {
        shrink_map(&mut self.readers);
        shrink_map(&mut self.tags);
        self.buffer.shrink_to_fit();
    }
}

/// What an answer belongs to.
#[derive(Debug, Clone, Copy)]
struct Asked {
    run: RunId,
    attempt: u32,
    bookie: BookieId,
}

impl Runs {
    /// Whether a bookie has kept a run waiting lately, and has given nothing since.
    pub(super) fn is_slow(&self, bookie: BookieId, now: MonoTime) -> bool {
        let at = self.slow.get(&bookie);
        at.is_some_and(|at| now < at.after(SLOW_FOR))
    }

    /// Begins one.
    pub(super) fn start(
        &mut self,
        now: MonoTime,
        plan: RunPlan,
        effects: &mut Vec<ShardEffect>,
        outputs: &mut Vec<(RunId, RunOutput)>,
    ) -> RunId {
        let run = RunId(self.next_run);
        self.next_run += 1;
        self.readers.insert(run, Reader::new(plan));
        self.step(now, run, ReaderEvent::Start, effects, outputs);
        run
    }

    /// Nobody waits for a run any more. Late answers to it are ignored.
    pub(super) fn cancel(&mut self, run: RunId) {
        if self.readers.remove(&run).is_some() {
            self.tags.retain(|_, asked| asked.run != run);
        }
    }

    /// Items of an answer came.
    pub(super) fn items(
        &mut self,
        now: MonoTime,
        (tag, items, is_last): (u64, Vec<RunItem>, bool),
        effects: &mut Vec<ShardEffect>,
        outputs: &mut Vec<(RunId, RunOutput)>,
    ) {
        for item in items {
            // An answer of an attempt that was given up is late.
            let Some(asked) = self.tags.get(&tag).copied() else {
                return;
            };
            self.slow.remove(&asked.bookie);
            let attempt = asked.attempt;
            let event = ReaderEvent::Item { attempt, item };
            self.step(now, asked.run, event, effects, outputs);
        }
        if is_last && let Some(asked) = self.tags.remove(&tag) {
            let attempt = asked.attempt;
            let event = ReaderEvent::Ended { attempt };
            self.step(now, asked.run, event, effects, outputs);
        }
    }

    /// When to call [`Runs::expire`].
    pub(super) fn deadline(&self) -> Option<MonoTime> {
        self.readers.values().filter_map(Reader::deadline).min()
    }

    /// Time has passed.
    pub(super) fn expire(
        &mut self,
        now: MonoTime,
        effects: &mut Vec<ShardEffect>,
        outputs: &mut Vec<(RunId, RunOutput)>,
    ) {
        let is_due = |reader: &Reader| reader.deadline().is_some_and(|at| at <= now);
        let due: Vec<RunId> = self
            .readers
            .iter()
            .filter(|(_, reader)| is_due(reader))
            .map(|(run, _)| *run)
            .collect();
        for run in due {
            self.step(now, run, ReaderEvent::Deadline, effects, outputs);
        }
    }

    fn step(
        &mut self,
        now: MonoTime,
        run: RunId,
        event: ReaderEvent,
        effects: &mut Vec<ShardEffect>,
        outputs: &mut Vec<(RunId, RunOutput)>,
    ) {
        let Some(reader) = self.readers.get_mut(&run) else {
            return;
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        reader.handle(now, event, &mut buffer);
        for effect in buffer.drain(..) {
            match effect {
                ReaderEffect::Ask {
                    attempt,
                    bookie,
                    run: asked,
                } => {
                    let tag = self.next_tag;
                    self.next_tag += 1;
                    let asker = Asked {
                        run,
                        attempt,
                        bookie,
                    };
                    self.tags.insert(tag, asker);
                    effects.push(ShardEffect::Run {
                        tag,
                        bookie,
                        run: asked,
                    });
                }
                ReaderEffect::Cancel { attempt } => {
                    self.tags
                        .retain(|_, asked| (asked.run, asked.attempt) != (run, attempt));
                }
                ReaderEffect::Slow { bookie } => {
                    self.slow.insert(bookie, now);
                }
                ReaderEffect::Entry(entry) => {
                    outputs.push((run, RunOutput::Item(RunItem::Entry(entry))));
                }
                ReaderEffect::Prefix {
                    id,
                    next_offset,
                    prefix,
                } => {
                    let item = RunItem::Prefix {
                        id,
                        next_offset,
                        prefix,
                    };
                    outputs.push((run, RunOutput::Item(item)));
                }
                ReaderEffect::Done => {
                    self.cancel(run);
                    outputs.push((run, RunOutput::Done));
                }
                ReaderEffect::Lost { entry } => {
                    self.cancel(run);
                    outputs.push((run, RunOutput::Lost(entry)));
                }
            }
        }
        self.buffer = buffer;
    }
}

#[cfg(test)]
mod tests {
    use types::{LedgerId, LedgerSeq, LogId, Revision};

    use super::*;

    const A_MOMENT: Duration = Duration::from_millis(200);

    fn plan() -> RunPlan {
        RunPlan {
            ledger: LedgerId::new(LogId::new(1), LedgerSeq::new(0)),
            created: Revision::new(1),
            ensemble: [1, 2].map(BookieId::new).into(),
            first: EntryId::new(0),
            last: EntryId::new(9),
            max_bytes: 1000,
            payload_limit: None,
            speculate_after: A_MOMENT,
            retry_after: A_MOMENT,
        }
    }

    #[test]
    fn a_bookie_that_keeps_a_run_waiting_is_slow_for_a_while_or_until_it_answers() {
        let (mut runs, begun) = (Runs::default(), MonoTime::ZERO);
        let (silent, other) = (BookieId::new(1), BookieId::new(2));
        let (mut effects, mut outputs) = (Vec::new(), Vec::new());
        runs.start(begun, plan(), &mut effects, &mut outputs);
        assert!(!runs.is_slow(silent, begun));
        let late = begun.after(A_MOMENT);
        runs.expire(late, &mut effects, &mut outputs);
        let [
            ShardEffect::Run { tag, .. },
            ShardEffect::Run { bookie, .. },
        ] = &effects[..]
        else {
            panic!("{effects:?}");
        };
        assert_eq!(*bookie, other);
        assert!(runs.is_slow(silent, late) && !runs.is_slow(other, late));
        assert!(!runs.is_slow(silent, late.after(SLOW_FOR)));

        let answer = (*tag, vec![RunItem::Busy], false);
        runs.items(late, answer, &mut effects, &mut outputs);

        assert!(!runs.is_slow(silent, late));
    }
}
