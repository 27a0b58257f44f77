//! Which data files go, are rewritten, or are merged.
//!
//! A file without a live byte goes at once: that takes no space but a MANIFEST's. Whatever writes a new file leaves
//! alone what flushes and the journal need.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use types::{LedgerId, MonoTime};

use crate::job::{Work, Worker};
use crate::store::file::DataFile;
use crate::store::lookup::BadBlock;
use crate::store::merge::{MergeJob, Merged};

use super::{Effect, Engine, run};

/// A merge under way.
#[derive(Debug)]
pub(super) struct Merging {
    /// The file that it makes.
    number: u64,
    inputs: Vec<u64>,
    pub(super) left_out: BTreeSet<LedgerId>,
    /// Whether it leaves out what is held again: its file is not to be used.
    pub(super) is_void: bool,
}

/// Most bytes that are merged at once: while a merge goes on no other does, nothing sparse is rewritten, and its files
/// stay. What is larger than its part of this is not merged any more.
const MERGE_MOST: u64 = 16 << 30;

impl Engine {
    /// Holds a new data file.
    pub(super) fn hold(&mut self, file: DataFile) {
        let number = file.number();
        self.tables.live.insert(number, self.live_bytes(&file));
        self.tables.files.insert(number, Arc::new(file));
        self.upkeep.looks_at_files = true;
        self.upkeep.is_dirty = true;
    }

    /// Lets a data file go: reads do not see it any more, and the next MANIFEST does not name it.
    fn let_go(&mut self, number: u64) {
        self.tables.files.remove(&number);
        self.tables.live.remove(&number);
        self.upkeep.replaced.push(number);
        self.upkeep.looks_at_files = true;
        self.upkeep.is_dirty = true;
    }

    /// Lets the files go that hold nothing live, damaged ones among them. Those being merged go with their merge.
    pub(super) fn drop_dead(&mut self) {
        if !self.upkeep.looks_at_files || self.is_stopping {
            return;
        }
        let merging = self.upkeep.merging.iter();
        let inputs: Vec<u64> = merging.flat_map(|merging| merging.inputs.clone()).collect();
        let live = self.tables.live.iter();
        let dead = live.filter(|(number, live)| **live == 0 && !inputs.contains(number));
        let dead: Vec<u64> = dead.map(|(number, _)| *number).collect();
        for number in dead {
            self.let_go(number);
            self.upkeep.files_dropped += 1;
        }
    }

    /// Starts a rewrite or a merge where one is due and there is room.
    pub(super) fn merge(&mut self, effects: &mut Vec<Effect>) {
        if self.upkeep.merging.is_some() || self.is_stopping || !self.upkeep.looks_at_files {
            return;
        }
        self.upkeep.looks_at_files = false;
        let Some(inputs) = self.sparse().or_else(|| self.alike()) else {
            return;
        };
        let newest_first = inputs.iter().rev();
        let files = newest_first.filter_map(|number| self.tables.files.get(number));
        let files: Vec<Arc<DataFile>> = files.map(Arc::clone).collect();
        let runs = files.iter().flat_map(|file| &file.footer().runs);
        let left_out: BTreeSet<LedgerId> = runs
            .map(|run| run.ledger)
            .filter(|ledger| self.gone(*ledger).is_some())
            .collect();
        let number = self.tables.take_number();
        let job = MergeJob::new(self.make.clone(), number, files, left_out.clone());
        self.upkeep.merging = Some(Merging {
            number,
            inputs,
            left_out,
            is_void: false,
        });
        effects.push(run(Worker::Store, Work::Merge(Box::new(job))));
    }

    /// The file that gives most back for what is copied, if it is below the limit and there is room for the copy.
    fn sparse(&self) -> Option<Vec<u64>> {
        let share = |number: &u64, live: &u64| {
            let length = self.tables.files.get(number)?.listed().length;
            let percent = u128::from(*live) * 100 / u128::from(length.max(1));
            Some((percent, *number, *live))
        };
        let live = self.tables.live.iter();
        let shares = live.filter_map(|(number, live)| share(number, live));
        let (.., number, _) = shares
            .filter(|(percent, number, live)| {
                *percent < u128::from(self.config.rewrite_below)
                    && !self.upkeep.resting.contains(number)
                    && self.has_room(*live)
            })
            .min()?;
        Some(vec![number])
    }

    /// The oldest files of the smallest size class that has enough of them, if there is room for the new one.
    fn alike(&self) -> Option<Vec<u64>> {
        let width = self.config.merge_width;
        let mut classes: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (number, file) in &self.tables.files {
            if !self.upkeep.resting.contains(number) {
                let class = file.listed().length.max(1).ilog2() / 2;
                classes.entry(class).or_default().push(*number);
            }
        }
        let length = |number: &u64| {
            let file = self.tables.files.get(number);
            file.map_or(0, |file| file.listed().length)
        };
        let chosen = classes.into_values().find_map(|mut class| {
            let is_enough = class.len() >= width;
            class.truncate(width);
            (is_enough && class.iter().map(length).sum::<u64>() <= MERGE_MOST).then_some(class)
        })?;
        let live = chosen.iter().filter_map(|one| self.tables.live.get(one));
        self.has_room(live.sum()).then_some(chosen)
    }

    /// Whether so many bytes may be written without what a flush and the journal need next.
    fn has_room(&self, bytes: u64) -> bool {
        let journal = match self.journal.wants_file() && self.upkeep.spares.is_empty() {
            true => self.config.journal_file.get(),
            false => 0,
        };
        let kept = self.config.memtable.get() + journal;
        bytes.saturating_add(kept) <= self.upkeep.free_bytes
    }

    pub(super) fn merged(
        &mut self,
        now: MonoTime,
        end: io::Result<Merged>,
        effects: &mut Vec<Effect>,
    ) {
        let merging = self.upkeep.merging.take().expect("a merge ends once");
        self.upkeep.looks_at_files = true;
        match end {
            Ok(Merged::More(job)) if !merging.is_void && self.has_room(0) => {
                self.upkeep.merging = Some(merging);
                effects.push(run(Worker::Store, Work::Merge(job)));
            }
            // No MANIFEST names what was written of it.
            Ok(Merged::More(_)) => self.upkeep.obsolete.push(merging.number),
            Ok(Merged::Ready { file, .. }) if merging.is_void => {
                self.upkeep.obsolete.extend(file.map(|file| file.number()));
            }
            Ok(Merged::Ready { file, replaces }) => {
                // Reads go to the new file from now on; the old ones stay until a MANIFEST names the new one.
                self.upkeep.files_rewritten += u64::from(replaces.len() == 1);
                for number in replaces {
                    self.let_go(number);
                }
                if let Some(file) = file {
                    self.hold(file);
                }
                self.not_full(effects);
            }
            Ok(Merged::Given { bad, inputs }) => self.rest(bad, &inputs, effects),
            Err(error) => self.store_failed(now, "merged data file", &error, effects),
        }
    }

    fn rest(&mut self, bad: BadBlock, inputs: &[u64], effects: &mut Vec<Effect>) {
        debug_assert!(inputs.contains(&bad.file));
        self.upkeep.resting.push(bad.file);
        self.note_bad(&[bad], effects);
    }
}
