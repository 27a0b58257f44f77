//! The journal's disk work: a frame, a new file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use host::disk::{Disk, File, OpenMode};

use crate::codec::wide;
use crate::files::{has_room, numbered, remove_if_there, sync_names, zeros};
use crate::journal::core::OpenFile;
use crate::journal::format::{BLOCK, FileHeader, FramePlace, Record, SUFFIX, encode_frame};

/// The name of a journal file that is being made.
pub(crate) const PREPARING: &str = "journal.new";
/// Bytes written over at once, so that other work of the same worker goes between.
const STEP: u64 = 4 << 20;

/// Writes one frame and syncs it.
#[derive(Debug)]
pub(crate) struct FrameJob {
    pub(crate) file: Arc<dyn File>,
    pub(crate) place: FramePlace,
    pub(crate) records: Vec<Record>,
}

impl FrameJob {
    pub(crate) fn run(self) -> io::Result<()> {
        let frame = encode_frame(self.place, &self.records);
        self.file.write_at(self.place.offset, &frame)?;
        self.file.sync_data()
    }
}

/// Makes a journal file in steps: takes a used file or writes a new one over, gives it its header, and then its name.
///
/// The name comes last and durably, so a journal file always has a whole header.
#[derive(Debug)]
pub(crate) struct PrepareJob {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) header: FileHeader,
    /// A used file of the same size.
    pub(crate) source: Option<PathBuf>,
    /// Free bytes that it leaves alone.
    pub(crate) kept: u64,
    pub(crate) file: Option<Arc<dyn File>>,
    pub(crate) written: u64,
}

/// How far a [`PrepareJob`] is.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// More is to be written.
    More(PrepareJob),
    /// The file can be used.
    Ready(OpenFile),
}

impl PrepareJob {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        header: FileHeader,
        source: Option<PathBuf>,
        kept: u64,
    ) -> Self {
        Self {
            disk,
            dir,
            header,
            source,
            kept,
            file: None,
            written: 0,
        }
    }

    /// Does the next step.
    pub(crate) fn run(mut self) -> io::Result<Prepared> {
        let disk = Arc::clone(&self.disk);
        let path = self.dir.join(PREPARING);
        let done = self.step();
        if let Err(error) = &done
            && error.kind() == io::ErrorKind::StorageFull
        {
            // A full disk is given its bytes back; whatever stays is swept at the next start.
            drop(disk.remove(&path));
        }
        match done? {
            Some(ready) => Ok(Prepared::Ready(ready)),
            None => Ok(Prepared::More(self)),
        }
    }

    /// Does every step.
    pub(crate) fn run_whole(self) -> io::Result<OpenFile> {
        let mut job = self;
        loop {
            match job.run()? {
                Prepared::More(more) => job = more,
                Prepared::Ready(file) => return Ok(file),
            }
        }
    }

    fn step(&mut self) -> io::Result<Option<OpenFile>> {
        let Some(file) = self.file.clone() else {
            self.file = Some(self.begin()?);
            return Ok(None);
        };
        if self.written < self.header.size {
            let left = self.header.size - self.written;
            has_room(&*self.disk, &self.dir, left, self.kept)?;
            let count = STEP.min(left);
            file.write_at(self.written, &zeros(count))?;
            file.sync_data()?;
            self.written += count;
            return Ok(None);
        }
        self.name_it(file).map(Some)
    }

    /// Opens the file under its preliminary name.
    fn begin(&mut self) -> io::Result<Arc<dyn File>> {
        let path = self.dir.join(PREPARING);
        remove_if_there(&*self.disk, &path)?;
        let Some(source) = self.source.take() else {
            return self.disk.open_direct(&path, OpenMode::CreateNew);
        };
        self.disk.rename(&source, &path)?;
        // The old name must be gone for good before the old header is: else a power loss shows the old name over the
        // new header, which would pass for damage.
        sync_names(&*self.disk, &self.dir)?;
        let file = self.disk.open_direct(&path, OpenMode::ReadWrite)?;
        if file.len()? == self.header.size {
            self.written = self.header.size;
        }
        Ok(file)
    }

    fn name_it(&self, file: Arc<dyn File>) -> io::Result<OpenFile> {
        file.write_at(0, &self.header.encode())?;
        file.sync_data()?;
        let path = numbered(&self.dir, self.header.number, SUFFIX);
        self.disk.rename(&self.dir.join(PREPARING), &path)?;
        sync_names(&*self.disk, &self.dir)?;
        debug_assert!(wide(self.header.encode().len()) == BLOCK);
        Ok(OpenFile {
            file,
            header: self.header,
            path,
            end: BLOCK,
        })
    }
}
