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
    let mut senders = Vec::new();
    for _ in 0..STREAMS {
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<()>(1);
        let asked = Arc::clone(&asked);
        senders.push(sender);
        task.spawn(poll_fn(move |context| {
            asked.fetch_add(1, Ordering::Relaxed);
            receiver.poll_recv(context).map(drop)
        }));
    }
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
