//! What can go wrong with a simulated disk.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    /// [`Disk::open`](crate::disk::Disk::open).
    Open,
    /// Reading bytes, a length, names, space.
    Read,
    /// [`File::write_at`](crate::disk::File::write_at).
    Write,
    /// [`File::set_len`](crate::disk::File::set_len).
    SetLen,
    /// [`File::sync_data`](crate::disk::File::sync_data).
    Sync,
    /// Changing names: rename, remove, making a directory.
    Name,
    /// [`Disk::sync_dir`](crate::disk::Disk::sync_dir).
    SyncDir,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// An input/output error (EIO). Of a write, some sectors may have been taken; after a sync, each unsynced sector
    /// is on the disk or never will be, and later syncs succeed and make nothing of it durable.
    Io,
    /// The disk is full (ENOSPC); nothing was done.
    Full,
    /// Power fails during the call: its change is unsynced or partly so, it and every later call err until power is
    /// back.
    PowerCut,
    /// Power fails after the call took effect, but its answer is lost.
    PowerCutAfter,
}

/// How often calls fail by chance, in a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultRates {
    /// Reads that fail with EIO.
    pub read_per_million: u32,
    /// Writes, and changes of length and names, that fail with EIO.
    pub write_per_million: u32,
    /// Syncs of files and directories that fail with EIO.
    pub sync_per_million: u32,
}

/// How long calls take in simulated time. The default takes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// Every call.
    pub per_op: Duration,
    /// More for each MiB read or written.
    pub per_mib: Duration,
    /// More for each sync.
    pub per_sync: Duration,
    /// Up to so much more, by chance, for each call.
    pub jitter_max: Duration,
}

/// One call, as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpRecord {
    /// Its number.
    pub op: u64,
    /// Its kind.
    pub kind: OpKind,
    /// What it was about.
    pub path: PathBuf,
    /// Offset of a read or write, new length of a change of length.
    pub offset: u64,
    /// Bytes read or written.
    pub len: usize,
    /// Whether it succeeded.
    pub is_ok: bool,
}

/// What every call answers while power is off, and what files opened before a crash answer for ever.
#[derive(Debug)]
pub(super) struct PowerLoss;

impl fmt::Display for PowerLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("power lost")
    }
}

impl std::error::Error for PowerLoss {}

/// Whether an error says that simulated power was lost.
pub fn is_power_loss(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<PowerLoss>())
}
