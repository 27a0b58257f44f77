//! The engine on a real file system, jobs run one after the other.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use bookie::{Answer, Ask, Config, Effect, Engine, Event, Opening, Place, Request, Token};
use bytes::Bytes;
use host::disk::{Disk, RealDisk};
use types::cluster::{BookieDuty, BookieRecord, BookieState};
use types::storage::{Add, AddKind, AddResult, Entry, Read, ReadResult, ReadRun, RunItem};
use types::{
    BookieId, ClusterId, EntryId, Epoch, LedgerId, LedgerSeq, LogId, MonoTime, Offset, Payload,
    Revision, SessionId,
};

const LEDGER: LedgerId = LedgerId::new(LogId::new(1), LedgerSeq::new(0));

fn open(config: &Config, entropy: u128) -> Engine {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let place = Place {
        cluster: ClusterId::new(7),
        name: "b-1".parse().unwrap(),
        entropy,
    };
    let opening = Opening::start(config.clone(), disk, place).unwrap();
    let claim = opening.claim("b-1:1".to_owned());
    let record = BookieRecord {
        zone: None,
        id: BookieId::new(1),
        name: claim.name,
        address: claim.address,
        born: claim.born.unwrap_or(Revision::new(1)),
        incarnation: claim.incarnation,
        mark: claim.mark,
        state: BookieState::ReadWrite,
        duty: BookieDuty::Active,
        session: SessionId::new(1),
        live: true,
    };
    let (engine, report) = opening.finish(&record, MonoTime::ZERO).unwrap();
    assert!(report.damage.is_empty(), "{report:?}");
    engine
}

fn entry(id: u64, size: usize) -> Entry {
    let payload = Payload::whole(Bytes::from(vec![u8::try_from(id % 251).unwrap(); size]));
    Entry::new(LEDGER, EntryId::new(id), Offset::new(id + 1), payload)
}

/// Hands events in and runs every job that comes of them; the answers.
fn drive(engine: &mut Engine, first: Event) -> Vec<(Token, Answer)> {
    let mut events = VecDeque::from([first]);
    let mut effects = Vec::new();
    let mut answers = Vec::new();
    while let Some(event) = events.pop_front() {
        engine.handle(MonoTime::ZERO, event, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Reply { token, answer } => answers.push((token, answer)),
                Effect::Run { job, .. } => events.push_back(Event::Done(job.run())),
                Effect::Fatal(what) => panic!("{what}"),
                Effect::Forget(_)
                | Effect::MarkMoved(_)
                | Effect::Standing(_)
                | Effect::Alarm(_)
                | Effect::Stopped => {}
            }
        }
    }
    answers
}

fn add_all(engine: &mut Engine, ids: std::ops::Range<u64>, size: usize) {
    let requests = ids.clone().map(|id| Request {
        token: Token(id),
        ask: Ask::Add(Add {
            ledger: LEDGER,
            created: Revision::new(5),
            epoch: Epoch::new(1),
            lac: None,
            kind: AddKind::Write,
            entry: entry(id, size),
        }),
    });
    let answers = drive(engine, Event::Requests(requests.collect()));
    let stored = answers
        .iter()
        .filter(|(_, answer)| *answer == Answer::Add(AddResult::Stored));
    assert_eq!(stored.count(), ids.count());
}

fn check(engine: &mut Engine, id: u64, size: usize) {
    let read = Ask::Read(Read {
        ledger: LEDGER,
        created: Revision::new(5),
        entry: EntryId::new(id),
        fence: None,
    });
    let token = Token(id);
    let answers = drive(engine, Event::Requests(vec![Request { token, ask: read }]));
    let [(_, Answer::Read(ReadResult::Found { entry: found, .. }))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(*found, entry(id, size));
}

fn config(dir: &Path, base: impl Fn(std::path::PathBuf, std::path::PathBuf) -> Config) -> Config {
    base(dir.join("b/journal"), dir.join("b/data"))
}

#[test]
fn entries_survive_restarts_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), Config::small);
    config.free_low = types::ByteSize::new(0);
    config.cache = types::ByteSize::mib(1);
    for round in 0..3 {
        let mut engine = open(&config, u128::from(round) + 1);
        for id in 0..100 {
            add_all(&mut engine, round * 100 + id..round * 100 + id + 1, 900);
        }
        for id in 0..(round + 1) * 100 {
            check(&mut engine, id, 900);
        }
        if round == 1 {
            drive(&mut engine, Event::Stop);
            assert!(engine.is_over());
        }
    }
}

/// Reads a ledger from an entry on in runs as a consumer's backlog is read, and checks each; how many runs it took.
fn read_through(engine: &mut Engine, from: u64, to: u64, max_bytes: u64) -> u64 {
    let (mut next, mut runs) = (from, 0);
    while next < to {
        let ask = Ask::ReadRun(ReadRun {
            ledger: LEDGER,
            created: Revision::new(5),
            first: EntryId::new(next),
            last: EntryId::new(to - 1),
            max_bytes,
            payload_limit: None,
        });
        let token = Token(next);
        let mut answers = drive(engine, Event::Requests(vec![Request { token, ask }]));
        let Some((_, Answer::ReadRun(items))) = answers.pop() else {
            panic!("{answers:?}");
        };
        let mut bytes = 0;
        for item in items {
            let RunItem::Entry(found) = item else {
                panic!("{next}: {item:?}");
            };
            assert_eq!(found, entry(next, size_of(next)));
            bytes += size_of(next);
            next += 1;
        }
        assert!(bytes > 0 && u64::try_from(bytes).unwrap() <= max_bytes);
        runs += 1;
    }
    runs
}

fn size_of(id: u64) -> usize {
    usize::try_from(1 + id * 7_919 % 90_000).unwrap()
}

#[test]
fn runs_are_read_in_pieces_which_a_reader_close_behind_finds_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), Config::small);
    config.free_low = types::ByteSize::new(0);
    config.journal_first_file = types::ByteSize::mib(1);
    config.journal_file = types::ByteSize::mib(4);
    config.memtable = types::ByteSize::mib(5);
    config.block = types::ByteSize::new(64 << 10);
    config.entry_max = 90 << 10;
    config.write_budget = types::ByteSize::mib(8);
    config.read_budget = types::ByteSize::mib(8);
    config.cache = types::ByteSize::mib(64);
    let mut engine = open(&config, 1);
    let count = 400;
    for id in 0..count {
        add_all(&mut engine, id..id + 1, size_of(id));
    }
    assert!(engine.stats().data_files > 1, "{:?}", engine.stats());
    // From the disk comes each piece once, and most of them before they are asked for.
    read_through(&mut engine, 0, count, 2 << 20);
    let first = engine.stats();
    let pieces = first.data_bytes / (1 << 20) + first.data_files;
    assert!(first.cache_misses <= pieces, "{first:?}");
    assert!(
        first.cache_hits >= pieces - 2 * first.data_files,
        "{first:?}"
    );
    // From the middle of a piece: only the rest of that one is not what is kept.
    read_through(&mut engine, 11, count, 4 << 20);
    let second = engine.stats();
    assert_eq!(second.cache_misses - first.cache_misses, 1, "{second:?}");
    // A reader of little is given no more than that of what is kept.
    read_through(&mut engine, 0, count, 90 << 10);
    check(&mut engine, 3, size_of(3));
}

/// Bytes that the data files take on the disk, as the system counts them.
fn bytes_on_disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(dir).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().blocks() * 512)
        .sum()
}

#[test]
fn bytes_on_a_real_disk_shrink_when_a_log_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), Config::small);
    config.free_low = types::ByteSize::new(0);
    let mut engine = open(&config, 1);
    for id in 0..400 {
        add_all(&mut engine, id..id + 1, 4_000);
    }
    let before = bytes_on_disk(&config.data_dir);
    assert!(before > 1 << 20, "{before}");
    let word = bookie::Reclaim {
        deleted: vec![LEDGER.log()],
        ..bookie::Reclaim::default()
    };
    drive(&mut engine, Event::Reclaim(word));
    let after = bytes_on_disk(&config.data_dir);
    assert!(after < 64 << 10, "{before} {after}");
    assert_eq!(engine.stats().data_bytes, 0);
}

#[test]
#[ignore = "a measurement"]
fn measure_writes() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let config = config(dir.path(), Config::new);
    let mut engine = open(&config, 1);
    for group in 0..512_u64 {
        add_all(&mut engine, group * 16..group * 16 + 16, 64 << 10);
    }
    eprintln!("{:?}", engine.stats());
}
