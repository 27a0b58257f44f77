//! Small files replaced whole, and directories made durable.

use std::io;
use std::path::{Path, PathBuf};

use host::disk::{AlignedBuf, Disk, File, OpenMode};

use crate::codec::{narrow, wide};

/// Replaces a file atomically and durably: writes `<name>.new`, syncs it, renames it, syncs the directory.
///
/// After an error before the rename the old file stands; after one at the directory's sync either may.
pub(crate) fn replace(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let fresh = dir.join(format!("{name}.new"));
    remove_if_there(disk, &fresh)?;
    let written = disk.open(&fresh, OpenMode::CreateNew).and_then(|file| {
        file.write_at(0, bytes)?;
        file.sync_data()
    });
    if let Err(error) = written {
        // A full disk is given its bytes back; whatever stays is swept at the next start.
        drop(disk.remove(&fresh));
        return Err(error);
    }
    disk.rename(&fresh, &dir.join(name))?;
    sync_names(disk, dir)
}

/// Whether so many bytes may be written without touching what is kept for others on the disk: a file that grows until
/// nothing more goes takes, for a moment, what metadata or another file needs just then.
///
/// # Errors
///
/// `StorageFull` with the numbers; those of the system.
pub(crate) fn has_room(disk: &dyn Disk, dir: &Path, bytes: u64, kept: u64) -> io::Result<()> {
    let free = disk.space(dir)?.free_bytes;
    if free >= bytes.saturating_add(kept) {
        return Ok(());
    }
    let says =
        format!("{bytes} more bytes do not fit into {free} free ones, of which {kept} are kept");
    Err(io::Error::new(io::ErrorKind::StorageFull, says))
}

/// Syncs a directory. An error is final whatever the system calls it: a full disk is no excuse here, since nothing
/// that relied on the names may be believed and nothing is tried again.
pub(crate) fn sync_names(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    disk.sync_dir(dir).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => io::Error::other(error),
        _ => error,
    })
}

/// Reads a whole file; `None` when there is none.
pub(crate) fn read_whole(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    if !disk.exists(path)? {
        return Ok(None);
    }
    let file = disk.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; narrow(file.len()?)];
    let count = read_twice(&*file, 0, &mut bytes)?;
    bytes.truncate(count);
    Ok(Some(bytes))
}

/// Removes a file when it is there.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Names in a directory, without the directory.
pub(crate) fn names(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<String>> {
    let listed = disk.list(dir)?;
    Ok(listed
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect())
}

/// Reads exactly `into`; an early end is an error. A read that fails is tried once more, as reading twice does no harm
/// and what cannot be read is dear.
pub(crate) fn read_exact(file: &dyn File, offset: u64, into: &mut [u8]) -> io::Result<()> {
    let wanted = into.len();
    read_least(file, offset, into, wanted)
}

/// As [`read_exact`], for the front of `into` up to `wanted` bytes; the file may end in the rest.
pub(crate) fn read_least(
    file: &dyn File,
    offset: u64,
    into: &mut [u8],
    wanted: usize,
) -> io::Result<()> {
    if read_twice(file, offset, into)? >= wanted {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("file ends early offset={offset} wanted={wanted}"),
    ))
}

/// As [`read_least`], `part` bytes at a time.
pub(crate) fn read_in_parts(
    file: &dyn File,
    offset: u64,
    into: &mut [u8],
    wanted: usize,
    part: usize,
) -> io::Result<()> {
    let (mut offset, mut wanted) = (offset, wanted);
    for bytes in into.chunks_mut(part) {
        read_least(file, offset, bytes, wanted.min(bytes.len()))?;
        offset += wide(bytes.len());
        wanted = wanted.saturating_sub(bytes.len());
    }
    Ok(())
}

fn read_twice(file: &dyn File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    file.read_at(offset, into)
        .or_else(|_first| file.read_at(offset, into))
}

/// The number in a name such as `0000000000000007.journal`.
pub(crate) fn number_of(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// The path of a numbered file.
pub(crate) fn numbered(dir: &Path, number: u64, suffix: &str) -> PathBuf {
    dir.join(format!("{number:016x}{suffix}"))
}

/// Zeros to write over a piece of a file.
pub(crate) fn zeros(len: u64) -> AlignedBuf {
    debug_assert!(len <= wide(1 << 24), "zeros are written in pieces");
    AlignedBuf::zeroed(narrow(len))
}
