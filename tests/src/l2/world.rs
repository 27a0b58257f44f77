//! The cluster and its phases: it comes up, harm is done, it heals, it comes to rest.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use host::Rng;
use host::disk::sim::Latency;

use super::client::CLIENTS;
use super::load::{KEEPER, Load, Stage};
use super::machine::{End, Machine, Role};
use super::marks::Marks;
use super::nemesis::Nemesis;
use super::swarm::Swarm;
use super::trace::Trace;
use crate::history::{Event, Fault, HistoryWriter, Name, Phase};

/// How long the cluster may take to come up.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to come to rest after everything is healed.
const REST_WITHIN: Duration = Duration::from_secs(60);
/// Longer than any run.
const FOR_GOOD: Duration = Duration::from_secs(1_000_000);
/// Room for packets that wait on a connection: turmoil panics where it is full.
const TCP_CAPACITY: usize = 65_536;

/// What a machine suffers when its process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The process alone: what was written is still there.
    Process,
    /// Its power: what was not synced is kept, lost or torn.
    Power,
    /// Its disk.
    Disk,
}

/// The cluster, its clients, and everything between them.
pub(super) struct World {
    pub(super) swarm: Swarm,
    pub(super) sim: turmoil::Sim<'static>,
    pub(super) machines: Vec<Rc<Machine>>,
    pub(super) rng: Rng,
    pub(super) marks: Marks,
    pub(super) load: Rc<Load>,
    /// Machines that never come back.
    gone: BTreeSet<usize>,
    trace: Trace,
    history: HistoryWriter,
    problems: Vec<String>,
    /// From the end of the harm to the end of everything.
    pub(super) rest: Duration,
}

impl World {
    pub(super) fn new(swarm: &Swarm, trace: &Trace, history: &HistoryWriter) -> Self {
        let rng = Rng::seeded(swarm.seed);
        let mut sim = turmoil::Builder::new()
            .rng_seed(rng.u64())
            .simulation_duration(Duration::from_secs(3_600))
            .min_message_latency(Duration::ZERO)
            .max_message_latency(swarm.latency)
            .tcp_capacity(TCP_CAPACITY)
            .enable_random_order()
            .build();
        let mut roles = vec![("meta".to_owned(), Role::Meta)];
        roles.extend((1..=swarm.bookies).map(|n| (format!("bookie-{n}"), Role::Bookie)));
        roles.extend((1..=swarm.servers).map(|n| (format!("serving-{n}"), Role::Serving)));
        let machines: Vec<Rc<Machine>> = roles
            .into_iter()
            .map(|(name, role)| Rc::new(Machine::new(name, role, &rng, swarm, trace)))
            .collect();
        for machine in &machines {
            let process = Rc::clone(machine);
            sim.host(&*machine.name, move || Rc::clone(&process).live());
        }
        let load = Rc::new(Load::new(swarm, &rng, trace, history));
        for (index, name) in CLIENTS.into_iter().enumerate() {
            let load = Rc::clone(&load);
            sim.host(name, move || Rc::clone(&load).client_lives(index));
        }
        sim.client(KEEPER, Rc::clone(&load).keeper_lives());
        let world = Self {
            swarm: swarm.clone(),
            sim,
            machines,
            rng,
            marks: Marks::default(),
            load,
            gone: BTreeSet::new(),
            trace: trace.clone(),
            history: history.clone(),
            problems: Vec::new(),
            rest: Duration::ZERO,
        };
        world.calm();
        world
    }

    /// Runs all phases. What went wrong comes back.
    pub(super) fn run(&mut self) -> Vec<String> {
        let flows = |world: &Self| world.load.stage() >= Stage::Flowing;
        if !self.until(UP_WITHIN, None, flows) {
            return self.failed("the cluster does not come up");
        }
        let mut nemesis = Nemesis::new(&self.swarm, &self.rng);
        let chaos = self.swarm.chaos;
        self.until(chaos, Some(&mut nemesis), |_| false);
        self.note("everything heals");
        self.calm();
        self.lose_for_good();
        // With too few bookies nothing comes to rest; a drained serving node may stay so.
        self.load.operator.take_bookies_back();
        self.load.settle();
        let begun = self.sim.elapsed();
        let is_over = self.until(REST_WITHIN, None, |world| world.load.stage() == Stage::Done);
        self.rest = self.sim.elapsed().saturating_sub(begun);
        self.marks.add(&self.load.marks());
        if !is_over {
            return self.failed("the cluster does not come to rest");
        }
        self.failed("")
    }

    /// Everything that is wrong, beginning with this.
    fn failed(&mut self, what: &str) -> Vec<String> {
        let mut problems = std::mem::take(&mut self.problems);
        problems.extend(self.load.problems());
        if !what.is_empty() {
            problems.insert(0, format!("{what}: {}", self.load.describe()));
        }
        problems
    }

    /// Lets time pass until something is there, at most so long. Whether it is.
    fn until(
        &mut self,
        within: Duration,
        mut nemesis: Option<&mut Nemesis>,
        is_there: impl Fn(&Self) -> bool,
    ) -> bool {
        let end = self.sim.elapsed() + within;
        while self.sim.elapsed() < end {
            if !self.problems.is_empty() || is_there(self) {
                break;
            }
            if let Some(nemesis) = nemesis.as_deref_mut() {
                nemesis.act(self);
            }
            if let Err(error) = self.sim.step() {
                self.problems.push(format!("a machine failed: {error}"));
            }
            self.look_after();
        }
        is_there(self)
    }

    /// Starts processes again that have ended.
    fn look_after(&mut self) {
        for index in 0..self.machines.len() {
            let Some(end) = self.machines[index].take_end() else {
                continue;
            };
            let name = self.machines[index].name.clone();
            self.note(&format!("{name} ends: {end}"));
            self.marks.hit(match &end {
                End::Stopped => "process ended as told",
                End::NotStarted(_) => "process did not come up",
                End::Failed(_) => "process ended by itself",
            });
            if let End::Failed(failure) = &end
                && failure.panicked
            {
                self.problems.push(format!("{name} panicked: {failure}"));
            }
            let delay = Duration::from_millis(self.rng.within(100..=2_000));
            self.boot(index, Loss::Process, delay);
        }
    }

    /// Ends whatever runs on a machine, and starts a process there after a while.
    pub(super) fn boot(&mut self, index: usize, loss: Loss, delay: Duration) {
        if self.gone.contains(&index) {
            return;
        }
        let machine = Rc::clone(&self.machines[index]);
        machine.delay_next(delay);
        if loss == Loss::Process {
            self.sim.bounce(&*machine.name);
            machine.disk.crash_process();
            return;
        }
        // What the dying process still does as it is dropped must not reach the disk.
        machine.disk.cut_power();
        self.sim.bounce(&*machine.name);
        machine.disk.crash(&self.rng);
        if loss == Loss::Disk {
            machine.disk.wipe(std::path::Path::new("/"));
        }
    }

    /// Ends a client's process, and starts another there after a while.
    pub(super) fn boot_client(&mut self, index: usize, delay: Duration) {
        let machine = &self.load.clients[index];
        machine.delay_next(delay);
        self.sim.bounce(machine.name);
    }

    /// Takes away the machines that never come back, unless that was done.
    pub(super) fn lose_for_good(&mut self) {
        let (bookie, server) = self.swarm.gone;
        let bookie = bookie.map(|n| 1 + n);
        let server = server.map(|n| 1 + self.swarm.bookies + n);
        for index in bookie.into_iter().chain(server) {
            if self.gone.contains(&index) {
                continue;
            }
            let name = self.machines[index].name.clone();
            self.harmed("machine gone for good", &name);
            self.boot(index, Loss::Power, FOR_GOOD);
            self.gone.insert(index);
        }
    }

    /// Ends all harm: links work, disks work, messages are quick.
    fn calm(&self) {
        self.sim.set_max_message_latency(self.swarm.latency);
        let names: Vec<&str> = self.names().collect();
        for (at, one) in names.iter().enumerate() {
            for other in &names[at + 1..] {
                self.sim.release(*one, *other);
            }
        }
        for machine in &self.machines {
            machine.disk.heal();
            machine.disk.set_capacity(None);
            machine.disk.set_latency(usual_latency());
        }
    }

    /// The machines of the cluster, then those of the clients.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let machines = self.machines.iter().map(|machine| &*machine.name);
        machines.chain(CLIENTS).chain([KEEPER])
    }

    /// Writes down that harm is done.
    pub(super) fn harmed(&mut self, what: &str, whom: &str) {
        self.marks.hit(what);
        self.note(&format!("{what}: {whom}"));
        let nanos = self.sim.elapsed().as_nanos();
        self.history.record(&Event::Nem(Fault {
            f: Name::from(what),
            x: Name::from(whom),
            ph: Phase::Start,
            t: u64::try_from(nanos).ok(),
        }));
    }

    pub(super) fn note(&self, text: &str) {
        self.trace.line(self.sim.elapsed(), &format!("** {text}"));
    }
}

/// How long a healthy disk takes.
pub(super) fn usual_latency() -> Latency {
    Latency {
        per_sync: Duration::from_millis(1),
        ..Latency::default()
    }
}
