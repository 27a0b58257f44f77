//! Commands on what users name: tenants, namespaces, subscriptions; and the first records of a store. Topics have a
//! file of their own.

use std::time::Duration;

use types::command::{Change, Command, Reply};
use types::topic::{NamespaceRecord, SubscriptionRecord, SubscriptionState, TenantRecord};
use types::{
    ClusterId, NamespaceName, Problem, Reason, SessionId, SubscriptionId, SubscriptionName,
    TenantName, WallTime,
};

use crate::plan::{Done, Drafting, Halt};
use crate::topics;
use crate::{Key, Record};

/// The longest ack deadline: a lease that never ends would keep a message from everybody else.
const ACK_DEADLINE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Takes an empty store for a cluster. On one that has a cluster it changes nothing and tells which.
pub(crate) fn bootstrap(
    d: &mut Drafting<'_>,
    cluster: ClusterId,
    at: WallTime,
) -> Result<Done, Halt> {
    if let Some((there, _)) = d.cluster(&Key::Cluster)? {
        return Ok(Done::Answer(Reply::Cluster(*there)));
    }
    let tenant = TenantName::default_tenant();
    let namespace = NamespaceName::default_namespace();
    d.want([
        Key::Counters,
        Key::Tenant(tenant.clone()),
        Key::Namespace(namespace.clone()),
    ])?;
    let counters = d.counters()?;
    d.put(Key::Cluster, Record::Cluster(cluster));
    d.put(Key::Counters, Record::Counters(counters));
    if d.tenant(&Key::Tenant(tenant.clone()))?.is_none() {
        put_tenant(d, tenant, at);
    }
    if d.namespace(&Key::Namespace(namespace.clone()))?.is_none() {
        put_namespace(d, namespace, at);
    }
    Ok(Done::write(Reply::Cluster(cluster)))
}

pub(crate) fn create_tenant(
    d: &mut Drafting<'_>,
    name: &TenantName,
    at: WallTime,
) -> Result<Done, Halt> {
    if d.tenant(&Key::Tenant(name.clone()))?.is_some() {
        return Err(exists(name).into());
    }
    let record = put_tenant(d, name.clone(), at);
    Ok(Done::write(Reply::Tenant(record)))
}

pub(crate) fn create_namespace(
    d: &mut Drafting<'_>,
    name: &NamespaceName,
    at: WallTime,
) -> Result<Done, Halt> {
    let tenant = Key::Tenant(name.tenant());
    d.want([tenant.clone(), Key::Namespace(name.clone())])?;
    if d.tenant(&tenant)?.is_none() {
        return Err(not_found(Reason::TenantNotFound, "tenant", &name.tenant()).into());
    }
    if d.namespace(&Key::Namespace(name.clone()))?.is_some() {
        return Err(exists(name).into());
    }
    let record = put_namespace(d, name.clone(), at);
    Ok(Done::write(Reply::Namespace(record)))
}

/// Numbers a subscription. It is `Creating` until the owner's first cursor is durable.
pub(crate) fn create_subscription(d: &mut Drafting<'_>, command: &Command) -> Result<Done, Halt> {
    let Command::CreateSubscription {
        name,
        mode,
        ack_deadline,
        start,
        at,
    } = command
    else {
        unreachable!("called for this command only");
    };
    let topic_key = Key::Topic(name.topic());
    let key = Key::Subscription(name.clone());
    d.want([topic_key.clone(), key.clone(), Key::Counters])?;
    let Some((topic, _)) = d.topic(&topic_key)? else {
        return Err(not_found(Reason::TopicNotFound, "topic", &name.topic()).into());
    };
    let before = d.subscription(&key)?;
    let is_there = |before: &SubscriptionRecord| {
        before.topic == topic.id && before.state != SubscriptionState::Deleted
    };
    if before.is_some_and(|(before, _)| is_there(before)) {
        return Err(exists(name).into());
    }
    if ack_deadline.is_zero() || *ack_deadline > ACK_DEADLINE_MAX {
        let wanted = "more than zero and at most 24 hours";
        return Err(Problem::bad_field("ack_deadline", wanted)
            .with_resource(name)
            .into());
    }
    let mut counters = d.counters()?;
    let record = SubscriptionRecord {
        id: counters.subscription,
        topic: topic.id,
        name: name.clone(),
        mode: *mode,
        ack_deadline: *ack_deadline,
        start: *start,
        state: SubscriptionState::Creating,
        created_at: *at,
    };
    counters.subscription = counters.subscription.next();
    d.tell(Change::Subscription(name.clone()));
    d.put(key, Record::Subscription(record.clone()));
    d.put(Key::Counters, Record::Counters(counters));
    Ok(Done::write(Reply::Subscription(record)))
}

pub(crate) fn activate_subscription(
    d: &mut Drafting<'_>,
    name: &SubscriptionName,
    id: SubscriptionId,
) -> Result<Done, Halt> {
    let record = numbered(d, name, id)?;
    match record.state {
        SubscriptionState::Creating => {}
        SubscriptionState::Active => {
            return Ok(Done::Answer(Reply::Subscription(record)));
        }
        SubscriptionState::Deleted => {
            return Err(not_found(Reason::SubscriptionNotFound, "subscription", name).into());
        }
    }
    Ok(set_state(d, record, SubscriptionState::Active))
}

/// Takes a subscription away. Only while the session owns the shard: an owner that claims later reads a list without it.
pub(crate) fn delete_subscription(
    d: &mut Drafting<'_>,
    name: &SubscriptionName,
    id: SubscriptionId,
    session: SessionId,
) -> Result<Done, Halt> {
    let topic_key = Key::Topic(name.topic());
    d.want([topic_key.clone(), Key::Subscription(name.clone())])?;
    let Some((topic, _)) = d.topic(&topic_key)? else {
        return Err(not_found(Reason::TopicNotFound, "topic", &name.topic()).into());
    };
    let topic = topic.clone();
    for shard in &topic.shards {
        topics::owned(d, &topic, *shard, session)?;
    }
    let record = numbered(d, name, id)?;
    if record.state == SubscriptionState::Deleted {
        return Ok(Done::Answer(Reply::Subscription(record)));
    }
    Ok(set_state(d, record, SubscriptionState::Deleted))
}

/// The subscription of this name, which must be the one with this number.
fn numbered(
    d: &mut Drafting<'_>,
    name: &SubscriptionName,
    id: SubscriptionId,
) -> Result<SubscriptionRecord, Halt> {
    let Some((record, _)) = d.subscription(&Key::Subscription(name.clone()))? else {
        return Err(not_found(Reason::SubscriptionNotFound, "subscription", name).into());
    };
    if record.id != id {
        let message = format!("the subscription is another one now name={name} id={id}");
        return Err(Problem::new(Reason::VersionMismatch, message)
            .with_resource(name)
            .with("actual", record.id)
            .into());
    }
    Ok(record.clone())
}

fn set_state(d: &mut Drafting<'_>, record: SubscriptionRecord, state: SubscriptionState) -> Done {
    let record = SubscriptionRecord { state, ..record };
    let name = record.name.clone();
    d.tell(Change::Subscription(name.clone()));
    d.put(
        Key::Subscription(name),
        Record::Subscription(record.clone()),
    );
    Done::write(Reply::Subscription(record))
}

fn put_tenant(d: &mut Drafting<'_>, name: TenantName, at: WallTime) -> TenantRecord {
    let record = TenantRecord {
        name: name.clone(),
        created_at: at,
    };
    d.put(Key::Tenant(name), Record::Tenant(record.clone()));
    record
}

fn put_namespace(d: &mut Drafting<'_>, name: NamespaceName, at: WallTime) -> NamespaceRecord {
    let record = NamespaceRecord {
        name: name.clone(),
        created_at: at,
    };
    d.put(Key::Namespace(name), Record::Namespace(record.clone()));
    record
}

pub(crate) fn exists(name: &dyn std::fmt::Display) -> Problem {
    Problem::new(
        Reason::AlreadyExists,
        format!("there is one of that name already name={name}"),
    )
    .with_resource(name)
}

pub(crate) fn not_found(reason: Reason, what: &str, name: &dyn std::fmt::Display) -> Problem {
    Problem::new(
        reason,
        format!("no such {what}, create it first name={name}"),
    )
    .with_resource(name)
}
