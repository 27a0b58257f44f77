//! What storing costs in calls and bytes, counted on a simulated disk: the same on every machine.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::{Path, PathBuf};

use bookie::{Answer, Ask, Config, Event, Lane, Reclaim, Worker};
use host::disk::sim::{OpKind, OpRecord, SimDisk};
use types::storage::{AddResult, ReadRun};
use types::{ByteSize, EntryId, LedgerId, LedgerSeq, LogId, Revision};

use support::{Bookie, add, ledger};

/// Bytes of a large entry: a batch as a busy producer sends it.
const LARGE: usize = 256 << 10;
/// Bytes of a small one.
const SMALL: usize = 1 << 10;
/// How many large ones fill a memtable.
const FILLS: u64 = 32;

/// What was asked of a disk.
#[derive(Debug, Default, PartialEq, Eq)]
struct Calls {
    writes: usize,
    syncs: usize,
    bytes: usize,
}

impl Calls {
    /// Of those calls that `is_counted` picks.
    fn of(record: &[OpRecord], is_counted: impl Fn(&Path) -> bool) -> Self {
        let mut calls = Self::default();
        for call in record.iter().filter(|call| is_counted(&call.path)) {
            match call.kind {
                OpKind::Write => {
                    calls.writes += 1;
                    calls.bytes += call.len;
                }
                OpKind::Sync => calls.syncs += 1,
                OpKind::Open | OpKind::Read | OpKind::SetLen | OpKind::Name | OpKind::SyncDir => {}
            }
        }
        calls
    }

    fn of_journal(record: &[OpRecord]) -> Self {
        Self::of(record, |path| path.starts_with("journal"))
    }

    fn of_data_files(record: &[OpRecord]) -> Self {
        let is_data = |path: &Path| path.extension().is_some_and(|end| end == "data");
        Self::of(record, |path| path.starts_with("data") && is_data(path))
    }
}

/// A bookie of production's values but for a small memtable. Its next journal file is ready, so that frames are all that
/// is written to the journal from now on.
fn open() -> Bookie {
    let config = Config {
        memtable: ByteSize::new(FILLS * LARGE as u64),
        journal_file: ByteSize::mib(16),
        cache: ByteSize::new(0),
        ..Config::new(PathBuf::from("journal"), PathBuf::from("data"))
    };
    let mut bookie = Bookie::new(SimDisk::new(1), config);
    bookie.open().unwrap();
    bookie.tick();
    bookie.settle();
    bookie.disk.record(true);
    bookie
}

fn frames(bookie: &Bookie) -> u64 {
    bookie.engine.as_ref().unwrap().stats().frames
}

/// Hands all adds in at once, and runs the journal's worker until it has no more to do.
fn journal(bookie: &mut Bookie, ledger: LedgerId, count: u64, size: usize) {
    let asks = (0..count).map(|id| Ask::Add(add(ledger, id, size, 1)));
    let tokens: Vec<_> = asks.map(|ask| bookie.ask(ask)).collect();
    while bookie.run_one(Worker::Journal) {}
    let stored = Answer::Add(AddResult::Stored);
    for token in tokens {
        assert_eq!(bookie.answers.get(&token.0), Some(&stored));
    }
}

/// Adds large entries of a ledger one after another, with all that goes on behind them.
fn fill(bookie: &mut Bookie, ledger: LedgerId, count: u64) {
    for id in 0..count {
        assert_eq!(bookie.added(add(ledger, id, LARGE, 1)), AddResult::Stored);
    }
}

/// How many bytes were written for each hundred of payload, rounded up.
fn percent(bytes: usize, payload: usize) -> usize {
    (bytes * 100).div_ceil(payload)
}

#[test]
fn a_group_of_adds_takes_one_write_and_one_sync_however_many_they_are() {
    for count in [2, 10, 200] {
        let mut bookie = open();
        let before = frames(&bookie);
        // The first add has a frame of its own; the others gather while it is on its way.
        journal(&mut bookie, ledger(1, 0), count, SMALL);
        assert_eq!(frames(&bookie) - before, 2, "{count} adds");
        let record = bookie.disk.take_record();
        let calls = Calls::of_journal(&record);
        assert_eq!((calls.writes, calls.syncs), (2, 2), "{count} adds");
        assert_eq!(record.len(), 4, "nothing else is asked: {record:?}");
    }
}

#[test]
fn a_group_of_large_entries_is_as_large_as_is_allowed_and_one_frame() {
    let mut bookie = open();
    let before = frames(&bookie);
    journal(&mut bookie, ledger(1, 0), 31, LARGE);
    let calls = Calls::of_journal(&bookie.disk.take_record());
    // One alone, then three at a time: a fourth would be above the megabyte by its headers.
    assert_eq!(frames(&bookie) - before, 11);
    assert_eq!((calls.writes, calls.syncs), (11, 11));
}

#[test]
fn the_journal_takes_hardly_more_bytes_than_there_are_of_payload() {
    // Headers, and what fills up the last block of a frame.
    for (count, size, most) in [(31, LARGE, 101), (200, SMALL, 110)] {
        let mut bookie = open();
        journal(&mut bookie, ledger(1, 0), count, size);
        let calls = Calls::of_journal(&bookie.disk.take_record());
        let payload = usize::try_from(count).unwrap() * size;
        let percent = percent(calls.bytes, payload);
        assert!((100..=most).contains(&percent), "{percent} {calls:?}");
    }
}

#[test]
fn an_entry_that_comes_alone_costs_the_journal_its_bytes_and_less_than_a_block() {
    let mut bookie = open();
    fill(&mut bookie, ledger(1, 0), 8);
    let calls = Calls::of_journal(&bookie.disk.take_record());
    assert_eq!((calls.writes, calls.syncs), (8, 8));
    assert_eq!(calls.bytes, 8 * (LARGE + 4096));
}

#[test]
fn a_flush_writes_each_byte_of_payload_once_in_large_pieces() {
    let mut bookie = open();
    fill(&mut bookie, ledger(1, 0), FILLS);
    assert_eq!(bookie.engine.as_ref().unwrap().stats().data_files, 1);
    let record = bookie.disk.take_record();
    let payload = usize::try_from(FILLS).unwrap() * LARGE;
    let data = Calls::of_data_files(&record);
    let percent_of = |bytes| percent(bytes, payload);
    assert!((100..=101).contains(&percent_of(data.bytes)), "{data:?}");
    // Pieces of at least a megabyte, and the end of the file.
    let pieces = payload.div_ceil(1 << 20) + 1;
    assert!(data.writes <= pieces, "{data:?}");
    // A disk without a way past its cache is synced with each piece.
    assert!(data.syncs <= pieces, "{data:?}");
    // With the MANIFEST, and all else beside the journal.
    let all = Calls::of(&record, |path| !path.starts_with("journal"));
    assert!(percent_of(all.bytes) <= 101, "{all:?}");
}

#[test]
fn what_was_trimmed_before_the_flush_costs_the_data_files_nothing() {
    let mut bookie = open();
    fill(&mut bookie, ledger(1, 0), FILLS - 1);
    bookie.handle(Event::Reclaim(Reclaim {
        trimmed: vec![(LogId::new(1), LedgerSeq::new(1))],
        ..Reclaim::default()
    }));
    bookie.settle();
    let before = bookie.engine.as_ref().unwrap().stats();
    // The last one that fits fills the table: of all that is in it only this one is still wanted.
    fill(&mut bookie, ledger(2, 0), 1);
    let after = bookie.engine.as_ref().unwrap().stats();
    assert!(after.mark > before.mark, "it was flushed: {after:?}");
    let data = Calls::of_data_files(&bookie.disk.take_record());
    assert!(
        (100..=101).contains(&percent(data.bytes, LARGE)),
        "{data:?}"
    );
}

/// The reads of data files that a run makes, in bytes.
fn reads_of_a_run(bookie: &mut Bookie) -> Vec<usize> {
    bookie.disk.take_record();
    let items = bookie.run(ledger(1, 0), 0, FILLS - 1, 4 << 20);
    assert!(items.len() > 8, "{}", items.len());
    let record = bookie.disk.take_record();
    let is_data = |path: &Path| path.extension().is_some_and(|end| end == "data");
    let reads = record.iter().filter(|call| call.kind == OpKind::Read);
    let of_data = reads.filter(|call| is_data(&call.path));
    of_data.map(|call| call.len).collect()
}

#[test]
fn runs_read_less_at_a_time_while_messages_are_stored_one_after_another() {
    let mut bookie = open();
    fill(&mut bookie, ledger(1, 0), FILLS);
    let second = 1_000_000_000;
    bookie.now += second;
    let alone = reads_of_a_run(&mut bookie);
    assert!(alone.iter().any(|&read| read > 1 << 19), "{alone:?}");
    // A few messages are no stream of them.
    fill(&mut bookie, ledger(2, 0), 3);
    assert_eq!(reads_of_a_run(&mut bookie), alone);
    fill(&mut bookie, ledger(2, 1), 1);
    let beside = reads_of_a_run(&mut bookie);
    assert!(beside.iter().all(|&read| read <= 256 << 10), "{beside:?}");
    let bytes = |reads: &[usize]| reads.iter().sum::<usize>();
    assert_eq!(bytes(&beside), bytes(&alone), "the same pieces");
    bookie.now += second;
    assert_eq!(reads_of_a_run(&mut bookie), alone);
    // One is on its way to a slow disk, and another waits for it.
    for id in 0..2 {
        bookie.ask(Ask::Add(add(ledger(2, 2), id, SMALL, 1)));
    }
    let run = bookie.ask(Ask::ReadRun(ReadRun {
        ledger: ledger(1, 0),
        created: Revision::new(1),
        first: EntryId::new(0),
        last: EntryId::new(FILLS - 1),
        max_bytes: 4 << 20,
        payload_limit: None,
    }));
    bookie.disk.take_record();
    assert!(bookie.run_one(Worker::Read(Lane::CatchUp)));
    let record = bookie.disk.take_record();
    assert!(
        record.iter().all(|call| call.len <= 256 << 10),
        "{record:?}"
    );
    bookie.settle();
    assert!(bookie.answers.contains_key(&run.0));
}
