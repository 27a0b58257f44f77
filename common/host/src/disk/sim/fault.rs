//! What can go wrong with a simulated disk.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::image::wide;
use crate::rng::Rng;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    /// [`Disk::open`](crate::disk::Disk::open) and [`Disk::lock`](crate::disk::Disk::lock).
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

impl OpKind {
    /// Whether a call of this kind may change what is on the disk or would survive.
    pub(super) fn is_change(self) -> bool {
        self != Self::Read
    }
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// An input/output error (EIO). Of a write, some sectors may have been taken; a change of names may have happened;
    /// after a sync, each unsynced sector is on the disk or never will be, and later syncs succeed and make nothing of
    /// it durable.
    Io,
    /// The disk is full (ENOSPC); nothing was done.
    Full,
    /// Power fails during the call: what it would have changed is unsynced, a sync has done nothing. It and every later
    /// call err until power is back.
    PowerCut,
    /// Power fails after the call took effect, but its answer is lost.
    PowerCutAfter,
    /// A write reports success and lands at another block of the file. Other calls are untouched.
    Misdirected,
}

/// How often calls fail by chance, in a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultRates {
    /// Reads and opens that fail with EIO.
    pub read_per_million: u32,
    /// Writes, and changes of length and names, that fail with EIO.
    pub write_per_million: u32,
    /// Syncs of files and directories that fail with EIO.
    pub sync_per_million: u32,
    /// Writes that land elsewhere in their file.
    pub misdirect_per_million: u32,
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

impl Latency {
    pub(super) fn of(&self, kind: OpKind, len: usize, rng: &Rng) -> Duration {
        let mut time = self.per_op;
        if !self.per_mib.is_zero() {
            let nanos = (self.per_mib.as_nanos() * u128::from(wide(len))) >> 20;
            time += Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
        if matches!(kind, OpKind::Sync | OpKind::SyncDir) {
            time += self.per_sync;
        }
        if !self.jitter_max.is_zero() {
            let most = u64::try_from(self.jitter_max.as_nanos()).unwrap_or(u64::MAX);
            time += Duration::from_nanos(rng.within(0..=most));
        }
        time
    }
}

/// Faults to come.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) at: BTreeMap<u64, Fault>,
    pub(super) next: BTreeMap<OpKind, VecDeque<Fault>>,
    pub(super) rates: FaultRates,
    pub(super) is_read_only: bool,
}

impl Faults {
    /// The fault of this call, if it has one: that of its number, of its kind, or by chance.
    pub(super) fn draw(&mut self, op: u64, kind: OpKind, rng: &Rng) -> Option<Fault> {
        if let Some(fault) = self.at.remove(&op) {
            return Some(fault);
        }
        if let Some(fault) = self.next.get_mut(&kind).and_then(VecDeque::pop_front) {
            return Some(fault);
        }
        let rate = match kind {
            OpKind::Open | OpKind::Read => self.rates.read_per_million,
            OpKind::Write | OpKind::SetLen | OpKind::Name => self.rates.write_per_million,
            OpKind::Sync | OpKind::SyncDir => self.rates.sync_per_million,
        };
        if rng.chance(rate) {
            return Some(Fault::Io);
        }
        let misdirects = kind == OpKind::Write && rng.chance(self.rates.misdirect_per_million);
        misdirects.then_some(Fault::Misdirected)
    }
}

/// One call, as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpRecord {
    /// Its number.
    pub op: u64,
    /// Its kind.
    pub kind: OpKind,
    /// What it was about; of a rename, the old name.
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
struct PowerLoss;

impl fmt::Display for PowerLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("power lost")
    }
}

impl std::error::Error for PowerLoss {}

/// Whether an error says that simulated power was lost, or that the file was opened before a crash.
pub fn is_power_loss(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<PowerLoss>())
}

pub(super) fn power_loss() -> io::Error {
    io::Error::other(PowerLoss)
}

// The numbers of Linux, so that kind and text are those of the real thing.

pub(super) fn input_output() -> io::Error {
    io::Error::from_raw_os_error(5)
}

pub(super) fn bad_handle() -> io::Error {
    io::Error::from_raw_os_error(9)
}

pub(super) fn full() -> io::Error {
    io::Error::from_raw_os_error(28)
}

pub(super) fn read_only() -> io::Error {
    io::Error::from_raw_os_error(30)
}
