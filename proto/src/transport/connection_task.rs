//! One task for all that a connection does.
//!
//! As tasks of their own its parts would wake each other through the runtime. A frame that comes wakes its stream, the stream a
//! shard, the shard another connection; the runtime runs three such links from one to the next, and has another thread take
//! over the fourth (`MAX_LIFO_POLLS_PER_TICK` in tokio's `multi_thread/worker.rs`), often while the third still holds the
//! connection's lock. In one task the way from a frame to its stream, and from an answer to the socket, is a few calls.

use std::fmt;
use std::panic::AssertUnwindSafe;
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

type Member = BoxFuture<'static, ()>;

impl ConnectionTask {
    /// The task of the connection that a request came over; one of its own for a request that came over none.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Has the task run this future too, beginning with its next turn.
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
        let member = AssertUnwindSafe(future).catch_unwind().map(drop).boxed();
        let mut joining = self.shared.joining();
        if let Some(joining) = &mut *joining {
            joining.push(member);
        } else {
            *joining = Some(vec![member]);
            tokio::spawn(Run::new(Arc::clone(&self.shared)));
        }
        drop(joining);
        self.shared.bell.wake_by_ref();
    }

    /// Ends the turn that the task has, if it has one: everything else on its thread goes first.
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

/// The task.
struct Run {
    shared: Arc<Shared>,
    members: FuturesUnordered<Member>,
    waker: Waker,
}

impl Run {
    fn new(shared: Arc<Shared>) -> Self {
        let waker = Waker::from(Arc::clone(&shared.bell));
        Self {
            shared,
            members: FuturesUnordered::new(),
            waker,
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
        let has_ended = joining.as_ref().is_none_or(Vec::is_empty);
        if has_ended {
            *joining = None;
        }
        has_ended
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
            // What this turn may do is used up: asked again, they would only say so.
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
        let state = &self.state;
        let (acquire, release) = (Ordering::Acquire, Ordering::AcqRel);
        state
            .compare_exchange(LISTENING, SLEEPING, release, acquire)
            .is_ok()
    }

    /// Ends the turn of a task that wakes itself: nobody else needs to.
    fn stop_listening(&self) {
        self.state.store(RUNG, Ordering::Release);
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
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::future::{pending, poll_fn};
    use tokio::sync::Notify;
    use tokio::task::yield_now;

    use super::*;

    /// Counts how often the runtime would be told.
    #[derive(Default)]
    struct Told(AtomicUsize);

    impl Told {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A task that a test polls itself.
    struct Turns {
        task: ConnectionTask,
        run: Run,
        told: Arc<Told>,
    }

    impl Turns {
        fn new() -> Self {
            let task = ConnectionTask::default();
            *task.shared.joining() = Some(Vec::new());
            let run = Run::new(Arc::clone(&task.shared));
            let told = Arc::default();
            Self { task, run, told }
        }

        fn turn(&mut self) -> Poll<()> {
            let waker = Waker::from(Arc::clone(&self.told));
            let mut context = Context::from_waker(&waker);
            self.run.poll_unpin(&mut context)
        }
    }

    #[test]
    fn a_chain_of_futures_is_one_turn_and_the_runtime_is_told_of_its_start_alone() {
        let mut turns = Turns::new();
        let bells: Arc<[Notify; 6]> = Arc::default();
        let done = Arc::new(AtomicUsize::new(0));
        for at in 0..5 {
            let (bells, done) = (Arc::clone(&bells), Arc::clone(&done));
            turns.task.spawn(async move {
                for _ in 0..2 {
                    // Backwards, so that who is woken was asked already.
                    bells[at + 1].notified().await;
                    bells[at].notify_one();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        assert!(turns.turn().is_pending());
        assert_eq!((turns.told.count(), done.load(Ordering::Relaxed)), (0, 0));

        bells[5].notify_one();
        assert_eq!(turns.told.count(), 1);
        assert!(turns.turn().is_pending());
        assert_eq!((turns.told.count(), done.load(Ordering::Relaxed)), (1, 5));

        bells[5].notify_one();
        assert_eq!(turns.told.count(), 2);
        assert!(turns.turn().is_ready(), "all have ended");
        assert_eq!(done.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn the_runtime_is_told_once_of_all_that_were_woken() {
        let mut turns = Turns::new();
        let bells: Arc<[Notify; 3]> = Arc::default();
        for at in 0..3 {
            let bells = Arc::clone(&bells);
            turns.task.spawn(async move { bells[at].notified().await });
        }
        assert!(turns.turn().is_pending());
        for bell in &*bells {
            bell.notify_one();
        }
        turns.task.spawn(async {});
        assert_eq!(turns.told.count(), 1);
        assert!(turns.turn().is_ready());
    }

    #[test]
    fn futures_that_never_rest_end_their_turn_all_the_same() {
        let mut turns = Turns::new();
        let asked = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let asked = Arc::clone(&asked);
            turns.task.spawn(poll_fn(move |context| {
                asked.fetch_add(1, Ordering::Relaxed);
                context.waker().wake_by_ref();
                Poll::Pending
            }));
        }
        for turn in 1..4 {
            assert!(turns.turn().is_pending());
            assert_eq!(turns.told.count(), turn, "it goes on after the others");
            let most = 2 * turn * ROUNDS;
            assert!(asked.load(Ordering::Relaxed) <= most, "{asked:?}");
        }
    }

    #[test]
    fn a_future_may_end_the_turn_of_all() {
        let mut turns = Turns::new();
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, task) = (Arc::clone(&asked), turns.task.clone());
        turns.task.spawn(poll_fn(move |context| {
            count.fetch_add(1, Ordering::Relaxed);
            task.end_turn();
            context.waker().wake_by_ref();
            Poll::Pending
        }));
        for turn in 1..4 {
            assert!(turns.turn().is_pending());
            let counted = (turns.told.count(), asked.load(Ordering::Relaxed));
            assert_eq!(counted, (turn, turn));
        }
    }

    #[test]
    fn who_joins_during_a_turn_has_its_own_in_it() {
        let mut turns = Turns::new();
        let task = turns.task.clone();
        let joined = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&joined);
        turns.task.spawn(async move {
            task.spawn(async move {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert!(turns.turn().is_ready());
        assert_eq!(joined.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn the_task_ends_with_its_last_future_and_starts_again_with_the_next() {
        let task = ConnectionTask::default();
        for _ in 0..3 {
            let (ended, end) = tokio::sync::oneshot::channel();
            task.spawn(async move {
                yield_now().await;
                let _ = ended.send(());
            });
            end.await.unwrap();
            while task.shared.joining().is_some() {
                yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_future_that_panics_is_dropped_and_the_others_go_on() {
        let task = ConnectionTask::default();
        let (held, end) = tokio::sync::oneshot::channel::<()>();
        task.spawn(async move {
            let _held = held;
            yield_now().await;
            panic!("a defect of one call");
        });
        let (answer, answered) = tokio::sync::oneshot::channel();
        task.spawn(async move {
            assert!(end.await.is_err(), "what it held is gone");
            let _ = answer.send(());
            pending::<()>().await;
        });
        answered.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_up_from_another_thread_is_lost() {
        let task = ConnectionTask::default();
        let (there, mut here) = tokio::sync::mpsc::channel(1);
        let (back, mut again) = tokio::sync::mpsc::channel(1);
        task.spawn(async move {
            while let Some(number) = here.recv().await {
                let _ = back.send(number).await;
            }
        });
        for number in 0..50_000 {
            there.send(number).await.unwrap();
            assert_eq!(again.recv().await, Some(number));
        }
    }
}
