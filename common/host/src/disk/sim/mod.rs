//! A disk in memory that fails as disks do, from a seed.

mod fault;

pub use fault::{Fault, FaultRates, Latency, OpKind, OpRecord, is_power_loss};

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, File, OpenMode, Space, WorkerMode};
use crate::rng::Rng;

/// A disk in memory. Clones are the same disk; it outlives the node that uses it.
#[derive(Debug, Clone)]
pub struct SimDisk {}

/// A directory with all below it, copied out: what an administrator's copy holds.
#[derive(Debug, Clone)]
pub struct DirImage {}

/// The whole disk at one moment, durable and not: cheap to take, and the source of every state a power loss at
/// that moment may leave.
#[derive(Debug, Clone)]
pub struct Snapshot {}

/// One thing whose fate a power loss decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsynced {
    /// One unsynced version of one sector of a file.
    Sector {
        /// A name of the file.
        path: PathBuf,
        /// Which sector of 512 bytes.
        sector: u64,
        /// Which unsynced version of it, from 0, older first.
        version: usize,
    },
    /// One unsynced change of a file's length.
    Length {
        /// A name of the file.
        path: PathBuf,
        /// The new length.
        len: u64,
    },
    /// One unsynced change of names.
    Name {
        /// The name that appeared or went.
        path: PathBuf,
    },
}

/// What becomes of it. A later version of the same sector, length or name that is kept covers the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It reached the disk.
    Kept,
    /// It did not.
    Lost,
    /// The first so many bytes of the sector reached the disk.
    Torn(usize),
}

impl SimDisk {
    /// An empty disk without limit; faults and power losses draw from the seed.
    pub fn new(_seed: u64) -> Self {
        todo!()
    }

    // Power.

    /// Power fails now and comes back: each unsynced sector is kept, lost or torn, each unsynced change of names kept or
    /// lost; files open before answer errors for ever.
    pub fn crash(&self, _rng: &Rng) {
        todo!()
    }
    /// The process dies and the machine stays up: everything written is still seen, and what was not synced may still be lost
    /// by a later power loss. Files open before answer errors for ever.
    pub fn crash_process(&self) {
        todo!()
    }
    /// Power fails now: every call errs until [`SimDisk::restart`] or [`SimDisk::crash`].
    pub fn cut_power(&self) {
        todo!()
    }
    /// Power comes back after a cut: [`SimDisk::crash`] from the disk's own seed.
    pub fn restart(&self) {
        todo!()
    }
    /// Whether power was cut and has not come back.
    pub fn is_off(&self) -> bool {
        todo!()
    }

    // Faults.

    /// Calls made so far. The next has this number plus one.
    pub fn ops(&self) -> u64 {
        todo!()
    }
    /// Lets the call with this number fail (counted from 1 over the life of the disk).
    pub fn fail_at(&self, _op: u64, _fault: Fault) {
        todo!()
    }
    /// Lets the next call of a kind fail.
    pub fn fail_next(&self, _kind: OpKind, _fault: Fault) {
        todo!()
    }
    /// Sets how often calls fail by chance.
    pub fn set_fault_rates(&self, _rates: FaultRates) {
        todo!()
    }
    /// Ends all faults to come: those at numbers, those by chance, read-only.
    pub fn heal(&self) {
        todo!()
    }
    /// Makes every change err (`ReadOnlyFilesystem`), or ends that.
    pub fn set_read_only(&self, _is_read_only: bool) {
        todo!()
    }
    /// Sets the size of the disk; `None` for no limit.
    pub fn set_capacity(&self, _bytes: Option<u64>) {
        todo!()
    }
    /// Sets how long calls take in simulated time.
    pub fn set_latency(&self, _latency: Latency) {
        todo!()
    }

    // Damage from outside. These count as no calls, need no power, and are durable.

    /// Flips one bit of a file on the medium (bit 0 is the lowest of the first byte).
    ///
    /// # Errors
    ///
    /// `NotFound`, `UnexpectedEof` when the file is shorter.
    pub fn flip(&self, _path: &Path, _bit: u64) -> io::Result<()> {
        todo!()
    }
    /// Removes everything in a directory (not the directory).
    pub fn wipe(&self, _dir: &Path) {
        todo!()
    }
    /// Copies a directory out, as it is seen now.
    pub fn copy_out(&self, _dir: &Path) -> DirImage {
        todo!()
    }
    /// Replaces a directory by what was copied out, from there or elsewhere.
    pub fn put_back(&self, _dir: &Path, _image: &DirImage) {
        todo!()
    }
    /// Bytes of a file as seen now.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn contents(&self, _path: &Path) -> io::Result<Vec<u8>> {
        todo!()
    }
    /// Replaces a file's bytes, durably.
    pub fn put(&self, _path: &Path, _bytes: &[u8]) {
        todo!()
    }
    /// Every file, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        todo!()
    }

    // Watching.

    /// Keeps a record of each call from now on, or ends that.
    pub fn record(&self, _is_on: bool) {
        todo!()
    }
    /// Takes the record.
    pub fn take_record(&self) -> Vec<OpRecord> {
        todo!()
    }
    /// A number that differs when names, bytes or what is unsynced differ: same seed, same number.
    pub fn digest(&self) -> u64 {
        todo!()
    }
    /// The disk at this moment.
    pub fn snapshot(&self) -> Snapshot {
        todo!()
    }
}

impl Snapshot {
    /// A new disk in the state that a power loss leaves when fate decides so.
    pub fn materialize(&self, _decide: &mut dyn FnMut(&Unsynced) -> Fate) -> SimDisk {
        todo!()
    }
    /// A new disk in one legal state after a power loss at that moment.
    pub fn sample(&self, _rng: &Rng) -> SimDisk {
        todo!()
    }
    /// What has not been synced, in the order in which fates are asked.
    pub fn unsynced(&self) -> Vec<Unsynced> {
        todo!()
    }
}

impl Disk for SimDisk {
    fn open(&self, _path: &Path, _mode: OpenMode) -> io::Result<Arc<dyn File>> {
        todo!()
    }
    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        todo!()
    }
    fn list(&self, _path: &Path) -> io::Result<Vec<PathBuf>> {
        todo!()
    }
    fn exists(&self, _path: &Path) -> io::Result<bool> {
        todo!()
    }
    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        todo!()
    }
    fn remove(&self, _path: &Path) -> io::Result<()> {
        todo!()
    }
    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        todo!()
    }
    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        todo!()
    }
    fn space(&self, _path: &Path) -> io::Result<Space> {
        todo!()
    }
    fn worker_mode(&self) -> WorkerMode {
        WorkerMode::Inline
    }
}
