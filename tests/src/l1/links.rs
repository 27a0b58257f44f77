//! Streams between serving nodes and bookies: opened on first need, in order, broken as a whole, opened again.

use bookie::Ask;

use super::agenda::{MS, Nanos, SECOND};
use super::event::{Event, Message, ReplyTo, Timer};
use super::net::{Fate, Host};
use super::shard_core::ShardEvent;
use super::swarm::Harm;
use super::world::World;

/// A serving node's stream to one bookie.
#[derive(Debug, Default)]
pub(super) struct Link {
    state: State,
    /// Which stream this is; signs of an older one are late.
    number: u64,
    is_down: bool,
    is_lost_told: bool,
    queue: Vec<(ReplyTo, Ask)>,
    last_out: Nanos,
    last_in: Nanos,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Connecting,
    Up,
    Waiting,
}

impl Link {
    /// Whether this stream is the one that stands.
    pub(super) fn stands(&self, number: u64) -> bool {
        self.number == number && self.state == State::Up
    }
}

/// How long opening a stream may take.
const CONNECT_TIMEOUT: Nanos = 600 * MS;

impl World {
    /// A serving node orders something on its stream to a bookie. False when there is no stream.
    pub(super) fn order(&mut self, server: usize, bookie: usize, reply: ReplyTo, ask: Ask) -> bool {
        let link = &mut self.servers[server].links[bookie];
        if link.is_down {
            return false;
        }
        match link.state {
            State::Up => self.on_link(server, bookie, reply, ask),
            State::Connecting => link.queue.push((reply, ask)),
            State::Idle | State::Waiting => {
                link.queue.push((reply, ask));
                self.link_connect(server, bookie);
            }
        }
        true
    }

    fn on_link(&mut self, server: usize, bookie: usize, reply: ReplyTo, ask: Ask) {
        let number = self.servers[server].links[bookie].number;
        let reply = match reply {
            ReplyTo::Add {
                shard,
                ledger,
                entry,
                ..
            } => ReplyTo::Add {
                shard,
                link: number,
                ledger,
                entry,
            },
            other => other,
        };
        let message = Message::Ask { server, reply, ask };
        self.in_order(server, bookie, true, message);
    }

    /// Sends on the stream, one way or the other.
    fn in_order(&mut self, server: usize, bookie: usize, is_out: bool, message: Message) {
        let (from, to) = match is_out {
            true => (Host::Server(server), Host::Bookie(bookie)),
            false => (Host::Bookie(bookie), Host::Server(server)),
        };
        let is_disorderly = self.swarm.allows(Harm::Disorder) && !self.is_healed;
        let is_cut = self.net.link(from, to).cuts > 0;
        match self.net.fate(self.now, from, to) {
            Fate::Lost if is_disorderly && !is_cut => {}
            Fate::Lost => self.link_doomed(server, bookie, 2 * SECOND),
            Fate::Comes(first, second) => {
                let mut times = vec![first];
                if is_disorderly {
                    let late = self.net.lateness(from, to);
                    times.extend(second.map(|second| second + late));
                } else {
                    let link = &mut self.servers[server].links[bookie];
                    let last = match is_out {
                        true => &mut link.last_out,
                        false => &mut link.last_in,
                    };
                    *last = first.max(*last + 1);
                    times = vec![*last];
                }
                for at in times {
                    let message = Box::new(message.clone());
                    self.agenda.put(at, Event::Arrives { to, message });
                }
            }
        }
    }

    /// A bookie answers a serving node.
    pub(super) fn say_on_link(&mut self, bookie: usize, server: usize, message: Message) {
        let is_add = matches!(
            message,
            Message::Says {
                reply: ReplyTo::Add { .. },
                ..
            }
        );
        if is_add {
            self.in_order(server, bookie, false, message);
        } else {
            self.send(Host::Bookie(bookie), Host::Server(server), message);
        }
    }

    fn link_connect(&mut self, server: usize, bookie: usize) {
        let number = self.next_number();
        let link = &mut self.servers[server].links[bookie];
        link.state = State::Connecting;
        link.number = number;
        let message = Message::Hello {
            server,
            link: number,
        };
        self.send(Host::Server(server), Host::Bookie(bookie), message);
        self.server_timer(server, CONNECT_TIMEOUT, Timer::Connect(bookie, number));
    }

    /// A serving node wants a stream to a bookie.
    pub(super) fn hello(&mut self, bookie: usize, server: usize, link: u64) {
        if self.bookies[bookie].is_open() {
            let message = Message::HelloBack { bookie, link };
            self.send(Host::Bookie(bookie), Host::Server(server), message);
        }
    }

    /// The bookie said yes.
    pub(super) fn hello_back(&mut self, server: usize, bookie: usize, number: u64) {
        let link = &mut self.servers[server].links[bookie];
        if link.number != number || link.state != State::Connecting {
            return;
        }
        link.state = State::Up;
        link.is_down = false;
        link.is_lost_told = false;
        let queue = std::mem::take(&mut link.queue);
        if let Some(id) = self.bookies[bookie].id {
            self.every_shard(server, &ShardEvent::Connected(id));
        }
        for (reply, ask) in queue {
            self.on_link(server, bookie, reply, ask);
        }
    }

    /// Time to connect again, or connecting took too long.
    pub(super) fn link_timed(&mut self, server: usize, bookie: usize, number: u64) {
        let link = &mut self.servers[server].links[bookie];
        if link.number != number {
            return;
        }
        match link.state {
            State::Waiting => self.link_connect(server, bookie),
            State::Connecting => self.link_lost(server, bookie, number),
            State::Idle | State::Up => {}
        }
    }

    /// This side learns that the stream broke.
    pub(super) fn link_lost(&mut self, server: usize, bookie: usize, number: u64) {
        let wait = 50 * MS + self.rng.below(400 * MS);
        let link = &mut self.servers[server].links[bookie];
        if link.number != number || matches!(link.state, State::Idle | State::Waiting) {
            return;
        }
        let was_up = link.state == State::Up;
        link.state = State::Waiting;
        link.is_down = true;
        link.queue.clear();
        let is_news = was_up || !link.is_lost_told;
        link.is_lost_told = true;
        let timer = Timer::Connect(bookie, number);
        self.server_timer(server, wait, timer);
        if let (true, Some(id)) = (is_news, self.bookies[bookie].id) {
            self.every_shard(server, &ShardEvent::Lost(id));
        }
    }

    /// A stream is broken; the serving node learns of it within `most`.
    pub(super) fn link_doomed(&mut self, server: usize, bookie: usize, most: Nanos) {
        let number = self.servers[server].links[bookie].number;
        let wait = MS + self.rng.below(most);
        self.server_timer(server, wait, Timer::LinkBroken(bookie, number));
    }

    /// A bookie's process died: its streams break.
    pub(super) fn links_break(&mut self, bookie: usize) {
        for server in 0..self.servers.len() {
            self.link_doomed(server, bookie, 300 * MS);
        }
    }
}
