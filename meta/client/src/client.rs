//! Asking and changing.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use host::Host;
use host::net::Address;
use proto::meta as wire;
use proto::meta_v1 as pb;
use proto::meta_v1::meta_client::MetaClient as Stub;
use proto::transport::{ChannelOptions, INTERNAL_MESSAGE_MAX, channel_with};
use tonic::transport::Channel;
use types::cluster::SessionRecord;
use types::command::{Answer, Command, Query, Reply};
use types::{ClusterId, ErrorKind, MonoTime, SessionId};

use crate::{MetaError, MetaWatch};

/// The wait before a call is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// How long one try may take; there may be several in a call's time.
const TRY_TIMEOUT: Duration = Duration::from_secs(3);

/// Where meta is, and how patient a node is with it.
#[derive(Debug, Clone)]
pub struct MetaConfig {
    /// The meta nodes: any of them answers.
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
    nodes: Nodes,
}

/// The meta nodes and which of them is asked.
struct Nodes {
    channels: Vec<Channel>,
    turn: AtomicUsize,
}

impl Nodes {
    fn new(host: &Host, addresses: &[Address]) -> Self {
        let options = ChannelOptions {
            connect_timeout: Duration::from_secs(1),
            keepalive_interval: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(2),
            ..ChannelOptions::default()
        };
        let channel = |address| channel_with(&host.net, address, &options);
        let channels = addresses.iter().map(channel).collect();
        Self {
            channels,
            turn: AtomicUsize::new(0),
        }
    }

    fn stub(&self) -> Stub<Channel> {
        let turn = self.turn.load(Ordering::Relaxed) % self.channels.len();
        Stub::new(self.channels[turn].clone())
            .max_decoding_message_size(INTERNAL_MESSAGE_MAX)
            .max_encoding_message_size(INTERNAL_MESSAGE_MAX)
    }

    fn next(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
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
        let nodes = Nodes::new(&host, &config.addresses);
        let deadline = host.clock.now().after(patience);
        let hello = async || {
            let request = pb::HelloRequest {
                caller: Some(wire::caller(None)),
            };
            let answer = nodes
                .stub()
                .hello(request)
                .await
                .map_err(|s| MetaError::of(&s))?;
            wire::hello_from_wire(answer.get_ref()).map_err(MetaError::Refused)
        };
        let cluster = repeat(&host, &nodes, deadline, hello).await?;
        tracing::info!(%cluster, "connected to meta");
        Ok(Self {
            shared: Arc::new(Shared {
                host,
                config,
                cluster,
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
    /// # Errors
    ///
    /// [`MetaError`]. After [`MetaError::OutcomeUnknown`] it may have had its effect: look, or repeat it where that
    /// does no harm.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not undo the command.
    pub async fn execute(&self, command: Command) -> Result<Reply, MetaError> {
        let command = wire::command_to_wire(&command).map_err(MetaError::Refused)?;
        let deadline = self.deadline();
        loop {
            let request = pb::ExecuteRequest {
                caller: Some(wire::caller(Some(self.cluster()))),
                command: Some(command.clone()),
            };
            let mut stub = self.shared.nodes.stub();
            let answer = self.within(deadline, stub.execute(request)).await;
            match answer {
                Ok(answer) => {
                    let reply = answer
                        .into_inner()
                        .reply
                        .ok_or_else(MetaError::odd_answer)?;
                    return wire::reply(reply).map_err(MetaError::Refused);
                }
                // It certainly never left, or was turned away before it was looked at: another node may take it.
                Err(error) if matches!(error.kind(), ErrorKind::Retry | ErrorKind::Stopping) => {
                    self.shared.nodes.next();
                    if !self.pause(deadline).await {
                        return Err(error);
                    }
                }
                Err(error) => {
                    if error.kind() == ErrorKind::Unknown {
                        self.shared.nodes.next();
                    }
                    return Err(error);
                }
            }
        }
    }

    /// As [`MetaClient::execute`], for a command that may be repeated: it is, until the outcome is known or the time is
    /// up.
    ///
    /// # Errors
    ///
    /// As [`MetaClient::execute`].
    pub(crate) async fn execute_repeatable(&self, command: Command) -> Result<Reply, MetaError> {
        let deadline = self.deadline();
        repeat(
            &self.shared.host,
            &self.shared.nodes,
            deadline,
            async || self.execute(command.clone()).await,
        )
        .await
    }

    /// Reads the metadata, not older than any change whose success this node knows.
    ///
    /// # Errors
    ///
    /// [`MetaError`]; reads are repeated until their time is up.
    pub async fn query(&self, query: Query) -> Result<Answer, MetaError> {
        let query = wire::query_to_wire(&query);
        let deadline = self.deadline();
        let ask = async || {
            let request = pb::QueryRequest {
                caller: Some(wire::caller(Some(self.cluster()))),
                query: Some(query.clone()),
            };
            let mut stub = self.shared.nodes.stub();
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
        };
        repeat(&self.shared.host, &self.shared.nodes, deadline, ask).await
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
            caller: Some(wire::caller(Some(self.cluster()))),
            session: session.get(),
        };
        let mut stub = self.shared.nodes.stub();
        let deadline = self.host().clock.now().after(timeout);
        let answer = self.within(deadline, stub.keep_alive(request)).await;
        if matches!(&answer, Err(error) if error.kind() != ErrorKind::Fenced) {
            self.shared.nodes.next();
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

    pub(crate) fn stub(&self) -> Stub<Channel> {
        self.shared.nodes.stub()
    }

    pub(crate) fn another_node(&self) {
        self.shared.nodes.next();
    }

    fn deadline(&self) -> MonoTime {
        self.shared
            .host
            .clock
            .now()
            .after(self.shared.config.timeout)
    }

    async fn within<T>(
        &self,
        deadline: MonoTime,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<tonic::Response<T>, MetaError> {
        let clock = &self.shared.host.clock;
        match clock.timeout(deadline.since(clock.now()), call).await {
            Ok(answer) => answer.map_err(|status| MetaError::of(&status)),
            Err(_) => Err(MetaError::OutcomeUnknown {
                reason: "no answer in time".to_owned(),
            }),
        }
    }

    /// Waits a moment before another try; false when there is no time for one.
    async fn pause(&self, deadline: MonoTime) -> bool {
        pause(&self.shared.host, deadline).await
    }
}

async fn pause(host: &Host, deadline: MonoTime) -> bool {
    if host.clock.now().after(RETRY) >= deadline {
        return false;
    }
    host.clock.sleep(RETRY).await;
    true
}

/// Repeats a harmless call, on another node each time, until it works, is refused, or the time is up.
async fn repeat<T>(
    host: &Host,
    nodes: &Nodes,
    deadline: MonoTime,
    mut call: impl AsyncFnMut() -> Result<T, MetaError>,
) -> Result<T, MetaError> {
    loop {
        let left = deadline.since(host.clock.now());
        let answer = match host.clock.timeout(left, call()).await {
            Ok(answer) => answer,
            Err(_) => Err(MetaError::Unreachable {
                reason: "no answer in time".to_owned(),
            }),
        };
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let may_pass = matches!(
            error.kind(),
            ErrorKind::Retry | ErrorKind::Unknown | ErrorKind::Stopping | ErrorKind::Busy
        );
        if !may_pass || !pause(host, deadline).await {
            return Err(error);
        }
        nodes.next();
    }
}

impl fmt::Debug for MetaClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetaClient")
            .field("cluster", &self.cluster())
            .finish_non_exhaustive()
    }
}
