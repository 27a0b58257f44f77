//! A running bookie: the engine's task, its disk workers, its place in meta, and its gRPC service.
//!
//! The order of a start: listen (nothing is answered yet), lock and read the directories, raise the incarnation, open
//! a session, tell meta what was found, make meta's answer durable, and only then answer. So a bookie does not start
//! while meta is away. The order of a stop: no new calls, the journal closed with an end frame, the session ended.

pub mod asking;
mod handle;
mod local;
mod metrics;
mod reclaim;
pub mod repair;
mod scrub;
mod service;
mod streams;
mod task;
mod usage;

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bookie_client::LocalBookie;
use host::Host;
use host::net::{Address, Incoming};
use meta_client::{MetaClient, MetaError, Session, SessionConfig};
use proto::bookie_v1::bookie_server::BookieServer;
use proto::hot;
use proto::transport::{INTERNAL_MESSAGE_MAX, Routes, ServerOptions, serve};
use tokio_util::sync::CancellationToken;
use tonic::Response;
use types::cluster::{BookieClaim, BookieRecord, BookieState, NodeRole};
use types::command::Command;
use types::{BookieId, NodeName, ZoneName};

use crate::{Config, Engine, OpenError, Opening, Place, Standing};
use handle::{EngineHandle, Report};
use metrics::{Metrics, Readiness};
use repair::{Damage, RepairMetrics, RepairTask};
pub use repair::{RepairConfig, RepairConfigError};
pub use scrub::{ScrubConfig, ScrubConfigError};
use scrub::{ScrubMetrics, ScrubTask};
use service::Service;

/// How long a stop waits for what is under way.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How long to wait before meta is told again what it did not take.
const REPORT_AGAIN: Duration = Duration::from_secs(1);

/// How often meta is told how the bookie stands when nothing changes: a report whose answer never came may be carried
/// out after a newer one.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// How many leases a bookie whose disk is new under a known name waits for the older process to be gone.
const TAKEOVER_LEASES: u32 = 3;

/// A bookie of a cluster.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name, unique among the bookies of the cluster. A disk belongs to one name.
    pub name: NodeName,
    /// Where it listens for serving nodes: `host:port`.
    pub listen: Address,
    /// Where serving nodes reach it: `host:port`. None: where it listens.
    pub advertise: Option<String>,
    /// Its failure domain: copies of a ledger are spread over as many as there are. None: it fails alone.
    pub zone: Option<ZoneName>,
    /// How long it counts as alive after a keep-alive.
    pub lease: Duration,
    /// Its storage.
    pub engine: Config,
    /// How it repairs its copies.
    pub repair: RepairConfig,
    /// How it looks for damage.
    pub scrub: ScrubConfig,
}

impl NodeConfig {
    /// Checks the bounds, before anything is opened.
    ///
    /// # Errors
    ///
    /// [`NodeError`] names the setting.
    pub fn validate(&self) -> Result<(), NodeError> {
        self.engine.validate().map_err(OpenError::from)?;
        self.repair.validate()?;
        self.scrub.validate()?;
        Ok(())
    }
}

/// Why a bookie does not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its directories.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The address it is to listen at.
    #[error(
        "bookie cannot listen, is another process there? choose another with --listen address={address}"
    )]
    Listen {
        /// The address.
        address: Address,
        /// The system's word.
        source: io::Error,
    },
    /// A number that cannot be; the error says what to change.
    #[error(transparent)]
    Repair(#[from] RepairConfigError),
    /// A number that cannot be; the error says what to change.
    #[error(transparent)]
    Scrub(#[from] ScrubConfigError),
    /// Meta refused it, or did not answer.
    #[error("meta did not admit the bookie")]
    Meta(#[from] MetaError),
    /// The node was stopped while it started.
    #[error("stopped while starting")]
    Stopped,
}

/// A running bookie.
#[derive(Debug)]
pub struct BookieNode {
    host: Host,
    record: BookieRecord,
    local: Address,
    engine: EngineHandle,
    service: Service,
    session: Session,
    closing: CancellationToken,
    readiness: Arc<Readiness>,
    /// Told as long as the bookie is there.
    _metrics: Arc<Metrics>,
}

/// The part of a process that it is, to those who ask how it does.
const PART: &str = "bookie";

impl BookieNode {
    /// Starts a bookie. Its tasks are a part of `host`'s: a failed write or sync fails them all.
    ///
    /// # Errors
    ///
    /// [`NodeError`]; each message names what to change.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the bookie may be half started; stop the tasks of `host`.
    pub async fn start(
        host: &Host,
        config: NodeConfig,
        meta: MetaClient,
    ) -> Result<Self, NodeError> {
        config.validate()?;
        let host = host.fork("bookie");
        host.health.starting(PART);
        // First, so that an address in use is told before anything else happens.
        let incoming =
            host.net
                .listen(&config.listen)
                .await
                .map_err(|source| NodeError::Listen {
                    address: config.listen.clone(),
                    source,
                })?;
        let opening = survey(&host, &config, &meta).await?;
        let local = incoming.local.clone();
        let address = config
            .advertise
            .clone()
            .unwrap_or_else(|| local.to_string());
        let session = open_session(&host, &config, &meta, address.clone()).await?;
        let claim = BookieClaim {
            zone: config.zone.clone(),
            ..opening.claim(address)
        };
        let record = meta
            .register_bookie(claim, session.id(), config.lease * TAKEOVER_LEASES)
            .await?;
        let engine = finish(&host, opening, &record, &local).await?;
        tell_start(&meta, &session, record.id, engine.mark()).await?;
        let metrics = Arc::new(Metrics::default());
        let damage = Damage::default();
        let (engine, reports) = task::start(&host, engine, Arc::clone(&metrics), damage.clone());
        let readiness = Readiness::new(host.clock.clone(), session.clone(), reports.clone());
        let readiness = Arc::new(readiness);
        host.metrics.add(&metrics);
        host.metrics.add(&readiness);
        let told = report_changes(
            host.clone(),
            meta.clone(),
            session.clone(),
            record.id,
            reports,
        );
        host.tasks.spawn("report", told);
        let every = config.engine.reclaim_every;
        let asked = reclaim::reclaim(host.clone(), meta.clone(), record.id, engine.clone(), every);
        host.tasks.spawn("reclaim", asked);
        let service = Service::new(&host, &config, meta.cluster(), &record, engine.clone());
        // A failure stops all tasks: one that did not hear of it would keep the process from ending.
        let closing = host.tasks.token().child_token();
        listen(&host, incoming, service.clone(), closing.clone());
        host.health.started(PART, &readiness);
        let node = Self {
            host,
            record,
            local,
            engine,
            service,
            session,
            closing,
            readiness,
            _metrics: metrics,
        };
        node.start_repair(config.repair, meta, damage);
        node.start_scrub(config.scrub);
        Ok(node)
    }

    fn start_repair(&self, config: RepairConfig, meta: MetaClient, damage: Damage) {
        let metrics = Arc::new(RepairMetrics::default());
        self.host.metrics.add(&metrics);
        let repair = RepairTask {
            host: self.host.clone(),
            config,
            meta,
            session: self.session.clone(),
            own: self.record.clone(),
            engine: self.engine.clone(),
            damage,
            metrics,
            closing: self.closing.clone(),
        };
        self.host.tasks.spawn("repair", repair.run());
    }

    fn start_scrub(&self, config: ScrubConfig) {
        let metrics = Arc::new(ScrubMetrics::default());
        self.host.metrics.add(&metrics);
        let scrub = ScrubTask {
            host: self.host.clone(),
            config,
            engine: self.engine.clone(),
            metrics,
            closing: self.closing.clone(),
        };
        self.host.tasks.spawn("scrub", scrub.run());
    }

    /// Its number.
    pub const fn id(&self) -> BookieId {
        self.record.id
    }

    /// The bookie for a serving node of the same process, which need not connect to it.
    pub fn in_process(&self) -> Arc<dyn LocalBookie> {
        let (service, engine) = (self.service.clone(), self.engine.clone());
        Arc::new(local::Local::new(service, engine, self.closing.clone()))
    }

    /// Where it listens.
    pub const fn local(&self) -> &Address {
        &self.local
    }

    /// Stops it cleanly: what was taken is on the disk, and the next start needs no recovery.
    pub async fn stop(self) {
        self.readiness.stop();
        self.closing.cancel();
        self.engine.stop().await;
        self.session.end().await;
        if let Err(error) = self.host.tasks.stop(STOP_WITHIN).await {
            tracing::warn!(%error, "bookie stopped with tasks left");
        }
    }
}

/// Begins the bookie's life in meta's eyes.
async fn open_session(
    host: &Host,
    config: &NodeConfig,
    meta: &MetaClient,
    address: String,
) -> Result<Session, MetaError> {
    let session = SessionConfig {
        role: NodeRole::Bookie,
        name: config.name.clone(),
        address,
        endpoint: String::new(),
        lease: config.lease,
    };
    Session::open(host, meta, session).await
}

/// Answers whoever connects, until it is told to close.
fn listen(host: &Host, incoming: Incoming, service: Service, closing: CancellationToken) {
    let server = BookieServer::new(service.clone())
        .max_decoding_message_size(INTERNAL_MESSAGE_MAX)
        .max_encoding_message_size(INTERNAL_MESSAGE_MAX);
    let routes = Routes::new()
        .dated(&host.clock)
        .add(server)
        .hot(hot::ADD_ENTRIES, {
            let service = service.clone();
            move |request| ready(Ok(Response::new(service.open_adds(request))))
        })
        .hot(hot::READ_RUN, move |request| {
            let service = service.clone();
            async move {
                service
                    .run_asked(request.into_inner())
                    .await
                    .map(Response::new)
            }
        });
    host.tasks.spawn("serve", async move {
        let closed = closing.cancelled_owned();
        serve(incoming, routes, &ServerOptions::internal(), closed).await
    });
}

/// Locks and reads the directories.
async fn survey(host: &Host, config: &NodeConfig, meta: &MetaClient) -> Result<Opening, NodeError> {
    let place = Place {
        cluster: meta.cluster(),
        name: config.name.clone(),
        entropy: host.rng.u128(),
    };
    let (engine, disk) = (config.engine.clone(), Arc::clone(&host.disk));
    let worker = host.disk_worker("survey");
    let opening = worker
        .run(move || Opening::start(engine, disk, place))
        .await;
    Ok(opening.map_err(|_| NodeError::Stopped)??)
}

/// Makes meta's answer durable, and opens.
async fn finish(
    host: &Host,
    opening: Opening,
    record: &BookieRecord,
    local: &Address,
) -> Result<Engine, NodeError> {
    let (worker, now, to_finish) = (host.disk_worker("open"), host.clock.now(), record.clone());
    let opened = worker.run(move || opening.finish(&to_finish, now)).await;
    let (engine, report) = opened.map_err(|_| NodeError::Stopped)??;
    for damage in &report.damage {
        tracing::warn!(%damage, "found on the disk");
    }
    tracing::info!(
        bookie = %report.id, born = %report.born, incarnation = %report.incarnation,
        frames = report.frames, records = report.records, cut_tail = report.cut_tail,
        direct_io = report.direct,
        address = %local, "bookie open"
    );
    Ok(engine)
}

/// Tells meta the mark of this start, before anything is answered: a disk that is set back to before it falls short of
/// the mark from now on, however often it is started again.
async fn tell_start(
    meta: &MetaClient,
    session: &Session,
    id: BookieId,
    mark: u64,
) -> Result<(), MetaError> {
    let report = Command::ReportBookie {
        id,
        session: session.id(),
        mark,
        state: BookieState::ReadWrite,
    };
    meta.execute(report).await.map(drop)
}

/// Tells meta how the bookie stands and how far its journal is, the newest word only, beginning with how it stands at
/// the start: by registering it counts as writable. What meta does not take is told again: a bookie that is writable and
/// does not count as such would get no new ledgers for as long as it stays so.
async fn report_changes(
    host: Host,
    meta: MetaClient,
    session: Session,
    id: BookieId,
    mut reports: tokio::sync::watch::Receiver<Report>,
) {
    reports.mark_changed();
    loop {
        tokio::select! {
            biased;
            changed = reports.changed() => if changed.is_err() {
                return; // The engine's task has ended.
            },
            () = host.clock.sleep(REPORT_EVERY) => {}
        }
        let Report { mark, standing } = *reports.borrow_and_update();
        let state = match standing {
            Standing::ReadWrite => BookieState::ReadWrite,
            Standing::ReadOnly => BookieState::ReadOnly,
        };
        let report = Command::ReportBookie {
            id,
            session: session.id(),
            mark,
            state,
        };
        if let Err(error) = meta.execute(report).await {
            tracing::warn!(%error, "meta was not told how the bookie stands");
            host.clock.sleep(REPORT_AGAIN).await;
            if reports.has_changed().is_err() {
                return; // The engine's task has ended.
            }
            reports.mark_changed();
        }
    }
}
