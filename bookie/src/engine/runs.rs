//! Runs of entries, for readers at or below the LAC or the closed end.

use bytes::Buf;
use types::EntryId;
use types::storage::{Entry, ReadRun, RunItem};

use ledger::Missing;

use crate::codec::{narrow, wide};
use crate::job::{Lane, Work, Worker};
use crate::store::lookup::{RangeDone, RangeJob};

use super::reads::{Purpose, key};
use super::{Answer, Effect, Engine, Token, lane_index, reply};

/// Most entries of one run: a reader of small entries asks again.
const RUN_ENTRIES_MAX: usize = 64 << 10;

/// A run being put together.
#[derive(Debug)]
pub(super) struct RunRead {
    token: Token,
    ask: ReadRun,
    items: Vec<RunItem>,
    next: EntryId,
    /// Bytes it may still take.
    room: u64,
    /// Files that were asked for the next entry and did not give it.
    tried: Vec<u64>,
    /// Whether one of those has a bad block where it would be.
    is_unreadable: bool,
}

impl RunRead {
    fn is_complete(&self) -> bool {
        self.next > self.ask.last
            || self.items.len() >= RUN_ENTRIES_MAX
            || (self.room == 0 && !self.items.is_empty())
    }

    /// Takes the next entry; false when it does not fit any more.
    fn take(&mut self, entry: Entry) -> bool {
        let length = wide(entry.payload.len());
        let limit = self.ask.payload_limit.map_or(u64::MAX, u64::from);
        let cost = length.min(limit);
        if cost > self.room && !self.items.is_empty() {
            self.room = 0;
            return false;
        }
        self.room = self.room.saturating_sub(cost);
        self.next = entry.id.next();
        self.tried.clear();
        self.is_unreadable = false;
        self.items.push(if self.ask.payload_limit.is_some() {
            let head = entry.payload.head().clone();
            let mut both = head.chain(entry.payload.body().clone());
            RunItem::Prefix {
                id: entry.id,
                next_offset: entry.next_offset,
                prefix: both.copy_to_bytes(narrow(cost)),
            }
        } else {
            RunItem::Entry(entry)
        });
        true
    }
}

impl Engine {
    pub(super) fn read_run(&mut self, token: Token, ask: ReadRun, effects: &mut Vec<Effect>) {
        if self.is_lane_full(Lane::CatchUp) {
            effects.push(reply(token, Answer::ReadRun(vec![RunItem::Busy])));
            return;
        }
        // However much is asked for, a run takes no more memory than the reads under way may.
        let weight = ask.max_bytes.min(self.config.read_budget.get());
        let run = RunRead {
            token,
            ask,
            items: Vec::new(),
            next: ask.first,
            room: weight,
            tried: Vec::new(),
            is_unreadable: false,
        };
        let id = self.task(Purpose::Run(run), Lane::CatchUp, weight);
        self.go_on(id, effects);
    }

    pub(super) fn range_read(&mut self, done: RangeDone, effects: &mut Vec<Effect>) {
        self.lane_jobs[lane_index(Lane::CatchUp)] -= 1;
        let run = self.run_of(done.read);
        if done.entries.is_empty() {
            run.is_unreadable |= !done.bad.is_empty();
        }
        for entry in done.entries {
            if run.is_complete() || !run.take(entry) {
                break;
            }
        }
        self.go_on(done.read, effects);
    }

    /// Takes what memory holds, asks the next file, or answers.
    fn go_on(&mut self, id: u64, effects: &mut Vec<Effect>) {
        loop {
            let run = self.run_of(id);
            let (ledger, next) = (run.ask.ledger, run.next);
            if run.is_complete() {
                break;
            }
            if let Some(entry) = self.tables.in_memory(key(ledger, next)).cloned() {
                if self.run_of(id).take(entry) {
                    continue;
                }
                break;
            }
            let files = self.tables.files_of(key(ledger, next));
            let cache = self.cache.clone();
            let run = self.run_of(id);
            let untried = files
                .into_iter()
                .find(|(file, _)| !run.tried.contains(&file.number()));
            if let Some((file, block)) = untried {
                run.tried.push(file.number());
                let job = RangeJob {
                    read: id,
                    file,
                    block,
                    ledger,
                    first: next,
                    last: run.ask.last,
                    max_bytes: run.room,
                    cache,
                };
                self.lane_jobs[lane_index(Lane::CatchUp)] += 1;
                effects.push(super::run(Worker::Read(Lane::CatchUp), Work::Range(job)));
                return;
            }
            let (created, is_unreadable) = (run.ask.created, run.is_unreadable);
            let end = match self.missing(ledger, created) {
                Missing::NeverHad if !is_unreadable => RunItem::NeverHad,
                Missing::NeverHad | Missing::Unknown => RunItem::Unknown,
            };
            self.run_of(id).items.push(end);
            break;
        }
        if let Some(Purpose::Run(run)) = self.take_task(id) {
            effects.push(reply(run.token, Answer::ReadRun(run.items)));
        }
    }

    fn run_of(&mut self, id: u64) -> &mut RunRead {
        match self.tasks.get_mut(&id).map(|task| &mut task.purpose) {
            Some(Purpose::Run(run)) => run,
            Some(Purpose::Add { .. } | Purpose::Read { .. } | Purpose::Lac { .. }) | None => {
                unreachable!("the end of a range comes once, to its run")
            }
        }
    }
}
