//! What every byte of the directories is: what the engine says of its files, and the rest by name and size.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::Host;
use host::disk::{Disk, OpenMode};
use types::{Problem, Reason};

use super::handle::EngineHandle;
use crate::Usage;
use crate::files::names;
use crate::journal::format::SUFFIX as JOURNAL;
use crate::store::format::SUFFIX as DATA;

/// Bytes of the files of both directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Listing {
    data: u64,
    journal: u64,
    pub(super) other: u64,
    pub(super) free: u64,
}

impl Listing {
    /// Bytes of data files that the engine does not hold: being written, or being removed.
    pub(super) const fn passing(&self, usage: &Usage) -> u64 {
        self.data.saturating_sub(usage.data())
    }

    /// Bytes of journal files that are made ahead.
    pub(super) const fn ahead(&self, usage: &Usage) -> u64 {
        self.journal.saturating_sub(usage.journal)
    }

    fn read(disk: &dyn Disk, dirs: &[PathBuf; 2]) -> io::Result<Self> {
        let mut listing = Self {
            free: u64::MAX,
            ..Self::default()
        };
        for dir in dirs {
            listing.free = listing.free.min(disk.space(dir)?.free_bytes);
            for name in names(disk, dir)? {
                let bytes = length(disk, &dir.join(&name))?;
                let kind = if name.ends_with(DATA) {
                    &mut listing.data
                } else if name.ends_with(JOURNAL) {
                    &mut listing.journal
                } else {
                    &mut listing.other
                };
                *kind += bytes;
            }
        }
        Ok(listing)
    }
}

/// A file's bytes; none of one that went since it was listed, and of what is not a file.
fn length(disk: &dyn Disk, path: &Path) -> io::Result<u64> {
    match disk.open(path, OpenMode::Read) {
        Ok(file) => file.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(0),
        Err(error) => Err(error),
    }
}

/// What the engine says, and then what lies there.
pub(super) async fn look(
    host: &Host,
    dirs: &[PathBuf; 2],
    engine: &EngineHandle,
    logs: usize,
) -> Result<(Usage, Listing), Problem> {
    let stopping = || Problem::new(Reason::Stopping, "the bookie is stopping");
    let usage = engine.usage(logs).await.map_err(|_| stopping())?;
    let (disk, dirs) = (Arc::clone(&host.disk), dirs.clone());
    let worker = host.disk_worker("usage");
    let listing = worker.run(move || Listing::read(&*disk, &dirs)).await;
    let listing = listing.map_err(|_| stopping())?;
    let listing = listing.map_err(|error| {
        let message = format!("the directories cannot be read: {error}");
        Problem::new(Reason::Internal, message)
    })?;
    Ok((usage, listing))
}

#[cfg(test)]
mod tests {
    use host::disk::sim::SimDisk;

    use super::*;

    #[test]
    fn every_byte_of_both_directories_is_counted_once() {
        let disk = SimDisk::new(1);
        let dirs = [PathBuf::from("journal"), PathBuf::from("data")];
        for (path, bytes) in [
            ("journal/0000000000000001.journal", 100),
            ("journal/lock", 0),
            ("journal/identity", 10),
            ("data/0000000000000001.data", 1_000),
            ("data/0000000000000002.data", 2_000),
            ("data/MANIFEST", 20),
        ] {
            let path = Path::new(path);
            disk.create_dir_all(path.parent().unwrap()).unwrap();
            let file = disk.open(path, OpenMode::CreateNew).unwrap();
            file.write_at(0, &vec![1; bytes]).unwrap();
        }
        let listing = Listing::read(&disk, &dirs).unwrap();
        let usage = Usage {
            live: 1_500,
            journal: 60,
            ..Usage::default()
        };
        assert_eq!((listing.data, listing.journal), (3_000, 100));
        assert_eq!(listing.other, 30);
        assert_eq!(
            (listing.passing(&usage), listing.ahead(&usage)),
            (1_500, 40)
        );
    }
}
