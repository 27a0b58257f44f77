//! Random lives of a shard: owners that are killed at any moment, answers that come late, bookies and meta that are away,
//! a producer that repeats, a consumer that acks some. What was promised is checked as it is told, and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use topic::{OffsetRange, Stored, StreamId};
use types::topic::{StartPosition, SubscriptionMode};
use types::{BookieId, ByteSize, Generation, Offset, SubscriptionId};

use super::super::*;
use super::world::{World, batch};

/// A stream of numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

struct Life {
    world: World,
    dice: Dice,
    node: usize,
    of: SubscriptionId,
    /// Streams of this node: one producer, one consumer; renewed when they end.
    producer: u64,
    consumer: u64,
    next_stream: u64,
    /// What of the streams was looked at.
    seen: BTreeMap<u64, usize>,
    /// The producer's next new number, and the first one without a receipt.
    next: u64,
    unanswered: u64,
    is_ready: bool,
    offset_of: BTreeMap<u64, u64>,
    generation: Option<Generation>,
    held: BTreeSet<u64>,
    asked: BTreeMap<u64, Vec<u64>>,
    next_request: u64,
    acked: BTreeSet<u64>,
    confirmed: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    repeats: usize,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut world = World::new();
        let mut dice = Dice(seed);
        world.small_ledgers(1 + dice.below(12));
        Arc::make_mut(&mut world.config.topic).state_roll = ByteSize::new(1 + dice.below(400));
        Arc::make_mut(&mut world.config.topic).read_bytes = ByteSize::new(1 + dice.below(200));
        world.config.tail_cache = ByteSize::new(dice.below(1_000));
        world.config.read_ahead = ByteSize::new(1 + dice.below(1_000));
        let node = world.open();
        let mode = SubscriptionMode::Exclusive;
        let of = world.subscribe(node, "s", mode, StartPosition::Earliest).id;
        let mut life = Self {
            world,
            dice,
            node,
            of,
            producer: 0,
            consumer: 0,
            next_stream: 1,
            seen: BTreeMap::new(),
            next: 0,
            unanswered: 0,
            is_ready: false,
            offset_of: BTreeMap::new(),
            generation: None,
            held: BTreeSet::new(),
            asked: BTreeMap::new(),
            next_request: 1,
            acked: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            delivered: BTreeSet::new(),
            repeats: 0,
        };
        life.open_producer();
        life.open_consumer();
        life
    }

    fn stream(&mut self) -> u64 {
        let stream = self.next_stream;
        self.next_stream += 1;
        stream
    }

    fn open_producer(&mut self) {
        self.producer = self.stream();
        self.is_ready = false;
        self.world
            .open_producer_later(self.node, self.producer, "p");
    }

    fn open_consumer(&mut self) {
        self.consumer = self.stream();
        self.generation = None;
        self.held.clear();
        self.asked.clear();
        self.world.consume_later(self.node, self.consumer, self.of);
    }

    fn publish(&mut self, first: u64) {
        let text = first.to_string();
        let request = batch(self.producer, first, &[text.as_str()]);
        self.world.later(self.node, ShardEvent::Request(request));
    }

    /// Some event of the life.
    fn act(&mut self) {
        match self.dice.below(100) {
            0..=29 if self.is_ready && self.next < self.unanswered + 20 => {
                let first = self.next;
                self.next += 1;
                self.publish(first);
            }
            30..=49 => self.ack(),
            50..=64 => {
                let at = Duration::from_millis(self.dice.below(300));
                self.world.pass_quietly(at);
            }
            65..=66 => {
                let bookie = 1 + self.dice.below(3);
                let is_down = self.dice.below(2) == 0;
                self.world.down_later(BookieId::new(bookie), is_down);
            }
            67 => self.world.is_meta_down = self.dice.below(3) == 0,
            68 => {
                let is_certain = self.dice.below(3) > 0;
                self.world
                    .later(self.node, ShardEvent::LeaseCertain(is_certain));
            }
            69 => self.replace(true),
            // The owner is deposed without knowing it, and goes on for a while.
            70 => self.replace(false),
            71 => self.world.later(self.node, ShardEvent::RecordChanged),
            72 => {
                let close = ShardEvent::Request(Request::CloseStream(StreamId::new(self.consumer)));
                self.world.later(self.node, close);
                self.open_consumer();
            }
            _ => {
                let steps = self.dice.below(30);
                for _ in 0..steps {
                    self.step();
                }
            }
        }
        self.look();
    }

    fn step(&mut self) {
        let nodes = self.world.nodes.len() as u64;
        // Mostly the newest ones: older are over or nearly so.
        let back = self.dice.below(nodes.min(2));
        let node = usize::try_from(nodes - 1 - back).unwrap();
        let place = usize::try_from(self.dice.below(8)).unwrap();
        self.world.step_at(node, place);
    }

    fn replace(&mut self, is_killed: bool) {
        if self.world.is_meta_down {
            return;
        }
        if is_killed {
            self.world.kill(self.node);
        } else {
            self.world.expire_session(self.node);
        }
        self.node = self.world.open_later();
        self.open_producer();
        self.open_consumer();
    }

    fn ack(&mut self) {
        let Some(generation) = self.generation else {
            return;
        };
        let count = usize::try_from(1 + self.dice.below(3)).unwrap();
        let skip = usize::try_from(self.dice.below(3)).unwrap();
        let offsets: Vec<u64> = self.held.iter().copied().skip(skip).take(count).collect();
        if offsets.is_empty() {
            return;
        }
        let request_id = self.next_request;
        self.next_request += 1;
        let range = |o: &u64| OffsetRange::new(Offset::new(*o), Offset::new(o + 1));
        let ack = topic::Ack {
            stream: StreamId::new(self.consumer),
            request_id,
            generation,
            ranges: offsets.iter().map(range).collect(),
            cumulative_end: None,
        };
        for offset in &offsets {
            self.held.remove(offset);
            self.acked.insert(*offset);
        }
        self.asked.insert(request_id, offsets);
        self.world
            .later(self.node, ShardEvent::Request(Request::Ack(ack)));
    }

    /// Looks at what the streams were told.
    fn look(&mut self) {
        let node = self.node;
        for stream in [self.producer, self.consumer] {
            let told = self.world.told(node, stream).to_vec();
            let from = self.seen.insert(stream, told.len()).unwrap_or(0);
            for one in &told[from..] {
                self.hear(stream, one);
                if self.node != node {
                    return; // What else the old owner said is lost.
                }
            }
        }
    }

    fn hear(&mut self, stream: u64, told: &Told) {
        match told {
            Told::ProducerReady(_) => {
                self.is_ready = true;
                // What has no receipt is repeated under its numbers.
                for first in self.unanswered..self.next {
                    self.publish(first);
                }
            }
            Told::Receipt(receipt) => self.receipt(receipt),
            Told::ConsumerReady(ready) => self.generation = Some(ready.generation),
            Told::Delivery(delivery) => {
                for offset in delivery.first_offset.get()
                    ..delivery.first_offset.get() + u64::from(delivery.count)
                {
                    assert!(
                        !self.confirmed.contains(&offset),
                        "a confirmed ack came back: {offset}"
                    );
                    self.delivered.insert(offset);
                    self.held.insert(offset);
                }
            }
            Told::AckResult(result) => {
                assert!(result.problems.is_empty(), "{:?}", result.problems);
                let offsets = self.asked.remove(&result.request_id).unwrap();
                if result.confirmed {
                    self.confirmed.extend(offsets);
                }
            }
            Told::Heartbeat(_) | Told::Refused(_) | Told::Finished => {}
            Told::Ended(problem) => {
                // Opened again where it was refused or cut off; elsewhere when the owner is replaced.
                let is_over = self.world.nodes[self.node].over.is_some();
                if is_over && !self.world.is_meta_down {
                    self.replace(true);
                } else if !is_over && stream == self.producer {
                    self.open_producer();
                } else if !is_over {
                    self.open_consumer();
                }
                assert_ne!(problem.reason, Reason::Internal, "{problem:?}");
            }
        }
    }

    fn receipt(&mut self, receipt: &topic::Receipt) {
        let first = receipt.first_sequence.get();
        match &receipt.outcome {
            Ok(Stored::New { first_offset, .. }) => {
                let known = self.offset_of.insert(first, first_offset.get());
                assert_eq!(known, None, "stored twice: {first}");
                self.unanswered = self.unanswered.max(first + 1);
            }
            Ok(Stored::Duplicate { first_offset, .. }) => {
                let offset = first_offset.get();
                assert_eq!(*self.offset_of.entry(first).or_insert(offset), offset);
                self.unanswered = self.unanswered.max(first + 1);
                self.repeats += 1;
            }
            Ok(Stored::DuplicateSomewhere) => self.unanswered = self.unanswered.max(first + 1),
            // Definitely not stored: repeated from there, the same bytes under the same number.
            Err(problem) => {
                assert!(
                    matches!(
                        problem.reason,
                        Reason::InsufficientBookies
                            | Reason::SequenceOutOfOrder
                            | Reason::Overloaded
                    ),
                    "{problem:?}"
                );
                if first == self.unanswered {
                    for again in self.unanswered..self.next {
                        self.publish(again);
                    }
                }
            }
        }
    }

    /// Everything is well again: what was promised must hold.
    fn heal(&mut self) {
        self.world.is_meta_down = false;
        for bookie in 1..=3 {
            self.world.down_later(BookieId::new(bookie), false);
        }
        for node in 0..self.world.nodes.len() {
            self.world.later(node, ShardEvent::LeaseCertain(true));
        }
        for _ in 0..60 {
            self.world.pass(Duration::from_secs(2));
            self.look();
        }
        assert_eq!(self.unanswered, self.next, "every batch gets its receipt");

        self.world.kill(self.node);
        self.node = self.world.open();
        self.open_producer();
        self.open_consumer();
        let before = self.delivered.clone();
        self.delivered.clear();
        for _ in 0..10 {
            self.world.pass(Duration::from_secs(2));
            self.look();
        }
        let texts = self.world.texts(self.node, self.consumer);
        let offsets = self.world.delivered(self.node, self.consumer);
        assert!(offsets.is_sorted(), "exclusive delivers in order");
        for (offset, text) in offsets.iter().zip(&texts) {
            assert_eq!(self.offset_of.get(&text.parse().unwrap()), Some(offset));
        }
        let never_acked: BTreeSet<u64> =
            (0..self.next).filter(|o| !self.acked.contains(o)).collect();
        let redelivered: BTreeSet<u64> = offsets.iter().copied().collect();
        assert!(
            never_acked.is_subset(&redelivered),
            "{never_acked:?} {redelivered:?}"
        );
        assert!(redelivered.is_disjoint(&self.confirmed));
        assert!(
            before.union(&redelivered).copied().eq(0..self.next),
            "nothing is passed by"
        );
        let in_order: Vec<u64> = self.offset_of.values().copied().collect();
        assert!(
            in_order.iter().copied().eq(0..self.next),
            "dense, in the producer's order"
        );
    }
}

impl std::fmt::Display for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (owners, confirmed) = (self.world.nodes.len(), self.confirmed.len());
        write!(f, "batches {} repeats {} ", self.next, self.repeats)?;
        write!(f, "owners {owners} confirmed {confirmed}")
    }
}

#[test]
fn whatever_happens_promises_are_kept() {
    let seeds: u64 = option_env!("SHARD_SEEDS").map_or(60, |text| text.parse().unwrap());
    let (mut repeats, mut owners) = (0, 0);
    for seed in 0..seeds {
        let mut life = Life::new(seed);
        for _ in 0..300 {
            life.act();
        }
        life.heal();
        println!("seed {seed}: {life}");
        repeats += life.repeats;
        owners += life.world.nodes.len();
    }
    assert!(repeats > 0, "batches were repeated");
    assert!(owners > 60, "owners came and went");
}
