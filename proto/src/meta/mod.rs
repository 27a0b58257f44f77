//! What nodes and meta say to each other, between `types` and the wire.
//!
//! Whatever makes no sense is a `BAD_FIELD` problem that names the field; nothing is guessed. Times of creation are not
//! sent: meta's own clock says when. Commands that only meta itself gives (bootstrap, leases running out and coming
//! back) have no wire form.

mod commands;
mod generation;
mod nodes;
mod queries;
mod repair;
mod shards;
#[cfg(test)]
mod tests;
mod topics;

pub use commands::{command, command_to_wire, reply, reply_to_wire};
pub use generation::{check_generation, generation, generation_to_wire};
pub use nodes::{session, session_to_wire};
pub use queries::{answer, answer_to_wire, query, query_to_wire};
pub use repair::{
    DueAsk, due_answer, due_answer_to_wire, due_ask, due_ask_to_wire, plan, plan_to_wire,
};

/// Where a refusal of a meta node that stands by says which one is active: a field of the problem's metadata.
pub const ACTIVE: &str = "active";

use types::cluster::MetaGeneration;
use types::command::{Change, ChangeEvent};
use types::{BookieId, ClusterId, CommandId, Problem, Quorum, Revision, SessionId, ShardId};

use crate::headers::{self, FEATURES, PROTOCOL_VERSION};
use crate::meta_v1 as pb;

/// Who asks: a node of `cluster`, or one that does not know its cluster yet.
pub fn caller(cluster: Option<ClusterId>) -> pb::Caller {
    pb::Caller {
        cluster: cluster.map_or_else(Default::default, cluster_to_wire),
        version: PROTOCOL_VERSION,
        features: FEATURES,
        generation: None,
    }
}

/// Who asks: a node of `cluster` that knows this generation of its metadata.
pub fn caller_of(cluster: ClusterId, known: &MetaGeneration) -> pb::Caller {
    pb::Caller {
        generation: generation_to_wire(known),
        ..caller(Some(cluster))
    }
}

/// Checks that a request comes from a node of this cluster, in a version we speak.
///
/// # Errors
///
/// `WRONG_VERSION`, `WRONG_CLUSTER`, or `BAD_FIELD` when the request does not say.
pub fn check_caller(caller: Option<&pb::Caller>, cluster: ClusterId) -> Result<(), Problem> {
    check(caller, cluster, false)
}

/// As [`check_caller`], for a handshake: the caller need not know its cluster yet.
///
/// # Errors
///
/// As [`check_caller`].
pub fn check_newcomer(caller: Option<&pb::Caller>, cluster: ClusterId) -> Result<(), Problem> {
    check(caller, cluster, true)
}

fn check(caller: Option<&pb::Caller>, cluster: ClusterId, may_ask: bool) -> Result<(), Problem> {
    let caller = caller.ok_or_else(|| missing("caller"))?;
    headers::check_version(caller.version)?;
    if caller.cluster.is_empty() && may_ask {
        return Ok(());
    }
    let wanted = "the 16 bytes of the cluster's id";
    let theirs = ClusterId::from_slice(&caller.cluster)
        .ok_or_else(|| Problem::bad_field("caller.cluster", wanted))?;
    if theirs == cluster {
        return Ok(());
    }
    Err(headers::wrong_cluster(
        &cluster.to_string(),
        &theirs.to_string(),
    ))
}

/// The answer to a handshake.
pub fn hello(
    cluster: ClusterId,
    generation: &MetaGeneration,
    revision: Revision,
) -> pb::HelloResponse {
    pb::HelloResponse {
        cluster: cluster_to_wire(cluster),
        version: PROTOCOL_VERSION,
        features: FEATURES,
        revision: revision.get(),
        generation: generation_to_wire(generation),
    }
}

/// Reads the answer to a handshake: the cluster and the generation of its metadata.
///
/// # Errors
///
/// `WRONG_VERSION`, or `BAD_FIELD` when it names no cluster.
pub fn hello_from_wire(answer: &pb::HelloResponse) -> Result<(ClusterId, MetaGeneration), Problem> {
    headers::check_version(answer.version)?;
    let cluster = cluster("cluster", &answer.cluster)?;
    Ok((cluster, generation(answer.generation.as_ref())?))
}

/// Changes as a watch tells them.
pub fn changes_to_wire(events: &[ChangeEvent], upto: Revision) -> pb::WatchResponse {
    let changes = pb::Changes {
        events: events.iter().map(change_to_wire).collect(),
        revision: upto.get(),
    };
    pb::WatchResponse {
        event: Some(pb::watch_response::Event::Changes(changes)),
    }
}

/// Where a watch begins, or begins anew.
pub fn reset_to_wire(now: Revision) -> pb::WatchResponse {
    let revision = now.get();
    pb::WatchResponse {
        event: Some(pb::watch_response::Event::Reset(pb::Reset { revision })),
    }
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// Changes, in the order of revisions; all up to `upto` have been told.
    Changes {
        /// The changes.
        events: Vec<ChangeEvent>,
        /// Where to go on from.
        upto: Revision,
    },
    /// The watch begins here, or begins anew after some changes were missed.
    Reset {
        /// Changes after this revision follow.
        now: Revision,
    },
}

/// Reads what a watch tells.
///
/// # Errors
///
/// `BAD_FIELD` when it is empty or of a kind this version does not know.
pub fn watched(answer: pb::WatchResponse) -> Result<Watched, Problem> {
    match answer.event.ok_or_else(|| missing("event"))? {
        pb::watch_response::Event::Reset(reset) => Ok(Watched::Reset {
            now: Revision::new(reset.revision),
        }),
        pb::watch_response::Event::Changes(changes) => Ok(Watched::Changes {
            events: all(changes.events, change)?,
            upto: Revision::new(changes.revision),
        }),
    }
}

fn change_to_wire(event: &ChangeEvent) -> pb::ChangeEvent {
    use pb::change_event::Change as Wire;
    let change = match &event.change {
        Change::Shard(id) => Wire::Shard(id.get()),
        Change::Topic(name) => Wire::Topic(name.to_string()),
        Change::Subscription(name) => Wire::Subscription(name.to_string()),
        Change::Bookie(id) => Wire::Bookie(id.get()),
        Change::Session(id) => Wire::Session(id.get()),
    };
    pb::ChangeEvent {
        revision: event.revision.get(),
        change: Some(change),
    }
}

fn change(event: pb::ChangeEvent) -> Result<ChangeEvent, Problem> {
    use pb::change_event::Change as Wire;
    let change = match event.change.ok_or_else(|| missing("change"))? {
        Wire::Shard(id) => Change::Shard(ShardId::new(id)),
        Wire::Topic(name) => Change::Topic(parse("change.topic", &name)?),
        Wire::Subscription(name) => Change::Subscription(parse("change.subscription", &name)?),
        Wire::Bookie(id) => Change::Bookie(BookieId::new(id)),
        Wire::Session(id) => Change::Session(SessionId::new(id)),
    };
    Ok(ChangeEvent {
        revision: Revision::new(event.revision),
        change,
    })
}

fn missing(field: &str) -> Problem {
    Problem::bad_field(field, "it is missing")
}

/// Reads a text as what it stands for.
fn parse<T>(field: &str, text: &str) -> Result<T, Problem>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error| Problem::bad_field(field, error))
}

/// Reads a text that may be left out.
fn parse_option<T>(field: &str, text: Option<&str>) -> Result<Option<T>, Problem>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.map(|text| parse(field, text)).transpose()
}

fn all<W, T>(items: Vec<W>, each: impl Fn(W) -> Result<T, Problem>) -> Result<Vec<T>, Problem> {
    items.into_iter().map(each).collect()
}

fn cluster_to_wire(cluster: ClusterId) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&cluster.to_bytes())
}

fn cluster(field: &str, bytes: &[u8]) -> Result<ClusterId, Problem> {
    ClusterId::from_slice(bytes).ok_or_else(|| Problem::bad_field(field, "16 bytes are needed"))
}

fn command_id_to_wire(id: CommandId) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&id.to_bytes())
}

fn command_id(bytes: &[u8]) -> Result<CommandId, Problem> {
    CommandId::from_slice(bytes).ok_or_else(|| Problem::bad_field("command", "16 bytes are needed"))
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn quorum_to_wire(quorum: Quorum) -> pb::Quorum {
    let wide = |copies: usize| u32::try_from(copies).expect("a quorum is at most 7");
    pb::Quorum {
        write: wide(quorum.write()),
        ack: wide(quorum.ack()),
    }
}

fn quorum(quorum: Option<pb::Quorum>) -> Result<Quorum, Problem> {
    let quorum = quorum.ok_or_else(|| missing("quorum"))?;
    let narrow = |copies: u32| u8::try_from(copies).unwrap_or(u8::MAX);
    Quorum::new(narrow(quorum.write), narrow(quorum.ack))
        .map_err(|error| Problem::bad_field("quorum", error))
}
