//! A data file that is open for reading: its footer in memory, its blocks on the disk.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use host::disk::{Disk, File, OpenMode};
use types::{LedgerId, crc32c};

use crate::codec::{Broken, narrow, wide};
use crate::files::read_exact;
use crate::manifest::FileEntry;
use crate::store::format::{
    FILE_HEADER, FileHeader, Footer, Key, Run, Stored, TRAILER, Trailer, decode_block, decode_entry,
};

/// An immutable data file.
#[derive(Debug)]
pub(crate) struct DataFile {
    number: u64,
    file: Arc<dyn File>,
    listed: FileEntry,
    footer: Footer,
}

impl DataFile {
    pub(crate) fn new(number: u64, file: Arc<dyn File>, trailer: &Trailer, footer: Footer) -> Self {
        Self {
            number,
            file,
            listed: FileEntry {
                length: trailer.file_length,
                footer_crc: trailer.footer_crc,
            },
            footer,
        }
    }

    /// Opens a file and verifies its header, its trailer and its footer; blocks are verified when they are read.
    /// The inner error says what is damaged.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        expected: FileHeader,
    ) -> io::Result<Result<Self, String>> {
        let file = disk.open(path, OpenMode::Read)?;
        let length = file.len()?;
        if length < wide(FILE_HEADER + TRAILER) {
            return Ok(Err(format!("data file was cut length={length}")));
        }
        let mut header = vec![0; FILE_HEADER];
        let mut trailer = vec![0; TRAILER];
        if let Err(error) = read_exact(&*file, 0, &mut header)
            .and_then(|()| read_exact(&*file, length - wide(TRAILER), &mut trailer))
        {
            return unreadable(disk, path, &error);
        }
        match FileHeader::decode(&header) {
            Ok(header) if header == expected => {}
            Ok(_) => return Ok(Err("data file strayed here from elsewhere".to_owned())),
            Err(Broken::Damaged) => return Ok(Err("data file header is damaged".to_owned())),
            Err(Broken::Newer(format)) => {
                return Ok(Err(format!("data file is of a newer format {format}")));
            }
        }
        let Some(trailer) = Trailer::decode(&trailer).filter(|trailer| {
            trailer.file_length == length
                && trailer.footer_offset.checked_add(trailer.footer_length)
                    == Some(length - wide(TRAILER))
        }) else {
            return Ok(Err(format!("data file trailer is damaged length={length}")));
        };
        let mut footer = vec![0; narrow(trailer.footer_length)];
        if let Err(error) = read_exact(&*file, trailer.footer_offset, &mut footer) {
            return unreadable(disk, path, &error);
        }
        let is_whole = crc32c(&footer).get() == trailer.footer_crc;
        let footer = Footer::decode(&footer).filter(|_| is_whole);
        Ok(footer
            .map(|footer| Self::new(expected.number, file, &trailer, footer))
            .ok_or_else(|| "data file footer is damaged".to_owned()))
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// What the MANIFEST says of it.
    pub(crate) const fn listed(&self) -> FileEntry {
        self.listed
    }

    pub(crate) const fn footer(&self) -> &Footer {
        &self.footer
    }

    /// The run of a ledger.
    pub(crate) fn run(&self, ledger: LedgerId) -> Option<&Run> {
        let at = self
            .footer
            .runs
            .binary_search_by_key(&ledger, |run| run.ledger)
            .ok()?;
        self.footer.runs.get(at)
    }

    /// The block that holds the entry if this file does.
    pub(crate) fn block_of(&self, key: Key) -> Option<usize> {
        let run = self.run(key.ledger)?;
        if !(run.first..=run.last).contains(&key.entry) {
            return None;
        }
        self.footer
            .blocks
            .partition_point(|block| block.first <= key)
            .checked_sub(1)
    }

    /// The blocks from `block` on that may hold entries of the ledger up to `last`, as many as fit `max_bytes`, and
    /// at least one.
    pub(crate) fn blocks_for(&self, block: usize, to: Key, max_bytes: u64) -> usize {
        let mut bytes = 0;
        let wanted = self.footer.blocks[block..]
            .iter()
            .take_while(|meta| {
                bytes += u64::from(meta.length);
                meta.first <= to && bytes <= max_bytes
            })
            .count();
        wanted.max(1)
    }

    /// The bytes of some blocks that follow each other.
    pub(crate) fn read_blocks(&self, block: usize, count: usize) -> io::Result<Vec<Bytes>> {
        let metas = &self.footer.blocks[block..block + count];
        let length: u64 = metas.iter().map(|meta| u64::from(meta.length)).sum();
        let mut bytes = vec![0; narrow(length)];
        let Some(first) = metas.first() else {
            return Ok(Vec::new());
        };
        read_exact(&*self.file, first.offset, &mut bytes)?;
        let mut bytes = Bytes::from(bytes);
        Ok(metas
            .iter()
            .map(|meta| bytes.split_to(narrow(u64::from(meta.length))))
            .collect())
    }

    /// The entries of a block, each verified; `None` when anything is not as written.
    pub(crate) fn parse(&self, block: usize, bytes: &Bytes) -> Option<Vec<Stored>> {
        let meta = self.footer.blocks.get(block)?;
        let (count, mut body) = decode_block(self.number, bytes)?;
        let mut entries = Vec::new();
        while !body.is_empty() {
            let stored = decode_entry(&mut body)?;
            if !stored.entry.is_intact(stored.ledger) {
                return None;
            }
            entries.push(stored);
        }
        let is_whole = count == meta.entries
            && entries.len() == narrow(u64::from(count))
            && entries.first().map(Stored::key) == Some(meta.first);
        is_whole.then_some(entries)
    }
}

/// A file that cannot be read is damaged, unless the disk is gone altogether.
fn unreadable<T>(disk: &dyn Disk, path: &Path, error: &io::Error) -> io::Result<Result<T, String>> {
    disk.exists(path)?;
    Ok(Err(format!("data file cannot be read: {error}")))
}
