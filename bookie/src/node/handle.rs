//! The engine's task as the rest of the node sees it: calls, and what became of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bookie_client::LocalAdds;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use types::LedgerId;
use types::storage::{LacResult, Read, ReadLac, ReadResult, ReadRun, RunItem};

use super::streams::Outbox;
use crate::{Ask, Holdings, HoldingsResult, Reclaim, Scrub, ScrubResult, Standing, Usage};

/// The engine's task, as the service sees it. Clones are the same engine.
#[derive(Debug, Clone)]
pub(super) struct EngineHandle {
    pub(super) inbox: mpsc::Sender<Call>,
    pub(super) stop: CancellationToken,
    pub(super) stopped: CancellationToken,
    pub(super) reports: watch::Receiver<Report>,
}

/// What meta is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) mark: u64,
    pub(super) standing: Standing,
}

/// One call.
pub(super) enum Call {
    /// Entries and LACs of one frame; answers go to the stream's outbox under the callers' numbers.
    Adds {
        outbox: Arc<Outbox>,
        asks: Vec<(u64, Ask)>,
    },
    /// Adds of a serving node in this process are to be taken from there from now on.
    Serve(Arc<dyn LocalAdds>),
    Read(Read, oneshot::Sender<ReadResult>),
    ReadLac(ReadLac, oneshot::Sender<LacResult>),
    ReadRun(ReadRun, oneshot::Sender<Vec<RunItem>>),
    BeginReclaim(oneshot::Sender<BTreeSet<LedgerId>>),
    Reclaim(Reclaim),
    Usage(usize, oneshot::Sender<Usage>),
    Holdings(Holdings, oneshot::Sender<HoldingsResult>),
    Scrub(Scrub, oneshot::Sender<ScrubResult>),
}

/// The engine's task has ended: the bookie is stopping, or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bookie is stopping")]
pub(super) struct EngineGone;

impl EngineHandle {
    /// Whether it takes the writes of writers.
    pub(super) fn is_writable(&self) -> bool {
        self.reports.borrow().standing == Standing::ReadWrite
    }

    /// Hands in what one frame of a stream brought. Waits while the engine is behind.
    pub(super) async fn add(
        &self,
        outbox: &Arc<Outbox>,
        asks: Vec<(u64, Ask)>,
    ) -> Result<(), EngineGone> {
        let outbox = Arc::clone(outbox);
        self.inbox
            .send(Call::Adds { outbox, asks })
            .await
            .map_err(|_| EngineGone)
    }

    /// Takes adds of a serving node in this process from there, and answers them there.
    pub(super) async fn serve(&self, adds: Arc<dyn LocalAdds>) -> Result<(), EngineGone> {
        let call = Call::Serve(adds);
        self.inbox.send(call).await.map_err(|_| EngineGone)
    }

    pub(super) async fn read(&self, read: Read) -> Result<ReadResult, EngineGone> {
        let (reply, answer) = oneshot::channel();
        self.inbox
            .send(Call::Read(read, reply))
            .await
            .map_err(|_| EngineGone)?;
        answer.await.map_err(|_| EngineGone)
    }

    pub(super) async fn read_lac(&self, read: ReadLac) -> Result<LacResult, EngineGone> {
        let (reply, answer) = oneshot::channel();
        self.inbox
            .send(Call::ReadLac(read, reply))
            .await
            .map_err(|_| EngineGone)?;
        answer.await.map_err(|_| EngineGone)
    }

    pub(super) async fn read_run(&self, run: ReadRun) -> Result<Vec<RunItem>, EngineGone> {
        let (reply, answer) = oneshot::channel();
        self.inbox
            .send(Call::ReadRun(run, reply))
            .await
            .map_err(|_| EngineGone)?;
        answer.await.map_err(|_| EngineGone)
    }

    /// The ledgers that meta is to be asked about, before it is asked.
    pub(super) async fn begin_reclaim(&self) -> Result<BTreeSet<LedgerId>, EngineGone> {
        let (reply, answer) = oneshot::channel();
        let call = Call::BeginReclaim(reply);
        self.inbox.send(call).await.map_err(|_| EngineGone)?;
        answer.await.map_err(|_| EngineGone)
    }

    /// Hands in meta's word about what may go.
    pub(super) async fn reclaim(&self, word: Reclaim) -> Result<(), EngineGone> {
        let call = Call::Reclaim(word);
        self.inbox.send(call).await.map_err(|_| EngineGone)
    }

    /// What takes space, with so many logs at most.
    pub(super) async fn usage(&self, logs: usize) -> Result<Usage, EngineGone> {
        let (reply, answer) = oneshot::channel();
        let call = Call::Usage(logs, reply);
        self.inbox.send(call).await.map_err(|_| EngineGone)?;
        answer.await.map_err(|_| EngineGone)
    }

    pub(super) async fn holdings(&self, ask: Holdings) -> Result<HoldingsResult, EngineGone> {
        let (reply, answer) = oneshot::channel();
        self.inbox
            .send(Call::Holdings(ask, reply))
            .await
            .map_err(|_| EngineGone)?;
        answer.await.map_err(|_| EngineGone)
    }

    pub(super) async fn scrub(&self, ask: Scrub) -> Result<ScrubResult, EngineGone> {
        let (reply, answer) = oneshot::channel();
        let call = Call::Scrub(ask, reply);
        self.inbox.send(call).await.map_err(|_| EngineGone)?;
        answer.await.map_err(|_| EngineGone)
    }

    /// Whether the task has ended.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    /// Waits until the task has ended.
    pub(super) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// Closes the journal and ends the task.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.stopped.cancelled().await;
    }
}
