//! One task for all that a connection does.
//!
//! As tasks of their own its parts would wake each other through the runtime. A frame that comes wakes its stream, the stream a
//! shard, the shard another connection; the runtime runs three such links from one to the next, and has another thread take
//! over the fourth (`MAX_LIFO_POLLS_PER_TICK` in tokio's `multi_thread/worker.rs`), often while the third still holds the
//! connection's lock. In one task the way from a frame to its stream, and from an answer to the socket, is a few calls.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::task::AtomicWaker;
use futures::{FutureExt, StreamExt};
use hyper::rt::Executor;
use tokio::task::coop;

/// Times that a turn of the task asks its futures again because one woke another, before other tasks have theirs: a frame
/// that was read wakes its stream, the stream's answer its body, and the body the connection, which writes.
const ROUNDS: usize = 4;

/// Runs the futures of one connection as one task: the connection, its calls, the bodies of their answers, and what streams do
/// beside them.
///
/// The task starts with the first future and ends with the last. A future that panics is dropped, the others go on. One connection
/// never has more than one processor at a time. Clones are the same task.
#[derive(Clone, Default)]
pub struct ConnectionTask {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// What joins in the next round; none while no task runs.
    joining: Mutex<Option<Vec<Member>>>,
    bell: Arc<Bell>,
    /// Somebody wants the turn to end.
    is_turn_over: AtomicBool,
}

impl ConnectionTask {
    /// The task of the connection that a request came over; one of its own for a request that came over none.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Has the task run this future too, from its next turn on at the latest.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[expect(
        clippy::disallowed_methods,
        reason = "a connection ends with its server, which waits for it, or with the channel that holds it; what a stream \
                  does beside is registered with the tasks of its node"
    )]
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let member = Member {
            future: Some(future.boxed()),
        };
        let mut joining = self.shared.joining();
        let is_running = joining.is_some();
        joining.get_or_insert_default().push(member);
        drop(joining);
        if is_running {
            self.shared.bell.wake_by_ref();
        } else {
            // Made before it is spawned: if that fails, its end takes what waits with it.
            let run = Run::new(Arc::clone(&self.shared));
            tokio::spawn(run);
        }
    }

    /// Ends the turn that the task has, if it has one, after this round: everything else on its thread goes before the next.
    pub(super) fn end_turn(&self) {
        self.shared.is_turn_over.store(true, Ordering::Relaxed);
    }
}

impl<F> Executor<F> for ConnectionTask
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.spawn(future);
    }
}

impl fmt::Debug for ConnectionTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionTask").finish_non_exhaustive()
    }
}

impl Shared {
    fn joining(&self) -> MutexGuard<'_, Option<Vec<Member>>> {
        // Whole after each statement.
        self.joining.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the futures. It is dropped where it ends, so that a panic of that is caught too.
struct Member {
    future: Option<BoxFuture<'static, ()>>,
}

impl Future for Member {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // What the turn may do is used up. Whoever is asked nevertheless says only that, is put off by the runtime until it has
        // nothing else to do, and then asked in vain again: with a thousand streams, seven times for each answer.
        if !coop::has_budget_remaining() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let future = &mut self.future;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let polled = future
                .as_mut()
                .map_or(Poll::Ready(()), |it| it.poll_unpin(context));
            if polled.is_ready() {
                *future = None;
            }
            polled
        }));
        // A panic was told where it happened.
        polled.unwrap_or_else(|_| {
            let left = future.take();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(left)));
            Poll::Ready(())
        })
    }
}

/// The task.
struct Run {
    shared: Arc<Shared>,
    members: FuturesUnordered<Member>,
    waker: Waker,
    has_ended: bool,
}

impl Run {
    fn new(shared: Arc<Shared>) -> Self {
        let waker = Waker::from(Arc::clone(&shared.bell));
        Self {
            shared,
            members: FuturesUnordered::new(),
            waker,
            has_ended: false,
        }
    }

    /// Asks every future that was woken: whether all have ended, and none joined.
    fn round(&mut self) -> bool {
        if let Some(joining) = &mut *self.shared.joining() {
            self.members.extend(joining.drain(..));
        }
        let mut context = Context::from_waker(&self.waker);
        while let Poll::Ready(Some(())) = self.members.poll_next_unpin(&mut context) {}
        if !self.members.is_empty() {
            return false;
        }
        let mut joining = self.shared.joining();
        self.has_ended = joining.as_ref().is_none_or(Vec::is_empty);
        if self.has_ended {
            *joining = None;
        }
        self.has_ended
    }
}

impl Drop for Run {
    /// A runtime that ends drops its tasks wherever they are. Those that wait to join would be kept by what they hold.
    fn drop(&mut self) {
        if !self.has_ended {
            let joining = self.shared.joining().take();
            drop(joining);
        }
    }
}

impl Future for Run {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let bell = Arc::clone(&this.shared.bell);
        bell.task.register(context.waker());
        for _ in 0..ROUNDS {
            bell.listen();
            if this.round() {
                return Poll::Ready(());
            }
            if bell.rest() {
                return Poll::Pending;
            }
            let is_over = this.shared.is_turn_over.swap(false, Ordering::Relaxed);
            if is_over || !coop::has_budget_remaining() {
                break;
            }
        }
        bell.stop_listening();
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Nobody has woken a future since the last round, and the task sleeps.
const SLEEPING: u8 = 0;
/// The task has its turn: it will look itself whether somebody was woken.
const LISTENING: u8 = 1;
/// Some future was woken.
const RUNG: u8 = 2;

/// Wakes the task, unless it has its turn or was woken already.
#[derive(Default)]
struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Bell {
    /// A round begins: who was woken before is asked in it.
    fn listen(&self) {
        self.state.swap(LISTENING, Ordering::AcqRel);
    }

    /// Ends the turn unless somebody was woken in this round.
    fn rest(&self) -> bool {
        let rested =
            self.state
                .compare_exchange(LISTENING, SLEEPING, Ordering::AcqRel, Ordering::Acquire);
        rested.is_ok()
    }

    /// Ends the turn of a task that wakes itself: nobody else needs to.
    fn stop_listening(&self) {
        self.state.swap(RUNG, Ordering::AcqRel);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.fetch_or(RUNG, Ordering::AcqRel) == SLEEPING {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests;
