//! All files and names of the simulated disk.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::image::Image;
use super::inode::Inode;
use super::{Fate, Unsynced};

pub(super) type InodeId = u64;

/// The state of the medium and of the page cache above it. Copies share what neither has changed since.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    inodes: BTreeMap<InodeId, Arc<Inode>>,
    next_inode: InodeId,
    /// Directories are durable when made, as [`Disk::create_dir_all`](crate::disk::Disk::create_dir_all) says.
    pub(super) dirs: BTreeSet<PathBuf>,
    /// The names that the process sees.
    pub(super) live: BTreeMap<PathBuf, InodeId>,
    /// The names that survive whatever happens.
    durable: BTreeMap<PathBuf, InodeId>,
    /// What separates the two, oldest first.
    changes: Vec<NameChange>,
}

/// A change of names that is not synced: all of it survives, or nothing.
#[derive(Debug, Clone)]
struct NameChange {
    op: u64,
    /// Each name with what it then stands for.
    sets: Vec<(PathBuf, Option<InodeId>)>,
    /// The directories whose sync is still to come.
    waiting: Vec<PathBuf>,
}

impl NameChange {
    fn names(&self) -> impl Iterator<Item = &PathBuf> {
        self.sets.iter().map(|(path, _)| path)
    }
}

/// Decides on one thing that was not synced; the number is that of the call that made it.
pub(super) type Decide<'a> = dyn FnMut(&Unsynced, u64) -> Fate + 'a;

pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

fn is_root(path: &Path) -> bool {
    path.parent().is_none_or(|above| above == path) || path == Path::new(".")
}

impl Tree {
    pub(super) fn is_dir(&self, path: &Path) -> bool {
        is_root(path) || self.dirs.contains(path)
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<InodeId> {
        if self.is_dir(path) {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        let found = self.live.get(path).copied();
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    pub(super) fn need_dir(&self, path: &Path) -> io::Result<()> {
        if self.is_dir(path) {
            return Ok(());
        }
        Err(io::Error::from(if self.live.contains_key(path) {
            io::ErrorKind::NotADirectory
        } else {
            io::ErrorKind::NotFound
        }))
    }

    pub(super) fn inode(&self, id: InodeId) -> &Inode {
        self.inodes.get(&id).expect("files in use are kept")
    }

    pub(super) fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        Arc::make_mut(self.inodes.get_mut(&id).expect("files in use are kept"))
    }

    fn insert(&mut self, inode: Inode) -> InodeId {
        let id = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(id, Arc::new(inode));
        id
    }

    pub(super) fn create(&mut self, op: u64, path: &Path) {
        let id = self.insert(Inode::default());
        self.change(op, vec![(path.to_owned(), Some(id))]);
    }

    pub(super) fn remove(&mut self, op: u64, path: &Path) {
        self.change(op, vec![(path.to_owned(), None)]);
    }

    pub(super) fn rename(&mut self, op: u64, from: &Path, to: &Path) {
        if let Some(id) = self.live.get(from).copied()
            && from != to
        {
            self.change(op, vec![(from.to_owned(), None), (to.to_owned(), Some(id))]);
        }
    }

    fn change(&mut self, op: u64, sets: Vec<(PathBuf, Option<InodeId>)>) {
        let mut waiting: Vec<PathBuf> = Vec::new();
        for (path, _) in &sets {
            if !waiting.iter().any(|dir| dir == parent(path)) {
                waiting.push(parent(path).to_owned());
            }
        }
        let change = NameChange { op, sets, waiting };
        apply(&change, &mut self.live);
        self.changes.push(change);
    }

    /// Makes the names of a directory durable. A change of two directories needs both synced, unless a later change
    /// of the same name is made durable, which cannot be without it.
    pub(super) fn sync_dir(&mut self, dir: &Path) {
        for change in &mut self.changes {
            change.waiting.retain(|waiting| waiting != dir);
        }
        let kept: Vec<bool> = self
            .changes
            .iter()
            .map(|one| one.waiting.is_empty())
            .collect();
        let kept = self.with_those_before(kept);
        self.keep(&kept, true);
    }

    /// Lets a sync of a directory fail: some of its changes are durable, the others never will be.
    pub(super) fn fail_sync_dir(&mut self, dir: &Path, decide: &mut Decide<'_>) {
        let is_of_dir = |change: &NameChange| change.waiting.iter().any(|one| one == dir);
        let kept = (self.changes.iter())
            .map(|change| is_of_dir(change) && decide(&asked(change), change.op) != Fate::Lost)
            .collect();
        let kept = self.with_those_before(kept);
        self.keep(&kept, true);
        self.changes.retain(|change| !is_of_dir(change));
    }

    /// Adds to the kept changes those before them that touch a name they touch: names change in order.
    fn with_those_before(&self, mut kept: Vec<bool>) -> Vec<bool> {
        let mut touched: BTreeSet<&PathBuf> = BTreeSet::new();
        for (at, change) in self.changes.iter().enumerate().rev() {
            kept[at] |= change.names().any(|name| touched.contains(name));
            if kept[at] {
                touched.extend(change.names());
            }
        }
        kept
    }

    /// Makes the kept changes durable and forgets them; the others stay as unsynced, or go.
    fn keep(&mut self, kept: &[bool], others_stay: bool) {
        let mut at = 0;
        let durable = &mut self.durable;
        self.changes.retain(|change| {
            let is_kept = kept[at];
            at += 1;
            if is_kept {
                apply(change, durable);
            }
            !is_kept && others_stay
        });
    }

    /// Decides what a power loss leaves: afterwards all that there is, is durable.
    pub(super) fn settle(&mut self, decide: &mut Decide<'_>) {
        // Names of files for those who decide: any that the file has or had.
        let names = self.names();
        let kept = (self.changes.iter())
            .map(|change| decide(&asked(change), change.op) != Fate::Lost)
            .collect();
        let kept = self.with_those_before(kept);
        self.keep(&kept, false);
        self.live = self.durable.clone();
        let reachable: BTreeSet<InodeId> = self.live.values().copied().collect();
        self.inodes.retain(|id, _| reachable.contains(id));
        for (id, inode) in &mut self.inodes {
            let image = inode.settle(decide, &names[id]);
            *inode = Arc::new(Inode::durable(image));
        }
    }

    fn names(&self) -> BTreeMap<InodeId, Arc<Path>> {
        let changed = self.changes.iter().flat_map(|change| &change.sets);
        let changed = changed.filter_map(|(path, id)| Some((path, (*id)?)));
        let known = self.durable.iter().map(|(path, id)| (path, *id));
        let live = self.live.iter().map(|(path, id)| (path, *id));
        let all = changed.chain(known).chain(live);
        all.map(|(path, id)| (id, Arc::from(path.as_path())))
            .collect()
    }

    /// Forgets a file that has no name, durable or not, unless it is still open.
    pub(super) fn forget(&mut self, id: InodeId, is_open: bool) {
        let changed = |change: &NameChange| change.sets.iter().any(|(_, one)| *one == Some(id));
        let is_named = self.live.values().any(|one| *one == id)
            || self.durable.values().any(|one| *one == id)
            || self.changes.iter().any(changed);
        if !is_named && !is_open {
            self.inodes.remove(&id);
        }
    }

    /// Files that have no live name: with their last handle they may go.
    pub(super) fn nameless(&self) -> Vec<InodeId> {
        let live: BTreeSet<InodeId> = self.live.values().copied().collect();
        let all = self.inodes.keys().copied();
        all.filter(|id| !live.contains(id)).collect()
    }

    /// Bytes that the files take. A removed file's are free at once if `is_open` denies it.
    pub(super) fn used(&self, is_open: impl Fn(InodeId) -> bool) -> u64 {
        let live: BTreeSet<InodeId> = self.live.values().copied().collect();
        let counted = self
            .inodes
            .iter()
            .filter(|(id, _)| live.contains(id) || is_open(**id));
        counted.map(|(_, inode)| inode.live.allocated()).sum()
    }

    /// Removes everything below a directory, durably.
    pub(super) fn wipe(&mut self, dir: &Path) {
        let is_below = |path: &Path| path != dir && path.starts_with(dir);
        self.live.retain(|path, _| !is_below(path));
        self.durable.retain(|path, _| !is_below(path));
        self.dirs.retain(|path| !is_below(path));
        for change in &mut self.changes {
            change.sets.retain(|(path, _)| !is_below(path));
        }
        self.changes.retain(|change| !change.sets.is_empty());
    }

    /// Puts a file in place, durably.
    pub(super) fn put(&mut self, path: &Path, image: Image) {
        let id = self.insert(Inode::durable(image));
        for change in &mut self.changes {
            change.sets.retain(|(one, _)| one != path);
        }
        self.changes.retain(|change| !change.sets.is_empty());
        self.make_dirs(parent(path));
        self.live.insert(path.to_owned(), id);
        self.durable.insert(path.to_owned(), id);
    }

    pub(super) fn make_dirs(&mut self, path: &Path) {
        let missing = path.ancestors().filter(|one| !is_root(one));
        self.dirs.extend(missing.map(Path::to_owned));
    }

    /// Numbers of the calls whose changes are not synced.
    pub(super) fn unsynced_ops(&self) -> Vec<u64> {
        let names = self.changes.iter().map(|change| change.op);
        let bytes = self.inodes.values().flat_map(|inode| inode.unsynced_ops());
        names.chain(bytes).collect()
    }

    /// A number that differs when names or bytes differ, live or durable. The hasher has no key of its own.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.dirs.hash(&mut hasher);
        for names in [&self.live, &self.durable] {
            for (path, id) in names {
                path.hash(&mut hasher);
                let inode = self.inode(*id);
                for image in [&inode.live, &inode.durable] {
                    image.len().hash(&mut hasher);
                    for part in image.parts() {
                        part.hash(&mut hasher);
                    }
                }
            }
        }
        self.unsynced_ops().len().hash(&mut hasher);
        hasher.finish()
    }
}

fn apply(change: &NameChange, names: &mut BTreeMap<PathBuf, InodeId>) {
    for (path, id) in &change.sets {
        match id {
            Some(id) => names.insert(path.clone(), *id),
            None => names.remove(path),
        };
    }
}

fn asked(change: &NameChange) -> Unsynced {
    let (path, _) = change.sets.last().expect("a change changes something");
    Unsynced::Name {
        path: Arc::from(path.as_path()),
    }
}
