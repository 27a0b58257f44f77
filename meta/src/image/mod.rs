//! Images: all of a cluster's metadata at one revision, in a file.
//!
//! A *backup* is taken of a store that goes on; a *restore* makes a store of an image and takes it that the image may be
//! older than what bookies have seen since. An *export* ends its store, so that an *import* goes on exactly where that
//! ended. Whoever makes a store of an image begins a new generation of the metadata, which nodes tell from the older.

mod file;
mod format;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{DiskWorker, Host};
use types::WallTime;

use crate::store::{EmbeddedConfig, EtcdConfig, EtcdError, OpenError, embedded, etcd};
pub(crate) use file::ImageFile;
pub use format::{Header, Kind};

/// Why an image was not written, or no store was made of one. Nothing was changed that matters.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is another kind of file.
    #[error(
        "the file is no image of Ledgerline's metadata, give one that `ledgerline meta backup` or `meta export` wrote \
         file={}",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error(
        "the image has a newer format, use the version of Ledgerline that wrote it file={} format={format}",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u16,
    },
    /// Some of it changed, or is missing.
    #[error("the image is damaged, take another copy of it file={} what={what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is such a file already.
    #[error("the file is there already, give another name or move it away file={}", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The disk refused.
    #[error("cannot use the file file={}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// There is nothing to take an image of.
    #[error("there is no store in {what}: correct where it is")]
    NoStore {
        /// Where.
        what: String,
    },
    /// The place for a store is taken.
    #[error("there is a store already in {what}: choose an empty place, or move it away first")]
    Occupied {
        /// Where.
        what: String,
    },
    /// A backup was given where only the end of a store will do.
    #[error(
        "the file is a backup, and its store may have gone on: only what `ledgerline meta export` wrote can be \
         imported; use `ledgerline meta restore` if the store is lost file={}",
        path.display()
    )]
    NotAnExport {
        /// The file.
        path: PathBuf,
    },
    /// Another import took the place over.
    #[error(
        "another import into the same etcd prefix has begun, let one of them end prefix={prefix}"
    )]
    Overtaken {
        /// The prefix.
        prefix: String,
    },
    /// The directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// etcd cannot be used.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
}

/// What is made anew for each image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fresh {
    pub(crate) id: u128,
    pub(crate) taken: WallTime,
}

/// Is told how far it is: what was done, with how many records, of how many.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<ToldProgress>>);

type ToldProgress = dyn Fn(&'static str, u64, u64) + Send + Sync;

impl Progress {
    /// Tells this function, of every record.
    pub fn to(tell: impl Fn(&'static str, u64, u64) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(crate) fn told(&self, what: &'static str, done: u64, all: u64) {
        if let Some(tell) = &self.0 {
            tell(what, done, all);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

/// Where a store is, or is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory of this machine.
    Embedded(EmbeddedConfig),
    /// An etcd.
    Etcd(EtcdConfig),
}

/// Writes an image of a store into a file: of a directory that no process uses, or of an etcd that may be in use.
///
/// # Errors
///
/// [`ImageError`] says what is wrong and what to do.
pub async fn backup(
    host: &Host,
    from: &Place,
    to: &Path,
    progress: Progress,
) -> Result<Header, ImageError> {
    let (file, fresh) = (ImageFile::new(&host.disk, to), fresh(host));
    match from.clone() {
        Place::Embedded(config) => {
            let save = move || embedded::save(&config, &file, fresh, &progress);
            on_disk(&host.disk_worker("meta-image"), save).await
        }
        Place::Etcd(config) => etcd::save(host, &config, file, fresh, progress).await,
    }
}

/// Writes an image of a directory's store into a file and ends the store: it never opens again.
///
/// # Errors
///
/// [`ImageError`]. After a failure the store is as it was, or has moved and its file is whole; the same call again
/// finishes.
pub async fn export(
    host: &Host,
    from: &EmbeddedConfig,
    to: &Path,
    progress: Progress,
) -> Result<Header, ImageError> {
    let (file, fresh, config) = (ImageFile::new(&host.disk, to), fresh(host), from.clone());
    let export = move || embedded::export(&config, &file, fresh, &progress);
    on_disk(&host.disk_worker("meta-image"), export).await
}

/// Makes a store of an exported image in an empty prefix of an etcd. It goes on where the exported store ended.
///
/// # Errors
///
/// [`ImageError`]. After a failure nothing serves from the prefix; the same call again begins anew.
pub async fn import(
    host: &Host,
    from: &Path,
    to: &EtcdConfig,
    progress: Progress,
) -> Result<Header, ImageError> {
    let file = ImageFile::new(&host.disk, from);
    etcd::import(host, to, file, catalog::Passage::Move, progress).await
}

/// Makes a store of any image, in a place that has none. What came after the image is forgotten.
///
/// # Errors
///
/// [`ImageError`]. After a failure there is no store; the same call again begins anew.
pub async fn restore(
    host: &Host,
    from: &Path,
    to: &Place,
    progress: Progress,
) -> Result<Header, ImageError> {
    let (file, mark) = (ImageFile::new(&host.disk, from), host.rng.u128());
    match to.clone() {
        Place::Embedded(config) => {
            let restore = move || embedded::restore(&config, &file, mark, &progress);
            on_disk(&host.disk_worker("meta-image"), restore).await
        }
        Place::Etcd(config) => {
            etcd::import(host, &config, file, catalog::Passage::Restore, progress).await
        }
    }
}

fn fresh(host: &Host) -> Fresh {
    Fresh {
        id: host.rng.u128(),
        taken: host.clock.wall(),
    }
}

/// Runs what blocks on a worker.
pub(crate) async fn on_disk<T: Send + 'static>(
    disk: &DiskWorker,
    call: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    disk.run(call).await.map_err(|_| ImageError::Stopping)?
}
