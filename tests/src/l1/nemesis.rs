//! Does harm, and ends it.

use std::time::Duration;

use host::disk::Disk as _;
use host::disk::sim::{Fault, FaultRates, Latency, OpKind};

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
    /// A bookie's machine loses power.
    Power(usize),
    /// A disk has room again, and is quick and sound.
    DiskGood(usize),
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
            Act::Kill(_) => {}
            Act::Power(at) if !self.is_healed => {
                self.bookie_power(at);
                let wait = self.rng.below(2 * SECOND);
                self.agenda
                    .put(self.now + wait, Event::BookieStarts { bookie: at });
            }
            Act::Power(_) => {}
            Act::DiskGood(at) => self.disk_good(at),
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
            Harm::Delay | Harm::Loss | Harm::Disorder => self.harm_links(harm),
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
        }
    }

    fn a_bookie(&self) -> usize {
        self.rng.index(self.bookies.len())
    }

    fn a_server(&self) -> usize {
        // The one that serves, more often than not.
        let serving = self.servers.iter().position(|s| s.shard.is_some());
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

    fn harm_disk_error(&mut self) {
        let at = self.a_bookie();
        let kinds = [
            OpKind::Sync,
            OpKind::Sync,
            OpKind::Write,
            OpKind::SyncDir,
            OpKind::Name,
            OpKind::SetLen,
        ];
        let kind = kinds[self.rng.index(kinds.len())];
        self.bookies[at].disk.fail_next(kind, Fault::Io);
    }

    fn harm_disk_full(&mut self) {
        let at = self.a_bookie();
        let bookie = &self.bookies[at];
        let [dir, _] = bookie.dirs();
        if let Ok(space) = bookie.disk.space(&dir) {
            let used = space.total_bytes - space.free_bytes;
            let room = self.rng.below(400 << 10);
            bookie.disk.set_capacity(Some(used + room));
        }
        let wait = SECOND + self.rng.below(5 * SECOND);
        self.later(wait, Act::DiskGood(at));
    }

    fn harm_disk_slow(&mut self) {
        let at = self.a_bookie();
        let times = 2 + u32::try_from(self.rng.below(60)).unwrap_or(0);
        let bookie = &self.bookies[at];
        let slow = Latency {
            per_op: bookie.latency.per_op * times,
            per_mib: bookie.latency.per_mib,
            per_sync: bookie.latency.per_sync * times,
            jitter_max: Duration::from_millis(1),
        };
        bookie.disk.set_latency(slow);
        let wait = self.rng.below(5 * SECOND);
        self.later(wait, Act::DiskGood(at));
    }

    fn harm_disk_loss(&mut self) {
        let Some(damageable) = self.swarm.damageable else {
            return;
        };
        let at = match self.swarm.is_beyond {
            true => self.a_bookie(),
            false => damageable,
        };
        let wait = 20 * MS + self.rng.below(2 * SECOND);
        let [journal, data] = self.bookies[at].dirs();
        match self.rng.below(8) {
            0 | 1 => {
                let bookie = &mut self.bookies[at];
                let life = bookie.life;
                if bookie.is_open() {
                    let copies = (bookie.disk.copy_out(&journal), bookie.disk.copy_out(&data));
                    bookie.copy = Some((life, copies.0, copies.1));
                }
            }
            2 | 3 => {
                let bookie = &mut self.bookies[at];
                // A disk older than what meta knows of it: set back over a registration.
                let (life, is_open) = (bookie.life, bookie.is_open());
                if let Some((_, old_journal, old_data)) =
                    bookie.copy.take_if(|copy| copy.0 < life && is_open)
                {
                    self.observer.damage(at);
                    self.bookie_crash(at, wait);
                    let disk = &self.bookies[at].disk;
                    disk.put_back(&journal, &old_journal);
                    disk.put_back(&data, &old_data);
                    self.trace(|| format!("bookie-{at} is set back"));
                    if self.rng.one_in(2) {
                        // It starts, and dies before meta has heard of it.
                        let soon = wait + self.rng.below(MS / 2);
                        self.later(soon, Act::Kill(at));
                    }
                }
            }
            4 | 5 => {
                self.observer.damage(at);
                self.bookie_crash(at, wait);
                let which = self.rng.below(3);
                let disk = &self.bookies[at].disk;
                if which != 0 {
                    disk.wipe(&journal);
                }
                if which != 1 {
                    disk.wipe(&data);
                }
                self.trace(|| format!("bookie-{at} is wiped {which}"));
            }
            6 => {
                self.observer.blind(at);
                let rates = FaultRates {
                    misdirect_per_million: 20_000,
                    ..FaultRates::default()
                };
                self.bookies[at].disk.set_fault_rates(rates);
                self.later(wait, Act::DiskGood(at));
            }
            _ => self.flip(at),
        }
    }

    fn flip(&mut self, at: usize) {
        self.observer.blind(at);
        let files = self.bookies[at].disk.files();
        if files.is_empty() {
            return;
        }
        let file = &files[self.rng.index(files.len())];
        let disk = &self.bookies[at].disk;
        let len = disk.contents(file).map_or(0, |bytes| bytes.len());
        if len == 0 {
            return;
        }
        // What a file begins with is what is written most.
        let most = if self.rng.one_in(2) {
            len
        } else {
            len.min(16 << 10)
        };
        let bit = self.rng.below(8 * u64::try_from(most).unwrap_or(1));
        // It may have gone meanwhile.
        let _ = disk.flip(file, bit);
        let file = file.display().to_string();
        self.trace(|| format!("bookie-{at}: bit {bit} of {file} flips"));
        if self.rng.one_in(2) {
            let wait = self.rng.below(SECOND);
            self.bookie_crash(at, wait);
        }
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
        if let Some(at) = self.servers.iter().position(|s| s.shard.is_some()) {
            self.shard_event(at, ShardEvent::Release);
        }
    }

    fn disk_good(&mut self, at: usize) {
        let bookie = &self.bookies[at];
        bookie.disk.set_capacity(None);
        bookie.disk.set_latency(bookie.latency);
        bookie.disk.set_fault_rates(FaultRates::default());
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
        let (bookie, server) = self.swarm.gone;
        for at in 0..self.bookies.len() {
            self.disk_good(at);
            self.bookies[at].disk.heal();
            self.bookies[at].dies_in_job = false;
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
            producer.made += 1;
        }
        for at in 0..self.producers.len() {
            let timer = super::event::ProducerTimer::Load;
            self.agenda.put(self.now, Event::Producer { at, timer });
        }
        self.agenda.put(self.now, Event::CheckEnd);
    }
}
