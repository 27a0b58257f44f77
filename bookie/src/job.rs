//! Disk work as values: made by the engine, run by a worker, handed back as an event.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::disk::Disk;

use crate::files::{remove_if_there, replace};
use crate::journal::jobs::{FrameJob, PrepareJob, Prepared};
use crate::manifest::{self, Manifest};
use crate::store::file::DataFile;
use crate::store::lookup::{
    AheadJob, ListDone, ListJob, LookupDone, LookupJob, RangeDone, RangeJob, ScrubDone, ScrubJob,
};
use crate::store::memtable::Memtable;
use crate::store::merge::{MergeJob, Merged};
use crate::store::writer::{Make, write_table};

/// A queue of jobs, run in order, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Worker {
    /// Frames of the journal.
    Journal,
    /// Data files, MANIFEST, new journal files.
    Store,
    /// Reads, one queue for each kind so that none starves another.
    Read(Lane),
    /// What runs will come to next. Nobody waits for it.
    Ahead,
}

impl Worker {
    /// Every worker there is.
    pub const ALL: [Self; 6] = [
        Self::Journal,
        Self::Store,
        Self::Read(Lane::Tail),
        Self::Read(Lane::CatchUp),
        Self::Read(Lane::Recovery),
        Self::Ahead,
    ];

    /// What its thread is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Store => "store",
            Self::Read(Lane::Tail) => "read-tail",
            Self::Read(Lane::CatchUp) => "read-run",
            Self::Read(Lane::Recovery) => "read-fence",
            Self::Ahead => "read-ahead",
        }
    }
}

/// A kind of read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Single entries for readers.
    Tail,
    /// Runs, and what reads files through.
    CatchUp,
    /// Fencing reads, and the look-ups of adds.
    Recovery,
}

/// One piece of blocking disk work. Whatever its end, hand the [`JobDone`] back to the engine that made it.
#[derive(Debug)]
pub struct Job(pub(crate) Work);

/// How a job ended.
#[derive(Debug)]
pub struct JobDone(pub(crate) Done);

#[derive(Debug)]
pub(crate) enum Work {
    Frame(FrameJob),
    Prepare(PrepareJob),
    Flush {
        make: Make,
        number: u64,
        table: Arc<Memtable>,
    },
    Merge(Box<MergeJob>),
    Manifest {
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        manifest: Box<Manifest>,
    },
    Remove {
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        paths: Vec<PathBuf>,
    },
    Space {
        disk: Arc<dyn Disk>,
        dirs: [PathBuf; 2],
    },
    Lookup(LookupJob),
    Range(RangeJob),
    Ahead(AheadJob),
    List(ListJob),
    Scrub(ScrubJob),
}

#[derive(Debug)]
pub(crate) enum Done {
    Frame(io::Result<()>),
    Prepare(io::Result<Prepared>),
    Flush(io::Result<DataFile>),
    Merge(io::Result<Merged>),
    Manifest(io::Result<()>),
    Remove(io::Result<()>),
    /// The least free bytes of either directory.
    Space(io::Result<u64>),
    Lookup(LookupDone),
    Range(RangeDone),
    Ahead,
    List(ListDone),
    Scrub(ScrubDone),
}

impl Job {
    /// Does the work, blocking.
    #[must_use]
    pub fn run(self) -> JobDone {
        JobDone(match self.0 {
            Work::Frame(job) => Done::Frame(job.run()),
            Work::Prepare(job) => Done::Prepare(job.run()),
            Work::Flush {
                make,
                number,
                table,
            } => Done::Flush(write_table(&make, number, &table)),
            Work::Merge(job) => Done::Merge(job.run()),
            Work::Manifest {
                disk,
                dir,
                manifest,
            } => Done::Manifest(replace(&*disk, &dir, manifest::FILE, &manifest.encode())),
            Work::Remove { disk, dir, paths } => Done::Remove(remove(&*disk, &dir, &paths)),
            Work::Space { disk, dirs } => Done::Space(space(&*disk, &dirs)),
            Work::Lookup(job) => Done::Lookup(job.run()),
            Work::Range(job) => Done::Range(job.run()),
            Work::Ahead(job) => {
                job.run();
                Done::Ahead
            }
            Work::List(job) => Done::List(job.run()),
            Work::Scrub(job) => Done::Scrub(job.run()),
        })
    }

    /// What it does, in one word, for logs and traces.
    pub const fn name(&self) -> &'static str {
        match &self.0 {
            Work::Frame(_) => "frame",
            Work::Prepare(_) => "prepare",
            Work::Flush { .. } => "flush",
            Work::Merge(_) => "merge",
            Work::Manifest { .. } => "manifest",
            Work::Remove { .. } => "remove",
            Work::Space { .. } => "space",
            Work::Lookup(_) => "lookup",
            Work::Range(_) => "range",
            Work::Ahead(_) => "ahead",
            Work::List(_) => "list",
            Work::Scrub(_) => "scrub",
        }
    }
}

impl JobDone {
    /// The error it ended with, for logs and traces. Reads have none: what cannot be read is answered `Unknown`.
    pub fn error(&self) -> Option<&io::Error> {
        match &self.0 {
            Done::Frame(end) | Done::Manifest(end) | Done::Remove(end) => end.as_ref().err(),
            Done::Prepare(end) => end.as_ref().err(),
            Done::Flush(end) => end.as_ref().err(),
            Done::Merge(end) => end.as_ref().err(),
            Done::Space(end) => end.as_ref().err(),
            Done::Lookup(_) | Done::Range(_) | Done::Ahead | Done::List(_) | Done::Scrub(_) => None,
        }
    }
}

fn remove(disk: &dyn Disk, dir: &Path, paths: &[PathBuf]) -> io::Result<()> {
    for path in paths {
        remove_if_there(disk, path)?;
    }
    disk.sync_dir(dir)
}

fn space(disk: &dyn Disk, dirs: &[PathBuf; 2]) -> io::Result<u64> {
    let [journal, data] = dirs;
    Ok(disk
        .space(journal)?
        .free_bytes
        .min(disk.space(data)?.free_bytes))
}
