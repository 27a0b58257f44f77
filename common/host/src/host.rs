//! The seams of one node, together.

use std::sync::Arc;

use crate::clock::Clock;
use crate::compute::Compute;
use crate::disk::{Disk, RealDisk};
use crate::health::Health;
use crate::metrics::Registry;
use crate::net::{Net, Network};
use crate::rng::Rng;
use crate::tasks::Tasks;
use crate::worker::DiskWorker;

/// What a node asks of its machine. Clones are cheap and share everything; [`Host::fork`] makes the host of a part.
#[derive(Debug, Clone)]
pub struct Host {
    /// The name of the node or part, for threads, logs and reports.
    pub name: Arc<str>,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// The network.
    pub net: Arc<dyn Net>,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The tasks of the node, stopped together.
    pub tasks: Tasks,
    /// Where long computations run.
    pub compute: Compute,
    /// Its numbers.
    pub metrics: Registry,
    /// Whether its parts may be sent work.
    pub health: Health,
}

impl Host {
    /// The real machine: system clocks, entropy of the operating system, TCP (and pipes of its own for addresses that
    /// begin with `pipe:`), the file system.
    pub fn real(name: &str) -> Self {
        Self {
            name: Arc::from(name),
            clock: Clock::real(),
            rng: Rng::from_os(),
            net: Arc::new(Network::default()),
            disk: Arc::new(RealDisk),
            tasks: Tasks::new(name),
            compute: Compute::threads(),
            metrics: Registry::default(),
            health: Health::default(),
        }
    }

    /// A host for tests: pipes for a network, a simulated disk, a wall clock that follows tokio's time, and
    /// everything drawn from `seed`. Network and disk are its own: nodes that shall meet share one `Pipes`
    /// ([`Host::with_net`]), and a test keeps a clone of a node's `SimDisk` ([`Host::with_disk`]) to crash it.
    #[cfg(any(test, feature = "sim"))]
    pub fn simulated(name: &str, seed: u64) -> Self {
        let rng = Rng::seeded(seed).fork(name);
        Self {
            name: Arc::from(name),
            clock: Clock::simulated(crate::clock::SIMULATED_START),
            net: Arc::new(crate::net::Pipes::new()),
            disk: Arc::new(crate::disk::sim::SimDisk::new(rng.u64())),
            rng,
            tasks: Tasks::new(name),
            compute: Compute::inline(),
            metrics: Registry::default(),
            health: Health::default(),
        }
    }

    /// The same host on another network.
    #[must_use]
    pub fn with_net(self, net: Arc<dyn Net>) -> Self {
        Self { net, ..self }
    }

    /// The same host on another disk.
    #[must_use]
    pub fn with_disk(self, disk: Arc<dyn Disk>) -> Self {
        Self { disk, ..self }
    }

    /// The same host with another clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The same host with other randomness.
    #[must_use]
    pub fn with_rng(self, rng: Rng) -> Self {
        Self { rng, ..self }
    }

    /// The same host with another tree of tasks: a node of its own, whose failure does not stop its neighbours.
    #[must_use]
    pub fn with_tasks(self, tasks: Tasks) -> Self {
        Self { tasks, ..self }
    }

    /// The host of a part: its tasks are a child of this host's (stopped with them, a failure stops both), its
    /// randomness is independent of this host's, the rest is shared.
    #[must_use]
    pub fn fork(&self, name: &str) -> Self {
        Self {
            name: Arc::from(name),
            clock: self.clock.clone(),
            rng: self.rng.fork(name),
            net: Arc::clone(&self.net),
            disk: Arc::clone(&self.disk),
            tasks: self.tasks.child(name),
            compute: self.compute.clone(),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
        }
    }

    /// Starts a worker for blocking calls on this host's disk: an OS thread, or a task where the disk is simulated.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime when the disk is simulated; when the system has no thread left.
    pub fn disk_worker(&self, name: &str) -> DiskWorker {
        DiskWorker::start(self, name)
    }
}
