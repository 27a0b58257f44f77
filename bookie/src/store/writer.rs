//! Writing a data file from entries that come in order.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::disk::{Disk, File, OpenMode};
use types::{ByteSize, ClusterId, crc32c};

use crate::codec::{narrow, small, wide};
use crate::files::{numbered, sync_names};
use crate::store::file::DataFile;
use crate::store::format::{
    BLOCK_HEADER, BlockMeta, ENTRY_HEADER, FileHeader, Footer, Run, SUFFIX, Stored, Trailer,
    encode_block, encode_entry,
};
use crate::store::memtable::Memtable;

/// Bytes written and synced at once: a large sync would hold up the journal's on the same device.
const PIECE: usize = 4 << 20;

/// Whose data files these are and how they are made.
#[derive(Debug, Clone)]
pub(crate) struct Make {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) cluster: ClusterId,
    pub(crate) set: u128,
    pub(crate) block: ByteSize,
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
    /// Bytes not yet handed to the file, and where they belong.
    buffer: Vec<u8>,
    written: u64,
    body: Vec<u8>,
    body_entries: u32,
    body_first: Option<crate::store::format::Key>,
    footer: Footer,
    /// What the trailer's data checksum is taken of.
    headers: Vec<u8>,
}

impl DataWriter {
    pub(crate) fn create(make: &Make, number: u64) -> io::Result<Self> {
        let file = make.disk.open(&make.path(number), OpenMode::CreateNew)?;
        let header = FileHeader {
            number,
            cluster: make.cluster,
            set: make.set,
        }
        .encode();
        Ok(Self {
            make: make.clone(),
            number,
            file,
            headers: header.clone(),
            buffer: header,
            written: 0,
            body: Vec::new(),
            body_entries: 0,
            body_first: None,
            footer: Footer::default(),
        })
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.written + wide(self.buffer.len() + self.body.len())
    }

    /// Appends an entry, whose key is above all before it.
    pub(crate) fn push(&mut self, stored: &Stored) -> io::Result<()> {
        let length = ENTRY_HEADER + stored.entry.payload.len();
        if self.body_entries > 0 && self.body.len() + length > narrow(self.make.block.get()) {
            self.finish_block()?;
        }
        self.note_run(stored);
        self.body_first.get_or_insert(stored.key());
        self.body_entries += 1;
        encode_entry(stored, &mut self.body);
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
        let Some(first) = self.body_first.take() else {
            return Ok(());
        };
        let block = encode_block(self.number, self.body_entries, &self.body);
        self.footer.blocks.push(BlockMeta {
            offset: self.written + wide(self.buffer.len()),
            length: small(block.len()),
            entries: self.body_entries,
            first,
        });
        self.headers.extend_from_slice(&block[..BLOCK_HEADER]);
        self.buffer.extend_from_slice(&block);
        self.body.clear();
        self.body_entries = 0;
        if self.buffer.len() >= PIECE {
            self.hand_over()?;
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn hand_over(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += wide(self.buffer.len());
        self.buffer.clear();
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
        self.hand_over()?;
        self.file.sync_data()?;
        // Before the MANIFEST names it: the two names may reach the disk in either order.
        sync_names(&*self.make.disk, &self.make.dir)?;
        Ok(DataFile::new(self.number, self.file, &trailer, self.footer))
    }
}

/// Writes a memtable as one data file.
pub(crate) fn write_table(make: &Make, number: u64, table: &Memtable) -> io::Result<DataFile> {
    let write = || {
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
