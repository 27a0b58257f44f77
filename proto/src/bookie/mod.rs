//! What owners and bookies say to each other, between `types::storage` and the wire.
//!
//! Requests are made for one bookie of one cluster, and read by [`check_target`] first. Whatever makes no sense is a
//! `BAD_FIELD` problem that names the field; nothing is guessed. Checksums are verified by whoever uses an entry, not
//! here.

mod adds;
mod reads;
mod space;
#[cfg(test)]
mod tests;

pub use adds::{
    AddFrame, add, add_frame, add_from_wire, replies, replies_frame, set_lac, set_lac_from_wire,
};
pub use reads::{
    RunBuilder, lac_response, lac_result, read_from_wire, read_lac_from_wire, read_lac_request,
    read_request, read_response, read_result, read_run_from_wire, read_run_request, run_items,
};

pub use space::{SpaceUse, space_response, space_use};

pub use crate::hot::AddBatchBuilder;

use types::storage::Entry;
use types::{
    BookieId, ClusterId, Crc32c, EntryId, Epoch, Incarnation, LedgerId, LedgerSeq, LogId, Offset,
    Payload, Problem, Reason, Revision,
};

use crate::bookie_v1 as pb;
use crate::headers::{self, FEATURES, PROTOCOL_VERSION};

/// What a bookie says of itself on each new stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloReply {
    /// Its number.
    pub bookie: BookieId,
    /// The revision since which it vouches for what it does not have.
    pub born: Revision,
    /// How often it has started.
    pub incarnation: Incarnation,
    /// What both sides can do beyond the version, one bit each.
    pub features: u64,
}

/// What a bookie is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// What it says on each new stream.
    pub identity: HelloReply,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its name.
    pub name: String,
    /// Whether it takes writes.
    pub writable: bool,
    /// The version of Ledgerline it runs.
    pub release: String,
}

/// The first frame of a stream of adds to `bookie`.
pub fn hello(cluster: ClusterId, bookie: BookieId) -> pb::AddEntriesRequest {
    let target = target(cluster, bookie);
    pb::AddEntriesRequest {
        frame: Some(pb::add_entries_request::Frame::Hello(target)),
    }
}

/// The first frame of a bookie's answer.
pub fn hello_frame(reply: HelloReply) -> pb::AddEntriesResponse {
    pb::AddEntriesResponse {
        frame: Some(pb::add_entries_response::Frame::Hello(hello_to_wire(reply))),
    }
}

/// Reads the first frame of a bookie's answer.
///
/// # Errors
///
/// `BAD_FRAME` when it is another frame, `WRONG_VERSION` when the bookie speaks another version.
pub fn hello_reply(frame: pb::AddEntriesResponse) -> Result<HelloReply, Problem> {
    match frame.frame {
        Some(pb::add_entries_response::Frame::Hello(reply)) => hello_from_wire(&reply),
        _ => Err(bad_frame("the bookie's first frame is to be a hello")),
    }
}

/// Asks what a bookie is; whoever answers, when none is named.
pub fn describe_request(cluster: ClusterId, bookie: Option<BookieId>) -> pb::DescribeRequest {
    let target = target(cluster, bookie.unwrap_or(BookieId::new(0)));
    pb::DescribeRequest {
        target: Some(target),
    }
}

/// Says what a bookie is.
pub fn describe_response(it: Description) -> pb::DescribeResponse {
    pb::DescribeResponse {
        identity: Some(hello_to_wire(it.identity)),
        cluster: cluster_to_wire(it.cluster),
        name: it.name,
        writable: it.writable,
        release: it.release,
    }
}

/// Reads what a bookie is.
///
/// # Errors
///
/// `BAD_FIELD` when something is missing, `WRONG_VERSION` when the bookie speaks another version.
pub fn description(answer: pb::DescribeResponse) -> Result<Description, Problem> {
    let identity = answer.identity.ok_or_else(|| missing("identity"))?;
    let cluster = ClusterId::from_slice(&answer.cluster);
    Ok(Description {
        identity: hello_from_wire(&identity)?,
        cluster: cluster.ok_or_else(|| Problem::bad_field("cluster", "16 bytes are needed"))?,
        name: answer.name,
        writable: answer.writable,
        release: answer.release,
    })
}

/// Who is meant by a request.
pub fn target(cluster: ClusterId, bookie: BookieId) -> pb::Target {
    pb::Target {
        cluster: cluster_to_wire(cluster),
        bookie: bookie.get(),
        version: PROTOCOL_VERSION,
        features: FEATURES,
    }
}

/// Checks that a request is meant for this bookie of this cluster, in a version we speak.
///
/// # Errors
///
/// `WRONG_VERSION`, `WRONG_CLUSTER`, `WRONG_NODE`, or `BAD_FIELD` when the request does not say.
pub fn check_target(
    target: Option<&pb::Target>,
    cluster: ClusterId,
    bookie: BookieId,
) -> Result<(), Problem> {
    let target = target.ok_or_else(|| missing("target"))?;
    check_target_cluster(target, cluster)?;
    if target.bookie == bookie.get() {
        return Ok(());
    }
    let meant = BookieId::new(target.bookie);
    let message = format!(
        "the request is meant for another bookie; this address serves {bookie} now meant={meant}"
    );
    Err(Problem::new(Reason::WrongNode, message)
        .with("ours", bookie.get())
        .with("theirs", target.bookie))
}

/// As [`check_target`], for a request that may also be meant for whoever answers: `bookie` 0.
///
/// # Errors
///
/// As [`check_target`].
pub fn check_any_target(
    target: Option<&pb::Target>,
    cluster: ClusterId,
    bookie: BookieId,
) -> Result<(), Problem> {
    match target {
        Some(target) if target.bookie == 0 => check_target_cluster(target, cluster),
        target => check_target(target, cluster, bookie),
    }
}

fn check_target_cluster(target: &pb::Target, cluster: ClusterId) -> Result<(), Problem> {
    headers::check_version(target.version)?;
    match ClusterId::from_slice(&target.cluster) {
        Some(theirs) if theirs == cluster => Ok(()),
        Some(theirs) => Err(headers::wrong_cluster(
            &cluster.to_string(),
            &theirs.to_string(),
        )),
        None => Err(Problem::bad_field("target.cluster", "16 bytes are needed")),
    }
}

fn hello_to_wire(reply: HelloReply) -> pb::HelloReply {
    pb::HelloReply {
        bookie: reply.bookie.get(),
        born: reply.born.get(),
        incarnation: reply.incarnation.get(),
        version: PROTOCOL_VERSION,
        features: reply.features,
    }
}

fn hello_from_wire(reply: &pb::HelloReply) -> Result<HelloReply, Problem> {
    headers::check_version(reply.version)?;
    Ok(HelloReply {
        bookie: BookieId::new(reply.bookie),
        born: Revision::new(reply.born),
        incarnation: Incarnation::new(reply.incarnation),
        features: reply.features & FEATURES,
    })
}

fn cluster_to_wire(cluster: ClusterId) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&cluster.to_bytes())
}

fn ledger_to_wire(ledger: LedgerId, created: Revision) -> pb::Ledger {
    pb::Ledger {
        log: ledger.log().get(),
        seq: ledger.seq().get(),
        created: created.get(),
    }
}

fn ledger_from_wire(
    field: &str,
    ledger: Option<pb::Ledger>,
) -> Result<(LedgerId, Revision), Problem> {
    let ledger = ledger.ok_or_else(|| missing(field))?;
    let id = LedgerId::new(LogId::new(ledger.log), LedgerSeq::new(ledger.seq));
    Ok((id, Revision::new(ledger.created)))
}

/// The payload goes as two fields, so that its parts are never put together for the wire.
fn entry_to_wire(entry: &Entry) -> pb::Entry {
    pb::Entry {
        id: entry.id.get(),
        next_offset: entry.next_offset.get(),
        crc: entry.crc.get(),
        head: entry.payload.head().clone(),
        body: entry.payload.body().clone(),
    }
}

fn entry_from_wire(field: &str, entry: Option<pb::Entry>) -> Result<Entry, Problem> {
    let entry = entry.ok_or_else(|| missing(field))?;
    let payload = Payload::new(entry.head, entry.body);
    if payload.len() > Entry::MAX_PAYLOAD {
        let message = format!(
            "an entry has at most {} bytes len={}",
            Entry::MAX_PAYLOAD,
            payload.len()
        );
        return Err(Problem::new(Reason::MessageTooLarge, message)
            .with_field(field)
            .with("max_bytes", Entry::MAX_PAYLOAD));
    }
    Ok(Entry {
        id: entry_id(&format!("{field}.id"), entry.id)?,
        next_offset: Offset::new(entry.next_offset),
        payload,
        crc: Crc32c::new(entry.crc),
    })
}

fn epoch(raw: Option<u64>) -> Option<Epoch> {
    raw.map(Epoch::new)
}

/// An entry's id. The largest number is none: another one always follows.
fn entry_id(field: &str, raw: u64) -> Result<EntryId, Problem> {
    if raw == u64::MAX {
        return Err(Problem::bad_field(field, "an entry's id, at most 2^64 - 2"));
    }
    Ok(EntryId::new(raw))
}

fn entry_id_if(field: &str, raw: Option<u64>) -> Result<Option<EntryId>, Problem> {
    raw.map(|raw| entry_id(field, raw)).transpose()
}

fn missing(field: &str) -> Problem {
    Problem::bad_field(field, "is missing")
}

fn bad_frame(message: &str) -> Problem {
    Problem::new(Reason::BadFrame, message)
}
