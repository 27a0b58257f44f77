//! The producer as a pure machine: what waits, what is in flight, what is repeated after trouble.
//!
//! It gathers messages into batches while a batch is in flight, and numbers a batch when it is first sent. A number that
//! was sent gets other content only after a definite refusal; over a new stream the same bytes go out under the same
//! numbers, so that nothing is stored twice and the order is kept.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use types::{Problem, Reason};

/// How much goes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// A batch is closed at so many bytes.
    pub(super) batch_bytes: usize,
    /// A batch is closed at so many messages.
    pub(super) batch_messages: u32,
    /// Most batches without a receipt.
    pub(super) in_flight: usize,
}

/// What the server takes without a receipt. One batch may always go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Credits {
    pub(super) messages: u64,
    pub(super) bytes: usize,
}

impl Credits {
    pub(super) const UNLIMITED: Self = Self {
        messages: u64::MAX,
        bytes: usize::MAX,
    };
}

/// What a caller hands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Bytes of its messages in a batch.
    pub(super) bytes: usize,
    /// How many messages.
    pub(super) count: u32,
    /// What they take of the producer's memory.
    pub(super) cost: u32,
}

/// The callers that wait for a batch. `W` stands for what tells all of them; the machine only hands it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting<W> {
    pub(super) waiter: W,
    pub(super) callers: u64,
    /// What their messages take of the producer's memory.
    pub(super) cost: usize,
}

impl<W> Waiting<W> {
    const fn new(waiter: W) -> Self {
        Self {
            waiter,
            callers: 0,
            cost: 0,
        }
    }
}

/// A batch, numbered or not.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Batch<W> {
    body: Bytes,
    count: u32,
    waiting: Waiting<W>,
}

impl<W> Batch<W> {
    fn settled(self, outcome: Result<Place, Problem>) -> Settled<W> {
        Settled {
            waiting: self.waiting,
            outcome,
        }
    }
}

/// A batch that was sent, or waits to be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent<W> {
    first: u64,
    batch: Batch<W>,
    /// Whether it is on the stream that is open now, without a receipt.
    is_out: bool,
}

impl<W> Sent<W> {
    /// The first number after it.
    fn next(&self) -> u64 {
        self.first + u64::from(self.batch.count)
    }
}

/// A batch to put on the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) first_sequence: u64,
    pub(super) count: u32,
    pub(super) body: Bytes,
}

/// Where a run of messages is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The offset of its first message; none for a repeat from so long ago that it is not known any more.
    pub(super) first_offset: Option<u64>,
    /// Whether it had been stored before.
    pub(super) duplicate: bool,
}

/// A receipt as it came: for one batch, or for several with one outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) first_sequence: u64,
    /// How many messages. 0: those of one batch.
    pub(super) count: u32,
    pub(super) outcome: Result<Place, Problem>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled<W> {
    pub(super) waiting: Waiting<W>,
    /// The batch's i-th message has `first_offset + i`.
    pub(super) outcome: Result<Place, Problem>,
}

/// What the shell has to do after a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum After {
    /// Go on.
    GoOn,
    /// A definite refusal that will pass: wait a little, then call [`Core::resume`].
    BackOff,
    /// The server and this producer do not agree on what was sent. The producer is over.
    Over(Problem),
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Core<W> {
    limits: Limits,
    credits: Credits,
    /// The number of the next new message.
    next: u64,
    /// The first number that the server did not have when the stream was opened.
    stored_end: u64,
    /// Messages that are in no batch yet.
    gathering: BytesMut,
    gathered: u32,
    /// Who waits for these; none when there are none.
    gatherers: Option<Waiting<W>>,
    /// Bytes of the last batch: the next will be like it, and is given its room at once.
    last_bytes: usize,
    /// Closed batches without numbers.
    ready: VecDeque<Batch<W>>,
    /// Numbered batches without a final receipt, in order.
    sent: VecDeque<Sent<W>>,
    /// Of these, what is on the stream: messages and bytes.
    out_messages: u64,
    out_bytes: usize,
    out_batches: usize,
    /// After a definite refusal: nothing is sent until every batch behind it was refused too, and the pause is over.
    is_held: bool,
    wants_pause: bool,
    /// After a batch was refused for good: what is behind it gets new numbers from here, once all of it was refused.
    renumber_from: Option<u64>,
}

impl<W> Core<W> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            credits: Credits::UNLIMITED,
            next: 0,
            stored_end: 0,
            gathering: BytesMut::new(),
            gathered: 0,
            gatherers: None,
            last_bytes: 0,
            ready: VecDeque::new(),
            sent: VecDeque::new(),
            out_messages: 0,
            out_bytes: 0,
            out_batches: 0,
            is_held: false,
            wants_pause: false,
            renumber_from: None,
        }
    }

    /// Takes a caller's messages in; they lie in one batch. `waiter` makes what tells the callers of a new batch. `append`
    /// encodes the messages where they will stay, and hears what tells the batch's callers and which of the batch's
    /// messages is the first of these.
    pub(super) fn add<R>(
        &mut self,
        size: Size,
        waiter: impl FnOnce() -> W,
        append: impl FnOnce(&mut BytesMut, &W, u32) -> R,
    ) -> R {
        let Size { bytes, count, cost } = size;
        let is_full = self.gathered > 0
            && (self.gathering.len() + bytes > self.limits.batch_bytes
                || self.gathered.saturating_add(count) > self.limits.batch_messages);
        if is_full {
            self.close_batch();
        }
        if self.gathered == 0 {
            // Growing step by step would copy the batch about once more.
            self.gathering.reserve(self.last_bytes.max(bytes));
        }
        let waiting = self.gatherers.get_or_insert_with(|| Waiting::new(waiter()));
        waiting.callers += 1;
        waiting.cost += cost as usize;
        let appended = append(&mut self.gathering, &waiting.waiter, self.gathered);
        self.gathered += count;
        if self.gathering.len() >= self.limits.batch_bytes
            || self.gathered >= self.limits.batch_messages
        {
            self.close_batch();
        }
        appended
    }

    fn close_batch(&mut self) {
        let Some(waiting) = self.gatherers.take() else {
            return; // Nothing has gathered.
        };
        self.last_bytes = self.gathering.len();
        self.ready.push_back(Batch {
            body: self.gathering.split().freeze(),
            count: std::mem::take(&mut self.gathered),
            waiting,
        });
    }

    /// Whether [`Core::take`] would give a batch.
    pub(super) fn can_take(&self) -> bool {
        if self.is_held || self.out_batches >= self.limits.in_flight {
            return false;
        }
        let (count, bytes) = if self.out_batches < self.sent.len() {
            let again = &self.sent[self.out_batches].batch;
            (again.count, again.body.len())
        } else if let Some(ready) = self.ready.front() {
            (ready.count, ready.body.len())
        } else {
            return self.gathered > 0 && self.out_batches == 0;
        };
        self.out_batches == 0
            || (self.out_messages + u64::from(count) <= self.credits.messages
                && self.out_bytes + bytes <= self.credits.bytes)
    }

    /// The next batch to send, if one may go: a full one while fewer than the limit are in flight, what has gathered
    /// when nothing is. The batch counts as sent.
    pub(super) fn take(&mut self) -> Option<Outgoing> {
        if !self.can_take() {
            return None;
        }
        if self.out_batches == self.sent.len() {
            if self.ready.is_empty() {
                self.close_batch(); // Nothing is in flight: what has gathered goes.
            }
            let batch = self.ready.pop_front()?;
            let first = self.next;
            self.next += u64::from(batch.count);
            self.sent.push_back(Sent {
                first,
                batch,
                is_out: false,
            });
        }
        // What is on the stream is a prefix of what was sent, so that receipts come for its first.
        let sent = &mut self.sent[self.out_batches];
        sent.is_out = true;
        self.out_batches += 1;
        self.out_messages += u64::from(sent.batch.count);
        self.out_bytes += sent.batch.body.len();
        Some(Outgoing {
            first_sequence: sent.first,
            count: sent.batch.count,
            body: sent.batch.body.clone(),
        })
    }

    /// A stream is open. `last_stored` is the last number that the server has of this producer: numbering goes on after
    /// it when nothing was numbered yet; else what has no receipt is sent again.
    ///
    /// # Errors
    ///
    /// The server has fewer of this producer's messages than it confirmed, or others than this producer sent.
    pub(super) fn opened(
        &mut self,
        last_stored: Option<u64>,
        credits: Credits,
    ) -> Result<(), Problem> {
        self.credits = credits;
        self.stored_end = last_stored.map_or(0, |last| last.saturating_add(1));
        for sent in &mut self.sent {
            sent.is_out = false;
        }
        (self.out_batches, self.out_messages, self.out_bytes) = (0, 0, 0);
        self.resume();
        self.renumber();
        if self.sent.is_empty() && self.next == 0 {
            self.next = self.stored_end;
        }
        let confirmed_end = self.sent.front().map_or(self.next, |sent| sent.first);
        if self.stored_end < confirmed_end {
            let message = format!(
                "the server has this producer's messages up to {}, but it confirmed them up to {confirmed_end}",
                self.stored_end
            );
            return Err(
                Problem::new(Reason::SequenceOutOfOrder, message).with("expected", self.stored_end)
            );
        }
        if self.stored_end > self.next {
            let message =
                "another producer of the same name has published since; give each its own name";
            return Err(Problem::new(Reason::ProducerFenced, message));
        }
        Ok(())
    }

    /// The pause after a refusal is over.
    pub(super) fn resume(&mut self) {
        self.is_held = false;
        self.wants_pause = false;
    }

    /// A receipt came, for the oldest batches on the stream. What is settled goes to `settled`.
    pub(super) fn heard(&mut self, receipt: Heard, settled: &mut Vec<Settled<W>>) -> After {
        let Heard {
            mut first_sequence,
            count,
            mut outcome,
        } = receipt;
        let end = first_sequence.saturating_add(u64::from(count));
        loop {
            let index = self.sent.iter().position(|sent| sent.is_out);
            let Some(index) = index else {
                return After::Over(odd("a receipt came for nothing that is in flight"));
            };
            let sent = &self.sent[index];
            if sent.first != first_sequence || (count > 0 && end < sent.next() && outcome.is_ok()) {
                return After::Over(odd("a receipt came out of order"));
            }
            first_sequence = sent.next();
            let length = u64::from(sent.batch.count);
            let after = match &outcome {
                Ok(_) if index > 0 => {
                    return After::Over(odd("a batch was stored behind one that was refused"));
                }
                Ok(place) => {
                    let sent = self.off_stream(index);
                    settled.push(sent.batch.settled(Ok(place.clone())));
                    After::GoOn
                }
                Err(problem) => self.refused(index, problem.clone(), settled),
            };
            if first_sequence >= end || matches!(after, After::Over(_)) {
                return after;
            }
            if let Ok(Place {
                first_offset: Some(first),
                ..
            }) = &mut outcome
            {
                *first += length;
            }
        }
    }

    /// Takes a batch out of what was sent.
    fn off_stream(&mut self, index: usize) -> Sent<W> {
        self.came_back(index);
        self.sent.remove(index).expect("the caller found it there")
    }

    /// A batch has its receipt: it is not on the stream any more.
    fn came_back(&mut self, index: usize) {
        let sent = &mut self.sent[index];
        if std::mem::take(&mut sent.is_out) {
            self.out_batches -= 1;
            self.out_messages -= u64::from(sent.batch.count);
            self.out_bytes -= sent.batch.body.len();
        }
    }

    fn refused(&mut self, index: usize, problem: Problem, settled: &mut Vec<Settled<W>>) -> After {
        let is_first = index == 0 && !self.is_held;
        if is_first && !is_passing(&problem) && self.sent[index].next() <= self.stored_end {
            // A repeat of what the server has: refusing it now does not undo that.
            let sent = self.off_stream(index);
            let place = Place {
                first_offset: None,
                duplicate: true,
            };
            settled.push(sent.batch.settled(Ok(place)));
            return After::GoOn;
        }
        if is_first && problem.reason == Reason::SequenceOutOfOrder {
            return After::Over(problem);
        }
        self.came_back(index);
        self.is_held = true;
        if is_first {
            if is_passing(&problem) {
                self.wants_pause = true;
            } else {
                // Refused for good: its numbers are free, and what is behind it takes them.
                let sent = self.off_stream(index);
                settled.push(sent.batch.settled(Err(problem)));
                self.renumber_from = Some(sent.first);
            }
        }
        if self.out_batches > 0 {
            return After::GoOn; // Their refusals are on the way.
        }
        self.renumber();
        if self.wants_pause {
            return After::BackOff;
        }
        self.is_held = false;
        After::GoOn
    }

    /// Gives what is behind a batch that was refused for good its numbers, while nothing is on the stream. None of it can
    /// have been stored, whether its own refusal came or was lost with the stream: it left a gap in the sequence.
    fn renumber(&mut self) {
        let Some(mut next) = self.renumber_from.take() else {
            return;
        };
        for sent in &mut self.sent {
            sent.first = next;
            next = sent.next();
        }
        self.next = next;
    }

    /// Whether nothing waits and nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.sent.is_empty() && self.ready.is_empty() && self.gathered == 0
    }

    /// Gives everything up with a problem; what was sent and has no receipt may be stored.
    pub(super) fn give_up(&mut self, problem: &Problem, settled: &mut Vec<Settled<W>>) {
        self.close_batch();
        let unknown = Problem::new(
            Reason::OutcomeUnknown,
            format!("it may or may not be stored: {}", problem.message),
        );
        for sent in self.sent.drain(..) {
            settled.push(sent.batch.settled(Err(unknown.clone())));
        }
        for batch in self.ready.drain(..) {
            settled.push(batch.settled(Err(problem.clone())));
        }
        (self.out_batches, self.out_messages, self.out_bytes) = (0, 0, 0);
    }
}

/// Whether a definite refusal will pass by itself.
fn is_passing(problem: &Problem) -> bool {
    proto::status::is_worth_repeating(problem)
}

fn odd(what: &str) -> Problem {
    Problem::new(
        Reason::Internal,
        format!("the server broke the protocol: {what}"),
    )
}

#[cfg(test)]
mod tests;
