//! The contract of a store, as tests that any store must pass. Each gets a fresh, empty store.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures::future::{BoxFuture, join_all};
use tokio::sync::watch;

use catalog::{Condition, Key, KeyRange, MemStore, Need, Record, Snapshot, Write, encode_key};
use types::cluster::MetaGeneration;
use types::command::{Change, ChangeEvent};
use types::topic::TenantRecord;
use types::{BookieId, ClusterId, Revision, SessionId, ShardId, WallTime};

use super::{ChangesSince, CommitError, Store, StoreError};

/// Runs every test of the contract, each on a store that `fresh` makes.
pub(crate) async fn run<F, S>(fresh: F)
where
    F: Fn() -> BoxFuture<'static, S>,
    S: Store,
{
    empty_store_has_nothing(&fresh().await).await;
    run_on_used(fresh).await;
}

/// The same for stores that may have other records, and revisions behind them.
pub(crate) async fn run_on_used<F, S>(fresh: F)
where
    F: Fn() -> BoxFuture<'static, S>,
    S: Store,
{
    commits_have_revisions_of_their_own(&fresh().await).await;
    creation_stays_and_version_moves(&fresh().await).await;
    conflict_writes_nothing(&fresh().await).await;
    condition_on_absence_holds_only_before_the_record(&fresh().await).await;
    condition_on_an_untouched_record_guards_the_others(&fresh().await).await;
    every_record_of_a_write_has_one_revision(&fresh().await).await;
    a_removed_record_is_gone_and_made_anew(&fresh().await).await;
    a_write_on_a_removed_record_conflicts(&fresh().await).await;
    ranges_come_in_order_up_to_their_limit(&fresh().await).await;
    of_racing_writes_on_one_version_one_wins(Arc::new(fresh().await)).await;
    changes_are_told_in_order_from_any_revision(&fresh().await).await;
    changes_come_in_whole_revisions(&fresh().await).await;
    future_revision_is_compacted(&fresh().await).await;
    revision_is_published_with_the_commit(&fresh().await).await;
}

pub(crate) fn shard(number: u64) -> Key {
    Key::Birth(BookieId::new(number))
}

/// A write of these keys on these conditions.
pub(crate) fn write(conditions: &[(Key, Option<Revision>)], puts: &[Key]) -> Write {
    let conditions = conditions.iter().cloned();
    Write {
        conditions: conditions
            .map(|(key, version)| Condition { key, version })
            .collect(),
        puts: puts
            .iter()
            .map(|key| (key.clone(), Record::Birth))
            .collect(),
        removes: Vec::new(),
        changes: Vec::new(),
    }
}

fn removing(conditions: &[(Key, Option<Revision>)], removes: &[Key], puts: &[Key]) -> Write {
    Write {
        removes: removes.to_vec(),
        ..write(conditions, puts)
    }
}

fn telling(changes: &[Change]) -> Write {
    Write {
        changes: changes.to_vec(),
        ..write(&[], &[shard(1)])
    }
}

/// A record's creation and version.
pub(crate) async fn versions(store: &dyn Store, key: &Key) -> Option<(Revision, Revision)> {
    let snapshot = read(store, [key.clone()]).await;
    let found = snapshot.records[key].as_ref()?;
    Some((found.created, found.modified))
}

async fn read(store: &dyn Store, keys: impl IntoIterator<Item = Key>) -> Snapshot {
    let need = Need {
        keys: keys.into_iter().collect(),
        ranges: BTreeSet::new(),
    };
    store.read(need).await.unwrap()
}

async fn empty_store_has_nothing(store: &dyn Store) {
    assert_eq!(versions(store, &shard(1)).await, None);
    let all = KeyRange {
        start: vec![0],
        end: vec![255],
        limit: 10,
    };
    let need = Need {
        keys: BTreeSet::new(),
        ranges: BTreeSet::from([all.clone()]),
    };
    let snapshot = store.read(need).await.unwrap();
    assert_eq!(snapshot.ranges[&all], []);
    assert_eq!(snapshot.revision, Revision::default());
}

async fn commits_have_revisions_of_their_own(store: &dyn Store) {
    let mut last = Revision::default();
    for _ in 0..5 {
        let revision = store.commit(write(&[], &[shard(1)])).await.unwrap();
        assert!(revision > last);
        assert_eq!(read(store, []).await.revision, revision);
        last = revision;
    }
}

async fn creation_stays_and_version_moves(store: &dyn Store) {
    let first = store.commit(write(&[], &[shard(1)])).await.unwrap();
    store.commit(write(&[], &[shard(2)])).await.unwrap();
    let third = store.commit(write(&[], &[shard(1)])).await.unwrap();
    assert_eq!(versions(store, &shard(1)).await, Some((first, third)));
}

async fn conflict_writes_nothing(store: &dyn Store) {
    let old = store.commit(write(&[], &[shard(1)])).await.unwrap();
    let new = store.commit(write(&[], &[shard(1)])).await.unwrap();
    let stale = write(&[(shard(1), Some(old))], &[shard(1), shard(2)]);
    assert_eq!(store.commit(stale).await, Err(CommitError::Conflict));
    assert_eq!(versions(store, &shard(1)).await.unwrap().1, new);
    assert_eq!(versions(store, &shard(2)).await, None);
    let right = write(&[(shard(1), Some(new))], &[shard(2)]);
    assert!(store.commit(right).await.unwrap() > new);
}

async fn a_removed_record_is_gone_and_made_anew(store: &dyn Store) {
    let made = store
        .commit(write(&[], &[shard(1), shard(2)]))
        .await
        .unwrap();
    // With a write of another record, and of one that is not there.
    let remove = removing(
        &[(shard(1), Some(made))],
        &[shard(1), shard(9)],
        &[shard(3)],
    );
    let removed = store.commit(remove).await.unwrap();
    assert_eq!(versions(store, &shard(1)).await, None);
    assert_eq!(versions(store, &shard(2)).await, Some((made, made)));
    assert_eq!(versions(store, &shard(3)).await, Some((removed, removed)));
    let all = KeyRange {
        start: vec![0],
        end: vec![255],
        limit: 10,
    };
    let need = Need {
        keys: BTreeSet::new(),
        ranges: BTreeSet::from([all.clone()]),
    };
    let listed = store.read(need).await.unwrap();
    let keys: Vec<_> = listed.ranges[&all]
        .iter()
        .map(|(key, _)| key.clone())
        .collect();
    assert_eq!(keys, [shard(2), shard(3)]);
    let anew = store
        .commit(write(&[(shard(1), None)], &[shard(1)]))
        .await
        .unwrap();
    assert_eq!(versions(store, &shard(1)).await, Some((anew, anew)));
}

async fn a_write_on_a_removed_record_conflicts(store: &dyn Store) {
    let made = store.commit(write(&[], &[shard(1)])).await.unwrap();
    store.commit(removing(&[], &[shard(1)], &[])).await.unwrap();
    let stale = write(&[(shard(1), Some(made))], &[shard(2)]);
    assert_eq!(store.commit(stale).await, Err(CommitError::Conflict));
    store.commit(write(&[], &[shard(1)])).await.unwrap();
    let stale = removing(&[(shard(1), Some(made))], &[shard(1)], &[]);
    assert_eq!(store.commit(stale).await, Err(CommitError::Conflict));
    assert!(versions(store, &shard(1)).await.is_some());
}

async fn condition_on_absence_holds_only_before_the_record(store: &dyn Store) {
    let create = write(&[(shard(1), None)], &[shard(1)]);
    store.commit(create.clone()).await.unwrap();
    assert_eq!(store.commit(create).await, Err(CommitError::Conflict));
    let missing = write(&[(shard(2), Some(Revision::new(1)))], &[shard(3)]);
    assert_eq!(store.commit(missing).await, Err(CommitError::Conflict));
}

async fn condition_on_an_untouched_record_guards_the_others(store: &dyn Store) {
    let seen = store.commit(write(&[], &[shard(1)])).await.unwrap();
    store.commit(write(&[], &[shard(1)])).await.unwrap();
    let guarded = write(&[(shard(1), Some(seen))], &[shard(2)]);
    assert_eq!(store.commit(guarded).await, Err(CommitError::Conflict));
    assert_eq!(versions(store, &shard(2)).await, None);
}

async fn every_record_of_a_write_has_one_revision(store: &dyn Store) {
    let keys = [shard(1), shard(2), shard(3)];
    let revision = store.commit(write(&[], &keys)).await.unwrap();
    for key in &keys {
        assert_eq!(versions(store, key).await, Some((revision, revision)));
    }
}

async fn ranges_come_in_order_up_to_their_limit(store: &dyn Store) {
    for name in ["c", "a", "b", "a-b", "a.b"] {
        let name: types::TenantName = format!("tenants/{name}").parse().unwrap();
        let record = TenantRecord {
            name: name.clone(),
            created_at: WallTime::from_nanos(1),
        };
        let mut one = write(&[], &[shard(1)]);
        one.puts.push((Key::Tenant(name), Record::Tenant(record)));
        store.commit(one).await.unwrap();
    }
    let all = KeyRange::prefix(b"\x03tenants/".to_vec(), usize::MAX);
    let part = KeyRange {
        limit: 2,
        ..all.clone().after(b"\x03tenants/a")
    };
    let empty = KeyRange::prefix(b"\x03tenants/zz".to_vec(), 9);
    let need = Need {
        keys: BTreeSet::from([shard(1)]),
        ranges: BTreeSet::from([all.clone(), part.clone(), empty.clone()]),
    };
    let snapshot = store.read(need).await.unwrap();
    let names = |range: &KeyRange| -> Vec<String> {
        let found = snapshot.ranges[range].iter();
        found
            .map(|(key, _)| String::from_utf8(encode_key(key)[9..].to_vec()).unwrap())
            .collect()
    };
    assert_eq!(names(&all), ["a", "a-b", "a.b", "b", "c"]);
    assert_eq!(names(&part), ["a-b", "a.b"]);
    assert_eq!(names(&empty), Vec::<String>::new());
    assert!(snapshot.records[&shard(1)].is_some());
}

async fn of_racing_writes_on_one_version_one_wins(store: Arc<dyn Store>) {
    let seen = store.commit(write(&[], &[shard(1)])).await.unwrap();
    let racers = (0..40).map(|n| {
        let on = [(shard(1), Some(seen))];
        let store = Arc::clone(&store);
        async move { store.commit(write(&on, &[shard(1), shard(100 + n)])).await }
    });
    let outcomes = join_all(racers).await;
    let won: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().ok())
        .collect();
    assert_eq!(won.len(), 1);
    let lost = outcomes
        .iter()
        .filter(|outcome| **outcome == Err(CommitError::Conflict));
    assert_eq!(lost.count(), 39);
    let keys: Vec<Key> = (100..140).map(shard).collect();
    let snapshot = read(store.as_ref(), keys).await;
    assert_eq!(snapshot.records.values().flatten().count(), 1);
}

async fn events(store: &dyn Store, after: Revision, limit: usize) -> (Vec<ChangeEvent>, Revision) {
    match store.changes(after, limit).await.unwrap() {
        ChangesSince::Events { events, upto } => (events, upto),
        other => panic!("{other:?}"),
    }
}

async fn changes_are_told_in_order_from_any_revision(store: &dyn Store) {
    let changes = [
        Change::Shard(ShardId::new(1)),
        Change::Session(SessionId::new(2)),
        Change::Topic("orders".parse().unwrap()),
    ];
    let begin = *store.revision().borrow();
    let mut told = Vec::new();
    for change in &changes {
        let revision = store
            .commit(telling(std::slice::from_ref(change)))
            .await
            .unwrap();
        told.push(ChangeEvent {
            revision,
            change: change.clone(),
        });
        store.commit(write(&[], &[shard(1)])).await.unwrap(); // Tells nothing.
    }
    let now = read(store, []).await.revision;
    assert_eq!(events(store, begin, 99).await, (told.clone(), now));
    let after = told[0].revision;
    assert_eq!(events(store, after, 99).await, (told[1..].to_vec(), now));
    assert_eq!(events(store, now, 99).await, (Vec::new(), now));
}

async fn changes_come_in_whole_revisions(store: &dyn Store) {
    let both = [
        Change::Shard(ShardId::new(1)),
        Change::Shard(ShardId::new(2)),
    ];
    let begin = *store.revision().borrow();
    let first = store.commit(telling(&both)).await.unwrap();
    let second = store.commit(telling(&both)).await.unwrap();
    let (part, upto) = events(store, begin, 1).await;
    assert_eq!((part.len(), upto), (2, first));
    let (rest, upto) = events(store, upto, 1).await;
    assert_eq!((rest.len(), upto), (2, second));
}

async fn future_revision_is_compacted(store: &dyn Store) {
    let now = store.commit(telling(&[])).await.unwrap();
    let answer = store.changes(now.next(), 9).await.unwrap();
    assert_eq!(answer, ChangesSince::Compacted { now });
}

async fn revision_is_published_with_the_commit(store: &dyn Store) {
    let mut watch = store.revision();
    let revision = store.commit(telling(&[])).await.unwrap();
    watch.wait_for(|known| *known >= revision).await.unwrap();
}

/// The reference store behind the contract.
#[derive(Debug)]
pub(crate) struct Reference {
    store: Mutex<(MemStore, Vec<ChangeEvent>)>,
    publish: watch::Sender<Revision>,
}

impl Reference {
    pub(crate) fn new() -> Self {
        Self {
            store: Mutex::new((MemStore::new(), Vec::new())),
            publish: watch::Sender::new(Revision::default()),
        }
    }
}

impl Store for Reference {
    fn read(&self, need: Need) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        Box::pin(async move { Ok(self.store.lock().unwrap().0.read(&need)) })
    }

    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            let mut guard = self.store.lock().unwrap();
            let written = guard.0.write(write);
            let (revision, events) = written.map_err(|_| CommitError::Conflict)?;
            guard.1.extend(events);
            self.publish.send_replace(revision);
            Ok(revision)
        })
    }

    fn changes(
        &self,
        after: Revision,
        limit: usize,
    ) -> BoxFuture<'_, Result<ChangesSince, StoreError>> {
        Box::pin(async move {
            let guard = self.store.lock().unwrap();
            let now = guard.0.revision();
            if after > now {
                return Ok(ChangesSince::Compacted { now });
            }
            let all = guard.1.iter().filter(|event| event.revision > after);
            let mut events: Vec<ChangeEvent> = Vec::new();
            let mut upto = now;
            for event in all {
                let last = events.last().map(|last| last.revision);
                if events.len() >= limit && last != Some(event.revision) {
                    upto = last.unwrap_or(after);
                    break;
                }
                events.push(event.clone());
            }
            Ok(ChangesSince::Events { events, upto })
        })
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.publish.subscribe()
    }

    fn generation(&self) -> MetaGeneration {
        MetaGeneration::default()
    }

    fn cluster(&self) -> ClusterId {
        ClusterId::new(1)
    }
}

#[tokio::test]
async fn reference_store_keeps_the_contract() {
    run(|| Box::pin(async { Reference::new() })).await;
}
