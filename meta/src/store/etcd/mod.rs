//! The store of a cluster: etcd.
//!
//! Any number of meta processes stand by on one etcd; one of them is active at a time, see `lead`. Records lie under
//! a prefix of the cluster's own, one key each; their versions are etcd's revisions. Each commit is one transaction: it
//! compares every version it rests on, the leader key and the cluster's id, and writes the records and one key with
//! the list of changes, whose history is therefore the history of commits. The revision of the store is that key's.
//!
//! A read is one transaction of ranges without writes: etcd evaluates all of it at one revision and makes it
//! linearizable, in one round trip. Only what does not fit into one (more than [`OPS_MAX`] keys, or a range longer than
//! a page) is read after it, at the revision that the first transaction was answered at.

mod carried;
mod client;
mod follow;
mod home;
mod layout;
mod lead;
mod open;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use prost::Message;
use tokio::sync::watch;

use catalog::{Key, KeyRange, Need, Snapshot, Write};
use host::Clock;
use host::net::Address;
use proto::etcd::{Compare, KeyValue, RangeRequest, TxnRequest, TxnResponse};
use types::cluster::MetaGeneration;
use types::{ClusterId, Revision};

use super::{ChangesSince, CommitError, Store, StoreError};
pub(crate) use carried::{import, save};
use client::{Client, Failure};
use follow::Follower;
use layout::{Layout, above, encode_changes, found, modified_at, one, put, range, remove};
use lead::Term;
pub(crate) use lead::{Candidate, Lead, Look};
pub use open::EtcdError;

/// Most comparisons, and most operations, of one transaction: etcd's `--max-txn-ops`, as it comes.
const OPS_MAX: usize = 128;
/// Most bytes of one transaction: etcd's `--max-request-bytes`, as it comes, less what etcd wraps around it.
const REQUEST_MAX: usize = (3 << 19) - 4096;
/// Most records of one range in one answer.
const PAGE: usize = 1000;
/// How often a read that was overtaken by a compaction begins anew.
const READS_MAX: usize = 3;

/// Where etcd is and what of it is the cluster's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// The members' client addresses: any of them answers.
    pub endpoints: Vec<Address>,
    /// What all keys of the cluster begin with; with a slash at both ends.
    pub prefix: String,
    /// How long a process that is active and falls silent stays so, in whole seconds.
    pub lease: Duration,
    /// How long a call may take, with all its tries.
    pub timeout: Duration,
    /// How long a start waits for etcd to come up.
    pub patience: Duration,
    /// How many commits back changes are told.
    pub history: usize,
}

impl EtcdConfig {
    /// The usual values.
    pub fn new(endpoints: Vec<Address>, prefix: impl Into<String>) -> Self {
        Self {
            endpoints,
            prefix: prefix.into(),
            lease: Duration::from_secs(3),
            timeout: Duration::from_secs(5),
            patience: Duration::from_secs(30),
            history: 65_536,
        }
    }
}

/// What all of a process's terms share.
#[derive(Debug)]
struct Shared {
    client: Arc<Client>,
    layout: Layout,
    clock: Clock,
    follower: Arc<Follower>,
    cluster: ClusterId,
    generation: MetaGeneration,
    /// When the cluster's id was written: nobody ever writes it again.
    cluster_written: i64,
    /// The newest commit that anybody here was told of.
    known: AtomicU64,
    timeout: Duration,
}

/// An etcd that is open, without the right to serve from it.
#[derive(Debug, Clone)]
pub struct EtcdStandby {
    shared: Arc<Shared>,
    lease: Duration,
}

/// The store, for as long as its process is active. Cheap to clone.
#[derive(Clone)]
pub struct Etcd {
    shared: Arc<Shared>,
    term: Term,
}

impl EtcdStandby {
    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.shared.cluster
    }

    /// The store of a term.
    pub(crate) fn store(&self, lead: &Lead) -> Etcd {
        Etcd {
            shared: Arc::clone(&self.shared),
            term: lead.term.clone(),
        }
    }
}

impl Shared {
    fn same_cluster(&self) -> Compare {
        modified_at(self.layout.cluster(), self.cluster_written)
    }

    /// Whether the cluster's id is what it was.
    fn check_cluster(&self, id: Option<&KeyValue>) -> Result<(), StoreError> {
        if id.is_some_and(|id| id.mod_revision == self.cluster_written) {
            return Ok(());
        }
        let prefix = self.layout.prefix();
        Err(StoreError::Failed {
            reason: format!("the cluster's id in etcd was deleted or replaced prefix={prefix}"),
        })
    }

    fn learn(&self, commit: Revision) {
        self.known.fetch_max(commit.get(), Ordering::AcqRel);
    }
}

/// A part of a read that is still to be asked for.
struct Ask {
    request: RangeRequest,
    /// Records that may still come.
    left: usize,
    target: Target,
}

#[derive(Clone)]
enum Target {
    Changes,
    Key(Key),
    Range(KeyRange),
}

/// Why one try of a read has no snapshot.
enum ReadFailure {
    Compacted,
    Final(StoreError),
}

impl From<Failure> for ReadFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Compacted => Self::Compacted,
            other => Self::Final(other.into()),
        }
    }
}

impl From<StoreError> for ReadFailure {
    fn from(error: StoreError) -> Self {
        Self::Final(error)
    }
}

impl Etcd {
    async fn read_all(&self, need: Need) -> Result<Snapshot, StoreError> {
        self.term.check()?;
        for _ in 0..READS_MAX {
            match self.read_once(&need).await {
                Ok(snapshot) => {
                    self.shared.learn(snapshot.revision);
                    return Ok(snapshot);
                }
                Err(ReadFailure::Compacted) => {}
                Err(ReadFailure::Final(error)) => return Err(error),
            }
        }
        Err(Failure::Compacted.into())
    }

    async fn read_once(&self, need: &Need) -> Result<Snapshot, ReadFailure> {
        let mut asks = self.asks(need);
        let mut snapshot = Snapshot::new();
        for wanted in &need.ranges {
            snapshot.ranges.insert(wanted.clone(), Vec::new());
        }
        let mut at = 0;
        while !asks.is_empty() {
            let rest = asks.split_off(asks.len().min(OPS_MAX));
            let answer = self.ranges(&asks, at).await?;
            at = answer.header.as_ref().map_or(
                at,
                |header| {
                    if at == 0 { header.revision } else { at }
                },
            );
            let mut answers = answer.responses.into_iter();
            let mut next = Vec::new();
            for ask in asks {
                next.extend(self.take_in(ask, found(answers.next()), &mut snapshot)?);
            }
            next.extend(rest);
            asks = next;
        }
        Ok(snapshot)
    }

    fn asks(&self, need: &Need) -> Vec<Ask> {
        let layout = &self.shared.layout;
        let single = |key, target| Ask {
            request: one(key),
            left: 1,
            target,
        };
        let mut asks = vec![single(layout.changes(), Target::Changes)];
        let keys = need.keys.iter();
        asks.extend(keys.map(|key| single(layout.record(key), Target::Key(key.clone()))));
        let ranges = need.ranges.iter();
        let ranges = ranges.filter(|range| range.start < range.end && range.limit > 0);
        asks.extend(ranges.map(|range| {
            let (key, range_end) = layout.records(range);
            Ask {
                request: RangeRequest {
                    key,
                    range_end,
                    ..RangeRequest::default()
                },
                left: range.limit,
                target: Target::Range(range.clone()),
            }
        }));
        asks
    }

    /// Asks at a revision; 0: at the present one.
    async fn ranges(&self, asks: &[Ask], at: i64) -> Result<TxnResponse, ReadFailure> {
        let success = asks.iter().map(|ask| {
            let page = ask.left.min(PAGE);
            range(RangeRequest {
                limit: i64::try_from(page).unwrap_or(i64::MAX),
                revision: at,
                ..ask.request.clone()
            })
        });
        let request = TxnRequest {
            success: success.collect(),
            ..self.conditional()
        };
        let answer = self.shared.client.read(request).await?;
        if answer.succeeded {
            return Ok(answer);
        }
        self.check_failed(answer)?;
        let reason = "etcd refused a read for no reason".to_owned();
        Err(StoreError::Unreachable { reason }.into())
    }

    /// Puts what was found into the snapshot; what more there is to ask for.
    fn take_in(
        &self,
        mut ask: Ask,
        (pairs, has_more): (Vec<KeyValue>, bool),
        snapshot: &mut Snapshot,
    ) -> Result<Option<Ask>, StoreError> {
        let damaged = |what| StoreError::Failed {
            reason: format!("damaged bytes in etcd what={what}"),
        };
        let layout = &self.shared.layout;
        let wanted = match ask.target.clone() {
            Target::Changes => {
                let last = pairs.first().map_or(0, |pair| pair.mod_revision);
                snapshot.revision = layout.revision(last);
                return Ok(None);
            }
            Target::Key(key) => {
                let versioned = match pairs.first() {
                    Some(pair) => Some(layout.versioned(pair).map_err(damaged)?.1),
                    None => None,
                };
                snapshot.records.insert(key, versioned);
                return Ok(None);
            }
            Target::Range(wanted) => wanted,
        };
        let found = snapshot.ranges.entry(wanted).or_default();
        for pair in &pairs {
            found.push(layout.versioned(pair).map_err(damaged)?);
        }
        ask.left -= pairs.len().min(ask.left);
        let Some(last) = pairs.last().filter(|_| has_more && ask.left > 0) else {
            return Ok(None);
        };
        ask.request.key = above(&last.key);
        Ok(Some(ask))
    }

    /// A transaction that happens only while the term lasts, and otherwise says why not.
    fn conditional(&self) -> TxnRequest {
        let shared = &self.shared;
        TxnRequest {
            compare: vec![shared.same_term(&self.term), shared.same_cluster()],
            success: Vec::new(),
            failure: vec![
                range(one(shared.layout.leader())),
                range(one(shared.layout.cluster())),
            ],
        }
    }

    /// Whether term and cluster still held when a transaction did not happen.
    fn check_failed(&self, answer: TxnResponse) -> Result<(), StoreError> {
        let mut answers = answer.responses.into_iter();
        let leader = found(answers.next()).0;
        self.shared.check_term(&self.term, leader.first())?;
        self.shared.check_cluster(found(answers.next()).0.first())
    }

    async fn commit_once(&self, write: Write) -> Result<Revision, CommitError> {
        self.term.check().map_err(CommitError::Refused)?;
        let request = self.transaction(&write);
        check_limits(&request).map_err(CommitError::Refused)?;
        let answer = match self.shared.client.write(request).await {
            Ok(answer) => answer,
            Err(failure @ Failure::Unknown(_)) => {
                let reason = failure.to_string();
                return Err(CommitError::Unknown { reason });
            }
            Err(failure) => return Err(CommitError::Refused(failure.into())),
        };
        if !answer.succeeded {
            self.check_failed(answer).map_err(CommitError::Refused)?;
            return Err(CommitError::Conflict);
        }
        let Some(header) = answer.header else {
            let reason = "etcd answered a commit without a revision".to_owned();
            return Err(CommitError::Unknown { reason });
        };
        let committed = self.shared.layout.revision(header.revision);
        self.shared.learn(committed);
        Ok(committed)
    }

    fn transaction(&self, write: &Write) -> TxnRequest {
        let layout = &self.shared.layout;
        let mut request = self.conditional();
        for condition in &write.conditions {
            let version = condition.version.map_or(0, |it| layout.number(it));
            let key = layout.record(&condition.key);
            request.compare.push(modified_at(key, version));
        }
        // etcd takes each key once in a transaction; the last record counts.
        let puts: BTreeMap<Bytes, Bytes> = write
            .puts
            .iter()
            .map(|(key, record)| {
                let bytes = catalog::encode_record(key, record);
                (layout.record(key), bytes.into())
            })
            .collect();
        let puts = puts.into_iter().map(|(key, value)| put(key, value, 0));
        request.success.extend(puts);
        let removes = write.removes.iter().map(|key| remove(layout.record(key)));
        request.success.extend(removes);
        let changes = encode_changes(&write.changes);
        request.success.push(put(layout.changes(), changes, 0));
        request
    }

    async fn changes_since(
        &self,
        after: Revision,
        limit: usize,
    ) -> Result<ChangesSince, StoreError> {
        self.term.check()?;
        let shared = &self.shared;
        let mut now = Revision::new(shared.known.load(Ordering::Acquire));
        if after > now {
            now = shared.follower.last_commit().await?;
            shared.learn(now);
            if after > now {
                return Ok(ChangesSince::Compacted { now });
            }
        }
        if !shared.follower.caught_up(now, shared.timeout).await {
            let reason = format!("the watch on etcd is behind wanted={now}");
            return Err(StoreError::Unreachable { reason });
        }
        Ok(shared.follower.window().after(after, limit))
    }
}

/// Refuses what etcd would refuse, in words that say what to change.
fn check_limits(request: &TxnRequest) -> Result<(), StoreError> {
    let ops = request.compare.len().max(request.success.len());
    if ops > OPS_MAX {
        return Err(StoreError::TooLarge {
            what: format!("{ops} records in one commit, etcd takes {OPS_MAX}"),
        });
    }
    let bytes = request.encoded_len();
    if bytes > REQUEST_MAX {
        return Err(StoreError::TooLarge {
            what: format!("{bytes} bytes in one commit, etcd takes {REQUEST_MAX}"),
        });
    }
    Ok(())
}

impl Store for Etcd {
    fn read(&self, need: Need) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        Box::pin(self.read_all(need))
    }

    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(self.commit_once(write))
    }

    fn changes(
        &self,
        after: Revision,
        limit: usize,
    ) -> BoxFuture<'_, Result<ChangesSince, StoreError>> {
        Box::pin(self.changes_since(after, limit))
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.shared.follower.subscribe()
    }

    fn cluster(&self) -> ClusterId {
        self.shared.cluster
    }

    fn generation(&self) -> MetaGeneration {
        self.shared.generation
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("cluster", &self.shared.cluster)
            .field("term", &self.term.created)
            .finish_non_exhaustive()
    }
}
