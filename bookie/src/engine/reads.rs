//! Reads of one entry or of a LAC, fencing ones among them: the fence takes effect, then the look-up, then the fence
//! is durable, then the answer.

use std::sync::Arc;

use types::storage::{Add, LacResult, Read, ReadLac, ReadResult};
use types::{EntryId, Epoch, LedgerId, LogId, Revision};

use ledger::{FenceDecision, Held, Missing};

use crate::job::{Lane, Work, Worker};
use crate::journal::format::Record;
use crate::store::file::DataFile;
use crate::store::format::Key;
use crate::store::lookup::{LookupDone, LookupJob};

use super::holdings::Holding;
use super::runs::RunRead;
use super::tables::{Look, fingerprint};
use super::{Answer, Effect, Engine, Token, lane_index, reply, run};

/// Most jobs with one lane's worker: fewer than a worker's queue takes, so that handing one over never waits.
const LANE_JOBS: usize = 128;
/// What a request under way costs at least.
const TASK_WEIGHT: u64 = 512;

/// A request under way.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) purpose: Purpose,
    /// The fence it waits for.
    fence: Option<Epoch>,
    /// What was found; none while it is looked for.
    found: Option<Found>,
    lane: Lane,
    weight: u64,
}

/// Who asked for what.
#[derive(Debug)]
pub(super) enum Purpose {
    Add { token: Token, add: Add },
    Read { token: Token, read: Read },
    Lac { token: Token, ask: ReadLac },
    Run(RunRead),
    Holdings(Holding),
}

/// The end of a look-up.
#[derive(Debug)]
enum Found {
    Entry(types::storage::Entry),
    Absent,
    Unreadable,
}

impl Engine {
    pub(super) fn read(&mut self, token: Token, read: Read, effects: &mut Vec<Effect>) {
        let lane = match read.fence {
            Some(_) => Lane::Recovery,
            None => Lane::Tail,
        };
        // Before the fence takes effect: `Busy` leaves nothing behind.
        if self.is_lane_full(lane) {
            effects.push(reply(token, Answer::Read(ReadResult::Busy)));
            return;
        }
        let fence = match self.fence(read.ledger.log(), read.fence) {
            Ok(fence) => fence,
            Err(by) => {
                effects.push(reply(token, Answer::Read(ReadResult::Fenced { by })));
                return;
            }
        };
        let key = Key {
            ledger: read.ledger,
            entry: read.entry,
        };
        let look = match self.gone(read.ledger) {
            None => self.tables.look(key),
            Some(_) => Look::Absent,
        };
        let id = self.task(Purpose::Read { token, read }, lane, 0);
        self.wait_for_fence(id, read.ledger.log(), fence);
        match look {
            Look::Memory(entry) => self.found(id, Found::Entry(entry), effects),
            Look::Absent => self.found(id, Found::Absent, effects),
            Look::Files(files) => self.look_in_files(id, key, files, effects),
        }
    }

    pub(super) fn read_lac(&mut self, token: Token, ask: ReadLac, effects: &mut Vec<Effect>) {
        if self.is_lane_full(Lane::Recovery) {
            effects.push(reply(token, Answer::ReadLac(LacResult::Busy)));
            return;
        }
        let log = ask.ledger.log();
        match self.fence(log, ask.fence) {
            Ok(fence) => {
                let id = self.task(Purpose::Lac { token, ask }, Lane::Recovery, 0);
                self.wait_for_fence(id, log, fence);
                self.found(id, Found::Absent, effects);
            }
            Err(by) => effects.push(reply(token, Answer::ReadLac(LacResult::Fenced { by }))),
        }
    }

    /// Lets a fence take effect, when one is asked for. The epoch whose durability is to be waited for, or the higher
    /// epoch that holds the log.
    fn fence(&mut self, log: LogId, epoch: Option<Epoch>) -> Result<Option<Epoch>, Epoch> {
        let Some(epoch) = epoch else {
            return Ok(None);
        };
        match self.acceptor.fence(log, epoch) {
            FenceDecision::Refuse { by } => Err(by),
            FenceDecision::Durable => Ok(None),
            FenceDecision::Wait => Ok(Some(epoch)),
            FenceDecision::Journal => {
                self.journal.push(Record::Fence { log, epoch });
                Ok(Some(epoch))
            }
        }
    }

    fn wait_for_fence(&mut self, id: u64, log: LogId, fence: Option<Epoch>) {
        let Some(epoch) = fence else {
            return;
        };
        self.fenced.entry(log).or_default().push((epoch, id));
        self.tasks.get_mut(&id).expect("just made").fence = Some(epoch);
    }

    pub(super) fn fence_durable(&mut self, log: LogId, epoch: Epoch, effects: &mut Vec<Effect>) {
        self.acceptor.fence_durable(log, epoch);
        let Some(waiting) = self.fenced.get_mut(&log) else {
            return;
        };
        // A lower epoch's own record lies before this one.
        let (free, rest) = waiting.iter().partition(|(wanted, _)| *wanted <= epoch);
        *waiting = rest;
        if waiting.is_empty() {
            self.fenced.remove(&log);
        }
        let free: Vec<(Epoch, u64)> = free;
        for (_, id) in free {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.fence = None;
                self.finish(id, effects);
            }
        }
    }

    /// Whether a lane's budget is used up, or the node stops.
    pub(super) fn is_lane_full(&self, lane: Lane) -> bool {
        let index = lane_index(lane);
        self.is_stopping
            || self.lane_jobs[index] >= LANE_JOBS
            || self.lane_bytes[index] >= self.config.read_budget.get()
    }

    /// Keeps a request that is not answered at once.
    pub(super) fn task(&mut self, purpose: Purpose, lane: Lane, weight: u64) -> u64 {
        let id = self.next_task;
        self.next_task += 1;
        let weight = weight + TASK_WEIGHT;
        self.lane_bytes[lane_index(lane)] += weight;
        let task = Task {
            purpose,
            fence: None,
            found: None,
            lane,
            weight,
        };
        self.tasks.insert(id, task);
        id
    }

    /// Lets go of a request.
    pub(super) fn take_task(&mut self, id: u64) -> Option<Purpose> {
        let task = self.tasks.remove(&id)?;
        self.lane_bytes[lane_index(task.lane)] -= task.weight;
        Some(task.purpose)
    }

    /// Sends a request's look-up to its lane's worker.
    pub(super) fn look_in_files(
        &mut self,
        id: u64,
        key: Key,
        files: Vec<(Arc<DataFile>, usize)>,
        effects: &mut Vec<Effect>,
    ) {
        let task = self.tasks.get_mut(&id).expect("just made");
        let weight: u64 = files
            .iter()
            .map(|(file, block)| u64::from(file.footer().blocks[*block].length))
            .sum();
        task.weight += weight;
        self.lane_bytes[lane_index(task.lane)] += weight;
        let job = LookupJob {
            read: id,
            key,
            files,
            cache: self.cache.clone(),
        };
        self.lane_jobs[lane_index(task.lane)] += 1;
        effects.push(run(Worker::Read(task.lane), Work::Lookup(job)));
    }

    pub(super) fn looked_up(&mut self, done: LookupDone, effects: &mut Vec<Effect>) {
        let found = match done.entry {
            Some(entry) => Found::Entry(entry),
            None if done.bad.is_empty() => Found::Absent,
            None => Found::Unreadable,
        };
        let task = self.tasks.get(&done.read).expect("kept until looked up");
        self.lane_jobs[lane_index(task.lane)] -= 1;
        self.found(done.read, found, effects);
    }

    fn found(&mut self, id: u64, found: Found, effects: &mut Vec<Effect>) {
        self.tasks.get_mut(&id).expect("looked for once").found = Some(found);
        self.finish(id, effects);
    }

    /// Answers a request whose look-up has ended and whose fence is durable.
    fn finish(&mut self, id: u64, effects: &mut Vec<Effect>) {
        let task = self.tasks.get_mut(&id).expect("checked by the caller");
        if task.fence.is_some() {
            return;
        }
        let Some(found) = task.found.take() else {
            return;
        };
        match self.take_task(id).expect("just seen") {
            Purpose::Add { token, add } => {
                let held = match found {
                    Found::Entry(entry) => Held::Durable(fingerprint(&entry)),
                    Found::Absent => Held::Absent,
                    Found::Unreadable => Held::Unreadable,
                };
                self.add_looked_up(token, add, held, effects);
            }
            Purpose::Read { token, read } => {
                // Gone or come since the look-up began: the same word as from now on.
                let found = match (self.gone(read.ledger), found) {
                    (Some(_), _) => Found::Absent,
                    (None, Found::Absent) => self.come_since(key(read.ledger, read.entry)),
                    (None, found) => found,
                };
                let result = match found {
                    Found::Entry(entry) => ReadResult::Found {
                        entry,
                        lac: self.acceptor.lac(read.ledger),
                    },
                    Found::Absent => match self.missing(read.ledger, read.created) {
                        Missing::NeverHad => ReadResult::NeverHad,
                        Missing::Unknown => ReadResult::Unknown,
                    },
                    Found::Unreadable => ReadResult::Unknown,
                };
                effects.push(reply(token, Answer::Read(result)));
            }
            Purpose::Lac { token, ask } => {
                let answer = self.acceptor.lac_answer(ask.ledger);
                effects.push(reply(token, Answer::ReadLac(answer)));
            }
            Purpose::Run(_) | Purpose::Holdings(_) => {
                unreachable!("runs are not looked up entry by entry")
            }
        }
    }

    /// What of an entry that was nowhere has come while it was looked for: it may have been acked by now, and who stored it never says
    /// that it never had it.
    fn come_since(&self, key: Key) -> Found {
        let come = self.tables.in_memory(key);
        come.map_or(Found::Absent, |entry| Found::Entry(entry.clone()))
    }

    /// What to say of an entry that is nowhere. The index is intact but for ledgers that were given up: whatever was
    /// damaged when the bookie opened made it born again, and a block found bad since then is `Unreadable`.
    pub(super) fn missing(&self, ledger: LedgerId, created: Revision) -> Missing {
        let is_known = !self.was_given_up(ledger);
        self.acceptor.absent(ledger, created, is_known)
    }
}

/// The key of an entry of a run.
pub(super) const fn key(ledger: LedgerId, entry: EntryId) -> Key {
    Key { ledger, entry }
}
