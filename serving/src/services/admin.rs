//! Tenants, namespaces and topics: resource-oriented methods over the records of meta.

use pb::topic_service_client::TopicServiceClient;
use proto::raw::v1 as pb;
use tonic::{Request, Response, Status};
use types::command::{Answer, Command, Query, Reply};
use types::{NamespaceName, Problem, Reason, TenantName};

use super::{Services, refuse};
use crate::convert;
use crate::forward::{self, Hop};
use crate::node::{Place, no_topic};

/// Meta answered another question than was asked: a defect.
pub(super) fn mismatch() -> Problem {
    Problem::new(
        Reason::Internal,
        "meta answered another question than was asked",
    )
}

fn missing(reason: Reason, kind: &str, name: impl std::fmt::Display) -> Problem {
    Problem::new(
        reason,
        format!("there is no such {kind}: {name}; create it, or list what there is"),
    )
    .with_resource(name)
}

#[tonic::async_trait]
impl pb::tenant_service_server::TenantService for Services {
    async fn create_tenant(
        &self,
        request: Request<pb::CreateTenantRequest>,
    ) -> Result<Response<pb::Tenant>, Status> {
        let request = request.into_inner();
        let id = format!("tenants/{}", request.tenant_id);
        let name: TenantName = convert::name("tenant_id", &id).map_err(refuse)?;
        let at = self.node.host.clock.wall();
        match self
            .node
            .execute(Command::CreateTenant { name, at })
            .await
            .map_err(refuse)?
        {
            Reply::Tenant(record) => Ok(Response::new(convert::tenant(&record))),
            _ => Err(refuse(mismatch())),
        }
    }

    async fn get_tenant(
        &self,
        request: Request<pb::GetTenantRequest>,
    ) -> Result<Response<pb::Tenant>, Status> {
        let name: TenantName = convert::name("name", &request.get_ref().name).map_err(refuse)?;
        match self
            .node
            .query(Query::Tenant(name.clone()))
            .await
            .map_err(refuse)?
        {
            Answer::Tenant(Some(record)) => Ok(Response::new(convert::tenant(&record))),
            Answer::Tenant(None) => Err(refuse(missing(Reason::TenantNotFound, "tenant", name))),
            _ => Err(refuse(mismatch())),
        }
    }

    async fn list_tenants(
        &self,
        request: Request<pb::ListTenantsRequest>,
    ) -> Result<Response<pb::ListTenantsResponse>, Status> {
        let request = request.into_inner();
        let page = convert::page(request.page_size, request.page_token).map_err(refuse)?;
        let limit = page.limit;
        match self
            .node
            .query(Query::Tenants(page))
            .await
            .map_err(refuse)?
        {
            Answer::Tenants(records) => Ok(Response::new(pb::ListTenantsResponse {
                next_page_token: convert::next_page(&records, limit, |r| r.name.as_str()),
                tenants: records.iter().map(convert::tenant).collect(),
            })),
            _ => Err(refuse(mismatch())),
        }
    }
}

#[tonic::async_trait]
impl pb::namespace_service_server::NamespaceService for Services {
    async fn create_namespace(
        &self,
        request: Request<pb::CreateNamespaceRequest>,
    ) -> Result<Response<pb::Namespace>, Status> {
        let request = request.into_inner();
        let _: TenantName = convert::name("parent", &request.parent).map_err(refuse)?;
        let full = format!("{}/namespaces/{}", request.parent, request.namespace_id);
        let name: NamespaceName = convert::name("namespace_id", &full).map_err(refuse)?;
        let at = self.node.host.clock.wall();
        match self
            .node
            .execute(Command::CreateNamespace { name, at })
            .await
            .map_err(refuse)?
        {
            Reply::Namespace(record) => Ok(Response::new(convert::namespace(&record))),
            _ => Err(refuse(mismatch())),
        }
    }

    async fn get_namespace(
        &self,
        request: Request<pb::GetNamespaceRequest>,
    ) -> Result<Response<pb::Namespace>, Status> {
        let name: NamespaceName = convert::name("name", &request.get_ref().name).map_err(refuse)?;
        match self
            .node
            .query(Query::Namespace(name.clone()))
            .await
            .map_err(refuse)?
        {
            Answer::Namespace(Some(record)) => Ok(Response::new(convert::namespace(&record))),
            Answer::Namespace(None) => Err(refuse(missing(
                Reason::NamespaceNotFound,
                "namespace",
                name,
            ))),
            _ => Err(refuse(mismatch())),
        }
    }

    async fn list_namespaces(
        &self,
        request: Request<pb::ListNamespacesRequest>,
    ) -> Result<Response<pb::ListNamespacesResponse>, Status> {
        let request = request.into_inner();
        let tenant: TenantName = convert::name("parent", &request.parent).map_err(refuse)?;
        let page = convert::page(request.page_size, request.page_token).map_err(refuse)?;
        let limit = page.limit;
        match self
            .node
            .query(Query::Namespaces(tenant, page))
            .await
            .map_err(refuse)?
        {
            Answer::Namespaces(records) => Ok(Response::new(pb::ListNamespacesResponse {
                next_page_token: convert::next_page(&records, limit, |r| r.name.as_str()),
                namespaces: records.iter().map(convert::namespace).collect(),
            })),
            _ => Err(refuse(mismatch())),
        }
    }
}

#[tonic::async_trait]
impl pb::topic_service_server::TopicService for Services {
    async fn create_topic(
        &self,
        request: Request<pb::CreateTopicRequest>,
    ) -> Result<Response<pb::Topic>, Status> {
        let request = request.into_inner();
        let name = convert::topic_under(&request.parent, &request.topic_id).map_err(refuse)?;
        let topic = request.topic.unwrap_or_default();
        let default = self.node.config.quorum;
        let quorum = convert::quorum("topic.quorum", topic.quorum, default).map_err(refuse)?;
        let retention = match topic.retention {
            None => self.node.config.retention,
            Some(retention) => convert::retention("topic.retention", retention).map_err(refuse)?,
        };
        let at = self.node.host.clock.wall();
        let create = Command::CreateTopic {
            name,
            quorum,
            retention,
            at,
        };
        match self.node.execute(create).await.map_err(refuse)? {
            Reply::Topic(record) => Ok(Response::new(convert::topic(&record))),
            _ => Err(refuse(mismatch())),
        }
    }

    async fn get_topic(
        &self,
        request: Request<pb::GetTopicRequest>,
    ) -> Result<Response<pb::Topic>, Status> {
        let name = convert::name("name", &request.get_ref().name).map_err(refuse)?;
        // As meta has it now: whoever deletes by `uid` learns it here.
        let record = self.node.topic_anew(&name).await.map_err(refuse)?;
        Ok(Response::new(convert::topic(&record)))
    }

    async fn update_topic(
        &self,
        request: Request<pb::UpdateTopicRequest>,
    ) -> Result<Response<pb::Topic>, Status> {
        let request = request.into_inner();
        let topic = request.topic.unwrap_or_default();
        let name = convert::name("topic.name", &topic.name).map_err(refuse)?;
        let paths = request.update_mask.unwrap_or_default().paths;
        if let Some(other) = paths.iter().find(|path| *path != "retention") {
            let text = format!("only retention may be changed, not {other}");
            return Err(refuse(Problem::bad_field("update_mask", text)));
        }
        let retention = topic.retention.ok_or_else(|| {
            let text = "set it: what stays as it is need not be sent";
            refuse(Problem::bad_field("topic.retention", text))
        })?;
        let retention = convert::retention("topic.retention", retention).map_err(refuse)?;
        let update = Command::UpdateTopic { name, retention };
        match self.node.execute(update).await.map_err(refuse)? {
            Reply::Topic(record) => Ok(Response::new(convert::topic(&record))),
            _ => Err(refuse(mismatch())),
        }
    }

    async fn delete_topic(
        &self,
        request: Request<pb::DeleteTopicRequest>,
    ) -> Result<Response<()>, Status> {
        let hop = Hop::of(request.metadata());
        let name = convert::name("name", &request.get_ref().name).map_err(refuse)?;
        let topic = self.node.topic_anew(&name).await.map_err(refuse)?;
        if !convert::is_meant(&request.get_ref().uid, topic.id) {
            return Err(refuse(no_topic(&name)));
        }
        match self.node.place(&topic, hop).await.map_err(refuse)? {
            Place::Here(shard) => {
                let deleted = self.node.delete_topic(&shard, &topic).await;
                deleted.map(Response::new).map_err(refuse)
            }
            Place::There(owner) => {
                let channel = self.node.peers.channel(&owner.endpoint);
                let mut client = TopicServiceClient::new(channel);
                let answer = client
                    .delete_topic(forward::marked(request, &self.node.config.name))
                    .await;
                self.node.forget_topic(&name);
                answer.map_err(|status| self.node.upstream_failed(topic.shards[0], status))
            }
        }
    }

    async fn list_topics(
        &self,
        request: Request<pb::ListTopicsRequest>,
    ) -> Result<Response<pb::ListTopicsResponse>, Status> {
        let request = request.into_inner();
        let namespace = if request.parent.is_empty() {
            NamespaceName::default_namespace()
        } else {
            convert::name("parent", &request.parent).map_err(refuse)?
        };
        let page = convert::page(request.page_size, request.page_token).map_err(refuse)?;
        let limit = page.limit;
        match self
            .node
            .query(Query::Topics(namespace, page))
            .await
            .map_err(refuse)?
        {
            Answer::Topics(records) => Ok(Response::new(pb::ListTopicsResponse {
                next_page_token: convert::next_page(&records, limit, |r| r.name.as_str()),
                topics: records.iter().map(convert::topic).collect(),
            })),
            _ => Err(refuse(mismatch())),
        }
    }

    async fn get_topic_stats(
        &self,
        request: Request<pb::GetTopicStatsRequest>,
    ) -> Result<Response<pb::TopicStats>, Status> {
        self.topic_stats(request).await
    }
}
