//! Tasks with names, stopped as a tree.
use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// A group of tasks, a node of a tree. Clones are the same group.
#[derive(Debug, Clone)]
pub struct Tasks {}

/// What a task may end with: nothing, or a `Result<(), E>`, whose `Err` fails the tree.
pub trait Outcome: Send + 'static {
    /// Why it failed, if it did.
    fn failure(self) -> Option<String>;
}

impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: fmt::Display + Send + 'static> Outcome for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// The first task that failed, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task failed task={task} reason={reason}")]
pub struct TaskFailure {
    /// Its name, with those of the groups above it.
    pub task: String,
    /// The text of its error or panic.
    pub reason: String,
    /// Whether it panicked.
    pub panicked: bool,
}

/// How a stop went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// A task failed, before the stop or during it.
    #[error(transparent)]
    Failed(#[from] TaskFailure),
    /// The deadline passed with tasks still running.
    #[error("tasks still running after the deadline tasks={}", running.join(","))]
    Overdue {
        /// Their names, with those of the groups above them.
        running: Vec<String>,
    },
}

impl Tasks {
    /// The root of a tree.
    pub fn new(_name: &str) -> Self {
        todo!()
    }

    /// Its name, with those of the groups above it: `bookie/journal`.
    pub fn name(&self) -> &str {
        todo!()
    }

    /// A group below this one: stopped with it, or alone.
    #[must_use]
    pub fn child(&self, _name: &str) -> Self {
        todo!()
    }

    /// Runs a future as a task of this group. A panic or an `Err` stops the whole tree, up to the root.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<F>(&self, _name: &str, _future: F)
    where
        F: Future + Send + 'static,
        F::Output: Outcome,
    {
        todo!()
    }

    /// The token that tells the tasks of this group to stop.
    pub fn token(&self) -> CancellationToken {
        todo!()
    }

    /// Returns once this group is told to stop.
    pub async fn stopped(&self) {
        todo!()
    }

    /// Whether this group has been told to stop.
    pub fn is_stopping(&self) -> bool {
        todo!()
    }

    /// Tells the tasks of this group, and of those below, to stop; does not wait.
    pub fn cancel(&self) {
        todo!()
    }

    /// Fails the tree from outside a task.
    pub fn fail(&self, _name: &str, _reason: impl fmt::Display) {
        todo!()
    }

    /// Stops this group and those below, and waits for their tasks, then for their disk workers (which finish what is queued).
    ///
    /// # Errors
    ///
    /// [`StopError`].
    pub async fn stop(&self, _deadline: Duration) -> Result<(), StopError> {
        todo!()
    }

    /// Waits until this group was told to stop (or the tree failed) and all its tasks have ended.
    ///
    /// # Errors
    ///
    /// [`TaskFailure`]: the first failure of the tree.
    pub async fn join(&self) -> Result<(), TaskFailure> {
        todo!()
    }

    /// The first failure of the tree so far.
    pub fn failure(&self) -> Option<TaskFailure> {
        todo!()
    }

    /// Names of the tasks and workers of this group and those below that still run.
    pub fn running(&self) -> Vec<String> {
        todo!()
    }
}
