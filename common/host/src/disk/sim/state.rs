//! What is behind the lock of a simulated disk, and the course of one call.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fault::{self, Fault, Faults, Latency, OpKind, OpRecord};
use super::image::wide;
use super::snapshot::{self, Snapshot};
use super::tree::{InodeId, Tree};
use crate::disk::BLOCK;
use crate::rng::Rng;

#[derive(Debug)]
pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) rng: Rng,
    pub(super) is_off: bool,
    /// Rises with each crash: handles of an earlier one are dead.
    pub(super) generation: u64,
    pub(super) ops: u64,
    pub(super) faults: Faults,
    pub(super) capacity: Option<u64>,
    pub(super) latency: Latency,
    pub(super) busy: Duration,
    pub(super) locks: BTreeSet<PathBuf>,
    /// How many handles each open file has.
    pub(super) handles: BTreeMap<InodeId, usize>,
    pub(super) record: Option<Vec<OpRecord>>,
    pub(super) snapshots: Option<Vec<(u64, Snapshot)>>,
}

/// One call, as the faults and the record see it.
pub(super) struct Call<'a> {
    pub(super) kind: OpKind,
    pub(super) path: &'a Path,
    pub(super) offset: u64,
    pub(super) len: usize,
}

/// How a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// As it should.
    Whole,
    /// It errs, having done nothing or some of what it should.
    Broken,
    /// It does the right thing at the wrong place.
    Misdirected,
}

impl State {
    pub(super) fn new(tree: Tree, seed: u64) -> Self {
        Self {
            tree,
            rng: Rng::seeded(seed),
            is_off: false,
            generation: 0,
            ops: 0,
            faults: Faults::default(),
            capacity: None,
            latency: Latency::default(),
            busy: Duration::ZERO,
            locks: BTreeSet::new(),
            handles: BTreeMap::new(),
            record: None,
            snapshots: None,
        }
    }

    /// Makes a call: counts it, lets it fail if it is to, records it.
    pub(super) fn call<T>(
        &mut self,
        call: &Call<'_>,
        act: impl FnOnce(&mut Self, Course) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.is_off {
            return Err(fault::power_loss());
        }
        self.ops += 1;
        self.busy += self.latency.of(call.kind, call.len, &self.rng);
        let fault = self.faults.draw(self.ops, call.kind, &self.rng);
        let result = match fault {
            Some(Fault::Misdirected) if call.kind == OpKind::Write => {
                act(self, Course::Misdirected)
            }
            None | Some(Fault::Misdirected) => act(self, Course::Whole),
            Some(Fault::Full) => Err(fault::full()),
            Some(Fault::Io) => {
                // What it did of its work is not known: that it may have worked is part of that.
                let _ = act(self, Course::Broken);
                Err(fault::input_output())
            }
            Some(Fault::PowerCut) => {
                let _ = match call.kind {
                    OpKind::Write | OpKind::SetLen => act(self, Course::Whole).map(drop),
                    OpKind::Open | OpKind::Name => act(self, Course::Broken).map(drop),
                    OpKind::Read | OpKind::Sync | OpKind::SyncDir => Ok(()),
                };
                self.is_off = true;
                Err(fault::power_loss())
            }
            Some(Fault::PowerCutAfter) => {
                let _ = act(self, Course::Whole);
                self.is_off = true;
                Err(fault::power_loss())
            }
        };
        self.note(call, result.is_ok());
        result
    }

    fn note(&mut self, call: &Call<'_>, is_ok: bool) {
        if let Some(record) = &mut self.record {
            record.push(OpRecord {
                op: self.ops,
                kind: call.kind,
                path: call.path.to_owned(),
                offset: call.offset,
                len: call.len,
                is_ok,
            });
        }
        if let Some(snapshots) = &mut self.snapshots
            && call.kind.is_change()
        {
            snapshots.push((self.ops, Snapshot::new(self.tree.clone())));
        }
    }

    pub(super) fn need_writable(&self) -> io::Result<()> {
        if self.faults.is_read_only {
            return Err(fault::read_only());
        }
        Ok(())
    }

    /// Changes a name, or, when the call is broken, perhaps.
    pub(super) fn change_name(&mut self, course: Course, change: impl FnOnce(&mut Tree, u64)) {
        if course != Course::Broken || self.rng.one_in(2) {
            change(&mut self.tree, self.ops);
        }
    }

    pub(super) fn write(
        &mut self,
        course: Course,
        id: InodeId,
        offset: u64,
        data: &[u8],
    ) -> io::Result<()> {
        self.need_writable()?;
        let op = self.ops;
        match course {
            Course::Whole => {
                let fits = self.fits(id, offset, data.len());
                self.tree.inode_mut(id).write(op, offset, &data[..fits]);
                if fits < data.len() {
                    return Err(fault::full());
                }
            }
            Course::Broken => {
                let rng = self.rng.clone();
                self.tree.inode_mut(id).write_partly(op, offset, data, &rng);
            }
            Course::Misdirected => {
                let inode = self.tree.inode_mut(id);
                let blocks = inode.live.len() / wide(BLOCK);
                let elsewhere = self.rng.below(blocks + 1) * wide(BLOCK) + offset % wide(BLOCK);
                inode.write(op, elsewhere, data);
            }
        }
        Ok(())
    }

    /// How many bytes of a write find room.
    fn fits(&self, id: InodeId, offset: u64, len: usize) -> usize {
        let Some(capacity) = self.capacity else {
            return len;
        };
        let free = capacity.saturating_sub(self.used());
        let image = &self.tree.inode(id).live;
        let mut fits = len;
        while image.would_allocate(offset, fits) > free {
            fits = fits.saturating_sub(BLOCK);
        }
        fits
    }

    /// Bytes that are taken.
    pub(super) fn used(&self) -> u64 {
        self.tree.used(|id| self.handles.contains_key(&id))
    }

    pub(super) fn sync(&mut self, course: Course, id: InodeId, path: &Path) {
        if course != Course::Broken {
            // An image without changes is left as it is: snapshots go on sharing it.
            if self.tree.inode(id).unsynced_ops().next().is_some() {
                self.tree.inode_mut(id).sync();
            }
            return;
        }
        let (rng, inode) = (self.rng.clone(), self.tree.inode_mut(id));
        let ops: Vec<u64> = inode.unsynced_ops().collect();
        inode.fail_sync(&mut snapshot::sampler(&rng, &ops), &path.into());
    }

    pub(super) fn sync_dir(&mut self, course: Course, path: &Path) {
        if course != Course::Broken {
            self.tree.sync_dir(path);
            return;
        }
        let (rng, ops) = (self.rng.clone(), self.tree.unsynced_ops());
        self.tree
            .fail_sync_dir(path, &mut snapshot::sampler(&rng, &ops));
    }

    /// Everything that the process held is gone.
    pub(super) fn restart_process(&mut self) {
        self.generation += 1;
        self.locks.clear();
        self.handles.clear();
        self.forget_nameless();
    }

    pub(super) fn forget_nameless(&mut self) {
        for id in self.tree.nameless() {
            self.tree.forget(id, self.handles.contains_key(&id));
        }
    }

    pub(super) fn close(&mut self, id: InodeId) {
        let Some(count) = self.handles.get_mut(&id) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.handles.remove(&id);
            self.tree.forget(id, false);
        }
    }
}
