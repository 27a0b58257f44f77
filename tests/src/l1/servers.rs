//! Serving nodes: the real core of a shard, a session with meta, and what lies between the core and the world.

use std::collections::{BTreeMap, VecDeque};

use ledger::Candidate;
use topic::StreamId;
use types::cluster::{BookieState, NodeRole, SessionState};
use types::command::{Answer, Change, Command, Query, Reply};
use types::topic::SubscriptionState;
use types::{CommandId, Problem, Reason, SessionId, SubscriptionId, WallTime};

use super::agenda::{MS, Nanos, SECOND};
use super::event::{Event, Frame, Message, MetaAnswer, MetaAsk, Opening, Said, Timer, after};
use super::links::Link;
use super::marks::Mark;
use super::net::Host;
use super::shard_core::{QueryId, Request, Shard, ShardEvent, Told};
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
    pub(super) is_certain_told: bool,
    pub(super) shard: Option<Serving>,
    pub(super) links: Vec<Link>,
    calls: BTreeMap<u64, Call>,
    pub(super) waiting: Vec<(u64, Opening)>,
    is_looking: bool,
    pub(super) candidates: Vec<Candidate>,
    pub(super) cursors: BTreeMap<SubscriptionId, u64>,
    pub(super) again: VecDeque<ShardEvent>,
    pub(super) began: Nanos,
}

/// One attempt to serve the shard.
#[derive(Debug)]
pub(super) struct Serving {
    /// Unique among all attempts.
    pub(super) key: u64,
    pub(super) shard: Shard,
    pub(super) timer: Option<Nanos>,
    pub(super) runs: Vec<u64>,
}

/// What a serving node asked of meta.
#[derive(Debug)]
pub(super) enum Call {
    Session(Command),
    Beat { sent: Nanos },
    Directory,
    Owner,
    Change { shard: u64, command: CommandId },
    Query { shard: u64, id: QueryId },
    CreateSub { stream: u64, plan: usize },
    FindSub { stream: u64 },
    ActivateSub { stream: u64 },
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
            is_certain_told: true,
            shard: None,
            links: (0..bookies).map(|_| Link::default()).collect(),
            calls: BTreeMap::new(),
            waiting: Vec::new(),
            is_looking: false,
            candidates: Vec::new(),
            cursors: BTreeMap::new(),
            again: VecDeque::new(),
            began: 0,
        }
    }
}

impl World {
    /// A serving node's process begins.
    pub(super) fn server_start(&mut self, at: usize) {
        let now = self.now;
        let command = CommandId::new(self.rng.u128());
        let bookies = self.bookies.len();
        let server = &mut self.servers[at];
        if server.is_up || server.is_gone {
            return;
        }
        let life = server.life + 1;
        *server = Server {
            life,
            is_up: true,
            began: now,
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
        let server = &mut self.servers[at];
        server.life += 1;
        server.is_up = false;
        server.shard = None;
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
            Timer::Connect(bookie, number) => self.link_timed(at, bookie, number),
            Timer::LinkBroken(bookie, number) => self.link_lost(at, bookie, number),
            Timer::Run(key, tag) => self.run_over(at, key, tag, Vec::new()),
            Timer::Directory => {
                self.call(at, Call::Directory, MetaAsk::Query(Query::Bookies));
                self.server_timer(at, SECOND, Timer::Directory);
            }
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
                self.shard_event(at, ShardEvent::Outcome { command, outcome });
            }
            Call::Query { shard, id } if self.serves(at, shard) => {
                let problem = Problem::new(Reason::Unreachable, "meta did not answer");
                let result = Err(problem);
                self.shard_event(at, ShardEvent::Queried { query: id, result });
            }
            Call::Owner => {
                self.servers[at].is_looking = false;
                let problem = Problem::new(Reason::Unreachable, "meta did not answer");
                self.refuse_waiting(at, &problem);
            }
            _ => {}
        }
    }

    pub(super) fn serves(&self, at: usize, key: u64) -> bool {
        self.servers[at]
            .shard
            .as_ref()
            .is_some_and(|s| s.key == key)
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
                let candidates: Vec<Candidate> = bookies
                    .iter()
                    .map(|bookie| Candidate {
                        bookie: bookie.id,
                        writable: bookie.state == BookieState::ReadWrite,
                        live: bookie.live,
                    })
                    .collect();
                if self.servers[at].candidates != candidates {
                    self.servers[at].candidates.clone_from(&candidates);
                    self.shard_event(at, ShardEvent::Candidates(candidates));
                }
            }
            (Call::Owner, MetaAnswer::Query(Ok(Answer::Shard(Some(view), owner)))) => {
                self.servers[at].is_looking = false;
                let own = self.servers[at].session;
                match owner.filter(|o| o.state == SessionState::Live && Some(o.id) != own) {
                    Some(owner) => {
                        let problem = Problem::new(Reason::NotOwner, "another node owns the shard");
                        let problem = problem.with("owner_endpoint", owner.endpoint);
                        self.refuse_waiting(at, &problem);
                    }
                    None => self.shard_open(at, &view.record.owner),
                }
            }
            (Call::Change { shard, command }, answer) if self.serves(at, shard) => {
                let outcome = answer.outcome();
                self.note_outcome(command, &outcome);
                self.shard_event(at, ShardEvent::Outcome { command, outcome });
            }
            (Call::Query { shard, id }, MetaAnswer::Query(result)) if self.serves(at, shard) => {
                self.shard_event(at, ShardEvent::Queried { query: id, result });
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
                self.servers[at].cursors.insert(record.id, stream);
                let request = Request::CreateCursor(record);
                self.shard_event(at, ShardEvent::Request(request));
            }
            SubscriptionState::Deleted => {
                self.violation("world", "nobody deletes a subscription here".to_owned());
            }
        }
    }

    /// A client's frame arrives.
    pub(super) fn frame(&mut self, stream: u64, frame: Frame) {
        let Some(state) = self.streams.get(&stream) else {
            return;
        };
        let (at, life) = (state.server, state.server_life);
        if !self.servers[at].is_up || self.servers[at].life != life {
            return;
        }
        match frame {
            Frame::Request(request) => {
                if state.shard.is_some_and(|key| self.serves(at, key)) {
                    self.shard_event(at, ShardEvent::Request(request));
                }
            }
            Frame::Open(opening) if self.servers[at].shard.is_some() => {
                self.opened(at, stream, opening);
            }
            Frame::Open(opening) => {
                let server = &mut self.servers[at];
                server.waiting.push((stream, opening));
                if server.session.is_none() {
                    let problem = Problem::new(Reason::Unreachable, "the node is starting");
                    self.refuse_waiting(at, &problem);
                } else if !server.is_looking {
                    server.is_looking = true;
                    let ask = MetaAsk::Query(Query::Shard(self.shard));
                    self.call(at, Call::Owner, ask);
                }
            }
        }
    }

    fn refuse_waiting(&mut self, at: usize, problem: &Problem) {
        for (stream, _) in std::mem::take(&mut self.servers[at].waiting) {
            let told = Told::Ended(problem.clone());
            self.server_says(stream, Said::Told { told, epoch: None });
        }
    }

    /// A stream opens on the shard that is served here.
    pub(super) fn opened(&mut self, at: usize, stream: u64, opening: Opening) {
        let key = self.servers[at].shard.as_ref().map(|serving| serving.key);
        if let Some(state) = self.streams.get_mut(&stream) {
            state.shard = key;
        }
        let request = match opening {
            Opening::Producer(open) => Request::OpenProducer(open),
            Opening::Consumer(open) => Request::OpenConsumer(open),
            Opening::Once {
                stream,
                count,
                body,
            } => Request::PublishOnce {
                stream,
                count,
                body,
            },
            Opening::Subscribe(plan) => {
                let create = self.subs[plan].command(WallTime::from_nanos(self.now));
                let ask = MetaAsk::Command(Box::new(create));
                return self.call(at, Call::CreateSub { stream, plan }, ask);
            }
        };
        self.shard_event(at, ShardEvent::Request(request));
    }

    /// Meta's watch tells a serving node.
    pub(super) fn watched(&mut self, at: usize, change: &Change) {
        match change {
            Change::Shard(shard) if *shard == self.shard => {
                self.shard_event(at, ShardEvent::RecordChanged);
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
        if shard.is_some_and(|key| self.serves(at, key)) {
            let request = Request::CloseStream(StreamId::new(stream));
            self.shard_event(at, ShardEvent::Request(request));
        }
    }
}
