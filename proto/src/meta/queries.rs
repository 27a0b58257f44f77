//! Queries and their answers.

use types::command::{Answer, Page, Query};
use types::{LogId, Problem, ShardId};

use super::nodes::{
    bookie, bookie_to_wire, place, place_to_wire, serving_node, serving_node_to_wire, session,
    session_to_wire,
};
use super::shards::{
    ledger, ledger_id, ledger_id_to_wire, ledger_to_wire, standing, standing_to_wire, view,
    view_to_wire,
};
use super::topics::{
    namespace, namespace_to_wire, subscription, subscription_to_wire, tenant, tenant_to_wire,
    topic, topic_to_wire,
};
use super::{all, cluster, cluster_to_wire, missing, parse, pb};

use pb::answer::Answer as WireAnswer;
use pb::query::Query as Wire;

/// A query on the wire.
pub fn query_to_wire(query: &Query) -> pb::Query {
    let wire = match query {
        Query::Cluster => Wire::Cluster(pb::Nothing {}),
        Query::Tenant(name) => Wire::Tenant(name.to_string()),
        Query::Tenants(page) => Wire::Tenants(page_to_wire("", page)),
        Query::Namespace(name) => Wire::Namespace(name.to_string()),
        Query::Namespaces(parent, page) => Wire::Namespaces(page_to_wire(parent.as_str(), page)),
        Query::Topic(name) => Wire::Topic(name.to_string()),
        Query::Topics(parent, page) => Wire::Topics(page_to_wire(parent.as_str(), page)),
        Query::Subscription(name) => Wire::Subscription(name.to_string()),
        Query::Subscriptions(parent, page) => {
            Wire::Subscriptions(page_to_wire(parent.as_str(), page))
        }
        Query::Shard(id) => Wire::Shard(id.get()),
        Query::Ledgers(ids) => Wire::Ledgers(pb::LedgerIds {
            ids: ids.iter().copied().map(ledger_id_to_wire).collect(),
        }),
        Query::Logs(ids) => Wire::Logs(pb::LogIds {
            ids: ids.iter().map(|id| id.get()).collect(),
        }),
        Query::Bookies => Wire::Bookies(pb::Nothing {}),
        Query::Sessions => Wire::Sessions(pb::Nothing {}),
        Query::ServingNodes => Wire::ServingNodes(pb::Nothing {}),
        Query::Shards(page) => Wire::Shards(page_to_wire("", page)),
    };
    pb::Query { query: Some(wire) }
}

/// Reads a query.
///
/// # Errors
///
/// `BAD_FIELD` names what makes no sense.
pub fn query(query: pb::Query) -> Result<Query, Problem> {
    Ok(match query.query.ok_or_else(|| missing("query"))? {
        Wire::Cluster(_) => Query::Cluster,
        Wire::Tenant(name) => Query::Tenant(parse("tenant", &name)?),
        Wire::Tenants(part) => Query::Tenants(page(part)),
        Wire::Namespace(name) => Query::Namespace(parse("namespace", &name)?),
        Wire::Namespaces(part) => {
            Query::Namespaces(parse("namespaces.parent", &part.parent)?, page(part))
        }
        Wire::Topic(name) => Query::Topic(parse("topic", &name)?),
        Wire::Topics(part) => Query::Topics(parse("topics.parent", &part.parent)?, page(part)),
        Wire::Subscription(name) => Query::Subscription(parse("subscription", &name)?),
        Wire::Subscriptions(part) => {
            Query::Subscriptions(parse("subscriptions.parent", &part.parent)?, page(part))
        }
        Wire::Shard(id) => Query::Shard(ShardId::new(id)),
        Wire::Ledgers(ledgers) => {
            Query::Ledgers(all(ledgers.ids, |id| ledger_id("ledgers", Some(id)))?)
        }
        Wire::Logs(logs) => Query::Logs(logs.ids.into_iter().map(LogId::new).collect()),
        Wire::Bookies(_) => Query::Bookies,
        Wire::Sessions(_) => Query::Sessions,
        Wire::ServingNodes(_) => Query::ServingNodes,
        Wire::Shards(part) => Query::Shards(page(part)),
    })
}

fn page_to_wire(parent: &str, page: &Page) -> pb::Page {
    pb::Page {
        parent: parent.to_owned(),
        after: page.after.clone(),
        limit: u32::try_from(page.limit).unwrap_or(u32::MAX),
    }
}

fn page(page: pb::Page) -> Page {
    Page {
        after: page.after,
        limit: usize::try_from(page.limit).unwrap_or(usize::MAX),
    }
}

/// An answer on the wire.
pub fn answer_to_wire(answer: &Answer) -> pb::Answer {
    let tenants = |items: &[_]| pb::TenantList {
        items: items.iter().map(tenant_to_wire).collect(),
    };
    let namespaces = |items: &[_]| pb::NamespaceList {
        items: items.iter().map(namespace_to_wire).collect(),
    };
    let topics = |items: &[_]| pb::TopicList {
        items: items.iter().map(topic_to_wire).collect(),
    };
    let subscriptions = |items: &[_]| pb::SubscriptionList {
        items: items.iter().map(subscription_to_wire).collect(),
    };
    let wire = match answer {
        Answer::Cluster(id) => WireAnswer::Cluster(cluster_to_wire(*id)),
        Answer::Tenant(it) => WireAnswer::Tenant(tenants(it.as_slice())),
        Answer::Tenants(items) => WireAnswer::Tenants(tenants(items)),
        Answer::Namespace(it) => WireAnswer::Namespace(namespaces(it.as_slice())),
        Answer::Namespaces(items) => WireAnswer::Namespaces(namespaces(items)),
        Answer::Topic(it) => WireAnswer::Topic(topics(it.as_slice())),
        Answer::Topics(items) => WireAnswer::Topics(topics(items)),
        Answer::Subscription(it) => WireAnswer::Subscription(subscriptions(it.as_slice())),
        Answer::Subscriptions(items) => WireAnswer::Subscriptions(subscriptions(items)),
        Answer::Shard(view, owner) => WireAnswer::Shard(pb::ShardAnswer {
            view: view.as_ref().map(view_to_wire),
            owner: owner.as_ref().map(session_to_wire),
        }),
        Answer::Ledgers(items) => WireAnswer::Ledgers(pb::LedgerList {
            items: items.iter().map(ledger_to_wire).collect(),
        }),
        Answer::Logs(items) => WireAnswer::Logs(pb::LogList {
            items: items.iter().map(standing_to_wire).collect(),
        }),
        Answer::Bookies(items) => WireAnswer::Bookies(pb::BookieList {
            items: items.iter().map(bookie_to_wire).collect(),
        }),
        Answer::Sessions(items) => WireAnswer::Sessions(pb::SessionList {
            items: items.iter().map(session_to_wire).collect(),
        }),
        Answer::ServingNodes(items) => WireAnswer::ServingNodes(pb::ServingNodeList {
            items: items.iter().map(serving_node_to_wire).collect(),
        }),
        Answer::Shards(items) => WireAnswer::Shards(pb::ShardPlaceList {
            items: items.iter().map(place_to_wire).collect(),
        }),
    };
    pb::Answer { answer: Some(wire) }
}

/// Reads an answer.
///
/// # Errors
///
/// `BAD_FIELD` names what makes no sense.
pub fn answer(answer: pb::Answer) -> Result<Answer, Problem> {
    Ok(match answer.answer.ok_or_else(|| missing("answer"))? {
        WireAnswer::Cluster(id) => Answer::Cluster(cluster("cluster", &id)?),
        WireAnswer::Tenant(list) => Answer::Tenant(all(list.items, tenant)?.pop()),
        WireAnswer::Tenants(list) => Answer::Tenants(all(list.items, tenant)?),
        WireAnswer::Namespace(list) => Answer::Namespace(all(list.items, namespace)?.pop()),
        WireAnswer::Namespaces(list) => Answer::Namespaces(all(list.items, namespace)?),
        WireAnswer::Topic(list) => Answer::Topic(all(list.items, topic)?.pop()),
        WireAnswer::Topics(list) => Answer::Topics(all(list.items, topic)?),
        WireAnswer::Subscription(list) => {
            Answer::Subscription(all(list.items, subscription)?.pop())
        }
        WireAnswer::Subscriptions(list) => Answer::Subscriptions(all(list.items, subscription)?),
        WireAnswer::Shard(shard) => Answer::Shard(
            shard.view.map(view).transpose()?,
            shard.owner.map(session).transpose()?,
        ),
        WireAnswer::Ledgers(list) => Answer::Ledgers(all(list.items, ledger)?),
        WireAnswer::Logs(list) => Answer::Logs(all(list.items, standing)?),
        WireAnswer::Bookies(list) => Answer::Bookies(all(list.items, bookie)?),
        WireAnswer::Sessions(list) => Answer::Sessions(all(list.items, session)?),
        WireAnswer::ServingNodes(list) => Answer::ServingNodes(all(list.items, serving_node)?),
        WireAnswer::Shards(list) => Answer::Shards(all(list.items, place)?),
    })
}
