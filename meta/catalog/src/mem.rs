//! The reference store: a map with revisions. It shows what the store contract means, and carries the simulators.

use std::collections::BTreeMap;

use types::command::{Answer, ChangeEvent, Command, Query, Reply};
use types::{Problem, Revision};

use crate::codec::tag as kind_of;
use crate::{Answered, Commit, Key, Need, Planned, Snapshot, Versioned, Write};
use crate::{answer, encode_key, plan};

/// A whole store's records.
pub type Image = BTreeMap<Key, Versioned>;

/// A conditional write that did not hold: a record it rests on has another version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("a record changed key={key:?}")]
pub struct Conflict {
    /// The first such record.
    pub key: Key,
}

/// A conditional write that held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its revision.
    pub revision: Revision,
    /// The answer to the command.
    pub reply: Reply,
    /// What watchers hear.
    pub events: Vec<ChangeEvent>,
}

/// A store in memory.
///
/// A simulator that wants delays takes the two steps apart: [`MemStore::plan`] reads and plans at one moment,
/// [`MemStore::commit`] carries the write out at a later one or reports a conflict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct MemStore {
    revision: Revision,
    records: Image,
}

impl MemStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The revision of the last commit.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Every record, for [`check`](crate::check).
    pub const fn image(&self) -> &Image {
        &self.records
    }

    /// Reads what is needed, all at the present revision.
    pub fn read(&self, need: &Need) -> Snapshot {
        let mut snapshot = Snapshot::new();
        snapshot.revision = self.revision;
        for key in &need.keys {
            snapshot
                .records
                .insert(key.clone(), self.records.get(key).cloned());
        }
        for range in &need.ranges {
            let found = self
                .records
                .iter()
                .filter(|(key, _)| range.reaches(kind_of(key)) && range.contains(&encode_key(key)))
                .take(range.limit)
                .map(|(key, versioned)| (key.clone(), versioned.clone()))
                .collect();
            snapshot.ranges.insert(range.clone(), found);
        }
        snapshot
    }

    /// Reads and plans a command, without carrying it out. Never [`Planned::Need`].
    pub fn plan(&self, command: &Command) -> Planned {
        let mut need = Need::default();
        loop {
            match plan(command, &self.read(&need)) {
                Planned::Need(more) => need.join(more),
                done @ (Planned::Answer(_) | Planned::Write(_)) => return done,
            }
        }
    }

    /// Carries a planned command out.
    ///
    /// # Errors
    ///
    /// [`Conflict`]: nothing was written; read again, plan again.
    pub fn commit(&mut self, commit: Commit) -> Result<Committed, Conflict> {
        let (revision, events) = self.write(commit.write)?;
        Ok(Committed {
            revision,
            reply: commit.draft.committed(revision),
            events,
        })
    }

    /// Carries a conditional write out: all of it at the next revision, or nothing.
    ///
    /// # Errors
    ///
    /// [`Conflict`]: a record it rests on has another version; nothing was written.
    pub fn write(&mut self, write: Write) -> Result<(Revision, Vec<ChangeEvent>), Conflict> {
        for condition in &write.conditions {
            let version = self.records.get(&condition.key).map(|v| v.modified);
            if version != condition.version {
                return Err(Conflict {
                    key: condition.key.clone(),
                });
            }
        }
        let revision = self.revision.next();
        for (key, record) in write.puts {
            let created = self.records.get(&key).map_or(revision, |old| old.created);
            let versioned = Versioned {
                record,
                created,
                modified: revision,
            };
            self.records.insert(key, versioned);
        }
        for key in &write.removes {
            self.records.remove(key);
        }
        self.revision = revision;
        let events = write.changes.into_iter();
        Ok((
            revision,
            events
                .map(|change| ChangeEvent { revision, change })
                .collect(),
        ))
    }

    /// Plans and carries out a command in one moment.
    ///
    /// # Errors
    ///
    /// The problem that the rules find with it.
    pub fn apply(&mut self, command: &Command) -> Result<Reply, Problem> {
        self.execute(command).0
    }

    /// The same, with what watchers hear.
    ///
    /// # Panics
    ///
    /// Never: nothing changes between planning and committing in one call.
    pub fn execute(&mut self, command: &Command) -> (Result<Reply, Problem>, Vec<ChangeEvent>) {
        match self.plan(command) {
            Planned::Need(_) => unreachable!("plan reads all that is needed"),
            Planned::Answer(reply) => (reply, Vec::new()),
            Planned::Write(commit) => {
                let committed = self
                    .commit(*commit)
                    .expect("nothing changes between planning and committing in one call");
                (Ok(committed.reply), committed.events)
            }
        }
    }

    /// Answers a query at the present revision.
    ///
    /// # Errors
    ///
    /// The problem that the rules find with it.
    pub fn query(&self, query: &Query) -> Result<Answer, Problem> {
        let mut need = Need::default();
        loop {
            match answer(query, &self.read(&need)) {
                Answered::Need(more) => need.join(more),
                Answered::Answer(answer) => return answer,
            }
        }
    }
}
