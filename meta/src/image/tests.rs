use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use catalog::{Key, LedgerBody, Need, Record, Versioned};
use host::Rng;
use host::disk::sim::{Fault, SimDisk};
use types::chain::LedgerState;
use types::cluster::MetaGeneration;
use types::{BookieId, ClusterId, LedgerId, LedgerSeq, LogId, Quorum, Revision};

use super::format::{Flaw, ImageReader, ImageWriter};
use super::*;
use crate::store::suite::{self, shard, write};
use crate::store::{ChangesSince, Embedded, Store};

const DIR: &str = "data/meta";
const OTHER: &str = "data/other";
const FILE: &str = "data/metadata.image";
const LONG: Duration = Duration::from_secs(60);

fn header(records: u64) -> Header {
    Header {
        kind: Kind::Export,
        id: 0xabc,
        cluster: ClusterId::new(7),
        generation: MetaGeneration::default().next(0x5e, true),
        revision: Revision::new(9),
        records,
        taken: WallTime::from_nanos(1_700_000_000_000_000_001),
    }
}

fn ledger() -> (Key, Record) {
    let id = LedgerId::new(LogId::new(1), LedgerSeq::new(2));
    let ensemble = vec![BookieId::new(1)];
    let body = LedgerBody::tail(ensemble, Quorum::ONE, LedgerState::Open);
    (Key::Ledger(id), Record::Ledger(body))
}

fn records() -> Vec<(Key, Versioned)> {
    let at = |record, created, modified| Versioned {
        record,
        created: Revision::new(created),
        modified: Revision::new(modified),
    };
    let (key, body) = ledger();
    vec![
        (Key::Cluster, at(Record::Cluster(ClusterId::new(7)), 1, 1)),
        (key, at(body, 5, 9)),
        (shard(1), at(Record::Birth, 2, 4)),
    ]
}

fn image() -> Vec<u8> {
    let mut writer = ImageWriter::begin(Vec::new(), &header(3)).unwrap();
    for (key, found) in records() {
        writer.record(&key, &found).unwrap();
    }
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<(Key, Versioned)>, Flaw> {
    let mut reader = ImageReader::begin(bytes)?;
    let mut found = Vec::new();
    while let Some(record) = reader.next()? {
        found.push(record);
    }
    Ok(found)
}

#[test]
fn what_is_written_is_read_back() {
    let bytes = image();
    assert_eq!(read(&bytes).unwrap(), records());
    assert_eq!(ImageReader::begin(&bytes[..]).unwrap().header(), &header(3));
}

/// The bytes of the file. A change here is a new format: raise `FORMAT` and read the old one too.
#[test]
fn bytes_are_frozen() {
    let lines = image()
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect::<Vec<String>>();
    let shown = lines.join("\n") + "\n";
    assert_eq!(shown, include_str!("golden.txt"), "shown:\n{shown}");
}

#[test]
fn every_flipped_bit_every_cut_and_every_byte_too_many_is_found() {
    let bytes = image();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&flipped).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(read(&bytes[..len]).is_err(), "cut at {len}");
    }
    assert!(read(&[&bytes[..], b"x"].concat()).is_err());
}

#[test]
fn another_kind_of_file_and_a_newer_format_are_told_apart_from_damage() {
    for foreign in [&b""[..], b"ledgerline meta format=1\n", &[0; 500]] {
        assert!(matches!(read(foreign), Err(Flaw::Foreign)), "{foreign:?}");
    }
    let mut newer = image();
    newer[9] = 2;
    assert!(matches!(read(&newer), Err(Flaw::NewerFormat(2))));
    newer[9] = 1;
    assert_eq!(read(&newer).unwrap().len(), 3);
    assert!(matches!(read(&newer[..200]), Err(Flaw::Damaged(_))));
}

#[test]
fn an_image_with_fewer_records_than_announced_is_not_finished() {
    let writer = ImageWriter::begin(Vec::new(), &header(3)).unwrap();
    assert!(writer.finish().is_err());
}

/// A node on this disk: its tasks are its own, so that it can die alone.
fn node(disk: &SimDisk, seed: u64) -> Host {
    Host::simulated("meta", seed).with_disk(Arc::new(disk.clone()))
}

async fn open(disk: &SimDisk, dir: &str, seed: u64) -> Result<Embedded, OpenError> {
    Embedded::start(&node(disk, seed), EmbeddedConfig::new(dir)).await
}

/// A store that was used and stopped: a bookie born at revision 3, a ledger made at 2.
async fn used(disk: &SimDisk) -> ClusterId {
    let host = node(disk, 1);
    let config = EmbeddedConfig::new(DIR);
    let store = Embedded::start(&host, config).await.unwrap();
    store.commit(write(&[], &[shard(1)])).await.unwrap();
    let mut made = write(&[], &[]);
    made.puts.push(ledger());
    store.commit(made).await.unwrap();
    store.commit(write(&[], &[shard(1)])).await.unwrap();
    host.tasks.stop(LONG).await.unwrap();
    store.cluster()
}

fn at(dir: &str) -> Place {
    Place::Embedded(EmbeddedConfig::new(dir))
}

async fn backed_up(disk: &SimDisk) -> ClusterId {
    let cluster = used(disk).await;
    let host = node(disk, 2);
    let header = backup(&host, &at(DIR), Path::new(FILE), Progress::default()).await;
    let header = header.unwrap();
    assert_eq!((header.cluster, header.records), (cluster, 2));
    assert_eq!((header.kind, header.revision.get()), (Kind::Backup, 3));
    cluster
}

async fn restored(disk: &SimDisk, seed: u64) -> Result<Header, ImageError> {
    let host = node(disk, seed);
    restore(&host, Path::new(FILE), &at(OTHER), Progress::default()).await
}

async fn exported(disk: &SimDisk, seed: u64) -> Result<Header, ImageError> {
    let host = node(disk, seed);
    let config = EmbeddedConfig::new(DIR);
    export(&host, &config, Path::new(FILE), Progress::default()).await
}

/// Its records, as they mean it: births and makings as in the store they came from.
async fn assert_carried(store: &Embedded, cluster: ClusterId) {
    assert_eq!(store.cluster(), cluster);
    let mut need = Need::default();
    let (key, _) = ledger();
    need.keys.extend([key.clone(), shard(1)]);
    let snapshot = store.read(need).await.unwrap();
    assert!(snapshot.revision > Revision::new(1 << 40));
    let records: BTreeMap<_, _> = snapshot.records.into_iter().collect();
    let birth = records[&shard(1)].as_ref().unwrap();
    assert_eq!(birth.birth(), Revision::new(3));
    let Record::Ledger(body) = &records[&key].as_ref().unwrap().record else {
        panic!("a ledger");
    };
    assert_eq!(body.created, Some(Revision::new(2)));
}

#[tokio::test]
async fn a_restored_store_has_all_records_and_revisions_above_the_image() {
    let disk = SimDisk::new(1);
    let cluster = backed_up(&disk).await;
    restored(&disk, 3).await.unwrap();
    let store = open(&disk, OTHER, 4).await.unwrap();
    assert_carried(&store, cluster).await;
    assert_eq!(store.generation().number, 1);
    assert_eq!(store.generation().goes_on, None);
    // Who followed the old store is told to read anew.
    let told = store.changes(Revision::new(3), 9).await.unwrap();
    assert!(matches!(told, ChangesSince::Compacted { .. }), "{told:?}");
    let next = store.commit(write(&[], &[shard(2)])).await.unwrap();
    assert!(next > Revision::new(1 << 40));
    // The old one goes on: it was a backup.
    assert_eq!(open(&disk, DIR, 5).await.unwrap().generation().number, 0);
}

#[tokio::test]
async fn a_restored_store_keeps_the_contract() {
    let seed = AtomicU64::new(1);
    suite::run_on_used(|| {
        let seed = seed.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let disk = SimDisk::new(seed);
            let file = ImageFile::new(&node(&disk, 1).disk, Path::new(FILE));
            file.disk.create_dir_all(Path::new("data")).unwrap();
            let output = file.begin(&header(0)).unwrap();
            file.end(output).unwrap();
            file.name().unwrap();
            restored(&disk, 1).await.unwrap();
            open(&disk, OTHER, seed).await.unwrap()
        })
    })
    .await;
}

#[tokio::test]
async fn nothing_is_overwritten_and_nothing_made_of_nothing() {
    let disk = SimDisk::new(1);
    backed_up(&disk).await;
    let again = backup(
        &node(&disk, 3),
        &at(DIR),
        Path::new(FILE),
        Progress::default(),
    )
    .await;
    assert!(matches!(again, Err(ImageError::Exists { .. })), "{again:?}");
    let host = node(&disk, 4);
    let over = restore(&host, Path::new(FILE), &at(DIR), Progress::default()).await;
    assert!(matches!(over, Err(ImageError::Occupied { .. })), "{over:?}");
    let file = Path::new("data/b.image");
    let none = backup(&host, &at("data/none"), file, Progress::default()).await;
    assert!(matches!(none, Err(ImageError::NoStore { .. })), "{none:?}");
    assert!(!disk_of(&host).exists(Path::new("data/none")).unwrap());
    let missing = restore(&host, Path::new("data/no"), &at(OTHER), Progress::default()).await;
    assert!(matches!(missing, Err(ImageError::Io { .. })), "{missing:?}");
}

fn disk_of(host: &Host) -> Arc<dyn host::disk::Disk> {
    Arc::clone(&host.disk)
}

#[tokio::test]
async fn a_damaged_image_is_refused_before_anything_is_made() {
    let disk = SimDisk::new(1);
    backed_up(&disk).await;
    let len = disk.contents(Path::new(FILE)).unwrap().len();
    disk.flip(Path::new(FILE), u64::try_from(len * 8 - 9).unwrap())
        .unwrap();
    let refused = restored(&disk, 3).await;
    assert!(
        matches!(refused, Err(ImageError::Damaged { .. })),
        "{refused:?}"
    );
    assert!(!disk_of(&node(&disk, 4)).exists(Path::new(OTHER)).unwrap());
}

#[tokio::test]
async fn a_store_in_use_is_not_backed_up() {
    let disk = SimDisk::new(1);
    used(&disk).await;
    let _in_use = open(&disk, DIR, 2).await.unwrap();
    let refused = backup(
        &node(&disk, 3),
        &at(DIR),
        Path::new(FILE),
        Progress::default(),
    )
    .await;
    assert!(
        matches!(refused, Err(ImageError::Open(OpenError::Locked { .. }))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_exported_store_never_opens_again_and_says_where_it_went() {
    let disk = SimDisk::new(1);
    used(&disk).await;
    let header = exported(&disk, 2).await.unwrap();
    assert_eq!(header.kind, Kind::Export);
    let refused = open(&disk, DIR, 3).await;
    let Err(OpenError::Moved { file, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(file, FILE);
    let again = exported(&disk, 4).await;
    assert!(
        matches!(again, Err(ImageError::Open(OpenError::Moved { .. }))),
        "{again:?}"
    );
    restored(&disk, 5).await.unwrap();
}

/// Power loss at any operation of an export leaves a store that opens and no file of that name, or a store that moved
/// and its file whole, if perhaps still under its other name; the same export again finishes.
#[tokio::test]
async fn an_export_survives_power_loss_at_every_operation() {
    let whole = SimDisk::new(1);
    used(&whole).await;
    let before = whole.ops();
    exported(&whole, 2).await.unwrap();
    let count = whole.ops() - before;
    let rng = Rng::seeded(5);
    let mut seen = [0, 0];
    for op in 0..count {
        let disk = SimDisk::new(op);
        used(&disk).await;
        disk.fail_at(disk.ops() + op, Fault::PowerCut);
        let told = exported(&disk, 10).await.is_ok();
        disk.crash(&rng);
        disk.heal();
        disk.restart();
        let has_file = disk_of(&node(&disk, 11)).exists(Path::new(FILE)).unwrap();
        match open(&disk, DIR, 12).await {
            Ok(store) => {
                seen[0] += 1;
                assert!(!told && !has_file, "op {op}: the store goes on");
                drop(store);
            }
            Err(OpenError::Moved { .. }) => seen[1] += 1,
            Err(error) => panic!("op {op}: {error}"),
        }
        if !has_file {
            exported(&disk, 13).await.unwrap();
        }
        restored(&disk, 14).await.unwrap();
        let moved = open(&disk, DIR, 15).await;
        assert!(matches!(moved, Err(OpenError::Moved { .. })), "op {op}");
    }
    assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
}

/// Power loss at any operation of a restore leaves nothing that opens, or the whole store; the same again finishes.
#[tokio::test]
async fn a_restore_survives_power_loss_at_every_operation() {
    let whole = SimDisk::new(1);
    backed_up(&whole).await;
    let before = whole.ops();
    restored(&whole, 2).await.unwrap();
    let count = whole.ops() - before;
    let rng = Rng::seeded(5);
    for op in 0..count {
        let disk = SimDisk::new(op);
        let cluster = backed_up(&disk).await;
        disk.fail_at(disk.ops() + op, Fault::PowerCut);
        let told = restored(&disk, 10).await.is_ok();
        disk.crash(&rng);
        disk.heal();
        disk.restart();
        match restored(&disk, 11).await {
            Ok(_) => assert!(!told, "op {op}"),
            Err(ImageError::Occupied { .. }) => {}
            Err(error) => panic!("op {op}: {error}"),
        }
        let store = open(&disk, OTHER, 12).await.unwrap();
        assert_carried(&store, cluster).await;
        assert_eq!(store.generation().number, 1);
    }
}
