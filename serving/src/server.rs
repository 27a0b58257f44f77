//! A running serving node: its place in meta, its listeners, its start and its stop.

use std::future::ready;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bookie_client::{BookiePool, Directory, LocalBookie, PoolConfig};
use host::Host;
use host::net::{Address, Incoming};
use meta_client::{MetaClient, MetaError, Session, SessionConfig, WatchEvent};
use proto::hot;
use proto::raw::v1 as pb;
use proto::serving_v1::moves_server::MovesServer;
use proto::transport::{PUBLIC_MESSAGE_MAX, Routes, ServerOptions, serve};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use types::cluster::{BookieDuty, BookieRecord, NodeRole};
use types::command::{Answer, Change, Query};

use crate::balance::{self, Balance};
use crate::budget::Budget;
use crate::config::{ServingConfig, ServingConfigError};
use crate::forward::Peers;
use crate::moves::Coming;
use crate::node::Node;
use crate::routes;
use crate::services::Services;
use crate::shard::ShardParts;
use crate::tail_memory::TailMemory;

/// How long a stop waits for meta to say who can take the shards.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// How long a stop waits for the tasks of the node at least, when its time is over before.
const TASKS_WITHIN: Duration = Duration::from_secs(2);
/// How often the bookies are looked at without being told of a change: what a watch missed is found out so.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Names under which health is told: the node, its services, and whether it takes requests.
const HEALTH: [&str; 4] = [
    "",
    "ledgerline.v1.Publisher",
    "ledgerline.v1.Subscriber",
    "readiness",
];

/// The part of a process that it is, to those who ask how it does.
const PART: &str = "serving";

/// Why a serving node does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// A setting is out of bounds.
    #[error(transparent)]
    Config(#[from] ServingConfigError),
    /// The address it is to listen at.
    #[error(
        "cannot listen, is another process there? choose another with --listen address={address}"
    )]
    Listen {
        /// The address.
        address: Address,
        /// The system's word.
        source: io::Error,
    },
    /// Meta refused it, or did not answer.
    #[error("meta did not admit the serving node")]
    Meta(#[from] MetaError),
    /// The descriptors of the API cannot be served: a defect of the build.
    #[error("the descriptors of the api are broken")]
    Descriptors(#[from] tonic_reflection::server::Error),
}

/// A running serving node.
#[derive(Debug)]
pub struct Serving {
    node: Arc<Node>,
    local: Address,
    session: Session,
    health: HealthReporter,
    closing: CancellationToken,
}

/// A serving node that has its address and answers nothing yet.
pub struct Bound {
    config: ServingConfig,
    incoming: Incoming,
    local_bookie: Option<Arc<dyn LocalBookie>>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bound").field(&self.incoming.local).finish()
    }
}

impl Bound {
    /// Checks the settings and takes the address: what can be refused before anything else is opened.
    ///
    /// # Errors
    ///
    /// [`ServingError::Config`], [`ServingError::Listen`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn at(host: &Host, config: ServingConfig) -> Result<Self, ServingError> {
        config.validate()?;
        let incoming =
            host.net
                .listen(&config.listen)
                .await
                .map_err(|source| ServingError::Listen {
                    address: config.listen.clone(),
                    source,
                })?;
        Ok(Self {
            config,
            incoming,
            local_bookie: None,
        })
    }

    /// Has it call a bookie of the same process, instead of connecting to it.
    #[must_use]
    pub fn beside(self, bookie: Arc<dyn LocalBookie>) -> Self {
        Self {
            local_bookie: Some(bookie),
            ..self
        }
    }

    /// Starts the node. Its tasks are a part of `host`'s.
    ///
    /// # Errors
    ///
    /// [`ServingError`]; each message names what to change.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the node may be half started; stop the tasks of `host`.
    pub async fn start(self, host: &Host, meta: MetaClient) -> Result<Serving, ServingError> {
        let Self {
            config,
            incoming,
            local_bookie,
        } = self;
        let host = host.fork("serving");
        host.health.starting(PART);
        let local = incoming.local.clone();
        let endpoint = config
            .advertise
            .clone()
            .unwrap_or_else(|| format!("http://{local}"));
        let session = open_session(&host, &meta, &config, &local, &endpoint).await?;
        let bookies = watch::Sender::new(bookies(&meta).await?);
        let directory = Directory::new(bookies.subscribe());
        let pool = PoolConfig::default();
        let parts = Arc::new(ShardParts {
            pool: BookiePool::new(&host, pool, meta.cluster(), directory, local_bookie),
            meta: meta.clone(),
            budget: Budget::new(config.memory),
            tails: TailMemory::new(config.tail_memory),
            lease: session.clone(),
            metrics: Arc::default(),
        });
        let node = Arc::new(Node {
            cluster: meta.cluster(),
            session: session.id(),
            endpoint,
            meta: meta.clone(),
            parts,
            peers: Peers::new(Arc::clone(&host.net)),
            routes: routes::Routes::default(),
            topics: Mutex::default(),
            shards: Mutex::default(),
            deleting: Mutex::default(),
            coming: Coming::default(),
            balance: Balance::default(),
            is_stopping: false.into(),
            host,
            shard_config: Arc::new(config.shard.clone()),
            config,
        });
        node.host
            .tasks
            .spawn("follow", follow(Arc::clone(&node), bookies));
        node.host
            .tasks
            .spawn("follow-session", follow_session(Arc::clone(&node)));
        node.host
            .tasks
            .spawn("balance", balance::run(Arc::clone(&node)));
        // A failure stops all tasks: one that did not hear of it would keep the process from ending.
        let closing = node.host.tasks.token().child_token();
        let health = HealthReporter::new();
        listen(&node, incoming, &health, closing.clone()).await?;
        node.host.metrics.add(&node);
        node.host.health.started(PART, &node);
        tracing::info!(
            node = %node.config.name, session = %node.session, address = %local,
            endpoint = %node.endpoint, "serving"
        );
        Ok(Serving {
            node,
            local,
            session,
            health,
            closing,
        })
    }
}

impl Serving {
    /// Takes the address and starts a serving node: [`Bound::at`] and [`Bound::start`].
    ///
    /// # Errors
    ///
    /// [`ServingError`]; each message names what to change.
    ///
    /// # Cancel safety
    ///
    /// As [`Bound::start`].
    pub async fn start(
        host: &Host,
        config: ServingConfig,
        meta: MetaClient,
    ) -> Result<Self, ServingError> {
        Bound::at(host, config).await?.start(host, meta).await
    }

    /// Where it listens.
    pub const fn local(&self) -> &Address {
        &self.local
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> &str {
        &self.node.endpoint
    }

    /// Stops it cleanly: takes no new shards, confirms what is in flight, moves its shards to other nodes, or gives them
    /// up so that others claim them at once, and ends its session.
    pub async fn stop(self) {
        let within = self.node.config.drain_timeout;
        let by = self.node.host.clock.now().after(within);
        self.health
            .set_service_status("readiness", ServingStatus::NotServing)
            .await;
        self.node.refuse_new();
        Box::pin(balance::give_away(&self.node, LOOK_WITHIN, by)).await;
        let left = by.since(self.node.host.clock.now());
        let released = self.node.served().into_iter().map(|shard| async move {
            shard.release(left).await;
        });
        futures::future::join_all(released).await;
        self.closing.cancel();
        self.session.end().await;
        let left = by.since(self.node.host.clock.now()).max(TASKS_WITHIN);
        if let Err(error) = self.node.host.tasks.stop(left).await {
            tracing::warn!(%error, "serving node stopped with tasks left");
        }
    }
}

async fn open_session(
    host: &Host,
    meta: &MetaClient,
    config: &ServingConfig,
    local: &Address,
    endpoint: &str,
) -> Result<Session, MetaError> {
    let config = SessionConfig {
        role: NodeRole::Serving,
        name: config.name.clone(),
        address: local.to_string(),
        endpoint: endpoint.to_owned(),
        lease: config.lease,
    };
    Session::open(host, meta, config).await
}

/// Serves everything that clients may call.
async fn listen(
    node: &Arc<Node>,
    incoming: Incoming,
    health: &HealthReporter,
    closing: CancellationToken,
) -> Result<(), ServingError> {
    for name in HEALTH {
        health
            .set_service_status(name, ServingStatus::Serving)
            .await;
    }
    let services = Services::new(Arc::clone(node));
    macro_rules! server {
        ($module:ident :: $server:ident) => {
            pb::$module::$server::new(services.clone())
                .max_decoding_message_size(PUBLIC_MESSAGE_MAX)
                .max_encoding_message_size(PUBLIC_MESSAGE_MAX)
        };
    }
    let health = tonic_health::server::HealthService::from_health_reporter(health.clone());
    let metrics = Arc::clone(&node.parts.metrics);
    let mut all = Routes::new()
        .dated(&node.host.clock)
        .on_refusal(move |problem| metrics.refused(problem.reason))
        .add(server!(publisher_server::PublisherServer))
        .add(server!(subscriber_server::SubscriberServer))
        .hot(hot::PUBLISH, {
            let services = services.clone();
            move |request| ready(Ok(services.publishing(request)))
        })
        .hot(hot::PUBLISH_ONCE, {
            let services = services.clone();
            move |request| services.clone().publishing_once(request)
        })
        .hot(hot::CONSUME, {
            let services = services.clone();
            move |request| ready(Ok(services.consuming(request)))
        })
        .add(server!(routing_server::RoutingServer))
        .add(server!(tenant_service_server::TenantServiceServer))
        .add(server!(namespace_service_server::NamespaceServiceServer))
        .add(server!(topic_service_server::TopicServiceServer))
        .add(server!(
            subscription_service_server::SubscriptionServiceServer
        ))
        .add(server!(cluster_service_server::ClusterServiceServer))
        .add(MovesServer::new(services.clone()))
        .add(tonic_health::pb::health_server::HealthServer::new(health));
    if node.config.reflection {
        let descriptors = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        all = all
            .add(descriptors().build_v1()?)
            .add(descriptors().build_v1alpha()?);
    }
    let shutdown = closing.cancelled_owned();
    node.host.tasks.spawn("serve", async move {
        serve(incoming, all, &ServerOptions::public(), shutdown).await
    });
    Ok(())
}

async fn bookies(meta: &MetaClient) -> Result<Arc<[BookieRecord]>, MetaError> {
    match meta.query(Query::Bookies).await? {
        Answer::Bookies(bookies) => Ok(bookies.into()),
        _ => Err(MetaError::odd_answer()),
    }
}

/// Follows meta's changes: which bookies there are, and who owns which shard.
async fn follow(node: Arc<Node>, directory: watch::Sender<Arc<[BookieRecord]>>) {
    let mut changes = node.meta.watch();
    let stop = node.host.tasks.token();
    loop {
        let look = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            event = changes.next() => match event {
                WatchEvent::Changed(event) => {
                    node.routes.changed(&event.change);
                    match &event.change {
                        Change::Shard(shard) => node.record_changed(Some(*shard)),
                        Change::Topic(name) => node.forget_topic(name),
                        Change::Session(_) => node.balance.look_soon(),
                        _ => {}
                    }
                    matches!(event.change, Change::Bookie(_) | Change::Session(_))
                }
                WatchEvent::Missed => {
                    node.routes.reset();
                    node.forget_topics();
                    node.record_changed(None);
                    true
                }
            },
            () = node.host.clock.sleep(LOOK_AGAIN) => true,
        };
        if look {
            match bookies(&node.meta).await {
                Ok(bookies) => tell(&node, &directory, bookies),
                Err(error) => tracing::debug!(%error, "the bookies are not known anew"),
            }
        }
    }
}

/// Tells the shards when there is something new about the bookies that they choose among: a node has many shards, and looks
/// often.
fn tell(node: &Node, told: &watch::Sender<Arc<[BookieRecord]>>, bookies: Arc<[BookieRecord]>) {
    // Again and again while one is drained: a shard that could not leave it when it was told does so later.
    let is_drained = bookies.iter().any(|it| it.duty == BookieDuty::Draining);
    let directory = node.parts.pool.directory();
    let before = directory.candidates();
    told.send_replace(bookies);
    // Equal ones are the same.
    if is_drained || !Arc::ptr_eq(&before, &directory.candidates()) {
        node.bookies_changed();
    }
}

/// Tells the shards when the lease of the node's session lapsed, or is certain again, and when the node's tasks are to stop.
async fn follow_session(node: Arc<Node>) {
    let mut certain = node.parts.lease.certain();
    let stop = node.host.tasks.token();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return node.look(),
            changed = certain.changed() => match changed {
                Ok(()) => node.look(),
                // Nobody keeps it any more: its time runs out, which each shard sees before its next event.
                Err(_) => stop.cancelled().await,
            },
        }
    }
}
