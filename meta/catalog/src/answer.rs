//! From a query and what was read to an answer.

use types::cluster::{BookieRecord, NodeRole, SessionRecord, SessionState};
use types::command::{Answer, Page, Query};
use types::topic::SubscriptionState;
use types::{BookieId, LedgerId, Problem, Reason, ShardId, TopicName};

use crate::codec::{key_prefix, named_prefix};
use crate::plan::{Drafting, Halt, view};
use crate::{Key, KeyRange, Need, Record, Snapshot, Versioned};

/// Most items of a page, whatever was asked for.
const PAGE_MAX: usize = 1000;
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
            let found = one(d.subscription(&Key::Subscription(name.clone()))?);
            Answer::Subscription(found.filter(|it| it.state != SubscriptionState::Deleted))
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
            let names = Names::subscriptions(topic);
            Answer::Subscriptions(list(snapshot, names, page, |record| match record {
                Record::Subscription(subscription) => Some(subscription),
                _ => None,
            })?)
        }
        Query::Shard(id) => shard(d, *id)?,
        Query::Ledgers(ids) => ledgers(d, ids)?,
        Query::Bookies => Answer::Bookies(bookies(d, snapshot)?),
        Query::Sessions => Answer::Sessions(sessions(d, snapshot)?),
    })
}

fn one<T: Clone>(found: Option<(&T, &Versioned)>) -> Option<T> {
    found.map(|(record, _)| record.clone())
}

/// One collection of names: its keys, and the key that a name has in it.
struct Names {
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
        let kind = Key::Topic("any".parse().expect("a plain word is a topic's name"));
        let prefix = format!("{namespace}/topics/");
        Self { kind, prefix }
    }

    fn subscriptions(topic: &TopicName) -> Self {
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
    let mut range = KeyRange::prefix(
        named_prefix(&names.kind, &names.prefix),
        page.limit.min(PAGE_MAX),
    );
    if let Some(after) = &page.after {
        let full = if after.starts_with(&names.prefix) {
            after.clone()
        } else {
            format!("{}{after}", names.prefix)
        };
        range = range.after(&named_prefix(&names.kind, &full));
    }
    Ok(read(snapshot, range)?
        .iter()
        .filter_map(|(_, versioned)| pick(&versioned.record).cloned())
        .collect())
}

fn read(snapshot: &Snapshot, range: KeyRange) -> Result<&[(Key, Versioned)], Halt> {
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
