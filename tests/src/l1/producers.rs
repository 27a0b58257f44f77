//! Producers as a client is to be: numbered batches, some in flight, sent again in order until each has an outcome.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use compression::Compressor;
use topic::{OpenProducer, ProducerReady, Publish, Receipt, Stored, StreamId};
use types::batch::{Body, Codec, MessageParts};
use types::{Epoch, Problem, Reason, SequenceId};

use super::agenda::{MS, Nanos, SECOND};
use super::event::{Event, Opening, ProducerTimer, Said};
use super::marks::Mark;
use super::shard_core::{Request, Told};
use super::streams::Who;
use super::world::World;
use crate::history::{self, Name};
use crate::workload::Stamp;

/// One producer.
#[derive(Debug)]
pub(super) struct Producer {
    pub(super) name: String,
    /// Messages that are to be sent so far.
    pub(super) made: u64,
    /// Messages put into batches so far.
    batched: u64,
    /// Batches without an outcome, oldest first; the first `in_flight` of them are on the stream.
    batches: VecDeque<Batch>,
    in_flight: usize,
    /// Batches refused on this stream, waiting until all others of it are answered.
    refused: VecDeque<Batch>,
    stream: Option<u64>,
    is_ready: bool,
    is_held: bool,
    attempt: u32,
    hint: Option<usize>,
    window: usize,
    /// A batch ends here at the latest: what the shard knew when it was asked last.
    known: u64,
    /// All messages below it are acked.
    pub(super) acked: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Batch {
    first: u64,
    count: u64,
}

/// How long a stream may take to become ready.
const PATIENCE: Nanos = 5 * SECOND;

impl Producer {
    pub(super) fn new(at: usize, window: usize) -> Self {
        Self {
            name: format!("w{at}"),
            made: 0,
            batched: 0,
            batches: VecDeque::new(),
            in_flight: 0,
            refused: VecDeque::new(),
            stream: None,
            is_ready: false,
            is_held: false,
            attempt: 0,
            hint: None,
            window,
            known: 0,
            acked: 0,
        }
    }

    /// Whether all has an outcome.
    pub(super) fn is_done(&self) -> bool {
        self.acked == self.made
    }

    /// Whether it waits for a receipt.
    pub(super) const fn is_waiting(&self) -> bool {
        self.in_flight > 0
    }
}

impl World {
    fn payload(&self, at: usize, n: u64) -> Vec<u8> {
        let size = usize::try_from(n * 131 % 997).unwrap_or(0) % self.swarm.payload;
        let stamp = Stamp {
            writer: self.producers[at].name.clone(),
            partition: self.partition().to_string(),
            n,
        };
        stamp.payload(size)
    }

    /// The topic is gone: what is open stays unknown. Returns the stream and its next number, when it is to stay open.
    pub(super) fn producer_ends(&mut self, at: usize, stays: bool) -> Option<(u64, u64)> {
        let producer = &self.producers[at];
        let (stream, next) = (producer.stream, producer.batched);
        let stays = stays && producer.is_ready;
        if let Some(stream) = stream {
            if !stays {
                self.client_closes(stream);
            }
            self.producer_lost(at, stream, None);
        }
        let producer = &mut self.producers[at];
        let attempt = producer.attempt + 1;
        *producer = Producer {
            attempt,
            ..Producer::new(at, producer.window)
        };
        stream.filter(|_| stays).map(|stream| (stream, next))
    }

    /// There is another topic of the name: it begins anew.
    pub(super) fn producer_begins(&mut self, at: usize) {
        let made = 1 + self.rng.below(self.swarm.batch);
        let wait = self.rng.below(300 * MS);
        let producer = &mut self.producers[at];
        producer.made = made;
        let attempt = producer.attempt;
        self.producer_later(at, wait, ProducerTimer::Connect(attempt));
    }

    /// A producer's timer.
    pub(super) fn producer_timed(&mut self, at: usize, timer: ProducerTimer) {
        match timer {
            ProducerTimer::Load => {
                if !self.is_healed {
                    if self.life.is_there() {
                        self.producers[at].made += 1 + self.rng.below(self.swarm.batch);
                    }
                    let gap = SECOND / self.swarm.rate;
                    let wait = gap / 2 + self.rng.below(gap);
                    self.producer_later(at, wait, ProducerTimer::Load);
                }
                self.producer_pumps(at);
            }
            ProducerTimer::Connect(attempt) => {
                let producer = &self.producers[at];
                if producer.stream.is_none() && producer.attempt == attempt {
                    self.producer_connects(at);
                }
            }
            ProducerTimer::Patience(stream) => {
                let producer = &self.producers[at];
                if producer.stream == Some(stream) && !producer.is_ready {
                    self.client_closes(stream);
                    self.producer_lost(at, stream, None);
                }
            }
            ProducerTimer::Resend(stream) => {
                let producer = &mut self.producers[at];
                if producer.stream == Some(stream) && producer.in_flight == 0 {
                    producer.is_held = false;
                    self.producer_pumps(at);
                }
            }
        }
    }

    fn producer_later(&mut self, at: usize, wait: Nanos, timer: ProducerTimer) {
        self.agenda
            .put(self.now + wait, Event::Producer { at, timer });
    }

    fn producer_connects(&mut self, at: usize) {
        let producer = &mut self.producers[at];
        let hint = producer.hint.take();
        let name = producer.name.parse().expect("a plain word is a name");
        let resume = producer.acked > 0;
        let stream = self.client_opens(Who::Producer(at), hint, |stream| {
            Opening::Producer(OpenProducer {
                stream,
                name: Some(name),
                resume,
            })
        });
        let producer = &mut self.producers[at];
        producer.stream = Some(stream);
        producer.is_ready = false;
        producer.is_held = false;
        self.producer_later(at, PATIENCE, ProducerTimer::Patience(stream));
    }

    /// A stream of a producer is over: what was on it has an unknown outcome.
    pub(super) fn producer_lost(&mut self, at: usize, stream: u64, problem: Option<&Problem>) {
        if self.producers[at].stream != Some(stream) {
            return;
        }
        let recuts = self.swarm.recuts;
        let producer = &mut self.producers[at];
        let unknown: Vec<Batch> = producer
            .batches
            .iter()
            .take(producer.in_flight)
            .copied()
            .collect();
        let refused = std::mem::take(&mut producer.refused);
        for batch in refused.into_iter().rev() {
            producer.batches.push_front(batch);
        }
        if recuts && producer.batches.len() > 1 {
            producer.batched = producer
                .batches
                .front()
                .map_or(producer.batched, |b| b.first);
            producer.batches.clear();
        }
        producer.in_flight = 0;
        producer.stream = None;
        producer.is_ready = false;
        producer.attempt += 1;
        let attempt = producer.attempt;
        let w = producer.name.clone();
        for n in unknown.into_iter().flat_map(Batch::numbers) {
            let t = self.now;
            let (w, p) = (Name::from(w.as_str()), self.partition());
            self.history
                .note(&history::Event::Info(history::Outcome { t, w, p, n }));
        }
        let hint = problem.and_then(|problem| self.pointed_at(problem));
        self.producers[at].hint = hint;
        let wait = 10 * MS + self.rng.below(300 * MS);
        self.producer_later(at, wait, ProducerTimer::Connect(attempt));
    }

    /// A producer hears something.
    pub(super) fn producer_hears(&mut self, at: usize, stream: u64, said: Said) {
        if self.producers[at].stream != Some(stream) {
            return;
        }
        let Said::Told { told, epoch } = said else {
            return;
        };
        match told {
            Told::ProducerReady(ready) => self.producer_ready(at, &ready),
            Told::Receipt(receipt) => self.producer_receipt(at, stream, &receipt, epoch),
            Told::Ended(problem) => {
                if problem.reason == Reason::ProducerUnknown && !self.swarm.is_beyond {
                    self.violation("I17", format!("w{at} is forgotten: {problem}"));
                }
                self.producer_lost(at, stream, Some(&problem));
            }
            _ => {}
        }
    }

    fn producer_ready(&mut self, at: usize, ready: &ProducerReady) {
        let producer = &mut self.producers[at];
        producer.is_ready = true;
        let known = ready.last_sequence.map_or(0, |last| last.get() + 1);
        producer.known = known;
        if (known < producer.acked || known > producer.batched.max(producer.made))
            && !self.swarm.is_beyond
        {
            let acked = producer.acked;
            self.violation(
                "I17",
                format!("w{at}: {acked} messages acked, the shard knows {known}"),
            );
        }
        self.producer_pumps(at);
    }

    /// Sends what may be sent.
    fn producer_pumps(&mut self, at: usize) {
        loop {
            let most = 1 + self.rng.below(self.swarm.batch);
            let producer = &mut self.producers[at];
            let Some(stream) = producer.stream else {
                let attempt = producer.attempt;
                if attempt == 0 {
                    producer.attempt = 1;
                    self.producer_connects(at);
                }
                return;
            };
            if !producer.is_ready || producer.is_held || producer.in_flight >= producer.window {
                return;
            }
            let batch = match producer.batches.get(producer.in_flight) {
                Some(batch) => *batch,
                None => {
                    let first = producer.batched;
                    let end = if first < producer.known {
                        producer.known
                    } else {
                        producer.made
                    };
                    let count = most.min(end - first);
                    if count == 0 {
                        return;
                    }
                    producer.batched += count;
                    let batch = Batch { first, count };
                    producer.batches.push_back(batch);
                    batch
                }
            };
            producer.in_flight += 1;
            self.producer_sends(at, stream, batch);
        }
    }

    fn producer_sends(&mut self, at: usize, stream: u64, batch: Batch) {
        let mut body = BytesMut::new();
        for n in batch.numbers() {
            let payload = self.payload(at, n);
            let parts = MessageParts {
                payload: &payload,
                ..MessageParts::default()
            };
            parts.append_to(&mut body);
            let (w, p) = (
                Name::from(self.producers[at].name.as_str()),
                self.partition(),
            );
            let sent = history::Sent {
                t: self.now,
                w,
                p,
                n,
                k: None,
                h: Some(Stamp::hash(&payload)),
                due: None,
                x: Vec::new(),
            };
            self.history.note(&history::Event::Send(sent));
        }
        let publish = Publish {
            stream: StreamId::new(stream),
            first_sequence: SequenceId::new(batch.first),
            count: u32::try_from(batch.count).expect("batches are small"),
            body: as_sent(batch.first, body.freeze()),
        };
        self.client_requests(stream, Request::Publish(publish));
    }

    fn producer_receipt(
        &mut self,
        at: usize,
        stream: u64,
        receipt: &Receipt,
        epoch: Option<Epoch>,
    ) {
        let producer = &mut self.producers[at];
        let batch = Batch {
            first: receipt.first_sequence.get(),
            count: u64::from(receipt.count),
        };
        if producer.in_flight == 0 || producer.batches.front() != Some(&batch) {
            let front = producer.batches.front().copied();
            let what = format!("w{at}: receipt out of turn {receipt:?} front={front:?}");
            return self.violation("receipts", what);
        }
        producer.batches.pop_front();
        producer.in_flight -= 1;
        match &receipt.outcome {
            Ok(stored) => {
                producer.acked = producer.acked.max(batch.first + batch.count);
                self.producer_stored(at, batch, stored, epoch);
            }
            Err(problem) => {
                producer.refused.push_back(batch);
                producer.is_held = true;
                let text = problem.to_string();
                self.trace(|| format!("w{at} {batch:?} refused: {text}"));
                self.producer_refused(at, batch);
            }
        }
        let producer = &mut self.producers[at];
        if producer.is_held && producer.in_flight == 0 {
            let refused = std::mem::take(&mut producer.refused);
            for batch in refused.into_iter().rev() {
                producer.batches.push_front(batch);
            }
            let wait = 20 * MS + self.rng.below(200 * MS);
            self.producer_later(at, wait, ProducerTimer::Resend(stream));
        }
        self.producer_pumps(at);
    }

    fn producer_stored(&mut self, at: usize, batch: Batch, stored: &Stored, epoch: Option<Epoch>) {
        let (first, ep, position) = match stored {
            Stored::New {
                first_offset,
                position,
                ..
            } => (Some(*first_offset), epoch, Some(*position)),
            Stored::Duplicate {
                first_offset,
                position,
                ..
            } => {
                self.marks.hit(Mark::DedupHit);
                (Some(*first_offset), None, Some(*position))
            }
            Stored::DuplicateSomewhere => {
                self.marks.hit(Mark::DedupSomewhere);
                (None, None, None)
            }
        };
        if let Some(position) = position {
            let found = self
                .observer
                .acked(&self.meta.store, position.ledger, position.entry);
            self.violations(found);
        }
        if let Some(first) = first {
            self.acked_end = self.acked_end.max(first.get() + batch.count);
        }
        for (index, n) in batch.numbers().enumerate() {
            let index = u64::try_from(index).expect("batches are small");
            let (w, p) = (
                Name::from(self.producers[at].name.as_str()),
                self.partition(),
            );
            let stored = history::Stored {
                t: self.now,
                w,
                p,
                n,
                o: first.map(|first| first.get() + index),
                ep: ep.map(Epoch::get),
            };
            self.history.note(&history::Event::Ok(stored));
        }
    }

    fn producer_refused(&mut self, at: usize, batch: Batch) {
        self.marks.hit(Mark::BatchRefused);
        for n in batch.numbers() {
            let t = self.now;
            let (w, p) = (
                Name::from(self.producers[at].name.as_str()),
                self.partition(),
            );
            self.history
                .note(&history::Event::Fail(history::Outcome { t, w, p, n }));
        }
    }
}

impl Batch {
    fn numbers(self) -> std::ops::Range<u64> {
        self.first..self.first + self.count
    }
}

/// A batch as it is sent: some are compressed, the same one each time. Not with zstd, whose contexts take longer to make
/// than a run has time for.
fn as_sent(first: u64, batch: Bytes) -> Body {
    let codec = match first % 4 {
        0 => Codec::Lz4,
        1 => Codec::Snappy,
        _ => return batch.into(),
    };
    Compressor::new(codec).compress(batch, u32::MAX)
}
