//! What a consumer's handles and its task share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use pb::consume_request::Frame as Up;
use proto::raw::v1 as pb;
use tokio::sync::{Notify, oneshot};
use types::{MonoTime, Reason};

use super::Settings;
use super::acks::{Acks, Settled};
use super::received::Batch;
use crate::Error;
use crate::connect::Shared;

/// How long acks that nobody waits for may gather.
const ACK_DELAY: Duration = Duration::from_millis(10);

/// A caller that waits for an ack, or an extension.
pub(super) type Waiter = oneshot::Sender<Result<(), Error>>;

/// Messages and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Credit {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Credit {
    pub(super) const fn add(&mut self, more: Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
    }

    /// Whether it is at least this part of a whole, in messages or in bytes.
    pub(super) const fn is_part_of(self, whole: Self, part: u64) -> bool {
        self.messages > 0
            && (self.messages >= whole.messages.div_ceil(part)
                || self.bytes >= whole.bytes.div_ceil(part))
    }
}

/// What changes, under one lock that is never held for long.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Delivered on the stream that is open, not taken.
    pub(super) buffer: VecDeque<Batch>,
    /// Who waits for the buffer to fill.
    pub(super) waker: Option<Waker>,
    /// Taken since the last grant: to be granted again.
    pub(super) refill: Credit,
    pub(super) acks: Acks<Waiter>,
    /// When the acks that gather are to be sent.
    pub(super) acks_at: Option<MonoTime>,
    /// The server is busy: no acks before that.
    pub(super) acks_not_before: Option<MonoTime>,
    /// Nacks and extensions for the stream that is open.
    pub(super) requests: VecDeque<Up>,
    pub(super) extensions: BTreeMap<u64, Waiter>,
    pub(super) next_request: u64,
    pub(super) ranges_max: usize,
    /// Whether a stream is open.
    pub(super) is_open: bool,
    /// Why the consumer is over.
    pub(super) over: Option<Error>,
    /// The user is done.
    pub(super) is_closing: bool,
    /// What the server said about the subscription when the stream was opened.
    pub(super) ready: pb::ConsumerReady,
}

impl State {
    /// Whether the user is done and every ack is decided.
    pub(super) fn is_done(&self) -> bool {
        self.is_closing && self.acks.is_idle()
    }

    /// A number for a request that is answered.
    pub(super) const fn request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    /// What to send now: what leases depend on first, grants last.
    pub(super) fn next_frame(&mut self, now: MonoTime, credit: Credit) -> Option<Up> {
        if let Some(request) = self.requests.pop_front() {
            return Some(request);
        }
        let is_due = self.acks_at.is_some_and(|at| at <= now) || self.acks.is_urgent();
        let is_held = self.acks_not_before.is_some_and(|at| at > now);
        if self.acks.has_some() && !is_held && (is_due || self.is_closing) {
            let request = self.request();
            let taken = self.acks.take(request, self.ranges_max);
            self.acks_at = self.acks.has_more().then_some(now);
            return taken.map(ack_frame);
        }
        if self.is_closing {
            return self
                .acks
                .is_idle()
                .then_some(Up::Close(pb::CloseConsumer {}));
        }
        if self.is_refill_due(credit) {
            let Credit { messages, bytes } = std::mem::take(&mut self.refill);
            let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            return Some(Up::Permits(pb::Permits {
                messages: signed(messages),
                bytes: signed(bytes),
            }));
        }
        None
    }

    /// Whether enough was taken to be granted anew. In small parts: what a consumer with a large credit is granted at once is read
    /// from the disks at once, and the messages of others wait for that.
    pub(super) const fn is_refill_due(&self, credit: Credit) -> bool {
        self.refill.is_part_of(credit, 8)
    }

    /// When [`State::next_frame`] has something although nothing else happens.
    pub(super) fn wake_at(&self) -> Option<MonoTime> {
        if !self.acks.has_some() {
            return None;
        }
        match (self.acks_not_before, self.acks_at) {
            (Some(held), Some(due)) => Some(held.max(due)),
            (held, due) => held.or(due),
        }
    }
}

fn ack_frame(ack: super::acks::AckRequest) -> Up {
    Up::Ack(pb::AckSet {
        request_id: ack.request,
        ranges: ack
            .ranges
            .into_iter()
            .map(|range| pb::OffsetRange {
                start: range.start,
                end: range.end,
            })
            .collect(),
        cumulative_end: ack.cumulative_end,
        generation: ack.generation,
        ..pb::AckSet::default()
    })
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) shared: Shared,
    pub(super) settings: Settings,
    pub(super) credit: Credit,
    state: Mutex<State>,
    /// Counts streams. What came on an older one than the last is not given out any more.
    session: AtomicU64,
    /// Rung when the task has something new to look at.
    pub(super) work: Notify,
}

impl Inner {
    pub(super) fn new(shared: Shared, settings: Settings, credit: Credit) -> Self {
        Self {
            shared,
            settings,
            credit,
            state: Mutex::default(),
            session: AtomicU64::new(0),
            work: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn session(&self) -> u64 {
        self.session.load(Ordering::Acquire)
    }

    /// Notes an ack, and rings for the task when it should look at it now.
    pub(super) fn ack(&self, note: impl FnOnce(&mut Acks<Waiter>)) {
        let mut state = self.lock();
        if state.over.is_some() {
            return; // A waiter is dropped with the note, which tells it.
        }
        note(&mut state.acks);
        let rings = state.acks.is_urgent() || state.acks_at.is_none();
        if state.acks_at.is_none() {
            state.acks_at = Some(self.shared.host.clock.now().after(ACK_DELAY));
        }
        drop(state);
        if rings {
            self.work.notify_one();
        }
    }

    /// A stream is open: everything may be granted on it.
    pub(super) fn opened(&self, ready: pb::ConsumerReady) -> u64 {
        let mut state = self.lock();
        let max = ready.limits.as_ref().map_or(0, |limits| limits.ranges_max);
        state.ranges_max = match usize::try_from(max) {
            Ok(max) if max > 0 => max.min(10_000),
            _ => 1_000,
        };
        state.ready = ready;
        state.is_open = true;
        state.refill = self.credit;
        state.acks_at = Some(MonoTime::ZERO); // What was acked before comes first.
        state.acks_not_before = None;
        self.session()
    }

    /// The stream is over. What the user has not taken is dropped: it is delivered again.
    pub(super) fn broke(&self) {
        let extensions = {
            let mut state = self.lock();
            self.session.fetch_add(1, Ordering::AcqRel);
            state.is_open = false;
            state.buffer.clear();
            state.requests.clear();
            state.acks.broke();
            std::mem::take(&mut state.extensions)
        };
        for waiter in extensions.into_values() {
            let _ = waiter.send(Err(released()));
        }
    }

    /// Ends the consumer: tells everybody who waits, now and later, why.
    pub(super) fn give_up(&self, error: &Error) {
        self.broke();
        let (waker, waiters) = {
            let mut state = self.lock();
            state.over.get_or_insert_with(|| error.clone());
            (state.waker.take(), state.acks.give_up())
        };
        for waiter in waiters {
            let _ = waiter.send(Err(error.clone()));
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends the consumer from its handle's side: the task closes the stream.
    pub(super) fn fail(&self, error: &Error) {
        self.give_up(error);
        self.lock().is_closing = true;
        self.work.notify_one();
    }

    /// Tells callers what became of their acks.
    pub(super) fn settle(&self, settled: Vec<Settled<Waiter>>) {
        for (waiter, outcome) in settled {
            let _ = waiter.send(outcome.map_err(Error::from));
        }
    }

    /// Why nothing more comes.
    pub(super) fn why_over(&self) -> Error {
        let over = self.lock().over.clone();
        over.unwrap_or_else(|| Error::new(Reason::Stopping, "the consumer is closed"))
    }
}

/// The lease of a message from an older stream.
pub(super) fn released() -> Error {
    let message = "the connection broke since the delivery; the message is delivered again";
    Error::new(Reason::LeaseLost, message)
}
