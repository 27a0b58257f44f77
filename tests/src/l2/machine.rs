//! A machine and the process on it. The machine outlives its processes: its name, its disk, its stream of random numbers.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bookie::{BookieNode, NodeConfig};
use host::disk::sim::SimDisk;
use host::net::Address;
use host::{Clock, Host, Rng, SIMULATED_START, TaskFailure};
use meta_client::{MetaClient, MetaConfig};
use serving::{Bound, ServingConfig};
use tokio_util::sync::CancellationToken;
use types::ByteSize;

use super::net::SimNet;
use super::swarm::Swarm;
use super::trace::Trace;

/// Where meta listens.
const META: &str = "meta:7460";
/// Where serving nodes listen.
pub(super) const SERVING_PORT: u16 = 7450;
/// Where bookies listen.
const BOOKIE_PORT: u16 = 7470;
/// How long a starting process waits for meta.
const META_PATIENCE: Duration = Duration::from_secs(10);
/// How long a process may take to stop what it runs.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What runs on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Meta,
    Bookie,
    Serving,
}

/// How a process ended by itself, or because it was told to.
#[derive(Debug)]
pub(super) enum End {
    /// It was told to.
    Stopped,
    /// It did not come up.
    NotStarted(String),
    /// One of its tasks failed.
    Failed(TaskFailure),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("as it was told"),
            Self::NotStarted(why) => write!(f, "before it was up: {why}"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// A machine.
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) disk: SimDisk,
    rng: Rng,
    swarm: Swarm,
    net: SimNet,
    /// How long the next process waits before it starts.
    delay: Cell<Duration>,
    /// Tells the process that runs to stop.
    stop: RefCell<CancellationToken>,
    /// The clock of the process that runs.
    clock: RefCell<Option<Clock>>,
    /// How the last process ended, until somebody looks.
    end: RefCell<Option<End>>,
}

impl Machine {
    pub(super) fn new(name: String, role: Role, rng: &Rng, swarm: &Swarm, trace: &Trace) -> Self {
        let rng = rng.fork(&name);
        Self {
            disk: SimDisk::new(rng.u64()),
            name,
            role,
            rng,
            swarm: swarm.clone(),
            net: SimNet::traced(trace.clone()),
            delay: Cell::default(),
            stop: RefCell::default(),
            clock: RefCell::default(),
            end: RefCell::default(),
        }
    }

    /// The life of one process, from the start of its machine to its end.
    pub(super) async fn live(self: Rc<Self>) -> turmoil::Result {
        let stop = self.stop.borrow().clone();
        tokio::time::sleep(self.delay.get()).await;
        let run: std::pin::Pin<Box<dyn Future<Output = anyhow::Result<End>>>> = match self.role {
            Role::Meta => Box::pin(self.meta(&stop)),
            Role::Bookie => Box::pin(self.bookie(&stop)),
            Role::Serving => Box::pin(self.serving(&stop)),
        };
        let end = run
            .await
            .unwrap_or_else(|error| End::NotStarted(format!("{error:#}")));
        *self.end.borrow_mut() = Some(end);
        // What is left of it stays until the machine is booted again, which is when somebody looks.
        pending().await
    }

    /// How the process ended, if it did since somebody looked.
    pub(super) fn take_end(&self) -> Option<End> {
        self.end.borrow_mut().take()
    }

    /// Tells the process to stop.
    pub(super) fn stop(&self) {
        self.stop.borrow().cancel();
    }

    /// Moves the wall clock, back when negative.
    pub(super) fn jump(&self, by_nanos: i64) {
        if let Some(clock) = &*self.clock.borrow() {
            clock.jump_wall(by_nanos);
        }
    }

    /// Whether the process was told to stop and still runs.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.borrow().is_cancelled()
    }

    /// The next process starts so long after its machine was booted.
    pub(super) fn delay_next(&self, delay: Duration) {
        self.delay.set(delay);
        *self.stop.borrow_mut() = CancellationToken::new();
        self.end.borrow_mut().take();
    }

    /// What a new process finds.
    fn host(&self) -> Host {
        let passed = turmoil::sim_elapsed().unwrap_or_default();
        let clock = Clock::simulated(SIMULATED_START.after(passed));
        *self.clock.borrow_mut() = Some(clock.clone());
        // A process that is started again draws other numbers than the one before it.
        Host::simulated(&self.name, 0)
            .with_rng(self.rng.fork("process"))
            .with_clock(clock)
            .with_net(Arc::new(self.net.clone()))
            .with_disk(Arc::new(self.disk.clone()))
    }

    async fn meta(&self, stop: &CancellationToken) -> anyhow::Result<End> {
        let host = self.host();
        let config = meta::MetaConfig {
            listen: Address::new("0.0.0.0:7460"),
            store: meta::store::EmbeddedConfig::new("/meta"),
            nodes: meta::Nodes::Anywhere,
            audit: meta::AuditConfig {
                interval: Duration::from_secs(2),
                grace: self.swarm.grace,
                ..meta::AuditConfig::default()
            },
        };
        meta::Meta::start(&host, config).await?;
        let end = until_stopped(&host, stop).await;
        stop_tasks(&host).await;
        Ok(end)
    }

    async fn bookie(&self, stop: &CancellationToken) -> anyhow::Result<End> {
        let host = self.host();
        let mut engine = bookie::Config::new("/journal".into(), "/data".into());
        engine.journal_first_file = self.swarm.journal;
        engine.journal_file = self.swarm.journal;
        engine.group_max = ByteSize::kib(256);
        engine.entry_max = 512 << 10;
        engine.memtable = self.swarm.memtable;
        engine.cache = ByteSize::new(0);
        engine.free_low = ByteSize::mib(4);
        engine.reclaim_every = Duration::from_secs(3);
        let config = NodeConfig {
            zone: None,
            scrub: bookie::ScrubConfig::default(),
            name: self.name.parse()?,
            listen: Address::new(format!("0.0.0.0:{BOOKIE_PORT}")),
            advertise: Some(format!("{}:{BOOKIE_PORT}", self.name)),
            lease: self.swarm.lease,
            engine,
            repair: bookie::RepairConfig {
                interval: Duration::from_secs(2),
                ..bookie::RepairConfig::default()
            },
        };
        let meta = connect(&host).await?;
        let bookie = BookieNode::start(&host, config, meta).await?;
        let end = until_stopped(&host, stop).await;
        bookie.stop().await;
        Ok(end)
    }

    async fn serving(&self, stop: &CancellationToken) -> anyhow::Result<End> {
        let host = self.host();
        let listen = Address::new(format!("0.0.0.0:{SERVING_PORT}"));
        let mut config = ServingConfig::new(self.name.parse()?, listen);
        config.advertise = Some(format!("http://{}:{SERVING_PORT}", self.name));
        config.quorum = self.swarm.quorum;
        config.lease = self.swarm.lease;
        config.message_max = ByteSize::kib(64);
        config.batch_max = ByteSize::kib(256);
        let ledger = Arc::make_mut(&mut config.shard.ledger);
        ledger.ledger_entries_max = self.swarm.ledger_entries;
        config.shard.trim_interval = Duration::from_secs(2);
        config.balance.interval = Some(self.swarm.balance);
        config.balance.rest = 2 * self.swarm.balance;
        let bound = Bound::at(&host, config).await?;
        let meta = connect(&host).await?;
        let serving = bound.start(&host, meta).await?;
        let end = until_stopped(&host, stop).await;
        serving.stop().await;
        Ok(end)
    }
}

async fn connect(host: &Host) -> anyhow::Result<MetaClient> {
    let config = MetaConfig::new(vec![Address::new(META)]);
    Ok(MetaClient::connect(host, config, META_PATIENCE).await?)
}

async fn until_stopped(host: &Host, stop: &CancellationToken) -> End {
    tokio::select! {
        biased;
        () = stop.cancelled() => End::Stopped,
        joined = host.tasks.join() => joined.map_or_else(End::Failed, |()| End::Stopped),
    }
}

async fn stop_tasks(host: &Host) {
    if let Err(error) = host.tasks.stop(STOP_WITHIN).await {
        tracing::warn!(%error, "stopped with tasks left");
    }
}
