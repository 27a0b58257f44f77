//! Reads a run of entries at or below the LAC or the closed end, from whichever copy is good.
//!
//! One [`Reader`] is one run. It asks one bookie, verifies what comes, goes on with the next bookie where that one
//! stops, and asks a second one when the first is slow. One good copy of each entry is enough.

use bytes::Bytes;
use types::storage::{Entry, ReadRun, RunItem};
use types::{BookieId, EntryId, LedgerId, MonoTime, Offset, Revision};

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunPlan {
    /// The ledger.
    pub ledger: LedgerId,
    /// The meta revision that created it.
    pub created: Revision,
    /// Its bookies, in the order to ask them.
    pub ensemble: Vec<BookieId>,
    /// The first entry.
    pub first: EntryId,
    /// The last entry: at or below the LAC, or the closed end.
    pub last: EntryId,
    /// Most bytes of payloads; the first entry comes whatever its size.
    pub max_bytes: u64,
    /// Only so many first bytes of each payload.
    pub payload_limit: Option<u32>,
    /// How long to wait for the next entry before a second bookie is asked.
    pub speculate_after: std::time::Duration,
    /// How long to wait before all are asked again, when none could give an entry.
    pub retry_after: std::time::Duration,
}

/// What happens to a reader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReaderEvent {
    /// Begin.
    Start,
    /// The next item of an attempt's answer.
    Item {
        /// Which attempt.
        attempt: u32,
        /// The item.
        item: RunItem,
    },
    /// An attempt's answer is over: complete, or broken off.
    Ended {
        /// Which attempt.
        attempt: u32,
    },
    /// The time that [`Reader::deadline`] named has come.
    Deadline,
}

/// What a reader wants done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReaderEffect {
    /// Ask a bookie; its items and its end come back under the attempt's number.
    Ask {
        /// The number.
        attempt: u32,
        /// Which bookie.
        bookie: BookieId,
        /// What to ask.
        run: ReadRun,
    },
    /// Nobody listens to an attempt any more.
    Cancel {
        /// The number.
        attempt: u32,
    },
    /// The next entry, verified.
    Entry(Entry),
    /// The first bytes of the next entry, verified by the bookie.
    Prefix {
        /// Which entry.
        id: EntryId,
        /// The first offset after it.
        next_offset: Offset,
        /// The first bytes of its payload.
        prefix: Bytes,
    },
    /// The run is complete: all entries came, or as many as the byte limit allows.
    Done,
    /// Every bookie answered that it does not have this entry or cannot read it. The run is over; reading it again
    /// later may help when a bookie comes back repaired.
    Lost {
        /// Which entry.
        entry: EntryId,
    },
}

/// The reading of one run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reader {
    plan: RunPlan,
}

impl Reader {
    /// A reader of one run.
    pub const fn new(plan: RunPlan) -> Self {
        Self { plan }
    }

    /// Takes an event and adds what is to be done to `effects`.
    pub fn handle(
        &mut self,
        _now: MonoTime,
        _event: ReaderEvent,
        _effects: &mut Vec<ReaderEffect>,
    ) {
    }

    /// When to call again with [`ReaderEvent::Deadline`].
    pub const fn deadline(&self) -> Option<MonoTime> {
        None
    }
}
