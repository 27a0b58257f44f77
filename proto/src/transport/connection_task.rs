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
            *task.shared.joining() = Some(Vec::new()); // As if it had been spawned.
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
            within(end).await.unwrap();
            let ended = async {
                while task.shared.joining().is_some() {
                    yield_now().await;
                }
            };
            within(ended).await;
        }
    }

    /// Panics when it is dropped.
    struct Fragile;

    impl Drop for Fragile {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("a defect of an end");
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
        let fragile = Fragile;
        task.spawn(poll_fn(move |_| {
            let _ = &fragile;
            Poll::Ready(())
        }));
        let fragile = Fragile;
        task.spawn(poll_fn(move |_| {
            let _ = &fragile;
            panic!("a defect before the end");
        }));
        let (answer, answered) = tokio::sync::oneshot::channel();
        task.spawn(async move {
            assert!(end.await.is_err(), "what it held is gone");
            let _ = answer.send(());
            pending::<()>().await;
        });
        within(answered).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_turn_may_do_is_shared_out_and_nobody_is_asked_in_vain() {
        const STREAMS: usize = 1000;
        let task = ConnectionTask::default();
        let asked = Arc::new(AtomicUsize::new(0));
        let heard = Arc::new(Notify::new());
        let mut senders = Vec::new();
        for _ in 0..STREAMS {
            let (sender, mut receiver) = tokio::sync::mpsc::channel::<()>(1);
            let (asked, heard) = (Arc::clone(&asked), Arc::clone(&heard));
            senders.push(sender);
            task.spawn(poll_fn(move |context| {
                asked.fetch_add(1, Ordering::Relaxed);
                let next = receiver.poll_recv(context);
                next.map(|_| heard.notify_one())
            }));
        }
        yield_now().await;
        while asked.load(Ordering::Relaxed) < STREAMS {
            yield_now().await;
        }
        for sender in senders {
            sender.try_send(()).unwrap();
        }
        while task.shared.joining().is_some() {
            yield_now().await;
        }
        // Once when it joins, and once for what it is sent.
        assert_eq!(asked.load(Ordering::Relaxed), 2 * STREAMS);
    }

    #[test]
    fn what_waits_to_join_goes_with_the_runtime() {
        let witness = Arc::new(());
        let task = ConnectionTask::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (held, inner) = (Arc::clone(&witness), task.clone());
        runtime.block_on(async {
            task.spawn(async move {
                let _held = (held, inner); // As a connection holds its own task.
                pending::<()>().await;
            });
        });
        assert_eq!(Arc::strong_count(&witness), 2);
        drop(runtime);
        assert_eq!(Arc::strong_count(&witness), 1);

        // And a task that could not be started is no obstacle to the next.
        let held = Arc::clone(&witness);
        let outside = catch_unwind(AssertUnwindSafe(|| {
            task.spawn(async move {
                let _held = held;
            });
        }));
        assert!(outside.is_err(), "there is no runtime");
        assert_eq!(Arc::strong_count(&witness), 1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (told, heard) = tokio::sync::oneshot::channel();
            task.spawn(async move {
                let _ = told.send(());
            });
            heard.await.unwrap();
        });
    }

    /// Fails where a lost wake-up would stop everything.
    async fn within<T>(what: impl Future<Output = T>) -> T {
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), what).await;
        waited.expect("nobody is forgotten")
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
            assert_eq!(within(again.recv()).await, Some(number));
        }
    }
}
