//! Writing a data file from entries that come in order.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::disk::{AlignedBuf, BLOCK as DISK_BLOCK, Disk, File, OpenMode};
use types::{ByteSize, ClusterId, crc32c};

use crate::codec::{narrow, small, wide};
use crate::files::{has_room, numbered, sync_names};
use crate::store::file::DataFile;
use crate::store::format::{
    BLOCK_HEADER, BlockMeta, ENTRY_HEADER, FileHeader, Footer, Key, Run, SUFFIX, Stored, Trailer,
    encode_block_header, encode_entry,
};
use crate::store::memtable::Memtable;

/// Bytes written at once. Where they gather in the system's cache they are synced at once too: a large sync would hold up
/// the journal's on the same device, and so would a large write past the cache.
const PIECE: usize = 1 << 20;

/// Whose data files these are and how they are made.
#[derive(Debug, Clone)]
pub(crate) struct Make {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) cluster: ClusterId,
    pub(crate) set: u128,
    pub(crate) block: ByteSize,
    /// Free bytes that it leaves alone.
    pub(crate) kept: u64,
}

impl Make {
    /// The path of a data file.
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        numbered(&self.dir, number, SUFFIX)
    }
}

/// A data file being written. It counts for nothing before a MANIFEST names it.
#[derive(Debug)]
pub(crate) struct DataWriter {
    make: Make,
    number: u64,
    file: Arc<dyn File>,
    /// Bytes not yet handed to the file, and where they belong: at a whole block of the disk.
    buffer: AlignedBuf,
    written: u64,
    open: Option<OpenBlock>,
    footer: Footer,
    /// What the trailer's data checksum is taken of.
    headers: Vec<u8>,
}

/// The block being written, which is the end of the buffer.
#[derive(Debug, Clone, Copy)]
struct OpenBlock {
    /// Where its header will be in the buffer.
    header: usize,
    first: Key,
    entries: u32,
}

impl DataWriter {
    pub(crate) fn create(make: &Make, number: u64) -> io::Result<Self> {
        let path = make.path(number);
        let file = make.disk.open_direct(&path, OpenMode::CreateNew)?;
        let header = FileHeader {
            number,
            cluster: make.cluster,
            set: make.set,
        }
        .encode();
        let mut buffer = AlignedBuf::with_capacity(PIECE + narrow(make.block.get()));
        buffer.extend_from_slice(&header);
        Ok(Self {
            make: make.clone(),
            number,
            file,
            headers: header,
            buffer,
            written: 0,
            open: None,
            footer: Footer::default(),
        })
    }

    /// Appends an entry, whose key is above all before it.
    pub(crate) fn push(&mut self, stored: &Stored) -> io::Result<()> {
        let length = ENTRY_HEADER + stored.entry.payload.len();
        let most = BLOCK_HEADER + narrow(self.make.block.get());
        let is_full = |open: OpenBlock| self.buffer.len() - open.header + length > most;
        if self.open.is_some_and(is_full) {
            self.finish_block()?;
        }
        self.note_run(stored);
        let open = self.open.get_or_insert_with(|| {
            let header = self.buffer.len();
            self.buffer.resize(header + BLOCK_HEADER);
            OpenBlock {
                header,
                first: stored.key(),
                entries: 0,
            }
        });
        open.entries += 1;
        encode_entry(stored, &mut self.buffer);
        Ok(())
    }

    fn note_run(&mut self, stored: &Stored) {
        let bytes = wide(stored.entry.payload.len());
        match self.footer.runs.last_mut() {
            Some(run) if run.ledger == stored.ledger => {
                assert!(run.last < stored.entry.id, "entries come in order");
                run.last = stored.entry.id;
                run.entries += 1;
                run.bytes += bytes;
            }
            previous => {
                assert!(
                    previous.is_none_or(|run| run.ledger < stored.ledger),
                    "ledgers come in order"
                );
                self.footer.runs.push(Run {
                    ledger: stored.ledger,
                    created: stored.created,
                    first: stored.entry.id,
                    last: stored.entry.id,
                    entries: 1,
                    bytes,
                });
            }
        }
    }

    fn finish_block(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let (at, body) = (open.header, open.header + BLOCK_HEADER);
        let header = encode_block_header(self.number, open.entries, &self.buffer[body..]);
        self.buffer[at..body].copy_from_slice(&header);
        self.headers.extend_from_slice(&header);
        self.footer.blocks.push(BlockMeta {
            offset: self.written + wide(at),
            length: small(self.buffer.len() - at),
            entries: open.entries,
            first: open.first,
        });
        if self.buffer.len() >= PIECE {
            self.hand_over(self.buffer.len() - self.buffer.len() % DISK_BLOCK)?;
            if !self.file.is_direct() {
                self.file.sync_data()?;
            }
        }
        Ok(())
    }

    /// Writes so many bytes of the buffer.
    fn hand_over(&mut self, count: usize) -> io::Result<()> {
        let bytes = wide(count);
        has_room(&*self.make.disk, &self.make.dir, bytes, self.make.kept)?;
        self.file.write_at(self.written, &self.buffer[..count])?;
        self.written += bytes;
        self.buffer.drop_front(count);
        Ok(())
    }

    /// Closes the file: it and its name are durable when this returns.
    pub(crate) fn finish(mut self) -> io::Result<DataFile> {
        self.finish_block()?;
        let footer = self.footer.encode();
        let footer_offset = self.written + wide(self.buffer.len());
        let trailer = Trailer {
            footer_offset,
            footer_length: wide(footer.len()),
            file_length: footer_offset + wide(footer.len() + crate::store::format::TRAILER),
            footer_crc: crc32c(&footer).get(),
            data_crc: crc32c(&self.headers).get(),
        };
        self.buffer.extend_from_slice(&footer);
        self.buffer.extend_from_slice(&trailer.encode());
        self.hand_over(self.buffer.len())?;
        self.file.sync_data()?;
        // Before the MANIFEST names it: the two names may reach the disk in either order.
        sync_names(&*self.make.disk, &self.make.dir)?;
        let file = match self.file.is_direct() {
            // Nothing is written to it any more, and what writes past the cache takes a descriptor of its own.
            true => self
                .make
                .disk
                .open_direct(&self.make.path(self.number), OpenMode::Read)?,
            false => self.file,
        };
        Ok(DataFile::new(self.number, file, &trailer, self.footer))
    }
}

/// Writes a memtable as one data file.
pub(crate) fn write_table(make: &Make, number: u64, table: &Memtable) -> io::Result<DataFile> {
    let write = || {
        // Before the first byte, so that a try on a full disk costs nothing.
        has_room(&*make.disk, &make.dir, table.bytes(), make.kept)?;
        let mut writer = DataWriter::create(make, number)?;
        for stored in table.iter() {
            writer.push(&stored)?;
        }
        writer.finish()
    };
    write().inspect_err(|error| discard_if_full(&*make.disk, &make.path(number), error))
}

/// Gives a full disk the bytes of an unfinished file back; whatever stays is swept at the next start.
pub(crate) fn discard_if_full(disk: &dyn Disk, path: &Path, error: &io::Error) {
    if error.kind() == io::ErrorKind::StorageFull {
        drop(disk.remove(path));
    }
}
