//! Tasks with names, stopped as a tree.
//!
//! No task is left alone: each belongs to a group, has a name, and ends before its group's stop returns, or is named
//! in the report. The first panic or `Err` anywhere stops the whole tree: a node that has lost a part does not go on
//! as if it had not.
#![expect(
    clippy::disallowed_methods,
    reason = "this is where tasks are spawned for all others"
)]

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// A group of tasks, a node of a tree. Clones are the same group.
#[derive(Clone)]
pub struct Tasks {
    group: Arc<Group>,
}

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

/// One node of the tree. Children hold their parent, never the other way round, so a group that is dropped is gone.
struct Group {
    name: String,
    token: CancellationToken,
    parent: Option<Arc<Group>>,
    root: Arc<Root>,
    /// What runs here and below, by number.
    running: Mutex<BTreeMap<u64, Running>>,
    /// Told whenever something has ended.
    ended: Notify,
}

/// What all groups of a tree share.
struct Root {
    token: CancellationToken,
    next: AtomicU64,
    failure: Mutex<Option<TaskFailure>>,
}

#[derive(Clone)]
struct Running {
    name: Arc<str>,
    /// For a disk worker: closes its queue. It is closed after the tasks have ended, which may need it until then.
    close: Option<CancellationToken>,
}

impl Tasks {
    /// The root of a tree.
    pub fn new(name: &str) -> Self {
        let token = CancellationToken::new();
        let root = Arc::new(Root {
            token: token.clone(),
            next: AtomicU64::new(0),
            failure: Mutex::new(None),
        });
        Self::group(name.to_owned(), token, None, root)
    }

    fn group(
        name: String,
        token: CancellationToken,
        parent: Option<Arc<Group>>,
        root: Arc<Root>,
    ) -> Self {
        Self {
            group: Arc::new(Group {
                name,
                token,
                parent,
                root,
                running: Mutex::default(),
                ended: Notify::new(),
            }),
        }
    }

    /// Its name, with those of the groups above it: `bookie/journal`.
    pub fn name(&self) -> &str {
        &self.group.name
    }

    /// A group below this one: stopped with it, or alone. A failure in it stops the whole tree all the same.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self::group(
            self.path(name),
            self.group.token.child_token(),
            Some(Arc::clone(&self.group)),
            Arc::clone(&self.group.root),
        )
    }

    /// Runs a future as a task of this group. A panic or an `Err` stops the whole tree, up to the root.
    ///
    /// The task is told to stop by [`Tasks::token`]; nothing ends it by force. One spawned after the stop runs too,
    /// and the stop waits for it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<F>(&self, name: &str, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Outcome,
    {
        tokio::spawn(self.counted(name, future));
    }

    /// The same without the task's name before its log lines: for tasks of which there are very many, or that end soon. What
    /// they log has to tell whose it is.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn_unlabelled<F>(&self, name: &str, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Outcome,
    {
        tokio::spawn(guarded(self.register(name, None), future));
    }

    /// Counts a future as a task of this group that somebody else runs, as a part of a task of theirs: a stop waits for it, and a
    /// panic or an `Err` stops the whole tree. It counts until it has ended or is dropped.
    pub fn counted<F>(&self, name: &str, future: F) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future + Send + 'static,
        F::Output: Outcome,
    {
        let registration = self.register(name, None);
        let span = tracing::info_span!("task", name = %registration.name);
        guarded(registration, future).instrument(span)
    }

    /// The token that tells the tasks of this group to stop.
    pub fn token(&self) -> CancellationToken {
        self.group.token.clone()
    }

    /// Returns once this group is told to stop.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub async fn stopped(&self) {
        self.group.token.cancelled().await;
    }

    /// Whether this group has been told to stop.
    pub fn is_stopping(&self) -> bool {
        self.group.token.is_cancelled()
    }

    /// Tells the tasks of this group, and of those below, to stop; does not wait.
    pub fn cancel(&self) {
        self.group.token.cancel();
    }

    /// Fails the tree from outside a task.
    pub fn fail(&self, name: &str, reason: impl fmt::Display) {
        self.group
            .root
            .fail(&self.path(name), reason.to_string(), false);
    }

    /// Stops this group and those below: tells the tasks, waits for them, then closes the disk workers, which finish
    /// what is queued, and waits for these.
    ///
    /// # Errors
    ///
    /// - [`StopError::Failed`]: a task of the tree failed. All have ended, or are logged as still running.
    /// - [`StopError::Overdue`]: these still run. Nothing was ended by force.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the tasks stay told to stop; calling again waits on.
    pub async fn stop(&self, deadline: Duration) -> Result<(), StopError> {
        self.cancel();
        let orderly = async {
            self.ended(|running| running.close.is_some()).await;
            self.close_workers();
            self.ended(|_| false).await;
        };
        let is_overdue = tokio::time::timeout(deadline, orderly).await.is_err();
        let running = self.running();
        if is_overdue {
            // Those that wait for a worker's answer get it or learn that it is gone.
            self.close_workers();
            tracing::warn!(tasks = %running.join(","), ?deadline, "tasks still running after the deadline");
        }
        match self.failure() {
            Some(failure) => Err(failure.into()),
            None if is_overdue => Err(StopError::Overdue { running }),
            None => Ok(()),
        }
    }

    /// Waits until this group was told to stop (as a failure of the tree does) and all its tasks have ended. It waits
    /// for no disk worker: [`Tasks::stop`] does.
    ///
    /// # Errors
    ///
    /// [`TaskFailure`]: the first failure of the tree.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop, and to call again.
    pub async fn join(&self) -> Result<(), TaskFailure> {
        self.stopped().await;
        self.ended(|running| running.close.is_some()).await;
        self.failure().map_or(Ok(()), Err)
    }

    /// The first failure of the tree so far.
    pub fn failure(&self) -> Option<TaskFailure> {
        lock(&self.group.root.failure).clone()
    }

    /// Names of the tasks and workers of this group and those below that still run, in order of their start.
    pub fn running(&self) -> Vec<String> {
        let running = lock(&self.group.running);
        running.values().map(|one| one.name.to_string()).collect()
    }

    /// Notes something that runs: here and in all groups above.
    pub(crate) fn register(&self, name: &str, close: Option<CancellationToken>) -> Registration {
        let number = self.group.root.next.fetch_add(1, Ordering::Relaxed);
        let name: Arc<str> = Arc::from(self.path(name));
        let running = Running {
            name: Arc::clone(&name),
            close,
        };
        for group in self.group.upwards() {
            lock(&group.running).insert(number, running.clone());
        }
        Registration {
            group: Arc::clone(&self.group),
            number,
            name,
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.group.name)
    }

    /// Waits until all that still runs `may_remain`.
    async fn ended(&self, may_remain: impl Fn(&Running) -> bool) {
        loop {
            let mut ended = std::pin::pin!(self.group.ended.notified());
            // Listen first, look then: an end between the two is not missed.
            ended.as_mut().enable();
            if lock(&self.group.running).values().all(&may_remain) {
                return;
            }
            ended.await;
        }
    }

    fn close_workers(&self) {
        let running = lock(&self.group.running).clone();
        for close in running.into_values().filter_map(|one| one.close) {
            close.cancel();
        }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("name", &self.group.name)
            .field("running", &self.running())
            .finish()
    }
}

impl Group {
    fn upwards(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::successors(Some(self), |group| group.parent.as_ref())
    }
}

impl Root {
    fn fail(&self, task: &str, reason: String, panicked: bool) {
        tracing::error!(task, %reason, panicked, "task failed");
        lock(&self.failure).get_or_insert_with(|| TaskFailure {
            task: task.to_owned(),
            reason,
            panicked,
        });
        self.token.cancel();
    }
}

/// A future whose failure stops the tree. Combinators, since an async block would hold the future twice: as what it was made
/// with, and as what it waits for.
fn guarded<F>(registration: Registration, future: F) -> impl Future<Output = ()> + Send + 'static
where
    F: Future + Send + 'static,
    F::Output: Outcome,
{
    // What the future held is dropped before its end is told, and nothing else is looked at: the tree stops.
    let caught = AssertUnwindSafe(future).catch_unwind();
    caught.map(move |ended| match ended {
        Ok(outcome) => {
            if let Some(reason) = outcome.failure() {
                registration.fail(reason, false);
            }
        }
        Err(panic) => registration.fail(panic_text(&*panic), true),
    })
}

/// Something that runs. Dropping it notes that it has ended, however it did: also when its runtime is torn down.
pub(crate) struct Registration {
    group: Arc<Group>,
    number: u64,
    name: Arc<str>,
}

impl Registration {
    /// Its name, with those of the groups above it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Notes that it failed, which stops the tree.
    pub(crate) fn fail(&self, reason: String, panicked: bool) {
        self.group.root.fail(&self.name, reason, panicked);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        for group in self.group.upwards() {
            lock(&group.running).remove(&self.number);
            group.ended.notify_waiters();
        }
    }
}

/// The text of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("panic without a text").to_owned()
}

/// Nothing that may panic runs under these locks, so a poisoned one is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
