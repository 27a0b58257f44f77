//! Clients' streams: in order both ways, broken as a whole.

use topic::StreamId;
use types::command::Command;
use types::topic::{Retention, StartPosition, SubscriptionMode, SubscriptionRecord};
use types::{SubscriptionId, SubscriptionName, WallTime};

use super::agenda::{MS, Nanos, SECOND};
use super::event::{Event, Frame, Message, Opening, Said};
use super::marks::Mark;
use super::net::{Fate, Host};
use super::shard_core::{Request, Told};
use super::world::World;

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) who: Who,
    pub(super) server: usize,
    pub(super) server_life: u32,
    /// The attempt to serve that it belongs to, once one has it.
    pub(super) shard: Option<u64>,
    to_server: Nanos,
    to_client: Nanos,
    pub(super) is_broken: bool,
}

/// Whose stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// A producer's.
    Producer(usize),
    /// A consumer's.
    Consumer(usize),
    /// A call's.
    Once(usize),
    /// Somebody's who makes a subscription.
    Subscriber(usize),
    /// Somebody's who takes one away.
    Remover(usize),
    /// Somebody's who deletes the topic.
    Deleter,
    /// Somebody's who asks for one that is gone.
    Ghost,
}

/// A subscription of the run.
#[derive(Debug)]
pub(super) struct Sub {
    pub(super) name: SubscriptionName,
    pub(super) label: String,
    pub(super) mode: SubscriptionMode,
    pub(super) start: StartPosition,
    pub(super) ack_deadline: std::time::Duration,
    /// The end of what was acked when somebody began to delete it.
    pub(super) leaves_at: Option<u64>,
    /// How often it was deleted.
    pub(super) deleted: u32,
    /// The last one of its name that was deleted.
    pub(super) gone: Option<SubscriptionId>,
    /// The end of what was acked before it was made.
    pub(super) floor: u64,
    /// When it was first tried.
    pub(super) tried: Option<Nanos>,
    pub(super) record: Option<SubscriptionRecord>,
    pub(super) attempt: u32,
    pub(super) hint: Option<usize>,
}

impl Sub {
    pub(super) fn command(&self, at: WallTime) -> Command {
        Command::CreateSubscription {
            name: self.name.clone(),
            mode: self.mode,
            ack_deadline: self.ack_deadline,
            start: self.start,
            at,
        }
    }
}

/// How long until a subscription is tried again.
const SUBSCRIBE_AGAIN: Nanos = 3 * SECOND;

impl World {
    /// A client opens a stream to a server; to the one it was pointed at, or to any.
    pub(super) fn client_opens(
        &mut self,
        who: Who,
        hint: Option<usize>,
        make: impl FnOnce(StreamId) -> Opening,
    ) -> u64 {
        // One that never comes back is tried by nobody for ever.
        let all = 0..self.servers.len();
        let there: Vec<usize> = all.filter(|at| !self.servers[*at].is_gone).collect();
        let server = hint.unwrap_or_else(|| there[self.rng.index(there.len())]);
        let number = self.next_number();
        let stream = Stream {
            who,
            server,
            server_life: self.servers[server].life,
            shard: None,
            to_server: 0,
            to_client: 0,
            is_broken: false,
        };
        self.streams.insert(number, stream);
        let opening = make(StreamId::new(number));
        if self.servers[server].is_up {
            self.client_says(number, Frame::Open(opening));
        } else {
            self.stream_breaks(number, 100 * MS);
        }
        number
    }

    pub(super) fn client_requests(&mut self, stream: u64, request: Request) {
        self.client_says(stream, Frame::Request(request));
    }

    fn client_says(&mut self, number: u64, frame: Frame) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        if stream.is_broken {
            return;
        }
        let to = Host::Server(stream.server);
        match self.net.fate(self.now, Host::Clients, to) {
            Fate::Lost => self.stream_breaks(number, 2 * SECOND),
            Fate::Comes(at, _) => {
                stream.to_server = at.max(stream.to_server + 1);
                let at = stream.to_server;
                let message = Message::ToServer {
                    stream: number,
                    frame,
                };
                let message = Box::new(message);
                self.agenda.put(at, Event::Arrives { to, message });
            }
        }
    }

    pub(super) fn server_says(&mut self, number: u64, said: Said) {
        if let Said::Told {
            told: Told::Ended(problem),
            ..
        } = &said
            && problem.reason == types::Reason::ProducerFenced
        {
            self.marks.hit(Mark::ProducerFenced);
        }
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        if stream.is_broken {
            return;
        }
        let from = Host::Server(stream.server);
        match self.net.fate(self.now, from, Host::Clients) {
            Fate::Lost => self.stream_breaks(number, 2 * SECOND),
            Fate::Comes(at, _) => {
                stream.to_client = at.max(stream.to_client + 1);
                let at = stream.to_client;
                let message = Message::ToClient {
                    stream: number,
                    said,
                };
                let to = Host::Clients;
                let message = Box::new(message);
                self.agenda.put(at, Event::Arrives { to, message });
            }
        }
    }

    /// A stream breaks: both sides learn of it within `most`, after what was on its way.
    pub(super) fn stream_breaks(&mut self, number: u64, most: Nanos) {
        let waits = [self.rng.below(most), self.rng.below(most)];
        let now = self.now;
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        if std::mem::replace(&mut stream.is_broken, true) {
            return;
        }
        let to_client = stream.to_client.max(now) + 1 + waits[0];
        let to_server = stream.to_server.max(now) + 1 + waits[1];
        self.agenda
            .put(to_client, Event::ClientBroken { stream: number });
        let server = stream.server;
        let broken = Event::ServerBroken {
            server,
            stream: number,
        };
        self.agenda.put(to_server, broken);
    }

    /// A client closes its stream: the server learns of it.
    pub(super) fn client_closes(&mut self, number: u64) {
        let wait = self.rng.below(20 * MS);
        let now = self.now;
        if let Some(stream) = self.streams.get_mut(&number)
            && !std::mem::replace(&mut stream.is_broken, true)
        {
            let at = stream.to_server.max(now) + 1 + wait;
            let server = stream.server;
            let broken = Event::ServerBroken {
                server,
                stream: number,
            };
            self.agenda.put(at, broken);
        }
    }

    /// A serving node's process died: its streams break.
    pub(super) fn streams_of_server_break(&mut self, server: usize) {
        let of_server = self
            .streams
            .iter()
            .filter(|(_, s)| s.server == server && !s.is_broken);
        let numbers: Vec<u64> = of_server.map(|(number, _)| *number).collect();
        for number in numbers {
            self.stream_breaks(number, 400 * MS);
        }
    }

    /// A client hears something on its stream.
    pub(super) fn client_hears(&mut self, number: u64, said: Said) {
        let Some(stream) = self.streams.get(&number) else {
            return;
        };
        let who = stream.who;
        if let Said::Told {
            told: Told::Ended(problem),
            ..
        } = &said
        {
            let text = problem.to_string();
            self.trace(|| format!("stream {number} of {who:?} ended: {text}"));
            match problem.reason {
                types::Reason::ShardOpening => self.marks.hit(Mark::OpeningRefused),
                types::Reason::NotOwner => self.marks.hit(Mark::Redirected),
                _ => {}
            }
        }
        match who {
            Who::Producer(at) => self.producer_hears(at, number, said),
            Who::Consumer(at) => self.consumer_hears(at, number, said),
            Who::Once(at) => self.once_hears(at, number, said),
            Who::Subscriber(at) => self.subscriber_hears(at, said),
            Who::Remover(at) => self.remover_hears(at, said),
            Who::Deleter => self.deleter_hears(number, said),
            Who::Ghost => self.ghost_hears(number, said),
        }
    }

    /// A client learns that its stream broke.
    pub(super) fn client_broken(&mut self, number: u64) {
        let Some(stream) = self.streams.get(&number) else {
            return;
        };
        match stream.who {
            Who::Producer(at) => self.producer_lost(at, number, None),
            Who::Consumer(at) => self.consumer_lost(at, number, None),
            Who::Once(at) => self.once_lost(at, number),
            Who::Subscriber(_) | Who::Remover(_) | Who::Deleter | Who::Ghost => {}
        }
    }

    /// The server that a client is pointed at.
    pub(super) fn pointed_at(&self, told: &types::Problem) -> Option<usize> {
        let endpoint = told.metadata.get("owner_endpoint")?;
        let names = (0..self.servers.len()).map(|at| (at, format!("http://serving-{at}:1")));
        names
            .into_iter()
            .find(|(_, name)| name == endpoint)
            .map(|(at, _)| at)
    }

    /// The attempt to serve that a stream belongs to.
    pub(super) fn shard_of(&self, stream: u64) -> Option<u64> {
        self.streams.get(&stream)?.shard
    }

    /// The subscription that a stream makes.
    pub(super) fn sub_of(&self, stream: u64) -> Option<usize> {
        match self.streams.get(&stream)?.who {
            Who::Subscriber(at) => Some(at),
            Who::Producer(_)
            | Who::Consumer(_)
            | Who::Once(_)
            | Who::Remover(_)
            | Who::Deleter
            | Who::Ghost => None,
        }
    }

    /// A subscription is made, or tried again.
    pub(super) fn subscribe(&mut self, at: usize, attempt: u32) {
        let sub = &mut self.subs[at];
        if sub.record.is_some() || sub.attempt != attempt || !self.life.is_there() {
            return;
        }
        if sub.tried.is_none() {
            sub.tried = Some(self.now);
            if sub.deleted == 0 {
                sub.floor = self.acked_end;
            }
        }
        sub.attempt += 1;
        let attempt = sub.attempt;
        let hint = sub.hint.take();
        self.client_opens(Who::Subscriber(at), hint, |_| Opening::Subscribe(at));
        let again = Event::Subscribe { at, attempt };
        self.agenda.put(self.now + SUBSCRIBE_AGAIN, again);
    }

    /// Once every subscription is there, what all of them acked may be dropped: none begins later and would miss it.
    fn let_trim(&mut self) {
        if self.swarm.trims && self.subs.iter().all(|sub| sub.record.is_some()) {
            let update = Command::UpdateTopic {
                name: self.topic.clone(),
                retention: Retention {
                    time: Some(self.swarm.retention),
                    bytes: None,
                },
            };
            // A topic that is being deleted may be gone already.
            if let Err(problem) = self.meta_execute(&update)
                && !(self.life.is_leaving() && problem.reason == types::Reason::TopicNotFound)
            {
                self.violation("M", format!("retention is not changed: {problem}"));
            }
        }
    }

    fn subscriber_hears(&mut self, at: usize, said: Said) {
        match said {
            Said::Subscribed(record)
                if self.subs[at].gone >= Some(record.id) || self.life.id != Some(record.topic) => {}
            Said::Subscribed(record) => {
                if self.subs[at].record.replace(record).is_none() {
                    self.subscribed(at);
                    self.let_trim();
                }
            }
            Said::Told {
                told: Told::Ended(problem),
                ..
            } => {
                let hint = self.pointed_at(&problem);
                let sub = &mut self.subs[at];
                sub.hint = hint;
                let attempt = sub.attempt;
                let wait = 50 * MS + self.rng.below(300 * MS);
                self.agenda
                    .put(self.now + wait, Event::Subscribe { at, attempt });
            }
            Said::Told { .. } | Said::Unsubscribed(_) | Said::TopicDeleted(_) => {}
        }
    }
}
