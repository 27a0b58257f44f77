//! Names: what a power loss may do to directories.

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
