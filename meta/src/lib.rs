//! The service that coordinates a cluster: who owns which shard at which epoch, which bookies hold which ledger, what
//! tenants, topics and subscriptions there are, and which nodes live.
//!
//! Nodes reach it through `meta-client`. What a command may do is decided by the pure rules of [`catalog`]; a
//! [`store::Store`] carries the decision out only if nothing it rests on has changed; this crate reads, decides,
//! commits, and does it again on a conflict. Leases run on meta's own clock; their state is in the records.
#![doc = include_str!("../DESIGN.md")]

mod execute;
mod leases;
mod metrics;
mod service;
pub mod store;
#[cfg(test)]
mod tests;
mod watch;

use std::io;
use std::sync::Arc;

use host::Host;
use host::net::Address;
use proto::meta_v1::meta_server::MetaServer;
use proto::transport::{INTERNAL_MESSAGE_MAX, Routes, ServerOptions, serve};
use tracing::info;
use types::command::{Command, Reply};
use types::{ClusterId, Problem};

use execute::{Numbering, execute};
use leases::{LeaseKeeper, LeaseTask};
use metrics::{Metrics, Timed, Watched};
use service::Service;
use store::{Embedded, EmbeddedConfig, OpenError, Store};

/// Where meta listens and where it keeps its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaConfig {
    /// Where nodes reach it. Port 0 takes a free one.
    pub listen: Address,
    /// The embedded store.
    pub store: EmbeddedConfig,
    /// Where the nodes of the cluster run.
    pub nodes: Nodes,
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
    /// The address cannot be listened on.
    #[error("cannot listen, choose another address or stop who uses it address={address}")]
    Listen {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
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
        Self::serve(host, Arc::new(store), config.listen, config.nodes).await
    }

    /// Serves on a store that is open.
    ///
    /// # Errors
    ///
    /// [`StartError::Listen`], [`StartError::Records`].
    pub async fn serve(
        host: &Host,
        store: Arc<dyn Store>,
        listen: Address,
        nodes: Nodes,
    ) -> Result<Self, StartError> {
        host.health.starting(PART);
        // First, so that an address in use is told before anything else happens.
        let incoming = host.net.listen(&listen).await;
        let incoming = incoming.map_err(|source| StartError::Listen {
            address: listen,
            source,
        })?;
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
        let watched = Arc::new(Watched {
            metrics,
            leases: keeper,
            revision: store.revision(),
            stop: stop.clone(),
        });
        host.metrics.add(&watched);
        host.health.started(PART, &watched);
        let service = Service::new(store, numbering, watched, clock, stop.clone());
        let server = MetaServer::new(service)
            .max_decoding_message_size(INTERNAL_MESSAGE_MAX)
            .max_encoding_message_size(INTERNAL_MESSAGE_MAX);
        let address = incoming.local.clone();
        let routes = Routes::new().add(server);
        host.tasks.spawn("meta-server", async move {
            let options = ServerOptions::internal();
            serve(incoming, routes, &options, stop.cancelled_owned()).await
        });
        info!(%address, %cluster, "meta serves");
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
