//! Producers that retry, reconnect and renumber, over owners that die with batches in flight: nothing is stored twice,
//! nothing is left out, nothing is reordered, and a receipt tells the truth.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets the impossible stops"
)]

mod harness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use harness::{World, batch, payloads, small};
use proptest::prelude::*;
use topic::{Effect, Event, ProducerIdentity, Publish, Receipt, Stored, StreamId};
use types::chain::LogKind;
use types::{Problem, Reason, SequenceId};

#[derive(Debug, Clone)]
enum Step {
    /// A new batch of so many messages.
    Publish {
        client: usize,
        count: usize,
    },
    /// Sends an unanswered batch once more.
    Repeat {
        client: usize,
        which: usize,
    },
    /// Opens a new stream, leaving the old one to be fenced, or closing it before.
    Reconnect {
        client: usize,
        closes: bool,
    },
    Confirm(LogKind),
    Roll(LogKind),
    Hold(bool),
    /// The owner dies; so many unconfirmed entries survive.
    Crash {
        message: usize,
        state: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..2_usize;
    let log = prop_oneof![Just(LogKind::Message), Just(LogKind::State)];
    prop_oneof![
        8 => (client.clone(), 1..4_usize).prop_map(|(client, count)| Step::Publish { client, count }),
        3 => (client.clone(), 0..4_usize).prop_map(|(client, which)| Step::Repeat { client, which }),
        2 => (client, any::<bool>()).prop_map(|(client, closes)| Step::Reconnect { client, closes }),
        8 => log.clone().prop_map(Step::Confirm),
        1 => log.prop_map(Step::Roll),
        1 => any::<bool>().prop_map(Step::Hold),
        1 => (0..3_usize, 0..2_usize).prop_map(|(message, state)| Step::Crash { message, state }),
    ]
}

#[derive(Debug, Clone)]
struct Batch {
    first: u64,
    texts: Vec<String>,
}

impl Batch {
    fn end(&self) -> u64 {
        self.first + self.texts.len() as u64
    }
}

/// A client that does what the protocol says: a number that was sent gets other content only after a definite refusal.
#[derive(Debug)]
struct Client {
    name: String,
    stream: Option<StreamId>,
    is_ready: bool,
    is_known: bool,
    next: u64,
    /// Texts never repeat.
    made: u64,
    /// Sent, or to be sent, without a good receipt.
    open: VecDeque<Batch>,
    /// Frames of this stream without a receipt.
    waiting: usize,
    /// The first number that was refused on this stream.
    refused: Option<u64>,
    /// Every text with its receipt, and those the client gave up.
    stored: BTreeSet<String>,
    given_up: BTreeSet<String>,
}

struct Run {
    world: World,
    clients: Vec<Client>,
}

impl Run {
    fn new() -> Self {
        let clients = ["p", "q"].map(|name| Client {
            name: name.to_owned(),
            stream: None,
            is_ready: false,
            is_known: false,
            next: 0,
            made: 0,
            open: VecDeque::new(),
            waiting: 0,
            refused: None,
            stored: BTreeSet::new(),
            given_up: BTreeSet::new(),
        });
        let mut run = Self {
            world: World::new(small()),
            clients: clients.into(),
        };
        run.connect(0);
        run.connect(1);
        run
    }

    fn connect(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.is_ready = false;
        client.waiting = 0;
        client.refused = None;
        let (name, is_known) = (client.name.clone(), client.is_known);
        let stream = self.world.open_producer(Some(&name), is_known);
        self.clients[at].stream = Some(stream);
        self.listen();
    }

    fn send(&mut self, at: usize, which: usize) {
        let client = &mut self.clients[at];
        let (Some(stream), true) = (client.stream, client.is_ready) else {
            return;
        };
        let Some(batch_out) = client.open.get(which) else {
            return;
        };
        client.waiting += 1;
        let texts: Vec<&str> = batch_out.texts.iter().map(String::as_str).collect();
        self.world.send(Event::Publish(Publish {
            stream,
            first_sequence: SequenceId::new(batch_out.first),
            count: u32::try_from(texts.len()).unwrap(),
            body: batch(&texts).into(),
        }));
        self.listen();
    }

    /// Lets the clients hear what came for them.
    fn listen(&mut self) {
        while !self.world.out.is_empty() {
            for effect in self.world.take() {
                match effect {
                    Effect::ProducerReady { stream, ready } => {
                        let next = ready.last_sequence.map_or(0, |last| last.get() + 1);
                        self.ready(stream, next);
                    }
                    Effect::Receipt { stream, receipt } => self.receipt(stream, &receipt),
                    Effect::EndStream { stream, problem } => self.ended(stream, &problem),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn client_of(&mut self, stream: StreamId) -> Option<usize> {
        self.clients
            .iter()
            .position(|client| client.stream == Some(stream))
    }

    fn ready(&mut self, stream: StreamId, next: u64) {
        let at = self
            .client_of(stream)
            .expect("older streams are never ready");
        let client = &mut self.clients[at];
        client.is_ready = true;
        client.is_known = true;
        while client.open.front().is_some_and(|batch| batch.end() <= next) {
            let batch = client.open.pop_front().unwrap();
            client.stored.extend(batch.texts);
        }
        let first = client.open.front().map_or(client.next, |batch| batch.first);
        assert_eq!(
            first, next,
            "what is stored is what was sent, whole batches of it"
        );
        for which in 0..self.clients[at].open.len() {
            self.send(at, which);
        }
    }

    fn receipt(&mut self, stream: StreamId, receipt: &Receipt) {
        let Some(at) = self.client_of(stream) else {
            return; // A stream that the client has left.
        };
        let first = receipt.first_sequence.get();
        let client = &mut self.clients[at];
        client.waiting -= 1;
        match &receipt.outcome {
            Ok(outcome) => {
                let is_front = client
                    .open
                    .front()
                    .is_some_and(|batch| batch.first == first);
                if is_front {
                    let batch = client.open.pop_front().unwrap();
                    self.check_position(&batch, outcome);
                    self.clients[at].stored.extend(batch.texts);
                } else {
                    assert!(
                        !matches!(outcome, Stored::New { .. }),
                        "a batch is new once"
                    );
                }
            }
            Err(problem) => {
                let allowed = [
                    Reason::Overloaded,
                    Reason::InsufficientBookies,
                    Reason::SequenceOutOfOrder,
                ];
                assert!(allowed.contains(&problem.reason), "{problem:?}");
                client.refused = Some(client.refused.map_or(first, |before| before.min(first)));
            }
        }
        self.renumber(at);
    }

    /// A definite refusal: once everything sent is answered, half of the clients give the refused batches up and use
    /// their numbers for other messages, the others send them again.
    fn renumber(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Some(refused) = client.refused.filter(|_| client.waiting == 0) else {
            return;
        };
        client.refused = None;
        if at == 0 {
            while let Some(last) = client.open.pop_back_if(|batch| batch.first >= refused) {
                client.given_up.extend(last.texts);
                client.next = last.first;
            }
        }
    }

    fn check_position(&self, batch: &Batch, outcome: &Stored) {
        let (Stored::New {
            first_offset,
            position,
            ..
        }
        | Stored::Duplicate {
            first_offset,
            position,
            ..
        }) = outcome
        else {
            return;
        };
        let stored = self.world.stored();
        let entry = stored
            .iter()
            .find(|entry| entry.position == *position)
            .unwrap();
        assert_eq!(entry.header.first_offset, *first_offset);
        assert_eq!(
            payloads(&entry.body),
            batch.texts,
            "a position is the batch's own"
        );
    }

    fn ended(&mut self, stream: StreamId, problem: &Problem) {
        let is_left = self.client_of(stream).is_none();
        let allowed = match problem.reason {
            Reason::ProducerFenced => is_left,
            Reason::ProducerUnknown | Reason::LimitReached => !is_left,
            _ => false,
        };
        assert!(allowed, "{problem:?}");
        if let Some(at) = self.client_of(stream) {
            // Never of a producer that had something stored.
            assert!(problem.reason == Reason::LimitReached, "{problem:?}");
            self.connect(at);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish { client: at, count } => {
                let client = &mut self.clients[at];
                if client.refused.is_some() || !client.is_ready {
                    return;
                }
                let texts =
                    (0..count).map(|n| format!("{}-{}", client.name, client.made + n as u64));
                let batch = Batch {
                    first: client.next,
                    texts: texts.collect(),
                };
                client.made += count as u64;
                client.next = batch.end();
                client.open.push_back(batch);
                let which = client.open.len() - 1;
                self.send(at, which);
            }
            Step::Repeat { client, which } => {
                if self.clients[client].refused.is_none() {
                    self.send(client, which);
                }
            }
            Step::Reconnect { client, closes } => {
                let stream = self.clients[client].stream.take().unwrap();
                if closes {
                    self.world.send(Event::CloseStream { stream });
                }
                self.connect(client);
            }
            Step::Confirm(log) => {
                self.world.confirm(log);
            }
            Step::Roll(log) => self.world.roll(log),
            Step::Hold(held) => {
                let problem = Problem::new(Reason::InsufficientBookies, "too few bookies");
                let problem = held.then_some(problem);
                self.world.send(Event::HoldPublishing { problem });
            }
            Step::Crash { message, state } => {
                self.world.crash(message, state);
                self.connect(0);
                self.connect(1);
            }
        }
        self.listen();
    }

    /// Ends all trouble, and lets everything come through.
    fn heal(&mut self) {
        self.step(&Step::Hold(false));
        for _ in 0..50 {
            while self.world.confirm(LogKind::Message) || self.world.confirm(LogKind::State) {
                self.listen();
            }
            for at in 0..2 {
                for which in 0..self.clients[at].open.len() {
                    self.send(at, which);
                }
            }
        }
    }

    fn check(&self) {
        let mut texts = Vec::new();
        let mut next: BTreeMap<String, u64> = BTreeMap::new();
        let mut offset = 0;
        for entry in self.world.stored() {
            assert_eq!(entry.header.first_offset.get(), offset, "offsets are dense");
            offset += u64::from(entry.header.count);
            let ProducerIdentity::Named { name, .. } = &entry.header.producer else {
                panic!("all have names");
            };
            let next = next.entry(name.to_string()).or_default();
            assert_eq!(
                entry.header.first_sequence.get(),
                *next,
                "numbers are dense in the log"
            );
            *next += u64::from(entry.header.count);
            texts.extend(payloads(&entry.body));
        }
        for client in &self.clients {
            assert!(
                client.open.is_empty(),
                "everything comes through in the end"
            );
            let own = texts.iter().filter(|text| text.starts_with(&client.name));
            let own: Vec<&String> = own.collect();
            let unique: BTreeSet<&String> = own.iter().copied().collect();
            assert_eq!(own.len(), unique.len(), "nothing is stored twice");
            let numbers: Vec<u64> = own.iter().map(|text| text[2..].parse().unwrap()).collect();
            assert!(numbers.is_sorted(), "a producer's order is the log's");
            assert_eq!(
                unique,
                client.stored.iter().collect(),
                "receipts tell the truth"
            );
            assert!(client.given_up.iter().all(|text| !unique.contains(text)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn producers_store_each_message_once_and_in_order(steps in prop::collection::vec(step(), 1..120)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        run.heal();
        run.check();
    }
}
