//! Bytes: what a power loss may do to sectors and lengths.

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
