//! From a query and what was read to an answer.

use types::chain::LogStanding;
use types::cluster::{BookieRecord, NodeRole, SessionRecord, SessionState, ShardPlace};
use types::command::{Answer, Page, Query};
use types::{BookieId, LedgerId, LogId, Problem, Reason, ShardId, TopicName};

use crate::codec::{encode_key, key_prefix, named_prefix};
use crate::drains::serving_nodes;
use crate::plan::{Drafting, Halt, view};
use crate::{Key, KeyRange, Need, Record, Snapshot, Versioned};

/// Most items of a page, whatever was asked for.
const PAGE_MAX: usize = 1000;
/// Most logs of one query.
const LOGS_MAX: usize = 256;
/// Most ledgers of one query.
const LEDGERS_MAX: usize = 10_000;

/// What came of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for a moment on the stack, and the answer is the common case"
)]
pub enum Answered {
    /// These records must be read too; then ask again.
    Need(Need),
    /// The answer.
    Answer(Result<Answer, Problem>),
}

/// Answers a query on what was read.
pub fn answer(query: &Query, snapshot: &Snapshot) -> Answered {
    match dispatch(query, snapshot) {
        Ok(answer) => Answered::Answer(Ok(answer)),
        Err(Halt::Missing(need)) => Answered::Need(need),
        Err(Halt::Refused(problem)) => Answered::Answer(Err(*problem)),
    }
}

fn dispatch(query: &Query, snapshot: &Snapshot) -> Result<Answer, Halt> {
    let d = &mut Drafting::new(snapshot);
    Ok(match query {
        Query::Cluster => match d.cluster(&Key::Cluster)? {
            Some((id, _)) => Answer::Cluster(*id),
            None => return Err(Problem::new(Reason::Internal, "the store has no cluster").into()),
        },
        Query::Tenant(name) => Answer::Tenant(one(d.tenant(&Key::Tenant(name.clone()))?)),
        Query::Namespace(name) => {
            Answer::Namespace(one(d.namespace(&Key::Namespace(name.clone()))?))
        }
        Query::Topic(name) => Answer::Topic(one(d.topic(&Key::Topic(name.clone()))?)),
        Query::Subscription(name) => {
            d.want([Key::Topic(name.topic()), Key::Subscription(name.clone())])?;
            let topic = one(d.topic(&Key::Topic(name.topic()))?).map(|topic| topic.id);
            let found = one(d.subscription(&Key::Subscription(name.clone()))?);
            Answer::Subscription(found.filter(|found| Some(found.topic) == topic))
        }
        Query::Tenants(page) => Answer::Tenants(list(
            snapshot,
            Names::tenants(),
            page,
            |record| match record {
                Record::Tenant(tenant) => Some(tenant),
                _ => None,
            },
        )?),
        Query::Namespaces(tenant, page) => {
            let names = Names::namespaces(tenant.as_str());
            Answer::Namespaces(list(snapshot, names, page, |record| match record {
                Record::Namespace(namespace) => Some(namespace),
                _ => None,
            })?)
        }
        Query::Topics(namespace, page) => {
            let names = Names::topics(namespace.as_str());
            Answer::Topics(list(snapshot, names, page, |record| match record {
                Record::Topic(topic) => Some(topic),
                _ => None,
            })?)
        }
        Query::Subscriptions(topic, page) => {
            // Those of an earlier topic of this name may still be there.
            let id = one(d.topic(&Key::Topic(topic.clone()))?).map(|topic| topic.id);
            let names = Names::subscriptions(topic);
            Answer::Subscriptions(list(snapshot, names, page, |record| match record {
                Record::Subscription(it) if Some(it.topic) == id => Some(it),
                _ => None,
            })?)
        }
        Query::Shard(id) => shard(d, *id)?,
        Query::Ledgers(ids) => ledgers(d, ids)?,
        Query::Logs(ids) => logs(d, ids)?,
        Query::Bookies => Answer::Bookies(bookies(d, snapshot)?),
        Query::Sessions => Answer::Sessions(sessions(d, snapshot)?),
        Query::ServingNodes => Answer::ServingNodes(serving_nodes(d)?),
        Query::Shards(page) => Answer::Shards(shards(d, snapshot, page)?),
    })
}

fn one<T: Clone>(found: Option<(&T, &Versioned)>) -> Option<T> {
    found.map(|(record, _)| record.clone())
}

/// One collection of names: its keys, and the key that a name has in it.
pub(crate) struct Names {
    kind: Key,
    prefix: String,
}

impl Names {
    fn tenants() -> Self {
        let kind = Key::Tenant(types::TenantName::default_tenant());
        let prefix = "tenants/".to_owned();
        Self { kind, prefix }
    }

    fn namespaces(tenant: &str) -> Self {
        let kind = Key::Namespace(types::NamespaceName::default_namespace());
        let prefix = format!("{tenant}/namespaces/");
        Self { kind, prefix }
    }

    fn topics(namespace: &str) -> Self {
        let prefix = format!("{namespace}/topics/");
        Self {
            prefix,
            ..Self::all_topics()
        }
    }

    /// Those of all namespaces.
    fn all_topics() -> Self {
        let kind = Key::Topic("any".parse().expect("a plain word is a topic's name"));
        let prefix = String::new();
        Self { kind, prefix }
    }

    pub(crate) fn subscriptions(topic: &TopicName) -> Self {
        let any = topic
            .subscription("any")
            .expect("a plain word is a subscription's name");
        let prefix = format!("{topic}/subscriptions/");
        Self {
            kind: Key::Subscription(any),
            prefix,
        }
    }
}

impl Names {
    /// The first of them.
    pub(crate) fn range(&self, limit: usize) -> KeyRange {
        KeyRange::prefix(named_prefix(&self.kind, &self.prefix), limit)
    }
}

/// A page of names, in their order. `page.after` is a full name, or the last part of one.
fn list<T: Clone>(
    snapshot: &Snapshot,
    names: Names,
    page: &Page,
    pick: impl Fn(&Record) -> Option<&T>,
) -> Result<Vec<T>, Halt> {
    if page.limit == 0 {
        return Ok(Vec::new());
    }
    let mut range = names.range(page.limit.min(PAGE_MAX));
    if let Some(after) = &page.after {
        let full = if after.starts_with(&names.prefix) {
            after.clone()
        } else {
            format!("{}{after}", names.prefix)
        };
        range = range.after(&named_prefix(&names.kind, &full));
    }
    let limit = range.limit;
    let mut items = Vec::new();
    loop {
        let found = read(snapshot, range.clone())?;
        let picked = found
            .iter()
            .filter_map(|(_, versioned)| pick(&versioned.record).cloned());
        items.extend(picked.take(limit - items.len()));
        match found.last() {
            // What is passed over takes no place in a page: an empty page is the end of the list.
            Some((last, _)) if items.len() < limit && found.len() == range.limit => {
                range = range.after(&encode_key(last));
                range.limit = PAGE_MAX;
            }
            _ => return Ok(items),
        }
    }
}

pub(crate) fn read(snapshot: &Snapshot, range: KeyRange) -> Result<&[(Key, Versioned)], Halt> {
    match snapshot.ranges.get(&range) {
        Some(found) => Ok(found),
        None => {
            let mut need = Need::default();
            need.ranges.insert(range);
            Err(Halt::Missing(need))
        }
    }
}

fn shard(d: &mut Drafting<'_>, id: ShardId) -> Result<Answer, Halt> {
    let Some((record, versioned)) = d.shard(&Key::Shard(id))? else {
        return Ok(Answer::Shard(None, None));
    };
    let view = view(d, record, versioned.modified)?;
    let owner = match record.owner {
        Some(owner) => one(d.session(&Key::Session(owner))?),
        None => None,
    };
    Ok(Answer::Shard(Some(view), owner))
}

/// The shards of a page of topics: one read of the topics, and one of what they name.
fn shards(d: &mut Drafting<'_>, snapshot: &Snapshot, page: &Page) -> Result<Vec<ShardPlace>, Halt> {
    let topics = list(snapshot, Names::all_topics(), page, |record| match record {
        Record::Topic(topic) => Some(topic),
        _ => None,
    })?;
    let named = topics.iter().flat_map(|topic| &topic.shards);
    d.want(named.map(|shard| Key::Shard(*shard)))?;
    let mut places = Vec::with_capacity(topics.len());
    for topic in &topics {
        for shard in &topic.shards {
            if let Some((record, _)) = d.shard(&Key::Shard(*shard))? {
                places.push(ShardPlace {
                    shard: *shard,
                    topic: topic.name.clone(),
                    owner: record.owner,
                });
            }
        }
    }
    Ok(places)
}

fn ledgers(d: &mut Drafting<'_>, ids: &[LedgerId]) -> Result<Answer, Halt> {
    if ids.len() > LEDGERS_MAX {
        let wanted = format!("at most {LEDGERS_MAX} at once");
        return Err(Problem::bad_field("ledgers", wanted).into());
    }
    d.want(ids.iter().map(|id| Key::Ledger(*id)))?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some((body, versioned)) = d.ledger(&Key::Ledger(*id))? {
            found.push(body.with(*id, versioned.created));
        }
    }
    Ok(Answer::Ledgers(found))
}

fn logs(d: &mut Drafting<'_>, ids: &[LogId]) -> Result<Answer, Halt> {
    if ids.len() > LOGS_MAX {
        let wanted = format!("at most {LOGS_MAX} at once");
        return Err(Problem::bad_field("logs", wanted).into());
    }
    d.want(ids.iter().map(|id| Key::Log(*id)))?;
    let mut live = Vec::with_capacity(ids.len());
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        match d.log(&Key::Log(*id))? {
            Some((log, _)) if log.is_deleted => found.push((*id, LogStanding::Deleted)),
            Some((log, _)) => live.push((*id, log.shard, log.kind)),
            None => {} // Nothing is ever dropped because it was not found (I24).
        }
    }
    d.want(live.iter().map(|(_, shard, _)| Key::Shard(*shard)))?;
    for (id, shard, kind) in live {
        if let Some((record, _)) = d.shard(&Key::Shard(shard))? {
            let first = record.chain(kind).first;
            found.push((id, LogStanding::Live { first }));
        }
    }
    Ok(Answer::Logs(found))
}

fn bookies(d: &mut Drafting<'_>, snapshot: &Snapshot) -> Result<Vec<BookieRecord>, Halt> {
    let all = KeyRange::prefix(key_prefix(&Key::Bookie(BookieId::new(0))), usize::MAX);
    let bodies: Vec<_> = read(snapshot, all)?
        .iter()
        .filter_map(|(key, versioned)| match (key, &versioned.record) {
            (Key::Bookie(id), Record::Bookie(body)) => Some((*id, body)),
            _ => None,
        })
        .collect();
    d.want(
        bodies
            .iter()
            .flat_map(|(id, body)| [Key::Birth(*id), Key::Session(body.session)]),
    )?;
    let mut found = Vec::with_capacity(bodies.len());
    for (id, body) in bodies {
        let Some(born) = d.birth(id)? else {
            continue; // A bookie and its birth are written together.
        };
        let session = d.session(&Key::Session(body.session))?;
        let live = session.is_some_and(|(session, _)| session.state == SessionState::Live);
        found.push(body.with(id, born, live));
    }
    Ok(found)
}

/// The sessions that have not ended: the newest of each node and those it replaced, and of a bookie also the registered
/// one.
///
/// Ended sessions stay in the store for good, so this goes by the nodes and not by the sessions.
fn sessions(d: &mut Drafting<'_>, snapshot: &Snapshot) -> Result<Vec<SessionRecord>, Halt> {
    let any = "any".parse().expect("a plain word is a node's name");
    let ranges = [
        KeyRange::prefix(key_prefix(&Key::Node(NodeRole::Serving, any)), usize::MAX),
        KeyRange::prefix(key_prefix(&Key::Bookie(BookieId::new(0))), usize::MAX),
    ];
    let mut need = Need::default();
    need.ranges.extend(
        ranges
            .iter()
            .filter(|r| !snapshot.ranges.contains_key(r))
            .cloned(),
    );
    if !need.is_empty() {
        return Err(Halt::Missing(need));
    }
    let mut ids = std::collections::BTreeSet::new();
    for range in ranges {
        for (_, versioned) in read(snapshot, range)? {
            match &versioned.record {
                Record::Node(node) => {
                    ids.insert(node.session);
                    ids.extend(&node.replaced);
                }
                Record::Bookie(body) => {
                    ids.insert(body.session);
                }
                _ => {}
            }
        }
    }
    d.want(ids.iter().map(|id| Key::Session(*id)))?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some((session, _)) = d.session(&Key::Session(id))?
            && session.state != SessionState::Ended
        {
            found.push(session.clone());
        }
    }
    Ok(found)
}
