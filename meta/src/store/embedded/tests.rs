use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use host::disk::sim::{Fault, OpKind, SimDisk};
use host::{Host, Rng};
use types::command::Change;
use types::{BookieId, ShardId};

use super::super::suite::{self, shard, versions, write};
use super::*;

const DIR: &str = "data/meta";
const LONG: Duration = Duration::from_secs(60);

async fn open(host: &Host) -> Embedded {
    Embedded::start(host, EmbeddedConfig::new(DIR))
        .await
        .unwrap()
}

/// A node on this disk: its tasks are its own, so that it can die alone.
fn node(disk: &SimDisk, seed: u64) -> Host {
    Host::simulated("meta", seed).with_disk(Arc::new(disk.clone()))
}

#[tokio::test]
async fn store_on_a_simulated_disk_keeps_the_contract() {
    let seed = AtomicU64::new(1);
    suite::run(|| {
        let host = Host::simulated("meta", seed.fetch_add(1, Ordering::Relaxed));
        Box::pin(async move { open(&host).await })
    })
    .await;
}

#[tokio::test]
async fn store_on_a_real_disk_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let count = AtomicU64::new(0);
    suite::run(|| {
        let count = count.fetch_add(1, Ordering::Relaxed);
        let config = EmbeddedConfig::new(dir.path().join(count.to_string()));
        Box::pin(async move {
            let host = Host::real("meta");
            Embedded::start(&host, config).await.unwrap()
        })
    })
    .await;
}

#[tokio::test]
async fn reopened_store_has_all_that_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig::new(dir.path().join("meta"));
    let mut cluster = None;
    for round in 1..=3_u64 {
        let host = Host::real("meta");
        let store = Embedded::start(&host, config.clone()).await.unwrap();
        assert_eq!(*cluster.get_or_insert(store.cluster()), store.cluster());
        for number in 1..round {
            assert!(versions(&store, &shard(number)).await.is_some());
        }
        let mut one = write(&[(shard(round), None)], &[shard(round)]);
        one.changes.push(Change::Shard(ShardId::new(round)));
        let revision = store.commit(one).await.unwrap();
        assert_eq!(revision, Revision::new(round));
        host.tasks.stop(LONG).await.unwrap();
        drop(store);
    }
}

#[tokio::test]
async fn second_process_is_refused_while_the_first_lives() {
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig::new(dir.path());
    let host = Host::real("meta");
    let first = Embedded::start(&host, config.clone()).await.unwrap();
    let second = Embedded::start(&Host::real("meta"), config.clone()).await;
    assert!(
        matches!(second, Err(OpenError::Locked { .. })),
        "{second:?}"
    );
    host.tasks.stop(LONG).await.unwrap();
    drop(first);
    Embedded::start(&Host::real("meta"), config).await.unwrap();
}

#[tokio::test]
async fn directory_of_another_cluster_or_a_newer_format_is_refused() {
    let disk = SimDisk::new(1);
    let host = node(&disk, 1);
    let mut config = EmbeddedConfig::new(DIR);
    config.cluster = Some(ClusterId::new(7));
    let store = Embedded::start(&host, config.clone()).await.unwrap();
    assert_eq!(store.cluster(), ClusterId::new(7));
    host.tasks.stop(LONG).await.unwrap();
    drop(store);

    config.cluster = Some(ClusterId::new(8));
    let other = Embedded::start(&node(&disk, 2), config.clone()).await;
    assert!(
        matches!(other, Err(OpenError::OtherCluster { .. })),
        "{other:?}"
    );

    config.cluster = None;
    let body = "ledgerline meta format=3\ncluster=7\n";
    let text = format!("{body}{}\n", types::crc32c(body.as_bytes()));
    disk.put(&Path::new(DIR).join("FORMAT"), text.as_bytes());
    let newer = Embedded::start(&node(&disk, 3), config.clone()).await;
    assert!(
        matches!(newer, Err(OpenError::NewerFormat { .. })),
        "{newer:?}"
    );

    disk.put(
        &Path::new(DIR).join("FORMAT"),
        b"ledgerline meta format=1\nnoise",
    );
    let damaged = Embedded::start(&node(&disk, 4), config).await;
    assert!(
        matches!(damaged, Err(OpenError::Damaged { .. })),
        "{damaged:?}"
    );
}

/// Numbers given before would be given again: a lost database is never begun afresh.
#[tokio::test]
async fn directory_that_lost_its_database_or_its_format_is_refused() {
    for lost in ["meta.redb", "FORMAT"] {
        let disk = SimDisk::new(1);
        let host = node(&disk, 1);
        let store = open(&host).await;
        store.commit(write(&[], &[shard(1)])).await.unwrap();
        host.tasks.stop(LONG).await.unwrap();
        drop(store);
        host.disk.remove(&Path::new(DIR).join(lost)).unwrap();
        let again = Embedded::start(&node(&disk, 2), EmbeddedConfig::new(DIR)).await;
        assert!(
            matches!(again, Err(OpenError::Damaged { .. })),
            "{lost}: {again:?}"
        );
    }
}

#[tokio::test]
async fn old_changes_are_forgotten_and_said_to_be() {
    let host = Host::simulated("meta", 1);
    let mut config = EmbeddedConfig::new(DIR);
    config.history = 5;
    let store = Embedded::start(&host, config).await.unwrap();
    for number in 0..20 {
        let mut one = write(&[], &[shard(number)]);
        one.changes.push(Change::Bookie(BookieId::new(number)));
        store.commit(one).await.unwrap();
    }
    let old = store.changes(Revision::new(14), 99).await.unwrap();
    let now = Revision::new(20);
    assert_eq!(old, ChangesSince::Compacted { now });
    let Ok(ChangesSince::Events { events, .. }) = store.changes(Revision::new(15), 99).await else {
        panic!("the last five are known");
    };
    assert_eq!(events.len(), 5);
}

#[tokio::test]
async fn failed_sync_leaves_the_outcome_unknown_and_ends_the_store() {
    let disk = SimDisk::new(1);
    let host = node(&disk, 1);
    let store = open(&host).await;
    let first = store.commit(write(&[], &[shard(1)])).await.unwrap();
    disk.fail_next(OpKind::Sync, Fault::Io);
    let unknown = store.commit(write(&[], &[shard(2)])).await;
    assert!(
        matches!(unknown, Err(CommitError::Unknown { .. })),
        "{unknown:?}"
    );
    // Nothing is answered any more: what a restart finds is not known.
    let refused = store.commit(write(&[], &[shard(3)])).await;
    assert!(
        matches!(refused, Err(CommitError::Refused(_))),
        "{refused:?}"
    );
    assert!(store.read(Need::default()).await.is_err());
    assert!(store.changes(first, 9).await.is_err());
    assert!(host.tasks.join().await.is_err());
    drop(store);
    let again = open(&node(&disk, 2)).await;
    assert!(versions(&again, &shard(1)).await.is_some());
    assert_eq!(versions(&again, &shard(3)).await, None);
}

#[tokio::test]
async fn full_disk_ends_the_store_and_takes_back_nothing_that_was_told() {
    let disk = SimDisk::new(1);
    let host = node(&disk, 1);
    let store = open(&host).await;
    disk.set_capacity(Some(3 << 20));
    let mut told = 0;
    let name = "x".repeat(250);
    let refused = loop {
        let mut one = write(&[], &[]);
        for part in 0..200 {
            let name: types::TenantName = format!("tenants/{told}.{part}.{name}")[..250]
                .parse()
                .unwrap();
            let created_at = types::WallTime::from_nanos(1);
            let record = types::topic::TenantRecord {
                name: name.clone(),
                created_at,
            };
            one.puts
                .push((catalog::Key::Tenant(name), catalog::Record::Tenant(record)));
        }
        one.puts.push((shard(told), catalog::Record::Birth));
        match store.commit(one).await {
            Ok(_) => told += 1,
            Err(refused) => break refused,
        }
    };
    assert!(
        matches!(refused, CommitError::Unknown { .. }),
        "{refused:?}"
    );
    assert!(host.tasks.join().await.is_err());
    drop(store);
    disk.set_capacity(None);
    let again = open(&node(&disk, 2)).await;
    for number in 0..told {
        assert!(versions(&again, &shard(number)).await.is_some());
    }
}

#[tokio::test]
async fn read_only_disk_is_told_at_the_start() {
    let disk = SimDisk::new(1);
    disk.set_read_only(true);
    let refused = Embedded::start(&node(&disk, 1), EmbeddedConfig::new(DIR)).await;
    assert!(matches!(refused, Err(OpenError::Io { .. })), "{refused:?}");
}

/// Every damaged byte of the database is found or harmless: what is read is what was written, or nothing is.
#[tokio::test]
async fn flipped_bits_are_never_served() {
    let whole = SimDisk::new(1);
    let host = node(&whole, 1);
    let store = open(&host).await;
    let mut kept = Vec::new();
    for number in 0..20 {
        let revision = store.commit(write(&[], &[shard(number)])).await.unwrap();
        kept.push((revision, revision));
    }
    host.tasks.stop(LONG).await.unwrap();
    drop(store);
    let path = Path::new(DIR).join("meta.redb");
    let bytes = whole.contents(&path).unwrap();
    let rng = Rng::seeded(7);
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut bits: Vec<usize> = (0..300)
        .map(|_| used[rng.index(used.len())] * 8 + rng.index(8))
        .collect();
    // And each bit of a key: the record under it would simply not be met again.
    let key = catalog::encode_key(&shard(9));
    for at in 0..bytes.len() - key.len() {
        if bytes[at..].starts_with(&key) {
            bits.extend(at * 8..(at + key.len()) * 8);
        }
    }
    for (seed, bit) in (0..).zip(bits) {
        let disk = whole
            .snapshot()
            .materialize(&mut |_| host::disk::sim::Fate::Kept);
        let bit = u64::try_from(bit).unwrap();
        disk.flip(&path, bit).unwrap();
        let opened = Embedded::start(&node(&disk, seed), EmbeddedConfig::new(DIR)).await;
        let Ok(store) = opened else {
            continue;
        };
        for (number, versions) in (0..).zip(&kept) {
            let mut need = Need::default();
            need.keys.insert(shard(number));
            if let Ok(snapshot) = store.read(need).await {
                let found = snapshot.records[&shard(number)].as_ref();
                let found = found.map(|found| (found.created, found.modified));
                assert_eq!(found, Some(*versions), "bit {bit} number {number}");
            }
        }
    }
}

/// A first start that power loss cuts short at any point begins anew, and one that was finished stays.
#[tokio::test]
async fn first_start_survives_power_loss_at_every_operation() {
    let whole = SimDisk::new(1);
    let host = node(&whole, 1);
    let store = open(&host).await;
    host.tasks.stop(LONG).await.unwrap();
    drop(store);
    let count = whole.ops();
    let rng = Rng::seeded(5);
    for op in 0..=count {
        let disk = SimDisk::new(op);
        disk.fail_at(op, Fault::PowerCut);
        let host = node(&disk, op);
        let begun = Embedded::start(&host, EmbeddedConfig::new(DIR)).await;
        let told = begun.as_ref().ok().map(Store::cluster);
        drop(begun);
        disk.crash(&rng);
        disk.heal(); // The last ones never came to it.
        disk.restart();
        let again = open(&node(&disk, op + 1000)).await;
        if let Some(told) = told {
            assert_eq!(again.cluster(), told, "op {op}");
        }
        again.commit(write(&[], &[shard(1)])).await.unwrap();
    }
}

/// Whatever was told as committed is there after power loss at any operation, whole; what was not told is there
/// whole or not at all.
#[tokio::test]
async fn every_told_commit_survives_power_loss() {
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let rng = Rng::seeded(seed);
        let host = node(&disk, seed);
        drop(open(&host).await);
        host.tasks.stop(LONG).await.unwrap();
        let mut told: Vec<u64> = Vec::new();
        let mut next = 0;
        for round in 0..4 {
            let host = node(&disk, seed * 100 + round);
            let store = open(&host).await;
            check_all(&store, &told, next).await;
            disk.fail_at(disk.ops() + 5 + rng.below(120), Fault::PowerCut);
            loop {
                let writes = (0..=rng.below(5)).map(|at| {
                    let number = next + at;
                    let pair = [shard(number), shard(number + 1_000_000)];
                    let commit = store.commit(write(&[(shard(number), None)], &pair));
                    async move { commit.await.map(|_| number) }
                });
                let outcomes = futures::future::join_all(writes).await;
                next += u64::try_from(outcomes.len()).unwrap();
                told.extend(outcomes.iter().flatten());
                if outcomes.iter().any(Result::is_err) {
                    break;
                }
            }
            drop(store);
            drop(host);
            disk.crash(&rng);
            disk.restart();
        }
        let store = open(&node(&disk, seed * 100 + 99)).await;
        check_all(&store, &told, next).await;
    }
}

async fn check_all(store: &Embedded, told: &[u64], next: u64) {
    for number in 0..next {
        let one = versions(store, &shard(number)).await;
        let other = versions(store, &shard(number + 1_000_000)).await;
        assert_eq!(one, other, "half of a write number={number}");
        assert!(
            one.is_some() || !told.contains(&number),
            "lost number={number}"
        );
    }
}

/// Ten thousand claims are a few hundred syncs, not ten thousand.
#[tokio::test]
async fn writes_at_once_share_their_syncs() {
    let disk = SimDisk::new(1);
    let host = node(&disk, 1);
    let store = open(&host).await;
    disk.record(true);
    let writes = (0..1000).map(|number| store.commit(write(&[], &[shard(number)])));
    let outcomes = futures::future::join_all(writes).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let syncs = disk.take_record().into_iter();
    let syncs = syncs.filter(|op| op.kind == OpKind::Sync).count();
    assert!(syncs <= 24, "{syncs} syncs");
}

#[tokio::test]
async fn stop_finishes_what_was_taken() {
    let host = Host::simulated("meta", 1);
    let store = open(&host).await;
    let pending = store.commit(write(&[], &[shard(1)]));
    let pending = tokio::time::timeout(LONG, async {
        let (outcome, stopped) = tokio::join!(pending, host.tasks.stop(LONG));
        stopped.unwrap();
        outcome
    });
    assert!(pending.await.unwrap().is_ok());
    let late = store.commit(write(&[], &[shard(2)])).await;
    assert!(matches!(late, Err(CommitError::Refused(_))), "{late:?}");
}
