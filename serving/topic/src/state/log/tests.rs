use types::{EntryId, LedgerSeq, LogId};

use super::*;
use crate::state::{Folded, SnapshotFinder};

const NOW: MonoTime = MonoTime::ZERO;

fn config() -> Config {
    Config {
        state_entry_bytes: types::ByteSize::kib(64),
        ..Config::default()
    }
}

fn key() -> CursorKey {
    CursorKey {
        subscription: SubscriptionId::new(1),
        generation: types::Generation::new(1),
    }
}

/// A cursor so full of holes that a snapshot takes several entries.
fn holes() -> AckSet {
    let mut cursor = AckSet::new(Offset::new(3));
    for hole in 0..100_000 {
        cursor.insert(OffsetRange::of(1_000 * hole + 10, 1_000 * hole + 20));
    }
    cursor
}

fn write(log: &mut StateLog, cursor: &AckSet) -> Vec<(Token, Bytes)> {
    let table = ProducerTable::default();
    let source = || SnapshotSource {
        cursors: std::iter::once((key(), cursor)),
        table: &table,
    };
    let mut effects = Vec::new();
    log.write(&config(), NOW, false, source, &mut effects);
    let entries = effects.into_iter().map(|effect| match effect {
        Effect::Append(append) => (append.token, append.payload.to_bytes()),
        other => panic!("{other:?}"),
    });
    entries.collect()
}

fn position(seq: u32, entry: u64) -> Position {
    Position {
        ledger: LedgerId::new(LogId::new(1), LedgerSeq::new(seq)),
        entry: EntryId::new(entry),
    }
}

fn confirm(log: &mut StateLog, entries: &[(Token, Bytes)], seq: u32) -> usize {
    let answers = entries
        .iter()
        .map(|(token, _)| log.appended(*token, position(seq, token.get())));
    answers.map(|waiters| waiters.len()).sum()
}

fn kind(entry: &Bytes) -> Kind {
    format::read_kind(&mut crate::codec::Reader::new(entry)).unwrap()
}

fn touch(log: &mut StateLog) {
    log.add_acked(key(), OffsetRange::of(3, 4), NOW);
}

#[test]
fn the_first_write_is_a_snapshot_and_the_next_ones_are_not() {
    let mut log = StateLog::new(Offset::new(0), None);
    log.add_cursor(key(), Offset::new(3));
    let cursor = AckSet::new(Offset::new(3));
    let first = write(&mut log, &cursor);
    assert!(matches!(kind(&first[0].1), Kind::Snapshot(part) if part.is_last));
    assert_eq!(confirm(&mut log, &first, 0), 1);
    touch(&mut log);
    let second = write(&mut log, &cursor);
    assert_eq!(kind(&second[0].1), Kind::Delta);
    assert_eq!(confirm(&mut log, &second, 0), 0);
}

#[test]
fn the_first_write_after_a_roll_is_a_snapshot() {
    for is_told in [true, false] {
        let mut log = StateLog::new(Offset::new(0), None);
        let cursor = AckSet::new(Offset::new(3));
        touch(&mut log);
        let first = write(&mut log, &cursor);
        confirm(&mut log, &first, 0);
        if is_told {
            log.ledger_started(position(1, 0).ledger);
        } else {
            // It hears of the roll with a write that landed beyond it.
            touch(&mut log);
            let landed = write(&mut log, &cursor);
            assert_eq!(kind(&landed[0].1), Kind::Delta);
            confirm(&mut log, &landed, 1);
        }
        touch(&mut log);
        let next = write(&mut log, &cursor);
        assert!(matches!(kind(&next[0].1), Kind::Snapshot(_)));
    }
}

#[test]
fn a_large_snapshot_comes_in_parts_and_counts_once_it_is_whole() {
    let mut log = StateLog::new(Offset::new(0), None);
    touch(&mut log);
    let cursor = holes();
    let parts = write(&mut log, &cursor);
    assert!(parts.len() > 3);
    let (mut folded, mut finder) = (Folded::default(), SnapshotFinder::default());
    let (last, before) = parts.split_last().unwrap();
    for (_, part) in before {
        folded.feed(part).unwrap();
        assert!(!finder.feed(&part[..SnapshotFinder::PREFIX_LEN]).unwrap());
        assert!(folded.state().cursors.is_empty());
    }
    folded.feed(&last.1).unwrap();
    assert!(finder.feed(&last.1).unwrap());
    assert_eq!(folded.into_state().cursors[&key()], cursor);
}

#[test]
fn a_snapshot_without_its_beginning_or_with_a_gap_counts_for_nothing() {
    let mut log = StateLog::new(Offset::new(0), None);
    touch(&mut log);
    let parts = write(&mut log, &holes());
    for missing in [0, 1, parts.len() - 1] {
        let (mut folded, mut finder) = (Folded::default(), SnapshotFinder::default());
        for (at, (_, part)) in parts.iter().enumerate() {
            if at != missing {
                folded.feed(part).unwrap();
                assert!(!finder.feed(part).unwrap());
            }
        }
        assert!(folded.into_state().cursors.is_empty());
    }
}

#[test]
fn a_snapshot_that_a_roll_cut_in_two_is_written_again() {
    let mut log = StateLog::new(Offset::new(0), None);
    touch(&mut log);
    let cursor = holes();
    let parts = write(&mut log, &cursor);
    let (first, rest) = parts.split_first().unwrap();
    confirm(&mut log, std::slice::from_ref(first), 0);
    confirm(&mut log, rest, 1);
    touch(&mut log);
    let again = write(&mut log, &cursor);
    assert!(matches!(kind(&again[0].1), Kind::Snapshot(_)));
    confirm(&mut log, &again, 1);
    touch(&mut log);
    assert_eq!(kind(&write(&mut log, &cursor)[0].1), Kind::Delta);
}

#[test]
fn a_large_delta_is_answered_when_all_of_it_is_durable() {
    let mut log = StateLog::new(Offset::new(0), None);
    let cursor = AckSet::new(Offset::new(3));
    touch(&mut log);
    let first = write(&mut log, &cursor);
    confirm(&mut log, &first, 0);
    for range in holes().above().iter() {
        log.add_acked(key(), range, NOW);
    }
    assert_eq!(log.wait(Waiter::Producer(StreamId::new(1))), None);
    let entries = write(&mut log, &cursor);
    assert!(entries.len() > 3);
    let (last, before) = entries.split_last().unwrap();
    assert_eq!(confirm(&mut log, before, 0), 0);
    assert_eq!(confirm(&mut log, std::slice::from_ref(last), 0), 1);
    let mut folded = Folded::default();
    for (_, entry) in first.iter().chain(&entries) {
        folded.feed(entry).unwrap();
    }
    let state = folded.into_state();
    assert_eq!(
        (state.cursors[&key()].above().count(), state.dangling),
        (1_000_000, 0)
    );
}

#[test]
fn who_waits_for_nothing_is_answered_at_once() {
    let mut log = StateLog::new(Offset::new(0), None);
    let waiter = Waiter::Producer(StreamId::new(1));
    assert_eq!(log.wait(waiter.clone()), Some(waiter.clone()));
    touch(&mut log);
    assert_eq!(log.wait(waiter.clone()), None);
    let entries = write(&mut log, &AckSet::new(Offset::new(3)));
    // Nothing new, but what is in flight may be what it asks about.
    assert_eq!(log.wait(waiter), None);
    assert_eq!(confirm(&mut log, &entries, 0), 2);
}

#[test]
fn a_snapshot_that_a_roll_cut_in_two_frees_no_older_ledger() {
    let mut log = StateLog::new(Offset::new(0), None);
    touch(&mut log);
    let cursor = AckSet::new(Offset::new(3));
    let whole = write(&mut log, &cursor);
    confirm(&mut log, &whole, 0);
    let ledger = |seq| Some(position(seq, 0).ledger);
    assert_eq!(log.needed_from(), None, "its end is not final");
    log.ledger_started(position(1, 0).ledger);
    touch(&mut log);
    let parts = write(&mut log, &holes());
    let (first, rest) = parts.split_at(1);
    confirm(&mut log, first, 1);
    confirm(&mut log, rest, 2);
    assert_eq!(log.needed_from(), ledger(0), "no ledger has all of it");
    touch(&mut log);
    let next = write(&mut log, &cursor);
    assert!(matches!(kind(&next[0].1), Kind::Snapshot(_)));
    confirm(&mut log, &next, 2);
    assert_eq!(log.needed_from(), ledger(0), "the one that has it is open");
    log.ledger_started(position(3, 0).ledger);
    assert_eq!(log.needed_from(), ledger(2));
}
