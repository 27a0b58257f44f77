//! Opening what is on the disk: survey, claim, finish.

use std::path::PathBuf;
use std::sync::Arc;

use host::disk::Disk;
use types::cluster::{BookieClaim, BookieRecord};
use types::{BookieId, ClusterId, Incarnation, MonoTime, NodeName, Revision};

use crate::{Config, Engine};

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
#[derive(Debug)]
pub struct Opening(());

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
        source: std::io::Error,
    },
}

impl Opening {
    /// Locks the directories, raises the incarnation durably, and reads what is there. Blocking.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; each message names the fix.
    pub fn start(config: Config, _disk: Arc<dyn Disk>, _place: Place) -> Result<Self, OpenError> {
        config.validate()?;
        Ok(Self(()))
    }

    /// What was found, to tell meta.
    pub fn claim(&self, _address: String) -> BookieClaim {
        unreachable!()
    }

    /// Makes meta's answer durable and opens the engine. Blocking.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn finish(
        self,
        _record: &BookieRecord,
        _now: MonoTime,
    ) -> Result<(Engine, OpenReport), OpenError> {
        unreachable!()
    }
}
