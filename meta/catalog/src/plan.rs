//! From a command and what was read to an answer or a conditional write.

use std::collections::{BTreeMap, BTreeSet};

use types::chain::{LedgerRecord, ShardOutcome, ShardRecord, ShardView, Verified};
use types::command::{Change, Command, Reply};
use types::{BookieId, LedgerId, Problem, Reason, Revision};

use crate::{BookieBody, Counters, Key, LedgerBody, Need, Record, Snapshot, Versioned};
use crate::{copies, drains, names, nodes, shard, topics};

/// What came of planning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Planned {
    /// These records must be read too; then plan again.
    Need(Need),
    /// The answer, final: nothing is written.
    Answer(Result<Reply, Problem>),
    /// A conditional write. When it conflicts: read again, plan again.
    Write(Box<Commit>),
}

/// A record's version as a decision saw it: the revision that last changed it, or none where there was no record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which record.
    pub key: Key,
    /// Its version.
    pub version: Option<Revision>,
}

/// A conditional write with the answer that it makes true.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Commit {
    /// What the store carries out.
    pub write: Write,
    /// The answer once it is committed.
    pub draft: Draft,
}

/// A write that holds only if everything it rests on is unchanged. All of it happens at one revision, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Write {
    /// Every record read, with its version.
    pub conditions: Vec<Condition>,
    /// The records written, in order of keys.
    pub puts: Vec<(Key, Record)>,
    /// The records removed, in order of keys; none of them is written. A ledger's when it is trimmed, and what belonged
    /// to a deleted topic: numbers are never given again, so that nothing is ever taken for what was removed.
    pub removes: Vec<Key>,
    /// What watchers are told.
    pub changes: Vec<Change>,
}

/// An answer that waits for the revision of its commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Draft {
    /// Nothing in it depends on the revision.
    Plain(Reply),
    /// A shard's record as written, and its tails: each with the revision that created it, none for one made now.
    Shard {
        /// The record.
        record: ShardRecord,
        /// The records of the tails.
        tails: Vec<(LedgerId, LedgerBody, Option<Revision>)>,
    },
    /// A bookie as written.
    Bookie {
        /// Its number.
        id: BookieId,
        /// Its record.
        body: BookieBody,
        /// Its birth; none when it is born now.
        born: Option<Revision>,
        /// Whether its session is live.
        live: bool,
    },
}

impl Draft {
    /// The answer, now that the write is committed at `revision`.
    pub fn committed(self, revision: Revision) -> Reply {
        match self {
            Self::Plain(reply) => reply,
            Self::Shard { record, tails } => Reply::Shard(ShardOutcome::Committed(ShardView {
                record,
                version: revision,
                tails: tails
                    .into_iter()
                    .map(|(id, body, created)| body.with(id, created.unwrap_or(revision)))
                    .collect(),
            })),
            Self::Bookie {
                id,
                body,
                born,
                live,
            } => Reply::Bookie(body.with(id, born.unwrap_or(revision), live)),
        }
    }
}

/// Plans a command on what was read. Deterministic: the same command on the same snapshot gives the same plan.
pub fn plan(command: &Command, snapshot: &Snapshot) -> Planned {
    let mut draft = Drafting::new(snapshot);
    match dispatch(command, &mut draft) {
        Ok(Done::Answer(reply)) => Planned::Answer(Ok(reply)),
        Ok(Done::Write(reply)) => Planned::Write(Box::new(draft.finish(reply))),
        Err(Halt::Missing(need)) => Planned::Need(need),
        Err(Halt::Refused(problem)) => Planned::Answer(Err(*problem)),
    }
}

fn dispatch(command: &Command, d: &mut Drafting<'_>) -> Result<Done, Halt> {
    match command {
        Command::Bootstrap { cluster, at } => names::bootstrap(d, *cluster, *at),
        Command::OpenSession { .. } => nodes::open_session(d, &nodes::Opening::of(command)),
        Command::ReviveSession { session } => nodes::revive(d, *session),
        Command::ExpireSession { session } => nodes::expire(d, *session),
        Command::EndSession { session } => nodes::end(d, *session),
        Command::RegisterBookie { claim, session } => nodes::register(d, claim, *session),
        Command::ReportBookie {
            id,
            session,
            mark,
            state,
        } => nodes::report(d, *id, *session, *mark, *state),
        Command::DrainBookie { id, draining } => copies::drain(d, *id, *draining),
        Command::RetireBookie { id } => copies::retire(d, *id),
        Command::DrainServing { name, draining } => drains::drain(d, name, *draining),
        Command::AssignCopy { ledger, moving } => copies::assign(d, *ledger, *moving),
        Command::CopiesWhole {
            bookie,
            session,
            born,
            copies,
        } => copies::whole(
            d,
            Verified {
                bookie: *bookie,
                born: *born,
            },
            *session,
            copies,
        ),
        Command::CreateTenant { name, at } => names::create_tenant(d, name, *at),
        Command::CreateNamespace { name, at } => names::create_namespace(d, name, *at),
        Command::CreateTopic {
            name,
            quorum,
            retention,
            at,
        } => topics::create(d, name, *quorum, *retention, *at),
        Command::UpdateTopic { name, retention } => topics::update(d, name, *retention),
        Command::DeleteTopic {
            name,
            id,
            session,
            epoch,
        } => topics::delete(d, name, *id, (*session, *epoch)),
        Command::SweepShard { shard } => topics::sweep(d, *shard),
        Command::CreateSubscription { .. } => names::create_subscription(d, command),
        Command::ActivateSubscription { name, id } => names::activate_subscription(d, name, *id),
        Command::DeleteSubscription { name, id, session } => {
            names::delete_subscription(d, name, *id, *session)
        }
        Command::ClaimShard(claim) => shard::claim(d, claim),
        Command::ChangeShard(command) => shard::change(d, command),
        Command::AcceptLoss { .. } => shard::accept_loss(d, command),
    }
}

/// How a command ended.
pub(crate) enum Done {
    /// Nothing to write.
    Answer(Reply),
    /// Write what was put; then answer this.
    Write(Draft),
}

impl Done {
    pub(crate) fn write(reply: Reply) -> Self {
        Self::Write(Draft::Plain(reply))
    }
}

/// Why planning stopped early.
pub(crate) enum Halt {
    Missing(Need),
    Refused(Box<Problem>),
}

impl From<Problem> for Halt {
    fn from(problem: Problem) -> Self {
        Self::Refused(Box::new(problem))
    }
}

/// Planning under way: what was read becomes the conditions, what is put the write.
pub(crate) struct Drafting<'a> {
    snapshot: &'a Snapshot,
    conditions: BTreeMap<Key, Option<Revision>>,
    puts: BTreeMap<Key, Record>,
    removes: BTreeSet<Key>,
    changes: Vec<Change>,
}

/// Getters that know which kind of record a key holds.
macro_rules! getters {
    ($($name:ident($key:pat => $record:ident): $kind:ty;)*) => {
        $(pub(crate) fn $name(
            &mut self,
            key: &Key,
        ) -> Result<Option<(&'a $kind, &'a Versioned)>, Halt> {
            debug_assert!(matches!(key, $key));
            Ok(self.get(key)?.map(|versioned| match &versioned.record {
                Record::$record(record) => (record, versioned),
                _ => unreachable!("a key holds its own kind of record"),
            }))
        })*
    };
}

impl<'a> Drafting<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        Self {
            snapshot,
            conditions: BTreeMap::new(),
            puts: BTreeMap::new(),
            removes: BTreeSet::new(),
            changes: Vec::new(),
        }
    }

    /// What was read.
    pub(crate) const fn snapshot(&self) -> &'a Snapshot {
        self.snapshot
    }

    /// Reads a record. The decision rests on it from now on, also where there is none.
    pub(crate) fn get(&mut self, key: &Key) -> Result<Option<&'a Versioned>, Halt> {
        self.want([key.clone()])?;
        let found = self.snapshot.records[key].as_ref();
        self.conditions
            .insert(key.clone(), found.map(|versioned| versioned.modified));
        Ok(found)
    }

    /// Asks for records that will be read soon, so that they are loaded together.
    pub(crate) fn want(&self, keys: impl IntoIterator<Item = Key>) -> Result<(), Halt> {
        let mut need = Need::default();
        for key in keys {
            if !self.snapshot.records.contains_key(&key) {
                need.keys.insert(key);
            }
        }
        if need.is_empty() {
            Ok(())
        } else {
            Err(Halt::Missing(need))
        }
    }

    getters! {
        tenant(Key::Tenant(_) => Tenant): types::topic::TenantRecord;
        namespace(Key::Namespace(_) => Namespace): types::topic::NamespaceRecord;
        topic(Key::Topic(_) => Topic): types::topic::TopicRecord;
        subscription(Key::Subscription(_) => Subscription): types::topic::SubscriptionRecord;
        shard(Key::Shard(_) => Shard): ShardRecord;
        log(Key::Log(_) => Log): crate::LogRecord;
        ledger(Key::Ledger(_) => Ledger): LedgerBody;
        loss(Key::Loss(_) => Loss): crate::LossRecord;
        node(Key::Node(..) => Node): crate::NodeRecord;
        session(Key::Session(_) => Session): types::cluster::SessionRecord;
        bookie(Key::Bookie(_) => Bookie): BookieBody;
        bookie_name(Key::BookieName(_) => BookieName): BookieId;
        cluster(Key::Cluster => Cluster): types::ClusterId;
        stored_counters(Key::Counters => Counters): Counters;
    }

    /// The numbers to give next.
    pub(crate) fn counters(&mut self) -> Result<Counters, Halt> {
        Ok(self
            .stored_counters(&Key::Counters)?
            .map_or(Counters::FIRST, |(counters, _)| *counters))
    }

    /// The revision of a bookie's last birth.
    pub(crate) fn birth(&mut self, id: BookieId) -> Result<Option<Revision>, Halt> {
        Ok(self.get(&Key::Birth(id))?.map(Versioned::birth))
    }

    /// Writes a record.
    pub(crate) fn put(&mut self, key: Key, record: Record) {
        debug_assert!(
            !self.removes.contains(&key),
            "nothing is written after it was removed"
        );
        self.puts.insert(key, record);
    }

    /// Removes a record.
    pub(crate) fn remove(&mut self, key: Key) {
        self.puts.remove(&key);
        self.removes.insert(key);
    }

    /// Tells watchers.
    pub(crate) fn tell(&mut self, change: Change) {
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    fn finish(self, draft: Draft) -> Commit {
        let conditions = self.conditions.into_iter();
        let write = Write {
            conditions: conditions
                .map(|(key, version)| Condition { key, version })
                .collect(),
            puts: self.puts.into_iter().collect(),
            removes: self.removes.into_iter().collect(),
            changes: self.changes,
        };
        Commit { write, draft }
    }
}

/// A shard as read, with the records of its tails.
pub(crate) fn view(
    d: &mut Drafting<'_>,
    record: &ShardRecord,
    version: Revision,
) -> Result<ShardView, Halt> {
    let ids: Vec<LedgerId> = types::chain::LogKind::BOTH
        .into_iter()
        .filter_map(|kind| record.chain(kind).tail_id())
        .collect();
    d.want(ids.iter().map(|id| Key::Ledger(*id)))?;
    let mut tails: Vec<LedgerRecord> = Vec::with_capacity(ids.len());
    for id in ids {
        let (body, versioned) = d
            .ledger(&Key::Ledger(id))?
            .ok_or_else(|| missing_ledger(id))?;
        tails.push(body.with(id, versioned.created));
    }
    Ok(ShardView {
        record: record.clone(),
        version,
        tails,
    })
}

/// A chain names a ledger that has no record: a defect, told and never papered over (I18).
pub(crate) fn missing_ledger(id: LedgerId) -> Problem {
    Problem::new(
        Reason::Internal,
        format!("a chain names a ledger that has no record ledger={id}"),
    )
    .with_resource(id)
}
