//! Asking and changing.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::Host;
use host::net::Address;
use proto::meta as wire;
use proto::meta_v1 as pb;
use proto::meta_v1::meta_client::MetaClient as Stub;
use proto::transport::{INTERNAL_MESSAGE_MAX, Rotation, Turn};
use tonic::transport::Channel;
use types::cluster::{BookieClaim, BookieRecord, MetaGeneration, SessionRecord};
use types::command::{Answer, Command, Query, Reply};
use types::{ClusterId, ErrorKind, MonoTime, Reason, SessionId};

use crate::{MetaError, MetaWatch};

/// The wait before a call is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// How long one try may take; there may be several in a call's time.
const TRY_TIMEOUT: Duration = Duration::from_secs(3);

/// The wait before a registration that another process stands in the way of is tried again.
const REGISTER_AGAIN: Duration = Duration::from_millis(500);

/// Where meta is, and how patient a node is with it.
#[derive(Debug, Clone)]
pub struct MetaConfig {
    /// The meta nodes, or some of them: one that stands by says which is active, and that one is asked then.
    pub addresses: Vec<Address>,
    /// How long a read may take, with all its tries, and a command.
    pub timeout: Duration,
}

impl MetaConfig {
    /// The defaults for meta at these addresses.
    pub const fn new(addresses: Vec<Address>) -> Self {
        Self {
            addresses,
            timeout: Duration::from_secs(5),
        }
    }
}

/// A node's connection to meta. Clones are the same connection.
#[derive(Clone)]
pub struct MetaClient {
    shared: Arc<Shared>,
}

struct Shared {
    host: Host,
    config: MetaConfig,
    cluster: ClusterId,
    /// What this node knows: it follows a move by itself, and nothing else.
    generation: Mutex<MetaGeneration>,
    nodes: Rotation,
}

/// A stub of the meta node that is asked now, and whose turn it is.
fn stub(nodes: &Rotation) -> (Stub<Channel>, Turn) {
    let (channel, turn) = nodes.now();
    let stub = Stub::new(channel)
        .max_decoding_message_size(INTERNAL_MESSAGE_MAX)
        .max_encoding_message_size(INTERNAL_MESSAGE_MAX);
    (stub, turn)
}

/// Asks another node than the one that failed: the one that it named, or the next.
fn another_node(nodes: &Rotation, failed: Turn, error: Option<&MetaError>) {
    match error {
        Some(MetaError::Unreachable {
            active: Some(active),
            ..
        }) => nodes.sent_to(failed, active),
        _ => nodes.failed(failed),
    }
}

impl MetaClient {
    /// Connects to meta and learns which cluster it is, waiting up to `patience` for it to come up.
    ///
    /// # Errors
    ///
    /// [`MetaError::Unreachable`] when it did not; [`MetaError::Refused`] when it speaks another version.
    ///
    /// # Panics
    ///
    /// Without an address.
    pub async fn connect(
        host: &Host,
        config: MetaConfig,
        patience: Duration,
    ) -> Result<Self, MetaError> {
        assert!(
            !config.addresses.is_empty(),
            "a client of meta has an address"
        );
        let host = host.fork("meta-client");
        let nodes = Rotation::new(&host.net, &config.addresses);
        let deadline = host.clock.now().after(patience);
        let (cluster, generation) = loop {
            let (stub, turn) = stub(&nodes);
            let error = match hello(&host, stub, deadline).await {
                Ok(told) => break told,
                Err(error) => error,
            };
            another_node(&nodes, turn, Some(&error));
            if !again(&host, deadline, &error).await {
                return Err(error);
            }
        };
        tracing::info!(%cluster, %generation, "connected to meta");
        Ok(Self {
            shared: Arc::new(Shared {
                host,
                config,
                cluster,
                generation: Mutex::new(generation),
                nodes,
            }),
        })
    }

    /// The cluster that meta coordinates.
    pub fn cluster(&self) -> ClusterId {
        self.shared.cluster
    }

    /// Changes the metadata.
    ///
    /// What certainly did not happen is tried again until the time is up: on another node, or after the wait that a busy
    /// one asks for. A command that may have happened is tried again only where the same command twice is the same as
    /// once. An owner's commands on its shard are not among these: their owner repeats them, and knows what to make of
    /// the answer.
    ///
    /// # Errors
    ///
    /// [`MetaError`]. After [`MetaError::OutcomeUnknown`] it may have had its effect: look, or repeat it where that
    /// does no harm.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not undo the command.
    pub async fn execute(&self, command: Command) -> Result<Reply, MetaError> {
        let is_repeatable = is_repeatable(&command);
        let command = wire::command_to_wire(&command).map_err(MetaError::Refused)?;
        let deadline = self.deadline();
        let mut was_unknown = None;
        loop {
            let (stub, turn) = stub(&self.shared.nodes);
            let tried = self.try_execute(stub, &command, is_repeatable, deadline);
            let error = match tried.await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let is_unknown = error.kind() == ErrorKind::Unknown;
            if is_unknown {
                was_unknown = Some(error.clone());
            }
            let may_pass = match error.kind() {
                ErrorKind::Retry | ErrorKind::Stopping | ErrorKind::Busy => true,
                ErrorKind::Unknown => is_repeatable,
                _ => return Err(error),
            };
            if error.kind() != ErrorKind::Busy {
                self.another_node(turn, Some(&error));
            }
            let wait = error.retry_after().unwrap_or(RETRY).max(RETRY);
            if !may_pass || !pause(&self.shared.host, wait, deadline).await {
                // An earlier try may have happened, whatever became of the last one.
                return Err(was_unknown.unwrap_or(error));
            }
        }
    }

    async fn try_execute(
        &self,
        mut stub: Stub<Channel>,
        command: &pb::Command,
        is_repeatable: bool,
        deadline: MonoTime,
    ) -> Result<Reply, MetaError> {
        let request = pb::ExecuteRequest {
            caller: Some(self.caller()),
            command: Some(command.clone()),
        };
        let deadline = if is_repeatable {
            let one_try = self.shared.host.clock.now().after(TRY_TIMEOUT);
            one_try.min(deadline)
        } else {
            deadline
        };
        let answer = self.within(deadline, stub.execute(request)).await?;
        let reply = answer.into_inner().reply;
        wire::reply(reply.ok_or_else(MetaError::odd_answer)?).map_err(MetaError::Refused)
    }

    /// Registers a bookie, before it answers anybody.
    ///
    /// A disk that is not the one of the bookie's last process (wiped, rolled back) is taken only once that process's
    /// lease has run out; this waits for it up to `patience`, since it may just have been killed.
    ///
    /// # Errors
    ///
    /// [`MetaError`]; [`Reason::ExclusiveHeld`] when another process with this identity lives on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not undo the registration; registering again from the same session does no harm.
    pub async fn register_bookie(
        &self,
        claim: BookieClaim,
        session: SessionId,
        patience: Duration,
    ) -> Result<BookieRecord, MetaError> {
        let host = &self.shared.host;
        let deadline = host.clock.now().after(patience);
        let register = Command::RegisterBookie { claim, session };
        loop {
            let error = match self.execute(register.clone()).await {
                Ok(Reply::Bookie(record)) => return Ok(record),
                Ok(_) => return Err(MetaError::odd_answer()),
                Err(error) => error,
            };
            match &error {
                MetaError::Refused(problem) if problem.reason == Reason::ExclusiveHeld => {
                    tracing::warn!(%problem, "waiting for the bookie's last process to be over");
                }
                _ => return Err(error),
            }
            if !pause(host, REGISTER_AGAIN, deadline).await {
                return Err(error);
            }
        }
    }

    /// Reads the metadata, not older than any change whose success this node knows.
    ///
    /// # Errors
    ///
    /// [`MetaError`]; reads are repeated until their time is up.
    pub async fn query(&self, query: Query) -> Result<Answer, MetaError> {
        let query = wire::query_to_wire(&query);
        let deadline = self.deadline();
        loop {
            let (stub, turn) = stub(&self.shared.nodes);
            let error = match self.ask(stub, query.clone(), deadline).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.another_node(turn, Some(&error));
            if !again(&self.shared.host, deadline, &error).await {
                return Err(error);
            }
        }
    }

    async fn ask(
        &self,
        mut stub: Stub<Channel>,
        query: pb::Query,
        deadline: MonoTime,
    ) -> Result<Answer, MetaError> {
        let request = pb::QueryRequest {
            caller: Some(self.caller()),
            query: Some(query),
        };
        let timeout = self
            .shared
            .host
            .clock
            .now()
            .after(TRY_TIMEOUT)
            .min(deadline);
        let answer = self.within(timeout, stub.query(request)).await?;
        let answer = answer
            .into_inner()
            .answer
            .ok_or_else(MetaError::odd_answer)?;
        wire::answer(answer).map_err(MetaError::Refused)
    }

    pub(crate) fn one_try(&self) -> MonoTime {
        self.shared.host.clock.now().after(TRY_TIMEOUT)
    }

    /// The answer to a single try; after a failure another node is asked next time.
    pub(crate) fn heard<T>(
        &self,
        turn: Turn,
        answer: Result<tonic::Response<T>, MetaError>,
    ) -> Result<T, MetaError> {
        if let Err(error) = &answer {
            self.another_node(turn, Some(error));
        }
        answer.map(tonic::Response::into_inner)
    }

    /// Tells what changes from now on.
    pub fn watch(&self) -> MetaWatch {
        MetaWatch::new(self.clone())
    }

    /// Says that a session's process is alive; one try.
    pub(crate) async fn keep_alive(
        &self,
        session: SessionId,
        timeout: Duration,
    ) -> Result<SessionRecord, MetaError> {
        let request = pb::KeepAliveRequest {
            caller: Some(self.caller()),
            session: session.get(),
        };
        let (mut stub, turn) = stub(&self.shared.nodes);
        let deadline = self.host().clock.now().after(timeout);
        let answer = self.within(deadline, stub.keep_alive(request)).await;
        if let Err(error) = &answer
            && error.kind() != ErrorKind::Fenced
        {
            self.another_node(turn, Some(error));
        }
        let session = answer?
            .into_inner()
            .session
            .ok_or_else(MetaError::odd_answer)?;
        wire::session(session).map_err(MetaError::Refused)
    }

    pub(crate) fn host(&self) -> &Host {
        &self.shared.host
    }

    pub(crate) fn stub(&self) -> (Stub<Channel>, Turn) {
        stub(&self.shared.nodes)
    }

    /// Asks another node than the one that failed, with this word or without one.
    pub(crate) fn another_node(&self, failed: Turn, error: Option<&MetaError>) {
        another_node(&self.shared.nodes, failed, error);
    }

    fn deadline(&self) -> MonoTime {
        self.shared
            .host
            .clock
            .now()
            .after(self.shared.config.timeout)
    }

    /// Boxed, since a call takes kilobytes and whoever asks meta seldom, a publish among them, has room for it all the time.
    pub(crate) fn within<'a, T: 'a>(
        &'a self,
        deadline: MonoTime,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send + 'a,
    ) -> Pin<Box<dyn Future<Output = Result<tonic::Response<T>, MetaError>> + Send + 'a>> {
        Box::pin(async move {
            let clock = &self.shared.host.clock;
            let error = match clock.timeout(deadline.since(clock.now()), call).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => MetaError::of(&status),
                Err(_) => {
                    let reason = "no answer in time".to_owned();
                    return Err(MetaError::OutcomeUnknown { reason });
                }
            };
            Err(self.after_move(error, deadline).await)
        })
    }

    /// After a refusal for the generation: asks for the present one, and follows when it goes on from the one known here
    /// without a break. The call did not happen, and may be tried again.
    pub(crate) async fn after_move(&self, error: MetaError, deadline: MonoTime) -> MetaError {
        match &error {
            MetaError::Refused(problem) if problem.reason == Reason::WrongGeneration => {}
            _ => return error,
        }
        let (stub, _) = self.stub();
        let told = match hello(&self.shared.host, stub, deadline).await {
            Ok((cluster, told)) if cluster == self.cluster() => told,
            Ok(_) => return error,
            Err(error) => return error,
        };
        let mut known = self.generation();
        // Another call may have followed meanwhile.
        if !told.is(&known) {
            if !told.goes_on_from(&known) {
                return error;
            }
            tracing::info!(from = %*known, to = %told, "meta was moved to another store");
            *known = told;
        }
        MetaError::Unreachable {
            reason: "meta was moved to another store; it is asked again".to_owned(),
            active: None,
        }
    }

    fn generation(&self) -> MutexGuard<'_, MetaGeneration> {
        let generation = &self.shared.generation;
        generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who asks.
    pub(crate) fn caller(&self) -> pb::Caller {
        wire::caller_of(self.cluster(), &self.generation())
    }
}

/// Whether the same command twice is the same as once, also when another node's commands come between.
const fn is_repeatable(command: &Command) -> bool {
    match command {
        Command::OpenSession { .. }
        | Command::EndSession { .. }
        | Command::RegisterBookie { .. }
        | Command::ReportBookie { .. }
        | Command::DrainBookie { .. }
        | Command::RetireBookie { .. }
        | Command::DrainServing { .. }
        | Command::CopiesWhole { .. }
        | Command::ActivateSubscription { .. }
        | Command::DeleteSubscription { .. }
        | Command::UpdateTopic { .. }
        | Command::DeleteTopic { .. }
        | Command::AcceptLoss { .. } => true,
        // A second try would be told that the name is taken, and not by whom.
        Command::CreateTenant { .. }
        | Command::CreateNamespace { .. }
        | Command::CreateTopic { .. }
        | Command::CreateSubscription { .. }
        // Their owner repeats them.
        | Command::ClaimShard(_)
        | Command::ChangeShard(_)
        // Meta's own.
        | Command::Bootstrap { .. }
        | Command::AssignCopy { .. }
        | Command::ReviveSession { .. }
        | Command::SweepShard { .. }
        | Command::ExpireSession { .. } => false,
    }
}

/// Waits before another try; false when there is no time for one.
async fn pause(host: &Host, wait: Duration, deadline: MonoTime) -> bool {
    if host.clock.now().after(wait) >= deadline {
        return false;
    }
    host.clock.sleep(wait).await;
    true
}

/// Whether a harmless call that failed is to be tried again: after a pause, while there is time.
async fn again(host: &Host, deadline: MonoTime, error: &MetaError) -> bool {
    let may_pass = matches!(
        error.kind(),
        ErrorKind::Retry | ErrorKind::Unknown | ErrorKind::Stopping | ErrorKind::Busy
    );
    let wait = error.retry_after().unwrap_or(RETRY).max(RETRY);
    may_pass && pause(host, wait, deadline).await
}

async fn hello(
    host: &Host,
    mut stub: Stub<Channel>,
    deadline: MonoTime,
) -> Result<(ClusterId, MetaGeneration), MetaError> {
    let request = pb::HelloRequest {
        caller: Some(wire::caller(None)),
    };
    let left = deadline.since(host.clock.now()).min(TRY_TIMEOUT);
    match host.clock.timeout(left, stub.hello(request)).await {
        Ok(Ok(answer)) => wire::hello_from_wire(answer.get_ref()).map_err(MetaError::Refused),
        Ok(Err(status)) => Err(MetaError::of(&status)),
        Err(_) => Err(MetaError::Unreachable {
            reason: "no answer in time".to_owned(),
            active: None,
        }),
    }
}

impl fmt::Debug for MetaClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetaClient")
            .field("cluster", &self.cluster())
            .finish_non_exhaustive()
    }
}
