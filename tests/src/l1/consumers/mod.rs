//! Consumers: they grant, receive, work for a while, then ack, give back, or forget what they got.

mod acks;

use std::collections::BTreeMap;

use bytes::Bytes;
use topic::{Delivery, OpenConsumer};
use types::batch::{Body, Codec, Codecs, records};
use types::topic::SubscriptionMode;
use types::{Generation, Problem, Reason};

use crate::history::{self, Name};
use crate::l1::agenda::{MS, Nanos, SECOND};
use crate::l1::event::{ConsumerTimer, Event, Opening, Said};
use crate::l1::marks::Mark;
use crate::l1::shard_core::Told;
use crate::l1::streams::Who;
use crate::l1::world::World;
use crate::workload::Stamp;

/// One consumer.
#[derive(Debug)]
pub(super) struct Consumer {
    name: String,
    sub: usize,
    confirms: bool,
    stream: Option<u64>,
    is_ready: bool,
    is_open_noted: bool,
    attempt: u32,
    connects: u32,
    hint: Option<usize>,
    generation: Generation,
    deliveries: BTreeMap<u64, Held>,
    next: u64,
    /// Acks that are to be confirmed.
    asked: BTreeMap<u64, Vec<Message>>,
    next_request: u64,
    /// Messages granted and not delivered.
    granted: i64,
    window: i64,
}

/// A message as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    writer: String,
    n: u64,
    offset: u64,
}

#[derive(Debug)]
struct Held {
    messages: Vec<Message>,
    bytes: i64,
    /// Whether its room was granted anew.
    is_granted: bool,
}

const PATIENCE: Nanos = 5 * SECOND;
const GRANT_BYTES: i64 = 1 << 20;

impl Consumer {
    pub(super) fn new(at: usize, sub: usize, confirms: bool, window: i64) -> Self {
        Self {
            name: format!("c{at}"),
            sub,
            confirms,
            stream: None,
            is_ready: false,
            is_open_noted: false,
            attempt: 0,
            connects: 0,
            hint: None,
            generation: Generation::new(0),
            deliveries: BTreeMap::new(),
            next: 0,
            asked: BTreeMap::new(),
            next_request: 1,
            granted: 0,
            window,
        }
    }

    /// Whether it may get messages.
    pub(super) const fn is_attached(&self) -> bool {
        self.is_ready && self.stream.is_some()
    }
}

impl World {
    /// A subscription is there: noted, and its consumers begin.
    pub(super) fn subscribed(&mut self, at: usize) {
        let sub = &self.subs[at];
        let ty = match sub.mode {
            SubscriptionMode::Exclusive => history::SubscriptionType::Exclusive,
            SubscriptionMode::Shared => history::SubscriptionType::Shared,
        };
        let from = match sub.start {
            types::topic::StartPosition::Earliest => history::Start::Earliest,
            types::topic::StartPosition::Latest => history::Start::Latest,
            types::topic::StartPosition::Offset(offset) => history::Start::Offset(offset.get()),
        };
        let made = history::Subscribed {
            t0: sub.tried.unwrap_or(self.now),
            t: self.now,
            sub: Name::from(sub.label.as_str()),
            p: self.partition(),
            ty,
            from,
        };
        self.history.note(&history::Event::Sub(made));
        for consumer in 0..self.consumers.len() {
            if self.consumers[consumer].sub == at {
                let wait = self.rng.below(500 * MS);
                let attempt = self.consumers[consumer].attempt;
                self.consumer_later(consumer, wait, ConsumerTimer::Connect(attempt));
            }
        }
    }

    /// The consumers of a subscription.
    pub(super) fn consumers_of(&self, sub: usize) -> Vec<usize> {
        let all = 0..self.consumers.len();
        all.filter(|at| self.consumers[*at].sub == sub).collect()
    }

    fn consumer_later(&mut self, at: usize, wait: Nanos, timer: ConsumerTimer) {
        self.agenda
            .put(self.now + wait, Event::Consumer { at, timer });
    }

    /// A consumer's timer.
    pub(super) fn consumer_timed(&mut self, at: usize, timer: ConsumerTimer) {
        match timer {
            ConsumerTimer::Connect(attempt) => {
                let consumer = &self.consumers[at];
                let is_there = self.subs[consumer.sub].record.is_some();
                if is_there && consumer.stream.is_none() && consumer.attempt == attempt {
                    self.consumer_connects(at);
                }
            }
            ConsumerTimer::Patience(stream) => {
                let consumer = &self.consumers[at];
                if consumer.stream == Some(stream) && !consumer.is_ready {
                    self.client_closes(stream);
                    self.consumer_lost(at, stream, None);
                }
            }
            ConsumerTimer::Worked { stream, delivery } => {
                if self.consumers[at].stream == Some(stream) {
                    self.consumer_worked(at, stream, delivery);
                }
            }
        }
    }

    fn session(&self, at: usize) -> (String, String) {
        let consumer = &self.consumers[at];
        let sub = &self.subs[consumer.sub];
        (sub.label.clone(), consumer.name.clone())
    }

    fn consumer_connects(&mut self, at: usize) {
        let (sub, c) = self.session(at);
        let (sub, c) = (Name::from(sub), Name::from(c));
        let t = self.now;
        self.history
            .note(&history::Event::Open(history::Session { t, sub, c }));
        let consumer = &mut self.consumers[at];
        consumer.is_open_noted = true;
        let hint = consumer.hint.take();
        let (confirms, window) = (consumer.confirms, consumer.window);
        let name = consumer.name.parse().ok();
        let record = self.subs[consumer.sub].record.as_ref();
        let subscription = record.expect("consumers begin when it is made").id;
        let stream = self.client_opens(Who::Consumer(at), hint, |stream| {
            Opening::Consumer(OpenConsumer {
                stream,
                subscription,
                mode: None,
                name,
                ack_deadline: None,
                confirm_acks: confirms,
                permits: (window, GRANT_BYTES),
                // Every other one opens what is compressed.
                codecs: match at % 2 {
                    0 => Codec::ALL.into_iter().collect(),
                    _ => Codecs::NONE,
                },
            })
        });
        let consumer = &mut self.consumers[at];
        consumer.stream = Some(stream);
        consumer.is_ready = false;
        consumer.granted = window;
        self.consumer_later(at, PATIENCE, ConsumerTimer::Patience(stream));
    }

    /// A consumer's stream is over.
    pub(super) fn consumer_lost(&mut self, at: usize, stream: u64, problem: Option<&Problem>) {
        if self.consumers[at].stream != Some(stream) {
            return;
        }
        let hint = problem.and_then(|problem| self.pointed_at(problem));
        let (sub, c) = self.session(at);
        let consumer = &mut self.consumers[at];
        consumer.stream = None;
        consumer.deliveries.clear();
        consumer.asked.clear();
        consumer.attempt += 1;
        consumer.hint = hint;
        let attempt = consumer.attempt;
        if std::mem::take(&mut consumer.is_open_noted) {
            let (sub, c) = (Name::from(sub), Name::from(c));
            let t = self.now;
            self.history
                .note(&history::Event::Close(history::Session { t, sub, c }));
        }
        let is_held = problem.is_some_and(|problem| problem.reason == Reason::ExclusiveHeld);
        if is_held {
            self.marks.hit(Mark::ExclusiveHeld);
        }
        let wait = if is_held { SECOND } else { 10 * MS } + self.rng.below(300 * MS);
        self.consumer_later(at, wait, ConsumerTimer::Connect(attempt));
    }

    /// A consumer leaves by itself, and comes back.
    pub(super) fn consumer_leaves(&mut self, at: usize) {
        if let Some(stream) = self.consumers[at].stream {
            self.client_closes(stream);
            self.consumer_lost(at, stream, None);
        }
    }

    /// A consumer hears something.
    pub(super) fn consumer_hears(&mut self, at: usize, stream: u64, said: Said) {
        if self.consumers[at].stream != Some(stream) {
            return;
        }
        let Said::Told { told, .. } = said else {
            return;
        };
        match told {
            Told::ConsumerReady(ready) => {
                let consumer = &mut self.consumers[at];
                consumer.is_ready = true;
                consumer.generation = ready.generation;
                consumer.connects += 1;
                if consumer.connects > 1 {
                    self.marks.hit(Mark::ConsumerBack);
                }
            }
            Told::Delivery(delivery) => self.consumer_receives(at, stream, &delivery),
            Told::AckResult(result) => self.consumer_confirmed(at, &result),
            Told::Ended(problem) => {
                let is_leaving = self.subs[self.consumers[at].sub].leaves_at.is_some();
                if problem.reason == Reason::SubscriptionNotFound
                    && !is_leaving
                    && !self.swarm.is_beyond
                {
                    self.violation("I28", format!("c{at}: {problem}"));
                }
                self.consumer_lost(at, stream, Some(&problem));
            }
            Told::Refused(problem) if problem.reason == Reason::LeaseLost => {
                self.marks.hit(Mark::LeaseLost);
            }
            Told::Refused(problem) => self.violation("consumer", format!("c{at}: {problem}")),
            _ => {}
        }
    }

    /// Who sent a message, its number, and the partition that it was sent to when that is another one.
    fn sender_of(&self, payload: &[u8]) -> (String, u64, Option<String>) {
        let Ok(stamp) = Stamp::read(payload) else {
            return (String::new(), 0, None);
        };
        let sent = (stamp.writer, stamp.n);
        let is_here = stamp.partition == self.partition().as_str();
        let is_astray = !is_here && !self.life.adrift.contains(&sent);
        (sent.0, sent.1, is_astray.then_some(stamp.partition))
    }

    /// A batch as a client opens it. One that does not open has no messages.
    fn batch_opened(&mut self, at: usize, batch: &Body) -> Bytes {
        let Some(compression) = batch.compression else {
            return batch.bytes.clone();
        };
        self.marks.hit(Mark::DeliveredCompressed);
        if !at.is_multiple_of(2) {
            self.violation("delivery", format!("c{at} opens no compressed batches"));
        }
        compression::open(compression, &batch.bytes).unwrap_or_default()
    }

    fn consumer_receives(&mut self, at: usize, stream: u64, delivery: &Delivery) {
        let (sub, c) = self.session(at);
        let first = delivery.first_offset.get();
        self.starts_as_new(self.consumers[at].sub, first);
        let mut delivered = Vec::new();
        let mut messages = Vec::new();
        let batch = self.batch_opened(at, &delivery.batch);
        for (index, record) in (0..).zip(records(&batch)) {
            let offset: u64 = first + index;
            let payload = payload_of(&batch.slice(record.message));
            let hash = Some(Stamp::hash(&payload));
            let (writer, n, astray) = self.sender_of(&payload);
            delivered.push(history::Delivered {
                w: Name::from(writer.clone()),
                n,
                o: offset,
                redelivered: delivery.attempt > 1,
                hash,
                astray: astray.map(Name::from),
            });
            messages.push(Message { writer, n, offset });
        }
        if messages.len() != usize::try_from(delivery.count).unwrap_or(0) {
            self.violation("delivery", format!("c{at}: counts differ {delivery:?}"));
        }
        if delivery.attempt > 1 {
            self.marks.hit(Mark::Redelivered);
        }
        let received = history::Received {
            t: self.now,
            sub: Name::from(sub),
            c: Name::from(c),
            p: self.partition(),
            ms: delivered,
        };
        self.history.note(&history::Event::Recv(received));
        let consumer = &mut self.consumers[at];
        consumer.granted -= i64::from(delivery.count);
        if consumer.granted < 0 {
            let over = consumer.granted;
            self.violation("permits", format!("c{at} got more than it granted: {over}"));
        }
        let consumer = &mut self.consumers[at];
        let number = consumer.next;
        consumer.next += 1;
        let bytes = i64::try_from(delivery.batch.len()).unwrap_or(0);
        let held = Held {
            messages,
            bytes,
            is_granted: false,
        };
        consumer.deliveries.insert(number, held);
        let work = match self.rng.below(60) {
            // Those who are behind catch up at last.
            _ if self.is_healed => self.rng.below(MS),
            0 => self.rng.below(3 * SECOND),
            1..=6 => self.rng.below(200 * MS),
            _ => self.rng.below(5 * MS),
        };
        let timer = ConsumerTimer::Worked {
            stream,
            delivery: number,
        };
        self.consumer_later(at, work, timer);
    }
}

/// The payload of an encoded message that has nothing else.
fn payload_of(message: &Bytes) -> Bytes {
    let mut at = 1;
    let mut len: usize = 0;
    let mut shift = 0;
    while let Some(byte) = message.get(at) {
        len |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if message.first() == Some(&0x0a) && at + len == message.len() {
        return message.slice(at..);
    }
    Bytes::new()
}
