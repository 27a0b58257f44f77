//! Tenants, namespaces, topics, subscriptions.

use std::time::Duration;

use types::topic::{
    NamespaceRecord, Retention, StartPosition, SubscriptionMode, SubscriptionRecord,
    SubscriptionState, TenantRecord, TopicRecord,
};
use types::{ByteSize, Offset, Problem, ShardId, SubscriptionId, TopicId, WallTime};

use super::{missing, nanos, parse, pb, quorum, quorum_to_wire};

pub(super) fn tenant_to_wire(it: &TenantRecord) -> pb::Tenant {
    pb::Tenant {
        name: it.name.to_string(),
        created_at_nanos: it.created_at.as_nanos(),
    }
}

pub(super) fn tenant(it: pb::Tenant) -> Result<TenantRecord, Problem> {
    Ok(TenantRecord {
        name: parse("tenant.name", &it.name)?,
        created_at: WallTime::from_nanos(it.created_at_nanos),
    })
}

pub(super) fn namespace_to_wire(it: &NamespaceRecord) -> pb::Namespace {
    pb::Namespace {
        name: it.name.to_string(),
        created_at_nanos: it.created_at.as_nanos(),
    }
}

pub(super) fn namespace(it: pb::Namespace) -> Result<NamespaceRecord, Problem> {
    Ok(NamespaceRecord {
        name: parse("namespace.name", &it.name)?,
        created_at: WallTime::from_nanos(it.created_at_nanos),
    })
}

pub(super) fn retention_to_wire(it: Retention) -> pb::Retention {
    pb::Retention {
        time_nanos: it.time.map(nanos),
        bytes: it.bytes.map(ByteSize::get),
    }
}

pub(super) fn retention(it: Option<pb::Retention>) -> Result<Retention, Problem> {
    let it = it.ok_or_else(|| missing("retention"))?;
    Ok(Retention {
        time: it.time_nanos.map(Duration::from_nanos),
        bytes: it.bytes.map(ByteSize::new),
    })
}

pub(super) fn topic_to_wire(it: &TopicRecord) -> pb::Topic {
    pb::Topic {
        id: it.id.get(),
        name: it.name.to_string(),
        quorum: Some(quorum_to_wire(it.quorum)),
        shards: it.shards.iter().map(|shard| shard.get()).collect(),
        created_at_nanos: it.created_at.as_nanos(),
        retention: Some(retention_to_wire(it.retention)),
    }
}

pub(super) fn topic(it: pb::Topic) -> Result<TopicRecord, Problem> {
    Ok(TopicRecord {
        id: TopicId::new(it.id),
        name: parse("topic.name", &it.name)?,
        quorum: quorum(it.quorum)?,
        retention: retention(it.retention)?,
        shards: it.shards.into_iter().map(ShardId::new).collect(),
        created_at: WallTime::from_nanos(it.created_at_nanos),
    })
}

pub(super) fn subscription_to_wire(it: &SubscriptionRecord) -> pb::Subscription {
    let state = match it.state {
        SubscriptionState::Creating => pb::SubscriptionState::Creating,
        SubscriptionState::Active => pb::SubscriptionState::Active,
        SubscriptionState::Deleted => pb::SubscriptionState::Deleted,
    };
    pb::Subscription {
        id: it.id.get(),
        topic: it.topic.get(),
        name: it.name.to_string(),
        mode: mode_to_wire(it.mode).into(),
        ack_deadline_nanos: nanos(it.ack_deadline),
        start: Some(start_to_wire(it.start)),
        state: state.into(),
        created_at_nanos: it.created_at.as_nanos(),
    }
}

pub(super) fn subscription(it: pb::Subscription) -> Result<SubscriptionRecord, Problem> {
    let state = match it.state() {
        pb::SubscriptionState::Creating => SubscriptionState::Creating,
        pb::SubscriptionState::Active => SubscriptionState::Active,
        pb::SubscriptionState::Deleted => SubscriptionState::Deleted,
        pb::SubscriptionState::Unspecified => return Err(missing("subscription.state")),
    };
    Ok(SubscriptionRecord {
        id: SubscriptionId::new(it.id),
        topic: TopicId::new(it.topic),
        name: parse("subscription.name", &it.name)?,
        mode: mode(it.mode())?,
        ack_deadline: Duration::from_nanos(it.ack_deadline_nanos),
        start: start(it.start)?,
        state,
        created_at: WallTime::from_nanos(it.created_at_nanos),
    })
}

pub(super) fn mode_to_wire(mode: SubscriptionMode) -> pb::SubscriptionMode {
    match mode {
        SubscriptionMode::Exclusive => pb::SubscriptionMode::Exclusive,
        SubscriptionMode::Shared => pb::SubscriptionMode::Shared,
    }
}

pub(super) fn mode(mode: pb::SubscriptionMode) -> Result<SubscriptionMode, Problem> {
    match mode {
        pb::SubscriptionMode::Exclusive => Ok(SubscriptionMode::Exclusive),
        pb::SubscriptionMode::Shared => Ok(SubscriptionMode::Shared),
        pb::SubscriptionMode::Unspecified => Err(missing("mode")),
    }
}

pub(super) fn start_to_wire(start: StartPosition) -> pb::StartPosition {
    use pb::start_position::Position as Wire;
    let position = match start {
        StartPosition::Earliest => Wire::Earliest(pb::Nothing {}),
        StartPosition::Latest => Wire::Latest(pb::Nothing {}),
        StartPosition::Offset(offset) => Wire::Offset(offset.get()),
    };
    pb::StartPosition {
        position: Some(position),
    }
}

pub(super) fn start(start: Option<pb::StartPosition>) -> Result<StartPosition, Problem> {
    use pb::start_position::Position as Wire;
    match start.and_then(|start| start.position) {
        Some(Wire::Earliest(_)) => Ok(StartPosition::Earliest),
        Some(Wire::Latest(_)) => Ok(StartPosition::Latest),
        Some(Wire::Offset(offset)) => Ok(StartPosition::Offset(Offset::new(offset))),
        None => Err(missing("start")),
    }
}
