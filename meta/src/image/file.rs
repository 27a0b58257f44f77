//! Images as files: written under another name, durable before they have their own.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::disk::{Disk, File, OpenMode};

use super::format::{Flaw, Header, ImageReader, ImageWriter};
use super::{ImageError, Progress};

/// Bytes that are read or written at once.
const BUFFER: usize = 256 << 10;

/// A file on its way through [`Read`] and [`Write`].
#[derive(Debug)]
pub(crate) struct Stream {
    file: Arc<dyn File>,
    at: u64,
}

impl Stream {
    fn moved(&mut self, len: usize) -> usize {
        self.at += u64::try_from(len).unwrap_or_default();
        len
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(self.at, into)?;
        Ok(self.moved(read))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.at, bytes)?;
        Ok(self.moved(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An image that is being written.
pub(crate) type Output = ImageWriter<BufWriter<Stream>>;
/// An image that is being read.
pub(crate) type Input = ImageReader<BufReader<Stream>>;

/// A file for an image.
#[derive(Debug, Clone)]
pub(crate) struct ImageFile {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
}

impl ImageFile {
    pub(crate) fn new(disk: &Arc<dyn Disk>, path: &Path) -> Self {
        let (disk, path) = (Arc::clone(disk), path.to_owned());
        Self { disk, path }
    }

    /// The name it has until it counts.
    pub(crate) fn unfinished(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        name.into()
    }

    pub(crate) fn exists(&self) -> Result<bool, ImageError> {
        self.io(self.disk.exists(&self.path))
    }

    /// Begins to write it, under its other name; its own must be free.
    pub(crate) fn begin(&self, header: &Header) -> Result<Output, ImageError> {
        if self.exists()? {
            return Err(ImageError::Exists {
                path: self.path.clone(),
            });
        }
        let opened = self.disk.open(&self.unfinished(), OpenMode::OpenOrCreate);
        let file = self.io(opened)?;
        self.io(file.set_len(0))?;
        let out = BufWriter::with_capacity(BUFFER, Stream { file, at: 0 });
        self.io(ImageWriter::begin(out, header))
    }

    /// Writes the end and makes all of it durable, still under its other name.
    pub(crate) fn end(&self, output: Output) -> Result<(), ImageError> {
        let out = self.io(output.finish())?;
        let stream = self.io(out.into_inner().map_err(io::IntoInnerError::into_error))?;
        self.io(stream.file.sync_data())?;
        self.sync_dir()
    }

    /// Gives it its own name.
    pub(crate) fn name(&self) -> Result<(), ImageError> {
        self.io(self.disk.rename(&self.unfinished(), &self.path))?;
        self.sync_dir()
    }

    fn sync_dir(&self) -> Result<(), ImageError> {
        let parent = self.path.parent();
        let dir = parent.filter(|dir| !dir.as_os_str().is_empty());
        self.io(self.disk.sync_dir(dir.unwrap_or(Path::new("."))))
    }

    /// Opens it to be read from its beginning.
    pub(crate) fn open(&self) -> Result<Input, ImageError> {
        self.open_at(&self.path)
    }

    /// Reads all of an image: nothing is changed anywhere before it is known to be whole.
    pub(crate) fn check(&self, progress: &Progress) -> Result<Header, ImageError> {
        self.check_at(&self.path, progress)
    }

    /// As [`Self::check`], of the one that has not its own name yet; none when there is none that is whole.
    pub(crate) fn check_unfinished(&self) -> Option<Header> {
        let unfinished = self.unfinished();
        self.check_at(&unfinished, &Progress::default()).ok()
    }

    fn open_at(&self, path: &Path) -> Result<Input, ImageError> {
        let file = self.io(self.disk.open(path, OpenMode::Read))?;
        let source = BufReader::with_capacity(BUFFER, Stream { file, at: 0 });
        self.flaw(ImageReader::begin(source))
    }

    fn check_at(&self, path: &Path, progress: &Progress) -> Result<Header, ImageError> {
        let mut input = self.open_at(path)?;
        let (header, mut read) = (*input.header(), 0);
        while self.flaw(input.next())?.is_some() {
            read += 1;
            progress.told("checked", read, header.records);
        }
        Ok(header)
    }

    /// A flaw of this file, in words for people.
    pub(crate) fn flaw<T>(&self, result: Result<T, Flaw>) -> Result<T, ImageError> {
        let path = self.path.clone();
        result.map_err(|flaw| match flaw {
            Flaw::Foreign => ImageError::Foreign { path },
            Flaw::NewerFormat(format) => ImageError::NewerFormat { path, format },
            Flaw::Damaged(what) => ImageError::Damaged { path, what },
            Flaw::Io(source) => ImageError::Io { path, source },
        })
    }

    pub(crate) fn io<T>(&self, result: io::Result<T>) -> Result<T, ImageError> {
        let path = self.path.clone();
        result.map_err(|source| ImageError::Io { path, source })
    }
}
