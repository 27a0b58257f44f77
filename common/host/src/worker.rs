//! Blocking calls in order, away from the network threads.
use crate::host::Host;

/// A queue of blocking calls, run one after another in the order in which they were admitted: on an OS thread of its
/// own, or, where the disk is simulated, as a task that sleeps as long as the disk says the calls took.
#[derive(Debug, Clone)]
pub struct DiskWorker {}

/// The worker has ended: it was stopped, or a call panicked (which fails the node).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("disk worker has ended")]
pub struct WorkerGone;

/// Why a call was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full: back off.
    #[error("queue of the disk worker is full")]
    Full,
    /// The worker has ended.
    #[error("disk worker has ended")]
    Gone,
}

impl DiskWorker {
    pub(crate) fn start(_host: &Host, _name: &str) -> Self {
        todo!()
    }

    /// Queues a call, waits until it has run and returns its answer. Waits also for room in the queue.
    ///
    /// # Errors
    ///
    /// [`WorkerGone`]: the call may or may not have run.
    ///
    /// # Cancel safety
    ///
    /// Dropped while waiting for room, the call never runs; later it runs all the same, and the answer is lost.
    pub async fn run<T: Send + 'static>(
        &self,
        _call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkerGone> {
        todo!()
    }

    /// Queues a call and returns when there was room for it, not when it has run.
    ///
    /// # Errors
    ///
    /// [`WorkerGone`]: the call will not run.
    ///
    /// # Cancel safety
    ///
    /// Dropped while waiting for room, the call never runs.
    pub async fn submit(&self, _call: impl FnOnce() + Send + 'static) -> Result<(), WorkerGone> {
        todo!()
    }

    /// Queues a call if there is room at once.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]: the call will not run.
    pub fn try_submit(&self, _call: impl FnOnce() + Send + 'static) -> Result<(), SubmitError> {
        todo!()
    }
}
