//! A small world for shards: meta's real rules, bookies made of the real acceptor, messages that arrive at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::MemStore;
use ledger::{Candidate, Outcome, Stuck};
use topic::{OffsetRange, OpenConsumer, OpenProducer, Publish, Receipt, StreamId};
use types::batch::Codecs;
use types::chain::{LogKind, ShardOutcome, ShardView};
use types::cluster::{BookieClaim, NodeRole};
use types::command::{Answer, Command, Query, Reply};
use types::topic::{StartPosition, SubscriptionMode, SubscriptionRecord};
use types::{
    BookieId, ClusterId, CommandId, Generation, Incarnation, LogId, MonoTime, Offset, Problem,
    ProducerName, Quorum, SequenceId, SessionId, ShardId, SubscriptionId, TopicName, WallTime,
};

use super::super::*;
use super::bookie::TestBookie;

pub(super) const AT: WallTime = WallTime::from_nanos(1_000_000_000);

/// One attempt to serve the shard.
pub(super) struct Node {
    pub(super) shard: Shard,
    inbox: VecDeque<ShardEvent>,
    pub(super) told: BTreeMap<StreamId, Vec<Told>>,
    pub(super) cursors: Vec<(SubscriptionId, Result<Generation, Problem>)>,
    pub(super) over: Option<Ended>,
    pub(super) stuck: Vec<Stuck>,
    pub(super) is_dead: bool,
}

pub(super) struct World {
    pub(super) now: MonoTime,
    pub(super) meta: MemStore,
    pub(super) is_meta_down: bool,
    pub(super) bookies: BTreeMap<BookieId, TestBookie>,
    pub(super) nodes: Vec<Node>,
    pub(super) topic: TopicName,
    pub(super) shard: ShardId,
    pub(super) config: ShardConfig,
    commands: u128,
}

impl World {
    /// A topic of one shard on three bookies, 3/2.
    pub(super) fn new() -> Self {
        let mut world = Self {
            now: MonoTime::ZERO,
            meta: MemStore::new(),
            is_meta_down: false,
            bookies: BTreeMap::new(),
            nodes: Vec::new(),
            topic: "tenants/default/namespaces/default/topics/t"
                .parse()
                .unwrap(),
            shard: ShardId::new(0),
            config: ShardConfig::default(),
            commands: 0,
        };
        world.apply(Command::Bootstrap {
            cluster: ClusterId::new(1),
            at: AT,
        });
        for n in 1..=3 {
            world.add_bookie(&format!("bookie-{n}"));
        }
        let made = world.apply(Command::CreateTopic {
            name: world.topic.clone(),
            quorum: Quorum::THREE_TWO,
            retention: types::topic::Retention::DEFAULT,
            at: AT,
        });
        let Reply::Topic(record) = made else {
            panic!("not a topic: {made:?}");
        };
        world.shard = record.shards[0];
        world
    }

    pub(super) fn apply(&mut self, command: Command) -> Reply {
        self.meta.apply(&command).unwrap()
    }

    fn session(&mut self, role: NodeRole, name: &str) -> SessionId {
        self.commands += 1;
        let opened = self.apply(Command::OpenSession {
            role,
            name: name.parse().unwrap(),
            address: format!("{name}:1"),
            endpoint: if role == NodeRole::Serving {
                format!("http://{name}:1")
            } else {
                String::new()
            },
            lease: Duration::from_secs(2),
            command: CommandId::new(self.commands),
        });
        let Reply::Session(session) = opened else {
            panic!("not a session: {opened:?}");
        };
        session.id
    }

    pub(super) fn add_bookie(&mut self, name: &str) {
        let session = self.session(NodeRole::Bookie, name);
        let registered = self.apply(Command::RegisterBookie {
            claim: BookieClaim {
                zone: None,
                name: name.parse().unwrap(),
                address: format!("{name}:1"),
                id: None,
                born: None,
                incarnation: Incarnation::new(1),
                mark: 0,
                damaged: false,
            },
            session,
        });
        let Reply::Bookie(record) = registered else {
            panic!("not a bookie: {registered:?}");
        };
        let bookie = TestBookie::new(record.born);
        self.bookies.insert(record.id, bookie);
    }

    /// A new serving node that begins to open the shard.
    pub(super) fn open(&mut self) -> usize {
        let at = self.open_later();
        self.run();
        at
    }

    /// The same, without letting anything happen.
    pub(super) fn open_later(&mut self) -> usize {
        let name = format!("serving-{}", self.nodes.len());
        let session = self.session(NodeRole::Serving, &name);
        let setup = ShardSetup {
            shard: self.shard,
            topic: self.topic.clone(),
            session,
            seed: u128::from(session.get()) << 64,
            config: Arc::new(self.config.clone()),
        };
        let candidates = self.bookies.keys().map(|id| Candidate {
            zone: None,
            bookie: *id,
            writable: true,
            live: true,
        });
        let candidates = candidates.collect();
        self.nodes.push(Node {
            shard: Shard::new(setup),
            inbox: VecDeque::from([ShardEvent::Candidates(candidates), ShardEvent::Open]),
            told: BTreeMap::new(),
            cursors: Vec::new(),
            over: None,
            stuck: Vec::new(),
            is_dead: false,
        });
        self.nodes.len() - 1
    }

    /// Ends a node as `kill -9` and the end of its lease do.
    pub(super) fn kill(&mut self, node: usize) {
        self.nodes[node].is_dead = true;
        self.nodes[node].inbox.clear();
        self.expire_session(node);
    }

    pub(super) fn expire_session(&mut self, node: usize) {
        let session = self.nodes[node].shard.setup().session;
        self.apply(Command::ExpireSession { session });
    }

    pub(super) fn event(&mut self, node: usize, event: ShardEvent) {
        self.nodes[node].inbox.push_back(event);
        self.run();
    }

    pub(super) fn request(&mut self, node: usize, request: Request) {
        self.event(node, ShardEvent::Request(request));
    }

    /// Lets everything happen that needs no time.
    pub(super) fn run(&mut self) {
        for _ in 0..1_000_000 {
            match (0..self.nodes.len()).find(|n| !self.nodes[*n].inbox.is_empty()) {
                Some(node) => self.step(node),
                None => return,
            }
        }
        panic!("the world does not come to rest");
    }

    /// Hands a node its next event.
    pub(super) fn step(&mut self, node: usize) {
        self.step_at(node, 0);
    }

    /// Hands a node the next event of whoever sent the one at this place: what comes from different sides keeps no order.
    pub(super) fn step_at(&mut self, node: usize, place: usize) {
        let inbox = &mut self.nodes[node].inbox;
        let Some(side) = inbox.get(place).or(inbox.front()).map(side) else {
            return;
        };
        let first = inbox.iter().position(|event| self::side(event) == side);
        let Some(event) = first.and_then(|at| inbox.remove(at)) else {
            return;
        };
        let mut effects = Vec::new();
        let shard = &mut self.nodes[node].shard;
        let passed = self.now.since(MonoTime::ZERO);
        let nanos = u64::try_from(passed.as_nanos()).unwrap();
        let wall = WallTime::from_nanos(AT.as_nanos() + nanos);
        shard.handle(self.now, wall, event, &mut effects);
        for effect in effects {
            self.perform(node, effect);
        }
    }

    /// Lets time pass, deadline after deadline.
    pub(super) fn pass(&mut self, time: Duration) {
        self.run();
        let end = self.now.after(time);
        for _ in 0..100_000 {
            let alive = self.nodes.iter().filter(|node| !node.is_dead);
            let next = alive.filter_map(|node| node.shard.deadline()).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            for node in 0..self.nodes.len() {
                let is_due = self.nodes[node]
                    .shard
                    .deadline()
                    .is_some_and(|at| at <= self.now);
                if is_due && !self.nodes[node].is_dead {
                    self.event(node, ShardEvent::Deadline);
                }
            }
        }
        panic!("the deadlines do not come to rest");
    }

    fn perform(&mut self, node: usize, effect: ShardEffect) {
        if self.nodes[node].is_dead {
            return;
        }
        let answer = match effect {
            ShardEffect::Send { bookie, request } => self.bookie(bookie, request),
            ShardEffect::Run { tag, bookie, run } => Some(ShardEvent::Run {
                tag,
                items: self.bookies.get_mut(&bookie).unwrap().read_run(&run),
                is_last: true,
            }),
            ShardEffect::Claim(claim) => {
                let command = claim.command;
                Some(self.command(command, Command::ClaimShard(claim)))
            }
            ShardEffect::Command(change) => {
                let command = change.command;
                Some(self.command(command, Command::ChangeShard(change)))
            }
            ShardEffect::Query { id, query } => Some(ShardEvent::Queried {
                query: id,
                result: self.query(&query),
            }),
            ShardEffect::Tell { stream, told } => {
                self.nodes[node].told.entry(stream).or_default().push(told);
                None
            }
            ShardEffect::CursorDurable {
                subscription,
                generation,
            } => {
                self.nodes[node]
                    .cursors
                    .push((subscription, Ok(generation)));
                None
            }
            ShardEffect::CursorRefused {
                subscription,
                problem,
            } => {
                self.nodes[node].cursors.push((subscription, Err(problem)));
                None
            }
            ShardEffect::Stuck(stuck) => {
                self.nodes[node].stuck.push(stuck);
                None
            }
            ShardEffect::Over(ended) => {
                self.nodes[node].over = Some(ended);
                None
            }
            // The bookies hear of it at once and forget what is dropped.
            ShardEffect::Trimmed { log, first, .. } => {
                let log = self.view().record.chain(log).log;
                for bookie in self.bookies.values_mut() {
                    bookie.trim(log, first);
                }
                None
            }
            ShardEffect::Opened { .. } => None,
            ShardEffect::Unreadable(batch) => {
                panic!("a stored batch is not what it says: {batch:?}")
            }
            ShardEffect::Mismatch { .. } => panic!("one entry has two payloads: {effect:?}"),
        };
        self.nodes[node].inbox.extend(answer);
    }

    fn command(&mut self, command: CommandId, asked: Command) -> ShardEvent {
        let outcome = if self.is_meta_down {
            Outcome::Unknown
        } else {
            match self.meta.apply(&asked) {
                Ok(Reply::Shard(ShardOutcome::Committed(view))) => {
                    Outcome::Committed(Box::new(view))
                }
                Ok(Reply::Shard(ShardOutcome::Conflict(view))) => Outcome::Conflict(Box::new(view)),
                Ok(other) => panic!("another kind of answer: {other:?}"),
                Err(problem) => Outcome::Refused(problem.reason),
            }
        };
        ShardEvent::Outcome { command, outcome }
    }

    fn query(&self, query: &Query) -> Result<Answer, Problem> {
        if self.is_meta_down {
            return Err(Problem::new(Reason::Unreachable, "meta is down"));
        }
        self.meta.query(query)
    }

    pub(super) fn bookie(&mut self, id: BookieId, request: ledger::Request) -> Option<ShardEvent> {
        let bookie = self.bookies.get_mut(&id).unwrap();
        if bookie.is_down {
            return Some(ShardEvent::Lost(id));
        }
        let answer = bookie.answer(request)?;
        Some(ShardEvent::Answer { bookie: id, answer })
    }

    // What tests look at and ask for.

    pub(super) fn view(&self) -> ShardView {
        match self.meta.query(&Query::Shard(self.shard)).unwrap() {
            Answer::Shard(Some(view), _) => view,
            other => panic!("no shard: {other:?}"),
        }
    }

    pub(super) fn told(&self, node: usize, stream: u64) -> &[Told] {
        let told = self.nodes[node].told.get(&StreamId::new(stream));
        told.map_or(&[], |told| told.as_slice())
    }

    pub(super) fn open_producer(&mut self, node: usize, stream: u64, name: Option<&str>) {
        let name = name.map(|name| name.parse::<ProducerName>().unwrap());
        self.request(
            node,
            Request::OpenProducer(OpenProducer {
                stream: StreamId::new(stream),
                name,
                resume: false,
            }),
        );
    }

    pub(super) fn publish(&mut self, node: usize, stream: u64, first: u64, messages: &[&str]) {
        self.request(node, batch(stream, first, messages));
    }

    pub(super) fn receipts(&self, node: usize, stream: u64) -> Vec<Receipt> {
        let told = self.told(node, stream).iter();
        told.filter_map(|told| match told {
            Told::Receipt(receipt) => Some(receipt.clone()),
            _ => None,
        })
        .collect()
    }

    /// Makes a subscription all the way: meta, its first cursor, meta.
    pub(super) fn subscribe(
        &mut self,
        node: usize,
        name: &str,
        mode: SubscriptionMode,
        start: StartPosition,
    ) -> SubscriptionRecord {
        let name = self.topic.subscription(name).unwrap();
        let made = self.apply(Command::CreateSubscription {
            name: name.clone(),
            mode,
            ack_deadline: Duration::from_secs(30),
            start,
            at: AT,
        });
        let Reply::Subscription(record) = made else {
            panic!("not a subscription: {made:?}");
        };
        self.request(node, Request::CreateCursor(record.clone()));
        let durable = self.nodes[node].cursors.last().cloned();
        assert!(
            matches!(durable, Some((id, Ok(_))) if id == record.id),
            "{durable:?}"
        );
        let id = record.id;
        self.apply(Command::ActivateSubscription { name, id });
        record
    }

    pub(super) fn consume(&mut self, node: usize, stream: u64, of: SubscriptionId, messages: i64) {
        self.request(
            node,
            Request::OpenConsumer(OpenConsumer {
                stream: StreamId::new(stream),
                subscription: of,
                mode: None,
                name: None,
                ack_deadline: None,
                confirm_acks: true,
                permits: (messages, 1 << 30),
                codecs: Codecs::NONE,
            }),
        );
    }

    pub(super) fn ack(&mut self, node: usize, stream: u64, request_id: u64, range: (u64, u64)) {
        let generation = self
            .told(node, stream)
            .iter()
            .find_map(|told| match told {
                Told::ConsumerReady(ready) => Some(ready.generation),
                _ => None,
            })
            .unwrap();
        self.request(
            node,
            Request::Ack(topic::Ack {
                stream: StreamId::new(stream),
                request_id,
                generation,
                ranges: vec![OffsetRange::new(Offset::new(range.0), Offset::new(range.1))],
                cumulative_end: None,
            }),
        );
    }

    /// The offsets delivered to a consumer, in order.
    pub(super) fn delivered(&self, node: usize, stream: u64) -> Vec<u64> {
        let mut offsets = Vec::new();
        for told in self.told(node, stream) {
            if let Told::Delivery(delivery) = told {
                let first = delivery.first_offset.get();
                offsets.extend(first..first + u64::from(delivery.count));
            }
        }
        offsets
    }

    /// The texts delivered to a consumer, in order.
    pub(super) fn texts(&self, node: usize, stream: u64) -> Vec<String> {
        let mut texts = Vec::new();
        for told in self.told(node, stream) {
            if let Told::Delivery(delivery) = told {
                texts.extend(messages_of(&delivery.batch.bytes));
            }
        }
        texts
    }

    pub(super) fn problem(&self, node: usize, stream: u64) -> Option<Problem> {
        self.told(node, stream).iter().find_map(|told| match told {
            Told::Ended(problem) => Some(problem.clone()),
            _ => None,
        })
    }

    pub(super) fn message_log(&self) -> LogId {
        self.view().record.chain(LogKind::Message).log
    }

    pub(super) fn small_ledgers(&mut self, entries: u64) {
        Arc::make_mut(&mut self.config.ledger).ledger_entries_max = entries;
    }

    pub(super) fn down(&mut self, bookies: &[u64], is_down: bool) {
        for bookie in bookies {
            let id = BookieId::new(*bookie);
            self.bookies.get_mut(&id).unwrap().is_down = is_down;
            for node in 0..self.nodes.len() {
                if !self.nodes[node].is_dead && !is_down {
                    self.nodes[node].inbox.push_back(ShardEvent::Connected(id));
                }
            }
        }
        self.run();
    }

    // The same, with nothing happening at once.

    pub(super) fn later(&mut self, node: usize, event: ShardEvent) {
        if !self.nodes[node].is_dead {
            self.nodes[node].inbox.push_back(event);
        }
    }

    pub(super) fn open_producer_later(&mut self, node: usize, stream: u64, name: &str) {
        let open = OpenProducer {
            stream: StreamId::new(stream),
            name: Some(name.parse().unwrap()),
            resume: false,
        };
        self.later(node, ShardEvent::Request(Request::OpenProducer(open)));
    }

    pub(super) fn consume_later(&mut self, node: usize, stream: u64, of: SubscriptionId) {
        let open = OpenConsumer {
            stream: StreamId::new(stream),
            subscription: of,
            mode: None,
            name: None,
            ack_deadline: None,
            confirm_acks: true,
            permits: (1 << 30, 1 << 40),
            codecs: Codecs::NONE,
        };
        self.later(node, ShardEvent::Request(Request::OpenConsumer(open)));
    }

    pub(super) fn down_later(&mut self, bookie: BookieId, is_down: bool) {
        self.bookies.get_mut(&bookie).unwrap().is_down = is_down;
        for node in 0..self.nodes.len() {
            self.later(
                node,
                if is_down {
                    ShardEvent::Lost(bookie)
                } else {
                    ShardEvent::Connected(bookie)
                },
            );
        }
    }

    /// Lets time pass; what is due is told, not done.
    pub(super) fn pass_quietly(&mut self, time: Duration) {
        self.now = self.now.after(time);
        for node in 0..self.nodes.len() {
            let is_due = self.nodes[node]
                .shard
                .deadline()
                .is_some_and(|at| at <= self.now);
            if is_due {
                self.later(node, ShardEvent::Deadline);
            }
        }
    }

    pub(super) fn bookie_ids(&self) -> BTreeSet<u64> {
        self.bookies.keys().map(|id| id.get()).collect()
    }
}

/// Who sent an event: events of one side keep their order.
fn side(event: &ShardEvent) -> (u8, u64) {
    match event {
        ShardEvent::Open
        | ShardEvent::Candidates(_)
        | ShardEvent::RecordChanged
        | ShardEvent::LeaseCertain(_)
        | ShardEvent::Release
        | ShardEvent::Retire
        | ShardEvent::Deadline => (0, 0),
        ShardEvent::Request(request) => (1, request.stream().map_or(0, StreamId::get)),
        ShardEvent::Answer { bookie, .. }
        | ShardEvent::Connected(bookie)
        | ShardEvent::Lost(bookie) => (2, bookie.get()),
        ShardEvent::Run { tag, .. } => (3, *tag),
        ShardEvent::Outcome { .. } => (4, 0),
        ShardEvent::Queried { query, .. } => (5, query.get()),
    }
}

pub(super) fn batch(stream: u64, first: u64, messages: &[&str]) -> Request {
    Request::Publish(Publish {
        stream: StreamId::new(stream),
        first_sequence: SequenceId::new(first),
        count: u32::try_from(messages.len()).unwrap(),
        body: body_of(messages).into(),
    })
}

/// An encoded `MessageBatch` whose messages hold a payload alone.
pub(super) fn body_of(messages: &[&str]) -> Bytes {
    let mut body = Vec::new();
    for message in messages {
        assert!(message.len() < 120, "lengths are one byte");
        let len = u8::try_from(message.len()).unwrap();
        body.push(0x0a);
        body.push(len + 2);
        body.push(0x0a);
        body.push(len);
        body.extend(message.as_bytes());
    }
    Bytes::from(body)
}

fn messages_of(batch: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    let mut at = 0;
    while at < batch.len() {
        let len = batch[at + 1] as usize;
        let text = &batch[at + 4..at + 2 + len];
        texts.push(String::from_utf8(text.to_vec()).unwrap());
        at += 2 + len;
    }
    texts
}
