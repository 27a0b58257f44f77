//! Does harm, and ends it.

mod copies;
mod deletion;
mod disks;

use host::disk::sim::Fault;

use super::agenda::{MS, Nanos, SECOND};
use super::event::{Event, after};
use super::net::{Host, Link};
use super::shard_core::ShardEvent;
use super::swarm::Harm;
use super::world::{Pause, World};
use crate::history::{self, Name, Phase};

/// What is done to whom.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// The next harm.
    Next,
    /// Links are whole again.
    Uncut(Vec<(Host, Host)>),
    /// Links are quiet again.
    Calm(Vec<(Host, Host)>),
    /// A process stands still for so long.
    Pause(Host, Nanos),
    /// A bookie's process dies.
    Kill(usize),
    /// A serving node's process dies.
    KillServer(usize),
    /// A bookie's machine loses power.
    Power(usize),
    /// A disk has room again, and is quick and sound.
    DiskGood(usize),
    /// A bookie is not drained any more.
    Undrain(usize),
    /// Meta is quick again.
    MetaGood,
    /// All harm ends.
    Heal,
}

impl World {
    /// Does what the act says.
    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Next if self.is_healed => {}
            Act::Next => {
                self.harm();
                let gap = self.swarm.gap;
                let is_rest = self.rng.one_in(4);
                let rest = if is_rest {
                    self.rng.below(5 * SECOND)
                } else {
                    0
                };
                let wait = self.rng.below(2 * gap) + rest;
                self.agenda.put(self.now + wait, Event::Nemesis(Act::Next));
            }
            Act::Uncut(links) => {
                for (from, to) in links {
                    let link = self.net.link(from, to);
                    link.cuts = link.cuts.saturating_sub(1);
                }
            }
            Act::Calm(links) => {
                for (from, to) in links {
                    let cuts = self.net.link(from, to).cuts;
                    *self.net.link(from, to) = Link {
                        cuts,
                        ..Link::quiet()
                    };
                }
            }
            Act::Pause(host, time) if !self.is_healed => self.pause(host, time),
            Act::Pause(..) => {}
            Act::Kill(at) if !self.is_healed => self.bookie_crash(at, 50 * MS),
            Act::KillServer(at) if !self.is_healed => {
                let wait = 20 * MS + self.rng.below(3 * SECOND);
                self.server_crash(at, wait);
            }
            Act::Kill(_) | Act::KillServer(_) => {}
            Act::Power(at) if !self.is_healed => {
                self.bookie_power(at);
                let wait = self.rng.below(2 * SECOND);
                self.agenda
                    .put(self.now + wait, Event::BookieStarts { bookie: at });
            }
            Act::Power(_) => {}
            Act::DiskGood(at) => self.disk_good(at),
            Act::Undrain(at) => self.drains(at, false),
            Act::MetaGood => {
                self.meta.commit_jitter = MS;
                self.meta.answers_lost = 0;
            }
            Act::Heal => self.heal(),
        }
    }

    fn later(&mut self, wait: Nanos, act: Act) {
        self.agenda.put(self.now + wait, Event::Nemesis(act));
    }

    fn harm(&mut self) {
        if self.swarm.harms.is_empty() {
            return;
        }
        let harm = self.swarm.harms[self.rng.index(self.swarm.harms.len())];
        self.trace(|| format!("harm {harm:?}"));
        let text = format!("{harm:?}");
        for ph in [Phase::Start, Phase::Stop] {
            let fault = history::Fault {
                f: Name::from(text.as_str()),
                x: Name::from("world"),
                ph,
                t: Some(self.now),
            };
            self.history.note(&history::Event::Nem(fault));
        }
        match harm {
            Harm::Delay | Harm::Loss | Harm::Disorder | Harm::Late => self.harm_links(harm),
            Harm::Partition => self.harm_partition(),
            Harm::Pause => self.harm_pause(),
            Harm::Crash => self.harm_crash(),
            Harm::Power => self.harm_power(),
            Harm::Meta => self.harm_meta(),
            Harm::DiskError => self.harm_disk_error(),
            Harm::DiskFull => self.harm_disk_full(),
            Harm::DiskSlow => self.harm_disk_slow(),
            Harm::DiskLoss => self.harm_disk_loss(),
            Harm::Lapse => self.harm_lapse(),
            Harm::Client => self.harm_client(),
            Harm::Release => self.harm_release(),
            Harm::Gone => self.harm_gone(),
            Harm::Unsubscribe => self.harm_unsubscribe(),
            Harm::DeleteTopic => self.harm_delete_topic(),
            Harm::Drain => self.harm_drain(),
        }
    }

    fn a_bookie(&self) -> usize {
        self.rng.index(self.bookies.len())
    }

    fn a_server(&self) -> usize {
        // The one that serves, more often than not.
        let serving = self.servers.iter().position(|s| !s.serving.is_empty());
        match serving {
            Some(at) if !self.rng.one_in(3) => at,
            _ => self.rng.index(self.servers.len()),
        }
    }

    fn a_host(&self) -> Host {
        match self.rng.below(8) {
            0 => Host::Meta,
            1..=3 => Host::Server(self.a_server()),
            4 => Host::Clients,
            _ => Host::Bookie(self.a_bookie()),
        }
    }

    fn some_links(&self) -> Vec<(Host, Host)> {
        let hosts = self.net.hosts();
        let pairs = |one: Host| {
            let others = hosts.iter().filter(move |other| **other != one);
            others.flat_map(move |other| [(one, *other), (*other, one)])
        };
        match self.rng.below(3) {
            0 => hosts.iter().flat_map(|host| pairs(*host)).collect(),
            1 => pairs(self.a_host()).collect(),
            _ => {
                let (one, other) = (self.a_host(), self.a_host());
                vec![(one, other)]
            }
        }
    }

    fn harm_links(&mut self, harm: Harm) {
        let links = self.some_links();
        let rng = self.rng.clone();
        let (delay, jitter) = (rng.below(60 * MS), rng.below(80 * MS));
        let chance = u32::try_from(rng.below(300_000)).unwrap_or(0);
        for (from, to) in &links {
            let link = self.net.link(*from, *to);
            match harm {
                Harm::Delay => {
                    link.delay = delay;
                    link.jitter = jitter;
                }
                Harm::Loss => link.loss = chance / 4,
                Harm::Late => link.late = chance / 4,
                _ => {
                    link.repeats = chance;
                    link.jitter = jitter / 4;
                }
            }
        }
        let wait = self.rng.below(6 * SECOND);
        self.later(wait, Act::Calm(links));
    }

    fn cut(&mut self, links: Vec<(Host, Host)>, wait: Nanos) {
        for (from, to) in &links {
            self.net.link(*from, *to).cuts += 1;
        }
        self.later(wait, Act::Uncut(links));
    }

    fn harm_partition(&mut self) {
        let one = self.a_host();
        let hosts = self.net.hosts();
        let links: Vec<_> = match self.rng.below(4) {
            // One machine from all others; what it says gets out or not.
            0 => hosts.iter().map(|other| (*other, one)).collect(),
            1 => hosts
                .iter()
                .flat_map(|other| [(*other, one), (one, *other)])
                .collect(),
            2 => {
                let other = self.a_host();
                vec![(one, other), (other, one)]
            }
            _ => vec![(one, self.a_host())],
        };
        let wait = 50 * MS + self.rng.below(6 * SECOND);
        self.cut(links, wait);
    }

    fn harm_lapse(&mut self) {
        let server = Host::Server(self.a_server());
        let links = match self.rng.one_in(2) {
            true => vec![(server, Host::Meta)],
            false => vec![(server, Host::Meta), (Host::Meta, server)],
        };
        let lease = after(0, self.swarm.lease);
        let wait = lease + self.rng.below(2 * lease);
        self.cut(links, wait);
    }

    fn harm_pause(&mut self) {
        let host = match self.rng.below(8) {
            0 => Host::Meta,
            1..=4 => Host::Server(self.a_server()),
            _ => Host::Bookie(self.a_bookie()),
        };
        let long = match self.rng.one_in(3) {
            true => after(0, self.swarm.lease) * 2,
            false => SECOND,
        };
        if self.rng.one_in(4) {
            // The next claimant, in the middle of its recovery: another one overtakes it.
            let lease = after(0, self.swarm.lease);
            self.trap = Some(lease + self.rng.below(2 * lease));
            return;
        }
        let time = 20 * MS + self.rng.below(long);
        self.pause(host, time);
    }

    /// Somebody claims: a trap that was set snaps.
    pub(super) fn claims(&mut self, server: usize) {
        if let Some(time) = self.trap.take() {
            let wait = self.rng.below(8 * MS);
            self.later(wait, Act::Pause(Host::Server(server), time));
        }
    }

    fn pause(&mut self, host: Host, time: Nanos) {
        let until = self.now + time;
        let pause = self.paused.entry(host).or_insert_with(|| Pause {
            until,
            held: Vec::new(),
        });
        pause.until = pause.until.max(until);
        self.agenda.put(until, Event::Resumes { host });
    }

    fn harm_crash(&mut self) {
        let wait = 20 * MS + self.rng.below(3 * SECOND);
        match self.rng.below(5) {
            0 | 1 => {
                let at = self.a_server();
                self.server_crash(at, wait);
            }
            2 => {
                let at = self.a_bookie();
                self.bookies[at].dies_in_job = self.bookies[at].is_open();
            }
            3 if self.rng.one_in(4) => {
                for at in 0..self.bookies.len() {
                    self.bookie_crash(at, wait);
                }
            }
            _ => {
                let at = self.a_bookie();
                self.bookie_crash(at, wait);
            }
        }
    }

    fn harm_power(&mut self) {
        let wait = 20 * MS + self.rng.below(3 * SECOND);
        let at = self.a_bookie();
        match self.rng.below(6) {
            0 => {
                for at in 0..self.bookies.len() {
                    self.later(0, Act::Power(at));
                }
            }
            1 => {
                // A killed process, then its machine.
                self.bookie_crash(at, wait);
                let wait = self.rng.below(2 * wait);
                self.later(wait, Act::Power(at));
            }
            2 | 3 => {
                let disk = &self.bookies[at].disk;
                let fault = match self.rng.one_in(2) {
                    true => Fault::PowerCut,
                    false => Fault::PowerCutAfter,
                };
                disk.fail_at(disk.ops() + 1 + self.rng.below(40), fault);
            }
            4 => {
                self.bookies[at].dies_in_job = self.bookies[at].is_open();
                let wait = self.rng.below(3 * SECOND);
                self.later(wait, Act::Power(at));
            }
            _ => self.later(0, Act::Power(at)),
        }
    }

    fn harm_meta(&mut self) {
        match self.rng.below(3) {
            0 => {
                self.meta_crash();
                let wait = 20 * MS + self.rng.below(3 * SECOND);
                let life = self.meta.life;
                self.agenda.put(self.now + wait, Event::MetaStarts { life });
            }
            1 => self.meta.commit_jitter = self.rng.below(400 * MS),
            _ => self.meta.answers_lost = u32::try_from(self.rng.below(500_000)).unwrap_or(0),
        }
        let wait = self.rng.below(5 * SECOND);
        self.later(wait, Act::MetaGood);
    }

    fn harm_client(&mut self) {
        match self.rng.below(3) {
            0 if !self.consumers.is_empty() => {
                let at = self.rng.index(self.consumers.len());
                self.consumer_leaves(at);
            }
            _ => {
                let open = self.streams.iter().filter(|(_, stream)| !stream.is_broken);
                let numbers: Vec<u64> = open.map(|(number, _)| *number).collect();
                for number in numbers {
                    if self.rng.one_in(3) {
                        self.stream_breaks(number, SECOND);
                    }
                }
            }
        }
    }

    fn harm_release(&mut self) {
        let keys = self.servers.iter().map(|server| server.keys());
        let newest = keys
            .enumerate()
            .find_map(|(at, keys)| Some((at, *keys.last()?)));
        if let Some((at, key)) = newest {
            self.shard_event(at, key, ShardEvent::Release);
        }
    }

    /// All harm ends. What is to stay away goes now; everything else comes back.
    fn heal(&mut self) {
        self.trace(|| "heal".to_owned());
        self.is_healed = true;
        self.net.heal();
        let paused: Vec<Host> = self.paused.keys().copied().collect();
        for host in paused {
            self.resumes(host);
        }
        self.act(Act::MetaGood);
        let life = self.meta.life;
        self.meta_start(life);
        let (_, server) = self.swarm.gone;
        let bookie = self.stays_away();
        for at in 0..self.bookies.len() {
            self.disk_good(at);
            self.bookies[at].disk.heal();
            self.bookies[at].dies_in_job = false;
            self.drains(at, false);
            if Some(at) == bookie {
                self.bookie_dies(at);
                self.bookies[at].is_gone = true;
            }
            self.agenda
                .put(self.now, Event::BookieStarts { bookie: at });
        }
        for at in 0..self.servers.len() {
            if Some(at) == server {
                self.server_crash(at, 0);
                self.servers[at].is_gone = true;
            }
            self.agenda
                .put(self.now, Event::ServerStarts { server: at });
        }
        for producer in &mut self.producers {
            producer.made += u64::from(self.life.is_there());
        }
        for at in 0..self.producers.len() {
            let timer = super::event::ProducerTimer::Load;
            self.agenda.put(self.now, Event::Producer { at, timer });
        }
        self.agenda.put(self.now, Event::CheckEnd);
    }
}
