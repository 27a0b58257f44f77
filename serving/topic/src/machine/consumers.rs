//! What concerns subscriptions and their consumers.

use types::topic::{StartPosition, SubscriptionMode, SubscriptionRecord};
use types::{Problem, Reason, SubscriptionId};

use super::{At, Topic, refuse};
use crate::opening::FIRST_GENERATION;
use crate::state::Waiter;
use crate::subscription::{Consumer, Done, Scene, Subscription, check_duration};
use crate::{
    Ack, AckResult, AckSet, ConsumerReady, Effect, Extend, Nack, OpenConsumer, RangeProblem,
    StreamId, problems,
};

impl Topic {
    pub(super) fn create_cursor(&mut self, record: &SubscriptionRecord, effects: &mut Vec<Effect>) {
        let id = record.id;
        if let Some(found) = self.subscriptions.get(&id) {
            if found.is_durable {
                let generation = found.generation;
                effects.push(Effect::CursorDurable {
                    subscription: id,
                    generation,
                });
            }
            return; // Else the one who asked first is answered, and with it everybody.
        }
        if self.subscriptions.len() >= self.config.subscriptions_max {
            let problem = problems::limit("subscriptions_max", self.config.subscriptions_max);
            effects.push(Effect::CursorRefused {
                subscription: id,
                problem,
            });
            return;
        }
        let end = self.producers.confirmed_end();
        let start = match record.start {
            StartPosition::Earliest => self.first_offset,
            // Not what is in flight: it may come to nothing, and the cursor would point beyond the end.
            StartPosition::Latest => end,
            StartPosition::Offset(offset) => offset.clamp(self.first_offset, end),
        };
        let cursor = AckSet::new(start);
        let found = Subscription::new(record, FIRST_GENERATION, cursor, false);
        self.state.add_cursor(found.key(), start);
        self.subscriptions.insert(id, found);
    }

    pub(super) fn drop_subscription(&mut self, id: SubscriptionId, effects: &mut Vec<Effect>) {
        let Some(found) = self.subscriptions.remove(&id) else {
            return;
        };
        // What gathered of its acks is written all the same, after the snapshot that has its cursor.
        self.at_tail.remove(&id);
        self.reschedule(id, None);
        if !found.is_durable {
            effects.push(Effect::CursorRefused {
                subscription: id,
                problem: problems::subscription_deleted(&found.name),
            });
        }
        let streams = self.consumers.extract_if(.., |_, of| *of == id);
        for stream in streams.map(|(stream, _)| stream).collect::<Vec<_>>() {
            let problem = problems::subscription_deleted(&found.name);
            effects.push(Effect::EndStream { stream, problem });
        }
    }

    pub(super) fn open_consumer(&mut self, at: At, open: OpenConsumer, effects: &mut Vec<Effect>) {
        let stream = open.stream;
        assert!(
            !self.consumers.contains_key(&stream) && !self.producers.has_stream(stream),
            "stream numbers are never reused"
        );
        let id = open.subscription;
        match self.admit_consumer(open) {
            Err(problem) => effects.push(Effect::EndStream { stream, problem }),
            Ok(consumer) => {
                let found = &self.subscriptions[&id];
                let ready = ConsumerReady {
                    mode: found.mode,
                    ack_deadline: consumer.ack_deadline,
                    generation: found.generation,
                    cursor: found.acked().mark(),
                };
                effects.push(Effect::ConsumerReady { stream, ready });
                self.consumers.insert(stream, id);
                self.with(at, id, effects, |found, scene, _| {
                    found.add_consumer(scene, stream, consumer);
                });
            }
        }
    }

    fn admit_consumer(&self, open: OpenConsumer) -> Result<Consumer, Problem> {
        let id = open.subscription;
        let found = self.subscriptions.get(&id);
        let found = found.ok_or_else(|| match self.is_delivery_held {
            // A newer owner may know it: only who is certain to be the owner may say that there is none.
            true => problems::uncertain().retry_after(self.config.read_retry),
            false => problems::no_subscription(id),
        })?;
        if !found.is_durable {
            let text = "the subscription is being created";
            return Err(
                Problem::new(Reason::ShardOpening, text).retry_after(self.config.read_retry)
            );
        }
        if let Some(mode) = open.mode.filter(|mode| *mode != found.mode) {
            return Err(problems::wrong_mode(&found.name, found.mode, mode));
        }
        let count = found.consumers().count();
        if found.mode == SubscriptionMode::Exclusive
            && let Some(holder) = found.consumers().next()
        {
            return Err(problems::exclusive_held(&found.name, holder.name.as_ref()));
        }
        if count >= self.config.consumers_max {
            return Err(problems::limit("consumers_max", self.config.consumers_max));
        }
        let (min, max) = (self.config.ack_deadline_min, self.config.ack_deadline_max);
        if let Some(asked) = open.ack_deadline {
            check_duration("ack_deadline", asked, min, max)?;
        }
        let own = found.ack_deadline.clamp(min, max);
        let ack_deadline = open.ack_deadline.unwrap_or(own);
        let mut consumer = Consumer::new(open.name, ack_deadline, open.confirm_acks, open.codecs);
        consumer.grant(open.permits.0, open.permits.1)?;
        Ok(consumer)
    }

    /// The subscription of a consumer's stream that may still ask for something.
    fn consumer_of(&self, stream: StreamId, effects: &mut Vec<Effect>) -> Option<SubscriptionId> {
        if self.producers.has_stream(stream) {
            refuse(stream, problems::wrong_stream("consumer"), effects);
        }
        let id = self.consumers.get(&stream).copied()?;
        if self.subscriptions[&id].is_finishing(stream) {
            refuse(stream, problems::after_close(), effects);
            return None;
        }
        Some(id)
    }

    pub(super) fn grant(
        &mut self,
        at: At,
        stream: StreamId,
        (messages, bytes): (i64, i64),
        effects: &mut Vec<Effect>,
    ) {
        let Some(id) = self.consumer_of(stream, effects) else {
            return;
        };
        self.with(at, id, effects, |found, _, effects| {
            let consumer = found
                .consumer_mut(stream)
                .expect("streams and consumers agree");
            if let Err(problem) = consumer.grant(messages, bytes) {
                refuse(stream, problem, effects);
            }
        });
    }

    pub(super) fn ack(&mut self, at: At, ack: &Ack, effects: &mut Vec<Effect>) {
        let (stream, request_id) = (ack.stream, ack.request_id);
        let Some(id) = self.consumer_of(stream, effects) else {
            return;
        };
        let found = self
            .subscriptions
            .get_mut(&id)
            .expect("streams and subscriptions agree");
        let key = found.key();
        let consumer = found
            .consumer_mut(stream)
            .expect("streams and consumers agree");
        let confirms = consumer.confirm_acks && request_id != 0;
        if confirms && consumer.waiting_acks >= self.config.waiting_acks_max {
            let max = u64::try_from(self.config.waiting_acks_max).unwrap_or(u64::MAX);
            let wait = self.config.overload_wait;
            let problem = problems::overloaded("waiting_acks_max", max, wait);
            answer(stream, request_id, Err(problem), false, effects);
            return;
        }
        let done = self.with(at, id, effects, |found, scene, _| {
            Some(found.ack(scene, ack))
        });
        let done = match done.expect("the subscription is there") {
            Ok(done) => done,
            Err(problem) => return answer(stream, request_id, Err(problem), false, effects),
        };
        let flush_at = at.now.after(self.config.ack_delay);
        for range in &done.acked {
            self.state.add_acked(key, *range, flush_at);
        }
        if !confirms {
            return answer(stream, request_id, Ok(done), false, effects);
        }
        let result = AckResult {
            request_id,
            problems: done.problems,
            confirmed: true,
        };
        let found = self.subscriptions.get_mut(&id).expect("it was there above");
        let consumer = found.consumer_mut(stream).expect("it was there above");
        consumer.waiting_acks += 1;
        if let Some(waiter) = self.state.wait(Waiter::Ack { stream, result }) {
            self.durable(at, waiter, effects);
        }
    }

    /// A confirmed ack is on disk.
    pub(super) fn ack_durable(
        &mut self,
        at: At,
        stream: StreamId,
        result: AckResult,
        effects: &mut Vec<Effect>,
    ) {
        let Some(id) = self.consumers.get(&stream) else {
            return; // Nobody is there to hear it.
        };
        let found = self
            .subscriptions
            .get_mut(id)
            .expect("streams and subscriptions agree");
        let consumer = found
            .consumer_mut(stream)
            .expect("streams and consumers agree");
        consumer.waiting_acks -= 1;
        let is_done = consumer.is_finishing && consumer.waiting_acks == 0;
        effects.push(Effect::AckResult { stream, result });
        if is_done {
            self.close(at, stream, effects);
            effects.push(Effect::Finished { stream });
        }
    }

    pub(super) fn nack(&mut self, at: At, nack: &Nack, effects: &mut Vec<Effect>) {
        if let Some(id) = self.consumer_of(nack.stream, effects) {
            let done = self.with(at, id, effects, |found, scene, _| {
                Some(found.nack(scene, nack))
            });
            let done = done.expect("the subscription is there");
            answer(nack.stream, nack.request_id, done, true, effects);
        }
    }

    pub(super) fn extend(&mut self, at: At, extend: &Extend, effects: &mut Vec<Effect>) {
        if let Some(id) = self.consumer_of(extend.stream, effects) {
            let change = |found: &mut Subscription, scene: Scene<'_>, _: &mut Vec<Effect>| {
                Some(found.extend(scene, extend))
            };
            let done = self.with(at, id, effects, change);
            let done = done.expect("the subscription is there");
            answer(extend.stream, extend.request_id, done, true, effects);
        }
    }
}

/// Answers a request that waits for nothing. One without a number hears of problems only.
fn answer(
    stream: StreamId,
    request_id: u64,
    done: Result<Done, Problem>,
    confirmed: bool,
    effects: &mut Vec<Effect>,
) {
    let is_done = done.is_ok();
    let problems = match done {
        Ok(done) => done.problems,
        Err(problem) => vec![RangeProblem {
            range: None,
            problem,
        }],
    };
    if request_id == 0 {
        if let Some(first) = problems.into_iter().next() {
            let problem = match first.range {
                Some(range) => first.problem.with("range", range),
                None => first.problem,
            };
            refuse(stream, problem, effects);
        }
        return;
    }
    let result = AckResult {
        request_id,
        problems,
        confirmed: confirmed && is_done,
    };
    effects.push(Effect::AckResult { stream, result });
}
