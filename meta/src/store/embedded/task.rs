//! The loop that gathers writes into groups.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use catalog::Write;
use host::DiskWorker;
use types::Revision;

use super::super::CommitError;
use super::data::{Data, Outcome};

/// Most writes of one group.
const GROUP_MAX: usize = 256;

/// A write, and where its outcome goes.
pub(super) struct Request {
    pub(super) write: Write,
    pub(super) reply: oneshot::Sender<Result<Revision, CommitError>>,
}

pub(super) struct CommitTask {
    pub(super) data: Arc<Data>,
    pub(super) worker: DiskWorker,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) publish: watch::Sender<Revision>,
    pub(super) has_failed: Arc<AtomicBool>,
    pub(super) stop: CancellationToken,
}

impl CommitTask {
    /// Runs until the node stops and what was taken by then is carried out. An error stops the node.
    pub(super) async fn run(mut self) -> Result<(), String> {
        let mut group = Vec::with_capacity(GROUP_MAX);
        loop {
            let count = tokio::select! {
                biased; // Stop first: nothing new is taken then, what was taken is finished.
                () = self.stop.cancelled(), if !self.requests.is_closed() => {
                    self.requests.close();
                    continue;
                }
                count = self.requests.recv_many(&mut group, GROUP_MAX) => count,
            };
            if count == 0 {
                return Ok(());
            }
            self.commit(std::mem::take(&mut group)).await?;
        }
    }

    async fn commit(&self, group: Vec<Request>) -> Result<(), String> {
        let (writes, replies): (Vec<Write>, Vec<_>) = group
            .into_iter()
            .map(|request| (request.write, request.reply))
            .unzip();
        let data = Arc::clone(&self.data);
        let done = self.worker.run(move || data.commit_group(&writes)).await;
        let failure = match done {
            Ok(Ok((outcomes, revision))) => {
                self.publish.send_if_modified(|known| {
                    let is_new = *known != revision;
                    *known = revision;
                    is_new
                });
                for (outcome, reply) in outcomes.into_iter().zip(replies) {
                    // The caller may have gone: then nobody wants it.
                    let _ = reply.send(match outcome {
                        Outcome::Committed(revision) => Ok(revision),
                        Outcome::Conflict => Err(CommitError::Conflict),
                    });
                }
                return Ok(());
            }
            Ok(Err(failure)) => failure.to_string(),
            Err(gone) => gone.to_string(),
        };
        // Nothing that was read meanwhile, and nothing later, may be told: see the module.
        self.has_failed.store(true, Ordering::Release);
        error!(reason = %failure, "the meta store failed, its last writes have an unknown outcome");
        for reply in replies {
            let reason = failure.clone();
            let _ = reply.send(Err(CommitError::Unknown { reason }));
        }
        Err(failure)
    }
}
