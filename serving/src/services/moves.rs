//! What other serving nodes ask of this one.

use std::time::Duration;

use proto::serving_v1 as pb;
use tonic::{Request, Response, Status};
use types::{Problem, Reason, ShardId, TopicName};

use super::{Services, refuse};
use crate::convert;

#[tonic::async_trait]
impl pb::moves_server::Moves for Services {
    async fn prepare_shard(
        &self,
        request: Request<pb::MoveRequest>,
    ) -> Result<Response<pb::PrepareShardResponse>, Status> {
        let request = request.into_inner();
        let (shard, topic) = self.coming(&request).map_err(refuse)?;
        let within = Duration::from_nanos(request.within_nanos);
        let ready = self.node.prepare(shard, &topic, within).await;
        ready.map_err(refuse)?;
        Ok(Response::new(pb::PrepareShardResponse {}))
    }

    async fn open_shard(
        &self,
        request: Request<pb::MoveRequest>,
    ) -> Result<Response<pb::OpenShardResponse>, Status> {
        let request = request.into_inner();
        let (shard, topic) = self.coming(&request).map_err(refuse)?;
        let epoch = self.node.take(shard, &topic).await.map_err(refuse)?;
        let epoch = epoch.get();
        Ok(Response::new(pb::OpenShardResponse { epoch }))
    }

    async fn get_load(
        &self,
        request: Request<pb::GetLoadRequest>,
    ) -> Result<Response<pb::GetLoadResponse>, Status> {
        let request = request.into_inner();
        self.meant(&request.cluster, request.to).map_err(refuse)?;
        let load = self.node.balance.load();
        Ok(Response::new(pb::GetLoadResponse { load }))
    }
}

impl Services {
    fn coming(&self, request: &pb::MoveRequest) -> Result<(ShardId, TopicName), Problem> {
        self.meant(&request.cluster, request.to)?;
        let topic = convert::name("topic", &request.topic)?;
        Ok((ShardId::new(request.shard), topic))
    }

    /// Checks that a request is meant for this very process.
    fn meant(&self, cluster: &[u8], to: u64) -> Result<(), Problem> {
        if *cluster != self.node.cluster.to_bytes() {
            let text = "the request is for a node of another cluster";
            return Err(Problem::new(Reason::WrongCluster, text));
        }
        if to != self.node.session.get() {
            let text = "the request is for another process: the node was started again, or another has its address";
            return Err(Problem::new(Reason::WrongNode, text));
        }
        Ok(())
    }
}
