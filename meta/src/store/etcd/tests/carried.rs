//! Stores that come into etcd from a file, and go from it into one.

use std::path::Path;

use catalog::{LedgerBody, Passage};
use types::chain::LedgerState;
use types::cluster::MetaGeneration;
use types::{LedgerId, LedgerSeq, LogId, Quorum, WallTime};

use super::super::carried::{Import, Prefix, save, take_place};
use super::*;
use crate::image::{self, Fresh, Header, ImageError, ImageFile, Kind, Place, Progress};
use crate::store::ChangesSince;

const CLUSTER: ClusterId = ClusterId::new(7);

fn ledger() -> (Key, Record) {
    let id = LedgerId::new(LogId::new(1), LedgerSeq::new(2));
    let ensemble = vec![BookieId::new(1)];
    let body = LedgerBody::tail(ensemble, Quorum::ONE, LedgerState::Open);
    (Key::Ledger(id), Record::Ledger(body))
}

/// An image of a store at revision 5000: a ledger made at 5, bookies born at 100 and their numbers; without bookies
/// nothing at all.
fn image_of(dir: &Path, kind: Kind, births: u64) -> ImageFile {
    let file = ImageFile::new(&Host::real("test").disk, &dir.join("image"));
    let header = Header {
        kind,
        id: 1,
        cluster: CLUSTER,
        generation: MetaGeneration::default(),
        revision: Revision::new(5000),
        records: if births == 0 { 0 } else { births + 1 },
        taken: WallTime::from_nanos(1),
    };
    let mut output = file.begin(&header).unwrap();
    let (key, record) = ledger();
    let found = |record, created, modified| catalog::Versioned {
        record,
        created: Revision::new(created),
        modified: Revision::new(modified),
    };
    if births > 0 {
        output.record(&key, &found(record, 5, 9)).unwrap();
    }
    for number in 1..=births {
        let born = found(Record::Birth, 3, 100 + number);
        output.record(&shard(number), &born).unwrap();
    }
    file.end(output).unwrap();
    file.name().unwrap();
    file
}

async fn import(server: &Server, file: &ImageFile, prefix: &str) -> Result<Header, ImageError> {
    let host = Host::real("test");
    image::import(
        &host,
        &file.path,
        &server.config(prefix),
        Progress::default(),
    )
    .await
}

fn born(number: u64) -> Need {
    let mut need = Need::default();
    need.keys.extend([shard(number), ledger().0]);
    need
}

/// What the image says, wherever it came from: births and the making of the ledger.
async fn assert_carried(store: &Etcd, births: u64) {
    let all = KeyRange::prefix(vec![14], usize::MAX);
    let mut need = born(births);
    need.ranges.insert(all.clone());
    let snapshot = store.read(need).await.unwrap();
    assert_eq!(u64::try_from(snapshot.ranges[&all].len()).unwrap(), births);
    for (number, (_, found)) in (1..).zip(&snapshot.ranges[&all]) {
        assert_eq!(found.birth(), Revision::new(100 + number));
        assert!(found.modified > Revision::new(5000));
    }
    let Some(found) = &snapshot.records[&ledger().0] else {
        panic!("the ledger is there");
    };
    let Record::Ledger(body) = &found.record else {
        panic!("a ledger");
    };
    assert_eq!(body.created, Some(Revision::new(5)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_imported_store_keeps_the_contract() {
    let Some(binary) = binary() else { return };
    let server = Arc::new(Server::start(binary, 1).await);
    let dir = Arc::new(tempfile::tempdir().unwrap());
    image_of(dir.path(), Kind::Export, 0);
    let count = Arc::new(AtomicU64::new(0));
    suite::run_on_used(|| {
        let (server, count, dir) = (Arc::clone(&server), Arc::clone(&count), Arc::clone(&dir));
        Box::pin(async move {
            let count = count.fetch_add(1, Ordering::Relaxed);
            let prefix = format!("/ledgerline/{count}/");
            let file = ImageFile::new(&Host::real("test").disk, &dir.path().join("image"));
            import(&server, &file, &prefix).await.unwrap();
            active(&server, &prefix).await.store
        })
    })
    .await;
}

#[tokio::test]
async fn an_import_goes_on_above_what_was_exported() {
    let Some(binary) = binary() else { return };
    let server = Server::start(binary, 1).await;
    let dir = tempfile::tempdir().unwrap();
    let file = image_of(dir.path(), Kind::Export, 2500);
    let header = import(&server, &file, PREFIX).await.unwrap();
    let node = active(&server, PREFIX).await;
    assert_eq!(node.store.cluster(), CLUSTER);
    assert!(node.store.generation().goes_on_from(&header.generation));
    assert_carried(&node.store, 2500).await;
    // Versions that were read hold; what was written changes both.
    let version = versions(&node.store, &shard(7)).await.unwrap().1;
    let conditional = write(&[(shard(7), Some(version))], &[shard(7)]);
    let changed = node.store.commit(conditional.clone()).await.unwrap();
    assert!(changed > version);
    assert_eq!(
        node.store.commit(conditional).await,
        Err(CommitError::Conflict)
    );
    let found = node.store.read(born(7)).await.unwrap();
    assert_eq!(found.records[&shard(7)].as_ref().unwrap().birth(), changed);
    // A version of the exported store holds for nothing.
    let old = write(&[(shard(8), Some(Revision::new(108)))], &[shard(8)]);
    assert_eq!(node.store.commit(old).await, Err(CommitError::Conflict));
    let none = write(&[(shard(9999), Some(Revision::new(9)))], &[shard(8)]);
    assert_eq!(node.store.commit(none).await, Err(CommitError::Conflict));
    // Who followed the exported store goes on, or reads anew.
    let told = node.store.changes(Revision::new(4999), 9).await.unwrap();
    assert!(matches!(told, ChangesSince::Compacted { .. }), "{told:?}");
    node.host.tasks.stop(LONG).await.unwrap();
    // Its place is taken now.
    let again = import(&server, &file, PREFIX).await;
    assert!(
        matches!(again, Err(ImageError::Occupied { .. })),
        "{again:?}"
    );
}

#[tokio::test]
async fn an_import_that_is_not_at_its_end_is_no_store_and_begins_anew() {
    let Some(binary) = binary() else { return };
    let server = Server::start(binary, 1).await;
    let dir = tempfile::tempdir().unwrap();
    let file = image_of(dir.path(), Kind::Export, 10);
    let place = Prefix::new(&Host::real("test"), &server.config(PREFIX)).unwrap();
    let Ok(begun) = take_place(&place, 1).await else {
        panic!("the place is free");
    };
    let header = file.check(&Progress::default()).unwrap();
    let first = Import {
        prefix: place,
        begun,
        passage: Passage::Move,
    };
    first
        .fill(&file, &header, &Progress::default())
        .await
        .unwrap();
    let mut patient = server.config(PREFIX);
    patient.patience = Duration::from_secs(2);
    let opened = EtcdStandby::open(&Host::real("meta"), &patient).await;
    assert!(
        matches!(opened, Err(EtcdError::Unfinished { .. })),
        "{opened:?}"
    );
    // Another one takes the place over, and the first writes nothing any more.
    import(&server, &image_of_other(&dir), PREFIX)
        .await
        .unwrap();
    let late = first.fill(&file, &header, &Progress::default()).await;
    assert!(
        matches!(late, Err(ImageError::Overtaken { .. })),
        "{late:?}"
    );
    let late = first.finish(&header, 1).await;
    assert!(
        matches!(late, Err(ImageError::Overtaken { .. })),
        "{late:?}"
    );
    let node = active(&server, PREFIX).await;
    assert_carried(&node.store, 3).await;
}

fn image_of_other(dir: &tempfile::TempDir) -> ImageFile {
    let inner = dir.path().join("other");
    Host::real("test").disk.create_dir_all(&inner).unwrap();
    image_of(&inner, Kind::Export, 3)
}

#[tokio::test]
async fn keys_of_others_and_files_that_are_no_exports_are_refused_and_nothing_is_changed() {
    let Some(binary) = binary() else { return };
    let server = Server::start(binary, 1).await;
    let dir = tempfile::tempdir().unwrap();
    let backup = image_of(dir.path(), Kind::Backup, 3);
    let refused = import(&server, &backup, PREFIX).await;
    assert!(
        matches!(refused, Err(ImageError::NotAnExport { .. })),
        "{refused:?}"
    );
    let client = server.client();
    let foreign = TxnRequest {
        success: vec![put(format!("{PREFIX}x").into(), Bytes::new(), 0)],
        ..TxnRequest::default()
    };
    client.write(foreign).await.unwrap();
    let refused = import(&server, &image_of_other(&dir), PREFIX).await;
    assert!(
        matches!(refused, Err(ImageError::Occupied { .. })),
        "{refused:?}"
    );
    let layout = Layout::new(PREFIX).unwrap();
    let marker = client.range(one(layout.import())).await.unwrap();
    assert!(marker.kvs.is_empty());
}

#[tokio::test]
async fn a_store_in_use_is_backed_up_at_one_moment_and_restored() {
    let Some(binary) = binary() else { return };
    let server = Server::start(binary, 1).await;
    let node = active(&server, PREFIX).await;
    let keys: Vec<Key> = (1..=1500).map(shard).collect();
    for some in keys.chunks(100) {
        node.store.commit(write(&[], some)).await.unwrap();
    }
    let mut made = write(&[], &[]);
    made.puts.push(ledger());
    node.store.commit(made).await.unwrap();
    // The first and the last change together, once before the backup can have begun and then
    // all the while.
    let both = [shard(1), shard(1500)];
    node.store.commit(write(&[], &both)).await.unwrap();
    let writes = async {
        for _ in 0..50 {
            node.store.commit(write(&[], &both)).await.unwrap();
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let file = ImageFile::new(&node.host.disk, &dir.path().join("image"));
    let fresh = Fresh {
        id: 5,
        taken: WallTime::from_nanos(9),
    };
    let config = server.config(PREFIX);
    let saved = save(
        &node.host,
        &config,
        file.clone(),
        fresh,
        Progress::default(),
    );
    let header = futures::join!(writes, saved).1.unwrap();
    assert_eq!((header.records, header.kind), (1501, Kind::Backup));
    let other = "/ledgerline/other/";
    let place = Place::Etcd(server.config(other));
    image::restore(&node.host, &file.path, &place, Progress::default())
        .await
        .unwrap();
    node.host.tasks.stop(LONG).await.unwrap();
    let node = active(&server, other).await;
    assert_eq!(node.store.cluster(), header.cluster);
    let mut need = born(1);
    need.keys.extend(both.clone());
    let snapshot = node.store.read(need).await.unwrap();
    let births = both.map(|key| snapshot.records[&key].as_ref().unwrap().birth());
    assert_eq!(births[0], births[1]);
    assert!(snapshot.revision > Revision::new(1 << 40));
    assert_eq!(node.store.generation().goes_on, None);
}
