//! Keys and records as bytes, the same in every store. Described in `meta/DESIGN.md`, frozen by golden tests.
//!
//! A key is a tag byte and then its name's text or its numbers, big-endian, so that the order of bytes is the order
//! of [`Key`]. A record is a format byte, its fields in order, and a CRC32C over key and record: a value that lies
//! under another's key is found as surely as a flipped bit.

mod fields;
mod storage;
#[cfg(test)]
mod tests;

use types::chain::{LogKind, ShardRecord};
use types::cluster::{NodeRole, SessionRecord, SessionState};
use types::topic::{
    NamespaceRecord, Retention, StartPosition, SubscriptionMode, SubscriptionRecord,
    SubscriptionState, TenantRecord, TopicRecord,
};
use types::{
    BookieId, ByteSize, ClusterId, CommandId, EntryId, Epoch, LedgerId, LedgerSeq, LogId, NodeId,
    Offset, SessionId, ShardId, SubscriptionId, TopicId, WallTime, crc32c_of,
};

use crate::{Counters, Key, LogRecord, LossRecord, NodeRecord, Record};

use fields::{Reader, Writer};
use storage::{read_bookie, read_ledger, write_bookie, write_ledger};

/// The format of records. A store with a higher one is refused.
pub(crate) const FORMAT: u8 = 5;

/// The oldest format that is read: without whose copies of a ledger are whole, and without what is wanted of a bookie.
const OLDEST: u8 = 2;

/// The first format with copies and duties.
const COPIES_SINCE: u8 = 3;

/// The first format that says whether a serving node is drained.
const DRAINED_SINCE: u8 = 4;

/// The first format that says in which failure domain a bookie is.
const ZONES_SINCE: u8 = 4;

/// The first format that numbers the assignments of copies.
const ASSIGNMENTS_SINCE: u8 = 5;

/// Why bytes are no key or no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The checksum does not match.
    #[error("the record's checksum does not match key={key:?}")]
    Checksum {
        /// The record's key.
        key: Box<Key>,
    },
    /// Written by a version of Ledgerline that this one does not know.
    #[error("the record has another format, use the version that wrote it format={format}")]
    Format {
        /// The format byte.
        format: u8,
    },
    /// Bytes end early, go on too long, or hold a value that cannot be.
    #[error("the bytes are not of the expected form what={what}")]
    Malformed {
        /// What was being read.
        what: &'static str,
    },
}

const fn malformed(what: &'static str) -> DecodeError {
    DecodeError::Malformed { what }
}

/// The first byte of a key: which kind of record it holds.
pub(crate) const fn tag(key: &Key) -> u8 {
    match key {
        Key::Cluster => 1,
        Key::Counters => 2,
        Key::Tenant(_) => 3,
        Key::Namespace(_) => 4,
        Key::Topic(_) => 5,
        Key::Subscription(_) => 6,
        Key::Shard(_) => 7,
        Key::Log(_) => 8,
        Key::Ledger(_) => 9,
        Key::Loss(_) => 10,
        Key::Node(..) => 11,
        Key::Session(_) => 12,
        Key::Bookie(_) => 13,
        Key::Birth(_) => 14,
        Key::BookieName(_) => 15,
    }
}

/// The bytes that all keys of this kind begin with.
pub(crate) fn key_prefix(kind: &Key) -> Vec<u8> {
    vec![tag(kind)]
}

/// The bytes of keys of this kind whose name begins with `text`.
pub(crate) fn named_prefix(kind: &Key, text: &str) -> Vec<u8> {
    let mut bytes = key_prefix(kind);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A key as bytes, in the same order as keys.
pub fn encode_key(key: &Key) -> Vec<u8> {
    let mut out = Writer::with(tag(key));
    match key {
        Key::Cluster | Key::Counters => {}
        Key::Tenant(name) => out.raw(name.as_str().as_bytes()),
        Key::Namespace(name) => out.raw(name.as_str().as_bytes()),
        Key::Topic(name) => out.raw(name.as_str().as_bytes()),
        Key::Subscription(name) => out.raw(name.as_str().as_bytes()),
        Key::Shard(id) => out.u64(id.get()),
        Key::Log(id) => out.u64(id.get()),
        Key::Ledger(id) | Key::Loss(id) => {
            out.u64(id.log().get());
            out.u32(id.seq().get());
        }
        Key::Node(role, name) => {
            out.u8(role_byte(*role));
            out.raw(name.as_str().as_bytes());
        }
        Key::Session(id) => out.u64(id.get()),
        Key::Bookie(id) | Key::Birth(id) => out.u64(id.get()),
        Key::BookieName(name) => out.raw(name.as_str().as_bytes()),
    }
    out.into_bytes()
}

/// Reads the bytes of [`encode_key`].
///
/// # Errors
///
/// [`DecodeError::Malformed`]: they are no key.
pub fn decode_key(bytes: &[u8]) -> Result<Key, DecodeError> {
    let mut r = Reader::new(bytes, "key");
    let ledger = |r: &mut Reader<'_>| -> Result<LedgerId, DecodeError> {
        let log = LogId::new(r.u64()?);
        Ok(LedgerId::new(log, LedgerSeq::new(r.u32()?)))
    };
    let key = match r.u8()? {
        1 => Key::Cluster,
        2 => Key::Counters,
        3 => Key::Tenant(r.rest_as()?),
        4 => Key::Namespace(r.rest_as()?),
        5 => Key::Topic(r.rest_as()?),
        6 => Key::Subscription(r.rest_as()?),
        7 => Key::Shard(ShardId::new(r.u64()?)),
        8 => Key::Log(LogId::new(r.u64()?)),
        9 => Key::Ledger(ledger(&mut r)?),
        10 => Key::Loss(ledger(&mut r)?),
        11 => {
            let role = read_role(&mut r)?;
            Key::Node(role, r.rest_as()?)
        }
        12 => Key::Session(SessionId::new(r.u64()?)),
        13 => Key::Bookie(BookieId::new(r.u64()?)),
        14 => Key::Birth(BookieId::new(r.u64()?)),
        15 => Key::BookieName(r.rest_as()?),
        _ => return Err(malformed("key")),
    };
    r.end()?;
    Ok(key)
}

/// A record as bytes, with the checksum that binds it to its key.
pub fn encode_record(key: &Key, record: &Record) -> Vec<u8> {
    let mut out = Writer::with(FORMAT);
    write_record(&mut out, record);
    let mut bytes = out.into_bytes();
    let crc = crc32c_of([encode_key(key).as_slice(), bytes.as_slice()]);
    bytes.extend_from_slice(&crc.get().to_be_bytes());
    bytes
}

/// Reads the bytes of [`encode_record`] found under `key`.
///
/// # Errors
///
/// [`DecodeError::Checksum`] and [`DecodeError::Malformed`]: the store is damaged; a person must look.
/// [`DecodeError::Format`]: use the version that wrote it.
pub fn decode_record(key: &Key, bytes: &[u8]) -> Result<Record, DecodeError> {
    let split = bytes.len().checked_sub(4).ok_or(malformed("record"))?;
    let (body, crc) = bytes.split_at(split);
    if crc32c_of([encode_key(key).as_slice(), body])
        .get()
        .to_be_bytes()
        != *crc
    {
        return Err(DecodeError::Checksum {
            key: Box::new(key.clone()),
        });
    }
    let mut r = Reader::new(body, "record");
    let format = r.u8()?;
    if !(OLDEST..=FORMAT).contains(&format) {
        return Err(DecodeError::Format { format });
    }
    r.format = format;
    let record = read_record(key, &mut r)?;
    r.end()?;
    Ok(record)
}

fn write_record(out: &mut Writer, record: &Record) {
    match record {
        Record::Cluster(id) => out.raw(&id.to_bytes()),
        Record::Counters(counters) => write_counters(out, counters),
        Record::Tenant(tenant) => {
            out.text(tenant.name.as_str());
            out.u64(tenant.created_at.as_nanos());
        }
        Record::Namespace(namespace) => {
            out.text(namespace.name.as_str());
            out.u64(namespace.created_at.as_nanos());
        }
        Record::Topic(topic) => write_topic(out, topic),
        Record::Subscription(subscription) => write_subscription(out, subscription),
        Record::Shard(shard) => write_shard(out, shard),
        Record::Log(log) => {
            out.u64(log.shard.get());
            out.u8(match log.kind {
                LogKind::Message => 0,
                LogKind::State => 1,
            });
            out.bool(log.is_deleted);
        }
        Record::Ledger(body) => write_ledger(out, body),
        Record::Loss(loss) => {
            out.option(loss.last, |out, last| out.u64(last.get()));
            out.u64(loss.next_offset.get());
            out.text(&loss.reason);
            out.u64(loss.at.as_nanos());
        }
        Record::Node(node) => {
            out.u64(node.id.get());
            out.u64(node.session.get());
            out.raw(&node.opened_by.to_bytes());
            out.list(&node.replaced, |out, session| out.u64(session.get()));
            out.bool(node.is_drained);
        }
        Record::Session(session) => write_session(out, session),
        Record::Bookie(body) => write_bookie(out, body),
        Record::Birth => {}
        Record::BornAt(born) => out.u64(born.get()),
        Record::BookieName(id) => out.u64(id.get()),
    }
}

fn read_record(key: &Key, r: &mut Reader<'_>) -> Result<Record, DecodeError> {
    Ok(match key {
        Key::Cluster => Record::Cluster(ClusterId::new(r.u128()?)),
        Key::Counters => Record::Counters(read_counters(r)?),
        Key::Tenant(_) => Record::Tenant(TenantRecord {
            name: r.text_as()?,
            created_at: WallTime::from_nanos(r.u64()?),
        }),
        Key::Namespace(_) => Record::Namespace(NamespaceRecord {
            name: r.text_as()?,
            created_at: WallTime::from_nanos(r.u64()?),
        }),
        Key::Topic(_) => Record::Topic(read_topic(r)?),
        Key::Subscription(_) => Record::Subscription(read_subscription(r)?),
        Key::Shard(_) => Record::Shard(read_shard(r)?),
        Key::Log(_) => Record::Log(LogRecord {
            shard: ShardId::new(r.u64()?),
            kind: match r.u8()? {
                0 => LogKind::Message,
                1 => LogKind::State,
                _ => return Err(malformed("log kind")),
            },
            is_deleted: r.bool()?,
        }),
        Key::Ledger(_) => Record::Ledger(read_ledger(r)?),
        Key::Loss(_) => Record::Loss(LossRecord {
            last: r.option(|r| r.u64().map(EntryId::new))?,
            next_offset: Offset::new(r.u64()?),
            reason: r.text()?.to_owned(),
            at: WallTime::from_nanos(r.u64()?),
        }),
        Key::Node(..) => Record::Node(NodeRecord {
            id: NodeId::new(r.u64()?),
            session: SessionId::new(r.u64()?),
            opened_by: CommandId::new(r.u128()?),
            replaced: r.list(|r| r.u64().map(SessionId::new))?,
            is_drained: r.format >= DRAINED_SINCE && r.bool()?,
        }),
        Key::Session(_) => Record::Session(read_session(r)?),
        Key::Bookie(_) => Record::Bookie(read_bookie(r)?),
        Key::Birth(_) => r.carried()?.map_or(Record::Birth, Record::BornAt),
        Key::BookieName(_) => Record::BookieName(BookieId::new(r.u64()?)),
    })
}

fn write_counters(out: &mut Writer, counters: &Counters) {
    out.u64(counters.log.get());
    out.u64(counters.topic.get());
    out.u64(counters.shard.get());
    out.u64(counters.subscription.get());
    out.u64(counters.node.get());
    out.u64(counters.bookie.get());
    out.u64(counters.session.get());
}

fn read_counters(r: &mut Reader<'_>) -> Result<Counters, DecodeError> {
    Ok(Counters {
        log: LogId::new(r.u64()?),
        topic: TopicId::new(r.u64()?),
        shard: ShardId::new(r.u64()?),
        subscription: SubscriptionId::new(r.u64()?),
        node: NodeId::new(r.u64()?),
        bookie: BookieId::new(r.u64()?),
        session: SessionId::new(r.u64()?),
    })
}

fn write_topic(out: &mut Writer, topic: &TopicRecord) {
    out.u64(topic.id.get());
    out.text(topic.name.as_str());
    out.quorum(topic.quorum);
    out.option(topic.retention.time, Writer::duration);
    out.option(topic.retention.bytes, |out, bytes| out.u64(bytes.get()));
    out.list(&topic.shards, |out, shard| out.u64(shard.get()));
    out.u64(topic.created_at.as_nanos());
}

fn read_topic(r: &mut Reader<'_>) -> Result<TopicRecord, DecodeError> {
    Ok(TopicRecord {
        id: TopicId::new(r.u64()?),
        name: r.text_as()?,
        quorum: r.quorum()?,
        retention: Retention {
            time: r.option(Reader::duration)?,
            bytes: r.option(|r| r.u64().map(ByteSize::new))?,
        },
        shards: r.list(|r| r.u64().map(ShardId::new))?,
        created_at: WallTime::from_nanos(r.u64()?),
    })
}

fn write_subscription(out: &mut Writer, subscription: &SubscriptionRecord) {
    out.u64(subscription.id.get());
    out.u64(subscription.topic.get());
    out.text(subscription.name.as_str());
    out.u8(match subscription.mode {
        SubscriptionMode::Exclusive => 0,
        SubscriptionMode::Shared => 1,
    });
    out.duration(subscription.ack_deadline);
    match subscription.start {
        StartPosition::Earliest => out.u8(0),
        StartPosition::Latest => out.u8(1),
        StartPosition::Offset(offset) => {
            out.u8(2);
            out.u64(offset.get());
        }
    }
    out.u8(match subscription.state {
        SubscriptionState::Creating => 0,
        SubscriptionState::Active => 1,
        SubscriptionState::Deleted => 2,
    });
    out.u64(subscription.created_at.as_nanos());
}

fn read_subscription(r: &mut Reader<'_>) -> Result<SubscriptionRecord, DecodeError> {
    Ok(SubscriptionRecord {
        id: SubscriptionId::new(r.u64()?),
        topic: TopicId::new(r.u64()?),
        name: r.text_as()?,
        mode: match r.u8()? {
            0 => SubscriptionMode::Exclusive,
            1 => SubscriptionMode::Shared,
            _ => return Err(malformed("subscription mode")),
        },
        ack_deadline: r.duration()?,
        start: match r.u8()? {
            0 => StartPosition::Earliest,
            1 => StartPosition::Latest,
            2 => StartPosition::Offset(Offset::new(r.u64()?)),
            _ => return Err(malformed("start position")),
        },
        state: match r.u8()? {
            0 => SubscriptionState::Creating,
            1 => SubscriptionState::Active,
            2 => SubscriptionState::Deleted,
            _ => return Err(malformed("subscription state")),
        },
        created_at: WallTime::from_nanos(r.u64()?),
    })
}

fn write_shard(out: &mut Writer, shard: &ShardRecord) {
    out.u64(shard.id.get());
    out.u64(shard.topic.get());
    out.quorum(shard.quorum);
    out.u64(shard.epoch.get());
    out.option(shard.owner, |out, owner| out.u64(owner.get()));
    out.option(shard.last_command, |out, id| out.raw(&id.to_bytes()));
    out.chain(&shard.message);
    out.chain(&shard.state);
    out.bool(shard.is_deleted);
}

fn read_shard(r: &mut Reader<'_>) -> Result<ShardRecord, DecodeError> {
    Ok(ShardRecord {
        id: ShardId::new(r.u64()?),
        topic: TopicId::new(r.u64()?),
        quorum: r.quorum()?,
        epoch: Epoch::new(r.u64()?),
        owner: r.option(|r| r.u64().map(SessionId::new))?,
        last_command: r.option(|r| r.u128().map(CommandId::new))?,
        message: r.chain()?,
        state: r.chain()?,
        is_deleted: r.bool()?,
    })
}

fn write_session(out: &mut Writer, session: &SessionRecord) {
    out.u64(session.id.get());
    out.u8(role_byte(session.role));
    out.u64(session.node.get());
    out.text(session.name.as_str());
    out.text(&session.address);
    out.text(&session.endpoint);
    out.duration(session.lease);
    out.u8(match session.state {
        SessionState::Live => 0,
        SessionState::Expired => 1,
        SessionState::Ended => 2,
        SessionState::Replaced => 3,
    });
}

fn read_session(r: &mut Reader<'_>) -> Result<SessionRecord, DecodeError> {
    Ok(SessionRecord {
        id: SessionId::new(r.u64()?),
        role: read_role(r)?,
        node: NodeId::new(r.u64()?),
        name: r.text_as()?,
        address: r.text()?.to_owned(),
        endpoint: r.text()?.to_owned(),
        lease: r.duration()?,
        state: match r.u8()? {
            0 => SessionState::Live,
            1 => SessionState::Expired,
            2 => SessionState::Ended,
            3 => SessionState::Replaced,
            _ => return Err(malformed("session state")),
        },
    })
}

const fn role_byte(role: NodeRole) -> u8 {
    match role {
        NodeRole::Serving => 0,
        NodeRole::Bookie => 1,
    }
}

fn read_role(r: &mut Reader<'_>) -> Result<NodeRole, DecodeError> {
    match r.u8()? {
        0 => Ok(NodeRole::Serving),
        1 => Ok(NodeRole::Bookie),
        _ => Err(malformed("node role")),
    }
}
