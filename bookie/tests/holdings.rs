//! What a bookie says it lacks of a ledger is what it lacks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeSet;

use bookie::{Answer, Ask, Event, Holdings, HoldingsResult, Reclaim, Worker};
use host::Rng;
use host::disk::sim::SimDisk;
use types::EntryId;
use types::storage::{AddResult, ReadResult};

use support::{Bookie, add, config, ledger};

fn open() -> Bookie {
    let mut bookie = Bookie::new(SimDisk::new(1), config());
    bookie.open().unwrap();
    bookie
}

fn ask(last: u64) -> Ask {
    Ask::Holdings(Holdings {
        ledger: ledger(1, 0),
        last: EntryId::new(last),
    })
}

/// The ids that it lacks.
fn missing(answer: Option<Answer>) -> Vec<u64> {
    match answer {
        Some(Answer::Holdings(HoldingsResult::Missing(runs))) => runs
            .into_iter()
            .flat_map(|(first, last)| first.get()..=last.get())
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn store(bookie: &mut Bookie, id: u64) {
    let result = bookie.added(add(ledger(1, 0), id, 500, 1));
    assert_eq!(result, AddResult::Stored);
}

#[test]
fn entry_is_held_only_when_the_journal_has_synced_it() {
    let mut bookie = open();
    bookie.ask(Ask::Add(add(ledger(1, 0), 0, 100, 1)));
    let token = bookie.ask(ask(0));
    assert_eq!(missing(bookie.answers.remove(&token.0)), [0]);
    bookie.settle();
    assert_eq!(missing(bookie.answer(ask(0))), []);
}

#[test]
fn ledger_without_gaps_is_told_without_reading() {
    let mut bookie = open();
    for id in 0..400 {
        store(&mut bookie, id);
    }
    let stats = bookie.engine.as_ref().unwrap().stats();
    assert!(stats.data_files > 0, "most lies in files");
    let token = bookie.ask(ask(399));
    assert!(bookie.busy().is_empty(), "no job");
    assert_eq!(missing(bookie.answers.remove(&token.0)), []);
    assert_eq!(missing(bookie.answer(ask(402))), [400, 401, 402]);
}

#[test]
fn every_gap_is_told_wherever_it_lies() {
    for seed in 0..20 {
        let rng = Rng::seeded(seed);
        let mut bookie = open();
        let mut held = BTreeSet::new();
        for id in 0..400 {
            // Another ledger's entries lie between.
            bookie.added(add(ledger(1, 1), id, 50, 1));
            if rng.below(100) > seed {
                held.insert(id);
            }
        }
        // Late ones, as of a straggler.
        let mut order: Vec<u64> = held.iter().copied().collect();
        order.sort_by_key(|id| id / 50 + 3 * u64::from(id % 7 == 0));
        for id in order {
            let mut late = add(ledger(1, 0), id, 500, 1);
            late.kind = types::storage::AddKind::Repair;
            assert_eq!(bookie.added(late), AddResult::Stored);
        }
        let last = 300 + rng.below(200);
        let wanted: Vec<u64> = (0..=last).filter(|id| !held.contains(id)).collect();
        assert_eq!(missing(bookie.answer(ask(last))), wanted, "seed {seed}");
        bookie.kill();
        bookie.open().unwrap();
        assert_eq!(missing(bookie.answer(ask(last))), wanted, "seed {seed}");
    }
}

fn given_up() -> Event {
    Event::Reclaim(Reclaim {
        given_up: vec![ledger(1, 0)],
        ..Reclaim::default()
    })
}

#[test]
fn a_copy_that_is_told_whole_is_not_given_up_by_an_older_word() {
    let mut bookie = open();
    for id in 0..400 {
        store(&mut bookie, id);
    }
    let held = bookie.engine.as_mut().unwrap().begin_reclaim();
    assert!(held.contains(&ledger(1, 0)), "meta is asked about it");
    // Meanwhile repair finds the copy whole and says so: meta names this bookie from then on.
    assert_eq!(missing(bookie.answer(ask(399))), []);
    bookie.handle(given_up());
    bookie.settle();
    assert_eq!(missing(bookie.answer(ask(399))), []);
    let found = bookie.read(ledger(1, 0), 7, None);
    assert!(matches!(found, ReadResult::Found { .. }), "{found:?}");
}

#[test]
fn a_ledger_that_was_given_up_is_held_again_once_repair_asks_for_it() {
    let mut bookie = open();
    for id in 0..400 {
        store(&mut bookie, id);
    }
    bookie.handle(given_up());
    // Its bytes are on their way out. What is told as held from here on stays.
    let told = missing(bookie.answer(ask(399)));
    bookie.settle();
    for id in told {
        let mut copy = add(ledger(1, 0), id, 500, 1);
        copy.kind = types::storage::AddKind::Repair;
        assert_eq!(bookie.added(copy), AddResult::Stored);
    }
    assert_eq!(missing(bookie.answer(ask(399))), []);
    bookie.settle();
    for id in 0..400 {
        let found = bookie.read(ledger(1, 0), id, None);
        assert!(matches!(found, ReadResult::Found { .. }), "{id}: {found:?}");
    }
}

#[test]
fn nothing_is_held_of_a_trimmed_ledger() {
    let mut bookie = open();
    store(&mut bookie, 0);
    bookie.handle(Event::Reclaim(Reclaim {
        trimmed: vec![(ledger(1, 0).log(), types::LedgerSeq::new(1))],
        ..Reclaim::default()
    }));
    assert_eq!(missing(bookie.answer(ask(1))), [0, 1]);
}

#[test]
fn too_many_questions_at_once_are_put_off() {
    let mut bookie = open();
    // Every other entry: each question has to read.
    for id in 0..400 {
        store(&mut bookie, id * 2);
    }
    let tokens: Vec<_> = (0..1000).map(|_| bookie.ask(ask(700))).collect();
    let is_busy = |answer: &Answer| *answer == Answer::Holdings(HoldingsResult::Busy);
    let busy = tokens
        .iter()
        .filter(|token| bookie.answers.get(&token.0).is_some_and(is_busy))
        .count();
    assert!(busy > 0);
    let waiting = bookie.queues[&Worker::Read(bookie::Lane::CatchUp)].len();
    assert!(waiting <= 128, "{waiting}");
}
