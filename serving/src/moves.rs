//! Planned moves: a shard goes from one serving node to another that waits for it.
//!
//! The owner makes the other ready, gives the shard up (nothing is admitted, what is in flight is confirmed, both logs are
//! closed), and tells the other, which claims at once. From the first moment on requests are sent there, where they wait.
//! Nothing of it is needed for safety: a claim is permitted after a release and never before, and a move that ends
//! half way leaves a shard that the next request opens.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::serving_v1 as pb;
use proto::serving_v1::moves_client::MovesClient;
use tokio::sync::watch;
use tonic::Status as GrpcStatus;
use tonic::transport::Channel;
use types::cluster::{ServingNode, SessionRecord};
use types::command::{Answer, Query};
use types::{Epoch, MonoTime, Problem, Reason, ShardId, TopicName};

use crate::node::{Node, odd_answer};
use crate::routes::Owner;
use crate::shard::Status;

/// How long the other node may take to get ready, and to tell its load.
const READY_WITHIN: Duration = Duration::from_secs(2);
const LOAD_WITHIN: Duration = Duration::from_millis(500);
/// How long it is remembered where a shard went. After that meta's word is older than that.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(2);

/// Shards that are about to come, and until when requests for them wait.
#[derive(Debug)]
pub(crate) struct Coming {
    until: Mutex<BTreeMap<ShardId, MonoTime>>,
    changes: watch::Sender<()>,
}

impl Default for Coming {
    fn default() -> Self {
        Self {
            until: Mutex::default(),
            changes: watch::Sender::new(()),
        }
    }
}

impl Coming {
    fn expect(&self, shard: ShardId, now: MonoTime, until: MonoTime) {
        let mut all = self.lock();
        all.retain(|_, until| *until > now);
        all.insert(shard, until);
    }

    /// It is here, or is not coming any more.
    fn settled(&self, shard: ShardId) {
        self.lock().remove(&shard);
        self.changes.send_replace(());
    }

    fn until(&self, shard: ShardId) -> Option<MonoTime> {
        self.lock().get(&shard).copied()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, MonoTime>> {
        // The map is valid after each statement.
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// The serving nodes as meta knows them.
    pub(crate) async fn serving_nodes(&self) -> Result<Vec<ServingNode>, Problem> {
        match self.query(Query::ServingNodes).await? {
            Answer::ServingNodes(nodes) => Ok(nodes),
            _ => Err(odd_answer()),
        }
    }

    /// Moves a shard that is served here to another node. Returns when the other one serves it.
    ///
    /// # Errors
    ///
    /// Why not. When the other node was not ready nothing has happened; else the shard is opened by the next request.
    pub(crate) async fn move_shard(
        &self,
        shard: ShardId,
        to: &SessionRecord,
        within: Duration,
    ) -> Result<(), Problem> {
        let moved = self.hand_over(shard, to, within).await;
        let metrics = &self.parts.metrics;
        match &moved {
            Ok(took) => {
                metrics.moved(*took);
                tracing::info!(%shard, to = %to.name, ?took, "topic moved");
            }
            Err(_) => metrics.move_failed(),
        }
        moved.map(drop)
    }

    async fn hand_over(
        &self,
        shard: ShardId,
        to: &SessionRecord,
        within: Duration,
    ) -> Result<Duration, Problem> {
        let handle = self.local(shard).ok_or_else(not_served)?;
        let Status::Serving { epoch } = handle.status() else {
            return Err(not_served());
        };
        let clock = &self.host.clock;
        let mut peer = self.mover(&to.endpoint);
        let request = pb::MoveRequest {
            cluster: self.cluster.to_bytes().to_vec().into(),
            to: to.id.get(),
            shard: shard.get(),
            topic: handle.topic().to_string(),
            within_nanos: u64::try_from(within.as_nanos()).unwrap_or(u64::MAX),
        };
        let ready = peer.prepare_shard(request.clone());
        answered(clock.timeout(READY_WITHIN, ready).await)?;
        let begun = clock.now();
        let mut owner = Owner {
            session: to.id,
            endpoint: to.endpoint.clone(),
            epoch: epoch.next(),
        };
        let open_within = self.config.open_timeout;
        let until = begun.after(within).after(open_within);
        self.routes.lead(shard, owner.clone(), until);
        handle.release(within).await;
        // Also when it was not given up in time: then the other is refused, and holds nothing back any more.
        let opened = clock.timeout(open_within, peer.open_shard(request)).await;
        match answered(opened) {
            Ok(opened) => {
                owner.epoch = Epoch::new(opened.epoch);
                let now = clock.now();
                self.routes.lead(shard, owner, now.after(REMEMBERED));
                Ok(now.since(begun))
            }
            Err(problem) => {
                self.routes.doubt(shard);
                Err(problem)
            }
        }
    }

    /// Gets ready for a shard that another node is about to give up.
    pub(crate) async fn prepare(
        &self,
        shard: ShardId,
        topic: &TopicName,
        within: Duration,
    ) -> Result<(), Problem> {
        if self.is_leaving() || self.balance.instead_of(self.session, shard).is_some() {
            let text = "the node takes no topics: it stops, or is drained";
            return Err(Problem::new(Reason::Stopping, text));
        }
        self.topic(topic).await?;
        self.parts.pool.connect();
        let now = self.host.clock.now();
        let until = now.after(within.min(self.config.open_timeout));
        self.coming.expect(shard, now, until);
        Ok(())
    }

    /// Takes a shard that another node gave up: claims it, and returns once it is served.
    pub(crate) async fn take(&self, shard: ShardId, topic: &TopicName) -> Result<Epoch, Problem> {
        // Where it went from here earlier counts no more.
        self.routes.doubt(shard);
        let opened = self.open(topic, shard);
        self.coming.settled(shard);
        let handle = opened?;
        let opened = handle.opened();
        match self
            .host
            .clock
            .timeout(self.config.open_timeout, opened)
            .await
        {
            Ok(opened) => opened,
            Err(_) => Err(handle.problem()),
        }
    }

    /// Waits while a shard is about to come, until it is here, or it is clear that it does not come.
    pub(crate) async fn wait_for_coming(&self, shard: ShardId) {
        let mut changes = self.coming.changes.subscribe();
        while let Some(until) = self.coming.until(shard) {
            tokio::select! {
                biased;
                changed = changes.changed() => if changed.is_err() { return },
                () = self.host.clock.sleep_until(until) => return,
            }
        }
    }

    /// Names where a shard went to who is told that it is not here.
    pub(crate) fn directed(&self, shard: ShardId, problem: Problem) -> Problem {
        if problem.reason != Reason::NotOwner {
            return problem;
        }
        match self.routes.led(shard, self.host.clock.now()) {
            Some(owner) => crate::node::named(problem, &owner),
            None => problem,
        }
    }

    /// What another node's shards do.
    pub(crate) async fn load_of(&self, node: &SessionRecord) -> Option<u64> {
        let mut peer = self.mover(&node.endpoint);
        let load = peer.get_load(pb::GetLoadRequest {
            cluster: self.cluster.to_bytes().to_vec().into(),
            to: node.id.get(),
        });
        let answer = self.host.clock.timeout(LOAD_WITHIN, load).await;
        answered(answer).ok().map(|answer| answer.load)
    }

    fn mover(&self, endpoint: &str) -> MovesClient<Channel> {
        MovesClient::new(self.peers.channel(endpoint))
    }
}

fn not_served() -> Problem {
    let text = "the topic is not served here now";
    Problem::new(Reason::NotOwner, text)
}

/// What another node answered, if it did.
fn answered<T>(
    answer: Result<Result<tonic::Response<T>, GrpcStatus>, host::Elapsed>,
) -> Result<T, Problem> {
    match answer {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(proto::status::from_status(&status)),
        Err(_) => Err(Problem::new(
            Reason::Unreachable,
            "the other serving node did not answer in time",
        )),
    }
}
