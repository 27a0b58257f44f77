//! Finding entries in data files: jobs of the read workers.

use std::sync::Arc;

use types::storage::Entry;
use types::{EntryId, LedgerId};

use crate::store::cache::BlockCache;
use crate::store::file::{DataFile, PIECE, PIECE_MAX, Stride};
use crate::store::format::{Key, Stored};

/// A block that is not as it was written, or cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadBlock {
    pub(crate) file: u64,
    pub(crate) offset: u64,
}

/// Looks for one entry in the files whose runs cover it, newest first.
#[derive(Debug)]
pub(crate) struct LookupJob {
    pub(crate) read: u64,
    pub(crate) key: Key,
    pub(crate) files: Vec<(Arc<DataFile>, usize)>,
    pub(crate) cache: BlockCache,
}

/// What a [`LookupJob`] found.
#[derive(Debug)]
pub(crate) struct LookupDone {
    pub(crate) read: u64,
    pub(crate) entry: Option<Entry>,
    pub(crate) bad: Vec<BadBlock>,
}

impl LookupJob {
    pub(crate) fn run(self) -> LookupDone {
        let mut bad = Vec::new();
        for (file, block) in &self.files {
            let Some(entries) = entries_of(file, *block, &self.cache) else {
                bad.push(bad_block(file, *block));
                continue;
            };
            if let Some(found) = entries.into_iter().find(|stored| stored.key() == self.key) {
                return LookupDone {
                    read: self.read,
                    entry: Some(found.entry),
                    bad,
                };
            }
        }
        LookupDone {
            read: self.read,
            entry: None,
            bad,
        }
    }
}

/// Reads entries that follow each other without a gap from one file.
#[derive(Debug)]
pub(crate) struct RangeJob {
    pub(crate) read: u64,
    pub(crate) file: Arc<DataFile>,
    pub(crate) block: usize,
    /// How many blocks are read at once: one, or a piece of the file.
    pub(crate) count: usize,
    pub(crate) stride: Stride,
    pub(crate) ledger: LedgerId,
    pub(crate) first: EntryId,
    pub(crate) last: EntryId,
    /// Whether entries are given whole, so that whoever gets them verifies each: one pass less over all bytes.
    pub(crate) is_verified_by_reader: bool,
    pub(crate) cache: BlockCache,
}

/// What a [`RangeJob`] found: entries from the first one asked for on, maybe none.
#[derive(Debug)]
pub(crate) struct RangeDone {
    pub(crate) read: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) bad: Vec<BadBlock>,
}

impl RangeJob {
    pub(crate) fn run(self) -> RangeDone {
        let mut done = RangeDone {
            read: self.read,
            entries: Vec::new(),
            bad: Vec::new(),
        };
        let mut count = self.count;
        let stride = self.stride;
        let mut read = self.cache.read(&self.file, self.block, count, stride);
        if read.is_none() && count > 1 {
            // The first is read alone: it may be another that is bad.
            count = 1;
            read = self.cache.read(&self.file, self.block, count, stride);
        }
        let Some(piece) = read else {
            done.bad.push(bad_block(&self.file, self.block));
            return done;
        };
        let mut next = self.first;
        for (block, bytes) in (self.block..).zip(self.file.cut(self.block, piece)) {
            let entries = match self.is_verified_by_reader {
                true => self.file.entries(block, &bytes),
                false => self.file.parse(block, &bytes),
            };
            let Some(entries) = entries else {
                self.cache.forget(&self.file, self.block, count);
                done.bad.push(bad_block(&self.file, block));
                break;
            };
            for stored in entries {
                if stored.ledger == self.ledger && stored.entry.id == next && next <= self.last {
                    next = next.next();
                    done.entries.push(stored.entry);
                }
            }
        }
        done
    }
}

/// Reads the piece that a run will come to next into the cache, while the one before it is on its way.
#[derive(Debug)]
pub(crate) struct AheadJob {
    pub(crate) file: Arc<DataFile>,
    pub(crate) block: usize,
    /// The end of the run.
    pub(crate) to: Key,
    pub(crate) stride: Stride,
    pub(crate) cache: BlockCache,
}

impl AheadJob {
    pub(crate) fn run(self) {
        // What cannot be read is found out by the run, if it comes so far.
        let count = self.file.piece(self.block, self.to, PIECE_MAX);
        let read = self.cache.read(&self.file, self.block, count, self.stride);
        drop(read);
    }
}

/// Lists which entries of a ledger some blocks hold, each verified.
#[derive(Debug)]
pub(crate) struct ListJob {
    pub(crate) read: u64,
    pub(crate) file: Arc<DataFile>,
    pub(crate) block: usize,
    /// The ledger, and its last entry.
    pub(crate) to: Key,
    pub(crate) cache: BlockCache,
}

/// What a [`ListJob`] found.
#[derive(Debug)]
pub(crate) struct ListDone {
    pub(crate) read: u64,
    pub(crate) ids: Vec<EntryId>,
    /// Where to go on in the file, if there is more.
    pub(crate) rest: Option<(Arc<DataFile>, usize)>,
    pub(crate) bad: Vec<BadBlock>,
}

impl ListJob {
    pub(crate) fn run(self) -> ListDone {
        let mut done = ListDone {
            read: self.read,
            ids: Vec::new(),
            rest: None,
            bad: Vec::new(),
        };
        let next = self.block + self.file.piece(self.block, self.to, PIECE);
        for block in self.block..next {
            let Some(entries) = entries_of(&self.file, block, &self.cache) else {
                done.bad.push(bad_block(&self.file, block));
                continue;
            };
            let of_ledger = entries.iter().filter(|it| it.ledger == self.to.ledger);
            done.ids.extend(of_ledger.map(|stored| stored.entry.id));
        }
        let blocks = &self.file.footer().blocks;
        if blocks.get(next).is_some_and(|meta| meta.first <= self.to) {
            done.rest = Some((self.file, next));
        }
        done
    }
}

/// Reads some blocks of a file from the disk and verifies them.
#[derive(Debug)]
pub(crate) struct ScrubJob {
    pub(crate) token: u64,
    pub(crate) file: Arc<DataFile>,
    pub(crate) block: usize,
    pub(crate) cache: BlockCache,
}

/// What a [`ScrubJob`] found.
#[derive(Debug)]
pub(crate) struct ScrubDone {
    pub(crate) token: u64,
    pub(crate) file: u64,
    pub(crate) bytes: u64,
    /// The block to go on with in the file, if there is more.
    pub(crate) next_block: Option<usize>,
    pub(crate) bad: Vec<BadBlock>,
}

impl ScrubJob {
    pub(crate) fn run(self) -> ScrubDone {
        let blocks = &self.file.footer().blocks;
        let mut done = ScrubDone {
            token: self.token,
            file: self.file.number(),
            bytes: 0,
            next_block: None,
            bad: Vec::new(),
        };
        for (block, meta) in blocks.iter().enumerate().skip(self.block) {
            if done.bytes >= PIECE {
                done.next_block = Some(block);
                break;
            }
            done.bytes += u64::from(meta.length);
            let read = self.cache.read_anew(&self.file, block);
            if !read.is_ok_and(|bytes| self.file.parse(block, &bytes).is_some()) {
                done.bad.push(bad_block(&self.file, block));
            }
        }
        done
    }
}

/// The verified entries of a block, from the cache or the disk.
fn entries_of(file: &DataFile, block: usize, cache: &BlockCache) -> Option<Vec<Stored>> {
    let bytes = cache.read(file, block, 1, Stride::Whole)?;
    let entries = file.parse(block, &bytes);
    if entries.is_none() {
        cache.forget(file, block, 1);
    }
    entries
}

fn bad_block(file: &DataFile, block: usize) -> BadBlock {
    BadBlock {
        file: file.number(),
        offset: file.footer().blocks[block].offset,
    }
}
