//! What a shard's task has to look at: one inbox for all of it, with one wake-up for everything that came.
//!
//! A node serves many shards of which most are idle. A channel for each kind of news would hold more memory than the
//! shard, and cost a look at each of them for each message.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bookie_client::{PoolEvent, PoolInbox};
use futures::task::AtomicWaker;
use tokio::sync::{Notify, Semaphore, oneshot};
use topic::{Publish, Receipt, StreamId, TopicStats};
use types::topic::SubscriptionRecord;
use types::{Generation, Problem, SubscriptionId};

use super::core::{Request, ShardEvent, Status, given_up};
use super::session::Inlet;
use super::streams::{Batch, Slot};

/// Requests that wait for the task, in the inbox or behind it; beyond it whoever asks waits.
const ROOM: usize = 1_024;

/// What the handle asks of the task.
#[derive(Debug)]
pub(super) enum Message {
    /// A stream begins.
    Open {
        request: Request,
        inlet: Inlet,
        slot: Option<Slot>,
    },
    /// A batch of a producer.
    Publish { publish: Publish, batch: Batch },
    /// The receipt of a batch that was refused before it came here.
    Refuse { stream: StreamId, receipt: Receipt },
    /// Anything else of a stream.
    Request(Request),
    /// A subscription that meta has taken away.
    DropSubscription(SubscriptionId),
    /// The first cursor of a subscription.
    CreateCursor {
        subscription: Box<SubscriptionRecord>,
        reply: oneshot::Sender<Result<Generation, Problem>>,
    },
    /// How the topic stands.
    Stats(oneshot::Sender<Option<TopicStats>>),
    /// Give the shard up.
    Leave { within: Duration, how: ShardEvent },
}

/// What has come and was not looked at.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// Streams that ended.
    pub(super) closed: Vec<StreamId>,
    /// Consumers' streams whose outbox was emptied.
    pub(super) read: Vec<StreamId>,
    /// The shard's record changed in meta.
    pub(super) has_record_changed: bool,
    /// There are other bookies.
    pub(super) have_bookies_changed: bool,
    /// Nobody has a handle any more.
    pub(super) is_abandoned: bool,
    /// What bookies answered, no more than the shard ordered, and which came and went.
    pub(super) of_bookies: VecDeque<PoolEvent>,
    /// What meta answered. No more than the shard asked; boxed, as messages: few are large.
    pub(super) of_meta: VecDeque<Box<ShardEvent>>,
    /// What clients want, [`ROOM`] at most.
    pub(super) messages: VecDeque<Box<Message>>,
}

/// What is behind the inbox's lock. Boxed, so that it goes from hand to hand; an idle shard has none.
#[derive(Debug, Default)]
struct Waiting {
    came: Option<Box<Came>>,
    /// The task is gone: nothing is taken in.
    is_closed: bool,
}

impl Came {
    /// Whether there is anything in the queues. The lists are emptied whenever the task looks.
    pub(super) fn has_more(&self) -> bool {
        !(self.of_bookies.is_empty() && self.of_meta.is_empty() && self.messages.is_empty())
    }

    /// Whether there is anything at all.
    fn is_empty(&self) -> bool {
        let is_told = self.has_record_changed || self.have_bookies_changed || self.is_abandoned;
        !is_told && self.closed.is_empty() && self.read.is_empty() && !self.has_more()
    }

    /// Moves what came later to the end.
    fn append(&mut self, later: &mut Self) {
        self.closed.append(&mut later.closed);
        self.read.append(&mut later.read);
        self.has_record_changed |= std::mem::take(&mut later.has_record_changed);
        self.have_bookies_changed |= std::mem::take(&mut later.have_bookies_changed);
        self.is_abandoned |= std::mem::take(&mut later.is_abandoned);
        self.of_bookies.append(&mut later.of_bookies);
        self.of_meta.append(&mut later.of_meta);
        self.messages.append(&mut later.messages);
    }
}

/// The inbox of a shard's task, as everybody else sees it.
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    /// Whether anything came since the task was last told so, and who tells it.
    is_filled: AtomicBool,
    task: AtomicWaker,
    /// For messages.
    room: Semaphore,
    status: Mutex<Status>,
    status_changed: Notify,
}

impl Inbox {
    /// An empty one, of a shard that is in `status`.
    pub(super) fn new(status: Status) -> Self {
        Self {
            waiting: Mutex::default(),
            is_filled: AtomicBool::new(false),
            task: AtomicWaker::new(),
            room: Semaphore::new(ROOM),
            status: Mutex::new(status),
            status_changed: Notify::new(),
        }
    }

    /// Tells the task something.
    pub(super) fn ring(&self, tell: impl FnOnce(&mut Came)) {
        {
            let mut waiting = lock(&self.waiting);
            if waiting.is_closed {
                return;
            }
            tell(waiting.came.get_or_insert_default());
        }
        self.wake();
    }

    fn wake(&self) {
        if !self.is_filled.swap(true, Ordering::AcqRel) {
            self.task.wake();
        }
    }

    /// Hands a message in, once there is room. False when the task is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, the message was not handed in.
    pub(super) async fn send(&self, message: Message) -> bool {
        let message = Box::new(message);
        let Ok(room) = self.room.acquire().await else {
            return false;
        };
        let mut waiting = lock(&self.waiting);
        if waiting.is_closed {
            return false;
        }
        room.forget(); // Given back by InboxEnd::give_room.
        let came = waiting.came.get_or_insert_default();
        came.messages.push_back(message);
        drop(waiting);
        self.wake();
        true
    }

    /// How far the shard is.
    pub(super) fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    /// Waits until `found` finds something in the status. A shard that is over stays so.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn until<T>(&self, mut found: impl FnMut(&Status) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.status_changed.notified());
            // Listen first, look then: a change between the two is not missed.
            changed.as_mut().enable();
            let found = found(&lock(&self.status));
            if let Some(found) = found {
                return found;
            }
            changed.await;
        }
    }

    fn set_status(&self, status: Status) {
        let mut told = lock(&self.status);
        if *told == status {
            return;
        }
        *told = status;
        drop(told);
        self.status_changed.notify_waiters();
    }
}

impl PoolInbox for Inbox {
    fn tell(&self, event: PoolEvent) {
        self.ring(|came| came.of_bookies.push_back(event));
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("waiting", &lock(&self.waiting))
            .finish_non_exhaustive()
    }
}

/// The task's end of an inbox. When it is dropped nothing is taken in any more, and the shard is over.
#[derive(Debug)]
pub(super) struct InboxEnd {
    inbox: Arc<Inbox>,
}

impl InboxEnd {
    /// The task's end.
    pub(super) const fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox }
    }

    /// Another way in, for what the task starts beside itself.
    pub(super) fn way_in(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// Waits until there may be something to take.
    ///
    /// # Cancel safety
    ///
    /// Nothing is missed.
    pub(super) async fn filled(&self) {
        let inbox = &self.inbox;
        let is_filled = || inbox.is_filled.swap(false, Ordering::AcqRel);
        std::future::poll_fn(|cx| {
            if is_filled() {
                return Poll::Ready(());
            }
            inbox.task.register(cx.waker());
            // What came before the waker was known woke nobody.
            if is_filled() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Takes all that has come, behind what is left of the last time. None when there was nothing all the while.
    pub(super) fn take(&self, left: Option<Box<Came>>) -> Option<Box<Came>> {
        let mut waiting = lock(&self.inbox.waiting);
        let Some(mut came) = waiting.came.take() else {
            return left;
        };
        let (all, emptied) = match left {
            Some(mut left) if left.has_more() => {
                left.append(&mut came);
                (left, Some(came))
            }
            left => (came, left),
        };
        waiting.came = emptied; // Keeps its memory.
        drop(waiting);
        Some(all)
    }

    /// Lets so many more messages in: as many were handled.
    pub(super) fn give_room(&self, messages: usize) {
        if messages > 0 {
            self.inbox.room.add_permits(messages);
        }
    }

    /// Tells everybody how far the shard is.
    pub(super) fn set_status(&self, status: Status) {
        self.inbox.set_status(status);
    }

    /// Gives back the room that there is from busier times.
    pub(super) fn shrink(&self) {
        let came = &mut lock(&self.inbox.waiting).came;
        came.take_if(|came| came.is_empty());
    }

    /// Takes nothing in any more; the messages that still came.
    pub(super) fn close(&self) -> VecDeque<Box<Message>> {
        let mut waiting = lock(&self.inbox.waiting);
        waiting.is_closed = true;
        self.inbox.room.close();
        let left = waiting.came.take();
        drop(waiting);
        left.map(|left| left.messages).unwrap_or_default()
    }
}

impl Drop for InboxEnd {
    fn drop(&mut self) {
        // Gone without a word: it failed, or its runtime was torn down.
        if !matches!(self.inbox.status(), Status::Over(_)) {
            self.inbox.set_status(Status::Over(Box::new(given_up())));
        }
        // What is left is dropped, which tells whoever waits for an answer to it.
        drop(self.close());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is valid after each statement: a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Wake, Waker};

    use futures::{FutureExt as _, poll};
    use types::{Epoch, Reason};

    use super::*;

    fn gone() -> Status {
        Status::Over(Box::new(given_up()))
    }

    fn inbox() -> (Arc<Inbox>, InboxEnd) {
        let inbox = Arc::new(Inbox::new(Status::Opening { waits_for: None }));
        (Arc::clone(&inbox), InboxEnd::new(inbox))
    }

    fn message() -> Message {
        Message::DropSubscription(SubscriptionId::new(1))
    }

    fn is_over(status: &Status) -> Option<()> {
        matches!(status, Status::Over(_)).then_some(())
    }

    /// Counts how often a task is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_task_is_woken_once_for_all_that_came() {
        let (inbox, end) = inbox();
        let count = Arc::<Count>::default();
        let waker = Waker::from(Arc::clone(&count));
        let cx = &mut Context::from_waker(&waker);
        let mut filled = Box::pin(end.filled());
        assert!(filled.as_mut().poll(cx).is_pending());
        for stream in 0..3 {
            inbox.ring(|came| came.closed.push(StreamId::new(stream)));
        }
        assert_eq!(inbox.send(message()).now_or_never(), Some(true));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(filled.as_mut().poll(cx).is_ready());
        assert!(end.filled().now_or_never().is_none());

        let came = end.take(None).unwrap();
        assert_eq!((came.closed.len(), came.messages.len()), (3, 1));
        assert!(end.take(None).is_none());
    }

    #[tokio::test]
    async fn what_came_before_the_task_waits_wakes_it() {
        let (inbox, end) = inbox();
        inbox.ring(|came| came.has_record_changed = true);
        end.filled().await;
        assert!(end.take(None).unwrap().has_record_changed);
    }

    #[tokio::test]
    async fn what_is_left_comes_before_what_came_later() {
        let (inbox, end) = inbox();
        let lost = |id| PoolEvent::Lost(types::BookieId::new(id));
        inbox.tell(lost(1));
        let left = end.take(None);
        inbox.tell(lost(2));
        inbox.ring(|came| came.have_bookies_changed = true);
        let came = end.take(left).unwrap();
        assert_eq!(came.of_bookies, [lost(1), lost(2)]);
        assert!(came.have_bookies_changed);
        assert!(end.take(None).is_none_or(|came| came.is_empty()));
    }

    #[tokio::test]
    async fn who_asks_too_much_waits_until_the_task_has_handled_something() {
        let (inbox, end) = inbox();
        for _ in 0..ROOM {
            assert!(inbox.send(message()).await);
        }
        let mut waits = Box::pin(inbox.send(message()));
        assert!(poll!(&mut waits).is_pending());
        let taken = end.take(None).unwrap();
        assert_eq!(taken.messages.len(), ROOM);
        assert!(poll!(&mut waits).is_pending(), "they are not handled yet");
        end.give_room(1);
        assert!(waits.await);
        let mut waits = Box::pin(inbox.send(message()));
        assert!(poll!(&mut waits).is_pending(), "so many and no more");
    }

    #[tokio::test]
    async fn a_task_that_is_gone_takes_nothing_in_and_its_shard_is_over() {
        let (inbox, end) = inbox();
        for _ in 0..ROOM {
            assert!(inbox.send(message()).await);
        }
        let mut waits = Box::pin(inbox.send(message()));
        assert!(poll!(&mut waits).is_pending());
        let mut over = Box::pin(inbox.until(is_over));
        assert!(poll!(&mut over).is_pending());

        drop(end);

        assert!(!waits.await, "who waits for room is told");
        assert!(!inbox.send(message()).await);
        over.await;
        assert_eq!(inbox.status(), gone());
        inbox.ring(|_| panic!("nobody looks at it any more"));
    }

    #[tokio::test]
    async fn the_last_word_of_a_task_stands() {
        let (inbox, end) = inbox();
        let serving = Status::Serving {
            epoch: Epoch::new(1),
        };
        end.set_status(serving.clone());
        assert_eq!(inbox.status(), serving);
        let over = Status::Over(Box::new(Problem::new(Reason::NotOwner, "taken")));
        end.set_status(over.clone());
        drop(end);
        assert_eq!(inbox.status(), over);
    }

    #[test]
    fn an_idle_inbox_keeps_no_room_from_busier_times() {
        let (inbox, end) = inbox();
        inbox.ring(|came| came.closed.push(StreamId::new(1)));
        let mut came = end.take(None).unwrap();
        came.closed.clear();
        inbox.ring(|_| {});
        assert!(end.take(Some(came)).is_some());
        assert!(lock(&inbox.waiting).came.is_some());
        end.shrink();
        assert!(lock(&inbox.waiting).came.is_none());
        // What came meanwhile is kept.
        inbox.ring(|came| came.has_record_changed = true);
        end.shrink();
        assert!(end.take(None).unwrap().has_record_changed);
    }
}
