//! Commands on topics: made with one shard, changed, deleted, swept away.

use types::chain::{Chain, LogKind, ShardRecord};
use types::command::{Change, Reply};
use types::topic::{Retention, SubscriptionRecord, TopicRecord};
use types::{Epoch, Problem, Quorum, Reason, SessionId, ShardId, TopicId, TopicName, WallTime};

use crate::answer::{Names, read};
use crate::names::{exists, not_found};
use crate::plan::{Done, Drafting, Halt};
use crate::{Key, LogRecord, Record};

/// Most records that one sweep or deletion removes: a commit stays well below what a store takes (128 for etcd).
const REMOVED_MAX: usize = 48;

/// Makes a topic with one shard: two logs, without ledgers until something is written.
pub(crate) fn create(
    d: &mut Drafting<'_>,
    name: &TopicName,
    quorum: Quorum,
    retention: Retention,
    at: WallTime,
) -> Result<Done, Halt> {
    let namespace = Key::Namespace(name.namespace());
    let key = Key::Topic(name.clone());
    d.want([namespace.clone(), key.clone(), Key::Counters])?;
    if d.namespace(&namespace)?.is_none() {
        let problem = not_found(Reason::NamespaceNotFound, "namespace", &name.namespace());
        return Err(problem.into());
    }
    if d.topic(&key)?.is_some() {
        return Err(exists(name).into());
    }
    let mut counters = d.counters()?;
    let shard = ShardRecord {
        id: counters.shard,
        topic: counters.topic,
        quorum,
        epoch: Epoch::new(0),
        owner: None,
        last_command: None,
        message: Chain::empty(counters.log),
        state: Chain::empty(counters.log.next()),
        is_deleted: false,
    };
    counters.log = counters.log.next().next();
    counters.shard = counters.shard.next();
    counters.topic = counters.topic.next();
    let topic = TopicRecord {
        id: shard.topic,
        name: name.clone(),
        quorum,
        retention,
        shards: vec![shard.id],
        created_at: at,
    };
    for kind in LogKind::BOTH {
        let record = LogRecord {
            shard: shard.id,
            kind,
            is_deleted: false,
        };
        d.put(Key::Log(shard.chain(kind).log), Record::Log(record));
    }
    d.tell(Change::Topic(name.clone()));
    d.tell(Change::Shard(shard.id));
    d.put(Key::Shard(shard.id), Record::Shard(shard));
    d.put(key, Record::Topic(topic.clone()));
    d.put(Key::Counters, Record::Counters(counters));
    Ok(Done::write(Reply::Topic(topic)))
}

/// Changes what may be changed of a topic.
pub(crate) fn update(
    d: &mut Drafting<'_>,
    name: &TopicName,
    retention: Retention,
) -> Result<Done, Halt> {
    let topic = topic(d, name)?;
    if topic.retention == retention {
        return Ok(Done::Answer(Reply::Topic(topic)));
    }
    let topic = TopicRecord { retention, ..topic };
    d.tell(Change::Topic(name.clone()));
    for shard in &topic.shards {
        d.tell(Change::Shard(*shard));
    }
    d.put(Key::Topic(name.clone()), Record::Topic(topic.clone()));
    Ok(Done::write(Reply::Topic(topic)))
}

/// Takes a topic away. The owner stopped before it asked, and both tails are closed: what no bookie had taken by then is
/// acked by nobody, since older owners are fenced. The name is free at once; what the shard's chains name is swept
/// later, and its subscriptions are no longer found under a topic of another number.
///
/// Asked again it is `TOPIC_NOT_FOUND`: who repeats a command because its answer was lost knows by that.
pub(crate) fn delete(
    d: &mut Drafting<'_>,
    name: &TopicName,
    id: TopicId,
    (session, epoch): (SessionId, Epoch),
) -> Result<Done, Halt> {
    let topic = topic(d, name)?;
    if topic.id != id {
        let message = format!("the topic is another one now name={name} id={id}");
        return Err(Problem::new(Reason::VersionMismatch, message)
            .with_resource(name)
            .with("actual", topic.id)
            .into());
    }
    for shard in &topic.shards {
        let record = owned(d, &topic, *shard, session)?;
        if record.epoch != epoch {
            let message = format!("the topic was opened again since name={name} epoch={epoch}");
            return Err(Problem::new(Reason::EpochMismatch, message)
                .with("epoch", record.epoch.get())
                .into());
        }
        delete_shard(d, record)?;
    }
    for subscription in subscriptions(d, name)? {
        d.remove(Key::Subscription(subscription.name));
    }
    d.tell(Change::Topic(name.clone()));
    d.remove(Key::Topic(name.clone()));
    Ok(Done::write(Reply::Topic(topic)))
}

fn delete_shard(d: &mut Drafting<'_>, record: ShardRecord) -> Result<(), Halt> {
    for kind in LogKind::BOTH {
        let chain = record.chain(kind);
        if let Some(tail) = chain.tail_id() {
            let message = format!("a ledger of the topic is not closed ledger={tail}");
            return Err(Problem::bad_field("shard", message).into());
        }
        let log = LogRecord {
            shard: record.id,
            kind,
            is_deleted: true,
        };
        let key = Key::Log(chain.log);
        d.log(&key)?;
        d.put(key, Record::Log(log));
    }
    let record = ShardRecord {
        epoch: record.epoch.next(),
        owner: None,
        last_command: None,
        is_deleted: true,
        ..record
    };
    d.tell(Change::Shard(record.id));
    d.put(Key::Shard(record.id), Record::Shard(record));
    Ok(())
}

/// The first of a topic's subscriptions. One that is made at this moment may be missed: it is found by nobody, since its
/// topic is no more.
fn subscriptions(d: &mut Drafting<'_>, topic: &TopicName) -> Result<Vec<SubscriptionRecord>, Halt> {
    let range = Names::subscriptions(topic).range(REMOVED_MAX);
    let found = read(d.snapshot(), range)?.iter();
    Ok(found
        .filter_map(|(_, versioned)| match &versioned.record {
            Record::Subscription(subscription) => Some(subscription.clone()),
            _ => None,
        })
        .collect())
}

/// Removes the records of some of a deleted shard's ledgers, the oldest first; when none is left, the shard's own. Those
/// of its logs stay: they are what bookies are told.
pub(crate) fn sweep(d: &mut Drafting<'_>, id: ShardId) -> Result<Done, Halt> {
    let Some((record, _)) = d.shard(&Key::Shard(id))? else {
        return Ok(Done::Answer(Reply::Done));
    };
    let mut record = record.clone();
    if !record.is_deleted {
        return Err(Problem::bad_field("shard", "only a deleted topic's shard is swept").into());
    }
    let mut left = REMOVED_MAX;
    for kind in LogKind::BOTH {
        let swept = record.chain_mut(kind).trim(left);
        left -= swept.len();
        for ledger in swept {
            d.remove(Key::Ledger(ledger));
            d.remove(Key::Loss(ledger));
        }
    }
    let is_empty = LogKind::BOTH
        .iter()
        .all(|kind| record.chain(*kind).links.is_empty());
    if is_empty {
        d.remove(Key::Shard(id));
    } else {
        d.put(Key::Shard(id), Record::Shard(record));
    }
    d.tell(Change::Shard(id));
    Ok(Done::write(Reply::Done))
}

/// The topic of this name.
fn topic(d: &mut Drafting<'_>, name: &TopicName) -> Result<TopicRecord, Halt> {
    match d.topic(&Key::Topic(name.clone()))? {
        Some((topic, _)) => Ok(topic.clone()),
        None => Err(not_found(Reason::TopicNotFound, "topic", name).into()),
    }
}

/// A shard of a topic, which the session must own.
pub(crate) fn owned(
    d: &mut Drafting<'_>,
    topic: &TopicRecord,
    shard: ShardId,
    session: SessionId,
) -> Result<ShardRecord, Halt> {
    let (record, _) = crate::shard::shard(d, shard)?;
    if record.owner == Some(session) {
        return Ok(record);
    }
    let message = format!("another node owns the topic name={}", topic.name);
    Err(Problem::new(Reason::NotOwner, message)
        .with("epoch", record.epoch.get())
        .into())
}
