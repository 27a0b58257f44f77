//! The harm, drawn as the run goes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use host::Rng;
use host::disk::sim::{Fault, Latency, OpKind};

use super::client::CLIENTS;
use super::machine::Role;
use super::swarm::{Harm, Swarm};
use super::world::{Loss, World, usual_latency};

/// Bytes that a disk which is said to be full may still take, at most.
const ROOM_MAX: u64 = 6 << 20;
/// How long a stop may take before the process is killed.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Who does the harm.
pub(super) struct Nemesis {
    rng: Rng,
    harms: Vec<Harm>,
    gap: Duration,
    /// When the next harm is done.
    next: Duration,
    /// What is due, by time and number.
    agenda: BTreeMap<(Duration, u64), Due>,
    numbers: u64,
    /// The bookie whose disk may be emptied, until it was.
    victim: Option<usize>,
    /// Whether machines are still to go for good.
    will_lose: bool,
}

/// Something that is due at a time.
enum Due {
    /// The links work again.
    Release(Vec<(String, String)>),
    /// Messages are quick again.
    Quick,
    /// A disk works again.
    Disk(usize),
    /// A process is stopped.
    Stop(usize),
    /// A process that should have stopped is killed.
    Kill(usize),
    /// A node need not be empty any more.
    Undrain(usize),
    /// A client dies, for so long.
    Client(usize, Duration),
}

impl Nemesis {
    pub(super) fn new(swarm: &Swarm, rng: &Rng) -> Self {
        let rng = rng.fork("nemesis");
        let mut harms = swarm.harms.clone();
        harms.retain(|harm| *harm != Harm::Wipe);
        // Once in a run, at any time of it.
        let victim = swarm.harms.contains(&Harm::Wipe);
        let victim = victim.then(|| 1 + rng.index(swarm.bookies));
        Self {
            rng,
            harms,
            gap: swarm.gap,
            next: Duration::ZERO,
            agenda: BTreeMap::new(),
            numbers: 0,
            victim,
            will_lose: swarm.gone_early,
        }
    }

    /// Does what is due now.
    pub(super) fn act(&mut self, world: &mut World) {
        let now = world.sim.elapsed();
        while let Some(first) = self.agenda.first_entry() {
            if first.key().0 > now {
                break;
            }
            let due = first.remove();
            self.undo(world, due);
        }
        if self.next == Duration::ZERO {
            self.next = now + self.pause();
        }
        if now >= self.next {
            self.next = now + self.pause();
            self.harm(world);
        }
    }

    /// Until the next harm. Sometimes nothing happens for a while.
    fn pause(&self) -> Duration {
        let gap = u64::try_from(self.gap.as_millis()).unwrap_or(u64::MAX);
        let factor = if self.rng.one_in(8) { 4 } else { 1 };
        Duration::from_millis(factor * self.rng.within(gap / 2..=gap * 3 / 2))
    }

    fn later(&mut self, world: &World, after: Duration, due: Due) {
        self.numbers += 1;
        let at = world.sim.elapsed() + after;
        self.agenda.insert((at, self.numbers), due);
    }

    fn undo(&mut self, world: &mut World, due: Due) {
        match due {
            Due::Release(links) => {
                world.note("links work again");
                for (one, other) in &links {
                    world.sim.release(&**one, &**other);
                }
            }
            Due::Quick => world.sim.set_max_message_latency(world.swarm.latency),
            Due::Disk(index) => {
                let disk = &world.machines[index].disk;
                disk.set_capacity(None);
                disk.set_latency(usual_latency());
                world.note(&format!("disk works again: {}", world.machines[index].name));
            }
            Due::Stop(index) => self.stop(world, index, Harm::Roll.name()),
            Due::Client(index, off) => world.boot_client(index, off),
            Due::Undrain(index) => {
                let machine = &world.machines[index];
                world.note(&format!("need not be drained any more: {}", machine.name));
                let operator = &world.load.operator;
                operator.want(&machine.name, machine.role, false);
            }
            Due::Kill(index) => {
                if world.machines[index].is_stopping() {
                    let name = world.machines[index].name.clone();
                    world.harmed("process killed that did not stop", &name);
                    world.boot(index, Loss::Process, Duration::from_secs(1));
                }
            }
        }
    }

    fn harm(&mut self, world: &mut World) {
        if let Some(victim) = self.victim
            && self.rng.one_in(6)
        {
            self.victim = None;
            let name = world.machines[victim].name.clone();
            world.harmed(Harm::Wipe.name(), &name);
            let delay = self.off();
            world.boot(victim, Loss::Disk, delay);
            return;
        }
        if self.will_lose && self.rng.one_in(8) {
            self.will_lose = false;
            world.lose_for_good();
            return;
        }
        if self.harms.is_empty() {
            return;
        }
        let harm = self.harms[self.rng.index(self.harms.len())];
        let index = self.rng.index(world.machines.len());
        let name = world.machines[index].name.clone();
        match harm {
            Harm::Kill | Harm::Power => {
                world.harmed(harm.name(), &name);
                let loss = if harm == Harm::Kill {
                    Loss::Process
                } else {
                    Loss::Power
                };
                world.boot(index, loss, self.off());
            }
            Harm::Silence => self.silence(world, index),
            Harm::ClientKill | Harm::ClientSilence => self.client(world, harm),
            Harm::Drain => self.drain(world),
            Harm::Blackout => {
                world.harmed(harm.name(), "all");
                for index in 0..world.machines.len() {
                    world.boot(index, Loss::Power, self.off());
                }
            }
            Harm::Stop => self.stop(world, index, harm.name()),
            Harm::Roll => self.roll(world),
            Harm::Partition | Harm::OneWay | Harm::Hold => self.cut(world, harm),
            Harm::Latency => {
                let most = Duration::from_millis(self.rng.within(20..=100));
                world.harmed(harm.name(), &format!("up to {most:?}"));
                world.sim.set_max_message_latency(most);
                let after = self.span();
                self.later(world, after, Due::Quick);
            }
            Harm::DiskSlow | Harm::SyncError | Harm::DiskFull => self.disk(world, harm),
            Harm::Clock => {
                let hour = 3_600_000;
                let by = self.rng.within(0..=2 * hour).cast_signed() - hour.cast_signed();
                world.harmed(harm.name(), &format!("{name} by {by} ms"));
                world.machines[index].jump(by * 1_000_000);
            }
            Harm::Wipe => {}
        }
    }

    /// How long a machine is off: often only just.
    fn off(&self) -> Duration {
        let most = if self.rng.one_in(3) { 10_000 } else { 1_500 };
        Duration::from_millis(self.rng.within(0..=most))
    }

    /// How long something lasts: as often shorter than a lease as longer.
    fn span(&self) -> Duration {
        let most = if self.rng.one_in(2) { 10_000 } else { 1_500 };
        Duration::from_millis(self.rng.within(50..=most))
    }

    fn stop(&mut self, world: &mut World, index: usize, harm: &str) {
        let name = world.machines[index].name.clone();
        world.harmed(harm, &name);
        world.machines[index].stop();
        self.later(world, STOP_WITHIN, Due::Kill(index));
    }

    fn roll(&mut self, world: &World) {
        let role = if self.rng.one_in(2) {
            Role::Bookie
        } else {
            Role::Serving
        };
        let mut after = Duration::ZERO;
        for (index, machine) in world.machines.iter().enumerate() {
            if machine.role == role {
                self.later(world, after, Due::Stop(index));
                after += Duration::from_millis(self.rng.within(500..=6_000));
            }
        }
    }

    /// Power fails, and nobody hears of it: connections do not end, they only fall silent.
    fn silence(&mut self, world: &mut World, index: usize) {
        let name = world.machines[index].name.clone();
        world.harmed(Harm::Silence.name(), &name);
        let links = links_of(world, &name);
        for (one, other) in &links {
            world.sim.partition(&**one, &**other);
        }
        let off = self.off();
        world.boot(index, Loss::Power, off);
        self.later(world, off, Due::Release(links));
    }

    /// A client dies, and comes back. Before that, perhaps, it hears nothing any more, and perhaps is not heard either.
    fn client(&mut self, world: &mut World, harm: Harm) {
        let index = self.rng.index(CLIENTS.len());
        world.harmed(harm.name(), CLIENTS[index]);
        let off = self.off();
        if harm == Harm::ClientKill {
            world.boot_client(index, off);
            return;
        }
        let is_heard = self.rng.one_in(2);
        let links = links_of(world, CLIENTS[index]);
        for (client, other) in &links {
            let (client, other) = (&**client, &**other);
            if is_heard {
                world.sim.partition_oneway(other, client);
            } else {
                world.sim.partition(client, other);
            }
        }
        let after = Duration::from_millis(self.rng.within(0..=1_500));
        self.later(world, after, Due::Client(index, off));
        self.later(world, after + off, Due::Release(links));
    }

    /// A node is to be emptied, for a while.
    fn drain(&mut self, world: &mut World) {
        let nodes: Vec<usize> = (0..world.machines.len())
            .filter(|index| world.machines[*index].role != Role::Meta)
            .collect();
        let index = nodes[self.rng.index(nodes.len())];
        let machine = Rc::clone(&world.machines[index]);
        world.harmed(Harm::Drain.name(), &machine.name);
        let operator = &world.load.operator;
        operator.want(&machine.name, machine.role, true);
        let after = 2 * self.span();
        self.later(world, after, Due::Undrain(index));
    }

    /// Links stop to work: between two machines, around one, or between two groups.
    fn cut(&mut self, world: &mut World, harm: Harm) {
        let names: Vec<String> = world.names().map(str::to_owned).collect();
        let one = self.rng.index(names.len());
        let is_in: Vec<bool> = match self.rng.below(3) {
            0 => (0..names.len()).map(|at| at == one).collect(),
            1 => names.iter().map(|_| self.rng.one_in(2)).collect(),
            _ => Vec::new(),
        };
        let mut links = Vec::new();
        for (at, from) in names.iter().enumerate() {
            for (to_at, to) in names.iter().enumerate() {
                let is_cut = match &*is_in {
                    [] => {
                        at == one
                            && to_at == (one + 1 + self.rng.index(names.len() - 1)) % names.len()
                    }
                    is_in => is_in[at] && !is_in[to_at],
                };
                if is_cut && at != to_at {
                    links.push((from.clone(), to.clone()));
                }
            }
        }
        let text: Vec<String> = links.iter().map(|(a, b)| format!("{a}>{b}")).collect();
        world.harmed(harm.name(), &text.join(" "));
        for (one, other) in &links {
            let (one, other) = (&**one, &**other);
            match harm {
                Harm::OneWay => world.sim.partition_oneway(one, other),
                Harm::Hold => world.sim.hold(one, other),
                _ => world.sim.partition(one, other),
            }
        }
        let after = self.span();
        self.later(world, after, Due::Release(links));
    }

    /// A disk is slow, full, or fails to sync.
    fn disk(&mut self, world: &mut World, harm: Harm) {
        let with_disk: Vec<usize> = (0..world.machines.len())
            .filter(|index| match world.machines[*index].role {
                Role::Bookie => true,
                Role::Meta => harm != Harm::DiskFull,
                Role::Serving => false,
            })
            .collect();
        let index = with_disk[self.rng.index(with_disk.len())];
        let name = world.machines[index].name.clone();
        world.harmed(harm.name(), &name);
        let disk = world.machines[index].disk.clone();
        match harm {
            Harm::DiskSlow => disk.set_latency(Latency {
                per_op: Duration::from_micros(self.rng.within(0..=2_000)),
                per_sync: Duration::from_millis(self.rng.within(10..=500)),
                jitter_max: Duration::from_millis(self.rng.within(0..=20)),
                ..Latency::default()
            }),
            Harm::DiskFull => {
                let files = disk.files();
                let sizes = files.iter().filter_map(|path| disk.contents(path).ok());
                let used: usize = sizes.map(|bytes| bytes.len()).sum();
                let used = u64::try_from(used).unwrap_or(u64::MAX);
                disk.set_capacity(Some(used + self.rng.below(ROOM_MAX)));
            }
            _ => disk.fail_next(OpKind::Sync, Fault::Io),
        }
        if harm != Harm::SyncError {
            let after = self.span();
            self.later(world, after, Due::Disk(index));
        }
    }
}

/// The links between a machine and all others, the machine first.
fn links_of(world: &World, name: &str) -> Vec<(String, String)> {
    let others = world.names().filter(|other| *other != name);
    others
        .map(|other| (name.to_owned(), other.to_owned()))
        .collect()
}
