//! The directory: `disk.lock`, `meta.redb`, and `FORMAT`, which says whose it is and is written last.
//!
//! `FORMAT` is a few lines of text, see [`Identity`]. While it is missing the store has not served anybody yet, and a first start that a crash cut short begins anew. Once it
//! is there the database must be there too: a directory that lost it is refused, never quietly begun afresh, since
//! numbers given before would be given again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::disk::{Disk, OpenMode};
use redb::{Builder, Database};
use types::cluster::MetaGeneration;
use types::{ClusterId, Revision};

use super::EmbeddedConfig;
use super::backend::Backend;
use super::data::{Data, DataError, create_tables, facts_of, is_restored, verify};
use super::identity::{Flaw, Identity, Moved};

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
    /// Its metadata was moved away.
    #[error(
        "the metadata of this directory was moved away and never opens here again, use the store that file was \
         imported into, or import it; where there is no such file, run the same export again dir={} file={file} exported_at={exported_at}",
        dir.display()
    )]
    Moved {
        /// The directory.
        dir: PathBuf,
        /// The file it was exported to.
        file: String,
        /// When.
        exported_at: String,
    },
    /// A restore into it has not come to its end.
    #[error("a restore into the meta directory was cut short, run it again dir={}", dir.display())]
    Unfinished {
        /// The directory.
        dir: PathBuf,
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
    pub(super) generation: MetaGeneration,
    pub(super) revision: Revision,
}

/// Opens the store in a directory, or makes it there for `fresh` (or the cluster asked for).
pub(super) fn open(
    disk: &Arc<dyn Disk>,
    config: &EmbeddedConfig,
    fresh: ClusterId,
) -> Result<Opened, OpenError> {
    let dir = Directory::new(disk, &config.dir, config.cache_bytes);
    dir.io(disk.create_dir_all(&config.dir))?;
    let lock = dir.lock()?;
    let identity = dir.identity()?;
    if let Some((identity, wanted)) = identity.as_ref().zip(config.cluster)
        && identity.cluster != wanted
    {
        let (dir, found) = (config.dir.clone(), identity.cluster);
        return Err(OpenError::OtherCluster { dir, found, wanted });
    }
    let generation = identity.as_ref().map(|it| it.generation);
    let (db, cluster, revision) = match identity {
        Some(identity) => dir.open_known(&identity)?,
        None => dir.create(config.cluster.unwrap_or(fresh))?,
    };
    Ok(Opened {
        data: Data::new(db, config.history, lock),
        cluster,
        generation: generation.unwrap_or_default(),
        revision,
    })
}

/// A directory that is, or is to be, a store.
pub(super) struct Directory<'a> {
    pub(super) disk: &'a Arc<dyn Disk>,
    pub(super) dir: &'a Path,
    cache_bytes: usize,
}

impl<'a> Directory<'a> {
    pub(super) const fn new(disk: &'a Arc<dyn Disk>, dir: &'a Path, cache_bytes: usize) -> Self {
        Self {
            disk,
            dir,
            cache_bytes,
        }
    }

    /// Takes the directory for this process alone.
    pub(super) fn lock(&self) -> Result<Box<dyn Send + Sync>, OpenError> {
        let lock = self.disk.lock(&self.dir.join("disk.lock"));
        lock.map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked {
                dir: self.dir.to_owned(),
            },
            _ => self.error(source),
        })
    }

    /// What `FORMAT` says; none when there is no such file.
    pub(super) fn identity(&self) -> Result<Option<Identity>, OpenError> {
        let path = self.dir.join("FORMAT");
        if !self.io(self.disk.exists(&path))? {
            return Ok(None);
        }
        let file = self.io(self.disk.open(&path, OpenMode::Read))?;
        let len = usize::try_from(self.io(file.len())?).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(16 << 10)];
        let read = self.io(file.read_at(0, &mut bytes))?;
        bytes.truncate(read);
        let text = String::from_utf8(bytes).map_err(|_| self.damaged("FORMAT"))?;
        let identity = Identity::read(&text).map_err(|flaw| match flaw {
            Flaw::Damaged => self.damaged("FORMAT"),
            Flaw::NewerFormat(format) => OpenError::NewerFormat {
                dir: self.dir.to_owned(),
                format,
            },
        })?;
        Ok(Some(identity))
    }

    /// Refuses a directory whose metadata was moved away.
    fn check_moved(&self, moved: Option<&Moved>) -> Result<(), OpenError> {
        moved.map_or(Ok(()), |moved| {
            Err(OpenError::Moved {
                dir: self.dir.to_owned(),
                file: moved.file.clone(),
                exported_at: moved.at.to_string(),
            })
        })
    }

    /// Opens the database of a directory that has served before.
    pub(super) fn open_known(
        &self,
        identity: &Identity,
    ) -> Result<(Database, ClusterId, Revision), OpenError> {
        self.check_moved(identity.moved.as_ref())?;
        let cluster = identity.cluster;
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
        self.write_identity(&Identity::new(cluster, MetaGeneration::default()))?;
        let db = self.database(&path)?;
        Ok((db, cluster, Revision::default()))
    }

    /// A database without `FORMAT`: a first start that was cut short, or a directory that lost the file.
    fn take_unfinished(&self, path: &Path) -> Result<(Database, ClusterId, Revision), OpenError> {
        let db = self.database(path)?;
        match self.data(facts_of(&db))? {
            Some((cluster, revision)) if revision == Revision::default() => {
                self.write_identity(&Identity::new(cluster, MetaGeneration::default()))?;
                Ok((db, cluster, revision))
            }
            Some(_) if self.data(is_restored(&db))? => Err(OpenError::Unfinished {
                dir: self.dir.to_owned(),
            }),
            _ => Err(self.damaged("FORMAT is missing")),
        }
    }

    pub(super) fn write_identity(&self, identity: &Identity) -> Result<(), OpenError> {
        let text = identity.to_text();
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

    pub(super) fn database(&self, path: &Path) -> Result<Database, OpenError> {
        let file = self.io(self.disk.open(path, OpenMode::OpenOrCreate))?;
        Builder::new()
            .set_cache_size(self.cache_bytes)
            .create_with_backend(Backend(file))
            .map_err(|error| match error {
                redb::DatabaseError::Storage(redb::StorageError::Io(source)) => self.error(source),
                other => self.damaged(&format!("{}: {other}", path.display())),
            })
    }

    pub(super) fn data<T>(&self, result: Result<T, DataError>) -> Result<T, OpenError> {
        result.map_err(|error| match error {
            DataError::Redb(redb::Error::Io(source)) => self.error(source),
            other => self.damaged(&other.to_string()),
        })
    }

    pub(super) fn io<T>(&self, result: io::Result<T>) -> Result<T, OpenError> {
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
