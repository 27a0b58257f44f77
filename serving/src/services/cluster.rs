//! Routes, the server's own word, and how the cluster stands.

use std::pin::Pin;

use futures::Stream;
use proto::raw::v1 as pb;
use tonic::{Request, Response, Status};
use types::Problem;
use types::cluster::{BookieState, NodeRole, SessionState};
use types::command::{Answer, Query};
use types::topic::TopicRecord;

use super::admin::mismatch;
use super::{Services, limits, refuse};
use crate::convert;
use crate::forward::Hop;
use crate::node::Place;

/// The version that clients are told.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

type Routes = Pin<Box<dyn Stream<Item = Result<pb::TopicRoute, Status>> + Send>>;

#[tonic::async_trait]
impl pb::routing_server::Routing for Services {
    type WatchTopicStream = Routes;

    async fn lookup_topic(
        &self,
        request: Request<pb::LookupTopicRequest>,
    ) -> Result<Response<pb::TopicRoute>, Status> {
        let name = convert::name("topic", &request.get_ref().topic).map_err(refuse)?;
        let topic = self.node.topic_or_create(&name).await.map_err(refuse)?;
        Ok(Response::new(self.route(&topic).await.map_err(refuse)?))
    }

    async fn watch_topic(
        &self,
        request: Request<pb::WatchTopicRequest>,
    ) -> Result<Response<Routes>, Status> {
        let name = convert::name("topic", &request.get_ref().topic).map_err(refuse)?;
        let topic = self.node.topic_or_create(&name).await.map_err(refuse)?;
        let services = self.clone();
        let routes = async_stream::stream! {
            let mut changes = services.node.routes.changes();
            let mut last = None;
            loop {
                match services.route(&topic).await {
                    Ok(route) if last.as_ref() != Some(&route) => {
                        last = Some(route.clone());
                        yield Ok(route);
                    }
                    Ok(_) => {}
                    // The shard is between owners: the next change tells.
                    Err(problem) if problem.kind() == types::ErrorKind::Retry => {}
                    Err(problem) => {
                        yield Err(refuse(problem));
                        return;
                    }
                }
                let stopping = services.node.host.tasks.token();
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                }
            }
        };
        Ok(Response::new(Box::pin(routes)))
    }

    async fn get_server_info(
        &self,
        _: Request<pb::GetServerInfoRequest>,
    ) -> Result<Response<pb::ServerInfo>, Status> {
        Ok(Response::new(pb::ServerInfo {
            version: VERSION.to_owned(),
            cluster_id: self.node.cluster.to_string(),
            node: self.node.config.name.to_string(),
            limits: Some(limits(&self.node.config)),
        }))
    }
}

impl Services {
    /// Where the topic's shards are served, opened here if nobody serves them.
    async fn route(&self, topic: &TopicRecord) -> Result<pb::TopicRoute, Problem> {
        let mut shards = Vec::with_capacity(topic.shards.len());
        for shard in &topic.shards {
            let (endpoint, epoch) = match self.node.place(topic, Hop::First).await? {
                Place::Here(handle) => (self.node.endpoint.clone(), handle.epoch),
                Place::There(owner) => (owner.endpoint, owner.epoch),
            };
            shards.push(pb::ShardRoute {
                shard: convert::shard_name(*shard),
                endpoint,
                epoch: epoch.get(),
            });
        }
        Ok(pb::TopicRoute {
            topic: topic.name.to_string(),
            shards,
        })
    }

    /// How a topic stands: asked of its owner.
    pub(super) async fn topic_stats(
        &self,
        request: Request<pb::GetTopicStatsRequest>,
    ) -> Result<Response<pb::TopicStats>, Status> {
        let hop = Hop::of(request.metadata());
        let name = convert::name("name", &request.get_ref().name).map_err(refuse)?;
        let topic = self.node.topic(&name).await.map_err(refuse)?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        match self.node.place(&topic, hop).await.map_err(refuse)? {
            Place::Here(shard) => {
                let stats = shard.handle.stats().await.map_err(refuse)?;
                let of = pb::ShardStats {
                    shard: convert::shard_name(shard.id),
                    endpoint: self.node.endpoint.clone(),
                    epoch: shard.epoch.get(),
                    first_offset: stats.first_offset.get(),
                    next_offset: stats.confirmed_end.get(),
                    producers: count(stats.producers.streams),
                    subscriptions: count(stats.subscriptions.len()),
                };
                Ok(Response::new(pb::TopicStats {
                    name: name.to_string(),
                    shards: vec![of],
                }))
            }
            Place::There(owner) => {
                let channel = self.node.peers.channel(&owner.endpoint);
                let mut client = pb::topic_service_client::TopicServiceClient::new(channel);
                let answer = client
                    .get_topic_stats(crate::forward::marked(request, &self.node.config.name))
                    .await;
                answer.map_err(|status| self.node.upstream_failed(topic.shards[0], status))
            }
        }
    }
}

#[tonic::async_trait]
impl pb::cluster_service_server::ClusterService for Services {
    async fn get_cluster_status(
        &self,
        _: Request<pb::GetClusterStatusRequest>,
    ) -> Result<Response<pb::ClusterStatus>, Status> {
        let sessions = match self.node.query(Query::Sessions).await.map_err(refuse)? {
            Answer::Sessions(sessions) => sessions,
            _ => return Err(refuse(mismatch())),
        };
        let bookies = match self.node.query(Query::Bookies).await.map_err(refuse)? {
            Answer::Bookies(bookies) => bookies,
            _ => return Err(refuse(mismatch())),
        };
        let quorum = self.node.config.quorum;
        let takes = |b: &&types::cluster::BookieRecord| b.live && b.state == BookieState::ReadWrite;
        let writable = bookies.iter().filter(takes).count();
        let mut concerns = Vec::new();
        for bookie in &bookies {
            if !bookie.live {
                concerns.push(format!(
                    "bookie {} ({}) does not answer",
                    bookie.name, bookie.id
                ));
            } else if bookie.state == BookieState::ReadOnly {
                concerns.push(format!(
                    "bookie {} ({}) is read-only",
                    bookie.name, bookie.id
                ));
            }
        }
        for session in &sessions {
            if session.role == NodeRole::Serving && session.state == SessionState::Expired {
                concerns.push(format!("serving node {} does not answer", session.name));
            }
        }
        let standing = if writable < quorum.ack() {
            concerns.push(format!(
                "{writable} bookies can be written, a quorum of {quorum} needs {}",
                quorum.ack()
            ));
            pb::Standing::Down
        } else if concerns.is_empty() && writable >= quorum.write() {
            pb::Standing::Ok
        } else {
            pb::Standing::Degraded
        };
        Ok(Response::new(pb::ClusterStatus {
            cluster_id: self.node.cluster.to_string(),
            standing: standing.into(),
            concerns,
            nodes: sessions.iter().map(convert::node).collect(),
            bookies: bookies.iter().map(convert::bookie).collect(),
            version: VERSION.to_owned(),
        }))
    }
}
