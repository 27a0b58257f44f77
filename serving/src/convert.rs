//! What clients say, in the words of `types`, and back. Every problem names the field to blame.

use std::time::Duration;

use proto::raw::v1 as pb;
use types::cluster::{
    BookieDuty, BookieRecord, BookieState, NodeRole, SessionRecord, SessionState,
};
use types::topic::{
    NamespaceRecord, Retention, StartPosition, SubscriptionMode, SubscriptionRecord,
    SubscriptionState, TenantRecord, TopicRecord,
};
use types::{ByteSize, NameError, Offset, Problem, Quorum, ShardId, TopicName, WallTime};

/// Most items of one page of a list.
pub(crate) const PAGE_MAX: u32 = 1000;
/// Items of a page when the request does not say.
const PAGE_DEFAULT: u32 = 100;

/// The longest time a request may name: ack deadlines, delays.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The longest time that messages may be kept by name. Longer ones are no time but for ever.
const RETENTION_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Reads a name.
pub(crate) fn name<T: std::str::FromStr<Err = NameError>>(
    field: &str,
    text: &str,
) -> Result<T, Problem> {
    text.parse()
        .map_err(|error| Problem::bad_field(field, error))
}

/// Reads a name that may be left out.
pub(crate) fn optional_name<T: std::str::FromStr<Err = NameError>>(
    field: &str,
    text: &str,
) -> Result<Option<T>, Problem> {
    if text.is_empty() {
        Ok(None)
    } else {
        name(field, text).map(Some)
    }
}

/// Reads a topic's name from `{parent}/topics/{id}`, or a short one when `parent` is empty.
pub(crate) fn topic_under(parent: &str, id: &str) -> Result<TopicName, Problem> {
    if parent.is_empty() {
        return name("topic_id", id);
    }
    let _: types::NamespaceName = name("parent", parent)?;
    name("topic_id", &format!("{parent}/topics/{id}"))
}

/// Reads a duration that may be left out, above zero and at most a week.
pub(crate) fn duration(
    field: &str,
    value: Option<prost_types::Duration>,
) -> Result<Option<Duration>, Problem> {
    let Some(value) = value else { return Ok(None) };
    let bad = || Problem::bad_field(field, "must be above zero and at most seven days");
    let duration = Duration::try_from(value).map_err(|_| bad())?;
    if duration.is_zero() || duration > DURATION_MAX {
        return Err(bad());
    }
    Ok(Some(duration))
}

/// Reads a delay that may be left out or zero.
pub(crate) fn delay(
    field: &str,
    value: Option<prost_types::Duration>,
) -> Result<Option<Duration>, Problem> {
    match value {
        Some(value) if value.seconds == 0 && value.nanos == 0 => Ok(Some(Duration::ZERO)),
        value => duration(field, value),
    }
}

/// A duration for the wire.
pub(crate) fn wire_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// A time for the wire.
pub(crate) fn wire_time(time: WallTime) -> prost_types::Timestamp {
    let nanos = time.as_nanos();
    prost_types::Timestamp {
        seconds: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos % 1_000_000_000).unwrap_or(0),
    }
}

/// Reads a quorum that may be left out.
pub(crate) fn quorum(
    field: &str,
    value: Option<pb::Quorum>,
    default: Quorum,
) -> Result<Quorum, Problem> {
    let Some(pb::Quorum { write, ack }) = value else {
        return Ok(default);
    };
    let (Ok(copies), Ok(acked)) = (u8::try_from(write), u8::try_from(ack)) else {
        let most = Quorum::MAX;
        let message = format!("a quorum has 1 to {most} copies write={write} ack={ack}");
        return Err(Problem::bad_field(field, message));
    };
    Quorum::new(copies, acked).map_err(|error| Problem::bad_field(field, error))
}

/// Reads how long messages stay.
pub(crate) fn retention(field: &str, value: pb::Retention) -> Result<Retention, Problem> {
    let bad = || {
        let text = "must be zero or more and at most a hundred years; leave it out to keep messages for good";
        Problem::bad_field(format!("{field}.time"), text)
    };
    let time = value.time.map(Duration::try_from).transpose();
    let time = time.map_err(|_| bad())?;
    if time.is_some_and(|time| time > RETENTION_MAX) {
        return Err(bad());
    }
    Ok(Retention {
        time,
        bytes: value.bytes.map(ByteSize::new),
    })
}

/// How long messages stay, for the wire.
pub(crate) fn wire_retention(retention: Retention) -> pb::Retention {
    pb::Retention {
        time: retention.time.map(wire_duration),
        bytes: retention.bytes.map(ByteSize::get),
    }
}

/// Reads where a new subscription starts; earliest when left out.
pub(crate) fn start(field: &str, value: Option<pb::Position>) -> Result<StartPosition, Problem> {
    use pb::position::{At, Boundary};
    let at = match value.and_then(|position| position.at) {
        None => return Ok(StartPosition::Earliest),
        Some(At::Offset(offset)) => return Ok(StartPosition::Offset(Offset::new(offset))),
        Some(At::Boundary(boundary)) => boundary,
    };
    match Boundary::try_from(at) {
        Ok(Boundary::Unspecified | Boundary::Earliest) => Ok(StartPosition::Earliest),
        Ok(Boundary::Latest) => Ok(StartPosition::Latest),
        Err(_) => Err(unknown(field, at)),
    }
}

/// Reads a subscription's mode that may be left out.
pub(crate) fn mode(field: &str, value: i32) -> Result<Option<SubscriptionMode>, Problem> {
    match pb::SubscriptionMode::try_from(value) {
        Ok(pb::SubscriptionMode::Unspecified) => Ok(None),
        Ok(pb::SubscriptionMode::Exclusive) => Ok(Some(SubscriptionMode::Exclusive)),
        Ok(pb::SubscriptionMode::Shared) => Ok(Some(SubscriptionMode::Shared)),
        Err(_) => Err(unknown(field, value)),
    }
}

fn unknown(field: &str, value: i32) -> Problem {
    Problem::bad_field(field, format!("this server knows no value {value}"))
}

/// Reads a page: how many, and after which name.
pub(crate) fn page(size: i32, token: String) -> Result<types::command::Page, Problem> {
    let size = u32::try_from(size)
        .map_err(|_| Problem::bad_field("page_size", "must not be below zero"))?;
    let size = if size == 0 {
        PAGE_DEFAULT
    } else {
        size.min(PAGE_MAX)
    };
    let limit = usize::try_from(size).expect("a page fits in memory");
    Ok(types::command::Page {
        after: (!token.is_empty()).then_some(token),
        limit,
    })
}

/// The token of the page after a full one: its last name.
pub(crate) fn next_page<T>(items: &[T], limit: usize, name: impl Fn(&T) -> &str) -> String {
    if items.len() < limit {
        return String::new();
    }
    items
        .last()
        .map(|item| name(item).to_owned())
        .unwrap_or_default()
}

/// A shard's name on the wire.
pub(crate) fn shard_name(shard: ShardId) -> String {
    shard.to_string()
}

/// Refuses a shard that is not the topic's: a topic has one, and it may be left out.
pub(crate) fn check_shard(field: &str, text: &str, shard: ShardId) -> Result<(), Problem> {
    if text.is_empty() || text == shard_name(shard) {
        return Ok(());
    }
    Err(Problem::bad_field(
        field,
        format!("the topic has the one shard {shard}"),
    ))
}

/// Which entry holds a message, opaque to clients: for people and tools.
pub(crate) fn token(at: &topic::Position) -> bytes::Bytes {
    let mut token = Vec::with_capacity(20);
    token.extend_from_slice(&at.ledger.log().get().to_be_bytes());
    token.extend_from_slice(&at.ledger.seq().get().to_be_bytes());
    token.extend_from_slice(&at.entry.get().to_be_bytes());
    token.into()
}

/// A message's place on the wire.
pub(crate) fn position(
    shard: ShardId,
    offset: Offset,
    at: &topic::Position,
) -> pb::MessagePosition {
    pb::MessagePosition {
        shard: shard_name(shard),
        offset: offset.get(),
        token: token(at),
    }
}

pub(crate) fn tenant(record: &TenantRecord) -> pb::Tenant {
    pb::Tenant {
        name: record.name.to_string(),
        create_time: Some(wire_time(record.created_at)),
    }
}

pub(crate) fn namespace(record: &NamespaceRecord) -> pb::Namespace {
    pb::Namespace {
        name: record.name.to_string(),
        create_time: Some(wire_time(record.created_at)),
    }
}

pub(crate) fn topic(record: &TopicRecord) -> pb::Topic {
    let copies = |count: usize| u32::try_from(count).expect("a quorum is small");
    pb::Topic {
        name: record.name.to_string(),
        quorum: Some(pb::Quorum {
            write: copies(record.quorum.write()),
            ack: copies(record.quorum.ack()),
        }),
        shards: record
            .shards
            .iter()
            .map(|shard| shard_name(*shard))
            .collect(),
        create_time: Some(wire_time(record.created_at)),
        uid: record.id.to_string(),
        retention: Some(wire_retention(record.retention)),
    }
}

pub(crate) const fn wire_mode(mode: SubscriptionMode) -> pb::SubscriptionMode {
    match mode {
        SubscriptionMode::Exclusive => pb::SubscriptionMode::Exclusive,
        SubscriptionMode::Shared => pb::SubscriptionMode::Shared,
    }
}

pub(crate) fn subscription(record: &SubscriptionRecord) -> pb::Subscription {
    use pb::position::{At, Boundary};
    let at = match record.start {
        StartPosition::Earliest => At::Boundary(Boundary::Earliest.into()),
        StartPosition::Latest => At::Boundary(Boundary::Latest.into()),
        StartPosition::Offset(offset) => At::Offset(offset.get()),
    };
    let state = match record.state {
        SubscriptionState::Creating => pb::SubscriptionState::Creating,
        SubscriptionState::Active => pb::SubscriptionState::Active,
        SubscriptionState::Deleted => pb::SubscriptionState::Unspecified, // Never shown.
    };
    pb::Subscription {
        name: record.name.to_string(),
        mode: wire_mode(record.mode).into(),
        ack_deadline: Some(wire_duration(record.ack_deadline)),
        initial_position: Some(pb::Position { at: Some(at) }),
        state: state.into(),
        create_time: Some(wire_time(record.created_at)),
        uid: record.id.to_string(),
    }
}

pub(crate) fn node(record: &SessionRecord) -> pb::Node {
    let role = match record.role {
        NodeRole::Serving => pb::NodeRole::Serving,
        NodeRole::Bookie => pb::NodeRole::Bookie,
    };
    let state = match record.state {
        SessionState::Live => pb::SessionState::Live,
        SessionState::Expired => pb::SessionState::Expired,
        SessionState::Replaced => pb::SessionState::Replaced,
        SessionState::Ended => pb::SessionState::Ended,
    };
    pb::Node {
        name: record.name.to_string(),
        role: role.into(),
        session: record.id.to_string(),
        state: state.into(),
        address: record.address.clone(),
        endpoint: record.endpoint.clone(),
        shards: 0,
        draining: false,
    }
}

pub(crate) fn bookie(record: &BookieRecord) -> pb::BookieStatus {
    let state = match record.state {
        BookieState::ReadWrite => pb::BookieState::ReadWrite,
        BookieState::ReadOnly => pb::BookieState::ReadOnly,
    };
    let duty = match record.duty {
        BookieDuty::Active => pb::BookieDuty::Active,
        BookieDuty::Draining => pb::BookieDuty::Draining,
        BookieDuty::Gone => pb::BookieDuty::Gone,
    };
    pb::BookieStatus {
        zone: record
            .zone
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        id: record.id.get(),
        name: record.name.to_string(),
        address: record.address.clone(),
        state: state.into(),
        live: record.live,
        incarnation: record.incarnation.get(),
        duty: duty.into(),
    }
}

/// Whether a request that names a `uid`, or none, means what has this one.
pub(crate) fn is_meant(uid: &str, id: impl std::fmt::Display) -> bool {
    uid.is_empty() || uid == id.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_field_is_named_and_told_what_it_may_be() {
        let problem = name::<TopicName>("open.topic", "a b").unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("open.topic"));
        let minus = prost_types::Duration {
            seconds: -1,
            nanos: 0,
        };
        assert!(
            duration("x", Some(minus))
                .unwrap_err()
                .message
                .contains("above zero")
        );
        assert!(quorum("q", Some(pb::Quorum { write: 2, ack: 2 }), Quorum::ONE).is_err());
        let write = u32::MAX;
        let huge = quorum("q", Some(pb::Quorum { write, ack: 300 }), Quorum::ONE).unwrap_err();
        let (sent, said) = ("1 to 7 copies write=4294967295 ack=300", huge.message);
        assert!(said.contains(sent), "{said}");
        assert!(mode("m", 77).is_err());
        assert!(page(-1, String::new()).is_err());
    }

    #[test]
    fn a_page_that_is_not_full_is_the_last() {
        let names = ["a".to_owned(), "b".to_owned()];
        assert_eq!(next_page(&names, 2, |name| name), "b");
        assert_eq!(next_page(&names, 3, |name| name), "");
    }
}
