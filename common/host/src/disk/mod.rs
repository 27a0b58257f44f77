//! Bytes on a disk: the seam below which a simulation may stand.
//!
//! The contract is that of a POSIX file system, with nothing promised that it does not promise: what was written may
//! be lost, kept in part, or torn at sectors of 512 bytes until [`File::sync_data`] returns; a new, renamed or removed
//! name may come back or go away until [`Disk::sync_dir`] returns.

mod buffer;
mod real;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
#[cfg(any(test, feature = "sim"))]
pub mod suite;

pub use buffer::{AlignedBuf, BLOCK};
pub use real::RealDisk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A file system. Calls block: make them on a worker (see the crate's `DiskWorker`), never on a network thread.
pub trait Disk: Send + Sync + std::fmt::Debug + 'static {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    ///
    /// `NotFound` (also when the directory is not there), `AlreadyExists` (with [`OpenMode::CreateNew`]), `PermissionDenied`, `ReadOnlyFilesystem`, others of
    /// the system.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Opens a file as [`Disk::open`] does; reads and writes of whole blocks with [`AlignedBuf`]s go past the system's cache
    /// where the file system takes them so ([`File::is_direct`]). Nothing else differs: such writes too are durable after
    /// [`File::sync_data`] only.
    ///
    /// # Errors
    ///
    /// As [`Disk::open`].
    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.open(path, mode)
    }

    /// Makes a directory and those above it, and makes their names survive power loss; no error when it is there.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Names in a directory, sorted: bare file names, of files and directories, without the directory's own path.
    ///
    /// # Errors
    ///
    /// `NotFound`, others of the system.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Whether there is such a file or directory.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Gives a file another name, replacing what has it. Durable after [`Disk::sync_dir`] of both directories.
    ///
    /// # Errors
    ///
    /// `NotFound`, others of the system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    ///
    /// `NotFound`, others of the system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory survive power loss.
    ///
    /// # Errors
    ///
    /// Those of the system. Final: nothing that relied on the names may be believed.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes what `path` names for this holder alone until the guard is dropped: an advisory lock on the file `path`,
    /// which is made when it is not there and stays. A lock ends with its process.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when another holds it, in this process or another; others of the system.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;

    /// Bytes free and bytes in all on the file system that holds `path`.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// Who makes the calls: see [`WorkerMode`].
    fn worker_mode(&self) -> WorkerMode {
        WorkerMode::Thread
    }

    /// Simulated time that all calls so far have taken together. A worker that runs inline sleeps for what its calls
    /// have added. Real disks take real time, and say zero.
    fn busy(&self) -> Duration {
        Duration::ZERO
    }
}

/// How a worker makes blocking calls on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkerMode {
    /// On an OS thread: the calls really block.
    Thread,
    /// On the async runtime, as a task: the calls return at once and tell the time they would have taken
    /// ([`Disk::busy`]).
    Inline,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenMode {
    /// It must exist; reading only.
    Read,
    /// It must exist; reading and writing.
    ReadWrite,
    /// It must not exist.
    CreateNew,
    /// It is made when it does not exist.
    OpenOrCreate,
}

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// One file: blocking and positional, as disks are. Writes may be reordered, torn or lost until
/// [`File::sync_data`] returns.
#[expect(
    clippy::len_without_is_empty,
    reason = "a length that must be asked of the system"
)]
pub trait File: Send + Sync + std::fmt::Debug + 'static {
    /// Writes all of `data` at `offset`, growing the file as needed.
    ///
    /// # Errors
    ///
    /// `StorageFull`, others of the system. What was written of it is not known.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Reads from `offset` until `into` is full or the file ends; returns the bytes read.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Makes everything written so far, and the length, survive power loss. An error is final for this file: what
    /// is on the disk is then not known, and a later success proves nothing.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn sync_data(&self) -> io::Result<()>;

    /// Whether whole blocks go past the system's cache, so that nothing gathers there until it is synced.
    fn is_direct(&self) -> bool {
        false
    }

    /// Its length in bytes.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn len(&self) -> io::Result<u64>;

    /// Sets its length; bytes past the old end are zero.
    ///
    /// # Errors
    ///
    /// `StorageFull`, others of the system.
    fn set_len(&self, len: u64) -> io::Result<()>;
}
