use std::time::Duration;

use types::{LedgerSeq, LogId, Payload};

use super::*;

const LEDGER: LedgerId = LedgerId::new(LogId::new(1), LedgerSeq::new(0));

fn entry(id: u64) -> Entry {
    let payload = Payload::whole(Bytes::from_static(b"12345678"));
    Entry::new(LEDGER, EntryId::new(id), Offset::new(id + 1), payload)
}

fn reader(last: u64, max_bytes: u64) -> Reader {
    Reader::new(RunPlan {
        ledger: LEDGER,
        created: Revision::new(1),
        ensemble: (1..=3).map(BookieId::new).collect(),
        first: EntryId::new(0),
        last: EntryId::new(last),
        max_bytes,
        payload_limit: None,
        speculate_after: Duration::from_millis(10),
        retry_after: Duration::from_millis(100),
    })
}

/// Plays events and tells the effects in short.
fn play(reader: &mut Reader, at_ms: u64, event: ReaderEvent) -> Vec<String> {
    let mut effects = Vec::new();
    reader.handle(MonoTime::from_nanos(at_ms * 1_000_000), event, &mut effects);
    let told = effects.iter().map(|effect| match effect {
        ReaderEffect::Ask {
            attempt,
            bookie,
            run,
        } => format!("ask {attempt} {bookie} {}", run.first),
        ReaderEffect::Cancel { attempt } => format!("cancel {attempt}"),
        ReaderEffect::Slow { bookie } => format!("slow {bookie}"),
        ReaderEffect::Entry(entry) => format!("entry {}", entry.id),
        ReaderEffect::Prefix { id, .. } => format!("prefix {id}"),
        ReaderEffect::Done => "done".to_owned(),
        ReaderEffect::Lost { entry } => format!("lost {entry}"),
    });
    told.collect()
}

fn item(attempt: u32, item: RunItem) -> ReaderEvent {
    ReaderEvent::Item { attempt, item }
}

#[test]
fn a_run_comes_from_one_bookie_when_all_is_well() {
    let mut reader = reader(1, 1000);
    assert_eq!(play(&mut reader, 0, ReaderEvent::Start), ["ask 0 b1 e0"]);
    assert_eq!(
        play(&mut reader, 1, item(0, RunItem::Entry(entry(0)))),
        ["entry e0"]
    );
    assert_eq!(
        play(&mut reader, 2, item(0, RunItem::Entry(entry(1)))),
        ["entry e1", "cancel 0", "done"]
    );
    assert_eq!(reader.deadline(), None);
}

#[test]
fn the_next_bookie_goes_on_where_one_fails() {
    let mut reader = reader(2, 1000);
    play(&mut reader, 0, ReaderEvent::Start);
    play(&mut reader, 1, item(0, RunItem::Entry(entry(0))));
    let mut damaged = entry(1);
    damaged.next_offset = Offset::new(77);
    assert_eq!(
        play(&mut reader, 2, item(0, RunItem::Entry(damaged))),
        ["cancel 0", "ask 1 b2 e1"]
    );
    assert_eq!(
        play(&mut reader, 3, item(1, RunItem::Unknown)),
        ["cancel 1", "ask 2 b3 e1"]
    );
    assert_eq!(
        play(&mut reader, 4, item(2, RunItem::Entry(entry(1)))),
        ["entry e1"]
    );
    assert_eq!(
        play(&mut reader, 5, item(2, RunItem::NeverHad)),
        ["cancel 2", "ask 3 b1 e2"],
        "a bookie that lacked one entry may have the next"
    );
}

#[test]
fn an_entry_is_lost_only_when_every_bookie_says_so() {
    let mut reader = reader(0, 1000);
    play(&mut reader, 0, ReaderEvent::Start);
    play(&mut reader, 1, item(0, RunItem::Unknown));
    assert_eq!(
        play(&mut reader, 2, ReaderEvent::Broken { attempt: 1 }),
        ["ask 2 b3 e0"]
    );
    assert_eq!(
        play(&mut reader, 3, item(2, RunItem::NeverHad)),
        ["cancel 2"]
    );
    assert_eq!(
        play(&mut reader, 200, ReaderEvent::Deadline),
        ["ask 3 b2 e0"],
        "the one that broke off may still have it"
    );
    assert_eq!(
        play(&mut reader, 201, item(3, RunItem::NeverHad)),
        ["cancel 3", "lost e0"]
    );
}

#[test]
fn a_slow_bookie_is_raced_by_a_second_one_and_each_entry_comes_once() {
    let mut reader = reader(1, 1000);
    play(&mut reader, 0, ReaderEvent::Start);
    assert_eq!(play(&mut reader, 5, ReaderEvent::Deadline), [""; 0]);
    assert_eq!(
        play(&mut reader, 10, ReaderEvent::Deadline),
        ["slow b1", "ask 1 b2 e0"]
    );
    assert_eq!(
        play(&mut reader, 11, item(1, RunItem::Entry(entry(0)))),
        ["entry e0"]
    );
    assert_eq!(
        play(&mut reader, 12, item(0, RunItem::Entry(entry(0)))),
        [""; 0]
    );
    assert_eq!(
        play(&mut reader, 13, item(0, RunItem::Entry(entry(1)))),
        ["entry e1", "cancel 0", "cancel 1", "done"]
    );
    assert_eq!(
        play(&mut reader, 14, item(1, RunItem::Entry(entry(1)))),
        [""; 0]
    );
}

#[test]
fn a_run_ends_at_its_byte_limit() {
    let mut limited = reader(9, 16);
    play(&mut limited, 0, ReaderEvent::Start);
    play(&mut limited, 1, item(0, RunItem::Entry(entry(0))));
    assert_eq!(
        play(&mut limited, 2, item(0, RunItem::Entry(entry(1)))),
        ["entry e1", "cancel 0", "done"]
    );
    let mut cut = reader(9, 12);
    play(&mut cut, 0, ReaderEvent::Start);
    play(&mut cut, 1, item(0, RunItem::Entry(entry(0))));
    assert_eq!(
        play(&mut cut, 2, ReaderEvent::Ended { attempt: 0 }),
        ["done"],
        "the bookie stopped before an entry that would pass the limit"
    );
}

#[test]
fn a_run_ends_where_the_quicker_bookie_stops_though_the_slow_one_is_still_silent() {
    let mut reader = reader(9, 12);
    play(&mut reader, 0, ReaderEvent::Start);
    play(&mut reader, 10, ReaderEvent::Deadline);
    play(&mut reader, 11, item(1, RunItem::Entry(entry(0))));
    assert_eq!(
        play(&mut reader, 12, ReaderEvent::Ended { attempt: 1 }),
        ["cancel 0", "done"]
    );
}

#[test]
fn a_bookie_that_gave_nothing_does_not_end_what_another_one_gives() {
    let mut reader = reader(9, 100);
    play(&mut reader, 0, ReaderEvent::Start);
    play(&mut reader, 1, item(0, RunItem::Entry(entry(0))));
    play(&mut reader, 11, ReaderEvent::Deadline);
    assert_eq!(
        play(&mut reader, 12, ReaderEvent::Ended { attempt: 1 }),
        ["ask 2 b3 e1"],
        "the first one may go on"
    );
}

#[test]
fn busy_bookies_are_asked_again_after_a_pause() {
    let mut reader = reader(0, 1000);
    play(&mut reader, 0, ReaderEvent::Start);
    play(&mut reader, 0, item(0, RunItem::Busy));
    play(&mut reader, 0, item(1, RunItem::Busy));
    assert_eq!(play(&mut reader, 0, item(2, RunItem::Busy)), [""; 0]);
    assert_eq!(
        play(&mut reader, 100, ReaderEvent::Deadline),
        ["ask 3 b1 e0"]
    );
}
