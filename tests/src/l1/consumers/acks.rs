//! What consumers do with what they got: they ack it, give it back, take more time for it, or forget it.

use std::collections::VecDeque;

use topic::{Ack, AckResult, Extend, Nack, OffsetRange, StreamId};
use types::topic::SubscriptionMode;
use types::{Offset, Reason};

use super::{Held, Message};
use crate::history::{self, Name};
use crate::l1::agenda::SECOND;
use crate::l1::event::ConsumerTimer;
use crate::l1::marks::Mark;
use crate::l1::shard_core::Request;
use crate::l1::world::World;

impl World {
    /// The work on a delivery is over.
    pub(super) fn consumer_worked(&mut self, at: usize, stream: u64, delivery: u64) {
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
            p: self.partition(),
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
            p: self.partition(),
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

    /// An ack is answered.
    pub(super) fn consumer_confirmed(&mut self, at: usize, result: &AckResult) {
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
            p: self.partition(),
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
