//! Consumers: they grant, receive, work for a while, then ack, give back, or forget what they got.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use topic::{Ack, AckResult, Delivery, Extend, Nack, OffsetRange, OpenConsumer, StreamId};
use types::batch::records;
use types::topic::SubscriptionMode;
use types::{Generation, Offset, Problem, Reason};

use super::agenda::{MS, Nanos, SECOND};
use super::event::{ConsumerTimer, Event, Opening, Said};
use super::marks::Mark;
use super::shard_core::{Request, Told};
use super::streams::Who;
use super::world::{PARTITION, World};
use crate::history::{self, Name};
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
            p: Name::from(PARTITION),
            ty,
            from,
        };
        self.history.note(&history::Event::Sub(made));
        for consumer in 0..self.consumers.len() {
            if self.consumers[consumer].sub == at {
                let wait = self.rng.below(500 * MS);
                self.consumer_later(consumer, wait, ConsumerTimer::Connect(0));
            }
        }
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
                if consumer.stream.is_none() && consumer.attempt == attempt {
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
                if problem.reason == Reason::SubscriptionNotFound && !self.swarm.is_beyond {
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

    fn consumer_receives(&mut self, at: usize, stream: u64, delivery: &Delivery) {
        let (sub, c) = self.session(at);
        let first = delivery.first_offset.get();
        let mut delivered = Vec::new();
        let mut messages = Vec::new();
        for (index, record) in (0..).zip(records(&delivery.batch)) {
            let offset: u64 = first + index;
            let payload = payload_of(&delivery.batch.slice(record.message));
            let hash = Some(Stamp::hash(&payload));
            let (writer, n, astray) = match Stamp::read(&payload) {
                Ok(stamp) => {
                    let astray = (stamp.partition != PARTITION).then_some(stamp.partition);
                    (stamp.writer, stamp.n, astray)
                }
                Err(_) => (String::new(), 0, None),
            };
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
            p: Name::from(PARTITION),
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

    fn consumer_worked(&mut self, at: usize, stream: u64, delivery: u64) {
        let Some(held) = self.consumers[at].deliveries.remove(&delivery) else {
            return;
        };
        if !held.is_granted {
            let count = i64::try_from(held.messages.len()).unwrap_or(0);
            let permits = Request::Permits {
                stream: StreamId::new(stream),
                messages: count,
                bytes: held.bytes,
            };
            self.consumers[at].granted += count;
            self.client_requests(stream, permits);
        }
        let is_exclusive = self.subs[self.consumers[at].sub].mode == SubscriptionMode::Exclusive;
        let choice = if self.is_healed {
            10
        } else {
            self.rng.below(24)
        };
        match choice {
            0 => self.consumer_nacks(at, stream, &held),
            1 => self.trace(|| format!("c{at} forgets {} messages", held.messages.len())),
            2..=5 if is_exclusive => self.consumer_acks(at, stream, held, true),
            6 if held.messages.len() > 1 => {
                // Every second one; the others are forgotten.
                let messages = held.messages.iter().step_by(2).cloned().collect();
                let held = Held { messages, ..held };
                self.consumer_acks(at, stream, held, false);
            }
            7 => self.consumer_extends(at, stream, held),
            _ => self.consumer_acks(at, stream, held, false),
        }
    }

    /// It needs more time.
    fn consumer_extends(&mut self, at: usize, stream: u64, held: Held) {
        let consumer = &mut self.consumers[at];
        let extend = Extend {
            stream: StreamId::new(stream),
            request_id: 0,
            generation: consumer.generation,
            ranges: ranges(&held.messages),
            deadline: None,
        };
        let delivery = consumer.next;
        consumer.next += 1;
        let again = Held {
            is_granted: true,
            ..held
        };
        consumer.deliveries.insert(delivery, again);
        self.client_requests(stream, Request::Extend(extend));
        let wait = self.rng.below(SECOND);
        self.consumer_later(at, wait, ConsumerTimer::Worked { stream, delivery });
    }

    fn consumer_acks(&mut self, at: usize, stream: u64, held: Held, is_cumulative: bool) {
        let (sub, c) = self.session(at);
        let last = held.messages.iter().map(|message| message.offset).max();
        let end = is_cumulative.then_some(last).flatten().map(|last| last + 1);
        let ms = match end {
            Some(_) => Vec::new(),
            None => held.messages.iter().map(Message::named).collect(),
        };
        let acked = history::Acked {
            t: self.now,
            sub: Name::from(sub),
            c: Name::from(c),
            p: Name::from(PARTITION),
            ms,
            cu: end,
        };
        self.history.note(&history::Event::Ack(acked));
        let ranges = match end {
            Some(_) => Vec::new(),
            None => ranges(&held.messages),
        };
        let consumer = &mut self.consumers[at];
        let request_id = match consumer.confirms {
            true => consumer.next_request,
            false => 0,
        };
        if consumer.confirms {
            consumer.next_request += 1;
            if end.is_none() {
                consumer.asked.insert(request_id, held.messages);
            }
        }
        let ack = Ack {
            stream: StreamId::new(stream),
            request_id,
            generation: consumer.generation,
            ranges,
            cumulative_end: end.map(Offset::new),
        };
        self.client_requests(stream, Request::Ack(ack));
    }

    fn consumer_nacks(&mut self, at: usize, stream: u64, held: &Held) {
        self.marks.hit(Mark::Nacked);
        let (sub, c) = self.session(at);
        let nacked = history::Acked {
            t: self.now,
            sub: Name::from(sub),
            c: Name::from(c),
            p: Name::from(PARTITION),
            ms: held.messages.iter().map(Message::named).collect(),
            cu: None,
        };
        self.history.note(&history::Event::Nack(nacked));
        let nack = Nack {
            stream: StreamId::new(stream),
            request_id: 0,
            generation: self.consumers[at].generation,
            ranges: ranges(&held.messages),
            delay: None,
        };
        self.client_requests(stream, Request::Nack(nack));
    }

    fn consumer_confirmed(&mut self, at: usize, result: &AckResult) {
        let lost = |problem: &topic::RangeProblem| problem.problem.reason == Reason::LeaseLost;
        if result.problems.iter().any(lost) {
            self.marks.hit(Mark::LeaseLost);
        }
        let Some(messages) = self.consumers[at].asked.remove(&result.request_id) else {
            return;
        };
        let is_refused = |message: &Message| {
            result.problems.iter().any(|problem| {
                let offset = Offset::new(message.offset);
                problem
                    .range
                    .is_none_or(|range| range.start <= offset && offset < range.end)
            })
        };
        let done: Vec<_> = messages
            .iter()
            .filter(|message| !is_refused(message))
            .collect();
        if !result.confirmed || done.is_empty() {
            return;
        }
        self.marks.hit(Mark::AckConfirmed);
        let (sub, c) = self.session(at);
        let acked = history::Acked {
            t: self.now,
            sub: Name::from(sub),
            c: Name::from(c),
            p: Name::from(PARTITION),
            ms: done.into_iter().map(Message::named).collect(),
            cu: None,
        };
        self.history.note(&history::Event::AckOk(acked));
    }
}

impl Message {
    fn named(&self) -> (Name<'_>, u64) {
        (Name::from(self.writer.as_str()), self.n)
    }
}

/// Offsets as ranges.
fn ranges(messages: &[Message]) -> Vec<OffsetRange> {
    let mut offsets: VecDeque<u64> = messages.iter().map(|message| message.offset).collect();
    let mut ranges = Vec::new();
    while let Some(start) = offsets.pop_front() {
        let mut end = start + 1;
        while offsets.front() == Some(&end) {
            offsets.pop_front();
            end += 1;
        }
        ranges.push(OffsetRange::new(Offset::new(start), Offset::new(end)));
    }
    ranges
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
