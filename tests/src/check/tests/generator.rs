//! Makes histories of a correct system: retries, unknown outcomes, crashes of consumers, acks of all kinds, every type of
//! subscription. The judge must find nothing in them.

use std::collections::{BTreeMap, VecDeque};

use crate::check::{Judge, Limits, Report, Verdict, judge_bytes};
use crate::history::format::VERSION;
use crate::history::{
    Acked, Delivered, Drained, Event, Fault, Guarantees, HistoryWriter, Name, Outcome, Phase,
    Received, Sent, Session, Start, Stored, Subscribed, SubscriptionType, Tail,
};
use crate::workload::Prng;

/// A history as events, to be changed before it is judged.
pub(super) type History = Vec<Event<'static>>;

/// What the generator does besides the ordinary.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wishes {
    /// Store two messages of one writer in the wrong order, once.
    pub(super) swap_producer_order: bool,
    /// Leave an offset free for a message that is sent at the end.
    pub(super) fill_hole_late: bool,
}

/// The types a generated history subscribes with, by name.
pub(super) const SUBS: [(&str, SubscriptionType); 6] = [
    ("reader", SubscriptionType::Reader),
    ("exclusive", SubscriptionType::Exclusive),
    ("failover", SubscriptionType::Failover),
    ("shared", SubscriptionType::Shared),
    ("keyed", SubscriptionType::KeyShared),
    ("latecomer", SubscriptionType::Shared),
];

pub(super) fn name(text: impl Into<String>) -> Name<'static> {
    Name::from(text.into())
}

pub(super) fn judge(history: &History) -> Report {
    let mut judge = Judge::new(Limits::default());
    for event in history {
        judge.note(event);
    }
    judge.finish()
}

/// A correct history of about `steps` steps.
pub(super) fn generate(seed: u64, steps: u64, wishes: Wishes) -> History {
    let mut model = Model::new(seed, wishes);
    for step in 0..steps {
        model.step(step, steps);
    }
    model.finish()
}

#[derive(Debug, Clone)]
struct Entry {
    writer: String,
    n: u64,
    offset: u64,
    hash: u64,
}

#[derive(Debug, Clone)]
struct Pending {
    n: u64,
    hash: u64,
    /// Where the first attempt was stored, with its answer lost.
    stored: Option<u64>,
}

#[derive(Debug, Default)]
struct Part {
    log: Vec<Entry>,
    next: u64,
    epoch: u64,
    pending: BTreeMap<String, VecDeque<Pending>>,
    next_n: BTreeMap<String, u64>,
    /// Nothing at or above is readable before it is filled.
    hole: Option<u64>,
    is_swapped: bool,
}

impl Part {
    /// How much of the log can be read.
    fn readable(&self) -> usize {
        let hole = self.hole.unwrap_or(u64::MAX);
        self.log.partition_point(|entry| entry.offset < hole)
    }
}

/// One subscription on one partition.
#[derive(Debug, Default)]
struct Cursor {
    fresh: usize,
    /// Given out: index in the log → consumer.
    held: BTreeMap<usize, String>,
    /// To be given out again, and whether that will be said.
    again: BTreeMap<usize, bool>,
}

struct Sub {
    name: &'static str,
    kind: SubscriptionType,
    is_made: bool,
    consumers: Vec<String>,
    cursors: Vec<Cursor>,
}

struct Model {
    prng: Prng,
    wishes: Wishes,
    t: u64,
    events: History,
    parts: Vec<Part>,
    writers: Vec<String>,
    subs: Vec<Sub>,
}

impl Model {
    fn new(seed: u64, wishes: Wishes) -> Self {
        let mut prng = Prng::new(seed);
        let parts = 1 + prng.index(3);
        let writers = 1 + prng.index(3);
        let mut model = Self {
            prng,
            wishes,
            t: 0,
            events: vec![Event::Meta {
                v: VERSION,
                g: Guarantees {
                    faults: true,
                    ..Guarantees::full()
                },
            }],
            parts: (0..parts)
                .map(|_| Part {
                    epoch: 1,
                    ..Part::default()
                })
                .collect(),
            writers: (0..writers).map(|w| format!("w{w}")).collect(),
            subs: Vec::new(),
        };
        for (name, kind) in SUBS {
            model.subs.push(Sub {
                name,
                kind,
                is_made: false,
                consumers: Vec::new(),
                cursors: Vec::new(),
            });
        }
        for sub in 0..SUBS.len() - 1 {
            model.subscribe(sub);
        }
        model
    }

    fn tick(&mut self) -> u64 {
        self.t += 1 + self.prng.below(50_000);
        self.t
    }

    fn step(&mut self, step: u64, steps: u64) {
        if step == steps / 3 {
            self.subscribe(SUBS.len() - 1);
        }
        if step == steps / 2 && self.wishes.fill_hole_late {
            let part = &mut self.parts[0];
            part.hole = Some(part.next);
            part.next += 1;
        }
        let part = self.prng.index(self.parts.len());
        match self.prng.below(100) {
            0..30 => self.send(part),
            30..55 => self.resolve(part),
            55..75 => self.deliver_some(part),
            75..88 => self.ack_some(part),
            88..91 => self.nack_one(part),
            91..94 => self.restart_one(),
            94..97 => self.probe(part),
            97..99 => self.parts[part].epoch += 1,
            _ => self.fault(),
        }
    }

    fn fault(&mut self) {
        for ph in [Phase::Start, Phase::Stop] {
            let t = Some(self.tick());
            self.events.push(Event::Nem(Fault {
                f: name("kill"),
                x: name("bookie-1"),
                ph,
                t,
            }));
        }
    }

    fn subscribe(&mut self, index: usize) {
        let is_late = index == SUBS.len() - 1;
        let (sub, ty) = SUBS[index];
        let consumers = if ty.is_ordered() { 1 } else { 2 };
        for part in 0..self.parts.len() {
            let fresh = if is_late {
                self.parts[part].log.len()
            } else {
                0
            };
            let t0 = self.tick();
            let t = self.tick();
            self.events.push(Event::Sub(Subscribed {
                t0,
                t,
                sub: name(sub),
                p: partition(part),
                ty,
                from: if is_late {
                    Start::Latest
                } else {
                    Start::Earliest
                },
            }));
            self.subs[index].cursors.push(Cursor {
                fresh,
                ..Cursor::default()
            });
        }
        for c in 0..consumers {
            let consumer = format!("{sub}-c{c}");
            self.subs[index].consumers.push(consumer.clone());
            self.open(index, &consumer);
        }
        self.subs[index].is_made = true;
    }

    fn open(&mut self, sub: usize, consumer: &str) {
        let t = self.tick();
        self.events.push(Event::Open(Session {
            t,
            sub: name(self.subs[sub].name),
            c: name(consumer),
        }));
    }

    fn send(&mut self, part: usize) {
        let writer = self.prng.pick(&self.writers).clone();
        let next = self.parts[part].next_n.entry(writer.clone()).or_default();
        let n = *next;
        *next += 1;
        let hash = self.prng.next_u64();
        self.log_send(part, &writer, n, hash);
        let queue = self.parts[part].pending.entry(writer).or_default();
        queue.push_back(Pending {
            n,
            hash,
            stored: None,
        });
    }

    fn log_send(&mut self, part: usize, writer: &str, n: u64, hash: u64) {
        let t = self.tick();
        self.events.push(Event::Send(Sent {
            t,
            w: name(writer),
            p: partition(part),
            n,
            k: Some(name(format!("k{}", n % 3))),
            h: Some(hash),
            due: None,
            x: Vec::new(),
        }));
    }

    /// Settles the oldest message of some writer: stored, refused, or unknown and perhaps repeated.
    fn resolve(&mut self, part: usize) {
        let writer = self.prng.pick(&self.writers).clone();
        let swap = self.wishes.swap_producer_order;
        let slot = &mut self.parts[part];
        let Some(queue) = slot.pending.get_mut(&writer) else {
            return;
        };
        if swap && !slot.is_swapped && queue.len() >= 2 && queue[0].stored.is_none() {
            queue.swap(0, 1);
            slot.is_swapped = true;
            self.resolve_plainly(part, &writer);
            self.resolve_plainly(part, &writer);
            return;
        }
        let Some(pending) = queue.pop_front() else {
            return;
        };
        match self.prng.below(100) {
            0..75 => self.answer(part, &writer, &pending),
            75..82 if pending.stored.is_none() => self.refuse(part, &writer, &pending, true),
            75..88 if pending.stored.is_none() => self.refuse(part, &writer, &pending, false),
            _ => self.lose_answer(part, &writer, pending),
        }
    }

    fn resolve_plainly(&mut self, part: usize, writer: &str) {
        let queue = self.parts[part].pending.get_mut(writer);
        if let Some(pending) = queue.and_then(VecDeque::pop_front) {
            self.answer(part, writer, &pending);
        }
    }

    fn answer(&mut self, part: usize, writer: &str, pending: &Pending) {
        let epoch = self.parts[part].epoch;
        let is_repeat = pending.stored.is_some();
        let offset = pending
            .stored
            .unwrap_or_else(|| self.append(part, writer, pending));
        let t = self.tick();
        self.events.push(Event::Ok(Stored {
            t,
            w: name(writer),
            p: partition(part),
            n: pending.n,
            o: Some(offset),
            ep: (!is_repeat).then_some(epoch),
        }));
    }

    fn append(&mut self, part: usize, writer: &str, pending: &Pending) -> u64 {
        let part = &mut self.parts[part];
        let offset = part.next;
        part.next += 1;
        part.log.push(Entry {
            writer: writer.to_owned(),
            n: pending.n,
            offset,
            hash: pending.hash,
        });
        offset
    }

    fn refuse(&mut self, part: usize, writer: &str, pending: &Pending, is_definite: bool) {
        let outcome = Outcome {
            t: self.tick(),
            w: name(writer),
            p: partition(part),
            n: pending.n,
        };
        self.events.push(if is_definite {
            Event::Fail(outcome)
        } else {
            Event::Info(outcome)
        });
    }

    /// It is stored, but the writer does not hear of it; mostly it asks again.
    fn lose_answer(&mut self, part: usize, writer: &str, mut pending: Pending) {
        if pending.stored.is_none() {
            pending.stored = Some(self.append(part, writer, &pending));
        }
        self.refuse(part, writer, &pending, false);
        if self.prng.chance(70) {
            self.log_send(part, writer, pending.n, pending.hash);
            let queue = self.parts[part]
                .pending
                .entry(writer.to_owned())
                .or_default();
            queue.push_front(pending);
        }
    }

    fn probe(&mut self, part: usize) {
        let t0 = self.tick();
        let readable = self.parts[part].readable();
        let last = self.parts[part].log[..readable].last();
        let o = last.map(|entry| entry.offset);
        if self.parts[part].hole.is_some() {
            return; // What lies above the hole is acked already.
        }
        let t = self.tick();
        self.events.push(Event::Tail(Tail {
            t0,
            t,
            p: partition(part),
            o,
        }));
    }

    fn deliver_some(&mut self, part: usize) {
        let sub = self.prng.index(self.subs.len());
        let most = 1 + self.prng.index(4);
        self.deliver(sub, part, most);
    }

    /// Gives up to `most` messages to a consumer. Returns whether there were any.
    fn deliver(&mut self, sub: usize, part: usize, most: usize) -> bool {
        if !self.subs[sub].is_made {
            return false;
        }
        let consumer = self.prng.pick(&self.subs[sub].consumers).clone();
        let readable = self.parts[part].readable();
        let cursor = &mut self.subs[sub].cursors[part];
        let mut ms = Vec::new();
        while ms.len() < most {
            let (index, redelivered) = match cursor.again.pop_first() {
                Some(again) => again,
                None if cursor.fresh < readable => {
                    cursor.fresh += 1;
                    (cursor.fresh - 1, false)
                }
                None => break,
            };
            cursor.held.insert(index, consumer.clone());
            let entry = &self.parts[part].log[index];
            ms.push(Delivered {
                w: name(&*entry.writer),
                n: entry.n,
                o: entry.offset,
                redelivered,
                hash: Some(entry.hash),
                astray: None,
            });
        }
        let is_any = !ms.is_empty();
        if is_any {
            let t = self.tick();
            self.events.push(Event::Recv(Received {
                t,
                sub: name(self.subs[sub].name),
                c: name(consumer),
                p: partition(part),
                ms,
            }));
        }
        is_any
    }

    fn ack_some(&mut self, part: usize) {
        let sub = self.prng.index(self.subs.len());
        let kind = self.subs[sub].kind;
        if kind == SubscriptionType::Reader || !self.subs[sub].is_made {
            return;
        }
        let consumer = self.prng.pick(&self.subs[sub].consumers).clone();
        let is_cumulative = kind.is_ordered() && self.prng.chance(30);
        let is_confirmed = self.prng.chance(70);
        let mut taken = Vec::new();
        let cursor = &mut self.subs[sub].cursors[part];
        let held: Vec<usize> = cursor.held.keys().copied().collect();
        let mut end = None;
        if is_cumulative && cursor.again.is_empty() {
            let Some(&last) = held.last() else { return };
            end = Some(self.parts[part].log[last].offset + 1);
            taken = held;
        } else {
            for index in held {
                if cursor.held[&index] == consumer && self.prng.chance(60) {
                    taken.push(index);
                }
            }
        }
        if taken.is_empty() {
            return;
        }
        for index in &taken {
            cursor.held.remove(index);
        }
        let log = &self.parts[part].log;
        let ms = taken.iter().map(|&i| (name(&*log[i].writer), log[i].n));
        let ms: Vec<_> = if end.is_some() {
            Vec::new()
        } else {
            ms.collect()
        };
        let mut acked = Acked {
            t: self.tick(),
            sub: name(self.subs[sub].name),
            c: name(consumer),
            p: partition(part),
            ms,
            cu: end,
        };
        self.events.push(Event::Ack(acked.clone()));
        if is_confirmed {
            acked.t = self.tick();
            self.events.push(Event::AckOk(acked));
        }
    }

    fn nack_one(&mut self, part: usize) {
        let sub = self.prng.index(self.subs.len());
        if self.subs[sub].kind == SubscriptionType::Reader || !self.subs[sub].is_made {
            return;
        }
        let cursor = &mut self.subs[sub].cursors[part];
        let Some((index, consumer)) = cursor.held.pop_first() else {
            return;
        };
        cursor.again.insert(index, true);
        let entry = &self.parts[part].log[index];
        let ms = vec![(name(&*entry.writer), entry.n)];
        let t = self.tick();
        self.events.push(Event::Nack(Acked {
            t,
            sub: name(self.subs[sub].name),
            c: name(consumer),
            p: partition(part),
            ms,
            cu: None,
        }));
    }

    /// A consumer's session breaks and it comes back; what it held comes again. Sometimes the owner died with it, and
    /// nobody remembers that it is a repeat.
    fn restart_one(&mut self) {
        let sub = self.prng.index(self.subs.len());
        if !self.subs[sub].is_made {
            return;
        }
        let consumer = self.prng.pick(&self.subs[sub].consumers).clone();
        let kind = self.subs[sub].kind;
        let is_remembered = !kind.is_ordered() || self.prng.chance(50);
        if self.prng.chance(70) {
            let t = self.tick();
            self.events.push(Event::Close(Session {
                t,
                sub: name(self.subs[sub].name),
                c: name(&*consumer),
            }));
        }
        self.open(sub, &consumer);
        let back = self.prng.next_u64();
        for cursor in &mut self.subs[sub].cursors {
            if kind == SubscriptionType::Reader {
                let fresh = u64::try_from(cursor.fresh).unwrap();
                cursor.fresh = usize::try_from(back % (fresh + 1)).unwrap();
                cursor.held.clear();
                continue;
            }
            let held = std::mem::take(&mut cursor.held);
            for (index, holder) in held {
                if holder == consumer {
                    cursor.again.insert(index, is_remembered);
                } else {
                    cursor.held.insert(index, holder);
                }
            }
            if !is_remembered {
                for said in cursor.again.values_mut() {
                    *said = false;
                }
            }
        }
    }

    fn finish(mut self) -> History {
        self.fault();
        for part in 0..self.parts.len() {
            for writer in self.writers.clone() {
                while let Some(pending) = self.parts[part]
                    .pending
                    .get_mut(&writer)
                    .and_then(VecDeque::pop_front)
                {
                    self.answer(part, &writer, &pending);
                }
            }
            if let Some(hole) = self.parts[part].hole.take() {
                self.fill(part, hole);
            }
            self.send_last(part);
        }
        for part in 0..self.parts.len() {
            for sub in 0..self.subs.len() {
                while self.deliver(sub, part, 3) {}
            }
        }
        for part in 0..self.parts.len() {
            for sub in SUBS {
                self.events.push(Event::Drained(Drained {
                    sub: name(sub.0),
                    p: partition(part),
                }));
            }
        }
        self.events.push(Event::End);
        self.events
    }

    /// A message of a writer of its own goes to the offset that was left free.
    fn fill(&mut self, part: usize, hole: u64) {
        self.log_send(part, "late", 0, 1);
        let t = self.tick();
        self.events.push(Event::Ok(Stored {
            t,
            w: name("late"),
            p: partition(part),
            n: 0,
            o: Some(hole),
            ep: None,
        }));
        let log = &mut self.parts[part].log;
        let at = log.partition_point(|entry| entry.offset < hole);
        log.insert(
            at,
            Entry {
                writer: "late".to_owned(),
                n: 0,
                offset: hole,
                hash: 1,
            },
        );
    }

    /// Every history has one of these at least: a refusal at the very end of a writer's numbers.
    fn send_last(&mut self, part: usize) {
        for writer in self.writers.clone() {
            let n = self.parts[part].next_n.get(&writer).copied().unwrap_or(0);
            self.log_send(part, &writer, n, 7);
            let pending = Pending {
                n,
                hash: 7,
                stored: None,
            };
            self.refuse(part, &writer, &pending, true);
        }
    }
}

pub(super) fn partition(part: usize) -> Name<'static> {
    name(format!("p{part}"))
}

#[test]
fn correct_histories_pass_without_alarm() {
    let mut acked = 0;
    for seed in 0..400 {
        let steps = 20 + seed % 500;
        let report = judge(&generate(seed, steps, Wishes::default()));
        assert!(report.violations.is_empty(), "seed={seed}\n{report}");
        assert!(report.allowed.is_empty(), "seed={seed}\n{report}");
        if report.stats.oks > 0 {
            assert_eq!(report.verdict, Verdict::Valid, "seed={seed}\n{report}");
            acked += report.stats.oks;
        }
    }
    assert!(acked > 20_000, "acked={acked}");
}

#[test]
fn a_history_that_went_through_a_file_is_judged_the_same() {
    for seed in 0..20 {
        let history = generate(seed, 300, Wishes::default());
        let writer = HistoryWriter::in_memory(Guarantees {
            faults: true,
            ..Guarantees::full()
        });
        for event in &history[1..history.len() - 1] {
            writer.record(event);
        }
        let bytes = writer.finish().unwrap();
        assert_eq!(judge_bytes(&bytes, Limits::default()), judge(&history));
    }
}

#[test]
fn every_prefix_of_a_correct_history_is_free_of_violations() {
    for seed in 0..12 {
        let history = generate(seed, 60, Wishes::default());
        for len in 1..history.len() {
            let report = judge(&history[..len].to_vec());
            assert!(
                report.violations.is_empty(),
                "seed={seed} len={len}\n{report}"
            );
            assert_eq!(report.verdict, Verdict::Inconclusive);
        }
    }
}
