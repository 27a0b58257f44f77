//! What the bookie holds of a closed ledger: durable, and whole as far as the index knows.
//!
//! Memory and the runs of data files tell it, without reading: a run with as many entries as its ids span has no gap.
//! Only of a run with gaps, and of a file that is known to have a damaged block, the blocks are read, some at a time, so
//! that other reads have their turn between.

use std::sync::Arc;

use types::EntryId;

use crate::job::{Lane, Work, Worker};
use crate::store::file::DataFile;
use crate::store::format::Key;
use crate::store::lookup::{ListDone, ListJob};

use super::event::{Holdings, HoldingsResult};
use super::reads::{Purpose, key};
use super::spans::Spans;
use super::{Answer, Effect, Engine, Token, lane_index, reply, run};

/// Most gaps that one answer names.
const GAPS_MAX: usize = 1024;

/// A question under way.
#[derive(Debug)]
pub(super) struct Holding {
    token: Token,
    ask: Holdings,
    held: Spans,
    /// Blocks to be read yet, each the first of a run's.
    left: Vec<(Arc<DataFile>, usize)>,
}

impl Engine {
    pub(super) fn holdings(&mut self, token: Token, ask: Holdings, effects: &mut Vec<Effect>) {
        if self.is_lane_full(Lane::CatchUp) {
            effects.push(reply(token, Answer::Holdings(HoldingsResult::Busy)));
            return;
        }
        // Whoever asks is about to vouch for the copy: it is held again if it was given up, and a word of meta that is
        // older than this question does not give it up (I26).
        self.repaired(ask.ledger);
        if self.gone(ask.ledger).is_some() {
            let nothing = Spans::default().missing(ask.last, GAPS_MAX);
            let result = HoldingsResult::Missing(nothing);
            effects.push(reply(token, Answer::Holdings(result)));
            return;
        }
        let mut held = Spans::default();
        for id in self.tables.ids_in_memory(ask.ledger, ask.last) {
            // What the journal has not synced may yet be lost.
            if !self.pending.contains_key(&key(ask.ledger, id)) {
                held.insert(id, id);
            }
        }
        let mut left = Vec::new();
        for (number, file) in &self.tables.files {
            let Some(found) = file.run(ask.ledger) else {
                continue;
            };
            let span = (found.last.get() - found.first.get()).checked_add(1);
            if span == Some(found.entries) && !self.upkeep.resting.contains(number) {
                held.insert(found.first, found.last);
            } else if let Some(block) = file.block_of(key(ask.ledger, found.first)) {
                left.push((Arc::clone(file), block));
            }
        }
        let holding = Holding {
            token,
            ask,
            held,
            left,
        };
        let id = self.task(Purpose::Holdings(holding), Lane::CatchUp, 0);
        self.list_on(id, effects);
    }

    pub(super) fn listed(&mut self, done: ListDone, effects: &mut Vec<Effect>) {
        self.lane_jobs[lane_index(Lane::CatchUp)] -= 1;
        let holding = self.holding_of(done.read);
        for id in done.ids {
            holding.held.insert(id, id);
        }
        holding.left.extend(done.rest);
        self.list_on(done.read, effects);
    }

    /// Reads on where a gap may be, or answers.
    fn list_on(&mut self, id: u64, effects: &mut Vec<Effect>) {
        let cache = self.cache.clone();
        let holding = self.holding_of(id);
        let Holdings { ledger, last } = holding.ask;
        let is_whole = holding.held.missing(last, 1).is_empty();
        if let Some((file, block)) = holding.left.pop().filter(|_| !is_whole) {
            let job = ListJob {
                read: id,
                file,
                block,
                to: Key {
                    ledger,
                    entry: last,
                },
                cache,
            };
            self.lane_jobs[lane_index(Lane::CatchUp)] += 1;
            effects.push(run(Worker::Read(Lane::CatchUp), Work::List(job)));
            return;
        }
        if let Some(Purpose::Holdings(holding)) = self.take_task(id) {
            let missing = holding.held.missing(last, GAPS_MAX);
            let result = HoldingsResult::Missing(missing);
            effects.push(reply(holding.token, Answer::Holdings(result)));
        }
    }

    fn holding_of(&mut self, id: u64) -> &mut Holding {
        match self.tasks.get_mut(&id).map(|task| &mut task.purpose) {
            Some(Purpose::Holdings(holding)) => holding,
            Some(
                Purpose::Add { .. } | Purpose::Read { .. } | Purpose::Lac { .. } | Purpose::Run(_),
            )
            | None => unreachable!("the end of a list comes once, to its question"),
        }
    }
}

impl super::tables::Tables {
    /// The ids of a ledger's entries up to `last` that are in memory.
    fn ids_in_memory(&self, ledger: types::LedgerId, last: EntryId) -> Vec<EntryId> {
        let flushing = self.flushing.as_ref();
        let tables = [Some(&self.active), flushing.map(|it| &*it.table)];
        let ids = tables.into_iter().flatten();
        ids.flat_map(|table| table.ids(ledger, last)).collect()
    }
}
