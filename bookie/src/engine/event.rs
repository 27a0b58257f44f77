//! What goes into the engine and what comes out.

use std::sync::Arc;

use types::storage::{
    Add, AddResult, LacResult, Read, ReadLac, ReadResult, ReadRun, RunItem, SetLac,
};
use types::{EntryId, LedgerId};

use crate::job::{Job, JobDone, Worker};
use crate::store::memtable::Memtable;

use super::Reclaim;

/// The caller's own number for a request, returned with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A request and the number it is answered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Returned with the answer.
    pub token: Token,
    /// What is asked.
    pub ask: Ask,
}

/// What a bookie is asked. The caller has checked the target, the shape and the entry's checksum
/// ([`types::storage::Entry::is_intact`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Store an entry.
    Add(Add),
    /// Give one entry, fencing first where asked.
    Read(Read),
    /// Tell the LAC, fencing first where asked.
    ReadLac(ReadLac),
    /// Take note of a LAC. Not answered.
    SetLac(SetLac),
    /// Give a run of entries.
    ReadRun(ReadRun),
    /// Tell which entries of a closed ledger are not here.
    Holdings(Holdings),
    /// Read a part of the data files and verify it.
    Scrub(Scrub),
}

/// Where in the data files a scrub goes on, from front to back. The bookie asks it of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scrub {
    /// The file's number; where it is gone, the next one is meant.
    pub file: u64,
    /// The place of a block in it.
    pub block: usize,
}

/// The answer to [`Scrub`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScrubResult {
    /// Some blocks were read; what is damaged was told by [`Alarm::DamagedBlock`].
    Passed {
        /// Their bytes.
        bytes: u64,
        /// Where to go on; none behind the last file.
        next: Option<Scrub>,
    },
    /// The budget for reads is full. Try again later.
    Busy,
}

/// A question for what is missing of a closed ledger. The bookie asks it of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    /// The ledger.
    pub ledger: LedgerId,
    /// Its last entry.
    pub last: EntryId,
}

/// The answer to [`Holdings`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldingsResult {
    /// The runs of entries, from the first id to the last, that are not here or not durable. None: the copy is whole.
    /// Where there are very many, the first of them.
    Missing(Vec<(EntryId, EntryId)>),
    /// The budget for reads is full. Try again later.
    Busy,
}

/// The answer to an [`Ask`] of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Ask::Add`].
    Add(AddResult),
    /// To [`Ask::Read`].
    Read(ReadResult),
    /// To [`Ask::ReadLac`].
    ReadLac(LacResult),
    /// To [`Ask::ReadRun`]: the whole run, at most `max_bytes` of payloads.
    ReadRun(Vec<RunItem>),
    /// To [`Ask::Holdings`].
    Holdings(HoldingsResult),
    /// To [`Ask::Scrub`].
    Scrub(ScrubResult),
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// Requests that came, all there are: what one wake-up brings shares a frame.
    Requests(Vec<Request>),
    /// Meta's word about what may go. From the bookie's own shell, never from the network.
    Reclaim(Reclaim),
    /// A job ended.
    Done(JobDone),
    /// The time of [`super::Engine::deadline`] has come.
    Deadline,
    /// The node stops: the journal is drained and closed with an end frame, then [`Effect::Stopped`].
    Stop,
}

/// Something to do.
#[derive(Debug)]
pub enum Effect {
    /// Answer a request.
    Reply {
        /// The request.
        token: Token,
        /// The answer.
        answer: Answer,
    },
    /// Run a job on its worker, after all earlier ones of the same worker; its end comes back as [`Event::Done`].
    Run {
        /// Where.
        worker: Worker,
        /// What.
        job: Job,
    },
    /// Let go of memory that nobody needs any more, away from whoever handles events: it takes milliseconds.
    Forget(Forgotten),
    /// The journal went on to another file: tell meta this mark.
    MarkMoved(u64),
    /// The bookie takes writes, or no longer does: tell meta.
    Standing(Standing),
    /// Entries differ where they must not: raise the alarm.
    Alarm(Alarm),
    /// A write or a sync failed. The process must stop at once; the engine does nothing more.
    Fatal(String),
    /// The journal is closed. The engine does nothing more.
    Stopped,
}

/// A memtable whose entries are in a data file. To drop it is all that is to be done with it.
#[derive(Debug)]
pub struct Forgotten {
    /// Held, never read.
    pub(super) _table: Arc<Memtable>,
}

/// Whether a bookie takes the writes of writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It does.
    ReadWrite,
    /// It does not: a disk is nearly full. Reads, fences and recovery go on.
    ReadOnly,
}

/// Something that must never happen did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// A second payload came for an entry.
    Mismatch {
        /// The ledger.
        ledger: LedgerId,
        /// The entry.
        entry: EntryId,
    },
    /// A block of a data file fails its checksum or cannot be read; its entries are answered `Unknown`.
    DamagedBlock {
        /// The data file's number.
        file: u64,
        /// The block's offset in bytes.
        offset: u64,
        /// The ledgers that have entries in it and are still needed.
        ledgers: Vec<LedgerId>,
    },
}

/// Numbers for metrics and for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Bytes of entries that wait for the journal.
    pub waiting_bytes: u64,
    /// Bytes of entries in memory.
    pub memory_bytes: u64,
    /// Bytes of data files.
    pub data_bytes: u64,
    /// Of those, the bytes of what is live.
    pub live_bytes: u64,
    /// Of those, the bytes that are to go or may be made to: trimmed, deleted, moved away.
    pub reclaimable_bytes: u64,
    /// Data files.
    pub data_files: u64,
    /// Data files that went because nothing in them was live, since the start.
    pub files_dropped: u64,
    /// Data files that were rewritten because little in them was live, since the start.
    pub files_rewritten: u64,
    /// Journal files.
    pub journal_files: u64,
    /// The last frame known durable.
    pub durable_frame: u64,
    /// The checkpoint mark: frames below it are in data files.
    pub mark: u64,
    /// Frames written since the start, idle ones included.
    pub frames: u64,
    /// Records written since the start.
    pub records: u64,
    /// Least free bytes of either disk, as last looked at.
    pub free_bytes: u64,
    /// Reads of a block or a piece that found it in memory, since the start.
    pub cache_hits: u64,
    /// Reads of a block or a piece that had to get it from the disk, since the start.
    pub cache_misses: u64,
}
