//! Where records live: the contract that every store keeps, and the stores.
//!
//! A store is a map from [`Key`](catalog::Key) to [`Record`](catalog::Record) with revisions, and a history of
//! changes. It knows nothing of what the records mean. `suite` holds its promises as tests that run on any store:
//!
//! 1. *One order.* Every commit has a revision of its own, higher than that of all commits before it. A record's
//!    version is the revision that last changed it; a new record's creation stays with it.
//! 2. *Conditional.* A write is carried out only if every record it names has the version it names. All of it
//!    happens, at one revision, or nothing.
//! 3. *Durable before told.* When [`Store::commit`] returns a revision, the write survives power loss, and every
//!    read that begins afterwards sees it. No read ever shows a write that a crash can take back.
//! 4. *One moment.* A read shows all its keys and ranges at one revision.
//! 5. *Unknown is said.* A commit whose outcome is not known is [`CommitError::Unknown`], never anything else.
//! 6. *No change is skipped.* [`Store::changes`] tells every change after a revision, in order, whole revisions only;
//!    or says that they are no longer all known.

mod changes;
pub(crate) mod embedded;
pub(crate) mod etcd;
#[cfg(test)]
pub(crate) mod suite;

use std::fmt;

use futures::future::BoxFuture;
use tokio::sync::watch;

use catalog::{Need, Snapshot, Write};
use types::cluster::MetaGeneration;
use types::command::ChangeEvent;
use types::{ClusterId, Revision};

pub use embedded::{Embedded, EmbeddedConfig, OpenError};
pub(crate) use etcd::{Candidate, Lead, Look};
pub use etcd::{Etcd, EtcdConfig, EtcdError, EtcdStandby};

/// A transactional store of records. See the module for what it promises.
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Reads keys and ranges, all at one revision, not older than any commit told before.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing is known; the caller may try again unless the store has failed for good.
    fn read(&self, need: Need) -> BoxFuture<'_, Result<Snapshot, StoreError>>;

    /// Carries a conditional write out.
    ///
    /// # Errors
    ///
    /// [`CommitError::Conflict`]: nothing happened; read and decide anew. [`CommitError::Refused`]: nothing
    /// happened. [`CommitError::Unknown`]: it may or may not have happened.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not undo the write: it may still happen.
    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Revision, CommitError>>;

    /// Changes after a revision, whole revisions only, about `limit` of them.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    fn changes(
        &self,
        after: Revision,
        limit: usize,
    ) -> BoxFuture<'_, Result<ChangesSince, StoreError>>;

    /// The revision of the last commit, and each next one. Some may be passed over: only the newest counts.
    fn revision(&self) -> watch::Receiver<Revision>;

    /// The cluster that the store was made for.
    fn cluster(&self) -> ClusterId;

    /// Which life of the cluster's metadata it holds.
    fn generation(&self) -> MetaGeneration;
}

/// What [`Store::changes`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangesSince {
    /// All changes after the revision asked, up to and including `upto`.
    Events {
        /// The changes, in order.
        events: Vec<ChangeEvent>,
        /// Ask again from here.
        upto: Revision,
    },
    /// Not all of them are known any more.
    Compacted {
        /// The present revision: read anew, then go on from here.
        now: Revision,
    },
}

/// Why a store did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store is stopping, or has stopped.
    #[error("the store is stopping")]
    Stopping,
    /// A write or a sync failed, or bytes were damaged: what is on the disk is not known. Final.
    #[error("the store has failed reason={reason}")]
    Failed {
        /// What failed.
        reason: String,
    },
    /// The store cannot be reached now. Nothing is known; try again.
    #[error("the store cannot be reached reason={reason}")]
    Unreachable {
        /// What failed.
        reason: String,
    },
    /// This process may not use the store: another one is active, or is about to be.
    #[error("this meta node is not active, ask the active one active={}", active.as_deref().unwrap_or("unknown"))]
    NotActive {
        /// The address of the active one, where known.
        active: Option<String>,
    },
    /// The write is larger than the store takes; the same will be refused each time.
    #[error("the write is larger than the store takes: {what}")]
    TooLarge {
        /// What is too large, and the limit.
        what: String,
    },
}

/// Why a commit has no revision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A record has another version than the write named. Nothing happened.
    #[error("a record changed")]
    Conflict,
    /// The store did not take it. Nothing happened.
    #[error(transparent)]
    Refused(StoreError),
    /// It may or may not have happened.
    #[error("the outcome is unknown reason={reason}")]
    Unknown {
        /// What failed.
        reason: String,
    },
}
