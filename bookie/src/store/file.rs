//! A data file that is open for reading: its footer in memory, its blocks on the disk.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use host::disk::{BLOCK as DISK_BLOCK, Disk, File, OpenMode};
use types::{LedgerId, crc32c};

use crate::codec::{Broken, narrow, wide};
use crate::files::{read_exact, read_in_parts};
use crate::manifest::FileEntry;
use crate::store::buffers::Buffers;
use crate::store::format::{
    FILE_HEADER, FileHeader, Footer, Key, Run, Stored, TRAILER, Trailer, decode_block, decode_entry,
};

/// Blocks of so many bytes are read at once.
pub(crate) const PIECE: u64 = 1 << 20;
/// The last block of a piece may end behind it, by no more than this.
pub(crate) const PIECE_MAX: u64 = PIECE + PIECE / 8;

/// How much of a piece is asked of the disk at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stride {
    /// All of it: the fastest.
    Whole,
    /// A quarter of a MiB: messages are being stored, and what the journal writes waits for the reads that the disk was
    /// given before.
    Short,
}

impl Stride {
    /// In bytes.
    const fn bytes(self) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::Short => 256 << 10,
        }
    }
}

/// An immutable data file.
#[derive(Debug)]
pub(crate) struct DataFile {
    number: u64,
    file: Arc<dyn File>,
    listed: FileEntry,
    /// Bytes of all entries in its blocks.
    weight: u64,
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
            weight: footer.runs.iter().map(Run::weight).sum(),
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
        let file = disk.open_direct(path, OpenMode::Read)?;
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

    /// The part of its length that falls to some of its entries, by their bytes in blocks: the rest of the file is
    /// shared out evenly.
    pub(crate) fn share(&self, weight: u64) -> u64 {
        if self.weight == 0 {
            return 0;
        }
        let part = u128::from(weight) * u128::from(self.listed.length) / u128::from(self.weight);
        u64::try_from(part).expect("a part is not above the whole")
    }

    /// The place of the block at an offset.
    pub(crate) fn block_at(&self, offset: u64) -> Option<usize> {
        let blocks = &self.footer.blocks;
        blocks
            .binary_search_by_key(&offset, |block| block.offset)
            .ok()
    }

    /// The ledgers with entries in a block.
    pub(crate) fn ledgers_of(&self, block: usize) -> impl Iterator<Item = LedgerId> + '_ {
        let first = self.footer.blocks[block].first;
        let next = self.footer.blocks.get(block + 1).map(|next| next.first);
        let start = self
            .footer
            .runs
            .partition_point(|run| run.ledger < first.ledger);
        let begins_before = move |run: &&Run| {
            let begins = Key {
                ledger: run.ledger,
                entry: run.first,
            };
            next.is_none_or(|next| begins < next)
        };
        let runs = self.footer.runs[start..].iter();
        runs.take_while(begins_before).map(|run| run.ledger)
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

    /// How many blocks from `block` on are one piece: those that begin in the same [`PIECE`] of the file, up to the one that
    /// may hold `to`, as many as fit `max_bytes`, and at least one. So whoever reads a file through reads the same pieces,
    /// wherever they began.
    pub(crate) fn piece(&self, block: usize, to: Key, max_bytes: u64) -> usize {
        let blocks = &self.footer.blocks[block..];
        let most = max_bytes.min(PIECE_MAX);
        let place = blocks[0].offset / PIECE;
        let mut bytes = 0;
        let wanted = blocks.iter().take_while(|meta| {
            bytes += u64::from(meta.length);
            meta.first <= to && bytes <= most && meta.offset / PIECE == place
        });
        wanted.count().max(1)
    }

    /// The bytes of some blocks that follow each other, read in one go, and past the system's cache where that is possible:
    /// what is read is mostly read once, and to let it through the cache costs more than the read itself.
    pub(crate) fn read_blocks(
        &self,
        block: usize,
        count: usize,
        stride: Stride,
        buffers: &Buffers,
    ) -> io::Result<Bytes> {
        let at = self.footer.blocks[block].offset;
        // Past the cache go whole blocks of the disk. The last one may end behind the file.
        let unit = if self.file.is_direct() { DISK_BLOCK } else { 1 };
        let skipped = at % wide(unit);
        let wanted = narrow(skipped) + self.length_of(block, count);
        let bytes = buffers.fill(wanted.next_multiple_of(unit), |bytes| {
            read_in_parts(&*self.file, at - skipped, bytes, wanted, stride.bytes())
        })?;
        Ok(bytes.slice(narrow(skipped)..wanted))
    }

    /// Bytes of some blocks that follow each other.
    pub(crate) fn length_of(&self, block: usize, count: usize) -> usize {
        let blocks = &self.footer.blocks[block..block + count];
        blocks
            .iter()
            .map(|meta| narrow(u64::from(meta.length)))
            .sum()
    }

    /// Cuts what [`DataFile::read_blocks`] gave into its blocks.
    pub(crate) fn cut(&self, block: usize, mut bytes: Bytes) -> impl Iterator<Item = Bytes> + '_ {
        self.footer.blocks[block..].iter().map_while(move |meta| {
            let length = narrow(u64::from(meta.length));
            (length <= bytes.len()).then(|| bytes.split_to(length))
        })
    }

    /// The entries of a block, each verified; `None` when anything is not as written.
    pub(crate) fn parse(&self, block: usize, bytes: &Bytes) -> Option<Vec<Stored>> {
        let entries = self.entries(block, bytes)?;
        let is_intact = |stored: &Stored| stored.entry.is_intact(stored.ledger);
        entries.iter().all(is_intact).then_some(entries)
    }

    /// The entries of a block that is as it was written; `None` when it is not. An entry that was damaged before is found
    /// by whoever verifies it.
    pub(crate) fn entries(&self, block: usize, bytes: &Bytes) -> Option<Vec<Stored>> {
        let meta = self.footer.blocks.get(block)?;
        let (count, mut body) = decode_block(self.number, bytes)?;
        let mut entries = Vec::new();
        while !body.is_empty() {
            entries.push(decode_entry(&mut body)?);
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
