//! Runs of entries, for readers at or below the LAC or the closed end.

use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};
use types::EntryId;
use types::storage::{Entry, ReadRun, RunItem};

use ledger::Missing;

use crate::codec::{narrow, wide};
use crate::job::{Lane, Work, Worker};
use crate::store::file::{DataFile, PIECE, PIECE_MAX};
use crate::store::lookup::{AheadJob, RangeDone, RangeJob};

use super::reads::{Purpose, key};
use super::{Answer, Effect, Engine, Token, lane_index, reply};

/// Most entries of one run: a reader of small entries asks again.
const RUN_ENTRIES_MAX: usize = 64 << 10;
/// Most pieces on their way that nobody asked for yet.
const AHEAD_JOBS: usize = 8;

/// A run being put together.
#[derive(Debug)]
pub(super) struct RunRead {
    token: Token,
    ask: ReadRun,
    items: Vec<RunItem>,
    next: EntryId,
    /// Bytes it may still take.
    room: u64,
    /// With less room it does not go on: a large run would cut a piece, which the next one would read again.
    least: u64,
    /// Files that were asked for the next entry and did not give it.
    tried: Vec<u64>,
    /// Whether one of those has a bad block where it would be.
    is_unreadable: bool,
}

impl RunRead {
    /// Whether it can take nothing more.
    fn is_full(&self) -> bool {
        self.next > self.ask.last
            || self.items.len() >= RUN_ENTRIES_MAX
            || (self.room == 0 && !self.items.is_empty())
    }

    /// Whether it is answered rather than to be gone on with.
    fn is_complete(&self) -> bool {
        self.is_full() || (self.room < self.least && !self.items.is_empty())
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
            let (head, body) = (entry.payload.head(), entry.payload.body());
            // Copied, so that a few bytes do not keep all that was read with them.
            let mut prefix = BytesMut::with_capacity(narrow(cost));
            prefix.put(head.as_ref().chain(body.as_ref()).take(narrow(cost)));
            RunItem::Prefix {
                id: entry.id,
                next_offset: entry.next_offset,
                prefix: prefix.freeze(),
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
            least: if weight < 2 * PIECE { 1 } else { PIECE_MAX },
            tried: Vec::new(),
            is_unreadable: false,
        };
        let id = self.task(Purpose::Run(run), Lane::CatchUp, weight);
        self.go_on(id, effects);
    }

    pub(super) fn range_read(&mut self, done: RangeDone, effects: &mut Vec<Effect>) {
        self.lane_jobs[lane_index(Lane::CatchUp)] -= 1;
        let ledger = self.run_of(done.read).ask.ledger;
        if self.gone(ledger).is_some() {
            // Since the read began: the run ends with `Unknown`.
            self.go_on(done.read, effects);
            return;
        }
        let run = self.run_of(done.read);
        if done.entries.is_empty() {
            run.is_unreadable |= !done.bad.is_empty();
        }
        for entry in done.entries {
            if run.is_full() || !run.take(entry) {
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
            if self.gone(ledger).is_some() {
                self.run_of(id).items.push(RunItem::Unknown);
                break;
            }
            if let Some(entry) = self.tables.in_memory(key(ledger, next)).cloned() {
                if self.run_of(id).take(entry) {
                    continue;
                }
                break;
            }
            let files = self.tables.files_of(key(ledger, next));
            let run = self.run_of(id);
            let untried = files
                .into_iter()
                .find(|(file, _)| !run.tried.contains(&file.number()));
            if let Some((file, block)) = untried {
                self.ask_file(id, file, block, effects);
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

    /// Asks a file for the next entries.
    fn ask_file(&mut self, id: u64, file: Arc<DataFile>, block: usize, effects: &mut Vec<Effect>) {
        let (cache, stride) = (self.cache.clone(), self.stride());
        let run = self.run_of(id);
        run.tried.push(file.number());
        let to = key(run.ask.ledger, run.ask.last);
        let count = file.piece(block, to, run.room);
        // Who asks for much reads on: what comes next is likely his.
        let ahead = (run.least > 1).then(|| AheadJob {
            file: Arc::clone(&file),
            block: block + count,
            to,
            stride,
            cache: cache.clone(),
        });
        let job = RangeJob {
            read: id,
            file,
            block,
            count,
            stride,
            ledger: run.ask.ledger,
            first: run.next,
            last: run.ask.last,
            is_verified_by_reader: run.ask.payload_limit.is_none(),
            cache,
        };
        self.lane_jobs[lane_index(Lane::CatchUp)] += 1;
        effects.push(super::run(Worker::Read(Lane::CatchUp), Work::Range(job)));
        if let Some(ahead) = ahead {
            self.read_ahead(ahead, effects);
        }
    }

    /// Has a piece read before it is asked for, if there is one.
    fn read_ahead(&mut self, job: AheadJob, effects: &mut Vec<Effect>) {
        let next = job.file.footer().blocks.get(job.block);
        if self.ahead_jobs < AHEAD_JOBS
            && self
                .cache
                .has_room_ahead(self.lane_bytes[lane_index(Lane::CatchUp)])
            && next.is_some_and(|block| block.first <= job.to)
        {
            self.ahead_jobs += 1;
            effects.push(super::run(Worker::Ahead, Work::Ahead(job)));
        }
    }

    fn run_of(&mut self, id: u64) -> &mut RunRead {
        match self.tasks.get_mut(&id).map(|task| &mut task.purpose) {
            Some(Purpose::Run(run)) => run,
            Some(
                Purpose::Add { .. }
                | Purpose::Read { .. }
                | Purpose::Lac { .. }
                | Purpose::Holdings(_),
            )
            | None => unreachable!("the end of a range comes once, to its run"),
        }
    }
}
