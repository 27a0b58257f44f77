//! Administration: tenants, namespaces, topics, subscriptions, and how everything stands.

use std::time::Duration;

use proto::v1 as pb;
use proto::v1::cluster_service_client::ClusterServiceClient;
use proto::v1::namespace_service_client::NamespaceServiceClient;
use proto::v1::subscription_service_client::SubscriptionServiceClient;
use proto::v1::tenant_service_client::TenantServiceClient;
use proto::v1::topic_service_client::TopicServiceClient;
use types::topic::{Retention, StartPosition, SubscriptionMode};
use types::{Problem, Quorum, SubscriptionName, TopicName};

use crate::connect::Shared;
use crate::{Error, api, convert};

/// Administers a cluster. Answers are the API's own messages, [`api`].
///
/// Calls are repeated at other nodes while that may help. One that makes something is not repeated when its outcome is
/// not known (`OUTCOME_UNKNOWN`): get it, and make it again if it is not there.
///
/// # Errors
///
/// Every call: `BAD_FIELD` for a name that is none; `…_NOT_FOUND`; `ALREADY_EXISTS`; `UNREACHABLE` when no node answers.
///
/// # Cancel safety
///
/// Dropping a call does not undo what it may have done.
#[derive(Debug, Clone)]
pub struct Admin {
    shared: Shared,
}

/// How a topic is made. What is left out is the cluster's default.
#[derive(Debug, Clone, Copy, Default)]
pub struct TopicOptions {
    /// Copies of each message, and how many of them are fsynced before it is acked.
    pub quorum: Option<Quorum>,
    /// How long messages stay that no subscription needs.
    pub retention: Option<Retention>,
}

/// How a new subscription is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// How it shares messages among its consumers; none for exclusive.
    pub mode: Option<SubscriptionMode>,
    /// How long a delivered message may stay unacked; none for the server's default.
    pub ack_deadline: Option<Duration>,
    /// Where it starts; none for the oldest message.
    pub start: Option<StartPosition>,
}

/// One call: the service's client, its method, the request.
macro_rules! call {
    ($self:ident, $repeatable:literal, $client:ident . $method:ident ($request:expr)) => {{
        let request = $request;
        let call = |channel| {
            let request = request.clone();
            async move { $client::new(channel).$method(request).await }
        };
        $self.shared.call($repeatable, call).await
    }};
}

/// All pages of a list.
macro_rules! pages {
    ($self:ident, $client:ident . $method:ident ($request:ident) . $items:ident) => {{
        let mut request = $request;
        let mut all = Vec::new();
        loop {
            let page = call!($self, true, $client.$method(request.clone()))?;
            all.extend(page.$items);
            if page.next_page_token.is_empty() {
                break Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }};
}

#[expect(
    clippy::missing_errors_doc,
    reason = "the errors of all calls are those of `Admin`"
)]
impl Admin {
    pub(crate) const fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// Makes a tenant of this single name.
    pub async fn create_tenant(&self, tenant: &str) -> Result<api::Tenant, Error> {
        let request = pb::CreateTenantRequest {
            tenant_id: tenant.to_owned(),
            tenant: None,
        };
        call!(self, false, TenantServiceClient.create_tenant(request))
    }

    /// Reads a tenant, `tenants/{tenant}`.
    pub async fn get_tenant(&self, name: &str) -> Result<api::Tenant, Error> {
        let request = pb::GetTenantRequest {
            name: name.to_owned(),
        };
        call!(self, true, TenantServiceClient.get_tenant(request))
    }

    /// Every tenant, in order of name.
    pub async fn list_tenants(&self) -> Result<Vec<api::Tenant>, Error> {
        let request = pb::ListTenantsRequest::default();
        pages!(self, TenantServiceClient.list_tenants(request).tenants)
    }

    /// Makes a namespace of this single name in `tenants/{tenant}`.
    pub async fn create_namespace(
        &self,
        tenant: &str,
        namespace: &str,
    ) -> Result<api::Namespace, Error> {
        let request = pb::CreateNamespaceRequest {
            parent: tenant.to_owned(),
            namespace_id: namespace.to_owned(),
            namespace: None,
        };
        call!(
            self,
            false,
            NamespaceServiceClient.create_namespace(request)
        )
    }

    /// Reads a namespace, `tenants/{tenant}/namespaces/{namespace}`.
    pub async fn get_namespace(&self, name: &str) -> Result<api::Namespace, Error> {
        let request = pb::GetNamespaceRequest {
            name: name.to_owned(),
        };
        call!(self, true, NamespaceServiceClient.get_namespace(request))
    }

    /// Every namespace of a tenant, in order of name.
    pub async fn list_namespaces(&self, tenant: &str) -> Result<Vec<api::Namespace>, Error> {
        let request = pb::ListNamespacesRequest {
            parent: tenant.to_owned(),
            ..Default::default()
        };
        pages!(
            self,
            NamespaceServiceClient.list_namespaces(request).namespaces
        )
    }

    /// Makes a topic, by its short or full name. What the options leave out is the cluster's default.
    pub async fn create_topic(
        &self,
        topic: &str,
        options: TopicOptions,
    ) -> Result<api::Topic, Error> {
        let name = topic_name(topic)?;
        let quorum = options.quorum.map(|quorum| pb::Quorum {
            write: quorum.write().try_into().unwrap_or(u32::MAX),
            ack: quorum.ack().try_into().unwrap_or(u32::MAX),
        });
        let request = pb::CreateTopicRequest {
            parent: name.namespace().to_string(),
            topic: Some(pb::Topic {
                quorum,
                retention: options.retention.map(convert::retention),
                ..Default::default()
            }),
            topic_id: name.short().to_owned(),
        };
        call!(self, false, TopicServiceClient.create_topic(request))
    }

    /// Reads a topic, by its short or full name.
    pub async fn get_topic(&self, topic: &str) -> Result<api::Topic, Error> {
        let request = pb::GetTopicRequest {
            name: topic_name(topic)?.to_string(),
        };
        call!(self, true, TopicServiceClient.get_topic(request))
    }

    /// Changes how long a topic's messages stay.
    pub async fn set_retention(
        &self,
        topic: &str,
        retention: Retention,
    ) -> Result<api::Topic, Error> {
        let request = pb::UpdateTopicRequest {
            topic: Some(pb::Topic {
                name: topic_name(topic)?.to_string(),
                retention: Some(convert::retention(retention)),
                ..Default::default()
            }),
            ..Default::default()
        };
        call!(self, true, TopicServiceClient.update_topic(request))
    }

    /// Takes a topic away with its subscriptions and all its messages, for good. Its producers and consumers end, and its
    /// name may be used again. A topic that is made under the name while this is under way
    /// stays.
    pub async fn delete_topic(&self, topic: &str) -> Result<(), Error> {
        let name = topic_name(topic)?.to_string();
        let uid = self.get_topic(topic).await?.uid;
        let request = pb::DeleteTopicRequest { name, uid };
        call!(self, false, TopicServiceClient.delete_topic(request))
    }

    /// Every topic of a namespace, in order of name; empty for the default namespace.
    pub async fn list_topics(&self, namespace: &str) -> Result<Vec<api::Topic>, Error> {
        let request = pb::ListTopicsRequest {
            parent: namespace.to_owned(),
            ..Default::default()
        };
        pages!(self, TopicServiceClient.list_topics(request).topics)
    }

    /// How a topic stands.
    pub async fn topic_stats(&self, topic: &str) -> Result<api::TopicStats, Error> {
        let request = pb::GetTopicStatsRequest {
            name: topic_name(topic)?.to_string(),
        };
        call!(self, true, TopicServiceClient.get_topic_stats(request))
    }

    /// Makes a subscription, `{topic}/subscriptions/{subscription}`. When it returns, no message published from then on
    /// passes it by.
    pub async fn create_subscription(
        &self,
        subscription: &str,
        options: SubscriptionOptions,
    ) -> Result<api::Subscription, Error> {
        let name = subscription_name(subscription)?;
        let settings = pb::Subscription {
            mode: convert::mode(options.mode).into(),
            ack_deadline: options.ack_deadline.map(proto::time::duration_to_wire),
            initial_position: options.start.map(convert::position),
            ..Default::default()
        };
        let request = pb::CreateSubscriptionRequest {
            parent: name.topic().to_string(),
            subscription: Some(settings),
            subscription_id: name.short().to_owned(),
        };
        call!(
            self,
            false,
            SubscriptionServiceClient.create_subscription(request)
        )
    }

    /// Reads a subscription.
    pub async fn get_subscription(&self, subscription: &str) -> Result<api::Subscription, Error> {
        let name = subscription_name(subscription)?.to_string();
        let request = pb::GetSubscriptionRequest { name };
        call!(
            self,
            true,
            SubscriptionServiceClient.get_subscription(request)
        )
    }

    /// Takes a subscription away, with its place in the topic. Its consumers end, and its name may be used again. One that is
    /// made under the name while this is under way stays.
    pub async fn delete_subscription(&self, subscription: &str) -> Result<(), Error> {
        let name = subscription_name(subscription)?.to_string();
        let uid = self.get_subscription(subscription).await?.uid;
        let request = pb::DeleteSubscriptionRequest { name, uid };
        call!(
            self,
            false,
            SubscriptionServiceClient.delete_subscription(request)
        )
    }

    /// Every subscription of a topic, in order of name.
    pub async fn list_subscriptions(&self, topic: &str) -> Result<Vec<api::Subscription>, Error> {
        let parent = topic_name(topic)?.to_string();
        let request = pb::ListSubscriptionsRequest {
            parent,
            ..Default::default()
        };
        pages!(
            self,
            SubscriptionServiceClient
                .list_subscriptions(request)
                .subscriptions
        )
    }

    /// How a subscription stands.
    pub async fn subscription_stats(
        &self,
        subscription: &str,
    ) -> Result<api::SubscriptionStats, Error> {
        let name = subscription_name(subscription)?.to_string();
        let request = pb::GetSubscriptionStatsRequest { name };
        call!(
            self,
            true,
            SubscriptionServiceClient.get_subscription_stats(request)
        )
    }

    /// Which nodes there are and how they stand.
    pub async fn cluster_status(&self) -> Result<api::ClusterStatus, Error> {
        let request = pb::GetClusterStatusRequest {};
        call!(self, true, ClusterServiceClient.get_cluster_status(request))
    }

    /// How the copies of all ledgers stand, and what is being done about those that are not whole.
    pub async fn repair_plan(&self) -> Result<api::RepairPlan, Error> {
        let request = pb::GetRepairPlanRequest {};
        call!(self, true, ClusterServiceClient.get_repair_plan(request))
    }

    /// Empties a node, or takes that back: a bookie's copies move to others, a serving node's topics do. `role` says which
    /// node is meant where a bookie and a serving node have the same name.
    pub async fn drain_node(
        &self,
        node: &str,
        role: Option<pb::NodeRole>,
        draining: bool,
    ) -> Result<(), Error> {
        let request = pb::DrainNodeRequest {
            node: node.to_owned(),
            draining,
            role: role.unwrap_or_default().into(),
        };
        let done: Result<pb::DrainNodeResponse, Error> =
            call!(self, true, ClusterServiceClient.drain_node(request));
        done.map(drop)
    }

    /// Takes a drained bookie that no ledger names any more out of the cluster, for good.
    pub async fn decommission_node(&self, node: &str) -> Result<(), Error> {
        let node = node.to_owned();
        let request = pb::DecommissionNodeRequest { node };
        let done: Result<pb::DecommissionNodeResponse, Error> =
            call!(self, true, ClusterServiceClient.decommission_node(request));
        done.map(drop)
    }
}

fn topic_name(text: &str) -> Result<TopicName, Error> {
    Ok(text
        .parse()
        .map_err(|error| Problem::bad_field("topic", error))?)
}

fn subscription_name(text: &str) -> Result<SubscriptionName, Error> {
    Ok(text
        .parse()
        .map_err(|error| Problem::bad_field("subscription", error))?)
}
