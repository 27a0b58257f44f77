//! Faults at every call and damage at every place: what was acked is found, or is `Unknown`; never denied, never
//! another, and never a panic.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::{Path, PathBuf};

use bookie::{Config, OpenError};
use host::Rng;
use host::disk::sim::{Fault, OpKind, SimDisk};
use types::storage::{AddResult, ReadResult, RunItem};
use types::{ByteSize, ClusterId};

use support::{Bookie, CREATED, Model, add, config, entry, is_found, ledger};

fn small() -> Config {
    let mut config = config();
    config.journal_first_file = ByteSize::kib(32);
    config.journal_file = ByteSize::kib(32);
    config.memtable = ByteSize::kib(4);
    config.merge_width = 2;
    config
}

/// A little of everything: adds, fences, flushes, merges, changes of journal file, an idle frame, a log that is deleted.
fn work(bookie: &mut Bookie, model: &mut Model, first: u64, entries: u64) {
    for id in first..first + entries {
        let size = usize::try_from(id % 4 * 200).unwrap();
        let token = bookie.ask(bookie::Ask::Add(add(ledger(1, 0), id, size, 100)));
        model.sent.insert((ledger(1, 0), id), size);
        bookie.settle();
        let stored = bookie::Answer::Add(AddResult::Stored);
        if bookie.answers.remove(&token.0) == Some(stored) {
            model.acked.insert((ledger(1, 0), id), size);
        }
        if id % 20 == 15 {
            short_lived(bookie, ledger(20 + id, 0));
        }
        if id % 10 == 3 {
            let ask = types::storage::ReadLac {
                ledger: ledger(2 + id % 3, 0),
                created: CREATED,
                fence: Some(types::Epoch::new(id)),
            };
            let token = bookie.ask(bookie::Ask::ReadLac(ask));
            bookie.settle();
            if bookie.answers.remove(&token.0).is_some() {
                model.fences.insert(ledger(2 + id % 3, 0).log(), id);
            }
        }
        if bookie.fatal.is_some() {
            return;
        }
        if id % 8 == 0 {
            bookie.now += 1_100_000_000;
            bookie.tick();
            bookie.settle();
        }
    }
}

/// A log that fills most of a file and is then deleted.
fn short_lived(bookie: &mut Bookie, ledger: types::LedgerId) {
    for id in 0..8 {
        bookie.ask(bookie::Ask::Add(add(ledger, id, 600, 100)));
        bookie.settle();
    }
    bookie.handle(bookie::Event::Reclaim(bookie::Reclaim {
        deleted: vec![ledger.log()],
        ..bookie::Reclaim::default()
    }));
    bookie.settle();
}

/// What was acked is there; where damage was reported it may be unknown, and nothing is denied.
fn check(bookie: &mut Bookie, model: &Model, is_damaged: bool) {
    if !is_damaged {
        model.check(bookie);
        return;
    }
    for ((ledger, id), size) in &model.acked {
        let result = bookie.read(*ledger, *id, None);
        assert!(
            result == ReadResult::Unknown || is_found(&result, &entry(*ledger, *id, *size)),
            "{ledger} {id}: {result:?}"
        );
        let run = bookie.run(*ledger, *id, *id, u64::MAX);
        assert_ne!(run, [RunItem::NeverHad]);
    }
}

/// Opens after whatever happened, several times where a fault still lies ahead.
fn reopen(bookie: &mut Bookie) -> bookie::OpenReport {
    for _ in 0..3 {
        match bookie.open() {
            Ok(report) => return report,
            Err(OpenError::Disk { .. }) if bookie.disk.is_off() => {
                bookie.power_loss(&Rng::seeded(6));
            }
            Err(OpenError::Disk { .. }) => bookie.kill(),
            Err(other) => panic!("{other}"),
        }
    }
    panic!("does not open");
}

#[test]
fn no_fault_at_any_call_leads_to_a_false_ack() {
    let (calls, files_dropped) = {
        let mut bookie = Bookie::new(SimDisk::new(1), small());
        bookie.open().unwrap();
        work(&mut bookie, &mut Model::default(), 0, 60);
        let stats = bookie.engine.as_ref().unwrap().stats();
        (
            bookie.disk.ops(),
            stats.files_dropped + stats.files_rewritten,
        )
    };
    assert!(calls > 300 && files_dropped > 0, "{calls} {files_dropped}");
    let faults = [
        Fault::Io,
        Fault::Full,
        Fault::PowerCut,
        Fault::PowerCutAfter,
    ];
    let mut opened_again = 0;
    for op in 1..=calls {
        // Each call with one fault, and all faults in turn: every fourth call has the same.
        let fault = faults[usize::try_from((op + op / 4) % 4).unwrap()];
        let rng = Rng::seeded(op);
        let mut bookie = Bookie::new(SimDisk::new(op), small());
        let mut model = Model::default();
        bookie.disk.fail_at(op, fault);
        if bookie.open().is_ok() {
            work(&mut bookie, &mut model, 0, 60);
        }
        assert!(fault != Fault::Full || bookie.disk.ops() >= op);
        if rng.one_in(2) && !bookie.disk.is_off() {
            bookie.kill();
        } else {
            bookie.power_loss(&rng);
        }
        let report = reopen(&mut bookie);
        assert!(report.damage.is_empty(), "call {op} {fault:?}: {report:?}");
        check(&mut bookie, &model, false);
        // And once more, with power lost: what a start found, it also keeps.
        work(&mut bookie, &mut model, 100, 5);
        bookie.power_loss(&rng);
        let report = reopen(&mut bookie);
        assert!(report.damage.is_empty(), "call {op} {fault:?}: {report:?}");
        check(&mut bookie, &model, false);
        opened_again += 1;
    }
    assert_eq!(opened_again, calls);
}

#[test]
fn starts_that_cannot_write_are_no_damage_after_a_loss_of_power() {
    let (stopped, model) = stopped();
    let again = |seed| {
        let disk = stopped.disk.snapshot().after_kill(&Rng::seeded(seed));
        let mut bookie = Bookie::new(disk, small());
        bookie.meta = stopped.meta.clone();
        bookie
    };
    let before = again(0).disk.ops();
    let calls = {
        let mut bookie = again(0);
        bookie.open().unwrap();
        bookie.disk.ops() - before
    };
    assert!(calls > 30, "{calls}");
    // Two starts that end at any two calls, the second seeing what the first left unsynced; then power is lost.
    for first in 1..=calls {
        for second in (1..=calls).step_by(7) {
            let mut bookie = again(first * calls + second);
            for call in [first, second] {
                bookie.disk.fail_at(bookie.disk.ops() + call, Fault::Io);
                let _ = bookie.open();
                bookie.kill();
            }
            bookie.power_loss(&Rng::seeded(second));
            let report = reopen(&mut bookie);
            assert!(
                report.damage.is_empty(),
                "calls {first} and {second}: {report:?}"
            );
            check(&mut bookie, &model, false);
        }
    }
}

/// A stopped bookie with something in every file, and what it acked.
fn stopped() -> (Bookie, Model) {
    let mut bookie = Bookie::new(SimDisk::new(1), small());
    bookie.open().unwrap();
    let mut model = Model::default();
    work(&mut bookie, &mut model, 0, 50);
    assert_eq!(model.acked.len(), 50);
    bookie.stop();
    // A birth from here on is later than every ledger.
    bookie.meta.revision = CREATED.get() + 1;
    (bookie, model)
}

fn store_files(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files();
    let is_store = |path: &PathBuf| path.file_name().is_some_and(|name| name != "lock");
    files.into_iter().filter(is_store).collect()
}

/// Opens a copy of the stopped bookie whose file has other bytes, and checks it.
fn open_changed(bookie: &Bookie, model: &Model, path: &Path, bytes: &[u8]) -> bool {
    let disk = bookie.disk.snapshot().after_kill(&Rng::seeded(1));
    disk.put(path, bytes);
    let mut changed = Bookie::new(disk, small());
    changed.meta = bookie.meta.clone();
    match changed.open() {
        Ok(report) => {
            // Blocks of data files are verified when they are read.
            let is_data = path.extension().is_some_and(|end| end == "data");
            check(&mut changed, model, is_data || !report.damage.is_empty());
            report.damage.is_empty()
        }
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

#[test]
fn a_flipped_bit_anywhere_is_never_served_and_never_denies() {
    let (bookie, model) = stopped();
    let mut detected = 0;
    for path in store_files(&bookie.disk) {
        let bytes = bookie.disk.contents(&path).unwrap();
        // Every byte of the small files; of the others some of each page, headers more than bodies.
        let stride = if bytes.len() < 2_000 { 5 } else { 211 };
        for at in (0..bytes.len()).step_by(stride) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            detected += usize::from(!open_changed(&bookie, &model, &path, &flipped));
        }
    }
    assert!(detected > 50, "{detected}");
}

#[test]
fn a_file_cut_anywhere_is_noticed() {
    let (bookie, model) = stopped();
    for path in store_files(&bookie.disk) {
        let bytes = bookie.disk.contents(&path).unwrap();
        let stride = bytes.len() / 20 + 1;
        for length in (0..bytes.len()).step_by(stride) {
            let is_clean = open_changed(&bookie, &model, &path, &bytes[..length]);
            // The directory of a bookie that has a number is never without its identity.
            assert!(!is_clean, "{} cut to {length}", path.display());
        }
    }
}

#[test]
fn a_missing_file_is_noticed() {
    let (bookie, model) = stopped();
    for path in store_files(&bookie.disk) {
        let disk = bookie.disk.snapshot().after_kill(&Rng::seeded(1));
        host::disk::Disk::remove(&disk, &path).unwrap();
        let mut changed = Bookie::new(disk, small());
        changed.meta = bookie.meta.clone();
        let before = bookie.meta.record.as_ref().unwrap().born;
        let report = changed.open().unwrap();
        // A last file that no MANIFEST knows of is missed by meta.
        let is_spare = report.damage.is_empty() && report.born == before;
        check(&mut changed, &model, !is_spare);
        // Of the journal, what the data files hold and what was made ahead may go unnoticed.
        assert!(
            !is_spare || path.starts_with("journal"),
            "{}",
            path.display()
        );
    }
}

#[test]
fn damage_found_by_a_start_that_dies_is_found_by_the_next() {
    let (bookie, model) = stopped();
    for path in store_files(&bookie.disk) {
        let mut bytes = bookie.disk.contents(&path).unwrap();
        bytes[20] ^= 1;
        let disk = bookie.disk.snapshot().after_kill(&Rng::seeded(1));
        disk.put(&path, &bytes);
        let mut changed = Bookie::new(disk, small());
        changed.meta = bookie.meta.clone();
        for _ in 0..3 {
            let opening = changed.opening().unwrap();
            let name = path.display();
            // A flip in a file made ahead is harmless, and damage all the same.
            assert!(!opening.damage().is_empty(), "{name}");
            drop(opening);
            changed.power_loss(&Rng::seeded(4));
        }
        let report = changed.open().unwrap();
        assert!(!report.damage.is_empty());
        check(&mut changed, &model, true);
        changed.power_loss(&Rng::seeded(4));
        let report = changed.open().unwrap();
        assert!(report.damage.is_empty(), "{}: {report:?}", path.display());
    }
}

#[test]
fn wiped_directories_are_born_again() {
    for dirs in [&["journal"][..], &["data"], &["journal", "data"]] {
        let (mut bookie, model) = stopped();
        for dir in dirs {
            bookie.disk.wipe(Path::new(dir));
        }
        let before = bookie.meta.record.clone().unwrap().born;
        let report = bookie.open().unwrap();
        assert!(report.born > before, "{dirs:?}");
        check(&mut bookie, &model, true);
        let late = bookie.added(add(ledger(1, 0), 999, 10, 100));
        assert_ne!(late, AddResult::Stored, "an older ledger takes no more");
    }
}

#[test]
fn rolled_back_directories_never_deny_what_was_acked() {
    for dirs in [&["journal"][..], &["data"], &["journal", "data"]] {
        let (mut bookie, mut model) = stopped();
        let copies: Vec<_> = dirs
            .iter()
            .map(|dir| (dir, bookie.disk.copy_out(Path::new(dir))))
            .collect();
        bookie.open().unwrap();
        work(&mut bookie, &mut model, 50, 30);
        bookie.stop();
        for (dir, copy) in &copies {
            bookie.disk.put_back(Path::new(dir), copy);
        }
        let before = bookie.meta.record.clone().unwrap().born;
        let report = bookie.open().unwrap();
        assert!(report.born > before, "{dirs:?} {report:?}");
        check(&mut bookie, &model, true);
    }
}

#[test]
fn directories_of_others_are_refused_with_the_fix() {
    let (mut bookie, _) = stopped();
    let (other, _) = {
        let mut other = Bookie::new(SimDisk::new(2), small());
        other.entropy = 77;
        other.open().unwrap();
        other.stop();
        (other, ())
    };
    let journal = other.disk.copy_out(Path::new("journal"));
    bookie.disk.put_back(Path::new("journal"), &journal);
    let error = bookie.opening().unwrap_err();
    assert!(matches!(error, OpenError::Swapped { .. }), "{error}");

    let (bookie, _) = stopped();
    let disk: std::sync::Arc<dyn host::disk::Disk> = std::sync::Arc::new(bookie.disk.clone());
    let place = bookie::Place {
        name: "b-2".parse().unwrap(),
        ..bookie.place()
    };
    let error = bookie::Opening::start(small(), disk.clone(), place).unwrap_err();
    assert!(error.to_string().contains("--name b-1"), "{error}");
    let place = bookie::Place {
        cluster: ClusterId::new(9),
        ..bookie.place()
    };
    let error = bookie::Opening::start(small(), disk.clone(), place).unwrap_err();
    assert!(matches!(error, OpenError::OtherCluster { .. }), "{error}");
    let held = bookie::Opening::start(small(), disk.clone(), bookie.place()).unwrap();
    let error = bookie::Opening::start(small(), disk, bookie.place()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(held);
}

#[test]
fn a_birth_that_meta_does_not_give_is_insisted_on() {
    let (mut bookie, _) = stopped();
    bookie.disk.wipe(Path::new("journal"));
    let record = bookie.meta.record.clone().unwrap();
    let opening = bookie.opening().unwrap();
    let now = types::MonoTime::from_nanos(1);
    let error = opening.finish(&record, now).unwrap_err();
    assert!(matches!(error, OpenError::Record { .. }), "{error}");
}

#[test]
fn descriptions_bear_damage_in_any_file() {
    let (bookie, _) = stopped();
    let mut words = String::new();
    for dir in ["journal", "data"] {
        let dir = Path::new(dir);
        bookie::debug::describe_dir(
            &bookie.disk,
            dir,
            bookie::debug::Detail::Records,
            &mut words,
        )
        .unwrap();
    }
    for word in [
        "identity: Journal",
        "MANIFEST: bookie b1",
        "frame",
        "add 1/0",
        "fence log",
        "block",
    ] {
        assert!(words.contains(word), "{word} is missing in {words}");
    }
    assert!(!words.contains("DAMAGED"), "{words}");
    for path in store_files(&bookie.disk) {
        let bytes = bookie.disk.contents(&path).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            let disk = bookie.disk.snapshot().after_kill(&Rng::seeded(1));
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            flipped.truncate(bytes.len() - at % 3);
            disk.put(&path, &flipped);
            let dir = path.parent().unwrap();
            let mut words = String::new();
            bookie::debug::describe_dir(&disk, dir, bookie::debug::Detail::Records, &mut words)
                .unwrap();
        }
    }
}

/// Large enough for pieces of several blocks, a read cache and reading ahead.
fn roomy() -> Config {
    let mut config = config();
    config.journal_first_file = ByteSize::mib(1);
    config.journal_file = ByteSize::mib(4);
    config.memtable = ByteSize::mib(3);
    config.block = ByteSize::kib(64);
    config.entry_max = 64 << 10;
    config.write_budget = ByteSize::mib(8);
    config.read_budget = ByteSize::mib(16);
    config.cache = ByteSize::mib(32);
    config
}

const LARGE: usize = 20_000;

/// Reads all that can be had of a ledger in runs; the entries that cannot.
fn missing_in_runs(bookie: &mut Bookie, entries: u64) -> Vec<u64> {
    let (mut next, mut missing) = (0, Vec::new());
    while next < entries {
        let items = bookie.run(ledger(1, 0), next, entries - 1, 2 << 20);
        assert!(!items.is_empty());
        for item in items {
            match item {
                RunItem::Entry(found) => assert_eq!(found, entry(ledger(1, 0), next, LARGE)),
                RunItem::Unknown => missing.push(next),
                other => panic!("{next}: {other:?}"),
            }
            next += 1;
        }
    }
    missing
}

#[test]
fn damage_within_a_piece_costs_its_block_alone_and_is_read_anew_once_mended() {
    let mut bookie = Bookie::new(SimDisk::new(1), roomy());
    bookie.open().unwrap();
    let entries = 200;
    for id in 0..entries {
        let stored = bookie.added(add(ledger(1, 0), id, LARGE, 1));
        assert_eq!(stored, AddResult::Stored);
    }
    assert_eq!(missing_in_runs(&mut bookie, entries), []);
    let read = bookie.engine.as_ref().unwrap().stats();
    assert!(read.cache_hits > 0, "pieces were read ahead: {read:?}");
    bookie.stop();
    bookie.open().unwrap();
    let data = store_files(&bookie.disk)
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "data"))
        .unwrap();
    // In the middle of the first piece, in its first block, and in its last.
    for at in [500_000, 1_000, 1_040_000] {
        bookie.disk.flip(&data, at * 8).unwrap();
        bookie.drop_engine();
        bookie.open().unwrap();
        let alarms = bookie.alarms;
        let missing = missing_in_runs(&mut bookie, entries);
        assert!((1..=3).contains(&missing.len()), "{at}: {missing:?}");
        assert!(bookie.alarms > alarms, "{at}: it is told");
        for id in 0..entries {
            let found = bookie.read(ledger(1, 0), id, None);
            let is_there = is_found(&found, &entry(ledger(1, 0), id, LARGE));
            assert_eq!(is_there, !missing.contains(&id), "{at} {id}: {found:?}");
        }
        bookie.disk.flip(&data, at * 8).unwrap();
        assert_eq!(missing_in_runs(&mut bookie, entries), [], "{at}");
    }
}

#[test]
fn a_read_that_fails_within_a_piece_fails_nobody_who_wants_another_block() {
    let mut bookie = Bookie::new(SimDisk::new(1), roomy());
    bookie.open().unwrap();
    let entries = 200;
    for id in 0..entries {
        bookie.added(add(ledger(1, 0), id, LARGE, 1));
    }
    // Both tries of the first read of a piece, and then none: the block alone can be read.
    bookie.disk.fail_next(OpKind::Read, Fault::Io);
    bookie.disk.fail_next(OpKind::Read, Fault::Io);
    assert_eq!(missing_in_runs(&mut bookie, entries), []);
    assert_eq!(bookie.alarms, 0);
}

#[test]
fn a_lane_takes_no_more_jobs_than_its_worker_has_room_for() {
    let (mut bookie, _) = stopped();
    bookie.config.read_budget = ByteSize::mib(64);
    bookie.open().unwrap();
    let mut tokens = Vec::new();
    for _ in 0..300 {
        tokens.push(bookie.ask(bookie::Ask::Read(types::storage::Read {
            ledger: ledger(1, 0),
            created: CREATED,
            entry: types::EntryId::new(1),
            fence: None,
        })));
    }
    let lane = bookie::Worker::Read(bookie::Lane::Tail);
    assert_eq!(bookie.queues[&lane].len(), 128);
    bookie.settle();
    let busy = bookie::Answer::Read(ReadResult::Busy);
    let refused = tokens
        .iter()
        .filter(|token| bookie.answers[&token.0] == busy);
    assert_eq!(refused.count(), 172);
    assert!(matches!(
        bookie.read(ledger(1, 0), 1, None),
        ReadResult::Found { .. }
    ));
}

#[test]
fn the_mark_that_meta_is_told_is_durable() {
    for seed in 0..40 {
        let mut bookie = Bookie::new(SimDisk::new(seed), small());
        bookie.open().unwrap();
        let mut model = Model::default();
        work(&mut bookie, &mut model, 0, 3);
        // A frame that is written and not synced; the process dies, the machine stays up.
        bookie.ask(bookie::Ask::Add(add(ledger(1, 0), 3, 100, 100)));
        bookie.disk.fail_next(OpKind::Sync, Fault::Io);
        bookie.run_one(bookie::Worker::Journal);
        assert!(bookie.fatal.is_some());
        bookie.kill();
        let opening = bookie.opening().unwrap();
        let record = bookie.meta.register(opening.claim("b-1:1".to_owned()));
        drop(opening);
        bookie.power_loss(&Rng::seeded(seed));
        let report = bookie.open().unwrap();
        assert!(report.damage.is_empty());
        assert_eq!(report.born, record.born, "not born again for nothing");
        check(&mut bookie, &model, false);
    }
}
