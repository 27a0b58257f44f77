//! Disk work as values: made by the engine, run by a worker, handed back as an event.

/// A queue of jobs, run in order, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Worker {
    /// Frames of the journal.
    Journal,
    /// Data files, MANIFEST, new journal files.
    Store,
    /// Reads, one queue for each kind so that none starves another.
    Read(Lane),
}

impl Worker {
    /// Every worker there is.
    pub const ALL: [Self; 5] = [
        Self::Journal,
        Self::Store,
        Self::Read(Lane::Tail),
        Self::Read(Lane::CatchUp),
        Self::Read(Lane::Recovery),
    ];
}

/// A kind of read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Single entries for readers.
    Tail,
    /// Runs.
    CatchUp,
    /// Fencing reads, and the look-ups of adds.
    Recovery,
}

/// One piece of blocking disk work.
#[derive(Debug)]
pub struct Job(());

/// How a job ended.
#[derive(Debug)]
pub struct JobDone(());

impl Job {
    /// Does the work, blocking.
    #[must_use]
    pub fn run(self) -> JobDone {
        JobDone(())
    }
}
