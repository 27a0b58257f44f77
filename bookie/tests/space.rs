//! What a bookie does on a disk that is full, or nearly.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;

use bookie::{Ask, Config, Event, Reclaim, Standing, Stats};
use host::disk::Disk;
use host::disk::sim::SimDisk;
use types::storage::{Add, AddKind, AddResult};
use types::{ByteSize, LedgerId, LogId};

use support::{Bookie, add, config, ledger};

/// Bytes of every payload here.
const SIZE: usize = 500;

/// Adds entries of a ledger; what does not fit the memtable goes to data files.
fn fill(bookie: &mut Bookie, ledger: LedgerId, ids: std::ops::Range<u64>) {
    for id in ids {
        assert_eq!(bookie.added(add(ledger, id, SIZE, 1)), AddResult::Stored);
    }
}

/// Lets so many looks at free space pass.
fn wait(bookie: &mut Bookie, looks: usize) {
    for _ in 0..looks {
        bookie.now += 2_000_000_000;
        bookie.tick();
        bookie.settle();
    }
}

fn delete(bookie: &mut Bookie, log: u64) {
    bookie.handle(Event::Reclaim(Reclaim {
        deleted: vec![LogId::new(log)],
        ..Reclaim::default()
    }));
    bookie.settle();
    assert_eq!(bookie.fatal, None);
}

fn stats(bookie: &Bookie) -> Stats {
    bookie.engine.as_ref().unwrap().stats()
}

fn free(bookie: &Bookie) -> u64 {
    bookie.disk.space(Path::new("data")).unwrap().free_bytes
}

fn recovery(id: u64) -> Add {
    Add {
        kind: AddKind::Recovery,
        ..add(ledger(1, 1), id, SIZE, 2)
    }
}

/// A bookie whose disk is as full as it may be before it refuses writers, most of it with one ledger.
fn nearly_full() -> (Bookie, Config) {
    nearly_full_of(1 << 20)
}

fn nearly_full_of(capacity: u64) -> (Bookie, Config) {
    let mut config = config();
    config.free_low = ByteSize::kib(128);
    let mut bookie = Bookie::new(SimDisk::new(1), config.clone());
    bookie.open().unwrap();
    bookie.disk.set_capacity(Some(capacity));
    let mut id = 0;
    while bookie.engine.as_ref().unwrap().standing() == Standing::ReadWrite {
        assert_eq!(
            bookie.added(add(ledger(1, 0), id, SIZE, 1)),
            AddResult::Stored
        );
        id += 1;
        if id % 8 == 0 {
            wait(&mut bookie, 1);
        }
        assert!(id < 5_000, "never full");
    }
    (bookie, config)
}

#[test]
fn a_read_only_bookie_takes_writes_again_by_itself_after_a_deletion() {
    let (mut bookie, _) = nearly_full();
    let late = bookie.added(add(ledger(2, 0), 0, SIZE, 1));
    assert_eq!(late, AddResult::ReadOnly);
    delete(&mut bookie, 1);
    wait(&mut bookie, 3);
    assert_eq!(bookie.standings.last(), Some(&Standing::ReadWrite));
    assert_eq!(
        bookie.added(add(ledger(2, 0), 0, SIZE, 1)),
        AddResult::Stored
    );
}

#[test]
fn recovery_that_filled_the_disk_is_undone_by_a_deletion() {
    let (mut bookie, _) = nearly_full();
    // Recovery goes on in the reserve until even that is used up.
    for id in 0..2_000 {
        bookie.ask(Ask::Add(recovery(id)));
        bookie.settle();
    }
    assert_eq!(bookie.fatal, None);
    let busy = bookie::Answer::Add(AddResult::Busy);
    let refused = bookie.answers.values().filter(|answer| **answer == busy);
    assert!(refused.count() > 0, "neither memtable nor disk took more");
    delete(&mut bookie, 1);
    wait(&mut bookie, 6);
    assert_eq!(bookie.standings.last(), Some(&Standing::ReadWrite));
    assert_eq!(
        bookie.added(add(ledger(2, 0), 0, SIZE, 1)),
        AddResult::Stored
    );
}

#[test]
fn neither_a_flush_nor_a_journal_file_takes_the_last_bytes_even_for_a_moment() {
    // The sizes of files differ by whole blocks: with one of these, what would just fit leaves next to nothing.
    for more in 0..16 {
        keeps_its_last_bytes((1 << 20) + more * 4096);
    }
}

fn keeps_its_last_bytes(capacity: u64) {
    let (mut bookie, config) = nearly_full_of(capacity);
    // A process that holds every role has its metadata on the same disk, and fails for good when that cannot be written.
    let kept = config.free_low.get() / 16;
    for id in 0..1_000 {
        bookie.ask(Ask::Add(recovery(id)));
        while let Some(worker) = bookie.busy().first() {
            bookie.run_one(*worker);
            // A MANIFEST is the one file that may use them: it is what gives bytes back.
            assert!(free(&bookie) > kept / 2, "{} bytes free", free(&bookie));
        }
        if id % 100 == 0 {
            bookie.now += 2_000_000_000;
            bookie.handle(Event::Deadline);
        }
    }
    assert_eq!(bookie.fatal, None);
    let busy = bookie::Answer::Add(AddResult::Busy);
    assert!(bookie.answers.values().any(|answer| *answer == busy));
}

#[test]
fn a_rewrite_waits_for_room_that_flushes_and_the_journal_do_not_need() {
    let mut bookie = Bookie::new(SimDisk::new(1), config());
    bookie.open().unwrap();
    for id in 0..60 {
        fill(&mut bookie, ledger(1, 0), id..id + 1);
        fill(&mut bookie, ledger(2, 0), id * 3..id * 3 + 3);
    }
    // The copy of a file would fit, and leave less than a memtable.
    let plenty = 1 << 30;
    bookie.disk.set_capacity(Some(plenty));
    let room = bookie.config.memtable.get() + 2_000;
    let used = plenty - free(&bookie);
    bookie.disk.set_capacity(Some(used + room));
    wait(&mut bookie, 1);
    assert_eq!(stats(&bookie).free_bytes, room);
    delete(&mut bookie, 2);
    assert_eq!(stats(&bookie).files_rewritten, 0);
    assert!(stats(&bookie).reclaimable_bytes > 0);
    bookie.disk.set_capacity(None);
    wait(&mut bookie, 3);
    assert!(stats(&bookie).files_rewritten > 0);
}
