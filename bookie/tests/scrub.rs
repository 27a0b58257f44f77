//! A scrub reads everything, finds every damaged block, and what it finds can be made good.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::PathBuf;

use bookie::{Answer, Ask, Event, Holdings, HoldingsResult, Reclaim, Scrub, ScrubResult};
use host::disk::sim::SimDisk;
use types::storage::{Add, AddKind, AddResult};
use types::{EntryId, LedgerId, LogId};

use support::{Bookie, add, config, entry, is_found, ledger};

/// Bytes of every payload here.
const SIZE: usize = 500;
/// Entries of each ledger here.
const COUNT: u64 = 120;

/// A bookie with two ledgers in several data files that are not merged.
fn filled() -> Bookie {
    let mut config = config();
    config.merge_width = 64;
    config.rewrite_below = 0;
    let mut bookie = Bookie::new(SimDisk::new(1), config);
    bookie.open().unwrap();
    for id in 0..COUNT {
        for log in 1..=2 {
            let stored = bookie.added(add(ledger(log, 0), id, SIZE, 1));
            assert_eq!(stored, AddResult::Stored);
        }
    }
    bookie
}

fn data_files(bookie: &Bookie) -> Vec<PathBuf> {
    let mut files = bookie.disk.files();
    files.retain(|path| path.extension().is_some_and(|end| end == "data"));
    files
}

/// Reads everything through; how many bytes that were.
fn pass(bookie: &mut Bookie) -> u64 {
    let mut read = 0;
    let mut at = Some(Scrub::default());
    while let Some(place) = at {
        match bookie.answer(Ask::Scrub(place)) {
            Some(Answer::Scrub(ScrubResult::Passed { bytes, next })) => {
                read += bytes;
                at = next;
            }
            other => panic!("{other:?}"),
        }
    }
    read
}

fn missing(bookie: &mut Bookie, ledger: LedgerId) -> Vec<(EntryId, EntryId)> {
    let last = EntryId::new(COUNT - 1);
    match bookie.answer(Ask::Holdings(Holdings { ledger, last })) {
        Some(Answer::Holdings(HoldingsResult::Missing(missing))) => missing,
        other => panic!("{other:?}"),
    }
}

/// Flips one bit in the first entry's payload of a data file.
fn damage(bookie: &Bookie, file: usize) {
    let path = &data_files(bookie)[file];
    bookie.disk.flip(path, (64 + 32 + 48 + 10) * 8).unwrap();
}

#[test]
fn a_pass_reads_every_block_once_and_finds_nothing_where_nothing_is_wrong() {
    let mut bookie = filled();
    let files = data_files(&bookie);
    assert!(files.len() > 2, "{files:?}");
    let read = pass(&mut bookie);
    let length = |path: &PathBuf| bookie.disk.contents(path).unwrap().len();
    let in_all: u64 = files.iter().map(|path| length(path) as u64).sum();
    assert!(read < in_all && read > in_all / 2, "{read} of {in_all}");
    assert_eq!(bookie.alarms, 0);
    assert_eq!(pass(&mut bookie), read);
}

#[test]
fn damage_that_no_read_has_met_is_found_and_made_good() {
    let mut bookie = filled();
    damage(&bookie, 0);
    damage(&bookie, 2);
    // By its runs the index says that everything is there.
    assert_eq!(missing(&mut bookie, ledger(1, 0)), []);
    pass(&mut bookie);
    assert_eq!(bookie.alarms, 2);
    let mut lost = 0;
    for ledger in [ledger(1, 0), ledger(2, 0)] {
        for (first, last) in missing(&mut bookie, ledger) {
            for id in first.get()..=last.get() {
                let repair = Add {
                    kind: AddKind::Repair,
                    ..add(ledger, id, SIZE, 1)
                };
                assert_eq!(bookie.added(repair), AddResult::Stored);
                lost += 1;
            }
        }
        assert_eq!(missing(&mut bookie, ledger), []);
    }
    assert!(lost > 0, "what is damaged is missed");
    for id in 0..COUNT {
        for log in 1..=2 {
            let read = bookie.read(ledger(log, 0), id, None);
            assert!(is_found(&read, &entry(ledger(log, 0), id, SIZE)), "{id}");
        }
    }
}

#[test]
fn a_restart_does_not_hide_damage_that_a_pass_finds() {
    let mut bookie = filled();
    damage(&bookie, 0);
    pass(&mut bookie);
    let before = missing(&mut bookie, ledger(1, 0));
    bookie.stop();
    bookie.open().unwrap();
    pass(&mut bookie);
    assert_eq!(missing(&mut bookie, ledger(1, 0)), before);
    assert!(!before.is_empty());
}

#[test]
fn damage_in_what_nobody_needs_raises_no_alarm() {
    let mut bookie = filled();
    damage(&bookie, 0);
    bookie.handle(Event::Reclaim(Reclaim {
        deleted: vec![LogId::new(1), LogId::new(2)],
        ..Reclaim::default()
    }));
    pass(&mut bookie);
    bookie.settle();
    assert_eq!(bookie.alarms, 0);
}
