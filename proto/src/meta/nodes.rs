//! Sessions and bookies.

use std::time::Duration;

use types::cluster::{
    BookieDuty, BookieRecord, BookieState, NodeRole, ServingNode, SessionRecord, SessionState,
    ShardPlace,
};
use types::{BookieId, Incarnation, NodeId, Problem, Revision, SessionId, ShardId};

use super::{missing, nanos, parse, parse_option, pb};

/// A session on the wire.
pub fn session_to_wire(it: &SessionRecord) -> pb::Session {
    let state = match it.state {
        SessionState::Live => pb::SessionState::Live,
        SessionState::Expired => pb::SessionState::Expired,
        SessionState::Replaced => pb::SessionState::Replaced,
        SessionState::Ended => pb::SessionState::Ended,
    };
    pb::Session {
        id: it.id.get(),
        role: role_to_wire(it.role).into(),
        node: it.node.get(),
        name: it.name.to_string(),
        address: it.address.clone(),
        endpoint: it.endpoint.clone(),
        lease_nanos: nanos(it.lease),
        state: state.into(),
    }
}

/// Reads a session.
///
/// # Errors
///
/// `BAD_FIELD` names what makes no sense.
pub fn session(it: pb::Session) -> Result<SessionRecord, Problem> {
    let state = match it.state() {
        pb::SessionState::Live => SessionState::Live,
        pb::SessionState::Expired => SessionState::Expired,
        pb::SessionState::Replaced => SessionState::Replaced,
        pb::SessionState::Ended => SessionState::Ended,
        pb::SessionState::Unspecified => return Err(missing("session.state")),
    };
    Ok(SessionRecord {
        id: SessionId::new(it.id),
        role: role(it.role())?,
        node: NodeId::new(it.node),
        name: parse("session.name", &it.name)?,
        address: it.address,
        endpoint: it.endpoint,
        lease: Duration::from_nanos(it.lease_nanos),
        state,
    })
}

pub(super) fn serving_node_to_wire(it: &ServingNode) -> pb::ServingNode {
    pb::ServingNode {
        session: Some(session_to_wire(&it.session)),
        is_drained: it.is_drained,
    }
}

pub(super) fn serving_node(it: pb::ServingNode) -> Result<ServingNode, Problem> {
    Ok(ServingNode {
        session: session(it.session.ok_or_else(|| missing("serving_node.session"))?)?,
        is_drained: it.is_drained,
    })
}

pub(super) fn place_to_wire(it: &ShardPlace) -> pb::ShardPlace {
    pb::ShardPlace {
        shard: it.shard.get(),
        topic: it.topic.to_string(),
        owner: it.owner.map(SessionId::get),
    }
}

pub(super) fn place(it: pb::ShardPlace) -> Result<ShardPlace, Problem> {
    Ok(ShardPlace {
        shard: ShardId::new(it.shard),
        topic: parse("shard_place.topic", &it.topic)?,
        owner: it.owner.map(SessionId::new),
    })
}

pub(super) fn role_to_wire(role: NodeRole) -> pb::NodeRole {
    match role {
        NodeRole::Serving => pb::NodeRole::Serving,
        NodeRole::Bookie => pb::NodeRole::Bookie,
    }
}

pub(super) fn role(role: pb::NodeRole) -> Result<NodeRole, Problem> {
    match role {
        pb::NodeRole::Serving => Ok(NodeRole::Serving),
        pb::NodeRole::Bookie => Ok(NodeRole::Bookie),
        pb::NodeRole::Unspecified => Err(missing("role")),
    }
}

pub(super) fn bookie_state_to_wire(state: BookieState) -> pb::BookieState {
    match state {
        BookieState::ReadWrite => pb::BookieState::ReadWrite,
        BookieState::ReadOnly => pb::BookieState::ReadOnly,
    }
}

pub(super) fn bookie_state(state: pb::BookieState) -> Result<BookieState, Problem> {
    match state {
        pb::BookieState::ReadWrite => Ok(BookieState::ReadWrite),
        pb::BookieState::ReadOnly => Ok(BookieState::ReadOnly),
        pb::BookieState::Unspecified => Err(missing("state")),
    }
}

fn duty_to_wire(duty: BookieDuty) -> pb::BookieDuty {
    match duty {
        BookieDuty::Active => pb::BookieDuty::Active,
        BookieDuty::Draining => pb::BookieDuty::Draining,
        BookieDuty::Gone => pb::BookieDuty::Gone,
    }
}

fn duty(duty: pb::BookieDuty) -> Result<BookieDuty, Problem> {
    match duty {
        pb::BookieDuty::Active => Ok(BookieDuty::Active),
        pb::BookieDuty::Draining => Ok(BookieDuty::Draining),
        pb::BookieDuty::Gone => Ok(BookieDuty::Gone),
        pb::BookieDuty::Unspecified => Err(missing("bookie.duty")),
    }
}

pub(super) fn bookie_to_wire(it: &BookieRecord) -> pb::Bookie {
    pb::Bookie {
        id: it.id.get(),
        name: it.name.to_string(),
        address: it.address.clone(),
        born: it.born.get(),
        incarnation: it.incarnation.get(),
        mark: it.mark,
        state: bookie_state_to_wire(it.state).into(),
        session: it.session.get(),
        live: it.live,
        duty: duty_to_wire(it.duty).into(),
        zone: it.zone.as_ref().map(ToString::to_string),
    }
}

pub(super) fn bookie(it: pb::Bookie) -> Result<BookieRecord, Problem> {
    Ok(BookieRecord {
        id: BookieId::new(it.id),
        name: parse("bookie.name", &it.name)?,
        state: bookie_state(it.state())?,
        duty: duty(it.duty())?,
        address: it.address,
        zone: parse_option("bookie.zone", it.zone.as_deref())?,
        born: Revision::new(it.born),
        incarnation: Incarnation::new(it.incarnation),
        mark: it.mark,
        session: SessionId::new(it.session),
        live: it.live,
    })
}
