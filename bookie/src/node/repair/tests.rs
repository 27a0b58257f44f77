//! The decisions, without a network.

use std::time::Duration;

use bytes::Bytes;
use types::chain::{LedgerRecord, LedgerState, Verified};
use types::cluster::{BookieDuty, BookieRecord, BookieState};
use types::storage::{Entry, RunItem};
use types::{
    BookieId, ByteSize, EntryId, Incarnation, LedgerId, LedgerSeq, LogId, MonoTime, Offset,
    Payload, Quorum, Revision, SessionId,
};

use super::core::{Fetch, Next, Pace, Setbacks};
use super::{RepairConfig, RepairConfigError};

const OWN: BookieId = BookieId::new(1);

fn ledger(seq: u32) -> LedgerId {
    LedgerId::new(LogId::new(1), LedgerSeq::new(seq))
}

fn id(id: u64) -> EntryId {
    EntryId::new(id)
}

fn record() -> LedgerRecord {
    let last = Some(id(9));
    LedgerRecord {
        id: ledger(0),
        created: Revision::new(5),
        ensemble: vec![OWN, BookieId::new(2), BookieId::new(3)],
        quorum: Quorum::THREE_TWO,
        state: LedgerState::Closed {
            last,
            complete: false,
        },
        verified: vec![Verified {
            bookie: BookieId::new(3),
            born: Revision::new(1),
        }],
        moving: None,
    }
}

fn bookie(number: u64, live: bool) -> BookieRecord {
    BookieRecord {
        zone: None,
        id: BookieId::new(number),
        name: format!("b{number}").parse().unwrap(),
        address: format!("b{number}:1"),
        born: Revision::new(1),
        incarnation: Incarnation::new(1),
        mark: 0,
        state: BookieState::ReadWrite,
        duty: BookieDuty::Active,
        session: SessionId::new(number),
        live,
    }
}

fn fetch(missing: &[(u64, u64)], live: [bool; 2]) -> Fetch {
    let bookies = [bookie(1, true), bookie(2, live[0]), bookie(3, live[1])];
    let missing = missing.iter().map(|(first, last)| (id(*first), id(*last)));
    Fetch::new(&record(), OWN, &bookies, missing.collect())
}

fn entry(number: u64) -> Entry {
    let payload = Payload::whole(Bytes::from_static(b"x"));
    Entry::new(ledger(0), id(number), Offset::new(number + 1), payload)
}

fn items(range: std::ops::RangeInclusive<u64>) -> Vec<RunItem> {
    range.map(|number| RunItem::Entry(entry(number))).collect()
}

/// Whom it asks next, and for which entries.
fn asks(fetch: &Fetch) -> (u64, u64, u64) {
    match fetch.next() {
        Next::Read { from, run } => (from.get(), run.first.get(), run.last.get()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn missing_entries_come_run_by_run_from_the_bookie_known_to_be_whole() {
    let mut fetch = fetch(&[(2, 4), (8, 9)], [true, true]);
    assert_eq!(asks(&fetch), (3, 2, 4));
    assert_eq!(fetch.came(BookieId::new(3), Some(items(2..=3))).len(), 2);
    assert_eq!(asks(&fetch), (3, 4, 4));
    assert_eq!(fetch.came(BookieId::new(3), Some(items(4..=4))).len(), 1);
    assert_eq!(asks(&fetch), (3, 8, 9));
    assert_eq!(fetch.came(BookieId::new(3), Some(items(8..=9))).len(), 2);
    assert_eq!(fetch.next(), Next::Done);
}

#[test]
fn what_one_does_not_have_is_asked_of_the_next_and_then_of_all_again() {
    let mut fetch = fetch(&[(0, 2)], [true, true]);
    let none = vec![RunItem::NeverHad];
    assert!(fetch.came(BookieId::new(3), Some(none)).is_empty());
    assert_eq!(asks(&fetch), (2, 0, 2));
    let mut some = items(0..=0);
    some.push(RunItem::Unknown);
    assert_eq!(fetch.came(BookieId::new(2), Some(some)), [entry(0)]);
    assert_eq!(asks(&fetch), (3, 1, 2));
}

#[test]
fn bookies_that_are_away_are_asked_last() {
    assert_eq!(asks(&fetch(&[(0, 0)], [true, false])).0, 2);
    assert_eq!(asks(&fetch(&[(0, 0)], [false, false])).0, 3);
}

#[test]
fn entry_is_nowhere_only_when_all_who_are_there_said_so() {
    let failed = |live, answers: [Option<Vec<RunItem>>; 2]| {
        let mut fetch = fetch(&[(7, 9)], live);
        for answer in answers {
            let from = BookieId::new(asks(&fetch).0);
            fetch.came(from, answer);
        }
        match fetch.next() {
            Next::Failed { entry, is_nowhere } => (entry.get(), is_nowhere),
            other => panic!("{other:?}"),
        }
    };
    let no = || Some(vec![RunItem::Unknown]);
    let busy = Some(vec![RunItem::Busy]);
    assert_eq!(failed([true, true], [no(), no()]), (7, true));
    assert_eq!(failed([true, true], [None, no()]), (7, false));
    assert_eq!(failed([true, true], [busy, no()]), (7, false));
    assert_eq!(failed([false, true], [no(), None]), (7, true));
}

#[test]
fn entries_that_were_not_asked_for_are_not_stored() {
    let mut fetch = fetch(&[(2, 4)], [true, true]);
    assert_eq!(fetch.came(BookieId::new(3), Some(items(3..=4))), []);
    assert_eq!(fetch.came(BookieId::new(2), Some(items(2..=6))).len(), 3);
    assert_eq!(fetch.next(), Next::Done);
}

#[test]
fn repair_keeps_to_its_rate_and_saves_nothing_up() {
    let mut pace = Pace::new(ByteSize::mib(1));
    let at = |seconds| MonoTime::ZERO.after(Duration::from_secs(seconds));
    assert_eq!(pace.passed(at(10), 1 << 20), Duration::from_secs(1));
    assert_eq!(pace.passed(at(10), 2 << 20), Duration::from_secs(3));
    assert_eq!(pace.passed(at(60), 1 << 19), Duration::from_millis(500));
    assert_eq!(pace.passed(at(60), 0), Duration::from_millis(500));
}

#[test]
fn what_fails_again_waits_longer_and_is_told_once() {
    let mut setbacks = Setbacks::default();
    let mut now = MonoTime::ZERO;
    let mut waits = Vec::new();
    for round in 0..8 {
        let is_news = setbacks.failed(now, ledger(0), true);
        assert_eq!(is_news, round == 0);
        assert_eq!(setbacks.stuck(now), [ledger(0)]);
        let begun = now;
        while setbacks.is_waiting(now, ledger(0)) {
            now = now.after(Duration::from_secs(1));
        }
        assert_eq!(setbacks.stuck(now), [], "its turn has come");
        waits.push(now.since(begun).as_secs());
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
    setbacks.over(ledger(0));
    assert!(setbacks.failed(now, ledger(0), true), "news again");
}

#[test]
fn what_may_pass_soon_is_not_called_stuck() {
    let mut setbacks = Setbacks::default();
    assert!(!setbacks.failed(MonoTime::ZERO, ledger(0), false));
    assert!(setbacks.is_waiting(MonoTime::ZERO, ledger(0)));
    assert_eq!(setbacks.stuck(MonoTime::ZERO), []);
}

#[test]
fn ledgers_that_wait_take_no_others_turn() {
    let mut setbacks = Setbacks::default();
    let now = MonoTime::ZERO;
    for seq in 0..40 {
        setbacks.failed(now, ledger(seq), seq % 4 == 0);
    }
    let stuck = setbacks.stuck(now);
    assert_eq!(stuck.len(), 10);
    // Meta gives what is due in its order, without what is stuck.
    let given = (0..100).map(ledger).filter(|id| !stuck.contains(id));
    let given = given.take(setbacks.limit(now, 16, &stuck));
    let tried = given.filter(|id| !setbacks.is_waiting(now, *id));
    assert_eq!(
        tried.collect::<Vec<_>>(),
        (40..56).map(ledger).collect::<Vec<_>>()
    );
}

#[test]
fn numbers_that_cannot_be_name_their_flag() {
    let good = RepairConfig::default();
    assert_eq!(good.validate(), Ok(()));
    let interval = Duration::from_millis(99);
    let slow = RepairConfig {
        rate: ByteSize::new(1),
        ..good.clone()
    };
    assert_eq!(slow.validate(), Err(RepairConfigError::Rate));
    let hasty = RepairConfig { interval, ..good };
    assert_eq!(hasty.validate(), Err(RepairConfigError::Interval));
}
