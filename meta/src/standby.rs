//! Meta processes over one etcd: one is active, the others stand by.
//!
//! Whoever has the leader key serves as a meta process on a store of its own does: it restarts all leases, then answers.
//! All others answer every call with where to go. When its term is over, by word of etcd or by its own clock, an active
//! process stops at once what it does and stands by again.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::stream::BoxStream;
use tonic::{Request, Response, Status};
use tracing::{error, info, warn};

use host::net::Address;
use host::{Host, Probe};
use proto::meta_v1 as pb;
use proto::meta_v1::meta_server;
use proto::status::to_status;

use crate::execute::not_active;
use crate::service::Service;
use crate::store::{Candidate, EtcdStandby, Lead, Look};
use crate::{AuditConfig, Nodes, PART, StartError, activate};

/// How often one that stands by looks whether anybody is active.
const LOOK: Duration = Duration::from_millis(250);

/// What answers the calls: the service while this process is active, a refusal while it stands by.
#[derive(Clone, Default)]
pub(crate) struct Front {
    role: Arc<RwLock<Role>>,
}

enum Role {
    Active(Box<Service>),
    Standby { active: Option<String> },
}

impl Default for Role {
    fn default() -> Self {
        Self::Standby { active: None }
    }
}

impl Front {
    fn set(&self, role: Role) {
        *self.role.write().unwrap_or_else(PoisonError::into_inner) = role;
    }

    fn service(&self) -> Result<Service, Status> {
        match &*self.role.read().unwrap_or_else(PoisonError::into_inner) {
            Role::Active(service) => Ok(service.as_ref().clone()),
            Role::Standby { active } => Err(to_status(&not_active(active.as_deref()))),
        }
    }
}

#[tonic::async_trait]
impl meta_server::Meta for Front {
    type WatchStream = BoxStream<'static, Result<pb::WatchResponse, Status>>;

    async fn hello(
        &self,
        request: Request<pb::HelloRequest>,
    ) -> Result<Response<pb::HelloResponse>, Status> {
        self.service()?.hello(request).await
    }

    async fn execute(
        &self,
        request: Request<pb::ExecuteRequest>,
    ) -> Result<Response<pb::ExecuteResponse>, Status> {
        self.service()?.execute(request).await
    }

    async fn query(
        &self,
        request: Request<pb::QueryRequest>,
    ) -> Result<Response<pb::QueryResponse>, Status> {
        self.service()?.query(request).await
    }

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.service()?.watch(request).await
    }

    async fn keep_alive(
        &self,
        request: Request<pb::KeepAliveRequest>,
    ) -> Result<Response<pb::KeepAliveResponse>, Status> {
        self.service()?.keep_alive(request).await
    }

    async fn due_copies(
        &self,
        request: Request<pb::DueCopiesRequest>,
    ) -> Result<Response<pb::DueCopiesResponse>, Status> {
        self.service()?.due_copies(request).await
    }

    async fn repair_plan(
        &self,
        request: Request<pb::RepairPlanRequest>,
    ) -> Result<Response<pb::RepairPlanResponse>, Status> {
        self.service()?.repair_plan(request).await
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").finish_non_exhaustive()
    }
}

/// Competes for the leader key, and serves while it has it.
pub(crate) struct Election {
    pub(crate) host: Host,
    pub(crate) standby: EtcdStandby,
    pub(crate) front: Front,
    /// Where others are sent when this process is active.
    pub(crate) advertise: Address,
    /// How the copies of ledgers are watched over.
    pub(crate) audit: AuditConfig,
    /// How it does while it stands by.
    pub(crate) standing: Arc<StandingBy>,
}

/// A process that stands by does what it is there for as long as etcd answers it.
#[derive(Debug, Default)]
pub(crate) struct StandingBy {
    is_cut_off: AtomicBool,
}

impl Probe for StandingBy {
    fn ready(&self) -> Result<(), &'static str> {
        if self.is_cut_off.load(Ordering::Relaxed) {
            return Err("etcd does not answer");
        }
        Ok(())
    }
}

impl Election {
    /// Runs until the node stops; then gives the key back.
    pub(crate) async fn run(self) {
        let stop = self.host.tasks.token();
        let mut candidate = Candidate::new(&self.standby, self.advertise.to_string());
        let mut last = None;
        self.host.health.started(PART, &self.standing);
        loop {
            let look = tokio::select! {
                biased; // Stop first.
                () = stop.cancelled() => return,
                look = candidate.look() => look,
            };
            let is_cut_off = look.is_err();
            self.standing
                .is_cut_off
                .store(is_cut_off, Ordering::Relaxed);
            match look {
                Ok(Look::Active(lead)) => {
                    last = None;
                    self.serve(&candidate, &lead).await;
                    self.host.health.started(PART, &self.standing);
                    candidate.resign(lead).await;
                }
                Ok(Look::Other(active)) => {
                    if last != active {
                        info!(active, "another meta node is active, standing by");
                        last.clone_from(&active);
                    }
                    self.front.set(Role::Standby { active });
                }
                Err(error) => {
                    warn!(%error, "it is not known which meta node is active");
                    // Nor is what was said of it before.
                    last = None;
                    self.front.set(Role::default());
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.host.clock.sleep(LOOK) => {}
            }
        }
    }

    /// Serves until the term is over, or the node stops.
    async fn serve(&self, candidate: &Candidate, lead: &Lead) {
        let term = self.host.fork("term");
        let active = async {
            let store = Arc::new(self.standby.store(lead));
            let service = activate(&term, store, Nodes::Anywhere, self.audit.clone()).await?;
            self.front.set(Role::Active(Box::new(service)));
            info!(address = %self.advertise, "this meta node is active");
            std::future::pending::<Result<(), StartError>>().await
        };
        tokio::select! {
            biased;
            () = term.tasks.stopped() => info!("this meta node stops"),
            () = candidate.keep(lead) => warn!("this meta node is not active any more"),
            Err(problem) = active => error!(%problem, "this meta node cannot become active"),
        }
        // In this order: nobody is answered any more, watchers are sent on, what still runs is refused by the store.
        self.front.set(Role::default());
        term.tasks.cancel();
    }
}
