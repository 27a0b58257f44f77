//! The states that a power loss may leave: chosen, drawn, or drawn by the thousand.

use std::path::Path;
use std::sync::Arc;

use super::SimDisk;
use super::tree::Tree;
use crate::rng::Rng;

/// The whole disk at one moment, durable and not: cheap to take, and the source of every state a power loss at that
/// moment may leave.
#[derive(Debug, Clone)]
pub struct Snapshot {
    tree: Tree,
}

/// One thing whose fate a power loss decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsynced {
    /// One unsynced version of one sector of a file.
    Sector {
        /// A name that the file has or had.
        path: Arc<Path>,
        /// Which sector of 512 bytes.
        sector: u64,
        /// Which unsynced version of it, from 0, older first.
        version: usize,
    },
    /// One unsynced change of a file's length.
    Length {
        /// A name that the file has or had.
        path: Arc<Path>,
        /// The new length.
        len: u64,
    },
    /// One unsynced change of names.
    Name {
        /// The name that appeared or went; of a rename, the new one.
        path: Arc<Path>,
    },
}

/// What becomes of it. A later version of the same sector or length that is kept covers the earlier ones; a change of
/// names that is kept keeps those of the same names before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It reached the disk.
    Kept,
    /// It did not.
    Lost,
    /// The first so many bytes of the sector reached the disk, the others are those before. Anything but a sector is
    /// kept.
    Torn(usize),
}

impl Snapshot {
    pub(super) fn new(tree: Tree) -> Self {
        Self { tree }
    }

    /// A new disk in the state that a power loss leaves when fate decides so. It is asked first about names, then about
    /// each file that has kept one: lengths, then sectors with their versions in order.
    pub fn materialize(&self, decide: &mut dyn FnMut(&Unsynced) -> Fate) -> SimDisk {
        let mut tree = self.tree.clone();
        tree.settle(&mut |asked, _| decide(asked));
        SimDisk::with_tree(tree, 0)
    }

    /// A new disk in one legal state after a power loss at that moment.
    pub fn sample(&self, rng: &Rng) -> SimDisk {
        let mut tree = self.tree.clone();
        let ops = tree.unsynced_ops();
        tree.settle(&mut sampler(rng, &ops));
        SimDisk::with_tree(tree, rng.u64())
    }

    /// A new disk as the next process sees it when this one dies and the machine stays up: nothing is lost yet.
    pub fn after_kill(&self, rng: &Rng) -> SimDisk {
        SimDisk::with_tree(self.tree.clone(), rng.u64())
    }

    /// What has not been synced, in the order in which fates are asked when all is kept.
    pub fn unsynced(&self) -> Vec<Unsynced> {
        let mut all = Vec::new();
        self.materialize(&mut |asked| {
            all.push(asked.clone());
            Fate::Kept
        });
        all
    }

    /// See [`SimDisk::digest`].
    pub fn digest(&self) -> u64 {
        self.tree.digest()
    }
}

/// States after power losses at the moments of a run, without end: each snapshot in turn, each time another draw.
///
/// ```
/// # use std::path::Path;
/// # use host::Rng;
/// # use host::disk::{Disk as _, File as _, OpenMode};
/// # use host::disk::sim::{CrashStates, SimDisk};
/// let disk = SimDisk::new(1);
/// disk.record_snapshots(true);
/// let file = disk.open(Path::new("log"), OpenMode::CreateNew)?;
/// file.write_at(0, b"hello")?;
/// file.sync_data()?;
/// disk.sync_dir(Path::new(""))?;
/// let safe_from = disk.ops(); // What is promised here must be there in each state from here on.
///
/// for (op, state) in CrashStates::new(disk.take_snapshots(), Rng::seeded(2)).take(1_000) {
///     if op >= safe_from {
///         assert_eq!(state.contents(Path::new("log"))?, b"hello");
///     }
/// }
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct CrashStates {
    snapshots: Vec<(u64, Snapshot)>,
    rng: Rng,
    next: usize,
}

impl CrashStates {
    /// The states of these moments; see [`SimDisk::record_snapshots`].
    pub fn new(snapshots: Vec<(u64, Snapshot)>, rng: Rng) -> Self {
        Self {
            snapshots,
            rng,
            next: 0,
        }
    }
}

impl Iterator for CrashStates {
    type Item = (u64, SimDisk);

    fn next(&mut self) -> Option<Self::Item> {
        let (op, snapshot) = self.snapshots.get(self.next)?;
        self.next = (self.next + 1) % self.snapshots.len();
        Some((*op, snapshot.sample(&self.rng)))
    }
}

/// How one power loss treats what was not synced. Each way finds another kind of mistake; all are legal.
#[derive(Debug, Clone, Copy)]
enum Way {
    Nothing,
    Everything,
    /// Everything before one call, and of that one some.
    UpTo(u64),
    /// Each for itself, kept so many times in eight.
    Chance(u64),
    NamesOnly,
    BytesOnly,
    AllBut(u64),
    Only(u64),
}

/// Draws a way for one power loss, and decides by it. `ops` are the numbers of the calls that were not synced.
pub(super) fn sampler<'a>(
    rng: &'a Rng,
    ops: &[u64],
) -> impl FnMut(&Unsynced, u64) -> Fate + use<'a> {
    let one = match ops.len() {
        0 => 0,
        len => ops[rng.index(len)],
    };
    let way = match rng.below(12) {
        0 => Way::Nothing,
        1 => Way::Everything,
        2 | 3 => Way::UpTo(one),
        4 => Way::Chance(1),
        5 | 6 => Way::Chance(4),
        7 => Way::Chance(7),
        8 => Way::NamesOnly,
        9 => Way::BytesOnly,
        10 => Way::AllBut(one),
        _ => Way::Only(one),
    };
    let tears = !matches!(way, Way::Nothing | Way::Everything) && rng.one_in(2);
    move |asked, op| {
        let is_name = matches!(asked, Unsynced::Name { .. });
        let is_kept = match way {
            Way::Nothing => false,
            Way::Everything => true,
            Way::UpTo(last) => op < last || (op == last && rng.one_in(2)),
            Way::Chance(of_eight) => rng.below(8) < of_eight,
            Way::NamesOnly => is_name,
            Way::BytesOnly => !is_name,
            Way::AllBut(lost) => op != lost,
            Way::Only(kept) => op == kept,
        };
        let is_sector = matches!(asked, Unsynced::Sector { .. });
        match is_kept {
            true if is_sector && tears && rng.one_in(8) => {
                Fate::Torn(1 + rng.index(super::image::SECTOR - 1))
            }
            true => Fate::Kept,
            false => Fate::Lost,
        }
    }
}
