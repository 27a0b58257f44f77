//! The simulated disk as a [`Disk`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::SimDisk;
use super::fault::{self, OpKind};
use super::state::{Call, Course, State};
use super::tree::{InodeId, parent};
use crate::disk::{Disk, File, OpenMode, Space, WorkerMode};

/// The size of a disk without a limit, as it is told.
const UNLIMITED_BYTES: u64 = 1 << 40;

/// Most bytes of a file; more is a mistake of the caller, as it is on real file systems.
const FILE_BYTES_MAX: u64 = 1 << 44;

/// An open file.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    id: InodeId,
    path: Arc<Path>,
    generation: u64,
    is_writable: bool,
}

/// A lock that is held.
#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    generation: u64,
}

impl SimDisk {
    fn call<T>(
        &self,
        kind: OpKind,
        path: &Path,
        act: impl FnOnce(&mut State, Course) -> io::Result<T>,
    ) -> io::Result<T> {
        let call = Call {
            kind,
            path,
            offset: 0,
            len: 0,
        };
        self.state().call(&call, act)
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let (id, generation) = self.call(OpKind::Open, path, |state, course| {
            let id = state.open(path, mode, course)?;
            *state.handles.entry(id).or_default() += usize::from(course == Course::Whole);
            Ok((id, state.generation))
        })?;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            id,
            path: Arc::from(path),
            generation,
            is_writable: mode != OpenMode::Read,
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.call(OpKind::Name, path, |state, course| {
            if state.tree.is_dir(path) {
                return Ok(());
            }
            if path
                .ancestors()
                .any(|above| state.tree.live.contains_key(above))
            {
                return Err(io::Error::from(io::ErrorKind::NotADirectory));
            }
            state.need_writable()?;
            state.change_name(course, |tree, _| tree.make_dirs(path));
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.call(OpKind::Read, path, |state, _| {
            state.tree.need_dir(path)?;
            let all = state.tree.live.keys().chain(&state.tree.dirs);
            let here = all.filter(|one| parent(one) == path);
            let mut names: Vec<_> = here
                .filter_map(|one| Some(PathBuf::from(one.file_name()?)))
                .collect();
            names.sort();
            Ok(names)
        })
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.call(OpKind::Read, path, |state, _| {
            Ok(state.tree.is_dir(path) || state.tree.live.contains_key(path))
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(OpKind::Name, from, |state, course| {
            state.tree.find(from)?;
            state.tree.need_dir(parent(to))?;
            if state.tree.is_dir(to) {
                return Err(io::Error::from(io::ErrorKind::IsADirectory));
            }
            state.need_writable()?;
            let replaced = state.tree.live.get(to).copied();
            state.change_name(course, |tree, op| tree.rename(op, from, to));
            state.released(replaced);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(OpKind::Name, path, |state, course| {
            let id = state.tree.find(path)?;
            state.need_writable()?;
            state.change_name(course, |tree, op| tree.remove(op, path));
            state.released(Some(id));
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call(OpKind::SyncDir, path, |state, course| {
            state.tree.need_dir(path)?;
            state.sync_dir(course, path);
            state.forget_nameless();
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let generation = self.call(OpKind::Open, path, |state, course| {
            state.open(path, OpenMode::OpenOrCreate, course)?;
            if course != Course::Broken && !state.locks.insert(path.to_owned()) {
                return Err(io::Error::from(io::ErrorKind::WouldBlock));
            }
            Ok(state.generation)
        })?;
        Ok(Box::new(SimLock {
            disk: self.clone(),
            path: path.to_owned(),
            generation,
        }))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.call(OpKind::Read, path, |state, _| {
            let total_bytes = state.capacity.unwrap_or(UNLIMITED_BYTES);
            Ok(Space {
                free_bytes: total_bytes.saturating_sub(state.used()),
                total_bytes,
            })
        })
    }

    fn worker_mode(&self) -> WorkerMode {
        WorkerMode::Inline
    }

    fn busy(&self) -> Duration {
        self.state().busy
    }
}

impl State {
    fn open(&mut self, path: &Path, mode: OpenMode, course: Course) -> io::Result<InodeId> {
        if mode == OpenMode::CreateNew && self.tree.is_dir(path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let found = self.tree.find(path);
        match (mode, found) {
            (OpenMode::CreateNew, Ok(_)) => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
            (OpenMode::Read, found) => found,
            (OpenMode::ReadWrite | OpenMode::OpenOrCreate, Ok(id)) => {
                self.need_writable()?;
                Ok(id)
            }
            (OpenMode::CreateNew | OpenMode::OpenOrCreate, Err(error))
                if error.kind() == io::ErrorKind::NotFound =>
            {
                self.tree.need_dir(parent(path))?;
                self.need_writable()?;
                self.change_name(course, |tree, op| tree.create(op, path));
                // A broken call may have made no file; its caller learns of neither.
                self.tree.find(path)
            }
            (_, Err(error)) => Err(error),
        }
    }

    /// A file has lost a name, which may have been its last.
    fn released(&mut self, id: Option<InodeId>) {
        if let Some(id) = id {
            self.tree.forget(id, self.handles.contains_key(&id));
        }
    }
}

impl SimFile {
    fn call<T>(
        &self,
        kind: OpKind,
        offset: u64,
        len: usize,
        act: impl FnOnce(&mut State, Course) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.disk.state();
        if self.generation != state.generation {
            return Err(fault::power_loss());
        }
        let call = Call {
            kind,
            path: &self.path,
            offset,
            len,
        };
        state.call(&call, act)
    }

    fn need_writable(&self) -> io::Result<()> {
        if self.is_writable {
            return Ok(());
        }
        Err(fault::bad_handle())
    }
}

impl File for SimFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.call(OpKind::Write, offset, data.len(), |state, course| {
            self.need_writable()?;
            need_size(offset, data.len())?;
            state.write(course, self.id, offset, data)
        })
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.call(OpKind::Read, offset, into.len(), |state, _| {
            Ok(state.tree.inode(self.id).live.read(offset, into))
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(OpKind::Sync, 0, 0, |state, course| {
            state.sync(course, self.id, &self.path);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.call(OpKind::Read, 0, 0, |state, _| {
            Ok(state.tree.inode(self.id).live.len())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call(OpKind::SetLen, len, 0, |state, course| {
            self.need_writable()?;
            need_size(len, 0)?;
            state.need_writable()?;
            if course != Course::Broken || state.rng.one_in(2) {
                let op = state.ops;
                state.tree.inode_mut(self.id).set_len(op, len);
            }
            Ok(())
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if self.generation == state.generation {
            state.close(self.id);
        }
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if self.generation == state.generation {
            state.locks.remove(&self.path);
        }
    }
}

fn need_size(offset: u64, len: usize) -> io::Result<()> {
    let end = u64::try_from(len)
        .ok()
        .and_then(|len| offset.checked_add(len));
    if end.is_some_and(|end| end <= FILE_BYTES_MAX) {
        return Ok(());
    }
    Err(io::Error::from(io::ErrorKind::FileTooLarge))
}
