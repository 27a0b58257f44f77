//! What a shard tells one client stream, on its way to the stream's task.
//!
//! The shard's task never waits for a stream: it puts what it has to say into the stream's outbox, a flush at a time. An
//! outbox is bounded by what the client asked for: a receipt for each batch in flight, deliveries within a window of
//! bytes ([`Window`]), an answer for each ack. A client that asks on and on without reading is cut off.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use topic::StreamId;

use super::Told;

/// Most things that wait for a stream to read them. Legitimate clients stay far below: in flight and unacked are bounded.
const OUTBOX_MAX: usize = 262_144;

/// Bytes of deliveries that may wait for one consumer's stream, whatever it has granted.
const WINDOW_BYTES: i64 = 4 << 20;

/// The streams that ended, for the shard's task to pick up.
#[derive(Debug, Default)]
pub(super) struct Closing {
    streams: Mutex<Vec<StreamId>>,
    changed: Notify,
}

impl Closing {
    fn push(&self, stream: StreamId) {
        lock(&self.streams).push(stream);
        self.changed.notify_one();
    }

    /// Tells the shard's task to look at its streams again.
    pub(super) fn nudge(&self) {
        self.changed.notify_one();
    }

    /// Takes the streams that ended since the last call.
    pub(super) fn take(&self) -> Vec<StreamId> {
        std::mem::take(&mut *lock(&self.streams))
    }

    /// Waits until there may be something to take.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// One stream's outbox, as both sides share it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    told: VecDeque<Told>,
    /// Bytes of deliveries that wait.
    bytes: i64,
    /// Nothing is added any more.
    is_ended: bool,
    /// The shard's task wants to know when the reader takes something.
    wants_attention: bool,
}

impl Outbox {
    /// Adds what the shard tells; false when the stream does not read and has to be cut off.
    pub(super) fn push(&self, told: impl Iterator<Item = Told>) -> bool {
        let mut inner = lock(&self.inner);
        for one in told {
            inner.bytes += delivery_bytes(&one);
            inner.is_ended |= matches!(one, Told::Ended(_));
            inner.told.push_back(one);
        }
        let fits = inner.told.len() <= OUTBOX_MAX;
        drop(inner);
        self.filled.notify_one();
        fits
    }

    /// Nothing more will be told.
    pub(super) fn end(&self) {
        lock(&self.inner).is_ended = true;
        self.filled.notify_one();
    }

    /// Passes on to the shard what a consumer has granted, as far as its window is open: the bytes to pass on now. When
    /// some are held back, the reader nudges the shard's task once it has taken what waits.
    pub(super) fn pass_on(&self, window: &mut Window) -> i64 {
        let mut inner = lock(&self.inner);
        let room = WINDOW_BYTES - window.passed.max(0) - inner.bytes;
        let bytes = room.min(window.held).max(0);
        // A little at a time would wake the shard for each delivery.
        let is_worth_it = bytes == window.held || bytes >= WINDOW_BYTES / 4;
        let bytes = if is_worth_it { bytes } else { 0 };
        window.held -= bytes;
        window.passed += bytes;
        inner.wants_attention = window.held > 0;
        bytes
    }
}

/// How much of what a consumer granted the shard may use at once: so much that its outbox stays within a few MiB.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Granted by the client and not passed on to the shard.
    held: i64,
    /// Passed on and not delivered yet. Below zero after one message overdrew.
    passed: i64,
}

impl Window {
    /// Adds a grant of bytes. False when the sum is out of the numbers.
    pub(super) fn grant(&mut self, bytes: i64) -> bool {
        match self.held.checked_add(bytes) {
            Some(sum) => {
                self.held = sum;
                true
            }
            None => false,
        }
    }

    /// Counts a delivery that is put into the outbox.
    pub(super) fn delivered(&mut self, told: &Told) {
        self.passed -= delivery_bytes(told);
    }
}

fn delivery_bytes(told: &Told) -> i64 {
    match told {
        Told::Delivery(delivery) => {
            i64::try_from(delivery.batch.len()).expect("lengths of memory fit 63 bits")
        }
        _ => 0,
    }
}

/// What a shard tells one stream. Dropping it ends the stream: its leases are released, its numbers stand.
pub struct Outputs {
    stream: StreamId,
    outbox: Arc<Outbox>,
    closing: Arc<Closing>,
}

impl Outputs {
    pub(super) fn new(stream: StreamId, outbox: Arc<Outbox>, closing: Arc<Closing>) -> Self {
        Self {
            stream,
            outbox,
            closing,
        }
    }

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
            let mut inner = lock(&self.outbox.inner);
            if let Some(told) = inner.told.pop_front() {
                inner.bytes -= delivery_bytes(&told);
                return Some(told);
            }
            if inner.is_ended {
                return None;
            }
            drop(inner);
            self.outbox.filled.notified().await;
        }
    }

    /// [`Outputs::next`] without waiting; none when there is nothing yet.
    pub fn try_next(&mut self, into: &mut Vec<Told>) -> Option<bool> {
        let mut inner = lock(&self.outbox.inner);
        if inner.told.is_empty() {
            return inner.is_ended.then_some(false);
        }
        into.extend(inner.told.drain(..));
        inner.bytes = 0;
        let is_waited_for = std::mem::take(&mut inner.wants_attention);
        drop(inner);
        if is_waited_for {
            self.closing.nudge();
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
        self.closing.push(self.stream);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is valid after each statement: a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
