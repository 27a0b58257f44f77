//! Subscriptions: made by the owner of the shard, so that the first cursor is durable before anybody may use it.

use std::sync::Arc;

use pb::subscription_service_client::SubscriptionServiceClient;
use proto::raw::v1 as pb;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};
use types::command::{Answer, Query};
use types::topic::{StartPosition, SubscriptionMode, SubscriptionState};
use types::{Problem, Reason, SubscriptionName, TopicName};

use super::admin::mismatch;
use super::{Services, inside, refuse};
use crate::convert;
use crate::forward::{self, Hop};
use crate::node::Place;
use crate::subscriptions::NewSubscription;

#[tonic::async_trait]
impl pb::subscription_service_server::SubscriptionService for Services {
    async fn create_subscription(
        &self,
        request: Request<pb::CreateSubscriptionRequest>,
    ) -> Result<Response<pb::Subscription>, Status> {
        let hop = Hop::of(request.metadata());
        let (name, wanted) = new_subscription(request.get_ref()).map_err(refuse)?;
        let topic = self.node.topic(&name.topic()).await.map_err(refuse)?;
        match self.node.place(&topic, hop).await.map_err(refuse)? {
            Place::Here(shard) => {
                let created = self.node.create_subscription(&shard, name, wanted).await;
                let created = created.map_err(inside("subscription")).map_err(refuse)?;
                Ok(Response::new(convert::subscription(&created)))
            }
            Place::There(owner) => {
                let channel = self.node.peers.channel(&owner.endpoint);
                let mut client = SubscriptionServiceClient::new(channel);
                let answer = client
                    .create_subscription(forward::marked(request, &self.node.config.name))
                    .await;
                answer.map_err(|status| self.node.upstream_failed(topic.shards[0], status))
            }
        }
    }

    async fn get_subscription(
        &self,
        request: Request<pb::GetSubscriptionRequest>,
    ) -> Result<Response<pb::Subscription>, Status> {
        let name: SubscriptionName =
            convert::name("name", &request.get_ref().name).map_err(refuse)?;
        let record = self.node.subscription(&name).await.map_err(refuse)?;
        Ok(Response::new(convert::subscription(&record)))
    }

    async fn list_subscriptions(
        &self,
        request: Request<pb::ListSubscriptionsRequest>,
    ) -> Result<Response<pb::ListSubscriptionsResponse>, Status> {
        let request = request.into_inner();
        let topic: TopicName = convert::name("parent", &request.parent).map_err(refuse)?;
        self.node.topic(&topic).await.map_err(refuse)?;
        let page = convert::page(request.page_size, request.page_token).map_err(refuse)?;
        let limit = page.limit;
        match self
            .node
            .query(Query::Subscriptions(topic, page))
            .await
            .map_err(refuse)?
        {
            Answer::Subscriptions(records) => Ok(Response::new(pb::ListSubscriptionsResponse {
                next_page_token: convert::next_page(&records, limit, |r| r.name.as_str()),
                subscriptions: records
                    .iter()
                    .filter(|record| record.state != SubscriptionState::Deleted)
                    .map(convert::subscription)
                    .collect(),
            })),
            _ => Err(refuse(mismatch())),
        }
    }

    async fn delete_subscription(
        &self,
        request: Request<pb::DeleteSubscriptionRequest>,
    ) -> Result<Response<()>, Status> {
        let hop = Hop::of(request.metadata());
        let name: SubscriptionName =
            convert::name("name", &request.get_ref().name).map_err(refuse)?;
        let topic = self.node.topic(&name.topic()).await.map_err(refuse)?;
        match self.node.place(&topic, hop).await.map_err(refuse)? {
            Place::Here(shard) => {
                let uid = request.into_inner().uid;
                let (node, (tell, deleted)) = (Arc::clone(&self.node), oneshot::channel());
                // Finished whoever goes: else the shard would keep what meta does not know any more.
                let deleting = async move {
                    let _ = tell.send(node.delete_subscription(&shard, name, &uid).await);
                };
                self.node.host.tasks.spawn("delete-subscription", deleting);
                let stops = |_| Err(Problem::new(Reason::OutcomeUnknown, "this node stops"));
                let deleted = deleted.await.unwrap_or_else(stops);
                deleted.map(Response::new).map_err(refuse)
            }
            Place::There(owner) => {
                let channel = self.node.peers.channel(&owner.endpoint);
                let mut client = SubscriptionServiceClient::new(channel);
                let answer = client
                    .delete_subscription(forward::marked(request, &self.node.config.name))
                    .await;
                answer.map_err(|status| self.node.upstream_failed(topic.shards[0], status))
            }
        }
    }

    async fn get_subscription_stats(
        &self,
        request: Request<pb::GetSubscriptionStatsRequest>,
    ) -> Result<Response<pb::SubscriptionStats>, Status> {
        let hop = Hop::of(request.metadata());
        let name: SubscriptionName =
            convert::name("name", &request.get_ref().name).map_err(refuse)?;
        let record = self.node.subscription(&name).await.map_err(refuse)?;
        let topic = self.node.topic(&name.topic()).await.map_err(refuse)?;
        match self.node.place(&topic, hop).await.map_err(refuse)? {
            Place::Here(shard) => {
                let stats = shard.handle.stats().await.map_err(refuse)?;
                let of = stats
                    .subscriptions
                    .iter()
                    .find(|s| s.subscription == record.id);
                let of = of.ok_or_else(|| {
                    refuse(Problem::new(
                        Reason::SubscriptionNotFound,
                        "the subscription is still being made; try again",
                    ))
                })?;
                Ok(Response::new(pb::SubscriptionStats {
                    name: name.to_string(),
                    backlog_messages: of.backlog,
                    unacked_messages: of.unacked,
                    waiting_messages: of.waiting,
                    cursor: of.cursor.get(),
                    next_offset: stats.confirmed_end.get(),
                    consumers: u32::try_from(of.consumers).unwrap_or(u32::MAX),
                }))
            }
            Place::There(owner) => {
                let channel = self.node.peers.channel(&owner.endpoint);
                let mut client = SubscriptionServiceClient::new(channel);
                let answer = client
                    .get_subscription_stats(forward::marked(request, &self.node.config.name))
                    .await;
                answer.map_err(|status| self.node.upstream_failed(topic.shards[0], status))
            }
        }
    }
}

/// What a request to make a subscription asks for.
fn new_subscription(
    request: &pb::CreateSubscriptionRequest,
) -> Result<(SubscriptionName, NewSubscription), Problem> {
    let topic: TopicName = convert::name("parent", &request.parent)?;
    let name = topic
        .subscription(&request.subscription_id)
        .map_err(|error| Problem::bad_field("subscription_id", error))?;
    let body = request.subscription.clone().unwrap_or_default();
    let mode =
        convert::mode("subscription.mode", body.mode)?.unwrap_or(SubscriptionMode::Exclusive);
    let ack_deadline = convert::duration("subscription.ack_deadline", body.ack_deadline)?;
    let start: StartPosition =
        convert::start("subscription.initial_position", body.initial_position)?;
    Ok((
        name,
        NewSubscription {
            mode,
            ack_deadline,
            start,
        },
    ))
}
