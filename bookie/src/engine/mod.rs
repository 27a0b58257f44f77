//! The storage engine: a machine without clock, thread or channel.
//!
//! It promises what `bookie/DESIGN.md` lists: an add is answered `Stored` only when the journal has synced it; a
//! fencing request is answered only when its fence is durable, and looks only after it took effect; what cannot be
//! read is `Unknown`. It holds the memtables, the index and the journal; what may be written and what is fenced is
//! decided by [`ledger::Acceptor`].

mod adds;
mod event;
mod holdings;
mod merge;
mod reads;
mod reclaim;
mod runs;
mod scrub;
mod space;
mod spans;
mod tables;
mod upkeep;
mod usage;

pub use event::{
    Alarm, Answer, Ask, Effect, Event, Forgotten, Holdings, HoldingsResult, Request, Scrub,
    ScrubResult, Standing, Stats, Token,
};
pub use reclaim::Reclaim;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host::disk::Disk;
use types::{BookieId, Epoch, Incarnation, LogId, MonoTime};

use ledger::Acceptor;

use crate::Config;
use crate::codec::wide;
use crate::job::{Done, Job, Lane, Work, Worker};
use crate::journal::core::{Durable, JournalCore};
use crate::journal::format::FrameKind;
use crate::store::cache::BlockCache;
use crate::store::file::Stride;
use crate::store::format::Key;
use crate::store::writer::Make;

use adds::PendingAdd;
use reads::Task;
use reclaim::GivenUp;
use tables::Tables;
use upkeep::Upkeep;
pub(crate) use upkeep::file_uuid;
pub use usage::Usage;

/// Which bookie this is, for what it writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose {
    pub(crate) id: BookieId,
    pub(crate) incarnation: Incarnation,
    /// Random bits of this start.
    pub(crate) entropy: u128,
}

/// So many frames with entries within this time are of somebody who stores messages one after another.
const STORING: Duration = Duration::from_millis(20);
const STORING_FRAMES: usize = 4;

/// What opening hands over.
pub(crate) struct Opened {
    pub(crate) config: Config,
    pub(crate) whose: Whose,
    pub(crate) make: Make,
    pub(crate) acceptor: Acceptor,
    pub(crate) journal: JournalCore,
    pub(crate) active: crate::store::memtable::Memtable,
    pub(crate) files: BTreeMap<u64, Arc<crate::store::file::DataFile>>,
    pub(crate) next_file: u64,
    pub(crate) mark: u64,
    /// Used journal files: free to be used again.
    pub(crate) spares: Vec<(PathBuf, u64)>,
    pub(crate) free_bytes: u64,
    /// Both directories, held as long as the engine lives.
    pub(crate) locks: Vec<Box<dyn Send + Sync>>,
}

/// The storage engine.
pub struct Engine {
    config: Config,
    whose: Whose,
    disk: Arc<dyn Disk>,
    make: Make,
    acceptor: Acceptor,
    journal: JournalCore,
    tables: Tables,
    cache: BlockCache,
    /// Adds that reads can see and the journal has not synced.
    pending: BTreeMap<Key, PendingAdd>,
    /// Bytes of those, and of adds whose place is being looked at.
    waiting_bytes: u64,
    /// Requests under way.
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    /// Requests that wait for a fence to be durable.
    fenced: BTreeMap<LogId, Vec<(Epoch, u64)>>,
    lane_bytes: [u64; 3],
    /// Jobs with each lane's worker.
    lane_jobs: [usize; 3],
    /// Pieces that are being read before they are asked for.
    ahead_jobs: usize,
    given_up: GivenUp,
    upkeep: Upkeep,
    /// The time of the event that is being handled.
    now: MonoTime,
    /// When the last frames with entries began, the oldest one first.
    stored_at: [Option<MonoTime>; STORING_FRAMES],
    is_stopping: bool,
    is_over: bool,
    /// Held, never read.
    _locks: Vec<Box<dyn Send + Sync>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("whose", &self.whose)
            .field("journal", &self.journal)
            .field("upkeep", &self.upkeep)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn new(opened: Opened, now: MonoTime) -> Self {
        let upkeep = Upkeep::new(&opened, now);
        let mut engine = Self {
            cache: BlockCache::new(opened.config.cache),
            config: opened.config,
            whose: opened.whose,
            disk: Arc::clone(&opened.make.disk),
            make: opened.make,
            acceptor: opened.acceptor,
            journal: opened.journal,
            tables: Tables {
                active: opened.active,
                flushing: None,
                live: BTreeMap::new(),
                files: opened.files,
                next_file: opened.next_file,
            },
            pending: BTreeMap::new(),
            waiting_bytes: 0,
            tasks: BTreeMap::new(),
            next_task: 0,
            fenced: BTreeMap::new(),
            lane_bytes: [0; 3],
            lane_jobs: [0; 3],
            ahead_jobs: 0,
            given_up: GivenUp::default(),
            upkeep,
            now,
            stored_at: [None; STORING_FRAMES],
            is_stopping: false,
            is_over: false,
            _locks: opened.locks,
        };
        // What is gone by the MANIFEST's word is not live, and goes as soon as the engine works.
        engine.count_live(|_| true);
        engine
    }

    /// Takes one event in, and puts what is to be done behind what `effects` holds.
    ///
    /// After [`Effect::Fatal`] or [`Effect::Stopped`] every event is ignored: jobs still under way end unheard.
    ///
    /// # Panics
    ///
    /// When a request breaks the limits that the caller checks, or the end of a job that was never started comes.
    pub fn handle(&mut self, now: MonoTime, event: Event, effects: &mut Vec<Effect>) {
        if self.is_over {
            return;
        }
        self.now = now;
        match event {
            Event::Requests(requests) => {
                for request in requests {
                    self.request(request, effects);
                }
            }
            Event::Reclaim(word) => self.reclaim(word),
            Event::Done(done) => self.done(now, done.0, effects),
            Event::Deadline => {} // What is due is found below.
            Event::Stop => {
                self.is_stopping = true;
                self.journal.end();
            }
        }
        if !self.is_over {
            self.start_frame(now, effects);
            self.upkeep(now, effects);
        }
    }

    /// When to call again with [`Event::Deadline`].
    pub fn deadline(&self) -> Option<MonoTime> {
        if self.is_over {
            return None;
        }
        let upkeep = self.upkeep.deadline();
        self.journal.idle_at().into_iter().chain(upkeep).min()
    }

    /// Whether it takes the writes of writers.
    pub const fn standing(&self) -> Standing {
        self.upkeep.standing
    }

    /// The last frame known durable: what meta is told.
    pub const fn mark(&self) -> u64 {
        self.journal.durable()
    }

    /// Whether it stopped, cleanly or not, and ignores everything.
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// The rules and facts it answers by, for observers.
    pub const fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    /// Numbers for metrics and for people.
    pub fn stats(&self) -> Stats {
        let files = self.tables.files.values();
        let data_bytes = files.map(|file| file.listed().length).sum();
        let live_bytes = self.tables.live.values().sum();
        Stats {
            waiting_bytes: self.waiting_bytes,
            memory_bytes: self.tables.memory_bytes(),
            data_bytes,
            live_bytes,
            reclaimable_bytes: data_bytes - live_bytes,
            files_dropped: self.upkeep.files_dropped,
            files_rewritten: self.upkeep.files_rewritten,
            data_files: wide(self.tables.files.len()),
            journal_files: wide(self.journal.files_in_use()),
            durable_frame: self.journal.durable(),
            mark: self.upkeep.mark,
            frames: self.journal.frames,
            records: self.journal.records,
            free_bytes: self.upkeep.free_bytes,
            cache_hits: self.cache.hits(),
            cache_misses: self.cache.misses(),
        }
    }

    fn request(&mut self, request: Request, effects: &mut Vec<Effect>) {
        let Request { token, ask } = request;
        match ask {
            Ask::Add(add) => self.add(token, add, effects),
            Ask::Read(read) => self.read(token, read, effects),
            Ask::ReadLac(ask) => self.read_lac(token, ask, effects),
            Ask::SetLac(set) => self.acceptor.set_lac(&set),
            Ask::ReadRun(ask) => self.read_run(token, ask, effects),
            Ask::Holdings(ask) => self.holdings(token, ask, effects),
            Ask::Scrub(ask) => self.scrub(token, ask, effects),
        }
    }

    fn done(&mut self, now: MonoTime, done: Done, effects: &mut Vec<Effect>) {
        match done {
            Done::Frame(Ok(())) => self.frame_synced(now, effects),
            // What is on the disk is not known any more (I21): no answer, no second try.
            Done::Frame(Err(error)) => self.fatal("journal frame", &error, effects),
            Done::Lookup(done) => {
                self.note_bad(&done.bad, effects);
                self.looked_up(done, effects);
            }
            Done::Ahead => self.ahead_jobs -= 1,
            Done::Range(done) => {
                self.note_bad(&done.bad, effects);
                self.range_read(done, effects);
            }
            Done::List(done) => {
                self.note_bad(&done.bad, effects);
                self.listed(done, effects);
            }
            Done::Scrub(done) => {
                self.note_bad(&done.bad, effects);
                self.scrubbed(&done, effects);
            }
            Done::Flush(end) => self.flushed(now, end, effects),
            Done::Manifest(end) => self.manifest_written(now, end, effects),
            Done::Prepare(end) => self.prepared(now, end, effects),
            Done::Merge(end) => self.merged(now, end, effects),
            Done::Remove(end) => self.removed(end.is_ok()),
            Done::Space(end) => self.space_known(now, end.ok(), effects),
        }
    }

    fn start_frame(&mut self, now: MonoTime, effects: &mut Vec<Effect>) {
        if let Some(job) = self.journal.start(now) {
            if !self.pending.is_empty() {
                self.stored_at.rotate_left(1);
                self.stored_at[STORING_FRAMES - 1] = Some(now);
            }
            effects.push(run(Worker::Journal, Work::Frame(job)));
        } else if self.is_stopping && self.journal.is_stalled() && self.upkeep.is_full {
            // The disk is full and there is no file to go on in: what waits was never answered.
            self.over(Effect::Stopped, effects);
        }
    }

    /// How reads go while messages are stored one after another, and otherwise. A frame now and then, as of a consumer's acks,
    /// is no reason to read slowly; records that wait for a disk that takes long are.
    fn stride(&self) -> Stride {
        let oldest = self.stored_at[0];
        let is_storing = oldest.is_some_and(|at| self.now.since(at) < STORING);
        if is_storing || self.journal.is_behind() {
            Stride::Short
        } else {
            Stride::Whole
        }
    }

    fn frame_synced(&mut self, now: MonoTime, effects: &mut Vec<Effect>) {
        let synced = self.journal.synced(now);
        for durable in synced.durable {
            match durable {
                Durable::Add(ledger, entry) => self.add_durable(Key { ledger, entry }, effects),
                Durable::Fence(log, epoch) => self.fence_durable(log, epoch, effects),
            }
        }
        if let Some(mark) = synced.moved {
            effects.push(Effect::MarkMoved(mark));
        }
        if synced.kind == FrameKind::End {
            self.over(Effect::Stopped, effects);
        }
    }

    fn fatal(&mut self, what: &str, error: &std::io::Error, effects: &mut Vec<Effect>) {
        self.over(Effect::Fatal(format!("{what}: {error}")), effects);
    }

    fn over(&mut self, last: Effect, effects: &mut Vec<Effect>) {
        self.is_over = true;
        effects.push(last);
    }
}

fn run(worker: Worker, work: Work) -> Effect {
    Effect::Run {
        worker,
        job: Job(work),
    }
}

const fn lane_index(lane: Lane) -> usize {
    match lane {
        Lane::Tail => 0,
        Lane::CatchUp => 1,
        Lane::Recovery => 2,
    }
}

fn reply(token: Token, answer: Answer) -> Effect {
    Effect::Reply { token, answer }
}
