//! Opening what is on the disk, in two halves around meta's answer.
//!
//! [`Opening::start`] locks both directories, raises the incarnation, and reads everything: nothing is answered and
//! nothing is thrown away. Whatever it finds damaged or missing goes into the claim: meta then has the bookie born
//! again. [`Opening::finish`] makes the birth durable, and only then gives an engine that answers.

mod directories;
mod finish;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::disk::{AlignedBuf, Disk, OpenMode};
use types::cluster::{BookieClaim, BookieRecord};
use types::{BookieId, ClusterId, Incarnation, MonoTime, NodeName, Revision};

use ledger::Acceptor;

use crate::files::{names, number_of, numbered, read_whole};
use crate::journal::format::Record;
use crate::journal::replay::{LastFrame, Survey, Wanted, survey};
use crate::manifest::{self, Manifest};
use crate::store::file::DataFile;
use crate::store::format::{FileHeader, SUFFIX, Stored};
use crate::store::memtable::Memtable;
use crate::{Config, Engine};

use directories::Directories;

/// Whose storage it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The cluster.
    pub cluster: ClusterId,
    /// The bookie's name.
    pub name: NodeName,
    /// Random bits, fresh at each start: journal files are told apart by them.
    pub entropy: u128,
}

/// A bookie's directories, locked and read, before meta has answered. Nothing is answered from it.
pub struct Opening {
    config: Config,
    disk: Arc<dyn Disk>,
    place: Place,
    directories: Directories,
    /// The number, from wherever it could be read.
    id: Option<BookieId>,
    born: Option<Revision>,
    /// The facts of the MANIFEST and of the journal's records.
    acceptor: Acceptor,
    table: Memtable,
    files: BTreeMap<u64, Arc<DataFile>>,
    next_file: u64,
    mark: u64,
    /// Data files that the MANIFEST does not name.
    unlisted: Vec<PathBuf>,
    journal: Survey,
    damage: Vec<String>,
}

/// What opening found and did, in numbers for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// The bookie's number.
    pub id: BookieId,
    /// Since when it vouches for what it does not have.
    pub born: Revision,
    /// How often it has started.
    pub incarnation: Incarnation,
    /// Journal frames replayed.
    pub frames: u64,
    /// Records replayed.
    pub records: u64,
    /// Whether a torn last frame was cut.
    pub cut_tail: bool,
    /// Whether the journal is written past the system's cache.
    pub direct: bool,
    /// What was found damaged or missing, in words. Not empty means born again.
    pub damage: Vec<String>,
}

/// Why a bookie does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration is out of bounds.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// Another process holds the directory.
    #[error("directory is in use by another process, stop it first dir={}", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory belongs to another cluster.
    #[error(
        "directory belongs to another cluster, choose another directory or join that cluster dir={} of={of} joining={joining}",
        dir.display()
    )]
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// The cluster it belongs to.
        of: ClusterId,
        /// The cluster that was to be joined.
        joining: ClusterId,
    },
    /// The directory belongs to another bookie.
    #[error(
        "directory belongs to another bookie, start it with --name {of} or choose another directory dir={} starting={starting}",
        dir.display()
    )]
    OtherBookie {
        /// The directory.
        dir: PathBuf,
        /// The bookie it belongs to.
        of: NodeName,
        /// The bookie that was started.
        starting: NodeName,
    },
    /// Journal and data are not of one bookie.
    #[error(
        "journal and data directories do not belong together, put back the right pair journal={} data={}",
        journal.display(), data.display()
    )]
    Swapped {
        /// The journal's directory.
        journal: PathBuf,
        /// The data's directory.
        data: PathBuf,
    },
    /// A later version of Ledgerline wrote it.
    #[error(
        "written in a newer format, start the version that wrote it file={} format={format} known={known}",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The highest this version knows.
        known: u32,
    },
    /// Neither directory's identity can be read.
    #[error(
        "identity is damaged in both directories, move them away and start blank: the bookie is then born again journal={} data={}",
        journal.display(), data.display()
    )]
    IdentityLost {
        /// The journal's directory.
        journal: PathBuf,
        /// The data's directory.
        data: PathBuf,
    },
    /// Meta's answer does not fit what is on the disk.
    #[error("meta's record does not fit the disk: {what}")]
    Record {
        /// What does not fit.
        what: String,
    },
    /// The disk refused.
    #[error("disk refused to {doing} path={}", path.display())]
    Disk {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

impl OpenError {
    fn disk(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Disk {
            doing,
            path,
            source,
        }
    }
}

impl Opening {
    /// Locks the directories, raises the incarnation durably, and reads what is there. Blocking.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; each message names the fix.
    pub fn start(config: Config, disk: Arc<dyn Disk>, place: Place) -> Result<Self, OpenError> {
        config.validate()?;
        let mut directories = Directories::take(&config, &disk, &place)?;
        let mut damage = std::mem::take(&mut directories.damage);
        let manifest = read_manifest(&config, &*disk, &directories, &mut damage)?;
        let stored = open_data_files(
            &config,
            &*disk,
            &directories,
            manifest.as_ref(),
            &mut damage,
        )?;

        let mut replay = Replay::new(manifest.as_ref());
        let wanted = Wanted {
            cluster: place.cluster,
            set: directories.set,
            mark: manifest.as_ref().map_or(0, |manifest| manifest.mark),
            last_frame: manifest.as_ref().map_or(0, |manifest| manifest.last_frame),
        };
        let mut journal = survey(&*disk, &config.journal_dir, wanted, &mut |record| {
            replay.take(record);
        })
        .map_err(OpenError::disk("read the journal", &config.journal_dir))?;
        if let Some(format) = journal.newer {
            return Err(OpenError::NewerFormat {
                path: config.journal_dir,
                format,
                known: crate::journal::format::FORMAT,
            });
        }
        // Without a MANIFEST there is no mark: either its loss has been noted, or nothing was ever answered.
        if manifest.is_some() {
            damage.append(&mut journal.damage);
        }
        if !damage.is_empty() {
            // A crash before the next birth must not make this start's finding forgotten: some of it is not found
            // twice, such as an identity that this start has written anew.
            directories.is_damaged = true;
            directories.write(&*disk, &config)?;
        }
        if let Some(last) = &journal.last {
            make_durable(&*disk, &journal.files[last.file].path, last)?;
        }
        let known = manifest.as_ref();
        Ok(Self {
            id: known.map(|manifest| manifest.id).or(directories.id),
            born: known.map(|manifest| manifest.born).max(directories.born),
            acceptor: replay.acceptor,
            table: replay.table,
            files: stored.files,
            next_file: known
                .map_or(0, |manifest| manifest.next_file)
                .max(stored.highest + 1),
            mark: wanted.mark,
            unlisted: stored.unlisted,
            config,
            disk,
            place,
            directories,
            journal,
            damage,
        })
    }

    /// What was found, to tell meta. In which zone the bookie is no disk says.
    pub fn claim(&self, address: String) -> BookieClaim {
        BookieClaim {
            name: self.place.name.clone(),
            address,
            zone: None,
            id: self.id,
            born: self.born,
            incarnation: self.directories.incarnation,
            mark: self.journal.last_sequence(),
            damaged: !self.damage.is_empty(),
        }
    }

    /// What was found damaged or missing, in words.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// Makes meta's answer durable and opens the engine. Blocking.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn finish(
        self,
        record: &BookieRecord,
        now: MonoTime,
    ) -> Result<(Engine, OpenReport), OpenError> {
        finish::finish(self, record, now)
    }
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening")
            .field("place", &self.place)
            .field("id", &self.id)
            .field("born", &self.born)
            .field("damage", &self.damage)
            .finish_non_exhaustive()
    }
}

/// Writes the last whole frame again and syncs it, before it is believed or told to meta: a process may have been killed
/// between its write and its sync, and after a failed sync another one proves nothing.
fn make_durable(disk: &dyn Disk, path: &Path, last: &LastFrame) -> Result<(), OpenError> {
    let mut frame = AlignedBuf::with_capacity(last.bytes.len());
    frame.extend_from_slice(&last.bytes);
    disk.open_direct(path, OpenMode::ReadWrite)
        .and_then(|file| {
            file.write_at(last.header.offset, &frame)?;
            file.sync_data()
        })
        .map_err(OpenError::disk("write the last frame again", path))
}

/// Reads the MANIFEST; what is wrong with it goes to `damage`.
fn read_manifest(
    config: &Config,
    disk: &dyn Disk,
    directories: &Directories,
    damage: &mut Vec<String>,
) -> Result<Option<Manifest>, OpenError> {
    let path = config.data_dir.join(manifest::FILE);
    let bytes = read_whole(disk, &path).map_err(OpenError::disk("read", &path))?;
    match bytes.as_deref().map(Manifest::decode) {
        Some(manifest::Found::Whole(manifest)) if manifest.set == directories.set => {
            Ok(Some(*manifest))
        }
        Some(manifest::Found::Whole(_)) => {
            damage.push("MANIFEST strayed here from elsewhere".to_owned());
            Ok(None)
        }
        Some(manifest::Found::Newer(format)) => Err(OpenError::NewerFormat {
            path,
            format,
            known: manifest::FORMAT,
        }),
        Some(manifest::Found::Damaged) => {
            damage.push("MANIFEST is damaged".to_owned());
            Ok(None)
        }
        Some(manifest::Found::Missing) | None => {
            // Written before the number is: a bookie with a number had one.
            if directories.id.is_some() {
                damage.push("MANIFEST is missing".to_owned());
            }
            Ok(None)
        }
    }
}

/// The data files that can be used.
struct StoredFiles {
    files: BTreeMap<u64, Arc<DataFile>>,
    unlisted: Vec<PathBuf>,
    highest: u64,
}

/// Opens the files that the MANIFEST names; without one, every file that is whole.
fn open_data_files(
    config: &Config,
    disk: &dyn Disk,
    directories: &Directories,
    manifest: Option<&Manifest>,
    damage: &mut Vec<String>,
) -> Result<StoredFiles, OpenError> {
    let dir = &config.data_dir;
    let listed = names(disk, dir).map_err(OpenError::disk("list", dir))?;
    let present: Vec<u64> = listed
        .iter()
        .filter_map(|name| number_of(name, SUFFIX))
        .collect();
    let mut stored = StoredFiles {
        files: BTreeMap::new(),
        unlisted: Vec::new(),
        highest: present.iter().copied().max().unwrap_or(0),
    };
    let missing = manifest.iter().flat_map(|manifest| manifest.files.keys());
    for number in missing.filter(|number| !present.contains(number)) {
        damage.push(format!("data file is missing number={number}"));
    }
    for number in present {
        let path = numbered(dir, number, SUFFIX);
        let entry = manifest.map(|manifest| manifest.files.get(&number));
        if entry == Some(None) {
            stored.unlisted.push(path);
            continue;
        }
        let header = FileHeader {
            number,
            cluster: directories.cluster,
            set: directories.set,
        };
        let file = DataFile::open(disk, &path, header).map_err(OpenError::disk("read", &path))?;
        match file {
            Ok(file) if entry.flatten().is_none_or(|entry| *entry == file.listed()) => {
                stored.files.insert(number, Arc::new(file));
            }
            Ok(_) => damage.push(format!(
                "{}: is not the file of the MANIFEST",
                path.display()
            )),
            // Without a MANIFEST an unfinished file is nothing odd.
            Err(what) if entry.is_some() => damage.push(format!("{}: {what}", path.display())),
            Err(_) => {}
        }
    }
    Ok(stored)
}

/// What the journal's records add to the MANIFEST.
struct Replay {
    acceptor: Acceptor,
    table: Memtable,
}

impl Replay {
    fn new(manifest: Option<&Manifest>) -> Self {
        // The birth is meta's to say; until then the facts are only carried.
        let acceptor = match manifest {
            Some(manifest) => Acceptor::restore(
                manifest.born,
                manifest.logs.iter().map(|(log, facts)| (*log, *facts)),
                manifest.deleted.iter().copied(),
            ),
            None => Acceptor::new(Revision::default()),
        };
        Self {
            acceptor,
            table: Memtable::default(),
        }
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Add {
                ledger,
                created,
                epoch: _,
                lac,
                kind,
                entry,
            } => {
                self.acceptor.replay_add(ledger, kind, lac);
                // Dropped by the word of the MANIFEST: its bytes are only waiting to go.
                if self.acceptor.is_dropped(ledger) {
                    return;
                }
                self.table.insert(Stored {
                    ledger,
                    created,
                    entry,
                });
            }
            Record::Fence { log, epoch } => self.acceptor.replay_fence(log, epoch),
        }
    }
}
