//! Blocking calls in order, away from the network threads.
//!
//! A worker is one queue and one who empties it. On a real disk that is an OS thread, which may block as long as the
//! disk does. On a simulated disk, whose calls return at once, it is a task of the runtime that after each call sleeps
//! as long as the disk says the call would have taken: the same order, no thread, and so the same run from the same
//! seed.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::disk::{Disk, WorkerMode};
use crate::host::Host;
use crate::tasks::{Registration, panic_text};

/// Calls that may wait in a queue. Bytes are the callers' to bound.
const QUEUE_LEN: usize = 256;

/// A queue of blocking calls, run one after another in the order in which they were admitted: on an OS thread of its
/// own, or, where the disk is simulated, as a task that sleeps as long as the disk says the calls took.
///
/// Clones share the queue. When the last is dropped, or when the tasks of its host are stopped, what is queued still
/// runs and the worker ends. A call that panics fails the node and ends the worker.
#[derive(Clone)]
pub struct DiskWorker {
    name: Arc<str>,
    queue: mpsc::Sender<Call>,
}

/// A call; what it returns tells its caller, and is run when the call's time has passed.
type Call = Box<dyn FnOnce() -> Answer + Send>;
type Answer = Box<dyn FnOnce() + Send>;

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
    pub(crate) fn start(host: &Host, name: &str) -> Self {
        let (queue, calls) = mpsc::channel(QUEUE_LEN);
        let close = CancellationToken::new();
        let registration = host.tasks.register(name, Some(close.clone()));
        let worker = Self {
            name: Arc::from(registration.name()),
            queue,
        };
        let mode = host.disk.worker_mode();
        let paced = (mode == WorkerMode::Inline).then(|| Arc::clone(&host.disk));
        let run = empty(registration, calls, close, paced);
        match mode {
            WorkerMode::Inline => spawn_task(run),
            WorkerMode::Thread => {
                thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(move || block_on(run))
                    .expect("the system has a thread left for a disk");
            }
        }
        worker
    }

    /// Its name, with those of the groups of tasks above it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Queues a call, waits until it has run and returns its answer. Waits also for room in the queue.
    ///
    /// # Errors
    ///
    /// [`WorkerGone`]: the call did not run, or it panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropped while waiting for room, the call never runs; later it runs all the same, and the answer is lost.
    pub async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkerGone> {
        let (reply, answer) = oneshot::channel();
        let boxed: Call = Box::new(move || {
            let value = call();
            Box::new(move || {
                // The caller may have gone: then nobody wants it.
                let _ = reply.send(value);
            })
        });
        self.queue.send(boxed).await.map_err(|_| WorkerGone)?;
        answer.await.map_err(|_| WorkerGone)
    }

    /// Queues a call and returns when there was room for it, not when it has run. On a simulated disk the call acts
    /// before its time has passed: what must wait for that is [`DiskWorker::submit_then`]'s or [`DiskWorker::run`]'s.
    ///
    /// # Errors
    ///
    /// [`WorkerGone`]: the call will not run.
    ///
    /// # Cancel safety
    ///
    /// Dropped while waiting for room, the call never runs.
    pub async fn submit(&self, call: impl FnOnce() + Send + 'static) -> Result<(), WorkerGone> {
        self.submit_then(call, |()| ()).await
    }

    /// Queues a call whose answer goes to `then`, on the worker, when the call's time has passed. Returns when there
    /// was room for it. `then` must not block.
    ///
    /// # Errors
    ///
    /// [`WorkerGone`]: neither will run.
    ///
    /// # Cancel safety
    ///
    /// Dropped while waiting for room, neither ever runs.
    pub async fn submit_then<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(T) + Send + 'static,
    ) -> Result<(), WorkerGone> {
        let boxed = boxed(call, then);
        self.queue.send(boxed).await.map_err(|_| WorkerGone)
    }

    /// Queues a call if there is room at once.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]: the call will not run.
    pub fn try_submit(&self, call: impl FnOnce() + Send + 'static) -> Result<(), SubmitError> {
        self.try_submit_then(call, |()| ())
    }

    /// Queues a call whose answer goes to `then`, on the worker, if there is room at once.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]: neither will run.
    pub fn try_submit_then<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(T) + Send + 'static,
    ) -> Result<(), SubmitError> {
        let sent = self.queue.try_send(boxed(call, then));
        sent.map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Full,
            TrySendError::Closed(_) => SubmitError::Gone,
        })
    }
}

impl fmt::Debug for DiskWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskWorker")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn boxed<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
    then: impl FnOnce(T) + Send + 'static,
) -> Call {
    Box::new(move || {
        let value = call();
        Box::new(move || then(value))
    })
}

/// Runs the calls until the queue is closed and empty, at the pace of a simulated disk if there is one. The registration goes last: then nothing touches the disk.
async fn empty(
    registration: Registration,
    mut calls: mpsc::Receiver<Call>,
    close: CancellationToken,
    paced: Option<Arc<dyn Disk>>,
) {
    let busy = || paced.as_ref().map_or(Duration::ZERO, |disk| disk.busy());
    loop {
        let call = tokio::select! {
            biased; // Close first; what is queued by then still comes out.
            () = close.cancelled(), if !calls.is_closed() => {
                calls.close();
                continue;
            }
            call = calls.recv() => call,
        };
        let Some(call) = call else {
            return;
        };
        let before = busy();
        // A call that panicked may have left anything half done: nobody calls here again, and the node stops.
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(answer) => {
                let spent = busy().saturating_sub(before);
                if !spent.is_zero() {
                    tokio::time::sleep(spent).await;
                }
                answer();
            }
            Err(panic) => {
                registration.fail(panic_text(&*panic), true);
                return;
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the task is registered with the node's tasks by its caller"
)]
fn spawn_task(run: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(run);
}

/// Drives a future on this thread, which sleeps while there is nothing to do.
fn block_on(future: impl Future<Output = ()>) {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    while future.as_mut().poll(&mut context) == Poll::Pending {
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;
    use crate::clock::Clock;
    use crate::disk::OpenMode;
    use crate::disk::sim::{Latency, SimDisk};

    const LONG: Duration = Duration::from_secs(60);

    /// A host with threads and one without.
    fn hosts() -> [Host; 2] {
        [Host::real("real"), Host::simulated("sim", 1)]
    }

    #[tokio::test]
    async fn calls_run_in_the_order_of_their_admission() {
        for host in hosts() {
            let worker = host.disk_worker("w");
            let seen = Arc::new(Mutex::new(Vec::new()));
            for n in 0..500 {
                let seen = Arc::clone(&seen);
                worker
                    .submit(move || seen.lock().unwrap().push(n))
                    .await
                    .unwrap();
            }
            let last = worker.run({
                let seen = Arc::clone(&seen);
                move || seen.lock().unwrap().len()
            });
            assert_eq!(last.await, Ok(500));
            assert!(seen.lock().unwrap().is_sorted());
        }
    }

    #[tokio::test]
    async fn the_thread_has_the_name_of_the_worker() {
        let host = Host::real("node");
        let worker = host.disk_worker("journal");
        let name = worker
            .run(|| thread::current().name().map(str::to_owned))
            .await;
        assert_eq!(name.unwrap().as_deref(), Some("journal"));
        assert_eq!(worker.name(), "node/journal");
    }

    #[tokio::test]
    async fn a_stop_lets_tasks_use_the_worker_and_then_runs_what_is_queued() {
        for host in hosts() {
            let worker = host.disk_worker("w");
            let seen = Arc::new(Mutex::new(0));
            let (used, token, count) = (worker.clone(), host.tasks.token(), Arc::clone(&seen));
            host.tasks.spawn("flush", async move {
                token.cancelled().await;
                for _ in 0..100 {
                    let count = Arc::clone(&count);
                    used.submit(move || *count.lock().unwrap() += 1).await?;
                }
                Ok::<_, WorkerGone>(())
            });

            host.tasks.stop(LONG).await.unwrap();

            assert_eq!(*seen.lock().unwrap(), 100);
            assert_eq!(worker.run(|| ()).await, Err(WorkerGone));
            assert_eq!(worker.try_submit(|| ()), Err(SubmitError::Gone));
        }
    }

    #[tokio::test]
    async fn a_dropped_worker_runs_what_is_queued_and_ends() {
        for host in hosts() {
            let worker = host.disk_worker("w");
            let (told, tell) = oneshot::channel();
            let tell_it = move || told.send(()).unwrap();
            worker.submit(tell_it).await.unwrap();
            drop(worker);
            tell.await.unwrap();
            host.tasks.stop(LONG).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_panic_in_a_call_fails_the_node() {
        for host in hosts() {
            let worker = host.disk_worker("w");
            assert_eq!(
                worker.run(|| panic!("broken")).await,
                Err::<(), _>(WorkerGone)
            );
            let failure = host.tasks.join().await.unwrap_err();
            assert_eq!(failure.reason, "broken");
            assert!(failure.panicked && failure.task.ends_with("/w"));
        }
    }

    #[tokio::test]
    async fn a_full_queue_is_told_at_once() {
        for host in hosts() {
            let worker = host.disk_worker("w");
            let (release, blocked) = std::sync::mpsc::channel::<()>();
            let is_thread = host.disk.worker_mode() == WorkerMode::Thread;
            if is_thread {
                let wait = move || assert!(blocked.recv().is_err());
                worker.submit(wait).await.unwrap();
            }
            let taken = (0..QUEUE_LEN + 2)
                .take_while(|_| worker.try_submit(|| ()).is_ok())
                .count();
            assert!((QUEUE_LEN - 1..=QUEUE_LEN + 1).contains(&taken), "{taken}");
            assert_eq!(worker.try_submit(|| ()), Err(SubmitError::Full));
            drop(release);
            worker.run(|| ()).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn simulated_calls_take_the_time_the_disk_says() {
        let disk = SimDisk::new(1);
        disk.set_latency(Latency {
            per_sync: Duration::from_millis(7),
            ..Latency::default()
        });
        let host = Host::simulated("sim", 1).with_disk(Arc::new(disk));
        let clock: Clock = host.clock.clone();
        let worker = host.disk_worker("w");
        let open = Arc::clone(&host.disk);
        let begun = clock.now();

        let synced = worker.run(move || {
            let file = open.open(Path::new("f"), OpenMode::CreateNew)?;
            file.write_at(0, b"abc")?;
            file.sync_data()
        });
        synced.await.unwrap().unwrap();

        assert_eq!(clock.now().since(begun), Duration::from_millis(7));
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_comes_after_the_simulated_time() {
        let disk = SimDisk::new(1);
        disk.set_latency(Latency {
            per_op: Duration::from_millis(5),
            ..Latency::default()
        });
        let host = Host::simulated("sim", 1).with_disk(Arc::new(disk));
        let worker = host.disk_worker("w");
        let (tell, told) = oneshot::channel();
        let (open, clock) = (Arc::clone(&host.disk), host.clock.clone());
        let begun = clock.now();
        let call = move || open.exists(Path::new("f"));
        let then = move |answer| drop(tell.send((answer, clock.now())));
        worker.submit_then(call, then).await.unwrap();
        let (answer, at) = told.await.unwrap();
        assert!(!answer.unwrap());
        assert_eq!(at.since(begun), Duration::from_millis(5));
    }
}
