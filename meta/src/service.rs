//! `ledgerline.meta.v1.Meta`: checks who asks, bounds how much is asked at once, and turns words into wire form.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::debug;

use host::Clock;
use proto::meta as wire;
use proto::meta_v1 as pb;
use proto::meta_v1::meta_server;
use proto::status::to_status;
use types::command::Command;
use types::{ClusterId, Problem, Reason, Revision, SessionId};

use crate::execute::{Numbering, ask, execute};
use crate::metrics::Watched;
use crate::store::Store;
use crate::sweep::Sweep;
use crate::watch::watch;

/// Most commands and queries at a time.
const CALLS_MAX: usize = 1024;
/// Most watches at a time.
const WATCHES_MAX: usize = 4096;
/// How long a call may take, whatever its caller would wait.
const DEADLINE: Duration = Duration::from_secs(20);
/// When to come back after too many calls at once.
const RETRY: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub(crate) struct Service {
    store: Arc<dyn Store>,
    numbering: Arc<Numbering>,
    watched: Arc<Watched>,
    sweep: Sweep,
    clock: Clock,
    stop: CancellationToken,
    calls: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

impl Service {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        numbering: Arc<Numbering>,
        watched: Arc<Watched>,
        sweep: Sweep,
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        Self {
            store,
            numbering,
            watched,
            sweep,
            clock,
            stop,
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            watches: Arc::new(Semaphore::new(WATCHES_MAX)),
        }
    }

    fn cluster(&self) -> ClusterId {
        self.store.cluster()
    }

    /// Refuses who is of another cluster, of another version, or knows another generation of the metadata.
    fn check_caller(&self, caller: Option<&pb::Caller>) -> Result<(), Problem> {
        wire::check_caller(caller, self.cluster())?;
        wire::check_generation(caller, &self.store.generation())
    }

    /// Runs a call within its bounds. `late` is what to say when it takes too long.
    async fn bounded<T>(
        &self,
        late: Reason,
        call: impl Future<Output = Result<T, Problem>>,
    ) -> Result<Response<T>, Status> {
        let run = async {
            let _permit = admit(&self.calls, CALLS_MAX)?;
            let within = self.clock.timeout(DEADLINE, call).await;
            within.unwrap_or_else(|_| {
                let message = format!("meta did not finish in time deadline={DEADLINE:?}");
                Err(Problem::new(late, message))
            })
        };
        run.await.map(Response::new).map_err(|problem| {
            debug!(%problem, reason = %problem.reason, "call refused");
            to_status(&problem)
        })
    }
}

fn admit(semaphore: &Arc<Semaphore>, limit: usize) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(semaphore).try_acquire_owned().map_err(|_| {
        Problem::new(Reason::Overloaded, "meta has too many calls at once")
            .with("limit", limit)
            .retry_after(RETRY)
    })
}

#[tonic::async_trait]
impl meta_server::Meta for Service {
    type WatchStream = BoxStream<'static, Result<pb::WatchResponse, Status>>;

    async fn hello(
        &self,
        request: Request<pb::HelloRequest>,
    ) -> Result<Response<pb::HelloResponse>, Status> {
        let request = request.into_inner();
        let checked = wire::check_newcomer(request.caller.as_ref(), self.cluster());
        checked.map_err(|problem| to_status(&problem))?;
        let revision = *self.store.revision().borrow();
        let generation = self.store.generation();
        Ok(Response::new(wire::hello(
            self.cluster(),
            &generation,
            revision,
        )))
    }

    async fn execute(
        &self,
        request: Request<pb::ExecuteRequest>,
    ) -> Result<Response<pb::ExecuteResponse>, Status> {
        let request = request.into_inner();
        let call = async {
            self.check_caller(request.caller.as_ref())?;
            let command = request.command.unwrap_or_default();
            let command = wire::command(command, self.clock.wall())?;
            self.watched.audit.permits(&command).await?;
            let reply = execute(self.store.as_ref(), &self.numbering, &command).await;
            self.watched.metrics.command(&command, &reply);
            let reply = reply?;
            self.sweep.done(&command, &reply);
            if let Command::CopiesWhole { bookie, copies, .. } = &command {
                self.watched.audit.whole(*bookie, copies);
            }
            let reply = Some(wire::reply_to_wire(&reply));
            Ok(pb::ExecuteResponse { reply })
        };
        self.bounded(Reason::OutcomeUnknown, call).await
    }

    async fn query(
        &self,
        request: Request<pb::QueryRequest>,
    ) -> Result<Response<pb::QueryResponse>, Status> {
        let request = request.into_inner();
        let call = async {
            self.check_caller(request.caller.as_ref())?;
            let query = wire::query(request.query.unwrap_or_default())?;
            let (answer, revision) = ask(self.store.as_ref(), &query).await?;
            Ok(pb::QueryResponse {
                answer: Some(wire::answer_to_wire(&answer)),
                revision: revision.get(),
            })
        };
        self.bounded(Reason::Unreachable, call).await
    }

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let admitted = self
            .check_caller(request.caller.as_ref())
            .and_then(|()| admit(&self.watches, WATCHES_MAX));
        let permit = admitted.map_err(|problem| to_status(&problem))?;
        let after = request.after.map(Revision::new);
        let changes = watch(Arc::clone(&self.store), after, self.stop.clone());
        let changes = changes.map(move |message| {
            let _held = &permit; // As long as the stream lives.
            message
        });
        Ok(Response::new(changes.boxed()))
    }

    async fn keep_alive(
        &self,
        request: Request<pb::KeepAliveRequest>,
    ) -> Result<Response<pb::KeepAliveResponse>, Status> {
        let request = request.into_inner();
        // Signs of life are not counted among the calls: refusing them would make a busy time a deadly one.
        let call = async {
            self.check_caller(request.caller.as_ref())?;
            let session = self
                .watched
                .leases
                .keep_alive(SessionId::new(request.session))
                .await?;
            let session = Some(wire::session_to_wire(&session));
            Ok(pb::KeepAliveResponse { session })
        };
        let answer: Result<_, Problem> = call.await;
        answer
            .map(Response::new)
            .map_err(|problem| to_status(&problem))
    }

    async fn due_copies(
        &self,
        request: Request<pb::DueCopiesRequest>,
    ) -> Result<Response<pb::DueCopiesResponse>, Status> {
        let request = request.into_inner();
        let call = async {
            self.check_caller(request.caller.as_ref())?;
            let due = self.watched.audit.due(&wire::due_ask(&request)).await?;
            Ok(wire::due_answer_to_wire(&due))
        };
        self.bounded(Reason::Unreachable, call).await
    }

    async fn repair_plan(
        &self,
        request: Request<pb::RepairPlanRequest>,
    ) -> Result<Response<pb::RepairPlanResponse>, Status> {
        let request = request.into_inner();
        let call = async {
            self.check_caller(request.caller.as_ref())?;
            Ok(wire::plan_to_wire(&self.watched.audit.plan()))
        };
        self.bounded(Reason::Unreachable, call).await
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}
