//! The directory: `disk.lock`, `meta.redb`, and `FORMAT`, which says whose it is and is written last.
//!
//! `FORMAT` is three lines of text: what the directory is and its format, the cluster, and a CRC32C over both. While
//! it is missing the store has not served anybody yet, and a first start that a crash cut short begins anew. Once it
//! is there the database must be there too: a directory that lost it is refused, never quietly begun afresh, since
//! numbers given before would be given again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::disk::{Disk, OpenMode};
use redb::{Builder, Database};
use types::{ClusterId, Revision, crc32c};

use super::EmbeddedConfig;
use super::backend::Backend;
use super::data::{Data, DataError, create_tables, facts_of, verify};

/// The format of the directory and of all in it.
const FORMAT: u32 = 1;
/// The first line of `FORMAT`, without the number.
const HEAD: &str = "ledgerline meta format=";

/// Why a directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("another process uses the meta directory, stop it first dir={}", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// It belongs to another cluster than the one asked for.
    #[error(
        "the meta directory belongs to another cluster, give the directory of this one or leave the \
         cluster out dir={} found={found} wanted={wanted}",
        dir.display()
    )]
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// Its cluster.
        found: ClusterId,
        /// The cluster asked for.
        wanted: ClusterId,
    },
    /// A newer version of Ledgerline wrote it.
    #[error(
        "the meta directory has a newer format, use the version of Ledgerline that wrote it dir={} \
         format={format}",
        dir.display()
    )]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        format: String,
    },
    /// Something in it is missing or damaged.
    #[error(
        "the meta directory is damaged, restore it from a backup dir={} what={what}",
        dir.display()
    )]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The disk refused.
    #[error("cannot use the meta directory dir={}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// An open store.
pub(super) struct Opened {
    pub(super) data: Data,
    pub(super) cluster: ClusterId,
    pub(super) revision: Revision,
}

/// Opens the store in a directory, or makes it there for `fresh` (or the cluster asked for).
pub(super) fn open(
    disk: &Arc<dyn Disk>,
    config: &EmbeddedConfig,
    fresh: ClusterId,
) -> Result<Opened, OpenError> {
    let dir = Directory {
        disk,
        dir: &config.dir,
        cache_bytes: config.cache_bytes,
    };
    dir.io(disk.create_dir_all(&config.dir))?;
    let lock = disk
        .lock(&config.dir.join("disk.lock"))
        .map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked {
                dir: config.dir.clone(),
            },
            _ => dir.error(source),
        })?;
    let identity = dir.identity()?;
    if let Some((found, wanted)) = identity.zip(config.cluster)
        && found != wanted
    {
        let dir = config.dir.clone();
        return Err(OpenError::OtherCluster { dir, found, wanted });
    }
    let (db, cluster, revision) = match identity {
        Some(cluster) => dir.open_known(cluster)?,
        None => dir.create(config.cluster.unwrap_or(fresh))?,
    };
    Ok(Opened {
        data: Data::new(db, config.history, lock),
        cluster,
        revision,
    })
}

struct Directory<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: &'a Path,
    cache_bytes: usize,
}

impl Directory<'_> {
    /// The cluster that `FORMAT` names; none when there is no such file.
    fn identity(&self) -> Result<Option<ClusterId>, OpenError> {
        let path = self.dir.join("FORMAT");
        if !self.io(self.disk.exists(&path))? {
            return Ok(None);
        }
        let file = self.io(self.disk.open(&path, OpenMode::Read))?;
        let len = usize::try_from(self.io(file.len())?).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(4096)];
        let read = self.io(file.read_at(0, &mut bytes))?;
        bytes.truncate(read);
        let damaged = || self.damaged("FORMAT");
        let text = String::from_utf8(bytes).map_err(|_| damaged())?;
        let format = text
            .strip_prefix(HEAD)
            .and_then(|rest| rest.lines().next())
            .ok_or_else(damaged)?;
        let body = text
            .get(..text.len().saturating_sub(9))
            .ok_or_else(damaged)?;
        if text != format!("{body}{}\n", crc32c(body.as_bytes())) {
            return Err(damaged());
        }
        if format != FORMAT.to_string() {
            return Err(OpenError::NewerFormat {
                dir: self.dir.to_owned(),
                format: format.to_owned(),
            });
        }
        let cluster = body
            .lines()
            .nth(1)
            .and_then(|line| line.strip_prefix("cluster="))
            .and_then(|hex| u128::from_str_radix(hex, 16).ok())
            .ok_or_else(damaged)?;
        Ok(Some(ClusterId::new(cluster)))
    }

    /// Opens the database of a directory that has served before.
    fn open_known(&self, cluster: ClusterId) -> Result<(Database, ClusterId, Revision), OpenError> {
        let path = self.dir.join("meta.redb");
        if !self.io(self.disk.exists(&path))? {
            return Err(self.damaged("meta.redb is missing"));
        }
        let db = self.database(&path)?;
        match self.data(facts_of(&db))? {
            Some((found, revision)) if found == cluster => {
                self.data(verify(&db))?;
                Ok((db, cluster, revision))
            }
            Some((found, _)) => Err(self.damaged(&format!(
                "meta.redb is of cluster {found} and FORMAT of {cluster}"
            ))),
            None => Err(self.damaged("meta.redb has no tables")),
        }
    }

    /// Makes the database under another name, then gives it its own, then says whose it is: each step durable.
    fn create(&self, cluster: ClusterId) -> Result<(Database, ClusterId, Revision), OpenError> {
        let path = self.dir.join("meta.redb");
        if self.io(self.disk.exists(&path))? {
            return self.take_unfinished(&path);
        }
        let new = self.dir.join("meta.redb.new");
        if self.io(self.disk.exists(&new))? {
            self.io(self.disk.remove(&new))?;
        }
        let db = self.database(&new)?;
        self.data(create_tables(&db, cluster))?;
        drop(db);
        self.io(self.disk.rename(&new, &path))?;
        self.io(self.disk.sync_dir(self.dir))?;
        self.write_identity(cluster)?;
        let db = self.database(&path)?;
        Ok((db, cluster, Revision::default()))
    }

    /// A database without `FORMAT`: a first start that was cut short, or a directory that lost the file.
    fn take_unfinished(&self, path: &Path) -> Result<(Database, ClusterId, Revision), OpenError> {
        let db = self.database(path)?;
        match self.data(facts_of(&db))? {
            Some((cluster, revision)) if revision == Revision::default() => {
                self.write_identity(cluster)?;
                Ok((db, cluster, revision))
            }
            _ => Err(self.damaged("FORMAT is missing")),
        }
    }

    fn write_identity(&self, cluster: ClusterId) -> Result<(), OpenError> {
        let body = format!("{HEAD}{FORMAT}\ncluster={cluster}\n");
        let text = format!("{body}{}\n", crc32c(body.as_bytes()));
        let new = self.dir.join("FORMAT.new");
        let file = self.io(self.disk.open(&new, OpenMode::OpenOrCreate))?;
        self.io(file.set_len(0))?;
        self.io(file.write_at(0, text.as_bytes()))?;
        self.io(file.sync_data())?;
        self.io(self.disk.rename(&new, &self.dir.join("FORMAT")))?;
        self.io(self.disk.sync_dir(self.dir))?;
        if let Some(parent) = self.dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            self.io(self.disk.sync_dir(parent))?;
        }
        Ok(())
    }

    fn database(&self, path: &Path) -> Result<Database, OpenError> {
        let file = self.io(self.disk.open(path, OpenMode::OpenOrCreate))?;
        Builder::new()
            .set_cache_size(self.cache_bytes)
            .create_with_backend(Backend(file))
            .map_err(|error| match error {
                redb::DatabaseError::Storage(redb::StorageError::Io(source)) => self.error(source),
                other => self.damaged(&format!("{}: {other}", path.display())),
            })
    }

    fn data<T>(&self, result: Result<T, DataError>) -> Result<T, OpenError> {
        result.map_err(|error| match error {
            DataError::Redb(redb::Error::Io(source)) => self.error(source),
            other => self.damaged(&other.to_string()),
        })
    }

    fn io<T>(&self, result: io::Result<T>) -> Result<T, OpenError> {
        result.map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> OpenError {
        OpenError::Io {
            dir: self.dir.to_owned(),
            source,
        }
    }

    fn damaged(&self, what: &str) -> OpenError {
        OpenError::Damaged {
            dir: self.dir.to_owned(),
            what: what.to_owned(),
        }
    }
}
