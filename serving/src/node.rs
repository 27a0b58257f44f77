//! One serving node: what it knows of topics and owners, and the shards it serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use host::Host;
use meta_client::MetaClient;
use tonic::Status;
use types::TopicName;
use types::command::{Answer, Command, Query, Reply};
use types::topic::TopicRecord;
use types::{ClusterId, Epoch, ErrorKind, Problem, Reason, SessionId, ShardId};

use crate::balance::Balance;
use crate::config::ServingConfig;
use crate::forward::{Hop, Peers};
use crate::moves::{Coming, REMEMBERED};
use crate::routes::{Owner, Routes};
use crate::services::{Frames, refuse};
use crate::shard::{ShardConfig, ShardHandle, ShardParts, ShardSetup, Status as Standing};

/// Most topics whose records are kept. What does not fit is asked again.
const TOPICS_MAX: usize = 100_000;
/// When a client whose stream broke behind this node may try again: an owner that died is replaced in some seconds.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The facts of `NOT_OWNER` that name the owner: where clients reach it, and its process.
const OWNER_ENDPOINT: &str = "owner_endpoint";
const OWNER_SESSION: &str = "owner_session";

/// A serving node.
pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) config: ServingConfig,
    pub(crate) cluster: ClusterId,
    pub(crate) session: SessionId,
    /// Where clients reach this node.
    pub(crate) endpoint: String,
    pub(crate) meta: MetaClient,
    pub(crate) parts: Arc<ShardParts>,
    /// The configuration's part for shards, of which all have the same.
    pub(crate) shard_config: Arc<ShardConfig>,
    pub(crate) peers: Peers,
    pub(crate) routes: Routes,
    pub(crate) topics: Mutex<BTreeMap<TopicName, TopicRecord>>,
    pub(crate) shards: Mutex<BTreeMap<ShardId, ShardHandle>>,
    /// Shards whose topics are being deleted here: they are not opened.
    pub(crate) deleting: Mutex<BTreeSet<ShardId>>,
    /// Shards that other nodes are about to give to this one.
    pub(crate) coming: Coming,
    /// What is known of the other nodes, for spreading shards.
    pub(crate) balance: Balance,
    /// Whether the node is stopping: it takes no new shards.
    pub(crate) is_stopping: AtomicBool,
}

/// A shard that is not opened here.
struct Closed<'a> {
    node: &'a Node,
    shard: ShardId,
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        lock(&self.node.deleting).remove(&self.shard);
    }
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
            Answer::Topic(None) => Err(no_topic(name)),
            _ => Err(odd_answer()),
        }
    }

    /// The same, as meta has it now.
    pub(crate) async fn topic_anew(&self, name: &TopicName) -> Result<TopicRecord, Problem> {
        self.forget_topic(name);
        self.topic(name).await
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
            retention: self.config.retention,
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

    /// Of the topics in use at this node, how many want more copies than so many bookies can hold, and one of them.
    pub(crate) fn wider_topics(&self, bookies: usize) -> (usize, Option<TopicRecord>) {
        let topics = lock(&self.topics);
        let wider = |topic: &&TopicRecord| topic.quorum.write() > bookies;
        let example = topics.values().find(wider).cloned();
        (topics.values().filter(wider).count(), example)
    }

    /// Deletes the topic of a shard that is served here: stops serving it, with both logs closed and nothing left that
    /// could be acked, then takes it out of meta. When that fails the topic is as it was, and is opened again.
    pub(crate) async fn delete_topic(
        &self,
        shard: &Local,
        topic: &TopicRecord,
    ) -> Result<(), Problem> {
        let Some(_closed) = self.close_for_deletion(shard.id) else {
            let text = "the topic is being deleted by another call";
            return Err(Problem::new(Reason::ShardOpening, text).retry_after(AGAIN_AFTER));
        };
        shard.handle.retire(self.config.drain_timeout).await;
        let delete = Command::DeleteTopic {
            name: topic.name.clone(),
            id: topic.id,
            session: self.session,
            epoch: shard.epoch,
        };
        let deleted = self.execute(delete).await;
        self.forget_topic(&topic.name);
        self.routes.forget(shard.id);
        match deleted {
            Ok(_) => tracing::info!(topic = %topic.name, "topic deleted"),
            // An earlier try whose answer was lost did it.
            Err(problem)
                if matches!(
                    problem.reason,
                    Reason::TopicNotFound | Reason::VersionMismatch
                ) => {}
            // What was not closed in time, or was opened again meanwhile, is as it was.
            Err(problem) if matches!(problem.reason, Reason::BadField | Reason::EpochMismatch) => {
                return Err(not_closed(topic));
            }
            Err(problem) => return Err(problem),
        }
        Ok(())
    }

    /// Keeps a shard from being opened here until the guard is dropped; none when it is kept already.
    fn close_for_deletion(&self, shard: ShardId) -> Option<Closed<'_>> {
        let is_new = lock(&self.deleting).insert(shard);
        is_new.then_some(Closed { node: self, shard })
    }

    /// A topic was made, changed or deleted: what is known of it may be wrong.
    pub(crate) fn forget_topic(&self, name: &TopicName) {
        lock(&self.topics).remove(name);
    }

    /// The same, of all.
    pub(crate) fn forget_topics(&self) {
        lock(&self.topics).clear();
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
        let mut handle = self.local(shard);
        if handle.is_none() {
            self.wait_for_coming(shard).await;
            handle = self.local(shard);
        }
        let now = self.host.clock.now();
        if let Some(handle) = handle {
            // What is being given to another node is that node's already.
            if handle.status() == Standing::Releasing
                && let Some(owner) = self.routes.led(shard, now)
            {
                return self.there(shard, owner, hop);
            }
            return self.here(shard, handle).await;
        }
        match self.routes.owner(shard, &self.meta, now).await? {
            Some(owner) if owner.session != self.session => self.there(shard, owner, hop),
            None if let Some(other) = self.balance.instead_of(self.session, shard) => {
                let owner = Owner {
                    session: other.id,
                    endpoint: other.endpoint,
                    epoch: Epoch::new(0),
                };
                self.there(shard, owner, hop)
            }
            _ => {
                let handle = self.open(&topic.name, shard)?;
                self.here(shard, handle).await
            }
        }
    }

    /// Sends a request on; one that was passed on already goes back with the owner's name.
    fn there(&self, shard: ShardId, owner: Owner, hop: Hop) -> Result<Place, Problem> {
        match hop {
            Hop::First => Ok(Place::There(owner)),
            Hop::Forwarded => {
                // The sender and this node see different owners: whoever is behind reads again.
                self.routes.forget(shard);
                Err(named(not_owner(shard), &owner))
            }
        }
    }

    /// The shard's handle, unless it is over.
    pub(crate) fn local(&self, shard: ShardId) -> Option<ShardHandle> {
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
                if problem.reason == Reason::TopicNotFound {
                    lock(&self.topics).retain(|_, topic| !topic.shards.contains(&shard));
                }
                Err(self.directed(shard, problem))
            }
            Err(_) => Err(handle.problem()),
        }
    }

    /// Begins to serve a shard, unless it is being served.
    pub(crate) fn open(&self, topic: &TopicName, shard: ShardId) -> Result<ShardHandle, Problem> {
        if self.is_leaving() {
            return Err(Problem::new(
                Reason::Stopping,
                "the node is stopping; ask another",
            ));
        }
        if lock(&self.deleting).contains(&shard) {
            let text = "the topic is being deleted";
            return Err(Problem::new(Reason::ShardOpening, text).retry_after(AGAIN_AFTER));
        }
        let mut shards = lock(&self.shards);
        if let Some(handle) = shards.get(&shard)
            && !matches!(handle.status(), Standing::Over(_))
        {
            return Ok(handle.clone());
        }
        let setup = ShardSetup {
            shard,
            topic: topic.clone(),
            session: self.session,
            config: Arc::clone(&self.shard_config),
            seed: self.host.rng.u128(),
        };
        let handle = ShardHandle::start(&self.host, setup, Arc::clone(&self.parts));
        shards.insert(shard, handle.clone());
        Ok(handle)
    }

    /// Opens a shard that nobody asks for.
    pub(crate) async fn open_unasked(
        &self,
        topic: &TopicName,
        shard: ShardId,
    ) -> Result<(), Problem> {
        let handle = self.open(topic, shard)?;
        let opened = handle.opened();
        let opened = self
            .host
            .clock
            .timeout(self.config.open_timeout, opened)
            .await;
        opened.map_or_else(|_| Err(handle.problem()), |opened| opened.map(drop))
    }

    /// Whether the node is stopping.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Takes no new shards from now on.
    pub(crate) fn refuse_new(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// The shards that are served here now.
    pub(crate) fn served(&self) -> Vec<ShardHandle> {
        lock(&self.shards).values().cloned().collect()
    }

    /// The same, with their numbers.
    pub(crate) fn shards(&self) -> Vec<(ShardId, ShardHandle)> {
        let shards = lock(&self.shards);
        let shards = shards
            .iter()
            .map(|(shard, handle)| (*shard, handle.clone()));
        shards.collect()
    }

    /// Whether a shard is served here, or is being opened or given up.
    pub(crate) fn serves(&self, shard: ShardId) -> bool {
        let shards = lock(&self.shards);
        let handle = shards.get(&shard);
        handle.is_some_and(|handle| !matches!(handle.status(), Standing::Over(_)))
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

    /// Tells all shards that are served here that there are other bookies.
    pub(crate) fn bookies_changed(&self) {
        // One that is started later sees them itself.
        let shards = self.served();
        shards.iter().for_each(ShardHandle::bookies_changed);
    }

    /// Has all shards that are served here look at the lease of the node's session, and at whether the node's tasks are to
    /// stop. One that is started meanwhile looks at both itself.
    pub(crate) fn look(&self) {
        self.served().iter().for_each(ShardHandle::look);
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
            self.routes.doubt(shard);
        }
        if problem.reason == Reason::NotOwner
            && let Some(owner) = owner_in(&problem)
        {
            let until = self.host.clock.now().after(REMEMBERED);
            self.routes.lead(shard, owner, until);
        }
        problem
    }

    /// Waits for a stream's first frame; none when the client left without one.
    pub(crate) async fn first_frame<T>(
        &self,
        patience: Duration,
        incoming: &mut impl Frames<T>,
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

/// Says who the owner is.
pub(crate) fn named(problem: Problem, owner: &Owner) -> Problem {
    problem
        .with(OWNER_ENDPOINT, &owner.endpoint)
        .with(OWNER_SESSION, owner.session.get())
        .with("epoch", owner.epoch.get())
}

/// The owner that a problem names.
fn owner_in(problem: &Problem) -> Option<Owner> {
    let number = |key: &str| problem.metadata.get(key)?.parse().ok();
    Some(Owner {
        session: SessionId::new(number(OWNER_SESSION)?),
        endpoint: problem.metadata.get(OWNER_ENDPOINT)?.clone(),
        epoch: Epoch::new(number("epoch").unwrap_or(0)),
    })
}

/// A topic's logs could not be closed in time, so that meta does not delete it.
fn not_closed(topic: &TopicRecord) -> Problem {
    let text = "the topic's logs could not be closed in time; `ledgerline cluster status` says whether too few bookies take \
                writes; then repeat the call";
    Problem::new(Reason::InsufficientBookies, text).with_resource(&topic.name)
}

pub(crate) fn no_topic(name: &TopicName) -> Problem {
    Problem::new(
        Reason::TopicNotFound,
        format!("there is no topic {name}; create it first: ledgerline topic create NAME"),
    )
    .with_resource(name)
}

pub(crate) fn odd_answer() -> Problem {
    Problem::new(
        Reason::Internal,
        "meta answered another question than was asked",
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is valid after each statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
