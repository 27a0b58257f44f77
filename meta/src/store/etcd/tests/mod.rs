//! The store on a real etcd: the contract, and what may go wrong.
#![expect(
    clippy::disallowed_methods,
    reason = "tests on real processes in real time"
)]

mod carried;
mod server;
mod standby;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use futures::future::join_all;
use host::Host;
use types::command::Change;
use types::{BookieId, ShardId};

use super::super::suite::{self, shard, versions, write};
use super::*;
use catalog::Record;
use server::{Server, binary};

const LONG: Duration = Duration::from_secs(20);
const PREFIX: &str = "/ledgerline/test/";

/// A store that is active, and what keeps it so.
struct Node {
    host: Host,
    standby: EtcdStandby,
    store: Etcd,
}

async fn open(server: &Server, prefix: &str) -> (Host, EtcdStandby) {
    let host = Host::real("meta");
    let standby = EtcdStandby::open(&host, &server.config(prefix)).await;
    (host, standby.unwrap())
}

/// Opens and becomes active, waiting for another's lease to run out.
async fn active(server: &Server, prefix: &str) -> Node {
    let (host, standby) = open(server, prefix).await;
    let (store, lead) = lead(&host, &standby).await;
    let keeper = Candidate::new(&standby, String::new());
    let stop = host.tasks.token();
    host.tasks.spawn("lead", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = keeper.keep(&lead) => {}
        }
    });
    Node {
        host,
        standby,
        store,
    }
}

async fn lead(host: &Host, standby: &EtcdStandby) -> (Etcd, Lead) {
    let mut candidate = Candidate::new(standby, "meta:1".to_owned());
    let look = async {
        loop {
            if let Ok(Look::Active(lead)) = candidate.look().await {
                return lead;
            }
            host.clock.sleep(Duration::from_millis(100)).await;
        }
    };
    let lead = host.clock.timeout(LONG, look).await.unwrap();
    (standby.store(&lead), lead)
}

fn telling(shard_id: u64) -> Write {
    Write {
        changes: vec![Change::Shard(ShardId::new(shard_id))],
        ..write(&[], &[shard(shard_id)])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_on_a_real_etcd_keeps_the_contract() {
    let Some(binary) = binary() else { return };
    let server = Arc::new(Server::start(binary, 1).await);
    let count = Arc::new(AtomicU64::new(0));
    suite::run(|| {
        let (server, count) = (Arc::clone(&server), Arc::clone(&count));
        Box::pin(async move {
            let count = count.fetch_add(1, Ordering::Relaxed);
            active(&server, &format!("/ledgerline/{count}/"))
                .await
                .store
        })
    })
    .await;
}

#[tokio::test]
async fn a_read_of_more_than_fits_one_transaction_is_of_one_moment() {
    let Some(binary) = binary() else { return };
    let server = Server::start(binary, 1).await;
    let node = active(&server, PREFIX).await;
    let numbers: Vec<u64> = (1..=1500).collect();
    for some in numbers.chunks(100) {
        let keys: Vec<Key> = some.iter().copied().map(shard).collect();
        node.store.commit(write(&[], &keys)).await.unwrap();
    }
    let all = KeyRange::prefix(vec![14], usize::MAX);
    let part = KeyRange::prefix(vec![14], 1100);
    let need = Need {
        keys: numbers.iter().copied().map(shard).collect(),
        ranges: BTreeSet::from([all.clone(), part.clone()]),
    };
    // Half of the records are changed, all in one commit each, while they are read.
    let some: Vec<Key> = numbers.iter().rev().take(100).copied().map(shard).collect();
    let writes = async {
        for _ in 0..20 {
            node.store.commit(write(&[], &some)).await.unwrap();
        }
    };
    let reads = async {
        let mut snapshots = Vec::new();
        for _ in 0..10 {
            snapshots.push(node.store.read(need.clone()).await.unwrap());
        }
        snapshots
    };
    for snapshot in futures::join!(writes, reads).1 {
        let found = &snapshot.ranges[&all];
        let keys: Vec<Key> = found.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(keys, numbers.iter().copied().map(shard).collect::<Vec<_>>());
        assert_eq!(snapshot.ranges[&part][..], found[..1100]);
        for (key, versioned) in found {
            assert_eq!(snapshot.records[key].as_ref(), Some(versioned));
            assert!(versioned.modified <= snapshot.revision);
        }
        let changed = some.iter().map(|key| &snapshot.records[key]);
        let changed: BTreeSet<_> = changed.map(|one| one.as_ref().unwrap().modified).collect();
        assert_eq!(changed.len(), 1);
    }
}

#[tokio::test]
async fn what_etcd_would_not_take_is_refused_with_the_limit() {
    let Some(binary) = binary() else { return };
    let server = Server::start(binary, 1).await;
    let node = active(&server, PREFIX).await;
    let keys = |count: u64| (1..=count).map(shard).collect::<Vec<Key>>();
    node.store.commit(write(&[], &keys(127))).await.unwrap();
    let refused = node.store.commit(write(&[], &keys(128))).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("etcd takes 128"), "{refused}");
    let conditions: Vec<_> = keys(126).into_iter().map(|key| (key, None)).collect();
    let conflict = node.store.commit(write(&conditions, &[])).await;
    assert_eq!(conflict, Err(CommitError::Conflict));
    let large = |bytes: usize| {
        let mut large = write(&[], &[]);
        let record = catalog::BookieBody {
            zone: None,
            address: "x".repeat(bytes),
            ..body()
        };
        large.puts = vec![(Key::Bookie(BookieId::new(1)), Record::Bookie(record))];
        large
    };
    // The largest that passes here passes there too.
    node.store.commit(large(REQUEST_MAX - 600)).await.unwrap();
    let refused = node.store.commit(large(REQUEST_MAX)).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("bytes in one commit"), "{refused}");
}

fn body() -> catalog::BookieBody {
    catalog::BookieBody {
        zone: None,
        name: "bookie-1".parse().unwrap(),
        address: String::new(),
        incarnation: types::Incarnation::default(),
        mark: 0,
        state: types::cluster::BookieState::ReadWrite,
        duty: types::cluster::BookieDuty::Active,
        session: types::SessionId::new(1),
    }
}

#[tokio::test]
async fn cluster_is_made_once_and_strange_keys_are_refused() {
    let Some(binary) = binary() else { return };
    let server = Server::start(binary, 1).await;
    let opened = join_all((0..5).map(|_| open(&server, PREFIX))).await;
    let ids: BTreeSet<_> = opened
        .iter()
        .map(|(_, standby)| standby.cluster())
        .collect();
    assert_eq!(ids.len(), 1);
    let (_, other) = open(&server, "/ledgerline/other/").await;
    assert!(!ids.contains(&other.cluster()));
    // The prefix above has keys that are not its own.
    let host = Host::real("meta");
    let error = EtcdStandby::open(&host, &server.config("/ledgerline/")).await;
    let error = error.unwrap_err();
    assert!(matches!(error, EtcdError::Foreign { .. }), "{error}");
    // A record that is not one of ours.
    let request = TxnRequest {
        success: vec![put(
            Layout::new(PREFIX).unwrap().record(&shard(1)),
            Bytes::from_static(b"?"),
            0,
        )],
        ..TxnRequest::default()
    };
    server.client().write(request).await.unwrap();
    let error = EtcdStandby::open(&host, &server.config(PREFIX)).await;
    let error = error.unwrap_err();
    assert!(matches!(error, EtcdError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn changes_that_etcd_compacted_are_told_as_compacted() {
    let Some(binary) = binary() else { return };
    let server = Server::start(binary, 1).await;
    let node = active(&server, PREFIX).await;
    let mut commits = Vec::new();
    for n in 1..=10 {
        commits.push(node.store.commit(telling(n)).await.unwrap());
    }
    let upto = commits[9];
    assert!(node.standby.shared.follower.caught_up(upto, LONG).await);
    server.compact(commits[4]).await;
    // Who followed all along still knows.
    let known = node.store.changes(Revision::default(), 99).await.unwrap();
    let ChangesSince::Events { events, upto } = known else {
        panic!("{known:?}");
    };
    assert_eq!((events.len(), upto), (10, commits[9]));
    // Who comes now knows what etcd still does.
    node.host.tasks.stop(LONG).await.unwrap();
    drop(node);
    let node = active(&server, PREFIX).await;
    let old = node.store.changes(commits[3], 99).await.unwrap();
    assert_eq!(old, ChangesSince::Compacted { now: commits[9] });
    let new = node.store.changes(commits[4], 99).await.unwrap();
    let ChangesSince::Events { events, upto } = new else {
        panic!("{new:?}");
    };
    assert_eq!((events.len(), upto), (5, commits[9]));
    // All of it compacted, and nothing new: told once, then nothing is missing.
    server.compact(commits[9]).await;
    let late = active_again(&server, node).await;
    let old = late.store.changes(commits[8], 99).await.unwrap();
    assert_eq!(old, ChangesSince::Compacted { now: commits[9] });
    let none = late.store.changes(commits[9], 99).await.unwrap();
    assert!(matches!(none, ChangesSince::Events { events, .. } if events.is_empty()));
    let next = late.store.commit(telling(11)).await.unwrap();
    let new = late.store.changes(commits[9], 99).await.unwrap();
    assert!(matches!(new, ChangesSince::Events { upto, .. } if upto == next));
}

async fn active_again(server: &Server, node: Node) -> Node {
    node.host.tasks.cancel();
    drop(node);
    active(server, PREFIX).await
}

#[tokio::test]
async fn deposed_active_neither_commits_nor_reads() {
    let Some(binary) = binary() else { return };
    let server = Server::start(binary, 1).await;
    let (host, standby) = open(&server, PREFIX).await;
    let (old, lead_of_old) = lead(&host, &standby).await;
    let seen = old.commit(write(&[], &[shard(1)])).await.unwrap();
    let mut other = Candidate::new(&standby, "meta:2".to_owned());
    assert!(matches!(
        other.look().await,
        Ok(Look::Other(Some(at))) if at == "meta:1"
    ));
    // Its key goes without its knowing, as after a pause of its process.
    let leader = standby.shared.layout.leader();
    let delete = proto::etcd::DeleteRangeRequest {
        key: leader,
        ..Default::default()
    };
    let request = TxnRequest {
        success: vec![proto::etcd::RequestOp {
            request: Some(proto::etcd::request_op::Request::RequestDeleteRange(delete)),
        }],
        ..TxnRequest::default()
    };
    server.client().write(request).await.unwrap();
    let Ok(Look::Active(lead_of_new)) = other.look().await else {
        panic!("nobody is active, and still it may not be");
    };
    let new = standby.store(&lead_of_new);
    // A clone with a term of its own, so that the second word does not come from the first refusal.
    let unaware = |lead: &Lead| Etcd {
        shared: Arc::clone(&standby.shared),
        term: lead.term.unaware(),
    };
    let by_commit = unaware(&lead_of_old);
    let refused = by_commit.commit(write(&[(shard(1), Some(seen))], &[shard(2)]));
    let active = Some("meta:2".to_owned());
    let wanted = StoreError::NotActive {
        active: active.clone(),
    };
    assert_eq!(refused.await, Err(CommitError::Refused(wanted.clone())));
    assert!(by_commit.term.check().is_err());
    let by_read = unaware(&lead_of_old).read(Need::default()).await;
    assert_eq!(by_read, Err(wanted));
    assert_eq!(versions(&new, &shard(2)).await, None);
    new.commit(write(&[(shard(1), Some(seen))], &[shard(1)]))
        .await
        .unwrap();
    // Keeping finds it out too.
    Candidate::new(&standby, String::new())
        .resign(lead_of_old)
        .await;
    assert!(old.term.check().is_err());
    assert!(versions(&new, &shard(1)).await.is_some());
}

#[tokio::test]
async fn term_ends_by_the_own_clock_before_etcd_ends_the_lease() {
    let Some(binary) = binary() else { return };
    let mut server = Server::start(binary, 1).await;
    let (host, standby) = open(&server, PREFIX).await;
    let (store, lead) = lead(&host, &standby).await;
    let keeper = Candidate::new(&standby, String::new());
    let begun = host.clock.now();
    server.kill(0);
    host.clock.timeout(LONG, keeper.keep(&lead)).await.unwrap();
    let lasted = host.clock.now().since(begun);
    assert!(lasted < Duration::from_secs(3), "{lasted:?}");
    assert!(store.term.check().is_err());
    let refused = store.commit(telling(1)).await;
    let wanted = StoreError::NotActive { active: None };
    assert_eq!(refused, Err(CommitError::Refused(wanted)));
}

/// Commits one record after the other; what became of each.
async fn commit_all(
    store: &Etcd,
    numbers: std::ops::Range<u64>,
) -> Vec<(u64, Result<Revision, CommitError>)> {
    let mut outcomes = Vec::new();
    for n in numbers {
        let create = Write {
            changes: vec![Change::Shard(ShardId::new(n))],
            ..write(&[(shard(n), None)], &[shard(n)])
        };
        outcomes.push((n, store.commit(create).await));
    }
    outcomes
}

/// Nothing that was told is lost, nothing that was refused is there, and the unknown is whole or not at all.
async fn judge(store: &Etcd, outcomes: &[(u64, Result<Revision, CommitError>)]) {
    let told = store
        .changes(Revision::default(), usize::MAX)
        .await
        .unwrap();
    let ChangesSince::Events { events, .. } = told else {
        panic!("{told:?}");
    };
    for (n, outcome) in outcomes {
        let found = versions(store, &shard(*n)).await.map(|found| found.1);
        let change = Change::Shard(ShardId::new(*n));
        let told: Vec<_> = events
            .iter()
            .filter(|event| event.change == change)
            .collect();
        let told: Vec<_> = told.iter().map(|event| event.revision).collect();
        assert_eq!(told, Vec::from_iter(found), "record {n}");
        match outcome {
            Ok(revision) => assert_eq!(found, Some(*revision), "record {n}"),
            Err(CommitError::Unknown { .. }) => {}
            Err(error) => assert_eq!(found, None, "record {n}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_etcd_loses_nothing_and_unknown_outcomes_are_said() {
    let Some(binary) = binary() else { return };
    let mut server = Server::start(binary, 1).await;
    let mut outcomes = Vec::new();
    for round in 0..3_u64 {
        let node = active(&server, PREFIX).await;
        let store = node.store.clone();
        let writers = (0..8).map(|writer| {
            let store = store.clone();
            let from = (round * 8 + writer) * 1_000_000;
            tokio::spawn(async move {
                let mut all = Vec::new();
                for n in from.. {
                    let mut one = commit_all(&store, n..n + 1).await;
                    let has_failed = one[0].1.is_err();
                    all.append(&mut one);
                    if has_failed {
                        return all;
                    }
                }
                all
            })
        });
        let writers: Vec<_> = writers.collect();
        let mut revision = store.revision();
        let begun = *revision.borrow();
        let flows = revision.wait_for(|now| now.get() > begun.get() + 200);
        tokio::time::timeout(LONG, flows).await.unwrap().unwrap();
        server.kill(0);
        for writer in writers {
            outcomes.extend(writer.await.unwrap());
        }
        node.host.tasks.cancel();
        server.run(0);
        server.answers().await;
    }
    let unknown = |one: &&(u64, _)| matches!(one.1, Err(CommitError::Unknown { .. }));
    let unknown = outcomes.iter().filter(unknown).count();
    assert!(unknown > 0, "no commit was under way when etcd was killed");
    let node = active(&server, PREFIX).await;
    judge(&node.store, &outcomes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_leader_of_three_members_is_got_over() {
    let Some(binary) = binary() else { return };
    let mut server = Server::start(binary, 3).await;
    let node = active(&server, PREFIX).await;
    let mut outcomes = commit_all(&node.store, 0..50).await;
    let leading = server.leading().await;
    server.kill(leading);
    outcomes.extend(commit_all(&node.store, 50..60).await);
    // The term may have ended meanwhile; there is another one.
    let standby = node.standby.clone();
    node.host.tasks.cancel();
    let host = Host::real("meta");
    drop(node);
    let store = lead(&host, &standby).await.0;
    let after = commit_all(&store, 60..110).await;
    assert!(
        after.iter().all(|(_, outcome)| outcome.is_ok()),
        "{after:?}"
    );
    outcomes.extend(after);
    server.run(leading);
    let fresh = open(&server, PREFIX).await.1;
    assert_eq!(fresh.cluster(), standby.cluster());
    let reader = Etcd {
        shared: fresh.shared,
        term: store.term.clone(),
    };
    judge(&reader, &outcomes).await;
}
