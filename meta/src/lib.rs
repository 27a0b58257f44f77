//! The service that coordinates a cluster: who owns which shard at which epoch, which bookies hold which ledger, what
//! tenants, topics and subscriptions there are, and which nodes live.
//!
//! Nodes reach it through `meta-client`. What a command may do is decided by the pure rules of [`catalog`]; a
//! [`store::Store`] carries the decision out only if nothing it rests on has changed; this crate reads, decides,
//! commits, and does it again on a conflict. Leases run on meta's own clock; their state is in the records.
#![doc = include_str!("../DESIGN.md")]

pub mod audit;
mod execute;
pub mod image;
mod leases;
mod metrics;
mod service;
mod standby;
pub mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod watch;

use std::io;
use std::sync::Arc;

use host::Host;
use host::net::{Address, Incoming};
use proto::meta_v1::meta_server::{self, MetaServer};
use proto::transport::{INTERNAL_MESSAGE_MAX, Routes, ServerOptions, serve};
use tracing::info;
use types::command::{Command, Reply};
use types::{ClusterId, Problem};

use audit::{Audit, AuditTask};
pub use audit::{AuditConfig, AuditConfigError};
use execute::{Numbering, execute};
use leases::{LeaseKeeper, LeaseTask};
use metrics::{Metrics, Timed, Watched};
use service::Service;
use standby::{Election, Front};
use store::{Embedded, EmbeddedConfig, EtcdConfig, EtcdError, EtcdStandby, OpenError, Store};
use sweep::SweepTask;

/// Where meta listens and where it keeps its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaConfig {
    /// Where nodes reach it. Port 0 takes a free one.
    pub listen: Address,
    /// The embedded store.
    pub store: EmbeddedConfig,
    /// Where the nodes of the cluster run.
    pub nodes: Nodes,
    /// How the copies of ledgers are watched over.
    pub audit: AuditConfig,
}

/// Where one of several meta processes listens, and the etcd they share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdMetaConfig {
    /// Where nodes reach it. Port 0 takes a free one.
    pub listen: Address,
    /// Where the others send nodes to while this one is active; none for where it listens.
    pub advertise: Option<Address>,
    /// The store.
    pub store: EtcdConfig,
    /// How the copies of ledgers are watched over.
    pub audit: AuditConfig,
}

/// Where the nodes of a cluster run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// In processes of their own: they may be alive while meta is not, and sure of what they hold.
    Anywhere,
    /// Only in meta's own process, as in `standalone`: when meta starts, all that were there before are gone.
    InThisProcess,
}

/// Why meta did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened; the error says what to do.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// etcd cannot be used; the error says what to do.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The address cannot be listened on.
    #[error("cannot listen, choose another address or stop who uses it address={address}")]
    Listen {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// A number that cannot be; the error says what to change.
    #[error(transparent)]
    Audit(#[from] AuditConfigError),
    /// The store does not answer, or its records do not make sense.
    #[error("the store's records cannot be used")]
    Records(#[source] Problem),
}

/// The part of a process that it is, to those who ask how it does.
const PART: &str = "meta";

/// A running meta service. It runs in the host's tasks, until they are stopped.
#[derive(Debug)]
pub struct Meta {
    address: Address,
    cluster: ClusterId,
}

impl Meta {
    /// Opens the store, starts all leases anew, and serves.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what is wrong and what to do.
    pub async fn start(host: &Host, config: MetaConfig) -> Result<Self, StartError> {
        let store = Embedded::start(host, config.store).await?;
        Self::serve(
            host,
            Arc::new(store),
            config.listen,
            config.nodes,
            config.audit,
        )
        .await
    }

    /// Serves on a store that is open.
    ///
    /// # Errors
    ///
    /// [`StartError::Listen`], [`StartError::Audit`], [`StartError::Records`].
    pub async fn serve(
        host: &Host,
        store: Arc<dyn Store>,
        listen: Address,
        nodes: Nodes,
        audit: AuditConfig,
    ) -> Result<Self, StartError> {
        audit.validate()?;
        host.health.starting(PART);
        // First, so that an address in use is told before anything else happens.
        let incoming = listen_at(host, listen).await?;
        let cluster = store.cluster();
        let service = activate(host, store, nodes, audit).await?;
        let address = serve_calls(host, incoming, server(service));
        info!(%address, %cluster, "meta serves");
        Ok(Self { address, cluster })
    }

    /// Opens etcd and stands by; becomes active when no other process on it is.
    ///
    /// Calls are answered from the beginning: with where to go, until this process is active.
    ///
    /// # Errors
    ///
    /// [`StartError::Listen`], [`StartError::Audit`], [`StartError::Etcd`].
    pub async fn start_on_etcd(host: &Host, config: EtcdMetaConfig) -> Result<Self, StartError> {
        config.audit.validate()?;
        host.health.starting(PART);
        let incoming = listen_at(host, config.listen).await?;
        let front = Front::default();
        let address = serve_calls(host, incoming, server(front.clone()));
        let standby = EtcdStandby::open(host, &config.store).await?;
        let cluster = standby.cluster();
        let election = Election {
            host: host.clone(),
            standby,
            front,
            advertise: config.advertise.unwrap_or_else(|| address.clone()),
            standing: Arc::default(),
            audit: config.audit,
        };
        host.tasks.spawn("meta-election", election.run());
        info!(%address, %cluster, "meta stands by");
        Ok(Self { address, cluster })
    }

    /// Where it listens.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Its cluster.
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }
}

async fn listen_at(host: &Host, address: Address) -> Result<Incoming, StartError> {
    let incoming = host.net.listen(&address).await;
    incoming.map_err(|source| StartError::Listen { address, source })
}

fn server<M: meta_server::Meta>(service: M) -> MetaServer<M> {
    MetaServer::new(service)
        .max_decoding_message_size(INTERNAL_MESSAGE_MAX)
        .max_encoding_message_size(INTERNAL_MESSAGE_MAX)
}

/// Answers calls until the host's tasks stop; says where.
fn serve_calls<M: meta_server::Meta>(
    host: &Host,
    incoming: Incoming,
    server: MetaServer<M>,
) -> Address {
    let address = incoming.local.clone();
    let routes = Routes::new().dated(&host.clock).add(server);
    let stop = host.tasks.token();
    host.tasks.spawn("meta-server", async move {
        let options = ServerOptions::internal();
        serve(incoming, routes, &options, stop.cancelled_owned()).await
    });
    address
}

/// Makes sure that the records are this cluster's and starts all leases anew: what a process does before it answers.
async fn activate(
    host: &Host,
    store: Arc<dyn Store>,
    nodes: Nodes,
    audit: AuditConfig,
) -> Result<Service, StartError> {
    let metrics = Arc::<Metrics>::default();
    let timed = Timed::new(store, host.clock.clone(), Arc::clone(&metrics));
    let store: Arc<dyn Store> = Arc::new(timed);
    let cluster = store.cluster();
    let numbering = Arc::new(Numbering::new());
    let bootstrap = Command::Bootstrap {
        cluster,
        at: host.clock.wall(),
    };
    let known = execute(store.as_ref(), &numbering, &bootstrap).await;
    if known.map_err(StartError::Records)? != Reply::Cluster(cluster) {
        let message = format!("the records are of another cluster cluster={cluster}");
        let problem = Problem::new(types::Reason::WrongCluster, message);
        return Err(StartError::Records(problem));
    }
    let seen = *store.revision().borrow();
    let stop = host.tasks.token();
    let clock = host.clock.clone();
    let keeper = LeaseKeeper::start(
        Arc::clone(&store),
        Arc::clone(&numbering),
        clock.clone(),
        nodes == Nodes::InThisProcess,
    );
    let keeper = keeper.await.map_err(StartError::Records)?;
    let leases = LeaseTask::new(keeper.clone(), seen, stop.clone());
    host.tasks.spawn("meta-leases", leases.run());
    let audit = Audit::new(
        Arc::clone(&store),
        Arc::clone(&numbering),
        clock.clone(),
        audit,
    );
    let auditing = AuditTask::new(audit.clone(), stop.clone());
    host.tasks.spawn("meta-audit", auditing.run());
    let watched = Arc::new(Watched {
        metrics,
        audit,
        leases: keeper,
        revision: store.revision(),
        stop: stop.clone(),
    });
    host.metrics.add(&watched);
    host.health.started(PART, &watched);
    let (sweep, sweeps) = SweepTask::new(
        Arc::clone(&store),
        Arc::clone(&numbering),
        clock.clone(),
        stop.clone(),
    );
    host.tasks.spawn("meta-sweep", sweeps.run());
    Ok(Service::new(store, numbering, watched, sweep, clock, stop))
}
