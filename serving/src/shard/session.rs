//! What a shard tells one client stream, on its way to the stream.
//!
//! The shard's task never waits for a stream: it puts what it has to say into the stream's outbox, a flush at a time. An
//! outbox is bounded by what the client asked for: a receipt for each batch in flight, deliveries within a window of
//! messages and bytes ([`Window`]), an answer for each ack. A client that asks on and on without reading is cut off.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use topic::StreamId;

use super::Told;
use super::inbox::Inbox;

/// Most things that wait for a stream to read them. Legitimate clients stay far below: in flight and unacked are bounded.
const OUTBOX_MAX: usize = 65_536;

/// What may wait for one consumer's stream in deliveries, whatever it has granted.
const WINDOW: Credit = Credit {
    messages: 32_768,
    bytes: 4 << 20,
};

/// Messages and bytes: granted, delivered, or waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Credit {
    pub(super) messages: i64,
    pub(super) bytes: i64,
}

impl Credit {
    /// What a delivery takes; nothing for all else.
    fn of(told: &Told) -> Self {
        match told {
            Told::Delivery(delivery) => Self {
                messages: i64::from(delivery.count),
                bytes: i64::try_from(delivery.batch.len()).expect("memory is shorter"),
            },
            _ => Self::default(),
        }
    }

    /// Whether there is any.
    pub(super) fn is_some(self) -> bool {
        self != Self::default()
    }

    fn each(self, other: Self, join: impl Fn(i64, i64) -> i64) -> Self {
        Self {
            messages: join(self.messages, other.messages),
            bytes: join(self.bytes, other.bytes),
        }
    }

    fn plus(self, other: Self) -> Self {
        self.each(other, |a, b| a + b)
    }

    fn minus(self, other: Self) -> Self {
        self.each(other, |a, b| a - b)
    }
}

/// One stream's outbox, as both sides share it.
#[derive(Debug, Default)]
struct Outbox {
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    told: VecDeque<Told>,
    /// What of it are deliveries.
    waiting: Credit,
    /// Nothing is added any more.
    is_ended: bool,
    /// Nobody reads any more.
    is_closed: bool,
    /// The shard's task wants to know when the reader takes something.
    wants_attention: bool,
}

/// The shard's end of an outbox. Dropping it ends the stream.
#[derive(Debug)]
pub(super) struct Inlet {
    outbox: Arc<Outbox>,
}

impl Inlet {
    /// Whether the reader is gone.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.outbox.inner).is_closed
    }

    /// Adds what the shard tells; false when the stream does not read and has to be cut off.
    pub(super) fn push(&self, told: impl Iterator<Item = Told>) -> bool {
        let mut inner = lock(&self.outbox.inner);
        for one in told {
            inner.waiting = inner.waiting.plus(Credit::of(&one));
            inner.told.push_back(one);
        }
        let fits = inner.told.len() <= OUTBOX_MAX;
        drop(inner);
        self.outbox.filled.notify_one();
        fits
    }

    /// Passes on to the shard what a consumer has granted, as far as its window is open: what to pass on now. When some
    /// is held back, the reader rings for the shard's task once it has taken what waits.
    pub(super) fn pass_on(&self, window: &mut Window) -> Credit {
        let mut inner = lock(&self.outbox.inner);
        let taken = window
            .passed
            .each(inner.waiting, |passed, waiting| passed.max(0) + waiting);
        let room = WINDOW.minus(taken);
        let fitting = room.each(window.held, |room, held| room.min(held).max(0));
        // A little at a time would wake the shard for each delivery.
        let worth = |fitting, held, window| {
            let is_worth_it = fitting == held || fitting >= window / 4;
            if is_worth_it { fitting } else { 0 }
        };
        let credit = Credit {
            messages: worth(fitting.messages, window.held.messages, WINDOW.messages),
            bytes: worth(fitting.bytes, window.held.bytes, WINDOW.bytes),
        };
        window.held = window.held.minus(credit);
        window.passed = window.passed.plus(credit);
        inner.wants_attention = window.held.is_some();
        credit
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        lock(&self.outbox.inner).is_ended = true;
        self.outbox.filled.notify_one();
    }
}

/// How much of what a consumer granted the shard may use at once: so much that its outbox stays within a few MiB.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Granted by the client and not passed on to the shard.
    held: Credit,
    /// Passed on and not delivered yet. Bytes are below zero after one message overdrew.
    passed: Credit,
}

impl Window {
    /// Adds a grant, none of it below zero. False when the sum is out of the numbers.
    pub(super) fn grant(&mut self, credit: Credit) -> bool {
        let messages = self.held.messages.checked_add(credit.messages);
        let bytes = self.held.bytes.checked_add(credit.bytes);
        let (Some(messages), Some(bytes)) = (messages, bytes) else {
            return false;
        };
        self.held = Credit { messages, bytes };
        true
    }

    /// Counts a delivery that is put into the outbox.
    pub(super) fn delivered(&mut self, told: &Told) {
        self.passed = self.passed.minus(Credit::of(told));
    }
}

/// What a shard tells one stream. Dropping it ends the stream: its leases are released, its numbers stand.
pub struct Outputs {
    stream: StreamId,
    outbox: Arc<Outbox>,
    inbox: Arc<Inbox>,
}

/// Makes both ends of a stream's outbox.
pub(super) fn channel(stream: StreamId, inbox: &Arc<Inbox>) -> (Inlet, Outputs) {
    let outbox = Arc::new(Outbox::default());
    let inlet = Inlet {
        outbox: Arc::clone(&outbox),
    };
    let outputs = Outputs {
        stream,
        outbox,
        inbox: Arc::clone(inbox),
    };
    (inlet, outputs)
}

impl Outputs {
    /// Its stream's number in the shard.
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// Waits until the shard has told something and moves all of it to the end of `into`. False when everything was
    /// taken and nothing more comes.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn next(&mut self, into: &mut Vec<Told>) -> bool {
        loop {
            match self.try_next(into) {
                Some(has_more) => return has_more,
                None => self.outbox.filled.notified().await,
            }
        }
    }

    /// Waits for what the shard tells first, and takes that alone. None when nothing comes any more.
    pub(super) async fn first(&mut self) -> Option<Told> {
        loop {
            if let Some(first) = self.try_first() {
                return first;
            }
            self.outbox.filled.notified().await;
        }
    }

    fn try_first(&self) -> Option<Option<Told>> {
        let mut inner = lock(&self.outbox.inner);
        match inner.told.pop_front() {
            Some(told) => {
                inner.waiting = inner.waiting.minus(Credit::of(&told));
                Some(Some(told))
            }
            None => inner.is_ended.then_some(None),
        }
    }

    /// [`Outputs::next`] without waiting; none when there is nothing yet.
    pub fn try_next(&mut self, into: &mut Vec<Told>) -> Option<bool> {
        let mut inner = lock(&self.outbox.inner);
        if inner.told.is_empty() {
            return inner.is_ended.then_some(false);
        }
        into.extend(inner.told.drain(..));
        inner.waiting = Credit::default();
        let is_waited_for = std::mem::take(&mut inner.wants_attention);
        drop(inner);
        if is_waited_for {
            self.inbox.ring(|came| came.read.push(self.stream));
        }
        Some(true)
    }
}

impl fmt::Debug for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outputs({})", self.stream)
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        // In this order: whoever sees the stream after it was told closed sees that it is.
        lock(&self.outbox.inner).is_closed = true;
        self.inbox.ring(|came| came.closed.push(self.stream));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is valid after each statement: a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
