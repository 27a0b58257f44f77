//! Whole states: the same from the same seed, and sampled by the thousand.

use super::*;

/// A run with everything that may happen, from a seed.
fn run(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    let rng = Rng::seeded(seed ^ 99);
    disk.create_dir_all(Path::new("d")).unwrap();
    disk.set_fault_rates(FaultRates {
        read_per_million: 10_000,
        write_per_million: 10_000,
        sync_per_million: 10_000,
        misdirect_per_million: 10_000,
    });
    let mut file = None;
    for _ in 0..400 {
        let path = PathBuf::from(format!("d/{}", rng.below(4)));
        match rng.below(12) {
            0 => file = disk.open(&path, OpenMode::OpenOrCreate).ok(),
            1 => drop(disk.rename(&path, Path::new("d/0"))),
            2 => drop(disk.remove(&path)),
            3 => drop(disk.sync_dir(Path::new("d"))),
            4 if rng.one_in(5) => disk.crash(&rng),
            5 if rng.one_in(5) => disk.crash_process(),
            _ => {}
        }
        if let Some(file) = &file {
            let mut bytes = vec![0; rng.index(3_000)];
            rng.fill(&mut bytes);
            let _ = match rng.below(5) {
                0 => file.sync_data(),
                1 => file.set_len(rng.below(5_000)),
                _ => file.write_at(rng.below(9_000), &bytes),
            };
        }
    }
    disk
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let digests: Vec<u64> = (0..20).map(|seed| run(seed).digest()).collect();
    let again: Vec<u64> = (0..20).map(|seed| run(seed).digest()).collect();
    assert_eq!(digests, again);
    // Some runs end with nothing on the disk.
    assert!(digests.iter().collect::<BTreeSet<_>>().len() > 15);
}

#[test]
fn a_power_loss_leaves_nothing_unsynced_and_a_second_changes_nothing() {
    for seed in 0..30 {
        let disk = run(seed);
        disk.restart();
        assert_eq!(disk.unsynced_len(), 0);
        let digest = disk.digest();
        disk.restart();
        assert_eq!(disk.digest(), digest);
    }
}

#[test]
fn fates_are_asked_once_each_and_obeyed() {
    let (disk, file) = with_file("f", 1, SECTOR);
    file.write_at(0, &[2; SECTOR]).unwrap();
    file.write_at(0, &[3; 2 * SECTOR]).unwrap();
    create(&disk, "g");
    let snapshot = disk.snapshot();
    assert_eq!(snapshot.unsynced().len(), 5);
    let torn = snapshot.materialize(&mut |asked| match asked {
        Unsynced::Sector {
            sector: 0,
            version: 1,
            ..
        } => Fate::Torn(10),
        Unsynced::Name { .. } => Fate::Kept,
        Unsynced::Sector { .. } | Unsynced::Length { .. } => Fate::Lost,
    });
    let mut expected = vec![1; SECTOR];
    // The version before the torn one is the one that the page held.
    expected.fill(2);
    expected[..10].fill(3);
    assert_eq!(read(&torn, "f").unwrap(), expected);
    assert_eq!(torn.files().len(), 2);
    assert_eq!(
        read(&disk, "f").unwrap(),
        [3; 2 * SECTOR],
        "the disk itself goes on"
    );
}

#[test]
fn snapshots_stand_still_while_the_disk_goes_on() {
    let (disk, file) = with_file("f", 1, 10_000);
    let (snapshot, digest) = (disk.snapshot(), disk.digest());
    file.write_at(5_000, &[9; 100]).unwrap();
    file.sync_data().unwrap();
    disk.remove(Path::new("f")).unwrap();
    assert_eq!(snapshot.digest(), digest);
    let killed = snapshot.after_kill(&Rng::seeded(1));
    assert_eq!(read(&killed, "f").unwrap(), [1; 10_000]);
}

/// A log of records, each synced before it counts: whatever the moment and the fate, what counted is there.
#[test]
fn thousands_of_crash_states_hold_what_was_synced_and_show_what_was_not() {
    let disk = SimDisk::new(3);
    disk.record_snapshots(true);
    let file = create(&disk, "log");
    sync_root(&disk);
    let mut synced_at = vec![disk.ops()];
    for record in 1..=20_u8 {
        let offset = u64::from(record - 1) * 1_000;
        file.write_at(offset, &[record; 1_000]).unwrap();
        file.sync_data().unwrap();
        synced_at.push(disk.ops());
    }
    let states = CrashStates::new(disk.take_snapshots(), Rng::seeded(4));
    let mut distinct = BTreeSet::new();
    for (op, state) in states.take(3_000) {
        let bytes = read(&state, "log").unwrap_or_default();
        let counted = synced_at.iter().rposition(|at| *at <= op).unwrap_or(0);
        for record in 0..counted {
            let expected = u8::try_from(record + 1).unwrap();
            let part = &bytes[record * 1_000..(record + 1) * 1_000];
            assert!(
                part.iter().all(|byte| *byte == expected),
                "op {op} record {record}"
            );
        }
        distinct.insert(state.digest());
    }
    assert!(distinct.len() > 100, "{}", distinct.len());
}

#[test]
fn calls_are_recorded_with_their_numbers_and_outcomes() {
    let (disk, file) = with_file("f", 1, 10);
    disk.record(true);
    disk.fail_next(OpKind::Sync, Fault::Io);
    file.write_at(4, b"abc").unwrap();
    assert!(file.sync_data().is_err());
    let record = disk.take_record();
    assert_eq!(
        record[0],
        OpRecord {
            op: disk.ops() - 1,
            kind: OpKind::Write,
            path: PathBuf::from("f"),
            offset: 4,
            len: 3,
            is_ok: true,
        }
    );
    assert_eq!((record[1].kind, record[1].is_ok), (OpKind::Sync, false));
}

#[test]
fn preallocated_files_cost_no_memory_to_speak_of() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "f");
    file.set_len(1 << 34).unwrap();
    let zeros = vec![0; 1 << 20];
    for mib in 0..64 {
        file.write_at(mib << 20, &zeros).unwrap();
    }
    file.sync_data().unwrap();
    sync_root(&disk);
    let space = disk.space(Path::new("")).unwrap();
    assert_eq!(space.total_bytes - space.free_bytes, 64 << 20);
    disk.restart();
    assert_eq!(create(&disk, "f").len().unwrap(), 1 << 34);
}
