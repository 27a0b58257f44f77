//! The store of one machine: redb on a file of its own.
//!
//! One task gathers conditional writes while the disk works on those before them, and carries a whole group out in
//! one transaction with one sync: each write is checked against what the group's earlier ones left, and has its own
//! revision. Reads run beside it, on a worker of their own, and see committed groups only.
//!
//! A failed write or sync is final. The group's outcome is unknown, nothing is answered any more (a read could show
//! what a restart takes back, or hide what it brings), and the node stops.

mod backend;
mod carried;
mod data;
mod directory;
mod identity;
mod sum;
mod task;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};

use catalog::{Need, Snapshot, Write};
use host::{DiskWorker, Host};
use types::cluster::MetaGeneration;
use types::{ClusterId, Revision};

use super::{ChangesSince, CommitError, Store, StoreError};
pub(crate) use carried::{export, restore, save};
use data::Data;
pub use directory::OpenError;
use task::{CommitTask, Request};

/// Most writes that wait to be gathered.
const INBOX_LEN: usize = 1024;

/// Where the store lives and how much memory and history it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// Its directory, for it alone.
    pub dir: PathBuf,
    /// The cluster it must belong to; none to take what is there, or a new one on a first start.
    pub cluster: Option<ClusterId>,
    /// Bytes of pages kept in memory.
    pub cache_bytes: usize,
    /// How many revisions back changes are told.
    pub history: u64,
}

impl EmbeddedConfig {
    /// The usual values.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cluster: None,
            cache_bytes: 16 << 20,
            history: 65_536,
        }
    }
}

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Embedded {
    data: Arc<Data>,
    reads: DiskWorker,
    inbox: mpsc::Sender<Request>,
    revision: watch::Receiver<Revision>,
    has_failed: Arc<AtomicBool>,
    cluster: ClusterId,
    generation: MetaGeneration,
}

impl Embedded {
    /// Opens the store, or makes it in an empty directory, and starts its tasks.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong with the directory and what to do.
    pub async fn start(host: &Host, config: EmbeddedConfig) -> Result<Self, OpenError> {
        let reads = host.disk_worker("meta-read");
        let writes = host.disk_worker("meta-write");
        let disk = Arc::clone(&host.disk);
        let fresh = ClusterId::new(host.rng.u128());
        let opened = writes
            .run(move || directory::open(&disk, &config, fresh))
            .await
            .map_err(|_| OpenError::Stopping)??;
        let data = Arc::new(opened.data);
        let (inbox, requests) = mpsc::channel(INBOX_LEN);
        let (publish, revision) = watch::channel(opened.revision);
        let has_failed = Arc::new(AtomicBool::new(false));
        let task = CommitTask {
            data: Arc::clone(&data),
            worker: writes,
            requests,
            publish,
            has_failed: Arc::clone(&has_failed),
            stop: host.tasks.token(),
        };
        host.tasks.spawn("meta-commit", task.run());
        Ok(Self {
            data,
            reads,
            inbox,
            revision,
            has_failed,
            cluster: opened.cluster,
            generation: opened.generation,
        })
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.has_failed.load(Ordering::Acquire) {
            return Err(StoreError::Failed {
                reason: "an earlier write failed".to_owned(),
            });
        }
        Ok(())
    }

    /// Runs a read on the worker. Failure is looked at again afterwards: what a read saw while a sync failed must
    /// not be told.
    async fn on_worker<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Data) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.check()?;
        let data = Arc::clone(&self.data);
        let found = self.reads.run(move || call(&data)).await;
        let found = found.map_err(|_| StoreError::Stopping)??;
        self.check()?;
        Ok(found)
    }
}

impl Store for Embedded {
    fn read(&self, need: Need) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        Box::pin(self.on_worker(move |data| data.read(&need)))
    }

    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            self.check().map_err(CommitError::Refused)?;
            let (reply, answer) = oneshot::channel();
            let stopping = |_| CommitError::Refused(StoreError::Stopping);
            self.inbox
                .send(Request { write, reply })
                .await
                .map_err(stopping)?;
            answer.await.unwrap_or_else(|_| {
                Err(CommitError::Unknown {
                    reason: "the store stopped before it answered".to_owned(),
                })
            })
        })
    }

    fn changes(
        &self,
        after: Revision,
        limit: usize,
    ) -> BoxFuture<'_, Result<ChangesSince, StoreError>> {
        Box::pin(self.on_worker(move |data| data.changes(after, limit)))
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.revision.clone()
    }

    fn cluster(&self) -> ClusterId {
        self.cluster
    }

    fn generation(&self) -> MetaGeneration {
        self.generation
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}
