//! The hand from outside: damage, copies, removal.

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
