//! What the engine promises, one claim a test.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use bookie::{Ask, Event, Lane, Standing, Worker};
use host::Rng;
use host::disk::sim::{Fault, OpKind, SimDisk};
use types::storage::{AddKind, AddResult, LacResult, ReadResult, RunItem, SealedReason, SetLac};
use types::{EntryId, Epoch, Offset, Revision};

use support::{Bookie, CREATED, add, config, entry, is_found, ledger, payload};

fn open() -> Bookie {
    let mut bookie = Bookie::new(SimDisk::new(1), config());
    let report = bookie.open().unwrap();
    assert!(report.damage.is_empty());
    bookie
}

/// Adds entries until they lie in data files.
fn fill(bookie: &mut Bookie, entries: u64) {
    for id in 0..entries {
        assert_eq!(
            bookie.added(add(ledger(1, 0), id, 500, 1)),
            AddResult::Stored
        );
    }
}

#[test]
fn an_add_is_answered_only_when_its_frame_is_synced() {
    let mut bookie = open();
    let token = bookie.ask(Ask::Add(add(ledger(1, 0), 0, 100, 1)));
    assert!(
        !bookie.answers.contains_key(&token.0),
        "not before the sync"
    );
    bookie.run_one(Worker::Journal);
    assert!(bookie.answers.contains_key(&token.0));
}

#[test]
fn an_add_is_visible_to_reads_before_it_is_durable() {
    let mut bookie = open();
    bookie.ask(Ask::Add(add(ledger(1, 0), 0, 100, 1)));
    let read = bookie.read(ledger(1, 0), 0, None);
    assert!(is_found(&read, &entry(ledger(1, 0), 0, 100)));
}

#[test]
fn adds_that_come_while_a_frame_is_synced_share_the_next() {
    let mut bookie = open();
    let before = bookie.engine.as_ref().unwrap().stats().frames;
    for id in 0..6 {
        bookie.ask(Ask::Add(add(ledger(1, 0), id, 100, 1)));
    }
    while bookie.run_one(Worker::Journal) {}
    assert_eq!(bookie.answers.len(), 6);
    assert_eq!(bookie.engine.as_ref().unwrap().stats().frames - before, 2);
}

#[test]
fn a_repeated_add_waits_for_the_first_copy() {
    let mut bookie = open();
    let first = bookie.ask(Ask::Add(add(ledger(1, 0), 0, 100, 1)));
    let again = bookie.ask(Ask::Add(add(ledger(1, 0), 0, 100, 2)));
    assert!(bookie.answers.is_empty());
    bookie.settle();
    for token in [first, again] {
        let stored = bookie::Answer::Add(AddResult::Stored);
        assert_eq!(bookie.answers.get(&token.0), Some(&stored));
    }
}

#[test]
fn a_second_payload_is_refused_in_memory_and_in_files() {
    let mut bookie = open();
    fill(&mut bookie, 100);
    assert!(bookie.engine.as_ref().unwrap().stats().data_files > 0);
    for id in [0, 99] {
        assert_eq!(
            bookie.added(add(ledger(1, 0), id, 500, 1)),
            AddResult::Stored
        );
        assert_eq!(
            bookie.added(add(ledger(1, 0), id, 501, 1)),
            AddResult::Mismatch
        );
    }
    assert_eq!(bookie.alarms, 2);
}

#[test]
fn a_fence_is_answered_only_when_durable_and_shuts_out_lower_epochs_at_once() {
    let mut bookie = open();
    let token = bookie.ask(Ask::ReadLac(types::storage::ReadLac {
        ledger: ledger(1, 0),
        created: CREATED,
        fence: Some(Epoch::new(5)),
    }));
    let late = bookie.ask(Ask::Add(add(ledger(1, 0), 0, 10, 4)));
    assert!(!bookie.answers.contains_key(&token.0), "not durable yet");
    let by = Epoch::new(5);
    let fenced = bookie::Answer::Add(AddResult::Fenced { by });
    assert_eq!(bookie.answers.get(&late.0), Some(&fenced));
    bookie.settle();
    assert!(bookie.answers.contains_key(&token.0));
    assert_eq!(bookie.added(add(ledger(1, 0), 0, 10, 5)), AddResult::Stored);
}

#[test]
fn a_second_fence_of_the_same_epoch_waits_too() {
    let mut bookie = open();
    let lac = |epoch| {
        Ask::ReadLac(types::storage::ReadLac {
            ledger: ledger(1, 0),
            created: CREATED,
            fence: Some(Epoch::new(epoch)),
        })
    };
    bookie.ask(lac(5));
    bookie.ask(lac(5));
    let lower = bookie.ask(lac(4));
    assert_eq!(
        bookie.answers.len(),
        1,
        "only the lower one is refused at once"
    );
    assert!(bookie.answers.contains_key(&lower.0));
    bookie.settle();
    assert_eq!(bookie.answers.len(), 3);
}

#[test]
fn a_fencing_read_sees_the_add_that_came_before_it() {
    let mut bookie = open();
    bookie.ask(Ask::Add(add(ledger(1, 0), 0, 100, 1)));
    let read = bookie.read(ledger(1, 0), 0, Some(2));
    assert!(is_found(&read, &entry(ledger(1, 0), 0, 100)));
    assert_eq!(
        bookie.added(add(ledger(1, 0), 1, 100, 1)),
        AddResult::Fenced { by: Epoch::new(2) }
    );
}

#[test]
fn a_fence_of_a_log_never_seen_survives_restart_checkpoint_and_recycling() {
    let mut bookie = open();
    assert_eq!(bookie.read(ledger(7, 0), 0, Some(3)), ReadResult::NeverHad);
    fill(&mut bookie, 600);
    let stats = bookie.engine.as_ref().unwrap().stats();
    assert!(stats.mark > 50, "the fence's frame was recycled: {stats:?}");
    bookie.power_loss(&Rng::seeded(3));
    bookie.open().unwrap();
    assert_eq!(
        bookie.added(add(ledger(7, 0), 0, 10, 2)),
        AddResult::Fenced { by: Epoch::new(3) }
    );
}

#[test]
fn what_was_acked_is_there_after_a_power_loss_in_memory_and_in_files() {
    let mut bookie = open();
    fill(&mut bookie, 150);
    bookie.power_loss(&Rng::seeded(1));
    let report = bookie.open().unwrap();
    assert!(report.damage.is_empty(), "{report:?}");
    for id in 0..150 {
        let read = bookie.read(ledger(1, 0), id, None);
        assert!(is_found(&read, &entry(ledger(1, 0), id, 500)), "{id}");
    }
    assert_eq!(bookie.read(ledger(1, 0), 150, None), ReadResult::NeverHad);
}

#[test]
fn a_clean_stop_leaves_an_end_frame_and_loses_nothing() {
    let mut bookie = open();
    let token = bookie.ask(Ask::Add(add(ledger(1, 0), 0, 100, 1)));
    bookie.handle(Event::Stop);
    let late = bookie.ask(Ask::Add(add(ledger(1, 0), 1, 100, 1)));
    bookie.settle();
    assert!(bookie.is_stopped);
    let stored = bookie::Answer::Add(AddResult::Stored);
    assert_eq!(bookie.answers.get(&token.0), Some(&stored));
    let busy = bookie::Answer::Add(AddResult::Busy);
    assert_eq!(bookie.answers.get(&late.0), Some(&busy));
    bookie.drop_engine();
    let report = bookie.open().unwrap();
    assert!(report.damage.is_empty() && !report.cut_tail);
    let read = bookie.read(ledger(1, 0), 0, None);
    assert!(is_found(&read, &entry(ledger(1, 0), 0, 100)));
}

#[test]
fn a_stop_finds_a_file_for_its_end_frame_at_any_fill_of_the_journal() {
    for entries in 0..40 {
        let mut bookie = open();
        // The store worker stands still: no file is made ahead.
        for id in 0..entries {
            bookie.ask(Ask::Add(add(ledger(1, 0), id, 100, 1)));
            while bookie.run_one(Worker::Journal) {}
        }
        bookie.stop();
        let report = bookie.open().unwrap();
        assert!(report.damage.is_empty(), "{report:?}");
    }
}

#[test]
fn an_idle_journal_proves_its_last_frame_within_ten_milliseconds() {
    let mut bookie = open();
    bookie.tick();
    bookie.settle();
    let before = bookie.engine.as_ref().unwrap().mark();
    assert_eq!(
        bookie.added(add(ledger(1, 0), 0, 100, 1)),
        AddResult::Stored
    );
    bookie.now += 10_000_000;
    bookie.handle(Event::Deadline);
    bookie.settle();
    assert_eq!(bookie.engine.as_ref().unwrap().mark(), before + 2);
    bookie.now += 10_000_000;
    bookie.handle(Event::Deadline);
    bookie.settle();
    let mark = bookie.engine.as_ref().unwrap().mark();
    assert_eq!(mark, before + 2, "one idle frame is enough");
}

#[test]
fn a_full_budget_is_busy_at_once_and_leaves_nothing_behind() {
    let mut bookie = open();
    let mut busy = 0;
    for id in 0..40 {
        let token = bookie.ask(Ask::Add(add(ledger(1, 0), id, 4_000, 1)));
        let answer = bookie::Answer::Add(AddResult::Busy);
        busy += usize::from(bookie.answers.get(&token.0) == Some(&answer));
    }
    assert!(busy > 10, "{busy}");
    bookie.settle();
    assert_eq!(bookie.engine.as_ref().unwrap().stats().waiting_bytes, 0);
    assert_eq!(
        bookie.added(add(ledger(2, 0), 0, 4_000, 1)),
        AddResult::Stored
    );
}

#[test]
fn a_run_crosses_memory_and_files_and_ends_with_a_reason() {
    let mut bookie = open();
    fill(&mut bookie, 130);
    let items = bookie.run(ledger(1, 0), 3, 500, u64::MAX);
    let (last, entries) = items.split_last().unwrap();
    assert_eq!(*last, RunItem::NeverHad);
    let expected = (3..130).map(|id| RunItem::Entry(entry(ledger(1, 0), id, 500)));
    assert!(entries.iter().cloned().eq(expected));
}

#[test]
fn a_run_gives_its_first_entry_whatever_its_size_and_then_keeps_to_its_bytes() {
    let mut bookie = open();
    fill(&mut bookie, 10);
    assert_eq!(bookie.run(ledger(1, 0), 0, 9, 1).len(), 1);
    assert_eq!(bookie.run(ledger(1, 0), 0, 9, 1_600).len(), 3);
    assert_eq!(bookie.run(ledger(1, 0), 0, 4, u64::MAX).len(), 5);
    assert_eq!(bookie.run(ledger(1, 0), 5, 4, u64::MAX).len(), 0);
}

#[test]
fn a_run_takes_no_more_than_the_read_budget_whatever_is_asked() {
    let mut bookie = open();
    fill(&mut bookie, 700);
    let budget = config().read_budget.get();
    let items = bookie.run(ledger(1, 0), 0, 699, u64::MAX);
    assert_eq!(u64::try_from(items.len()), Ok(budget / 500));
    let expected = (0..).map(|id| RunItem::Entry(entry(ledger(1, 0), id, 500)));
    assert!(items.iter().cloned().eq(expected.take(items.len())));
}

#[test]
fn a_run_of_prefixes_gives_the_first_bytes() {
    let mut bookie = open();
    fill(&mut bookie, 3);
    let ask = types::storage::ReadRun {
        ledger: ledger(1, 0),
        created: CREATED,
        first: EntryId::new(1),
        last: EntryId::new(2),
        max_bytes: 1 << 20,
        payload_limit: Some(5),
    };
    let Some(bookie::Answer::ReadRun(items)) = bookie.answer(Ask::ReadRun(ask)) else {
        panic!("no run");
    };
    let prefix = |id: u64| RunItem::Prefix {
        id: EntryId::new(id),
        next_offset: Offset::new(id + 1),
        prefix: payload(ledger(1, 0), id, 500).to_bytes().slice(..5),
    };
    assert_eq!(items, vec![prefix(1), prefix(2)]);
    // Nothing else holds their memory: a few bytes do not keep the piece of the file they were read with.
    assert!(
        items
            .iter()
            .all(|item| matches!(item, RunItem::Prefix { prefix, .. } if prefix.is_unique()))
    );
}

#[test]
fn many_small_files_are_merged_and_nothing_is_lost() {
    let mut bookie = open();
    fill(&mut bookie, 900);
    let stats = bookie.engine.as_ref().unwrap().stats();
    assert!(stats.data_files < 12, "{stats:?}");
    let on_disk = bookie.disk.files();
    let data = on_disk.iter().filter(|path| path.starts_with("data"));
    assert!(data.count() < 16, "replaced files are gone: {on_disk:?}");
    bookie.power_loss(&Rng::seeded(5));
    bookie.open().unwrap();
    for id in 0..900 {
        let read = bookie.read(ledger(1, 0), id, None);
        assert!(is_found(&read, &entry(ledger(1, 0), id, 500)), "{id}");
    }
}

#[test]
fn journal_files_are_recycled_and_their_stale_frames_never_replayed() {
    let mut bookie = open();
    fill(&mut bookie, 900);
    let journals = bookie.disk.files();
    let journals = journals.iter().filter(|path| path.starts_with("journal"));
    assert!(journals.count() <= 8);
    let mark = bookie.engine.as_ref().unwrap().stats().mark;
    for seed in 0..4 {
        bookie.power_loss(&Rng::seeded(seed));
        let report = bookie.open().unwrap();
        assert!(report.damage.is_empty(), "{report:?}");
        assert!(
            report.frames < 900,
            "only frames from the mark on: {report:?} {mark}"
        );
    }
    let read = bookie.read(ledger(1, 0), 899, None);
    assert!(is_found(&read, &entry(ledger(1, 0), 899, 500)));
}

#[test]
fn a_failed_sync_of_the_journal_is_fatal_and_acks_nothing() {
    let mut bookie = open();
    bookie.tick();
    bookie.settle();
    bookie.disk.fail_next(OpKind::Sync, Fault::Io);
    let token = bookie.ask(Ask::Add(add(ledger(1, 0), 0, 100, 1)));
    bookie.run_one(Worker::Journal);
    assert!(bookie.fatal.is_some());
    assert!(!bookie.answers.contains_key(&token.0));
    let again = bookie.ask(Ask::Add(add(ledger(1, 0), 1, 100, 1)));
    assert!(
        bookie
            .busy()
            .iter()
            .all(|worker| *worker != Worker::Journal)
    );
    assert!(
        !bookie.answers.contains_key(&again.0),
        "a stopped engine is silent"
    );
}

#[test]
fn a_full_disk_refuses_writers_and_goes_on_with_fences_recovery_and_reads() {
    let mut bookie = open();
    fill(&mut bookie, 20);
    bookie.disk.set_capacity(Some(1));
    bookie.now += 2_000_000_000;
    bookie.handle(Event::Deadline);
    bookie.settle();
    assert_eq!(
        bookie.engine.as_ref().unwrap().standing(),
        Standing::ReadOnly
    );
    assert_eq!(
        bookie.added(add(ledger(1, 0), 20, 100, 1)),
        AddResult::ReadOnly
    );
    let read = bookie.read(ledger(1, 0), 3, Some(2));
    assert!(is_found(&read, &entry(ledger(1, 0), 3, 500)));
    let recovery = types::storage::Add {
        kind: AddKind::Recovery,
        ..add(ledger(1, 0), 20, 100, 2)
    };
    assert_eq!(bookie.added(recovery), AddResult::Stored);
    bookie.disk.set_capacity(None);
    bookie.now += 4_000_000_000;
    bookie.handle(Event::Deadline);
    bookie.settle();
    assert_eq!(
        bookie.added(add(ledger(1, 0), 21, 100, 2)),
        AddResult::Stored
    );
    assert_eq!(bookie.standings, [Standing::ReadOnly, Standing::ReadWrite]);
}

#[test]
fn a_bad_block_is_unknown_and_its_neighbours_are_found() {
    let mut bookie = open();
    fill(&mut bookie, 60);
    let files = bookie.disk.files();
    let data = files
        .iter()
        .find(|path| path.extension().is_some_and(|end| end == "data"));
    bookie
        .disk
        .flip(data.unwrap(), (64 + 32 + 48 + 10) * 8)
        .unwrap();
    assert_eq!(bookie.read(ledger(1, 0), 0, None), ReadResult::Unknown);
    assert_eq!(bookie.read(ledger(1, 0), 0, Some(2)), ReadResult::Unknown);
    assert_eq!(bookie.run(ledger(1, 0), 0, 3, 1 << 20), [RunItem::Unknown]);
    let read = bookie.read(ledger(1, 0), 20, None);
    assert!(is_found(&read, &entry(ledger(1, 0), 20, 500)));
    // The writer of the entry, or repair, may put it right.
    let repair = types::storage::Add {
        kind: AddKind::Repair,
        ..add(ledger(1, 0), 0, 500, 1)
    };
    assert_eq!(bookie.added(repair), AddResult::Stored);
    let read = bookie.read(ledger(1, 0), 0, None);
    assert!(is_found(&read, &entry(ledger(1, 0), 0, 500)));
}

#[test]
fn a_read_error_is_unknown_never_never_had() {
    let mut bookie = open();
    fill(&mut bookie, 60);
    bookie.disk.fail_next(OpKind::Read, Fault::Io);
    bookie.disk.fail_next(OpKind::Read, Fault::Io);
    assert_eq!(bookie.read(ledger(1, 0), 0, None), ReadResult::Unknown);
    let read = bookie.read(ledger(1, 0), 0, None);
    assert!(is_found(&read, &entry(ledger(1, 0), 0, 500)));
}

#[test]
fn a_born_again_bookie_says_found_or_unknown_of_older_ledgers() {
    let mut bookie = open();
    fill(&mut bookie, 60);
    bookie.meta.revision = CREATED.get() + 1;
    bookie.power_loss(&Rng::seeded(2));
    let journal = bookie.disk.files();
    let journal = journal
        .iter()
        .find(|path| path.starts_with("journal"))
        .unwrap();
    bookie.disk.flip(journal, 1).unwrap();
    let report = bookie.open().unwrap();
    assert!(!report.damage.is_empty());
    assert!(report.born > CREATED);
    assert_eq!(bookie.read(ledger(1, 0), 1_000, None), ReadResult::Unknown);
    let read = bookie.read(ledger(1, 0), 0, None);
    assert!(is_found(&read, &entry(ledger(1, 0), 0, 500)));
    assert_eq!(
        bookie.added(add(ledger(3, 0), 0, 10, 1)),
        AddResult::Sealed(SealedReason::OlderThanBirth)
    );
    let newer = types::storage::Add {
        created: Revision::new(CREATED.get() + 100),
        ..add(ledger(4, 0), 0, 10, 1)
    };
    assert_eq!(bookie.added(newer), AddResult::Stored);
    bookie.power_loss(&Rng::seeded(9));
    let report = bookie.open().unwrap();
    assert!(report.damage.is_empty(), "born again once: {report:?}");
}

#[test]
fn the_lac_of_adds_and_of_an_idle_writer_is_told() {
    let mut bookie = open();
    fill(&mut bookie, 5);
    let told = LacResult::Lac(Some(EntryId::new(3)));
    assert_eq!(bookie.read_lac(ledger(1, 0), None), told);
    bookie.ask(Ask::SetLac(SetLac {
        ledger: ledger(1, 0),
        created: CREATED,
        epoch: Epoch::new(1),
        lac: EntryId::new(4),
    }));
    let told = LacResult::Lac(Some(EntryId::new(4)));
    assert_eq!(bookie.read_lac(ledger(1, 0), None), told);
}

#[test]
fn lanes_of_reads_do_not_share_a_queue() {
    let mut bookie = open();
    fill(&mut bookie, 60);
    let read = |fence| {
        Ask::Read(types::storage::Read {
            ledger: ledger(1, 0),
            created: CREATED,
            entry: EntryId::new(0),
            fence,
        })
    };
    bookie.ask(read(None));
    bookie.ask(read(Some(Epoch::new(2))));
    let busy = bookie.busy();
    assert!(busy.contains(&Worker::Read(Lane::Tail)));
    assert!(busy.contains(&Worker::Read(Lane::Recovery)));
    bookie.settle();
    assert_eq!(bookie.answers.len(), 2);
}
