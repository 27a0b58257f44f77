//! One serving node: what it knows of topics and owners, and the shards it serves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use host::Host;
use meta_client::MetaClient;
use tonic::{Status, Streaming};
use types::command::{Answer, Command, Query, Reply};
use types::topic::{
    StartPosition, SubscriptionMode, SubscriptionRecord, SubscriptionState, TopicRecord,
};
use types::{ClusterId, Epoch, ErrorKind, Problem, Reason, SessionId, ShardId};
use types::{SubscriptionName, TopicName};

use crate::config::ServingConfig;
use crate::forward::{Hop, Peers};
use crate::routes::{Owner, Routes};
use crate::services::refuse;
use crate::shard::{ShardHandle, ShardParts, ShardSetup, Status as Standing};

/// Most topics whose records are kept. What does not fit is asked again.
const TOPICS_MAX: usize = 100_000;
/// The ack deadline of subscriptions that do not name one.
const ACK_DEADLINE: Duration = Duration::from_secs(30);

/// How long a new subscription may wait for its first position to be on disk.
const CURSOR_WITHIN: Duration = Duration::from_secs(10);

/// When a client whose stream broke behind this node may try again: an owner that died is replaced in some seconds.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A serving node.
pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) config: ServingConfig,
    pub(crate) cluster: ClusterId,
    pub(crate) session: SessionId,
    /// Where clients reach this node.
    pub(crate) endpoint: String,
    pub(crate) meta: MetaClient,
    pub(crate) parts: ShardParts,
    pub(crate) peers: Peers,
    pub(crate) routes: Routes,
    pub(crate) topics: Mutex<BTreeMap<TopicName, TopicRecord>>,
    pub(crate) shards: Mutex<BTreeMap<ShardId, ShardHandle>>,
    /// Whether the node is stopping: it takes no new shards.
    pub(crate) is_stopping: AtomicBool,
}

/// Where a shard is served.
pub(crate) enum Place {
    /// By this node.
    Here(Local),
    /// By another.
    There(Owner),
}

/// A shard that this node serves.
pub(crate) struct Local {
    pub(crate) id: ShardId,
    pub(crate) epoch: Epoch,
    pub(crate) handle: ShardHandle,
}

/// A subscription to be made.
pub(crate) struct NewSubscription {
    pub(crate) mode: SubscriptionMode,
    pub(crate) ack_deadline: Option<Duration>,
    pub(crate) start: StartPosition,
}

impl Node {
    /// Changes the metadata.
    pub(crate) async fn execute(&self, command: Command) -> Result<Reply, Problem> {
        self.meta.execute(command).await.map_err(Problem::from)
    }

    /// Reads the metadata.
    pub(crate) async fn query(&self, query: Query) -> Result<Answer, Problem> {
        self.meta.query(query).await.map_err(Problem::from)
    }

    /// A topic that must exist.
    pub(crate) async fn topic(&self, name: &TopicName) -> Result<TopicRecord, Problem> {
        if let Some(record) = lock(&self.topics).get(name) {
            return Ok(record.clone());
        }
        match self.query(Query::Topic(name.clone())).await? {
            Answer::Topic(Some(record)) => {
                self.remember(&record);
                Ok(record)
            }
            Answer::Topic(None) => Err(Problem::new(
                Reason::TopicNotFound,
                format!("there is no topic {name}; create it first: ledgerline topic create NAME"),
            )
            .with_resource(name)),
            _ => Err(odd_answer()),
        }
    }

    /// A topic, made now when there is none and the node is set to.
    pub(crate) async fn topic_or_create(&self, name: &TopicName) -> Result<TopicRecord, Problem> {
        let missing = match self.topic(name).await {
            Err(problem) if problem.reason == Reason::TopicNotFound => problem,
            known => return known,
        };
        if !self.config.auto_create_topics {
            return Err(missing);
        }
        let create = Command::CreateTopic {
            name: name.clone(),
            quorum: self.config.quorum,
            at: self.host.clock.wall(),
        };
        match self.execute(create).await {
            Ok(Reply::Topic(record)) => {
                tracing::info!(topic = %record.name, quorum = %record.quorum, "topic created");
                self.remember(&record);
                Ok(record)
            }
            Ok(_) => Err(odd_answer()),
            // Somebody else was faster.
            Err(problem) if problem.reason == Reason::AlreadyExists => self.topic(name).await,
            Err(problem) => Err(problem),
        }
    }

    fn remember(&self, record: &TopicRecord) {
        let mut topics = lock(&self.topics);
        if topics.len() < TOPICS_MAX {
            topics.insert(record.name.clone(), record.clone());
        }
    }

    /// A subscription that must exist.
    pub(crate) async fn subscription(
        &self,
        name: &SubscriptionName,
    ) -> Result<SubscriptionRecord, Problem> {
        match self.query(Query::Subscription(name.clone())).await? {
            Answer::Subscription(Some(record)) => Ok(record),
            Answer::Subscription(None) => Err(Problem::new(
                Reason::SubscriptionNotFound,
                format!("there is no subscription {name}; create it first, or open the consumer with `create_if_missing`"),
            )
            .with_resource(name)),
            _ => Err(odd_answer()),
        }
    }

    /// Makes a subscription of a shard that is served here: numbered by meta, its cursor durable, then usable.
    pub(crate) async fn create_subscription(
        &self,
        shard: &Local,
        name: SubscriptionName,
        new: NewSubscription,
    ) -> Result<SubscriptionRecord, Problem> {
        let create = Command::CreateSubscription {
            name: name.clone(),
            mode: new.mode,
            ack_deadline: new.ack_deadline.unwrap_or(ACK_DEADLINE),
            start: new.start,
            at: self.host.clock.wall(),
        };
        match self.execute(create).await {
            Ok(Reply::Subscription(record)) => self.activate(shard, record).await,
            Ok(_) => Err(odd_answer()),
            Err(problem) if problem.reason == Reason::AlreadyExists => {
                let record = self.subscription(&name).await?;
                if record.state == SubscriptionState::Creating {
                    // Somebody began and may have died: finishing it is the same for everybody.
                    return self.activate(shard, record).await;
                }
                Err(problem)
            }
            Err(problem) => Err(problem),
        }
    }

    /// Takes a subscription of a shard that is served here away. When it returns its consumers have ended or are about to,
    /// and its name may be used again.
    pub(crate) async fn delete_subscription(
        &self,
        shard: &Local,
        name: SubscriptionName,
    ) -> Result<(), Problem> {
        // Meta answers with the record also when an earlier call, whose answer was lost, deleted it: the shard may still
        // have it, the client is told that there is none.
        let found = self.subscription(&name).await;
        let session = self.session;
        match self
            .execute(Command::DeleteSubscription { name, session })
            .await?
        {
            Reply::Subscription(record) => {
                tracing::info!(subscription = %record.name, "subscription deleted");
                // A shard that is over: its next owner reads a list without it.
                let _ = shard.handle.drop_subscription(record.id).await;
                found.map(drop)
            }
            _ => Err(odd_answer()),
        }
    }

    /// Finishes a subscription that somebody began to make.
    pub(crate) async fn resume_subscription(
        &self,
        shard: &Local,
        name: &SubscriptionName,
    ) -> Result<SubscriptionRecord, Problem> {
        let record = self.subscription(name).await?;
        match record.state {
            SubscriptionState::Active => Ok(record),
            // Meta refuses one that was deleted.
            SubscriptionState::Creating | SubscriptionState::Deleted => {
                self.activate(shard, record).await
            }
        }
    }

    async fn activate(
        &self,
        shard: &Local,
        record: SubscriptionRecord,
    ) -> Result<SubscriptionRecord, Problem> {
        let (name, id) = (record.name.clone(), record.id);
        let made = shard.handle.create_cursor(record);
        let made = self.host.clock.timeout(CURSOR_WITHIN, made).await;
        made.map_err(|_| cursor_late(&name))??;
        match self
            .execute(Command::ActivateSubscription { name, id })
            .await?
        {
            Reply::Subscription(record) => {
                tracing::info!(subscription = %record.name, "subscription created");
                Ok(record)
            }
            _ => Err(odd_answer()),
        }
    }

    /// Finds who serves the topic's shard; opens it here when nobody does.
    ///
    /// # Errors
    ///
    /// `NOT_OWNER` for a request that was passed on to this node wrongly, `SHARD_OPENING`, what meta says.
    pub(crate) async fn place(&self, topic: &TopicRecord, hop: Hop) -> Result<Place, Problem> {
        let [shard] = topic.shards[..] else {
            let message = format!(
                "the topic has {} shards, this version serves one",
                topic.shards.len()
            );
            return Err(Problem::new(Reason::Internal, message));
        };
        if let Some(handle) = self.local(shard) {
            return self.here(shard, handle).await;
        }
        match self.routes.owner(shard, &self.meta).await? {
            Some(owner) if owner.session != self.session => match hop {
                Hop::First => Ok(Place::There(owner)),
                Hop::Forwarded => {
                    // The sender and this node see different owners: whoever is behind reads again.
                    self.routes.forget(shard);
                    Err(not_owner(shard)
                        .with("owner_endpoint", owner.endpoint)
                        .with("epoch", owner.epoch.get()))
                }
            },
            _ => {
                let handle = self.open(topic, shard)?;
                self.here(shard, handle).await
            }
        }
    }

    /// The shard's handle, unless it is over.
    fn local(&self, shard: ShardId) -> Option<ShardHandle> {
        let mut shards = lock(&self.shards);
        let handle = shards.get(&shard)?;
        if matches!(handle.status(), Standing::Over(_)) {
            shards.remove(&shard);
            return None;
        }
        Some(handle.clone())
    }

    async fn here(&self, shard: ShardId, handle: ShardHandle) -> Result<Place, Problem> {
        let opened = self
            .host
            .clock
            .timeout(self.config.open_timeout, handle.opened())
            .await;
        match opened {
            Ok(Ok(epoch)) => Ok(Place::Here(Local {
                id: shard,
                epoch,
                handle,
            })),
            Ok(Err(problem)) => {
                self.routes.forget(shard);
                Err(problem)
            }
            Err(_) => Err(handle.problem()),
        }
    }

    /// Begins to serve a shard, unless it is being served.
    fn open(&self, topic: &TopicRecord, shard: ShardId) -> Result<ShardHandle, Problem> {
        if self.is_stopping.load(Ordering::Relaxed) {
            return Err(Problem::new(
                Reason::Stopping,
                "the node is stopping; ask another",
            ));
        }
        let mut shards = lock(&self.shards);
        if let Some(handle) = shards.get(&shard)
            && !matches!(handle.status(), Standing::Over(_))
        {
            return Ok(handle.clone());
        }
        let setup = ShardSetup {
            shard,
            topic: topic.name.clone(),
            session: self.session,
            config: self.config.shard.clone(),
            seed: self.host.rng.u128(),
        };
        let handle = ShardHandle::start(&self.host, setup, self.parts.clone());
        shards.insert(shard, handle.clone());
        Ok(handle)
    }

    /// Takes no new shards from now on.
    pub(crate) fn refuse_new(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// The shards that are served here now.
    pub(crate) fn served(&self) -> Vec<ShardHandle> {
        lock(&self.shards).values().cloned().collect()
    }

    /// Tells a shard, or all that are served here, that its record may have changed: it finds out whether another node
    /// has taken it, and is over then.
    pub(crate) fn record_changed(&self, shard: Option<ShardId>) {
        match shard {
            Some(shard) => {
                if let Some(handle) = lock(&self.shards).get(&shard) {
                    handle.record_changed();
                }
            }
            None => self.served().iter().for_each(ShardHandle::record_changed),
        }
    }

    /// What the client is told when the owner refused a request or did not answer; after that it is looked up again.
    pub(crate) fn upstream_failed(&self, shard: ShardId, status: Status) -> Status {
        let problem = self.doubt_owner(shard, &status);
        // What has no details is the transport's word: the client gets it in ours.
        if status.details().is_empty() {
            refuse(problem)
        } else {
            status
        }
    }

    /// The same for a stream that was passed on. What had no answer on it is open: the client opens it again and
    /// repeats.
    pub(crate) fn upstream_broke(&self, shard: ShardId, status: Status) -> Status {
        let problem = self.doubt_owner(shard, &status);
        if !status.details().is_empty() {
            return status;
        }
        let text = "the node that serves the topic stopped answering; open the stream again";
        let problem = Problem::new(Reason::Unreachable, format!("{text}: {problem}"));
        refuse(problem.retry_after(AGAIN_AFTER))
    }

    /// Counts a stream that ends with an error.
    pub(crate) fn refused(&self, status: &Status) {
        let problem = proto::status::from_status(status);
        self.parts.metrics.refused(problem.reason);
    }

    fn doubt_owner(&self, shard: ShardId, status: &Status) -> Problem {
        let problem = proto::status::from_status(status);
        if matches!(
            problem.kind(),
            ErrorKind::Retry | ErrorKind::Moved | ErrorKind::Unknown
        ) {
            self.routes.forget(shard);
        }
        problem
    }

    /// Waits for a stream's first frame; none when the client left without one.
    pub(crate) async fn first_frame<T>(
        &self,
        patience: Duration,
        incoming: &mut Streaming<T>,
    ) -> Result<Option<T>, Status> {
        match self.host.clock.timeout(patience, incoming.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(frame)) => frame.map(Some).map_err(|status| {
                let problem = proto::status::undecodable(&status);
                problem.map_or(status, refuse)
            }),
            Err(_) => Err(refuse(
                Problem::new(
                    Reason::BadFrame,
                    format!("the stream was not opened within {} s", patience.as_secs()),
                )
                .with_field("frame"),
            )),
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.config.name)
            .finish_non_exhaustive()
    }
}

fn not_owner(shard: ShardId) -> Problem {
    Problem::new(
        Reason::NotOwner,
        format!("another node serves {shard}; look the topic up again"),
    )
    .retry_after(Duration::ZERO)
}

/// A new subscription is not on disk in time.
fn cursor_late(name: &SubscriptionName) -> Problem {
    let text = format!(
        "the first position of the subscription is not on disk after {CURSOR_WITHIN:?}; `ledgerline cluster status` says \
         whether too few bookies take writes; then repeat the call, which goes on with it"
    );
    Problem::new(Reason::OutcomeUnknown, text).with_resource(name)
}

fn odd_answer() -> Problem {
    Problem::new(
        Reason::Internal,
        "meta answered another question than was asked",
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is valid after each statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
