//! The tables, and what is done to them in one transaction.
//!
//! `records`: a key's bytes → created, modified (u64 each, big-endian), CRC32C over key and both, the record's bytes.
//! `changes`: a revision → its changes. `facts`: `revision`, `oldest` (changes after it are known), `cluster`, the
//! [`Sum`] of each of the other two, and in a store that was restored the revision it began at (`restored`).

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};

use catalog::{
    Key, KeyRange, Need, Record, Snapshot, Versioned, Write, decode_key, decode_record, encode_key,
    encode_record,
};
use types::{ClusterId, Revision, crc32c_of};

use super::super::{ChangesSince, StoreError, changes};
use super::sum::Sum;

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
const CHANGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("changes");
const FACTS: TableDefinition<'_, &str, u128> = TableDefinition::new("facts");

/// The bytes before a record's own.
const VERSIONS_LEN: usize = 20;

/// An open database, with the lock on its directory.
pub(super) struct Data {
    db: Database,
    history: u64,
    _lock: Box<dyn Send + Sync>,
}

/// What became of one write of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Committed(Revision),
    Conflict,
}

/// Anything that redb or damaged bytes say: final for this store.
#[derive(Debug, thiserror::Error)]
pub(super) enum DataError {
    #[error(transparent)]
    Redb(#[from] redb::Error),
    #[error("damaged bytes in the store what={0}")]
    Damaged(String),
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for DataError {
            fn from(error: $error) -> Self {
                Self::Redb(error.into())
            }
        })*
    };
}

from_redb!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError
);

impl From<DataError> for StoreError {
    fn from(error: DataError) -> Self {
        Self::Failed {
            reason: error.to_string(),
        }
    }
}

/// Makes the tables of a new database, for `cluster`, durably.
pub(super) fn create_tables(db: &Database, cluster: ClusterId) -> Result<(), DataError> {
    let txn = db.begin_write()?;
    txn.open_table(RECORDS)?;
    txn.open_table(CHANGES)?;
    first_facts(&txn, cluster, Revision::default(), Sum::default())?;
    txn.commit()?;
    Ok(())
}

/// Makes the tables of a new database with these records, all of one revision, durably: all of it or nothing.
pub(super) fn create_with<E>(
    db: &Database,
    cluster: ClusterId,
    revision: Revision,
    mut next: impl FnMut() -> Result<Option<(Key, Record)>, E>,
) -> Result<Result<(), E>, DataError> {
    let txn = db.begin_write()?;
    let mut sum = Sum::default();
    let mut records = txn.open_table(RECORDS)?;
    loop {
        match next() {
            Ok(Some((key, record))) => {
                let (key_bytes, record) = (encode_key(&key), encode_record(&key, &record));
                put(&mut records, &key_bytes, &record, revision, &mut sum)?;
            }
            Ok(None) => break,
            Err(error) => return Ok(Err(error)),
        }
    }
    drop(records);
    txn.open_table(CHANGES)?;
    first_facts(&txn, cluster, revision, sum)?;
    txn.open_table(FACTS)?
        .insert("restored", u128::from(revision.get()))?;
    txn.commit()?;
    Ok(Ok(()))
}

/// The facts of a store that has served nobody: these records, all of one revision, and no changes.
fn first_facts(
    txn: &WriteTransaction,
    cluster: ClusterId,
    revision: Revision,
    records: Sum,
) -> Result<(), DataError> {
    let mut facts = txn.open_table(FACTS)?;
    facts.insert("cluster", cluster.get())?;
    facts.insert("revision", u128::from(revision.get()))?;
    facts.insert("oldest", u128::from(revision.get()))?;
    facts.insert("records", records.to_bits())?;
    facts.insert("changes", Sum::default().to_bits())?;
    Ok(())
}

/// How many records there are.
pub(super) fn count(db: &Database) -> Result<u64, DataError> {
    Ok(db.begin_read()?.open_table(RECORDS)?.len()?)
}

/// Shows every record, in the order of their keys, all at one revision.
pub(super) fn each_record<E>(
    db: &Database,
    mut show: impl FnMut(&Key, &Versioned) -> Result<(), E>,
) -> Result<Result<(), E>, DataError> {
    for item in db.begin_read()?.open_table(RECORDS)?.iter()? {
        let (key, value) = item?;
        let key = decode_key(key.value()).map_err(|e| DataError::Damaged(e.to_string()))?;
        if let Err(error) = show(&key, &decode(&key, value.value())?) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// Whether a database was restored and has taken no commit since.
pub(super) fn is_restored(db: &Database) -> Result<bool, DataError> {
    let facts = db.begin_read()?.open_table(FACTS)?;
    let restored = facts.get("restored")?.map(|value| value.value());
    Ok(restored == Some(fact(&facts, "revision")?))
}

/// The cluster and the last revision of a database; none when its tables were never made.
pub(super) fn facts_of(db: &Database) -> Result<Option<(ClusterId, Revision)>, DataError> {
    let txn = db.begin_read()?;
    let facts = match txn.open_table(FACTS) {
        Ok(facts) => facts,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(cluster) = facts.get("cluster")? else {
        return Ok(None);
    };
    let cluster = ClusterId::new(cluster.value());
    Ok(Some((cluster, revision_fact(&facts, "revision")?)))
}

/// Reads all there is and compares it with what was written: nothing is missing, nothing changed.
pub(super) fn verify(db: &Database) -> Result<(), DataError> {
    let txn = db.begin_read()?;
    let facts = txn.open_table(FACTS)?;
    let mut sum = Sum::default();
    for item in txn.open_table(RECORDS)?.iter()? {
        let (key, value) = item?;
        sum.add(key.value(), value.value());
        let key = decode_key(key.value()).map_err(|e| DataError::Damaged(e.to_string()))?;
        decode(&key, value.value())?;
    }
    if fact(&facts, "records")? != sum.to_bits() {
        return Err(DataError::Damaged("records are missing".to_owned()));
    }
    let mut sum = Sum::default();
    for item in txn.open_table(CHANGES)?.iter()? {
        let (revision, value) = item?;
        sum.add(&revision.value().to_be_bytes(), value.value());
    }
    if fact(&facts, "changes")? != sum.to_bits() {
        return Err(DataError::Damaged("changes are missing".to_owned()));
    }
    Ok(())
}

impl Data {
    pub(super) fn new(db: Database, history: u64, lock: Box<dyn Send + Sync>) -> Self {
        Self {
            db,
            history,
            _lock: lock,
        }
    }

    /// Reads keys and ranges in one transaction.
    pub(super) fn read(&self, need: &Need) -> Result<Snapshot, StoreError> {
        Ok(self.read_in_one(need)?)
    }

    fn read_in_one(&self, need: &Need) -> Result<Snapshot, DataError> {
        let txn = self.db.begin_read()?;
        let records = txn.open_table(RECORDS)?;
        let mut snapshot = Snapshot::new();
        snapshot.revision = revision_fact(&txn.open_table(FACTS)?, "revision")?;
        for key in &need.keys {
            let found = records.get(encode_key(key).as_slice())?;
            let found = found.map(|value| decode(key, value.value())).transpose()?;
            snapshot.records.insert(key.clone(), found);
        }
        for range in &need.ranges {
            let found = read_range(&records, range)?;
            snapshot.ranges.insert(range.clone(), found);
        }
        Ok(snapshot)
    }

    /// The changes after a revision.
    pub(super) fn changes(
        &self,
        after: Revision,
        limit: usize,
    ) -> Result<ChangesSince, StoreError> {
        Ok(self.changes_in_one(after, limit)?)
    }

    fn changes_in_one(&self, after: Revision, limit: usize) -> Result<ChangesSince, DataError> {
        let txn = self.db.begin_read()?;
        let facts = txn.open_table(FACTS)?;
        let now = revision_fact(&facts, "revision")?;
        // A revision from the future is of a store that was put back: what came after it is not known either.
        if after < revision_fact(&facts, "oldest")? || after > now {
            return Ok(ChangesSince::Compacted { now });
        }
        let table = txn.open_table(CHANGES)?;
        let mut events = Vec::new();
        for item in table.range(after.get() + 1..)? {
            let (revision, value) = item?;
            let revision = Revision::new(revision.value());
            let told = changes::decode(revision, value.value());
            events.extend(
                told.ok_or_else(|| DataError::Damaged(format!("changes of revision {revision}")))?,
            );
            if events.len() >= limit {
                return Ok(ChangesSince::Events {
                    events,
                    upto: revision,
                });
            }
        }
        Ok(ChangesSince::Events { events, upto: now })
    }

    /// Carries a group of writes out in one durable transaction. An error leaves the outcome of all of them unknown.
    pub(super) fn commit_group(
        &self,
        writes: &[Write],
    ) -> Result<(Vec<Outcome>, Revision), DataError> {
        let txn = self.db.begin_write()?;
        let (outcomes, revision) = self.apply(&txn, writes)?;
        if outcomes.iter().all(|outcome| *outcome == Outcome::Conflict) {
            txn.abort()?;
        } else {
            txn.commit()?;
        }
        Ok((outcomes, revision))
    }

    fn apply(
        &self,
        txn: &WriteTransaction,
        writes: &[Write],
    ) -> Result<(Vec<Outcome>, Revision), DataError> {
        let mut records = txn.open_table(RECORDS)?;
        let mut told = txn.open_table(CHANGES)?;
        let mut facts = txn.open_table(FACTS)?;
        let mut revision = revision_fact(&facts, "revision")?;
        let mut sums = Sums {
            records: Sum::from_bits(fact(&facts, "records")?),
            changes: Sum::from_bits(fact(&facts, "changes")?),
        };
        let mut outcomes = Vec::with_capacity(writes.len());
        for write in writes {
            if !holds(&records, write)? {
                outcomes.push(Outcome::Conflict);
                continue;
            }
            revision = revision.next();
            for (key, record) in &write.puts {
                let key_bytes = encode_key(key);
                let record = encode_record(key, record);
                put(
                    &mut records,
                    &key_bytes,
                    &record,
                    revision,
                    &mut sums.records,
                )?;
            }
            for key in &write.removes {
                let key = encode_key(key);
                if let Some(old) = records.remove(key.as_slice())? {
                    sums.records.remove(&key, old.value());
                }
            }
            if !write.changes.is_empty() {
                let bytes = changes::encode(revision, &write.changes);
                let key = revision.get().to_be_bytes();
                sums.changes.add(&key, &bytes);
                told.insert(revision.get(), bytes.as_slice())?;
            }
            outcomes.push(Outcome::Committed(revision));
        }
        facts.insert("revision", u128::from(revision.get()))?;
        let oldest = revision.get().saturating_sub(self.history);
        if oldest > revision_fact(&facts, "oldest")?.get() {
            facts.insert("oldest", u128::from(oldest))?;
            told.retain_in(..=oldest, |revision, bytes| {
                sums.changes.remove(&revision.to_be_bytes(), bytes);
                false
            })?;
        }
        facts.insert("records", sums.records.to_bits())?;
        facts.insert("changes", sums.changes.to_bits())?;
        Ok((outcomes, revision))
    }
}

fn holds(records: &Table<'_, &[u8], &[u8]>, write: &Write) -> Result<bool, DataError> {
    for condition in &write.conditions {
        let key = encode_key(&condition.key);
        let found = records.get(key.as_slice())?;
        let version = match found {
            Some(value) => Some(versions(&key, value.value())?.1),
            None => None,
        };
        if version != condition.version {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The sums over both tables while a group is carried out.
struct Sums {
    records: Sum,
    changes: Sum,
}

fn put(
    records: &mut Table<'_, &[u8], &[u8]>,
    key: &[u8],
    record: &[u8],
    revision: Revision,
    sum: &mut Sum,
) -> Result<(), DataError> {
    let created = match records.get(key)? {
        Some(old) => {
            sum.remove(key, old.value());
            versions(key, old.value())?.0
        }
        None => revision,
    };
    let mut value = Vec::with_capacity(VERSIONS_LEN + record.len());
    value.extend_from_slice(&created.get().to_be_bytes());
    value.extend_from_slice(&revision.get().to_be_bytes());
    let crc = crc32c_of([key, value.as_slice()]);
    value.extend_from_slice(&crc.get().to_be_bytes());
    value.extend_from_slice(record);
    sum.add(key, &value);
    records.insert(key, value.as_slice())?;
    Ok(())
}

/// When a record was made and when it was last changed.
fn versions(key: &[u8], value: &[u8]) -> Result<(Revision, Revision), DataError> {
    let damaged = || DataError::Damaged(format!("versions under key {key:02x?}"));
    let (both, rest) = value.split_at_checked(16).ok_or_else(damaged)?;
    let (crc, _) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    if crc32c_of([key, both]).get().to_be_bytes() != *crc {
        return Err(damaged());
    }
    let number = |at: usize| {
        let bytes = both[at..at + 8].try_into().expect("eight bytes of sixteen");
        Revision::new(u64::from_be_bytes(bytes))
    };
    Ok((number(0), number(8)))
}

fn decode(key: &Key, value: &[u8]) -> Result<Versioned, DataError> {
    let (created, modified) = versions(&encode_key(key), value)?;
    let record = decode_record(key, &value[VERSIONS_LEN..])
        .map_err(|error| DataError::Damaged(error.to_string()))?;
    Ok(Versioned {
        record,
        created,
        modified,
    })
}

fn read_range(
    records: &impl ReadableTable<&'static [u8], &'static [u8]>,
    range: &KeyRange,
) -> Result<Vec<(Key, Versioned)>, DataError> {
    let mut found = Vec::new();
    if range.start >= range.end {
        return Ok(found);
    }
    for item in records.range::<&[u8]>(range.start.as_slice()..range.end.as_slice())? {
        if found.len() >= range.limit {
            break;
        }
        let (key, value) = item?;
        let key = decode_key(key.value()).map_err(|e| DataError::Damaged(e.to_string()))?;
        let versioned = decode(&key, value.value())?;
        found.push((key, versioned));
    }
    Ok(found)
}

fn revision_fact(
    facts: &impl ReadableTable<&'static str, u128>,
    name: &str,
) -> Result<Revision, DataError> {
    let revision = u64::try_from(fact(facts, name)?);
    revision
        .map(Revision::new)
        .map_err(|_| DataError::Damaged(format!("fact {name}")))
}

fn fact(facts: &impl ReadableTable<&'static str, u128>, name: &str) -> Result<u128, DataError> {
    let found = facts.get(name)?.map(|value| value.value());
    found.ok_or_else(|| DataError::Damaged(format!("fact {name}")))
}
