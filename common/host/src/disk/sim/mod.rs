//! A disk in memory that fails as disks do, from a seed.
//!
//! It holds two images of everything: what the process sees, and what would survive a power loss. Between the two
//! stand the changes that are not synced, in order. A power loss decides on each of them as file systems may:
//!
//! - Each sector of 512 bytes written since the file's last sync is kept at any of its versions, lost, or torn (a
//!   beginning of the new bytes, then the old).
//! - A file's length is that of any moment since its last sync. What was written past it is gone; where it grew and the
//!   bytes were lost, it reads as zeros.
//! - Each change of names since its directory's last sync is kept or lost. Two changes that share no name know no order;
//!   those that share one keep it. A rename happens whole or not at all; one across directories is certain when both
//!   are synced. Syncing a file does not keep its name. Directories are durable when made.
//!
//! A killed process loses nothing that was written, but what was not synced may still go with the next power loss.
//! After a sync that failed, each unsynced sector is durable or never will be, reads show it all the same, and later
//! syncs succeed: what Linux does.
//!
//! Every call has a number ([`SimDisk::ops`]), so a fault can be placed at each one in turn ([`SimDisk::fail_at`]).
//! Nothing here knows of tokio: a simulator without it may run nodes on such disks. The same seed and the same calls
//! give the same disk, to the bit.

mod chunks;
mod disk;
mod fault;
mod image;
mod inode;
mod snapshot;
mod state;
mod tree;

#[cfg(test)]
mod tests;

pub use fault::{Fault, FaultRates, Latency, OpKind, OpRecord, is_power_loss};
pub use snapshot::{CrashStates, Fate, Snapshot, Unsynced};

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::rng::Rng;
use image::Image;
use state::State;
use tree::Tree;

/// A disk in memory. Clones are the same disk; it outlives the node that uses it.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// A directory with all below it, copied out: what an administrator's copy holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirImage {
    files: Vec<(PathBuf, Image)>,
    dirs: Vec<PathBuf>,
}

impl SimDisk {
    /// An empty disk without limit; faults by chance, and power losses without a stream of their own, draw from the
    /// seed.
    pub fn new(seed: u64) -> Self {
        Self::with_tree(Tree::default(), seed)
    }

    fn with_tree(tree: Tree, seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::new(tree, seed))),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is whole before anything may panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Power.
impl SimDisk {
    /// Power fails (unless it was off already) and comes back: each unsynced sector is kept, lost or torn, each unsynced
    /// change of names kept or lost. Files opened before answer errors for ever, locks are free.
    pub fn crash(&self, rng: &Rng) {
        let mut state = self.state();
        let ops = state.tree.unsynced_ops();
        state.tree.settle(&mut snapshot::sampler(rng, &ops));
        state.restart_process();
        state.is_off = false;
    }

    /// The process dies and the machine stays up: everything written is still seen, and what was not synced may still
    /// be lost by a later power loss. Files opened before answer errors for ever, locks are free.
    ///
    /// # Panics
    ///
    /// When power is off: a new process does not bring it back.
    pub fn crash_process(&self) {
        let mut state = self.state();
        assert!(!state.is_off, "power is off, restart the disk");
        state.restart_process();
    }

    /// Power fails now: every call errs ([`is_power_loss`]) until [`SimDisk::restart`] or [`SimDisk::crash`].
    pub fn cut_power(&self) {
        self.state().is_off = true;
    }

    /// Power comes back: [`SimDisk::crash`] from the disk's own seed.
    pub fn restart(&self) {
        let rng = self.state().rng.clone();
        self.crash(&rng);
    }

    /// Whether power was cut and has not come back.
    pub fn is_off(&self) -> bool {
        self.state().is_off
    }
}

/// Faults to come.
impl SimDisk {
    /// Calls made so far. The next has this number plus one.
    pub fn ops(&self) -> u64 {
        self.state().ops
    }

    /// Lets the call with this number fail (counted from 1 over the life of the disk).
    pub fn fail_at(&self, op: u64, fault: Fault) {
        self.state().faults.at.insert(op, fault);
    }

    /// Lets the next call of a kind fail; called again, the one after it.
    pub fn fail_next(&self, kind: OpKind, fault: Fault) {
        let mut state = self.state();
        state.faults.next.entry(kind).or_default().push_back(fault);
    }

    /// Sets how often calls fail by chance.
    pub fn set_fault_rates(&self, rates: FaultRates) {
        self.state().faults.rates = rates;
    }

    /// Makes every change err (`ReadOnlyFilesystem`), or ends that.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.state().faults.is_read_only = is_read_only;
    }

    /// Ends all faults to come: those at numbers, the next ones, those by chance, read-only. Power, capacity and latency
    /// stay.
    pub fn heal(&self) {
        self.state().faults = fault::Faults::default();
    }

    /// Sets the size of the disk; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Sets how long calls take in simulated time.
    pub fn set_latency(&self, latency: Latency) {
        self.state().latency = latency;
    }
}

/// The hand from outside: none of this counts as a call, needs power or meets a fault, and all of it is durable.
impl SimDisk {
    /// Flips one bit of a file on the medium and in what is seen of it (bit 0 is the lowest of the first byte).
    ///
    /// # Errors
    ///
    /// `NotFound`; `UnexpectedEof` when the file is shorter.
    pub fn flip(&self, path: &Path, bit: u64) -> io::Result<()> {
        let mut state = self.state();
        let id = state.tree.find(path)?;
        let inode = state.tree.inode_mut(id);
        // The medium may be shorter than what is seen while the length is not synced.
        inode.durable.flip(bit);
        if inode.live.flip(bit) {
            return Ok(());
        }
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// Removes everything in a directory, not the directory.
    pub fn wipe(&self, dir: &Path) {
        let mut state = self.state();
        state.tree.wipe(dir);
        state.forget_nameless();
    }

    /// Copies a directory out, as it is seen now.
    pub fn copy_out(&self, dir: &Path) -> DirImage {
        let state = self.state();
        let within = |path: &PathBuf| {
            let below = path.strip_prefix(dir).ok()?;
            (!below.as_os_str().is_empty()).then(|| below.to_owned())
        };
        let files = state.tree.live.iter();
        DirImage {
            files: files
                .filter_map(|(path, id)| Some((within(path)?, state.tree.inode(*id).live.clone())))
                .collect(),
            dirs: state.tree.dirs.iter().filter_map(within).collect(),
        }
    }

    /// Replaces what is in a directory by what was copied out, from there or elsewhere.
    pub fn put_back(&self, dir: &Path, image: &DirImage) {
        self.wipe(dir);
        let mut state = self.state();
        state.tree.make_dirs(dir);
        for below in &image.dirs {
            state.tree.make_dirs(&dir.join(below));
        }
        for (below, bytes) in &image.files {
            state.tree.put(&dir.join(below), bytes.clone());
        }
    }

    /// Puts a file with these bytes in place, durably, with the directories above it.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut image = Image::default();
        image.write(0, bytes);
        let mut state = self.state();
        state.tree.put(path, image);
        state.forget_nameless();
    }

    /// Bytes of a file as seen now.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        let id = state.tree.find(path)?;
        Ok(state.tree.inode(id).live.to_vec())
    }

    /// Every file, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().tree.live.keys().cloned().collect()
    }
}

/// Watching.
impl SimDisk {
    /// Keeps a record of each call from now on, or ends that and drops what was kept.
    pub fn record(&self, is_on: bool) {
        self.state().record = is_on.then(Vec::new);
    }

    /// Takes the record of calls kept so far.
    pub fn take_record(&self) -> Vec<OpRecord> {
        let mut state = self.state();
        state
            .record
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Keeps a snapshot after each call that changes something from now on, or ends that and drops what was kept.
    pub fn record_snapshots(&self, is_on: bool) {
        self.state().snapshots = is_on.then(Vec::new);
    }

    /// Takes the snapshots kept so far, each with the number of the call it was taken after.
    pub fn take_snapshots(&self) -> Vec<(u64, Snapshot)> {
        let mut state = self.state();
        state
            .snapshots
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// The disk at this moment: a cheap copy of all that is durable and all that is not.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.state().tree.clone())
    }

    /// A number that differs when names, bytes or what is unsynced differ. The same seed and calls give the same.
    pub fn digest(&self) -> u64 {
        self.state().tree.digest()
    }

    /// Changes that a power loss now could undo.
    pub fn unsynced_len(&self) -> usize {
        self.state().tree.unsynced_ops().len()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SimDisk")
            .field("files", &state.tree.live.len())
            .field("ops", &state.ops)
            .field("is_off", &state.is_off)
            .finish()
    }
}
