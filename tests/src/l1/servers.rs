//! Serving nodes: the real core of a shard, a session with meta, and what lies between the core and the world.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ledger::Candidate;
use topic::StreamId;
use types::cluster::{BookieDuty, NodeRole};
use types::command::{Answer, Change, Command, Query, Reply};
use types::topic::{SubscriptionState, TopicRecord};
use types::{CommandId, Problem, Reason, SessionId, ShardId, SubscriptionId};

use super::agenda::{MS, Nanos, SECOND};
use super::event::{Event, Message, MetaAnswer, MetaAsk, Opening, Said, Timer, after};
use super::links::Link;
use super::marks::Mark;
use super::net::Host;
use super::retire::Deletion;
use super::shard_core::{QueryId, Request, Shard, ShardEvent};
use super::swarm::Harm;
use super::world::World;

/// One serving node.
#[derive(Debug)]
pub(super) struct Server {
    name: String,
    pub(super) life: u32,
    pub(super) is_up: bool,
    /// Whether it is to stay down.
    pub(super) is_gone: bool,
    pub(super) session: Option<SessionId>,
    pub(super) certain_until: Nanos,
    /// The shards it serves: that of the topic, and those of earlier ones of its name until it hears that they are gone.
    pub(super) serving: Vec<Serving>,
    /// The topic of the name that clients ask for, as far as it knows.
    pub(super) topic: Option<TopicRecord>,
    /// The topic that is being deleted here.
    pub(super) deletion: Option<Deletion>,
    pub(super) links: Vec<Link>,
    calls: BTreeMap<u64, Call>,
    pub(super) waiting: Vec<(u64, Opening)>,
    pub(super) is_looking: bool,
    pub(super) candidates: Arc<[Candidate]>,
    pub(super) began: Nanos,
}

/// One attempt to serve a shard.
#[derive(Debug)]
pub(super) struct Serving {
    /// Unique among all attempts.
    pub(super) key: u64,
    pub(super) shard: Shard,
    pub(super) timer: Option<Nanos>,
    pub(super) runs: Vec<u64>,
    pub(super) is_certain_told: bool,
    /// Who waits for the first position of a subscription to be durable.
    pub(super) cursors: BTreeMap<SubscriptionId, u64>,
    /// What it is handed next.
    pub(super) again: VecDeque<ShardEvent>,
}

impl Serving {
    /// Which shard.
    pub(super) const fn id(&self) -> ShardId {
        self.shard.setup().shard
    }
}

/// What a serving node asked of meta.
#[derive(Debug)]
pub(super) enum Call {
    Session(Command),
    Beat {
        sent: Nanos,
    },
    Directory,
    Topic,
    Owner(ShardId),
    Change {
        shard: u64,
        command: CommandId,
    },
    Query {
        shard: u64,
        id: QueryId,
    },
    CreateSub {
        stream: u64,
        plan: usize,
    },
    FindSub {
        stream: u64,
    },
    ActivateSub {
        stream: u64,
    },
    LookSub {
        stream: u64,
        plan: usize,
        id: SubscriptionId,
    },
    DeleteSub {
        stream: u64,
        id: SubscriptionId,
    },
    /// A topic's deletion, and which try it is.
    DeleteTopic {
        key: u64,
        tries: u32,
    },
}

const CALL_TIMEOUT: Nanos = 700 * MS;

impl Server {
    pub(super) fn new(at: usize, bookies: usize) -> Self {
        Self {
            name: format!("serving-{at}"),
            life: 0,
            is_up: false,
            is_gone: false,
            session: None,
            certain_until: 0,
            serving: Vec::new(),
            topic: None,
            deletion: None,
            links: (0..bookies).map(|_| Link::default()).collect(),
            calls: BTreeMap::new(),
            waiting: Vec::new(),
            is_looking: false,
            candidates: Arc::default(),
            began: 0,
        }
    }

    /// One of its attempts.
    pub(super) fn serving_mut(&mut self, key: u64) -> Option<&mut Serving> {
        self.serving.iter_mut().find(|serving| serving.key == key)
    }

    /// The attempt to serve a shard.
    pub(super) fn serving_shard(&self, shard: ShardId) -> Option<&Serving> {
        self.serving.iter().find(|serving| serving.id() == shard)
    }

    /// All of its attempts.
    pub(super) fn keys(&self) -> Vec<u64> {
        self.serving.iter().map(|serving| serving.key).collect()
    }

    /// The shard of the topic that it knows.
    pub(super) fn shard_known(&self) -> Option<ShardId> {
        self.topic.as_ref().map(|topic| topic.shards[0])
    }
}

impl World {
    /// A serving node's process begins.
    pub(super) fn server_start(&mut self, at: usize) {
        let now = self.now;
        let command = CommandId::new(self.rng.u128());
        let bookies = self.bookies.len();
        let topic = self.topic_now();
        let server = &mut self.servers[at];
        if server.is_up || server.is_gone {
            return;
        }
        let life = server.life + 1;
        *server = Server {
            life,
            is_up: true,
            began: now,
            // As though somebody had asked for it at once.
            topic,
            ..Server::new(at, bookies)
        };
        let open = Command::OpenSession {
            role: NodeRole::Serving,
            name: server.name.parse().expect("a plain word is a name"),
            address: format!("{}:1", server.name),
            endpoint: format!("http://{}:1", server.name),
            lease: self.swarm.lease,
            command,
        };
        self.call(
            at,
            Call::Session(open.clone()),
            MetaAsk::Command(Box::new(open)),
        );
    }

    /// The process dies; it starts again after `wait`.
    pub(super) fn server_crash(&mut self, at: usize, wait: Nanos) {
        self.deletion_dies(at);
        let server = &mut self.servers[at];
        server.life += 1;
        server.is_up = false;
        server.serving.clear();
        server.session = None;
        server.waiting.clear();
        self.streams_of_server_break(at);
        self.agenda
            .put(self.now + wait, Event::ServerStarts { server: at });
    }

    pub(super) fn server_timer(&mut self, at: usize, wait: Nanos, timer: Timer) {
        let life = self.servers[at].life;
        let event = Event::ServerTimer {
            server: at,
            life,
            timer,
        };
        self.agenda.put(self.now + wait, event);
    }

    pub(super) fn call(&mut self, at: usize, call: Call, ask: MetaAsk) {
        let number = self.next_number();
        let life = self.servers[at].life;
        self.servers[at].calls.insert(number, call);
        let from = Host::Server(at);
        let message = Message::MetaAsk {
            from,
            life,
            call: number,
            ask,
        };
        self.send(from, Host::Meta, message);
        self.server_timer(at, CALL_TIMEOUT, Timer::Call(number));
    }

    /// A timer of the process.
    pub(super) fn server_timed(&mut self, at: usize, timer: Timer) {
        match timer {
            Timer::Beat => {
                if let Some(session) = self.servers[at].session {
                    let sent = self.now;
                    self.call(at, Call::Beat { sent }, MetaAsk::Alive(session));
                    let wait = after(0, self.swarm.lease / 4);
                    self.server_timer(at, wait, Timer::Beat);
                }
            }
            Timer::Lease => self.lease_looked_at(at),
            Timer::Call(number) => self.call_timed_out(at, number),
            Timer::Shard(key) => self.shard_timed(at, key),
            Timer::Retire(key) => self.retire_timed(at, key),
            Timer::Connect(bookie, number) => self.link_timed(at, bookie, number),
            Timer::LinkBroken(bookie, number) => self.link_lost(at, bookie, number),
            Timer::Run(key, tag) => self.run_over(at, key, tag, Vec::new()),
            Timer::Directory => {
                self.call(at, Call::Directory, MetaAsk::Query(Query::Bookies));
                self.server_timer(at, SECOND, Timer::Directory);
            }
            Timer::Repair(_) | Timer::Reclaim | Timer::Proof => {} // A bookie's.
        }
    }

    fn call_timed_out(&mut self, at: usize, number: u64) {
        let Some(call) = self.servers[at].calls.remove(&number) else {
            return;
        };
        match call {
            Call::Session(open) => {
                self.call(
                    at,
                    Call::Session(open.clone()),
                    MetaAsk::Command(Box::new(open)),
                );
            }
            Call::Change { shard, command } if self.serves(at, shard) => {
                self.marks.hit(Mark::OutcomeUnknown);
                let outcome = ledger::Outcome::Unknown;
                self.shard_event(at, shard, ShardEvent::Outcome { command, outcome });
            }
            Call::Query { shard, id } if self.serves(at, shard) => {
                let problem = Problem::new(Reason::Unreachable, "meta did not answer");
                let result = Err(problem);
                self.shard_event(at, shard, ShardEvent::Queried { query: id, result });
            }
            Call::Topic | Call::Owner(_) => {
                self.servers[at].is_looking = false;
                let problem = Problem::new(Reason::Unreachable, "meta did not answer");
                self.refuse_waiting(at, &problem);
            }
            Call::DeleteTopic { key, tries } => self.deletion_unanswered(at, key, tries),
            _ => {}
        }
    }

    pub(super) fn serves(&self, at: usize, key: u64) -> bool {
        self.servers[at].serving.iter().any(|s| s.key == key)
    }

    /// Meta answered a serving node.
    pub(super) fn server_told(&mut self, at: usize, number: u64, answer: MetaAnswer) {
        let Some(call) = self.servers[at].calls.remove(&number) else {
            return;
        };
        match (call, answer) {
            (Call::Session(_), MetaAnswer::Command(Ok(Reply::Session(session)))) => {
                self.servers[at].session = Some(session.id);
                // The opening was sent a call's time ago at most; the first beat tells more.
                self.server_timed(at, Timer::Beat);
                self.server_timed(at, Timer::Directory);
            }
            (Call::Beat { sent }, MetaAnswer::Alive(true)) => {
                let until = after(sent, self.swarm.lease * 3 / 4);
                let server = &mut self.servers[at];
                server.certain_until = server.certain_until.max(until);
                let wait = server.certain_until.saturating_sub(self.now);
                self.lease_looked_at(at);
                self.server_timer(at, wait, Timer::Lease);
            }
            (Call::Beat { .. }, MetaAnswer::Alive(false)) => {
                self.trace(|| format!("serving-{at}: session over"));
                self.server_crash(at, 100 * MS);
            }
            (Call::Directory, MetaAnswer::Query(Ok(Answer::Bookies(bookies)))) => {
                let candidates: Arc<[Candidate]> = bookies
                    .iter()
                    .filter(|bookie| bookie.duty == BookieDuty::Active)
                    .map(|bookie| Candidate {
                        zone: None,
                        bookie: bookie.id,
                        writable: bookie.takes_ledgers(),
                        live: bookie.live,
                    })
                    .collect();
                if self.servers[at].candidates != candidates {
                    self.servers[at].candidates.clone_from(&candidates);
                    self.every_shard(at, &ShardEvent::Candidates(candidates));
                }
            }
            (Call::Topic, MetaAnswer::Query(Ok(Answer::Topic(record)))) => {
                self.topic_found(at, record);
            }
            (Call::Owner(shard), MetaAnswer::Query(Ok(Answer::Shard(view, owner)))) => {
                let record = view.map(|view| view.record);
                self.owner_found(at, shard, record.and_then(|it| it.owner), owner);
            }
            (Call::Change { shard, command }, answer) if self.serves(at, shard) => {
                let outcome = answer.outcome();
                self.note_outcome(command, &outcome);
                self.shard_event(at, shard, ShardEvent::Outcome { command, outcome });
            }
            (Call::Query { shard, id }, MetaAnswer::Query(result)) if self.serves(at, shard) => {
                self.shard_event(at, shard, ShardEvent::Queried { query: id, result });
            }
            (call @ (Call::LookSub { .. } | Call::DeleteSub { .. }), answer) => {
                self.unsubscribe_told(at, call, answer);
            }
            (Call::DeleteTopic { key, tries }, MetaAnswer::Command(result)) => {
                self.deletion_told(at, key, tries, result);
            }
            (call, answer) => self.sub_told(at, call, answer),
        }
    }

    fn note_outcome(&mut self, command: CommandId, outcome: &ledger::Outcome) {
        if let ledger::Outcome::Conflict(view) = outcome {
            self.marks
                .hit(match view.record.last_command == Some(command) {
                    true => Mark::UnknownSettled,
                    false => Mark::CommandConflict,
                });
        }
    }

    /// Steps of making a subscription.
    fn sub_told(&mut self, at: usize, call: Call, answer: MetaAnswer) {
        let (stream, record) = match (call, answer) {
            (
                Call::CreateSub { stream, .. } | Call::ActivateSub { stream },
                MetaAnswer::Command(Ok(Reply::Subscription(record))),
            )
            | (
                Call::FindSub { stream },
                MetaAnswer::Query(Ok(Answer::Subscription(Some(record)))),
            ) => (stream, record),
            (Call::CreateSub { stream, plan }, MetaAnswer::Command(Err(problem)))
                if problem.reason == Reason::AlreadyExists =>
            {
                let name = self.subs[plan].name.clone();
                let ask = MetaAsk::Query(Query::Subscription(name));
                return self.call(at, Call::FindSub { stream }, ask);
            }
            _ => return,
        };
        match record.state {
            SubscriptionState::Active => self.server_says(stream, Said::Subscribed(record)),
            SubscriptionState::Creating => {
                if let Some(key) = self.shard_of(stream)
                    && let Some(serving) = self.servers[at].serving_mut(key)
                {
                    serving.cursors.insert(record.id, stream);
                    let request = Request::CreateCursor(record);
                    self.shard_event(at, key, ShardEvent::Request(request));
                }
            }
            // It was taken away meanwhile: who makes it tries again.
            SubscriptionState::Deleted => {}
        }
    }

    /// Meta's watch tells a serving node.
    pub(super) fn watched(&mut self, at: usize, change: &Change) {
        match change {
            Change::Shard(shard) => {
                let served = self.servers[at].serving_shard(*shard);
                if let Some(key) = served.map(|serving| serving.key) {
                    self.shard_event(at, key, ShardEvent::RecordChanged);
                }
            }
            // Where no topic is deleted, what is known of it stays true.
            Change::Topic(_) if self.swarm.allows(Harm::DeleteTopic) => {
                self.servers[at].topic = None;
            }
            Change::Bookie(_) if self.servers[at].session.is_some() => {
                self.call(at, Call::Directory, MetaAsk::Query(Query::Bookies));
            }
            _ => {}
        }
    }

    /// A client's stream is closed or broken.
    pub(super) fn server_broken(&mut self, stream: u64) {
        let Some(state) = self.streams.get(&stream) else {
            return;
        };
        let (at, life, shard) = (state.server, state.server_life, state.shard);
        if self.servers[at].life != life {
            return;
        }
        self.servers[at]
            .waiting
            .retain(|(waits, _)| *waits != stream);
        self.deletion_left(at, stream);
        if let Some(key) = shard.filter(|key| self.serves(at, *key)) {
            let request = Request::CloseStream(StreamId::new(stream));
            self.shard_event(at, key, ShardEvent::Request(request));
        }
    }
}
