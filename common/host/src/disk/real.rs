//! The file system of the machine.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the disk that others are sent to"
)]

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{BLOCK, Disk, File, OpenMode, Space};

/// The file system of the machine. Its calls block their thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// An open file. Dropping it closes it, and syncs nothing.
#[derive(Debug)]
struct RealFile {
    file: fs::File,
    direct: Option<Direct>,
}

/// The same file once more, for what goes past the cache. The system keeps both in agreement.
#[derive(Debug)]
struct Direct {
    file: fs::File,
    /// The file system took the flag, and then not the reads or writes.
    is_refused: AtomicBool,
}

impl Direct {
    /// None where the file system does not take the flag.
    fn open(path: &Path, mode: OpenMode) -> Option<Self> {
        let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
        let mut options = OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read);
        let file = options.custom_flags(flags).open(path).ok()?;
        Some(Self {
            file,
            is_refused: AtomicBool::new(false),
        })
    }

    /// Writes what can go past the cache; returns how many bytes did.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        match self.fit(offset, data) {
            0 => Ok(0),
            whole => self.settle(self.file.write_at(&data[..whole], offset)),
        }
    }

    /// Reads what can be had past the cache; returns how many bytes, which may be fewer than there are.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        match self.fit(offset, into) {
            0 => Ok(0),
            whole => self.settle(self.file.read_at(&mut into[..whole], offset)),
        }
    }

    /// How many bytes at the front of a buffer are whole blocks, in memory and in the file.
    fn fit(&self, offset: u64, buffer: &[u8]) -> usize {
        let is_block = |number: usize| number.is_multiple_of(BLOCK);
        let at = usize::try_from(offset).unwrap_or(1);
        let is_fit = is_block(at) && is_block(buffer.as_ptr().addr());
        if !is_fit || self.is_refused.load(Ordering::Relaxed) {
            return 0;
        }
        buffer.len() - buffer.len() % BLOCK
    }

    /// What the system did not take is left to the cache.
    fn settle(&self, done: io::Result<usize>) -> io::Result<usize> {
        match done {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) if is_refusal(&error) => {
                self.is_refused.store(true, Ordering::Relaxed);
                Ok(0)
            }
            done => done,
        }
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = open_file(path, mode)?;
        Ok(Arc::new(RealFile { file, direct: None }))
    }

    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = open_file(path, mode)?;
        let direct = Direct::open(path, mode);
        Ok(Arc::new(RealFile { file, direct }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent() else {
            return Ok(()); // The root, or the directory the process stands in.
        };
        if path.is_dir() {
            // Who made it may have been killed before its name was synced. Where we may not look, we did not make it.
            return match self.sync_dir(parent) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                other => other,
            };
        }
        self.create_dir_all(parent)?;
        match fs::create_dir(path) {
            // Somebody else made it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            other => other?,
        }
        self.sync_dir(parent)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = fs::read_dir(or_here(path))?
            .map(|entry| Ok(PathBuf::from(entry?.file_name())))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        or_here(path).try_exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(or_here(path))?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path)?;
        match file.try_lock() {
            // The lock is the open file's: it ends when the file closes, with the guard or with the process.
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::Error::from(io::ErrorKind::WouldBlock)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(or_here(path))?;
        // What the superuser has set aside is not ours to write, and not to be shown as free.
        Ok(Space {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

impl File for RealFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let done = match &self.direct {
            Some(direct) => direct.write_at(offset, data)?,
            None => 0,
        };
        let at = offset + u64::try_from(done).expect("lengths fit 64 bits");
        self.file.write_all_at(&data[done..], at)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = match &self.direct {
            Some(direct) => direct.read_at(offset, into)?,
            None => 0,
        };
        while filled < into.len() {
            let at = offset + u64::try_from(filled).expect("lengths fit 64 bits");
            match self.file.read_at(&mut into[filled..], at) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn is_direct(&self) -> bool {
        let direct = self.direct.as_ref();
        direct.is_some_and(|direct| !direct.is_refused.load(Ordering::Relaxed))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

/// Whether a file system says that it does not take reads or writes past the cache.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

/// A directory opens for reading like a file, and is none.
fn open_file(path: &Path, mode: OpenMode) -> io::Result<fs::File> {
    let file = open_options(mode).open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    Ok(file)
}

fn open_options(mode: OpenMode) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    match mode {
        OpenMode::Read => {}
        OpenMode::ReadWrite => {
            options.write(true);
        }
        OpenMode::CreateNew => {
            options.write(true).create_new(true);
        }
        OpenMode::OpenOrCreate => {
            options.write(true).create(true).truncate(false);
        }
    }
    options
}

/// The empty path is the directory the process stands in.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}
