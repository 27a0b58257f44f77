//! The law of cursors: after any crash, what was never acked ⊆ what is delivered again ⊆ what was not confirmed; and
//! what holds at every moment of a subscription's life.

#![expect(clippy::unwrap_used, reason = "a test that meets the impossible stops")]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harness::{World, range, small};
use proptest::prelude::*;
use topic::{Ack, AckResult, Config, Delivery, Effect, Event, Nack, OffsetRange, StreamId};
use types::batch::{Codec, Codecs};
use types::chain::LogKind;
use types::topic::{StartPosition, SubscriptionMode};
use types::{Generation, MonoTime, Offset, Reason, SubscriptionId};

#[derive(Debug, Clone)]
enum Step {
    Publish(usize),
    Open {
        confirms: bool,
    },
    Leave {
        consumer: usize,
        is_clean: bool,
    },
    Permits {
        consumer: usize,
        messages: i64,
        bytes: i64,
    },
    Ack {
        consumer: usize,
        start: u64,
        len: u64,
    },
    AckTo {
        consumer: usize,
        end: u64,
    },
    Nack {
        consumer: usize,
        start: u64,
        len: u64,
        delay: u64,
    },
    Confirm(LogKind),
    Read,
    Roll,
    Pass(u64),
    Crash {
        message: usize,
        state: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let consumer = 0..3_usize;
    prop_oneof![
        4 => (1..6_usize).prop_map(Step::Publish),
        2 => any::<bool>().prop_map(|confirms| Step::Open { confirms }),
        2 => (consumer.clone(), any::<bool>())
            .prop_map(|(consumer, is_clean)| Step::Leave { consumer, is_clean }),
        4 => (consumer.clone(), 0..9_i64, 0..60_i64)
            .prop_map(|(consumer, messages, bytes)| Step::Permits { consumer, messages, bytes }),
        8 => (consumer.clone(), 0..40_u64, 1..6_u64)
            .prop_map(|(consumer, start, len)| Step::Ack { consumer, start, len }),
        1 => (consumer.clone(), 1..40_u64).prop_map(|(consumer, end)| Step::AckTo { consumer, end }),
        2 => (consumer, 0..40_u64, 1..6_u64, 0..3_u64)
            .prop_map(|(consumer, start, len, delay)| Step::Nack { consumer, start, len, delay }),
        5 => Just(Step::Confirm(LogKind::Message)),
        5 => Just(Step::Confirm(LogKind::State)),
        8 => Just(Step::Read),
        1 => Just(Step::Roll),
        2 => (0..40_u64).prop_map(Step::Pass),
        1 => (0..2_usize, 0..3_usize).prop_map(|(message, state)| Step::Crash { message, state }),
    ]
}

#[derive(Debug, Default)]
struct Granted {
    messages: i64,
    bytes: i64,
}

struct Run {
    world: World,
    id: SubscriptionId,
    mode: SubscriptionMode,
    consumers: Vec<StreamId>,
    granted: BTreeMap<StreamId, Granted>,
    /// Who holds an offset until when, as the clients know it.
    held: BTreeMap<u64, (StreamId, MonoTime)>,
    attempts: BTreeMap<u64, u32>,
    next_request: u64,
    asked: BTreeMap<u64, Vec<OffsetRange>>,
    /// Offsets some ack named that was not refused, and those that were confirmed.
    acked: BTreeSet<u64>,
    confirmed: BTreeSet<u64>,
}

impl Run {
    fn new(mode: SubscriptionMode) -> Self {
        let config = Config {
            ranges_max: 100,
            waiting_acks_max: 100,
            state_entry_bytes: types::ByteSize::kib(64),
            ..small()
        };
        let mut world = World::new(config);
        let id = world.create(1, mode, StartPosition::Earliest);
        world.settle();
        world.out.clear();
        Self {
            world,
            id,
            mode,
            consumers: Vec::new(),
            granted: BTreeMap::new(),
            held: BTreeMap::new(),
            attempts: BTreeMap::new(),
            next_request: 0,
            asked: BTreeMap::new(),
            acked: BTreeSet::new(),
            confirmed: BTreeSet::new(),
        }
    }

    fn end(&self) -> u64 {
        self.world.topic.confirmed_end().get()
    }

    fn listen(&mut self) {
        for effect in self.world.take() {
            match effect {
                Effect::Deliver { stream, delivery } => self.delivered(stream, &delivery),
                Effect::AckResult { result, .. } => self.answered(&result),
                Effect::EndStream { stream, problem } => {
                    let expected = [Reason::ExclusiveHeld, Reason::LimitReached];
                    assert!(expected.contains(&problem.reason), "{problem:?}");
                    self.gone(stream);
                }
                Effect::Finished { stream } => self.gone(stream),
                Effect::Refuse { problem, .. } => assert_eq!(problem.reason, Reason::BadFrame),
                _ => {}
            }
        }
        // An ack is accepted in memory or refused; what is accepted covers what was confirmed.
        let acked = self.world.topic.acked(self.id).unwrap();
        assert!(
            self.confirmed
                .iter()
                .all(|offset| acked.contains(Offset::new(*offset)))
        );
    }

    fn gone(&mut self, stream: StreamId) {
        self.consumers.retain(|known| *known != stream);
        self.held.retain(|_, (holder, _)| *holder != stream);
    }

    fn delivered(&mut self, stream: StreamId, delivery: &Delivery) {
        let first = delivery.first_offset.get();
        let granted = self.granted.get_mut(&stream).unwrap();
        assert!(granted.bytes > 0 && granted.messages >= i64::from(delivery.count));
        let is_overdrawn = i64::try_from(delivery.batch.len()).unwrap() > granted.bytes;
        assert!(
            !is_overdrawn || delivery.count == 1,
            "one message may overdraw, no more"
        );
        granted.messages -= i64::from(delivery.count);
        granted.bytes -= i64::try_from(delivery.batch.len()).unwrap();
        let texts = harness::payloads_of(&delivery.batch);
        assert_eq!(texts.len() as u64, u64::from(delivery.count));
        for (offset, text) in (first..).zip(texts) {
            assert!(offset < self.end(), "only what is confirmed is delivered");
            assert_eq!(text, offset.to_string(), "offsets name the messages");
            assert!(
                !self.confirmed.contains(&offset),
                "a confirmed ack never comes back"
            );
            let attempts = self.attempts.entry(offset).or_default();
            *attempts += 1;
            assert_eq!(
                delivery.attempt, *attempts,
                "attempts are counted per message"
            );
            let held = self.held.insert(offset, (stream, delivery.lease_deadline));
            assert!(
                held.is_none_or(|(_, until)| until <= self.world.now),
                "one holder at a time"
            );
        }
        if self.mode == SubscriptionMode::Exclusive {
            assert_eq!(self.consumers.last(), Some(&stream));
        }
    }

    fn answered(&mut self, result: &AckResult) {
        let Some(ranges) = self.asked.remove(&result.request_id) else {
            return; // A nack.
        };
        let mut offsets: BTreeSet<u64> = BTreeSet::new();
        for range in ranges {
            offsets.extend(range.start.get()..range.end.get());
        }
        for problem in &result.problems {
            match problem.range {
                None => offsets.clear(),
                Some(lost) => offsets.retain(|o| !(lost.start.get()..lost.end.get()).contains(o)),
            }
        }
        self.acked.extend(&offsets);
        if result.confirmed {
            self.confirmed.extend(offsets);
        }
    }

    fn request(&mut self, ranges: Vec<OffsetRange>) -> u64 {
        self.next_request += 1;
        // Until it is answered anything may have become of it.
        for range in &ranges {
            self.acked.extend(range.start.get()..range.end.get());
            self.held
                .retain(|offset, _| !(range.start.get()..range.end.get()).contains(offset));
        }
        self.asked.insert(self.next_request, ranges);
        self.next_request
    }

    fn step(&mut self, step: &Step) {
        let pick = |at: &usize| self.consumers.get(*at).copied();
        match step {
            Step::Publish(count) => self.publish(*count),
            Step::Open { confirms } => self.open(*confirms),
            Step::Leave { consumer, is_clean } => {
                if let Some(stream) = pick(consumer) {
                    self.leave(stream, *is_clean);
                }
            }
            Step::Permits {
                consumer,
                messages,
                bytes,
            } => {
                if let Some(stream) = pick(consumer) {
                    self.grant(stream, *messages, *bytes);
                }
            }
            Step::Ack {
                consumer,
                start,
                len,
            } => {
                if let Some(stream) = pick(consumer) {
                    let ranges = vec![range(*start, start + len)];
                    self.send_ack(stream, ranges, None);
                }
            }
            Step::AckTo { consumer, end } => {
                if let Some(stream) = pick(consumer) {
                    self.send_ack(stream, Vec::new(), Some(*end));
                }
            }
            Step::Nack {
                consumer,
                start,
                len,
                delay,
            } => {
                if let Some(stream) = pick(consumer) {
                    self.nack(stream, range(*start, start + len), *delay);
                }
            }
            Step::Confirm(log) => {
                self.world.confirm(*log);
            }
            Step::Read => {
                self.world.answer_read();
            }
            Step::Roll => self.world.roll(LogKind::State),
            Step::Pass(seconds) => {
                self.world.now = self.world.now.after(Duration::from_secs(*seconds));
                self.world.send(Event::Deadline);
            }
            Step::Crash { message, state } => self.crash(*message, *state),
        }
        self.listen();
    }

    /// Every other consumer opens batches itself.
    fn open(&mut self, confirms: bool) {
        let before = self.consumers.clone();
        self.world.codecs = match confirms {
            true => Codecs::NONE.with(Codec::Lz4),
            false => Codecs::NONE,
        };
        let (messages, bytes) = (2, 20);
        let stream = self.world.consume_as(self.id, (2, 20), confirms);
        self.granted.insert(stream, Granted { messages, bytes });
        self.consumers = before;
        self.consumers.push(stream);
    }

    fn publish(&mut self, count: usize) {
        let entries = &self.world.message.entries;
        let next = entries.last().map_or(0, |(_, _, next)| next.get());
        let texts: Vec<String> = (next..).take(count).map(|n| n.to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let batch = harness::batch(&texts);
        // Compressed or not, it is all the same to a cursor.
        let is_compressed = count > 2 && next.is_multiple_of(2);
        let body = match is_compressed {
            true => harness::compressed(&batch),
            false => batch.into(),
        };
        let stream = self.world.stream();
        self.world.send(Event::PublishOnce {
            stream,
            count: u32::try_from(count).unwrap(),
            body,
        });
    }

    fn leave(&mut self, stream: StreamId, is_clean: bool) {
        self.world.send(if is_clean {
            Event::FinishStream { stream }
        } else {
            Event::CloseStream { stream }
        });
        self.listen();
        self.gone(stream);
    }

    fn grant(&mut self, stream: StreamId, messages: i64, bytes: i64) {
        let granted = self.granted.get_mut(&stream).unwrap();
        granted.messages += messages;
        granted.bytes += bytes;
        self.world.send(Event::Permits {
            stream,
            messages,
            bytes,
        });
    }

    fn nack(&mut self, stream: StreamId, range: OffsetRange, delay: u64) {
        self.held.retain(|offset, (holder, _)| {
            let is_named = (range.start.get()..range.end.get()).contains(offset);
            !(is_named && *holder == stream)
        });
        self.world.send(Event::Nack(Nack {
            stream,
            request_id: 0,
            generation: Generation::new(1),
            ranges: vec![range],
            delay: (delay > 0).then(|| Duration::from_secs(delay)),
        }));
        let is_refusal = |effect: &Effect| matches!(effect, Effect::Refuse { .. });
        self.world.out.retain(|effect| !is_refusal(effect));
    }

    fn send_ack(&mut self, stream: StreamId, ranges: Vec<OffsetRange>, end: Option<u64>) {
        let cumulative = end.map(|end| range(0, end));
        // What an ack is refused for is known when it is answered; what others hold they go on holding.
        let held = self.held.clone();
        let acked = self.acked.clone();
        let all: Vec<_> = ranges.iter().copied().chain(cumulative).collect();
        let request_id = self.request(all);
        let mut effects_before = self.world.take();
        self.world.send(Event::Ack(Ack {
            stream,
            request_id,
            generation: Generation::new(1),
            ranges,
            cumulative_end: end.map(Offset::new),
        }));
        let refused_whole = self.world.out.iter().any(|effect| {
            matches!(effect, Effect::AckResult { result, .. }
                if result.request_id == request_id && result.problems.iter().any(|p| p.range.is_none()))
        });
        if refused_whole {
            self.acked = acked;
            self.held = held;
        } else {
            let topic = self.world.topic.acked(self.id).unwrap();
            let still = held
                .into_iter()
                .filter(|(offset, _)| !topic.contains(Offset::new(*offset)));
            self.held = still.collect();
        }
        effects_before.append(&mut self.world.out);
        self.world.out = effects_before;
    }

    /// The owner dies. Whatever was not confirmed may or may not have come through.
    fn crash(&mut self, message: usize, state: usize) {
        self.listen();
        self.world.crash(message, state);
        self.consumers.clear();
        self.held.clear();
        self.attempts.clear();
        self.asked.clear();
        self.check_law();
        // From here on only what the new owner knows counts: the rest was lost, as it may be.
        let acked = self.world.topic.acked(self.id).unwrap();
        self.acked = (0..self.end())
            .filter(|offset| acked.contains(Offset::new(*offset)))
            .collect();
    }

    /// Never acked ⊆ not acked for the new owner ⊆ not confirmed.
    fn check_law(&self) {
        let known = self.world.topic.acked(self.id).unwrap();
        for offset in 0..self.end() {
            let is_acked = known.contains(Offset::new(offset));
            assert!(
                self.acked.contains(&offset) || !is_acked,
                "never acked, not delivered: {offset}"
            );
            assert!(
                is_acked || !self.confirmed.contains(&offset),
                "confirmed, delivered: {offset}"
            );
        }
    }

    /// A last owner delivers all that is not acked to a consumer that takes everything.
    fn drain(&mut self) {
        self.crash(0, 0);
        let stream = self.world.consume(self.id, (10_000, 1_000_000));
        self.granted.insert(
            stream,
            Granted {
                messages: 10_000,
                bytes: 1_000_000,
            },
        );
        self.consumers.push(stream);
        // What unacked_max holds back comes after acks; remember what came.
        let mut seen: BTreeSet<u64> = BTreeSet::new();
        let known = self.world.topic.acked(self.id).unwrap().clone();
        for _ in 0..100 {
            self.world.settle();
            let deliveries = self.world.out.iter().filter_map(|effect| match effect {
                Effect::Deliver { delivery, .. } => Some(delivery.clone()),
                _ => None,
            });
            let deliveries: Vec<Delivery> = deliveries.collect();
            if deliveries.is_empty() {
                break;
            }
            self.listen();
            for delivery in deliveries {
                let first = delivery.first_offset.get();
                seen.extend(first..first + u64::from(delivery.count));
                self.send_ack(
                    stream,
                    vec![range(first, first + u64::from(delivery.count))],
                    None,
                );
            }
        }
        for offset in 0..self.end() {
            let was_acked = known.contains(Offset::new(offset));
            assert_eq!(
                seen.contains(&offset),
                !was_acked,
                "all that is not acked comes, and no more"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn shared_cursors_keep_the_law(steps in prop::collection::vec(step(), 1..150)) {
        let mut run = Run::new(SubscriptionMode::Shared);
        steps.iter().for_each(|step| run.step(step));
        run.drain();
    }

    #[test]
    fn exclusive_cursors_keep_the_law(steps in prop::collection::vec(step(), 1..150)) {
        let mut run = Run::new(SubscriptionMode::Exclusive);
        steps.iter().for_each(|step| run.step(step));
        run.drain();
    }
}
