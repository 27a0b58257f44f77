//! The world: all nodes, all clients, one clock, one queue of events.

use std::collections::BTreeMap;

use host::Rng;
use types::command::Command;
use types::topic::{StartPosition, SubscriptionMode};
use types::{ClusterId, ShardId, TopicName, WallTime};

use super::agenda::{Agenda, MS, Nanos, SECOND};
use super::bookies::Bookie;
use super::consumers::Consumer;
use super::delete::Life;
use super::event::{Asker, Event, Message, ProducerTimer};
use super::marks::{Mark, Marks};
use super::meta::Meta;
use super::nemesis::Act;
use super::net::{Fate, Host, Net};
use super::observer::{Found, Observer, Violation};
use super::once::Once;
use super::producers::Producer;
use super::proof::Proof;
use super::servers::Server;
use super::streams::{Stream, Sub};
use super::swarm::{Harm, Swarm};
use super::trace::{History, Trace};

/// Most events at one moment: more means that somebody spins.
const AT_ONCE_MAX: u64 = 50_000;

/// A process that stands still.
#[derive(Debug)]
pub(super) struct Pause {
    pub(super) until: Nanos,
    /// What came for it.
    pub(super) held: Vec<Event>,
}

/// The world.
#[derive(Debug)]
pub(super) struct World {
    pub(super) swarm: Swarm,
    pub(super) now: Nanos,
    pub(super) agenda: Agenda,
    pub(super) rng: Rng,
    pub(super) net: Net,
    pub(super) meta: Meta,
    pub(super) bookies: Vec<Bookie>,
    pub(super) servers: Vec<Server>,
    pub(super) producers: Vec<Producer>,
    pub(super) consumers: Vec<Consumer>,
    pub(super) once: Vec<Once>,
    pub(super) subs: Vec<Sub>,
    /// The first offset above all that producers heard was stored.
    pub(super) acked_end: u64,
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) paused: BTreeMap<Host, Pause>,
    /// How long the next claimant will stand still.
    pub(super) trap: Option<Nanos>,
    pub(super) observer: Observer,
    pub(super) history: History,
    pub(super) marks: Marks,
    /// The bookie that may lose its disk now.
    pub(super) victim: Option<usize>,
    pub(super) proof: Proof,
    /// The topic's one shard.
    pub(super) shard: ShardId,
    pub(super) topic: TopicName,
    pub(super) life: Life,
    pub(super) is_healed: bool,
    pub(super) events: u64,
    at_once: u64,
    numbers: u64,
    pub(super) is_done: bool,
    violations: Vec<Violation>,
    trace: Trace,
}

impl World {
    /// A world of this seed, before anything has happened.
    pub(super) fn new(swarm: Swarm, trace: Trace, history: History) -> Self {
        let rng = Rng::seeded(swarm.seed ^ 0x5eed);
        let net = Net::new(swarm.bookies, swarm.servers, rng.fork("net"));
        let bookies = (0..swarm.bookies).map(|at| Bookie::new(at, &swarm, rng.u64()));
        let servers = (0..swarm.servers).map(|at| Server::new(at, swarm.bookies));
        let producers = (0..swarm.producers).map(|at| Producer::new(at, 1 + rng.index(6)));
        let topic: TopicName = "tenants/default/namespaces/default/topics/t"
            .parse()
            .expect("a valid name");
        let mut world = Self {
            now: 0,
            agenda: Agenda::default(),
            net,
            meta: Meta::new(),
            bookies: bookies.collect(),
            servers: servers.collect(),
            producers: producers.collect(),
            consumers: Vec::new(),
            once: (0..rng.index(3)).map(|_| Once::default()).collect(),
            subs: Vec::new(),
            acked_end: 0,
            streams: BTreeMap::new(),
            paused: BTreeMap::new(),
            trap: None,
            observer: Observer::new(swarm.bookies),
            history,
            marks: Marks::default(),
            victim: swarm.damageable,
            proof: Proof::default(),
            shard: ShardId::new(0),
            topic,
            life: Life::default(),
            is_healed: false,
            events: 0,
            at_once: 0,
            numbers: 1,
            is_done: false,
            violations: Vec::new(),
            trace,
            rng,
            swarm,
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        let at = WallTime::from_nanos(1_800_000_000 * SECOND);
        let bootstrap = Command::Bootstrap {
            cluster: ClusterId::new(1),
            at,
        };
        self.meta_execute(&bootstrap)
            .expect("an empty store takes it");
        self.make_topic();
        for bookie in 0..self.bookies.len() {
            self.agenda.put(0, Event::BookieStarts { bookie });
        }
        for server in 0..self.servers.len() {
            self.agenda.put(0, Event::ServerStarts { server });
        }
        self.agenda.put(0, Event::MetaLeases);
        self.audit_starts();
        self.sweep_starts();
        self.make_subs();
        for at in 0..self.producers.len() {
            let timer = ProducerTimer::Load;
            self.agenda.put(200 * MS, Event::Producer { at, timer });
        }
        for at in 0..self.once.len() {
            self.agenda.put(300 * MS, Event::Once { at, stream: None });
        }
        self.agenda.put(SECOND, Event::Nemesis(Act::Next));
        let end = SECOND + self.swarm.chaos;
        self.agenda.put(end, Event::Nemesis(Act::Heal));
    }

    /// The first subscription sees everything; others begin somewhere, at some time.
    fn make_subs(&mut self) {
        let count = 1 + self.rng.index(3);
        for at in 0..count {
            let mode = match self.rng.one_in(2) {
                true => SubscriptionMode::Exclusive,
                false => SubscriptionMode::Shared,
            };
            let start = match at {
                0 => StartPosition::Earliest,
                _ if self.rng.one_in(2) => StartPosition::Latest,
                _ => StartPosition::Earliest,
            };
            let label = self.life.label(at, 0);
            let late = if at == 0 {
                0
            } else {
                self.rng.below(self.swarm.chaos)
            };
            let due = 150 * MS + late;
            self.subs.push(Sub {
                name: self
                    .topic
                    .subscription(&label)
                    .expect("a plain word is a name"),
                label,
                mode,
                start,
                ack_deadline: std::time::Duration::from_millis(300 + self.rng.below(2_500)),
                leaves_at: None,
                deleted: 0,
                gone: None,
                floor: 0,
                tried: None,
                record: None,
                attempt: 0,
                hint: None,
            });
            self.agenda.put(due, Event::Subscribe { at, attempt: 0 });
            let consumers = match mode {
                SubscriptionMode::Exclusive => 1 + self.rng.index(2),
                SubscriptionMode::Shared => 1 + self.rng.index(3),
            };
            for _ in 0..consumers {
                let number = self.consumers.len();
                let window = 4 + i64::try_from(self.rng.below(60)).unwrap_or(0);
                let confirms = !self.rng.one_in(3);
                self.consumers
                    .push(Consumer::new(number, at, confirms, window));
            }
        }
    }

    /// Lets everything happen, until all is done, something is wrong, or the event of this ordinal.
    pub(super) fn run(&mut self, until: Option<u64>) {
        while !self.is_done
            && self.violations.is_empty()
            && until.is_none_or(|end| self.events < end)
        {
            let Some((at, event)) = self.agenda.take() else {
                return;
            };
            if at > self.now {
                self.at_once = 0;
            }
            self.now = at;
            self.at_once += 1;
            self.events += 1;
            if self.at_once > AT_ONCE_MAX {
                self.violation("spin", "too many events at one moment".to_owned());
            }
            self.step(event);
        }
    }

    fn step(&mut self, event: Event) {
        if let Some(pause) = host_of(&event).and_then(|host| self.paused.get_mut(&host)) {
            return pause.held.push(event);
        }
        self.trace.event(self.events, self.now, &event);
        if self.is_of_an_older_process(&event) {
            return;
        }
        match event {
            Event::Arrives { to, message } => self.arrives(to, *message),
            Event::JobBegins {
                bookie,
                worker,
                job,
                ..
            } => self.run_job(bookie, worker, *job),
            Event::JobEnds {
                bookie,
                worker,
                done,
                ..
            } => self.job_done(bookie, worker, *done),
            Event::EngineTimer { bookie, .. } => self.engine_timed(bookie),
            Event::BookieTimer { bookie, timer, .. } => self.bookie_timed(bookie, timer),
            Event::ServerTimer { server, timer, .. } => self.server_timed(server, timer),
            Event::BookieReclaims { bookie, .. } => self.bookie_reclaims(bookie),
            Event::EngineSays {
                bookie,
                asker,
                ask,
                answer,
                ..
            } => self.engine_says(bookie, asker, &ask, *answer),
            Event::BookieStarts { bookie } => self.bookie_start(bookie),
            Event::ServerStarts { server } => self.server_start(server),
            Event::MetaLeases => self.meta_leases(),
            Event::MetaAudits { life } => self.meta_audits(life),
            Event::MetaSweeps { life, is_look } => self.meta_sweeps(life, is_look),
            Event::MetaStarts { life } => self.meta_start(life),
            Event::MetaCommits { life, plan } => self.meta_commits(life, *plan),
            Event::ClientBroken { stream } => self.client_broken(stream),
            Event::ServerBroken { stream, .. } => self.server_broken(stream),
            Event::Producer { at, timer } => self.producer_timed(at, timer),
            Event::Once { at, stream } => self.once_timed(at, stream),
            Event::Consumer { at, timer } => self.consumer_timed(at, timer),
            Event::Subscribe { at, attempt } => self.subscribe(at, attempt),
            Event::Unsubscribe { at, attempt } => self.unsubscribe(at, attempt),
            Event::DeleteTopic { attempt } => self.delete_topic(attempt),
            Event::MakeTopic => self.topic_returns(),
            Event::Resumes { host } => self.resumes(host),
            Event::Nemesis(act) => self.act(act),
            Event::CheckEnd => self.check_end(),
        }
    }

    /// Whether an event is for a process that has died.
    fn is_of_an_older_process(&self, event: &Event) -> bool {
        match event {
            Event::JobBegins { bookie, life, .. }
            | Event::JobEnds { bookie, life, .. }
            | Event::EngineTimer { bookie, life }
            | Event::BookieTimer { bookie, life, .. }
            | Event::BookieReclaims { bookie, life }
            | Event::EngineSays { bookie, life, .. } => self.bookies[*bookie].life != *life,
            Event::ServerTimer { server, life, .. } => self.servers[*server].life != *life,
            _ => false,
        }
    }

    /// A process goes on: first with what came meanwhile, in order.
    pub(super) fn resumes(&mut self, host: Host) {
        match self.paused.get(&host) {
            Some(pause) if pause.until <= self.now || self.is_healed => {}
            _ => return,
        }
        for event in self
            .paused
            .remove(&host)
            .map_or(Vec::new(), |pause| pause.held)
        {
            self.step(event);
        }
    }

    fn arrives(&mut self, to: Host, message: Message) {
        match (to, message) {
            (Host::Bookie(at), Message::Hello { server, link }) => self.hello(at, server, link),
            (Host::Bookie(at), Message::Ask { server, reply, ask }) => {
                self.bookie_asked(at, server, reply, ask);
            }
            (Host::Bookie(at), Message::MetaSays { life, call, answer }) => {
                if self.bookies[at].life == life {
                    self.bookie_told(at, call, answer);
                }
            }
            (
                Host::Bookie(at),
                Message::Fetch {
                    from,
                    life,
                    step,
                    run,
                },
            ) => {
                let asker = Asker::Repair {
                    bookie: from,
                    life,
                    step,
                };
                self.bookie_fetched(at, asker, run);
            }
            (Host::Bookie(at), Message::Fetched { life, step, items }) => {
                if self.bookies[at].life == life {
                    self.repair_given(at, step, items);
                }
            }
            (
                Host::Meta,
                Message::MetaAsk {
                    from,
                    life,
                    call,
                    ask,
                },
            ) => {
                self.meta_asked(from, life, call, ask);
            }
            (Host::Server(at), _) if !self.servers[at].is_up => {}
            (Host::Server(at), Message::HelloBack { bookie, link }) => {
                self.hello_back(at, bookie, link);
            }
            (
                Host::Server(at),
                Message::Says {
                    bookie,
                    reply,
                    answer,
                },
            ) => {
                self.bookie_said(at, bookie, reply, answer);
            }
            (Host::Server(at), Message::MetaSays { life, call, answer }) => {
                if self.servers[at].life == life {
                    self.server_told(at, call, answer);
                }
            }
            (Host::Server(at), Message::Watch(change)) => self.watched(at, &change),
            (Host::Server(_), Message::ToServer { stream, frame }) => self.frame(stream, frame),
            (Host::Clients, Message::ToClient { stream, said }) => self.client_hears(stream, said),
            (to, message) => self.violation("world", format!("{to:?} cannot take {message:?}")),
        }
    }

    /// Sends a message that knows no order.
    pub(super) fn send(&mut self, from: Host, to: Host, message: Message) {
        if let Fate::Comes(first, second) = self.net.fate(self.now, from, to) {
            let late = self.net.lateness(from, to);
            if late > 0 {
                self.marks.hit(Mark::Late);
            }
            // It comes late only, or in its time and late again.
            let first = if second.is_some() {
                first
            } else {
                first + late
            };
            let second = second.map(|second| second + late);
            if let Some(second) = second.filter(|_| self.swarm.allows(Harm::Disorder)) {
                let message = Box::new(message.clone());
                self.agenda.put(second, Event::Arrives { to, message });
            }
            let message = Box::new(message);
            self.agenda.put(first, Event::Arrives { to, message });
        }
    }

    /// A number never used before.
    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Something is wrong.
    pub(super) fn violation(&mut self, rule: &'static str, what: String) {
        self.violations(vec![Violation { rule, what }]);
    }

    pub(super) fn violations(&mut self, found: Found) {
        for one in found {
            self.trace(|| format!("VIOLATION {}: {}", one.rule, one.what));
            self.violations.push(one);
        }
    }

    /// What was found wrong.
    pub(super) fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    pub(super) fn trace(&mut self, text: impl FnOnce() -> String) {
        self.trace.line(self.events, self.now, text);
    }

    pub(super) fn take_trace(&mut self) -> Trace {
        std::mem::take(&mut self.trace)
    }
}

/// Whose process an event is for.
fn host_of(event: &Event) -> Option<Host> {
    match event {
        Event::Arrives { to, .. } => Some(*to),
        Event::JobBegins { bookie, .. }
        | Event::JobEnds { bookie, .. }
        | Event::EngineTimer { bookie, .. }
        | Event::BookieReclaims { bookie, .. }
        | Event::EngineSays { bookie, .. }
        | Event::BookieTimer { bookie, .. } => Some(Host::Bookie(*bookie)),
        Event::ServerTimer { server, .. } | Event::ServerBroken { server, .. } => {
            Some(Host::Server(*server))
        }
        Event::MetaLeases
        | Event::MetaAudits { .. }
        | Event::MetaSweeps { .. }
        | Event::MetaCommits { .. } => Some(Host::Meta),
        _ => None,
    }
}
