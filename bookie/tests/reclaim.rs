//! What a bookie gives back on meta's word, and what it never does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use bookie::{Ask, Event, Reclaim, Stats, Worker};
use host::Rng;
use host::disk::sim::{Fault, SimDisk};
use types::storage::{Add, AddKind, AddResult, ReadResult, RunItem, SealedReason};
use types::{LedgerId, LedgerSeq, LogId, Revision};

use support::{Bookie, add, config, entry, is_found, ledger};

/// Bytes of every payload here.
const SIZE: usize = 500;

fn open() -> Bookie {
    let mut bookie = Bookie::new(SimDisk::new(1), config());
    bookie.open().unwrap();
    bookie
}

/// Adds entries of a ledger; what does not fit the memtable goes to data files.
fn fill(bookie: &mut Bookie, ledger: LedgerId, ids: std::ops::Range<u64>) {
    for id in ids {
        assert_eq!(bookie.added(add(ledger, id, SIZE, 1)), AddResult::Stored);
    }
}

/// Fills the memtable with another ledger until it went to a file.
fn flush(bookie: &mut Bookie) {
    fill(bookie, ledger(99, 0), 0..60);
}

fn trimmed(log: u64, first: u32) -> Reclaim {
    Reclaim {
        trimmed: vec![(LogId::new(log), LedgerSeq::new(first))],
        ..Reclaim::default()
    }
}

fn deleted(log: u64) -> Reclaim {
    Reclaim {
        deleted: vec![LogId::new(log)],
        ..Reclaim::default()
    }
}

fn given_up(ledger: LedgerId) -> Reclaim {
    Reclaim {
        given_up: vec![ledger],
        ..Reclaim::default()
    }
}

fn reclaim(bookie: &mut Bookie, word: Reclaim) {
    bookie.handle(Event::Reclaim(word));
    bookie.settle();
    assert_eq!(bookie.fatal, None);
}

fn repair(ledger: LedgerId, id: u64) -> Add {
    Add {
        kind: AddKind::Repair,
        ..add(ledger, id, SIZE, 1)
    }
}

fn stats(bookie: &Bookie) -> Stats {
    bookie.engine.as_ref().unwrap().stats()
}

/// Bytes of all files in the data's directory.
fn data_on_disk(bookie: &Bookie) -> usize {
    let files = bookie.disk.files();
    let data = files.iter().filter(|path| path.starts_with("data"));
    data.map(|path| bookie.disk.contents(path).unwrap().len())
        .sum()
}

/// Whether any file of data has the bytes of an entry.
fn is_on_disk(bookie: &Bookie, ledger: LedgerId, id: u64) -> bool {
    let wanted = support::payload(ledger, id, SIZE).to_bytes();
    let files = bookie.disk.files();
    files
        .iter()
        .filter(|path| path.starts_with("data"))
        .any(|path| {
            let bytes = bookie.disk.contents(path).unwrap();
            bytes.windows(SIZE).any(|window| window == &wanted[..])
        })
}

#[test]
fn a_file_whose_ledgers_are_all_trimmed_goes_after_the_manifest_with_the_fact() {
    let mut bookie = open();
    fill(&mut bookie, ledger(1, 0), 0..200);
    flush(&mut bookie);
    let before = data_on_disk(&bookie);
    bookie.handle(Event::Reclaim(trimmed(1, 1)));
    // Nothing goes before a MANIFEST says so, however the jobs are cut short.
    assert!(is_on_disk(&bookie, ledger(1, 0), 0));
    bookie.settle();
    assert!(stats(&bookie).files_dropped > 0);
    assert!(data_on_disk(&bookie) < before / 2);
    assert!(!is_on_disk(&bookie, ledger(1, 0), 0));
}

#[test]
fn a_power_loss_between_any_two_jobs_of_a_reclaim_leaves_a_whole_bookie() {
    let mut gone = 0;
    for jobs in 0..12 {
        let mut bookie = open();
        for id in 0..60 {
            fill(&mut bookie, ledger(1, 0), id..id + 1);
            fill(&mut bookie, ledger(2, 0), id * 3..id * 3 + 3);
        }
        fill(&mut bookie, ledger(3, 0), 0..200);
        let mut word = deleted(2);
        word.trimmed = vec![(LogId::new(3), LedgerSeq::new(1))];
        bookie.handle(Event::Reclaim(word));
        for _ in 0..jobs {
            bookie.run_one(Worker::Store);
        }
        bookie.power_loss(&Rng::seeded(jobs));
        let report = bookie.open().unwrap();
        assert!(report.damage.is_empty(), "after {jobs} jobs: {report:?}");
        for id in 0..60 {
            let read = bookie.read(ledger(1, 0), id, None);
            assert!(is_found(&read, &entry(ledger(1, 0), id, SIZE)), "{id}");
        }
        gone += usize::from(!is_on_disk(&bookie, ledger(3, 0), 0));
    }
    assert!((1..12).contains(&gone), "{gone}");
}

#[test]
fn dropped_ledgers_are_unknown_and_refused_for_ever_also_after_a_power_loss() {
    for (word, log) in [(trimmed(1, 1), 1), (deleted(2), 2)] {
        let mut bookie = open();
        fill(&mut bookie, ledger(log, 0), 0..10);
        flush(&mut bookie);
        fill(&mut bookie, ledger(log, 0), 10..12);
        reclaim(&mut bookie, word);
        for restarts in 0..2 {
            for id in [0, 11, 500] {
                let read = bookie.read(ledger(log, 0), id, None);
                assert_eq!(read, ReadResult::Unknown, "{id} restarts={restarts}");
                let run = bookie.run(ledger(log, 0), id, id + 2, u64::MAX);
                assert_eq!(run, [RunItem::Unknown]);
            }
            for kind in [AddKind::Write, AddKind::Recovery, AddKind::Repair] {
                let late = Add {
                    kind,
                    ..add(ledger(log, 0), 3, SIZE, 9)
                };
                let refused = AddResult::Sealed(SealedReason::Dropped);
                assert_eq!(bookie.added(late), refused);
            }
            bookie.power_loss(&Rng::seeded(4));
            assert!(bookie.open().unwrap().damage.is_empty());
        }
    }
}

#[test]
fn ledgers_from_the_first_live_one_on_stay() {
    let mut bookie = open();
    for seq in 0..4 {
        fill(&mut bookie, ledger(1, seq), 0..40);
    }
    reclaim(&mut bookie, trimmed(1, 2));
    bookie.power_loss(&Rng::seeded(4));
    bookie.open().unwrap();
    bookie.tick();
    bookie.settle();
    for seq in [2, 3] {
        for id in 0..40 {
            let read = bookie.read(ledger(1, seq), id, None);
            assert!(is_found(&read, &entry(ledger(1, seq), id, SIZE)), "{seq}");
        }
    }
}

#[test]
fn a_flush_leaves_out_what_is_dropped_and_a_pending_add_is_still_answered() {
    let mut bookie = open();
    fill(&mut bookie, ledger(1, 0), 0..5);
    let pending = bookie.ask(Ask::Add(add(ledger(1, 0), 5, SIZE, 1)));
    // Its frame is on its way while the ledger goes and the memtable is flushed.
    bookie.handle(Event::Reclaim(trimmed(1, 1)));
    for id in 0..60 {
        bookie.ask(Ask::Add(add(ledger(2, 0), id, SIZE, 1)));
        while bookie.run_one(Worker::Store) {}
    }
    bookie.settle();
    let stored = bookie::Answer::Add(AddResult::Stored);
    assert_eq!(bookie.answers.get(&pending.0), Some(&stored));
    assert!(stats(&bookie).data_files > 0);
    assert!(!is_on_disk(&bookie, ledger(1, 0), 0) && !is_on_disk(&bookie, ledger(1, 0), 5));
    let read = bookie.read(ledger(2, 0), 0, None);
    assert!(is_found(&read, &entry(ledger(2, 0), 0, SIZE)));
}

#[test]
fn a_memtable_of_nothing_live_moves_the_mark_without_a_file() {
    let mut bookie = open();
    fill(&mut bookie, ledger(1, 0), 0..30);
    let before = stats(&bookie);
    bookie.handle(Event::Reclaim(deleted(1)));
    flush(&mut bookie);
    let after = stats(&bookie);
    assert!(after.mark > before.mark, "{before:?} {after:?}");
    assert!(!is_on_disk(&bookie, ledger(1, 0), 29));
}

#[test]
fn a_sparse_file_is_rewritten_without_the_rest() {
    let mut bookie = open();
    // Both ledgers in each file.
    for id in 0..60 {
        fill(&mut bookie, ledger(1, 0), id..id + 1);
        fill(&mut bookie, ledger(2, 0), id * 3..id * 3 + 3);
    }
    let before = stats(&bookie);
    assert_eq!(before.reclaimable_bytes, 0, "{before:?}");
    reclaim(&mut bookie, deleted(2));
    let after = stats(&bookie);
    assert!(after.files_rewritten > 0, "{after:?}");
    assert!(after.data_bytes < before.data_bytes / 2, "{after:?}");
    assert!(!is_on_disk(&bookie, ledger(2, 0), 0));
    bookie.power_loss(&Rng::seeded(3));
    bookie.open().unwrap();
    for id in 0..60 {
        let read = bookie.read(ledger(1, 0), id, None);
        assert!(is_found(&read, &entry(ledger(1, 0), id, SIZE)), "{id}");
    }
}

#[test]
fn a_file_that_is_mostly_live_is_left_alone_and_its_share_is_told() {
    let mut config = config();
    config.rewrite_below = 10;
    // Merges of like files would leave it out as well.
    config.merge_width = 64;
    let mut bookie = Bookie::new(SimDisk::new(1), config);
    bookie.open().unwrap();
    for id in 0..60 {
        fill(&mut bookie, ledger(1, 0), id..id + 1);
        fill(&mut bookie, ledger(2, 0), id..id + 1);
    }
    reclaim(&mut bookie, deleted(2));
    let after = stats(&bookie);
    assert_eq!(after.files_rewritten, 0);
    assert_eq!(after.live_bytes + after.reclaimable_bytes, after.data_bytes);
    assert!(after.reclaimable_bytes > 0, "{after:?}");
}

#[test]
fn a_ledger_that_was_given_up_is_unknown_refuses_writers_and_comes_back_by_repair() {
    let mut bookie = open();
    fill(&mut bookie, ledger(1, 0), 0..60);
    flush(&mut bookie);
    let held = bookie.engine.as_mut().unwrap().begin_reclaim();
    assert!(held.contains(&ledger(1, 0)));
    reclaim(&mut bookie, given_up(ledger(1, 0)));
    assert_eq!(bookie.read(ledger(1, 0), 0, None), ReadResult::Unknown);
    let held = bookie.engine.as_mut().unwrap().begin_reclaim();
    assert!(!held.contains(&ledger(1, 0)), "asked about once");
    let refused = AddResult::Sealed(SealedReason::Dropped);
    assert_eq!(bookie.added(add(ledger(1, 0), 0, SIZE, 1)), refused);
    for id in 0..60 {
        let stored = bookie.added(repair(ledger(1, 0), id));
        assert_eq!(stored, AddResult::Stored);
    }
    assert_eq!(
        bookie.read(ledger(1, 0), 999, None),
        ReadResult::Unknown,
        "it may have been here"
    );
    bookie.power_loss(&Rng::seeded(1));
    bookie.open().unwrap();
    for id in 0..60 {
        let read = bookie.read(ledger(1, 0), id, None);
        assert!(is_found(&read, &entry(ledger(1, 0), id, SIZE)), "{id}");
    }
}

#[test]
fn a_word_older_than_a_repair_does_not_drop_its_copies() {
    let mut bookie = open();
    bookie.engine.as_mut().unwrap().begin_reclaim();
    // Meta is asked; meanwhile repair begins, and one of its adds is still on its way.
    assert_eq!(bookie.added(repair(ledger(1, 0), 0)), AddResult::Stored);
    bookie.handle(Event::Reclaim(given_up(ledger(1, 0))));
    flush(&mut bookie);
    let read = bookie.read(ledger(1, 0), 0, None);
    assert!(is_found(&read, &entry(ledger(1, 0), 0, SIZE)));

    bookie.engine.as_mut().unwrap().begin_reclaim();
    let token = bookie.ask(Ask::Add(repair(ledger(3, 0), 0)));
    bookie.engine.as_mut().unwrap().begin_reclaim();
    bookie.handle(Event::Reclaim(given_up(ledger(3, 0))));
    bookie.settle();
    assert!(bookie.answers.contains_key(&token.0));
    flush(&mut bookie);
    let read = bookie.read(ledger(3, 0), 0, None);
    assert!(is_found(&read, &entry(ledger(3, 0), 0, SIZE)));
}

#[test]
fn a_merge_in_flight_does_not_drop_what_repair_was_told_is_stored() {
    // The repair comes after every count of jobs of the store's worker.
    let mut voided = 0;
    for jobs in 0..8 {
        let mut bookie = open();
        for id in 0..60 {
            fill(&mut bookie, ledger(1, 0), id * 3..id * 3 + 3);
            fill(&mut bookie, ledger(2, 0), id..id + 1);
        }
        bookie.engine.as_mut().unwrap().begin_reclaim();
        bookie.handle(Event::Reclaim(given_up(ledger(1, 0))));
        for _ in 0..jobs {
            bookie.run_one(Worker::Store);
        }
        let is_merging = bookie.queues[&Worker::Store]
            .iter()
            .any(|job| job.name() == "merge");
        let mut tokens = Vec::new();
        for id in 0..180 {
            tokens.push(bookie.ask(Ask::Add(repair(ledger(1, 0), id))));
            while bookie.run_one(Worker::Read(bookie::Lane::Recovery)) {}
            while bookie.run_one(Worker::Journal) {}
        }
        bookie.settle();
        let stored = bookie::Answer::Add(AddResult::Stored);
        let mut kept = Vec::new();
        for (id, token) in (0..).zip(tokens) {
            if bookie.answers.remove(&token.0) == Some(stored.clone()) {
                kept.push(id);
            }
        }
        assert!(kept.len() > 40, "{jobs}: {}", kept.len());
        voided += usize::from(is_merging);
        let files = bookie.disk.files();
        let data = files.iter().filter(|path| path.extension().is_some());
        let data = data.filter(|path| path.extension().unwrap() == "data");
        let count = u64::try_from(data.count()).unwrap();
        assert_eq!(count, stats(&bookie).data_files, "no file is left over");
        bookie.power_loss(&Rng::seeded(jobs));
        bookie.open().unwrap();
        for id in kept {
            let read = bookie.read(ledger(1, 0), id, None);
            let is_there = is_found(&read, &entry(ledger(1, 0), id, SIZE));
            assert!(is_there, "{jobs}: {id} {read:?}");
        }
    }
    assert!(voided > 0, "no merge was in flight");
}

#[test]
fn a_repair_whose_place_was_looked_at_before_the_ledger_was_given_up_is_stored_anew() {
    let mut bookie = open();
    fill(&mut bookie, ledger(1, 0), 0..60);
    flush(&mut bookie);
    let token = bookie.ask(Ask::Add(repair(ledger(1, 0), 0)));
    // The look-up is with its worker; a new round forgets that a repair began, and the file goes.
    bookie.engine.as_mut().unwrap().begin_reclaim();
    bookie.handle(Event::Reclaim(given_up(ledger(1, 0))));
    while bookie.run_one(Worker::Store) {}
    bookie.settle();
    let stored = bookie::Answer::Add(AddResult::Stored);
    assert_eq!(bookie.answers.get(&token.0), Some(&stored));
    let read = bookie.read(ledger(1, 0), 0, None);
    assert!(is_found(&read, &entry(ledger(1, 0), 0, SIZE)));
    bookie.power_loss(&Rng::seeded(2));
    bookie.open().unwrap();
    let read = bookie.read(ledger(1, 0), 0, None);
    assert!(is_found(&read, &entry(ledger(1, 0), 0, SIZE)));
}

#[test]
fn a_read_under_way_says_unknown_once_its_ledger_is_dropped() {
    let mut bookie = open();
    fill(&mut bookie, ledger(1, 0), 0..60);
    flush(&mut bookie);
    let read = bookie.ask(Ask::Read(types::storage::Read {
        ledger: ledger(1, 0),
        created: support::CREATED,
        entry: types::EntryId::new(0),
        fence: None,
    }));
    let run = bookie.ask(Ask::ReadRun(types::storage::ReadRun {
        ledger: ledger(1, 0),
        created: support::CREATED,
        first: types::EntryId::new(0),
        last: types::EntryId::new(9),
        max_bytes: u64::MAX,
        payload_limit: None,
    }));
    reclaim(&mut bookie, trimmed(1, 1));
    let unknown = bookie::Answer::Read(ReadResult::Unknown);
    assert_eq!(bookie.answers.get(&read.0), Some(&unknown));
    let unknown = bookie::Answer::ReadRun(vec![RunItem::Unknown]);
    assert_eq!(bookie.answers.get(&run.0), Some(&unknown));
}

#[test]
fn a_damaged_file_goes_when_nothing_in_it_is_live() {
    let mut bookie = open();
    for id in 0..40 {
        fill(&mut bookie, ledger(1, 0), id..id + 1);
        fill(&mut bookie, ledger(2, 0), id * 3..id * 3 + 3);
    }
    let files = bookie.disk.files();
    let data = files
        .iter()
        .find(|path| path.extension().is_some_and(|end| end == "data"));
    bookie
        .disk
        .flip(data.unwrap(), (64 + 32 + 48 + 10) * 8)
        .unwrap();
    // Its first block is of the ledger that stays: the rewrite finds it and leaves the file as it is.
    reclaim(&mut bookie, deleted(2));
    assert!(bookie.alarms > 0 && bookie.disk.contents(data.unwrap()).is_ok());
    assert_eq!(bookie.read(ledger(1, 0), 0, None), ReadResult::Unknown);
    reclaim(&mut bookie, deleted(1));
    assert!(bookie.disk.contents(data.unwrap()).is_err());
    assert_eq!(stats(&bookie).reclaimable_bytes, 0);
}

#[test]
fn damage_in_what_is_dropped_does_not_keep_a_file_from_being_rewritten() {
    let mut bookie = open();
    for id in 0..40 {
        fill(&mut bookie, ledger(1, 0), id * 3..id * 3 + 3);
        fill(&mut bookie, ledger(2, 0), id..id + 1);
    }
    let files = bookie.disk.files();
    let data = files
        .iter()
        .find(|path| path.extension().is_some_and(|end| end == "data"));
    bookie
        .disk
        .flip(data.unwrap(), (64 + 32 + 48 + 10) * 8)
        .unwrap();
    reclaim(&mut bookie, deleted(1));
    assert_eq!(bookie.alarms, 0);
    assert!(bookie.disk.contents(data.unwrap()).is_err());
    for id in 0..40 {
        let read = bookie.read(ledger(2, 0), id, None);
        assert!(is_found(&read, &entry(ledger(2, 0), id, SIZE)), "{id}");
    }
}

#[test]
fn what_is_dropped_is_left_out_of_a_replay_and_files_without_a_live_byte_go_at_the_start() {
    let mut bookie = open();
    fill(&mut bookie, ledger(1, 0), 0..60);
    bookie.handle(Event::Reclaim(deleted(1)));
    // The MANIFEST with the fact is durable, and then the machine stops: no file has gone.
    bookie.run_one(Worker::Store);
    bookie.power_loss(&Rng::seeded(2));
    bookie.open().unwrap();
    assert_eq!(stats(&bookie).memory_bytes, 0);
    assert_eq!(bookie.read(ledger(1, 0), 0, None), ReadResult::Unknown);
    bookie.tick();
    bookie.settle();
    assert_eq!(stats(&bookie).data_files, 0);
    assert!(!is_on_disk(&bookie, ledger(1, 0), 0));
}

#[test]
fn a_word_that_no_manifest_holds_is_forgotten_with_nothing_lost() {
    let mut bookie = open();
    fill(&mut bookie, ledger(1, 0), 0..60);
    bookie.handle(Event::Reclaim(deleted(1)));
    let at = bookie.disk.ops() + 1;
    bookie.disk.fail_at(at, Fault::PowerCut);
    bookie.run_one(Worker::Store);
    bookie.power_loss(&Rng::seeded(2));
    bookie.open().unwrap();
    for id in 0..60 {
        let read = bookie.read(ledger(1, 0), id, None);
        assert!(is_found(&read, &entry(ledger(1, 0), id, SIZE)), "{id}");
    }
}

#[test]
fn a_word_about_a_log_that_is_not_here_changes_nothing_for_others() {
    let mut bookie = open();
    fill(&mut bookie, ledger(1, 0), 0..60);
    let mut word = deleted(7);
    word.trimmed = vec![(LogId::new(8), LedgerSeq::new(4))];
    word.given_up = vec![ledger(1, 5)];
    reclaim(&mut bookie, word);
    assert_eq!(stats(&bookie).reclaimable_bytes, 0);
    for id in 0..60 {
        let read = bookie.read(ledger(1, 0), id, None);
        assert!(is_found(&read, &entry(ledger(1, 0), id, SIZE)), "{id}");
    }
    let newer = Add {
        created: Revision::new(2_000),
        ..add(ledger(8, 4), 0, SIZE, 1)
    };
    assert_eq!(bookie.added(newer), AddResult::Stored);
}

#[test]
fn usage_tells_every_byte_of_data_once_with_its_reason() {
    let mut config = config();
    config.rewrite_below = 0;
    config.merge_width = 64;
    let mut bookie = Bookie::new(SimDisk::new(1), config);
    bookie.open().unwrap();
    for id in 0..60 {
        for log in 1..5 {
            let ids = id * log..(id + 1) * log;
            fill(&mut bookie, ledger(log, 0), ids);
        }
    }
    let before = bookie.engine.as_ref().unwrap().usage(3);
    assert_eq!(before.data(), stats(&bookie).data_bytes);
    assert_eq!(before.data(), before.live);
    let logs: Vec<u64> = before.logs.iter().map(|(log, _)| log.get()).collect();
    assert_eq!(logs, [4, 3, 2], "those with the most bytes");

    let mut word = deleted(2);
    word.trimmed = vec![(LogId::new(1), LedgerSeq::new(1))];
    word.given_up = vec![ledger(4, 0)];
    bookie.engine.as_mut().unwrap().begin_reclaim();
    reclaim(&mut bookie, word);
    let after = bookie.engine.as_ref().unwrap().usage(9);
    assert_eq!(after.data(), stats(&bookie).data_bytes);
    assert!(after.trimmed > 0 && after.deleted > after.trimmed);
    assert!(after.given_up > after.live && after.live > after.deleted);
    let [(log, bytes)] = after.logs[..] else {
        panic!("{after:?}");
    };
    assert_eq!(log, LogId::new(3));
    // What rounding leaves of each of the others in each file.
    let rounding = after.live - bytes;
    assert!(rounding <= 3 * stats(&bookie).data_files, "{after:?}");
}
