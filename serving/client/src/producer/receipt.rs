//! The promise that a message is stored.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;
use types::Reason;

use super::core::Place;
use crate::Error;

/// Where messages are, once they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stored {
    /// The offset of the first message; those that were sent together follow on. `None` for a repeat of something
    /// stored so long ago that its place is not known any more.
    pub first_offset: Option<u64>,
    /// How many messages.
    pub count: u32,
    /// Whether they had been stored before: this was a repeat, and nothing was stored twice.
    pub duplicate: bool,
}

/// Resolves once the messages are fsynced on enough disks, or never will be by this producer.
///
/// Dropping it does not take the messages back, but then nobody learns whether they were stored: that is counted
/// ([`Producer::receipts_ignored`](super::Producer::receipts_ignored)) and logged. Call [`Receipt::ignore`] where
/// that is what you want.
#[must_use = "a message is only known to be stored once its receipt resolved"]
pub struct Receipt {
    fate: Arc<Fate>,
    /// Which of the batch's messages is the first of these.
    first: u32,
    count: u32,
    /// Where its waker is, once it waits.
    place: Option<usize>,
    is_settled: bool,
}

impl Receipt {
    /// Gives up knowing whether the messages were stored, on purpose: neither counted nor logged.
    pub fn ignore(mut self) {
        self.is_settled = true;
    }
}

impl Future for Receipt {
    type Output = Result<Stored, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        // A task that takes many receipts lets others run in between.
        let turn = ready!(coop::poll_proceed(context));
        let outcome = ready!(this.fate.poll(&mut this.place, context.waker()));
        turn.made_progress();
        this.is_settled = true;
        this.place = None;
        Poll::Ready(match outcome {
            Ok(place) => Ok(Stored {
                first_offset: place
                    .first_offset
                    .map(|first| first + u64::from(this.first)),
                count: this.count,
                duplicate: place.duplicate,
            }),
            Err(error) => Err(error.clone()),
        })
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.is_settled {
            self.fate.ignored.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(place) = self.place {
            self.fate.forget(place);
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").finish_non_exhaustive()
    }
}

/// Settles the receipts of one batch, once. Dropped before that, it tells them that the outcome is unknown.
#[derive(Debug)]
pub(super) struct Promise {
    fate: Arc<Fate>,
}

impl Promise {
    /// Receipts that are dropped unresolved are added to `ignored`.
    pub(super) fn new(ignored: &Arc<AtomicU64>) -> Self {
        Self {
            fate: Arc::new(Fate {
                outcome: OnceLock::new(),
                wakers: Mutex::default(),
                ignored: Arc::clone(ignored),
            }),
        }
    }

    /// A receipt for `count` messages of the batch, from the one at `first`.
    pub(super) fn receipt(&self, first: u32, count: u32) -> Receipt {
        Receipt {
            fate: Arc::clone(&self.fate),
            first,
            count,
            place: None,
            is_settled: false,
        }
    }

    /// Tells all receipts of the batch, those that are asked later too.
    pub(super) fn settle(self, outcome: Result<Place, Error>) {
        self.fate.settle(outcome);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.fate.outcome.get().is_none() {
            let message = "the producer's task ended; it may or may not be stored";
            let unknown = Error::new(Reason::OutcomeUnknown, message);
            self.fate.settle(Err(unknown));
        }
    }
}

/// What becomes of a batch. All its receipts share it, so that a message costs no allocation and no channel.
#[derive(Debug)]
struct Fate {
    /// Set once, by the [`Promise`].
    outcome: OnceLock<Result<Place, Error>>,
    /// Whom to wake, one for each receipt that came too early. Taken when there is an outcome.
    wakers: Mutex<Vec<Waker>>,
    ignored: Arc<AtomicU64>,
}

impl Fate {
    fn wakers(&self) -> MutexGuard<'_, Vec<Waker>> {
        // The list is valid after each statement.
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outcome. When there is none yet, the waker is woken once there is; it is kept at `place`, where it replaces the
    /// one of the receipt's last poll.
    fn poll(&self, place: &mut Option<usize>, waker: &Waker) -> Poll<&Result<Place, Error>> {
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        // Wakers are cloned and dropped outside of the lock: their code is not ours, and may drop receipts of this batch.
        let mut waker = waker.clone();
        let mut wakers = self.wakers();
        // The outcome is set before the wakers are taken: a receipt that comes too late to be woken sees it here.
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        if let Some(place) = *place {
            std::mem::swap(&mut wakers[place], &mut waker);
        } else {
            *place = Some(wakers.len());
            wakers.push(waker);
        }
        Poll::Pending
    }

    /// Wakes the receipt that waits at `place` no more.
    fn forget(&self, place: usize) {
        let nobody = Waker::noop().clone();
        let held = self
            .wakers()
            .get_mut(place)
            .map(|held| std::mem::replace(held, nobody));
        drop(held); // Outside of the lock.
    }

    fn settle(&self, outcome: Result<Place, Error>) {
        // Before anybody is woken: whoever looks from now on needs no waker.
        let set = self.outcome.set(outcome);
        assert!(set.is_ok(), "a batch is settled once");
        let wakers = std::mem::take(&mut *self.wakers());
        for waker in wakers {
            // A waker is code of whoever waits. One that panics keeps nobody else from being woken, and does not end the
            // producer, whose other users have nothing to do with it: the panic's hook has told of it.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Bell {
        fn new() -> Arc<Self> {
            Arc::default()
        }

        fn rung(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn promise() -> (Promise, Arc<AtomicU64>) {
        let ignored = Arc::default();
        (Promise::new(&ignored), ignored)
    }

    fn poll<W: Wake + Send + Sync + 'static>(
        receipt: &mut Receipt,
        waker: &Arc<W>,
    ) -> Poll<Result<Stored, Error>> {
        let waker = Waker::from(Arc::clone(waker));
        receipt.poll_unpin(&mut Context::from_waker(&waker))
    }

    fn stored(first_offset: u64) -> Result<Place, Error> {
        Ok(Place {
            first_offset: Some(first_offset),
            duplicate: false,
        })
    }

    #[test]
    fn all_who_wait_for_a_batch_are_woken_once_each() {
        let (promise, _) = promise();
        let mut waiting: Vec<_> = (0..100)
            .map(|first| (promise.receipt(first, 1), Bell::new()))
            .collect();
        for (receipt, bell) in &mut waiting {
            assert!(poll(receipt, bell).is_pending());
        }
        promise.settle(stored(0));
        for (receipt, bell) in &mut waiting {
            assert_eq!(bell.rung(), 1);
            assert!(poll(receipt, bell).is_ready());
        }
    }

    #[test]
    fn a_receipt_that_moved_to_another_task_is_woken_there_alone() {
        let (promise, _) = promise();
        let mut receipt = promise.receipt(0, 1);
        let (before, after) = (Bell::new(), Bell::new());
        assert!(poll(&mut receipt, &before).is_pending());
        assert!(poll(&mut receipt, &after).is_pending());
        promise.settle(stored(0));
        assert_eq!((before.rung(), after.rung()), (0, 1));
    }

    #[test]
    fn each_receipt_tells_the_place_of_its_own_messages() {
        let (promise, _) = promise();
        let receipts = [promise.receipt(0, 2), promise.receipt(2, 3)];
        promise.settle(stored(100));
        let told = receipts.map(|receipt| {
            let stored = receipt.now_or_never().unwrap().unwrap();
            (stored.first_offset, stored.count, stored.duplicate)
        });
        assert_eq!(told, [(Some(100), 2, false), (Some(102), 3, false)]);
    }

    #[test]
    fn a_repeat_whose_place_is_forgotten_has_no_offset() {
        let (promise, _) = promise();
        let receipt = promise.receipt(2, 3);
        promise.settle(Ok(Place {
            first_offset: None,
            duplicate: true,
        }));
        let stored = Stored {
            first_offset: None,
            count: 3,
            duplicate: true,
        };
        assert_eq!(receipt.now_or_never(), Some(Ok(stored)));
    }

    #[test]
    fn a_refusal_is_told_to_every_receipt() {
        let (promise, _) = promise();
        let receipts = [promise.receipt(0, 1), promise.receipt(1, 1)];
        let refusal = Error::new(Reason::MessageTooLarge, "no");
        promise.settle(Err(refusal.clone()));
        for receipt in receipts {
            assert_eq!(receipt.now_or_never(), Some(Err(refusal.clone())));
        }
    }

    #[test]
    fn a_promise_that_is_dropped_leaves_nobody_waiting() {
        let (promise, _) = promise();
        let (mut receipt, bell) = (promise.receipt(0, 1), Bell::new());
        assert!(poll(&mut receipt, &bell).is_pending());
        drop(promise);
        assert_eq!(bell.rung(), 1);
        let Poll::Ready(Err(error)) = poll(&mut receipt, &bell) else {
            panic!("it is over, and nobody knows how")
        };
        assert_eq!(error.reason(), Reason::OutcomeUnknown);
    }

    #[test]
    fn a_receipt_counts_as_ignored_once_and_only_when_it_told_nothing() {
        let (promise, ignored) = promise();
        let [dropped, mut waited, on_purpose, mut told, unread] =
            [0, 1, 2, 3, 4].map(|first| promise.receipt(first, 1));
        let bell = Bell::new();
        assert!(poll(&mut waited, &bell).is_pending());
        assert!(poll(&mut told, &bell).is_pending());
        drop(dropped);
        drop(waited);
        on_purpose.ignore();
        assert_eq!(ignored.load(Ordering::Relaxed), 2);
        promise.settle(stored(0));
        assert!(poll(&mut told, &bell).is_ready());
        drop(told);
        assert_eq!(ignored.load(Ordering::Relaxed), 2);
        drop(unread);
        assert_eq!(ignored.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_receipt_that_is_dropped_lets_go_of_its_task() {
        let (promise, _) = promise();
        let bell = Bell::new();
        let mut receipt = promise.receipt(0, 1);
        assert!(poll(&mut receipt, &bell).is_pending());
        assert_eq!(Arc::strong_count(&bell), 2);
        drop(receipt);
        assert_eq!(Arc::strong_count(&bell), 1);
        promise.settle(stored(0));
        assert_eq!(bell.rung(), 0);
    }

    /// A task that holds a receipt.
    struct Holder {
        _receipt: Receipt,
    }

    impl Wake for Holder {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn letting_go_of_a_task_may_drop_another_receipt_of_the_batch() {
        let (promise, ignored) = promise();
        let hold = |first| {
            let mut held = promise.receipt(first, 1);
            assert!(poll(&mut held, &Bell::new()).is_pending());
            Arc::new(Holder { _receipt: held })
        };
        let [mut moved, mut dropped] = [0, 1].map(|first| promise.receipt(first, 1));
        assert!(poll(&mut moved, &hold(2)).is_pending());
        assert!(poll(&mut dropped, &hold(3)).is_pending());
        assert!(poll(&mut moved, &Bell::new()).is_pending());
        assert_eq!(ignored.load(Ordering::Relaxed), 1);
        drop(dropped);
        assert_eq!(ignored.load(Ordering::Relaxed), 3);
    }

    /// A task that cannot be woken.
    struct Broken;

    impl Wake for Broken {
        fn wake(self: Arc<Self>) {
            std::panic::panic_any("a waker of a test panics");
        }
    }

    #[test]
    fn a_waker_that_panics_keeps_nobody_else_from_being_woken() {
        let ways: [fn(Promise); 2] = [|promise| promise.settle(stored(0)), drop];
        for end in ways {
            let (promise, _) = promise();
            let mut receipts = [0, 1, 2].map(|first| promise.receipt(first, 1));
            let bell = Bell::new();
            assert!(poll(&mut receipts[0], &bell).is_pending());
            assert!(poll(&mut receipts[1], &Arc::new(Broken)).is_pending());
            assert!(poll(&mut receipts[2], &bell).is_pending());
            end(promise);
            assert_eq!(bell.rung(), 2);
            for receipt in receipts {
                assert!(receipt.now_or_never().is_some(), "it is settled");
            }
        }
    }

    /// Waits for another thread.
    fn until(what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..30_000 {
            if is_so() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        panic!("{what} never came");
    }

    #[test]
    fn an_outcome_that_comes_while_a_receipt_begins_to_wait_is_not_missed() {
        let (promise, _) = promise();
        let (mut receipt, bell) = (promise.receipt(0, 1), Bell::new());
        let fate = Arc::clone(&promise.fate);
        std::thread::scope(|threads| {
            let wakers = fate.wakers();
            let polled = threads.spawn(|| poll(&mut receipt, &bell));
            // It saw no outcome, and has its own clone of the waker; the list is locked.
            until("the waker", || Arc::strong_count(&bell) == 3);
            threads.spawn(|| promise.settle(stored(7)));
            until("the outcome", || fate.outcome.get().is_some());
            drop(wakers);
            assert!(polled.join().unwrap().is_ready());
        });
    }
}
