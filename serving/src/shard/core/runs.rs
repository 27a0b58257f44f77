//! The runs of entries being read from the bookies.

use std::collections::BTreeMap;

use ledger::{Reader, ReaderEffect, ReaderEvent, RunPlan};
use types::storage::RunItem;
use types::{EntryId, MonoTime};

use super::event::ShardEffect;

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
    tags: BTreeMap<u64, (RunId, u32)>,
    next_run: u64,
    next_tag: u64,
    buffer: Vec<ReaderEffect>,
}

impl Runs {
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
            self.tags.retain(|_, (of, _)| *of != run);
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
            let Some((run, attempt)) = self.tags.get(&tag).copied() else {
                return;
            };
            let event = ReaderEvent::Item { attempt, item };
            self.step(now, run, event, effects, outputs);
        }
        if is_last && let Some((run, attempt)) = self.tags.remove(&tag) {
            let event = ReaderEvent::Ended { attempt };
            self.step(now, run, event, effects, outputs);
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
                    self.tags.insert(tag, (run, attempt));
                    effects.push(ShardEffect::Run {
                        tag,
                        bookie,
                        run: asked,
                    });
                }
                ReaderEffect::Cancel { attempt } => {
                    self.tags.retain(|_, of| *of != (run, attempt));
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
