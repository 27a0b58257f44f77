//! What the simulated disk keeps, and what it may lose.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::image::SECTOR;
use super::*;
use crate::disk::{Disk, File, OpenMode};

fn create(disk: &SimDisk, name: &str) -> Arc<dyn File> {
    disk.open(Path::new(name), OpenMode::OpenOrCreate).unwrap()
}

/// A disk with one durable file of `len` bytes.
fn with_file(name: &str, byte: u8, len: usize) -> (SimDisk, Arc<dyn File>) {
    let disk = SimDisk::new(1);
    disk.put(Path::new(name), &vec![byte; len]);
    let file = create(&disk, name);
    (disk, file)
}

fn read(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    disk.contents(Path::new(name)).ok()
}

/// Every distinct outcome of many power losses now.
fn outcomes<T: Ord>(disk: &SimDisk, look: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    let snapshot = disk.snapshot();
    let rng = Rng::seeded(77);
    (0..600).map(|_| look(&snapshot.sample(&rng))).collect()
}

fn sync_root(disk: &SimDisk) {
    disk.sync_dir(Path::new("")).unwrap();
}

mod bytes {
    use super::*;

    #[test]
    fn synced_bytes_and_names_survive_every_power_loss() {
        let disk = SimDisk::new(1);
        let file = create(&disk, "f");
        file.write_at(0, &[7; 3_000]).unwrap();
        file.sync_data().unwrap();
        sync_root(&disk);
        let all = outcomes(&disk, |state| read(state, "f"));
        assert_eq!(all, BTreeSet::from([Some(vec![7; 3_000])]));
    }

    #[test]
    fn unsynced_sectors_are_kept_lost_and_torn_each_for_itself() {
        let (disk, file) = with_file("f", 1, 2 * SECTOR);
        file.write_at(0, &[2; 2 * SECTOR]).unwrap();
        let all = outcomes(&disk, |state| {
            let bytes = read(state, "f").unwrap();
            let (first, second) = bytes.split_at(SECTOR);
            [first, second].map(|sector| {
                let new = sector.iter().take_while(|byte| **byte == 2).count();
                assert!(
                    sector[new..].iter().all(|byte| *byte == 1),
                    "new bytes, then old ones"
                );
                match new {
                    0 => "lost",
                    SECTOR => "kept",
                    _ => "torn",
                }
            })
        });
        assert_eq!(all.len(), 9, "{all:?}");
    }

    #[test]
    fn a_sector_may_be_at_any_of_its_versions() {
        let (disk, file) = with_file("f", 1, SECTOR);
        for version in 2..5 {
            file.write_at(0, &[version; SECTOR]).unwrap();
        }
        let whole = |bytes: &Vec<u8>| bytes.iter().all(|byte| *byte == bytes[0]);
        let all = outcomes(&disk, |state| {
            read(state, "f").filter(whole).map(|bytes| bytes[0])
        });
        assert!(
            all.is_superset(&BTreeSet::from([1, 2, 3, 4].map(Some))),
            "{all:?}"
        );
    }

    #[test]
    fn bytes_that_were_not_written_are_never_touched() {
        let (disk, file) = with_file("f", 1, 3 * SECTOR);
        file.write_at(700, &[2; 100]).unwrap();
        for bytes in outcomes(&disk, |state| read(state, "f").unwrap()) {
            assert_eq!(bytes.len(), 3 * SECTOR);
            assert!(
                bytes[..700]
                    .iter()
                    .chain(&bytes[800..])
                    .all(|byte| *byte == 1)
            );
        }
    }

    #[test]
    fn growth_is_lost_or_kept_apart_from_its_bytes() {
        let (disk, file) = with_file("f", 1, SECTOR);
        file.write_at(wide(SECTOR), &[2; SECTOR]).unwrap();
        let all = outcomes(&disk, |state| {
            let bytes = read(state, "f").unwrap();
            bytes.get(SECTOR).copied()
        });
        assert_eq!(all, BTreeSet::from([None, Some(0), Some(2)]));
    }

    #[test]
    fn a_kept_cut_leaves_nothing_of_what_was_before_it() {
        let (disk, file) = with_file("f", 1, 4 * SECTOR);
        file.write_at(0, &[2; 4 * SECTOR]).unwrap();
        file.set_len(100).unwrap();
        file.set_len(wide(2 * SECTOR)).unwrap();
        for bytes in outcomes(&disk, |state| read(state, "f").unwrap()) {
            match bytes.len() {
                len if len == 4 * SECTOR => assert!(!bytes.contains(&0)),
                100 => assert!(!bytes.contains(&0)),
                len => {
                    assert_eq!(len, 2 * SECTOR);
                    assert!(bytes[100..].iter().all(|byte| *byte == 0));
                }
            }
        }
        file.sync_data().unwrap();
        let all = outcomes(&disk, |state| read(state, "f").unwrap());
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn a_killed_process_loses_nothing_until_power_fails() {
        let (disk, file) = with_file("f", 1, SECTOR);
        file.write_at(0, &[2; SECTOR]).unwrap();
        disk.crash_process();
        assert_eq!(read(&disk, "f"), Some(vec![2; SECTOR]));
        let all = outcomes(&disk, |state| read(state, "f").unwrap()[0]);
        assert_eq!(all, BTreeSet::from([1, 2]));
        create(&disk, "f").sync_data().unwrap();
        let all = outcomes(&disk, |state| read(state, "f").unwrap()[0]);
        assert_eq!(all, BTreeSet::from([2]));
    }

    /// Random writes and syncs; after each power loss every sector holds one of its versions since the last sync, or a
    /// mixture of two that follow each other.
    #[test]
    fn random_writes_leave_only_legal_sectors() {
        for seed in 0..40 {
            let rng = Rng::seeded(seed);
            let (disk, file) = with_file("f", 0, 8 * SECTOR);
            let mut versions: Vec<Vec<u8>> = vec![vec![0; 8 * SECTOR]];
            for step in 1..30_u8 {
                if rng.one_in(5) {
                    file.sync_data().unwrap();
                    versions.drain(..versions.len() - 1);
                    continue;
                }
                let mut next = versions.last().unwrap().clone();
                let start = rng.index(next.len());
                let end = start + 1 + rng.index(next.len() - start);
                next[start..end].fill(step);
                file.write_at(wide(start), &next[start..end]).unwrap();
                versions.push(next);
                let state = disk.snapshot().sample(&rng);
                assert_legal(&read(&state, "f").unwrap(), &versions);
            }
        }
    }

    fn assert_legal(bytes: &[u8], versions: &[Vec<u8>]) {
        assert_eq!(bytes.len(), versions[0].len());
        for (at, sector) in bytes.chunks(SECTOR).enumerate() {
            let range = at * SECTOR..(at + 1) * SECTOR;
            let is_whole = versions.iter().any(|one| one[range.clone()] == *sector);
            let is_torn = || {
                versions.windows(2).any(|pair| {
                    let (old, new) = (&pair[0][range.clone()], &pair[1][range.clone()]);
                    let kept = sector.iter().zip(new).take_while(|(a, b)| a == b).count();
                    sector[kept..] == old[kept..]
                })
            };
            assert!(is_whole || is_torn(), "sector {at}");
        }
    }
}

mod names {
    use super::*;

    #[test]
    fn a_name_may_be_lost_until_its_directory_is_synced() {
        let disk = SimDisk::new(1);
        let file = create(&disk, "f");
        file.write_at(0, b"x").unwrap();
        file.sync_data().unwrap();
        let all = outcomes(&disk, |state| read(state, "f"));
        assert_eq!(all, BTreeSet::from([None, Some(b"x".to_vec())]));
        sync_root(&disk);
        let all = outcomes(&disk, |state| read(state, "f"));
        assert_eq!(all, BTreeSet::from([Some(b"x".to_vec())]));
    }

    #[test]
    fn changes_that_share_no_name_know_no_order() {
        let disk = SimDisk::new(1);
        create(&disk, "a");
        create(&disk, "b");
        let all = outcomes(&disk, |state| state.files().len());
        assert_eq!(all, BTreeSet::from([0, 1, 2]));
        let both = outcomes(&disk, |state| state.files());
        assert_eq!(both.len(), 4);
    }

    #[test]
    fn the_usual_replacement_shows_the_old_or_the_new_and_nothing_else() {
        let disk = SimDisk::new(1);
        disk.put(Path::new("M"), b"old");
        let file = create(&disk, "M.tmp");
        file.write_at(0, b"new").unwrap();
        file.sync_data().unwrap();
        disk.rename(Path::new("M.tmp"), Path::new("M")).unwrap();
        let all = outcomes(&disk, |state| read(state, "M").unwrap());
        assert_eq!(all, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]));
        sync_root(&disk);
        let all = outcomes(&disk, |state| read(state, "M").unwrap());
        assert_eq!(all, BTreeSet::from([b"new".to_vec()]));
    }

    #[test]
    fn a_replacement_without_a_sync_of_the_file_may_lose_both() {
        let disk = SimDisk::new(1);
        disk.put(Path::new("M"), b"old");
        create(&disk, "M.tmp").write_at(0, b"new").unwrap();
        disk.rename(Path::new("M.tmp"), Path::new("M")).unwrap();
        sync_root(&disk);
        let all = outcomes(&disk, |state| read(state, "M").unwrap());
        assert!(all.contains(&b""[..]) && all.contains(&b"new"[..]));
    }

    #[test]
    fn a_rename_across_directories_is_certain_when_both_are_synced() {
        let disk = SimDisk::new(1);
        let (from, to) = (Path::new("a/f"), Path::new("b/f"));
        disk.put(from, b"x");
        disk.create_dir_all(Path::new("b")).unwrap();
        disk.rename(from, to).unwrap();
        disk.sync_dir(Path::new("a")).unwrap();
        let all = outcomes(&disk, SimDisk::files);
        assert_eq!(
            all,
            BTreeSet::from([vec![from.to_owned()], vec![to.to_owned()]])
        );
        disk.sync_dir(Path::new("b")).unwrap();
        let all = outcomes(&disk, SimDisk::files);
        assert_eq!(all, BTreeSet::from([vec![to.to_owned()]]));
    }

    #[test]
    fn a_removed_name_may_come_back_with_its_bytes() {
        let disk = SimDisk::new(1);
        disk.put(Path::new("f"), b"x");
        disk.remove(Path::new("f")).unwrap();
        let all = outcomes(&disk, |state| read(state, "f"));
        assert_eq!(all, BTreeSet::from([None, Some(b"x".to_vec())]));
        sync_root(&disk);
        assert_eq!(
            outcomes(&disk, |state| read(state, "f")),
            BTreeSet::from([None])
        );
    }

    #[test]
    fn names_changed_twice_keep_their_order() {
        let disk = SimDisk::new(1);
        create(&disk, "a");
        disk.rename(Path::new("a"), Path::new("b")).unwrap();
        disk.rename(Path::new("b"), Path::new("c")).unwrap();
        let all = outcomes(&disk, SimDisk::files);
        let expected = ["a", "b", "c"].map(|name| vec![PathBuf::from(name)]);
        assert_eq!(all, expected.into_iter().chain([Vec::new()]).collect());
    }

    #[test]
    fn handles_and_locks_end_with_a_crash() {
        let (disk, file) = with_file("f", 1, 10);
        let lock = disk.lock(Path::new("lock")).unwrap();
        disk.crash_process();
        assert!(is_power_loss(&file.len().unwrap_err()));
        let again = disk.lock(Path::new("lock")).unwrap();
        drop(lock);
        let third = disk.lock(Path::new("lock"));
        assert_eq!(third.err().unwrap().kind(), ErrorKind::WouldBlock);
        drop(again);
    }
}

mod faults {
    use super::*;

    #[test]
    fn after_a_failed_sync_a_later_one_succeeds_and_proves_nothing() {
        let mut lost = 0;
        for seed in 0..40 {
            let disk = SimDisk::new(seed);
            disk.put(Path::new("f"), &[1; SECTOR]);
            let file = create(&disk, "f");
            file.write_at(0, &[2; SECTOR]).unwrap();
            disk.fail_next(OpKind::Sync, Fault::Io);
            assert!(file.sync_data().is_err());
            file.sync_data().unwrap();
            assert_eq!(
                read(&disk, "f").unwrap(),
                [2; SECTOR],
                "it is seen all the same"
            );
            disk.restart();
            lost += usize::from(read(&disk, "f").unwrap() != [2; SECTOR]);
        }
        assert!((5..=35).contains(&lost), "{lost}");
    }

    #[test]
    fn bytes_written_again_after_a_failed_sync_can_be_made_durable() {
        for seed in 0..40 {
            let disk = SimDisk::new(seed);
            let file = create(&disk, "f");
            sync_root(&disk);
            file.write_at(0, &[2; 9_000]).unwrap();
            disk.fail_next(OpKind::Sync, Fault::Io);
            assert!(file.sync_data().is_err());
            file.write_at(0, &[2; 9_000]).unwrap();
            file.sync_data().unwrap();
            disk.restart();
            assert_eq!(read(&disk, "f").unwrap(), [2; 9_000]);
        }
    }

    #[test]
    fn a_failed_write_may_have_done_any_part() {
        let parts: BTreeSet<usize> = (0..60)
            .map(|seed| {
                let disk = SimDisk::new(seed);
                disk.put(Path::new("f"), &[1; 4 * SECTOR]);
                disk.fail_next(OpKind::Write, Fault::Io);
                let error = create(&disk, "f")
                    .write_at(0, &[2; 4 * SECTOR])
                    .unwrap_err();
                assert_eq!(error.raw_os_error(), Some(5));
                let bytes = read(&disk, "f").unwrap();
                bytes.iter().filter(|byte| **byte == 2).count() / SECTOR
            })
            .collect();
        assert_eq!(parts, (0..=4).collect());
    }

    #[test]
    fn a_power_cut_at_each_call_stops_everything_until_power_is_back() {
        let run = |disk: &SimDisk| -> io::Result<()> {
            let file = disk.open(Path::new("f"), OpenMode::OpenOrCreate)?;
            file.write_at(0, b"abc")?;
            file.sync_data()?;
            disk.sync_dir(Path::new(""))
        };
        let whole = SimDisk::new(1);
        run(&whole).unwrap();
        for op in 1..=whole.ops() {
            for fault in [Fault::PowerCut, Fault::PowerCutAfter] {
                let disk = SimDisk::new(op);
                disk.fail_at(op, fault);
                assert!(is_power_loss(&run(&disk).unwrap_err()));
                assert!(disk.is_off() && is_power_loss(&run(&disk).unwrap_err()));
                assert_eq!(disk.ops(), op, "calls without power are not counted");
                disk.restart();
                run(&disk).unwrap();
                disk.restart();
                assert_eq!(read(&disk, "f").unwrap(), b"abc");
            }
        }
    }

    #[test]
    fn a_full_disk_refuses_bytes_and_takes_them_when_there_is_room() {
        let disk = SimDisk::new(1);
        disk.set_capacity(Some(3 * 4096));
        let file = create(&disk, "f");
        file.write_at(0, &[1; 2 * 4096]).unwrap();
        assert_eq!(disk.space(Path::new("")).unwrap().free_bytes, 4096);
        let error = file.write_at(2 * 4096, &[1; 2 * 4096]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        file.write_at(0, &[2; 2 * 4096]).unwrap();
        file.set_len(0).unwrap();
        file.write_at(0, &[1; 3 * 4096]).unwrap();
        disk.remove(Path::new("f")).unwrap();
        assert_eq!(
            disk.space(Path::new("")).unwrap().free_bytes,
            0,
            "it is still open"
        );
        drop(file);
        assert_eq!(disk.space(Path::new("")).unwrap().free_bytes, 3 * 4096);
    }

    #[test]
    fn a_read_only_disk_refuses_changes_and_reads_on() {
        let (disk, file) = with_file("f", 1, 10);
        disk.set_read_only(true);
        let refused = [
            file.write_at(0, b"x").unwrap_err(),
            file.set_len(1).unwrap_err(),
            disk.remove(Path::new("f")).unwrap_err(),
            disk.open(Path::new("g"), OpenMode::CreateNew).unwrap_err(),
        ];
        assert!(
            refused
                .iter()
                .all(|error| error.kind() == ErrorKind::ReadOnlyFilesystem)
        );
        assert_eq!(file.len().unwrap(), 10);
        disk.heal();
        file.write_at(0, b"x").unwrap();
    }

    #[test]
    fn faults_by_chance_come_about_as_often_as_asked() {
        let (disk, file) = with_file("f", 1, 10);
        disk.set_fault_rates(FaultRates {
            read_per_million: 100_000,
            ..FaultRates::default()
        });
        let failed = (0..2_000)
            .filter(|_| file.read_at(0, &mut [0]).is_err())
            .count();
        assert!((120..280).contains(&failed), "{failed}");
    }

    #[test]
    fn a_misdirected_write_reports_success_and_lands_elsewhere() {
        let landed: BTreeSet<Option<usize>> = (0..30)
            .map(|seed| {
                let disk = SimDisk::new(seed);
                disk.put(Path::new("f"), &[1; 3 * 4096]);
                disk.fail_next(OpKind::Write, Fault::Misdirected);
                create(&disk, "f").write_at(4096, &[2; 100]).unwrap();
                let bytes = read(&disk, "f").unwrap();
                bytes.iter().position(|byte| *byte == 2).map(|at| at / 4096)
            })
            .collect();
        assert_eq!(landed, (0..4).map(Some).collect());
    }

    #[test]
    fn time_is_counted_and_not_spent() {
        let (disk, file) = with_file("f", 1, 10);
        disk.set_latency(Latency {
            per_op: Duration::from_micros(10),
            per_mib: Duration::from_millis(1),
            per_sync: Duration::from_millis(5),
            jitter_max: Duration::ZERO,
        });
        file.write_at(0, &vec![3; 1 << 20]).unwrap();
        file.sync_data().unwrap();
        assert_eq!(disk.busy(), Duration::from_micros(6_020));
    }
}

mod outside {
    use super::*;

    #[test]
    fn a_flipped_bit_is_seen_and_stays() {
        let (disk, _file) = with_file("f", 0, 10);
        disk.flip(Path::new("f"), 9).unwrap();
        assert_eq!(read(&disk, "f").unwrap()[..3], [0, 2, 0]);
        disk.restart();
        assert_eq!(read(&disk, "f").unwrap()[..3], [0, 2, 0]);
        let error = disk.flip(Path::new("f"), 80).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert!(disk.flip(Path::new("g"), 0).is_err());
    }

    #[test]
    fn a_directory_is_copied_out_put_back_and_wiped() {
        let disk = SimDisk::new(1);
        disk.put(Path::new("/a/f"), b"one");
        disk.put(Path::new("/a/deep/g"), b"two");
        disk.put(Path::new("/b/f"), b"other");
        let copy = disk.copy_out(Path::new("/a"));
        disk.put(Path::new("/a/f"), b"later");
        disk.put(Path::new("/a/new"), b"new");

        disk.put_back(Path::new("/a"), &copy);
        disk.restart();
        assert_eq!(disk.copy_out(Path::new("/a")), copy);
        assert_eq!(read(&disk, "/a/deep/g").unwrap(), b"two");

        disk.put_back(Path::new("/b"), &copy);
        disk.wipe(Path::new("/a"));
        disk.restart();
        assert_eq!(disk.files(), ["/b/deep/g", "/b/f"].map(PathBuf::from));
        assert!(disk.exists(Path::new("/a")).unwrap());
        assert_eq!(disk.list(Path::new("/a")).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_wipe_leaves_open_files_to_their_holders() {
        let (disk, file) = with_file("/a/f", 1, 10);
        disk.wipe(Path::new("/a"));
        file.write_at(0, b"x").unwrap();
        file.sync_data().unwrap();
        assert!(disk.files().is_empty());
    }
}

mod states {
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
}

fn wide(len: usize) -> u64 {
    image::wide(len)
}
