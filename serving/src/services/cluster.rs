//! Routes, the server's own word, and how the cluster stands.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures::Stream;
use proto::raw::v1 as pb;
use tonic::{Request, Response, Status};
use types::cluster::{
    BookieDuty, BookieRecord, BookieState, NodeRole, ServingNode, SessionRecord, SessionState,
};
use types::command::{Answer, Command, Query};
use types::topic::TopicRecord;
use types::{BookieId, Problem};

use super::admin::mismatch;
use super::{Services, limits, refuse, repair};
use crate::balance;
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

/// That topics want more copies than there are bookies.
fn too_wide(topics: usize, bookies: usize, example: &str) -> String {
    let (topics, eg) = match topics {
        1 => ("1 topic in use wants".to_owned(), ""),
        some => (format!("{some} topics in use want"), "such as "),
    };
    let bookies = match bookies {
        1 => "the 1 bookie that takes".to_owned(),
        some => format!("the {some} bookies that take"),
    };
    format!("{topics} more copies than {bookies} writes: {eg}{example}")
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
        let bookies = self.bookies().await.map_err(refuse)?;
        let quorum = self.node.config.quorum;
        let takes = |b: &&BookieRecord| b.live && b.takes_ledgers();
        let writable = bookies.iter().filter(takes).count();
        let mut concerns = Vec::new();
        for bookie in &bookies {
            if bookie.duty == BookieDuty::Gone {
                continue;
            }
            if bookie.duty == BookieDuty::Draining {
                concerns.push(format!("bookie {} ({}) is drained", bookie.name, bookie.id));
            }
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
        let nodes = self.nodes(&sessions).await.map_err(refuse)?;
        for node in nodes.iter().filter(|node| node.draining) {
            concerns.push(format!("serving node {} is drained", node.name));
        }
        for session in &sessions {
            if session.role == NodeRole::Serving && session.state == SessionState::Expired {
                concerns.push(format!("serving node {} does not answer", session.name));
            }
        }
        let (wider, example) = self.node.wider_topics(writable);
        if let Some(topic) = example {
            let of = format!("{} ({})", topic.name.short(), topic.quorum);
            concerns.push(too_wide(wider, writable, &of));
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
            nodes,
            bookies: bookies.iter().map(convert::bookie).collect(),
            version: VERSION.to_owned(),
        }))
    }

    async fn get_repair_plan(
        &self,
        _: Request<pb::GetRepairPlanRequest>,
    ) -> Result<Response<pb::RepairPlan>, Status> {
        let plan = self.node.meta.repair_plan().await;
        let plan = plan.map_err(|error| refuse(error.into()))?;
        let bookies = self.bookies().await.map_err(refuse)?;
        Ok(Response::new(repair::plan(&plan, &bookies)))
    }

    async fn drain_node(
        &self,
        request: Request<pb::DrainNodeRequest>,
    ) -> Result<Response<pb::DrainNodeResponse>, Status> {
        let request = request.into_inner();
        let drain = self.drain_of(&request).await.map_err(refuse)?;
        self.node.execute(drain).await.map_err(refuse)?;
        Ok(Response::new(pb::DrainNodeResponse {}))
    }

    async fn decommission_node(
        &self,
        request: Request<pb::DecommissionNodeRequest>,
    ) -> Result<Response<pb::DecommissionNodeResponse>, Status> {
        let id = self.bookie_named(&request.get_ref().node).await;
        let id = id.map_err(refuse)?;
        let retire = Command::RetireBookie { id };
        self.node.execute(retire).await.map_err(refuse)?;
        Ok(Response::new(pb::DecommissionNodeResponse {}))
    }
}

impl Services {
    async fn bookies(&self) -> Result<Vec<BookieRecord>, Problem> {
        match self.node.query(Query::Bookies).await? {
            Answer::Bookies(bookies) => Ok(bookies),
            _ => Err(mismatch()),
        }
    }

    /// The sessions as nodes, and the serving nodes that are drained and gone; with the shards that each owns.
    async fn nodes(&self, sessions: &[SessionRecord]) -> Result<Vec<pb::Node>, Problem> {
        let serving = self.node.serving_nodes().await?;
        let mut shards: BTreeMap<String, u64> = BTreeMap::new();
        balance::places(&self.node, |place| {
            if let Some(owner) = place.owner {
                *shards.entry(owner.to_string()).or_default() += 1;
            }
        })
        .await?;
        let gone = serving.iter().map(|it| &it.session);
        let gone = gone.filter(|it| it.state == SessionState::Ended);
        let mut nodes: Vec<_> = sessions.iter().chain(gone).map(convert::node).collect();
        for node in &mut nodes {
            let of = |it: &&ServingNode| it.session.id.to_string() == node.session;
            node.draining = serving.iter().find(of).is_some_and(|it| it.is_drained);
            node.shards = shards.get(&node.session).copied().unwrap_or(0);
        }
        Ok(nodes)
    }

    /// The command that drains the node that is meant, or takes that back.
    async fn drain_of(&self, request: &pb::DrainNodeRequest) -> Result<Command, Problem> {
        let (name, draining) = (&request.node, request.draining);
        let wanted = pb::NodeRole::try_from(request.role)
            .map_err(|_| Problem::bad_field("role", "serving or bookie, or nothing"))?;
        let bookies = self.bookies().await?;
        let nodes = self.node.serving_nodes().await?;
        let role = meant_role(
            name,
            wanted,
            bookies.iter().any(|it| it.name.as_str() == name),
            nodes.iter().any(|it| it.session.name.as_str() == name),
        )?;
        if role == pb::NodeRole::Serving {
            let name = convert::name("node", name)?;
            return Ok(Command::DrainServing { name, draining });
        }
        let id = self.bookie_named(name).await?;
        Ok(Command::DrainBookie { id, draining })
    }

    async fn bookie_named(&self, name: &str) -> Result<BookieId, Problem> {
        let bookies = self.bookies().await?;
        let found = bookies.iter().find(|bookie| bookie.name.as_str() == name);
        found.map(|bookie| bookie.id).ok_or_else(|| {
            let message =
                format!("no bookie has this name, the cluster's nodes are listed name={name}");
            Problem::bad_field("node", message)
        })
    }
}

/// Which kind of node a name means.
fn meant_role(
    name: &str,
    wanted: pb::NodeRole,
    is_bookie: bool,
    is_serving: bool,
) -> Result<pb::NodeRole, Problem> {
    let no_node = || {
        let message = format!("no node has this name, the cluster's nodes are listed name={name}");
        Problem::bad_field("node", message)
    };
    let both = || {
        let message =
            format!("a bookie and a serving node have this name, say which is meant name={name}");
        Problem::bad_field("role", message)
    };
    match (wanted, is_bookie, is_serving) {
        (pb::NodeRole::Unspecified, true, true) => Err(both()),
        (pb::NodeRole::Unspecified, true, false) => Ok(pb::NodeRole::Bookie),
        (pb::NodeRole::Unspecified, false, true) => Ok(pb::NodeRole::Serving),
        (pb::NodeRole::Unspecified, false, false) => Err(no_node()),
        // One that has stopped is known by name only: meta says whether there is any.
        (role, ..) => Ok(role),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_two_nodes_needs_a_role_and_a_name_of_none_is_refused() {
        use pb::NodeRole::{Bookie, Serving, Unspecified};
        let meant = |wanted, is_bookie, is_serving| {
            let role = meant_role("n", wanted, is_bookie, is_serving);
            role.map_err(|problem| (problem.field.unwrap_or_default(), problem.message))
        };
        assert_eq!(meant(Unspecified, true, false), Ok(Bookie));
        assert_eq!(meant(Unspecified, false, true), Ok(Serving));
        for role in [Bookie, Serving] {
            assert_eq!(meant(role, true, true), Ok(role));
        }
        let (field, said) = meant(Unspecified, true, true).unwrap_err();
        assert_eq!(field, "role");
        assert!(said.contains("name=n"), "{said}");
        let (field, said) = meant(Unspecified, false, false).unwrap_err();
        assert_eq!(field, "node");
        assert!(said.contains("name=n"), "{said}");
    }
}
