//! The contract of [`Disk`] as checks that every implementation passes.
//!
//! [`check`] holds each clause of the contract for itself; [`transcript`] makes random calls and tells their outcomes,
//! so that two disks given the same seed must tell the same.
#![expect(
    clippy::unwrap_used,
    reason = "a broken contract shall stop the test that runs the checks"
)]

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{AlignedBuf, BLOCK, Disk, File, OpenMode};
use crate::rng::Rng;

/// Checks every clause, each in a directory of its own below `dir`, which exists.
///
/// # Panics
///
/// When the disk breaks the contract.
pub fn check(disk: &dyn Disk, dir: &Path) {
    type Clause = fn(&dyn Disk, &Path);
    let clauses: [(&str, Clause); 10] = [
        ("bytes", bytes_are_read_back_where_they_were_written),
        ("direct", whole_blocks_and_odd_ends_are_one_file),
        ("lengths", lengths_grow_and_shrink_with_zeros),
        ("modes", each_mode_opens_what_it_says),
        ("read-only", a_file_opened_for_reading_refuses_changes),
        ("names", names_are_listed_bare_and_sorted),
        ("rename", a_rename_replaces_and_leaves_open_files_alone),
        (
            "remove",
            a_removed_file_is_read_on_by_those_who_have_it_open,
        ),
        ("dirs", directories_are_made_with_those_above),
        ("lock", a_lock_is_exclusive_until_dropped),
    ];
    for (name, clause) in clauses {
        let own = dir.join(name);
        disk.create_dir_all(&own).unwrap();
        clause(disk, &own);
    }
    let space = disk.space(dir).unwrap();
    assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0);
}

fn open(disk: &dyn Disk, path: &Path, mode: OpenMode) -> Arc<dyn File> {
    disk.open(path, mode).unwrap()
}

fn kind_of<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("the call errs").kind()
}

fn all(file: &dyn File) -> Vec<u8> {
    let len = usize::try_from(file.len().unwrap()).unwrap();
    let mut bytes = vec![0; len + 10];
    let count = file.read_at(0, &mut bytes).unwrap();
    assert_eq!(count, len, "a read stops at the end, and only there");
    bytes.truncate(count);
    bytes
}

fn bytes_are_read_back_where_they_were_written(disk: &dyn Disk, dir: &Path) {
    let file = open(disk, &dir.join("f"), OpenMode::CreateNew);
    file.write_at(0, b"hello world").unwrap();
    file.write_at(6, b"there").unwrap();
    file.write_at(9_000, b"far").unwrap();
    file.write_at(0, b"").unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(dir).unwrap();

    let again = open(disk, &dir.join("f"), OpenMode::Read);
    let bytes = all(&*again);
    assert_eq!(&bytes[..11], b"hello there");
    assert!(bytes[11..9_000].iter().all(|byte| *byte == 0));
    assert_eq!(&bytes[9_000..], b"far");
    let mut into = [9; 4];
    assert_eq!(again.read_at(9_001, &mut into).unwrap(), 2);
    assert_eq!(&into, b"ar\x09\x09");
    assert_eq!(again.read_at(9_003, &mut into).unwrap(), 0);
    assert_eq!(again.read_at(1 << 40, &mut into).unwrap(), 0);
}

/// What goes past the cache and what does not meet in one file, in any order.
fn whole_blocks_and_odd_ends_are_one_file(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("f");
    let file = disk.open_direct(&path, OpenMode::CreateNew).unwrap();
    assert_eq!(
        kind_of(disk.open_direct(&path, OpenMode::CreateNew)),
        ErrorKind::AlreadyExists
    );
    let mut expected = vec![0; 3 * BLOCK + 700];
    let mut write = |offset: usize, len: usize, byte: u8| {
        let mut buffer = AlignedBuf::zeroed(len);
        buffer.fill(byte);
        expected[offset..offset + len].fill(byte);
        let offset = u64::try_from(offset).unwrap();
        file.write_at(offset, &buffer).unwrap();
    };
    write(BLOCK, 2 * BLOCK + 700, 1); // Whole blocks and an end.
    write(0, 100, 2); // Part of a block that is not there yet.
    write(BLOCK + 10, BLOCK, 3); // A block's length at no block's place.
    write(2 * BLOCK, BLOCK, 4); // Over what the cache holds.
    assert_eq!(all(&*file), expected);
    file.sync_data().unwrap();
    let again = disk.open_direct(&path, OpenMode::ReadWrite).unwrap();
    again.write_at(0, &AlignedBuf::zeroed(BLOCK)).unwrap();
    expected[..BLOCK].fill(0);
    assert_eq!(all(&*file), expected);
    let reading = disk.open_direct(&path, OpenMode::Read).unwrap();
    assert!(reading.write_at(0, b"x").is_err());
    assert_eq!(all(&*reading), expected);
    let mut blocks = AlignedBuf::zeroed(4 * BLOCK);
    for (offset, from, to) in [
        (0, 0, 4 * BLOCK),         // Whole blocks, up to the end and behind it.
        (BLOCK, 0, 2 * BLOCK),     // Whole blocks within.
        (BLOCK, 0, 2 * BLOCK + 9), // Whole blocks and an end.
        (BLOCK + 1, 0, BLOCK),     // At no block's place,
        (BLOCK, 1, BLOCK),         // into no block.
        (4 * BLOCK, 0, BLOCK),     // Behind the end.
    ] {
        let into = &mut blocks[from..to];
        let count = reading.read_at(u64::try_from(offset).unwrap(), into);
        let there = &expected[offset.min(expected.len())..];
        let there = &there[..there.len().min(to - from)];
        assert_eq!(&into[..count.unwrap()], there, "{offset} {from}..{to}");
    }
}

fn lengths_grow_and_shrink_with_zeros(disk: &dyn Disk, dir: &Path) {
    let file = open(disk, &dir.join("f"), OpenMode::OpenOrCreate);
    file.write_at(0, &[7; 5_000]).unwrap();
    file.set_len(100).unwrap();
    file.set_len(6_000).unwrap();
    let mut expected = vec![7; 100];
    expected.resize(6_000, 0);
    assert_eq!(all(&*file), expected);
    file.set_len(0).unwrap();
    assert_eq!(file.len().unwrap(), 0);
}

fn each_mode_opens_what_it_says(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("f");
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        assert_eq!(kind_of(disk.open(&path, mode)), ErrorKind::NotFound);
    }
    assert!(!disk.exists(&path).unwrap());
    open(disk, &path, OpenMode::OpenOrCreate)
        .write_at(0, b"kept")
        .unwrap();
    assert!(disk.exists(&path).unwrap());
    let again = disk.open(&path, OpenMode::CreateNew);
    assert_eq!(kind_of(again), ErrorKind::AlreadyExists);
    for mode in [OpenMode::Read, OpenMode::ReadWrite, OpenMode::OpenOrCreate] {
        assert_eq!(all(&*open(disk, &path, mode)), b"kept");
    }
    let nowhere = dir.join("none").join("f");
    assert_eq!(
        kind_of(disk.open(&nowhere, OpenMode::CreateNew)),
        ErrorKind::NotFound
    );
    assert!(disk.open(dir, OpenMode::Read).is_err());
    assert!(
        disk.open(&path.join("below"), OpenMode::OpenOrCreate)
            .is_err()
    );
}

fn a_file_opened_for_reading_refuses_changes(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("f");
    open(disk, &path, OpenMode::CreateNew)
        .write_at(0, b"kept")
        .unwrap();
    let file = open(disk, &path, OpenMode::Read);
    assert!(file.write_at(0, b"lost").is_err());
    assert!(file.set_len(0).is_err());
    assert_eq!(all(&*file), b"kept");
}

fn names_are_listed_bare_and_sorted(disk: &dyn Disk, dir: &Path) {
    for name in ["b", "a", "c"] {
        open(disk, &dir.join(name), OpenMode::CreateNew);
    }
    disk.create_dir_all(&dir.join("aa").join("deep")).unwrap();
    let names = disk.list(dir).unwrap();
    assert_eq!(names, ["a", "aa", "b", "c"].map(PathBuf::from));
    assert_eq!(kind_of(disk.list(&dir.join("none"))), ErrorKind::NotFound);
    assert!(disk.list(&dir.join("a")).is_err());
    assert_eq!(
        kind_of(disk.sync_dir(&dir.join("none"))),
        ErrorKind::NotFound
    );
}

fn a_rename_replaces_and_leaves_open_files_alone(disk: &dyn Disk, dir: &Path) {
    let (from, to) = (dir.join("new"), dir.join("old"));
    let old = open(disk, &to, OpenMode::CreateNew);
    old.write_at(0, b"old").unwrap();
    let new = open(disk, &from, OpenMode::CreateNew);
    new.write_at(0, b"new").unwrap();

    disk.rename(&from, &to).unwrap();
    disk.sync_dir(dir).unwrap();

    assert!(!disk.exists(&from).unwrap());
    assert_eq!(all(&*open(disk, &to, OpenMode::Read)), b"new");
    assert_eq!(all(&*old), b"old");
    new.write_at(3, b"er").unwrap();
    assert_eq!(all(&*open(disk, &to, OpenMode::Read)), b"newer");
    assert_eq!(kind_of(disk.rename(&from, &to)), ErrorKind::NotFound);
    assert_eq!(
        kind_of(disk.rename(&to, &dir.join("none").join("f"))),
        ErrorKind::NotFound
    );
    disk.create_dir_all(&dir.join("dir")).unwrap();
    assert!(disk.rename(&to, &dir.join("dir")).is_err());
    disk.rename(&to, &to).unwrap();
    assert!(disk.exists(&to).unwrap());
}

fn a_removed_file_is_read_on_by_those_who_have_it_open(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("f");
    let file = open(disk, &path, OpenMode::CreateNew);
    file.write_at(0, b"still").unwrap();
    disk.remove(&path).unwrap();
    disk.sync_dir(dir).unwrap();
    assert!(!disk.exists(&path).unwrap());
    file.write_at(5, b" here").unwrap();
    file.sync_data().unwrap();
    assert_eq!(all(&*file), b"still here");
    let other = open(disk, &path, OpenMode::CreateNew);
    assert_eq!(other.len().unwrap(), 0);
    assert_eq!(kind_of(disk.remove(&dir.join("none"))), ErrorKind::NotFound);
    assert!(disk.remove(dir).is_err());
}

fn directories_are_made_with_those_above(disk: &dyn Disk, dir: &Path) {
    let deep = dir.join("a").join("b").join("c");
    disk.create_dir_all(&deep).unwrap();
    disk.create_dir_all(&deep).unwrap();
    assert!(disk.exists(&deep).unwrap());
    assert_eq!(disk.list(&deep).unwrap(), Vec::<PathBuf>::new());
    open(disk, &dir.join("f"), OpenMode::CreateNew);
    assert!(disk.create_dir_all(&dir.join("f")).is_err());
    assert!(disk.create_dir_all(&dir.join("f").join("g")).is_err());
}

fn a_lock_is_exclusive_until_dropped(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("lock");
    let held = disk.lock(&path).unwrap();
    assert_eq!(kind_of(disk.lock(&path)), ErrorKind::WouldBlock);
    let other = disk.lock(&dir.join("other")).unwrap();
    drop(held);
    let again = disk.lock(&path).unwrap();
    drop((other, again));
    assert!(disk.exists(&path).unwrap());
}

/// Makes so many random calls on a few names in a directory, and tells what came of each.
///
/// # Panics
///
/// When the directory cannot be used.
pub fn transcript(disk: &dyn Disk, dir: &Path, seed: u64, steps: usize) -> String {
    disk.create_dir_all(&dir.join("d")).unwrap();
    let rng = Rng::seeded(seed);
    let mut told = String::new();
    let mut files: Vec<Arc<dyn File>> = Vec::new();
    for step in 0..steps {
        let outcome = random_call(disk, dir, &rng, &mut files);
        writeln!(told, "{step} {outcome}").unwrap();
    }
    for name in ["a", "b", "d/c"] {
        if let Ok(file) = disk.open(&dir.join(name), OpenMode::Read) {
            writeln!(told, "{name} {:x?}", types::crc32c(&all(&*file))).unwrap();
        }
    }
    told
}

fn random_call(disk: &dyn Disk, dir: &Path, rng: &Rng, files: &mut Vec<Arc<dyn File>>) -> String {
    const MODES: [OpenMode; 4] = [
        OpenMode::Read,
        OpenMode::ReadWrite,
        OpenMode::CreateNew,
        OpenMode::OpenOrCreate,
    ];
    let name = || dir.join(["a", "b", "d/c", "d", "e/f"][rng.index(5)]);
    let tell = |result: io::Result<String>| result.unwrap_or_else(|error| told_kind(&error));
    if rng.one_in(3) || files.is_empty() {
        let path = name();
        return tell(match rng.below(6) {
            // Only files are renamed.
            0 if !path.ends_with("d") => disk.rename(&path, &name()).map(|()| "renamed".to_owned()),
            1 => disk.remove(&path).map(|()| "removed".to_owned()),
            2 => disk.list(&path).map(|names| format!("{names:?}")),
            3 => disk.exists(&path).map(|is_there| is_there.to_string()),
            _ => disk.open(&path, MODES[rng.index(4)]).map(|file| {
                files.truncate(5);
                files.insert(0, file);
                "opened".to_owned()
            }),
        });
    }
    let file = &files[rng.index(files.len())];
    let offset = rng.below(10_000);
    let mut bytes = vec![0; rng.index(6_000)];
    tell(match rng.below(8) {
        0 => file.set_len(offset).map(|()| "set".to_owned()),
        1 => file.len().map(|len| len.to_string()),
        2 => file.sync_data().map(|()| "synced".to_owned()),
        3 | 4 => file
            .read_at(offset, &mut bytes)
            .map(|count| format!("read {count} {:?}", types::crc32c(&bytes[..count]))),
        _ => {
            rng.fill(&mut bytes);
            file.write_at(offset, &bytes).map(|()| "written".to_owned())
        }
    })
}

/// Kinds that callers tell apart; others are one, as systems differ in them.
fn told_kind(error: &io::Error) -> String {
    match error.kind() {
        kind @ (ErrorKind::NotFound | ErrorKind::AlreadyExists) => format!("{kind:?}"),
        _ => "error".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::disk::sim::SimDisk;

    #[test]
    fn the_real_disk_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        check(&RealDisk, dir.path());
    }

    #[test]
    fn the_simulated_disk_keeps_the_contract() {
        check(&SimDisk::new(1), Path::new("/data"));
        check(&SimDisk::new(1), Path::new("relative"));
    }

    #[test]
    fn both_disks_tell_the_same_of_random_calls() {
        for seed in 0..10 {
            let dir = tempfile::tempdir().unwrap();
            let real = transcript(&RealDisk, dir.path(), seed, 200);
            let simulated = transcript(&SimDisk::new(seed), Path::new("/x"), seed, 200);
            assert_eq!(real, simulated, "seed {seed}");
        }
    }

    #[test]
    fn a_lock_on_the_real_disk_holds_against_another_holder_of_the_same_process() {
        let dir = tempfile::tempdir().unwrap();
        let held = RealDisk.lock(&dir.path().join("lock")).unwrap();
        let other = RealDisk.lock(&dir.path().join("lock"));
        assert_eq!(kind_of(other.map(drop)), ErrorKind::WouldBlock);
        drop(held);
    }
}
