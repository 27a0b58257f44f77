//! Finding entries in data files: jobs of the read workers.

use std::sync::Arc;

use bytes::Bytes;
use types::storage::Entry;
use types::{EntryId, LedgerId};

use crate::store::cache::BlockCache;
use crate::store::file::DataFile;
use crate::store::format::{Key, Stored};

/// Most bytes of blocks read at once.
const READ_MAX: u64 = 1 << 20;

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
    pub(crate) ledger: LedgerId,
    pub(crate) first: EntryId,
    pub(crate) last: EntryId,
    pub(crate) max_bytes: u64,
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
        let to = Key {
            ledger: self.ledger,
            entry: self.last,
        };
        let count = self
            .file
            .blocks_for(self.block, to, self.max_bytes.min(READ_MAX));
        let mut done = RangeDone {
            read: self.read,
            entries: Vec::new(),
            bad: Vec::new(),
        };
        let blocks = self.blocks(count);
        let mut next = self.first;
        for (block, bytes) in (self.block..).zip(blocks) {
            let parsed = bytes.and_then(|bytes| {
                let entries = self.file.parse(block, &bytes)?;
                self.cache.insert(self.file.number(), block, &bytes);
                Some(entries)
            });
            let Some(entries) = parsed else {
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

    /// The blocks' bytes in one read; where that fails, one by one, up to the first that cannot be read.
    fn blocks(&self, count: usize) -> Vec<Option<Bytes>> {
        if count == 1
            && let Some(bytes) = self.cache.get(self.file.number(), self.block)
        {
            return vec![Some(bytes)];
        }
        match self.file.read_blocks(self.block, count) {
            Ok(blocks) => blocks.into_iter().map(Some).collect(),
            Err(_) => vec![read_one(&self.file, self.block)],
        }
    }
}

/// The verified entries of a block, from the cache or the disk.
fn entries_of(file: &DataFile, block: usize, cache: &BlockCache) -> Option<Vec<Stored>> {
    if let Some(bytes) = cache.get(file.number(), block) {
        return file.parse(block, &bytes);
    }
    let bytes = read_one(file, block)?;
    let entries = file.parse(block, &bytes)?;
    cache.insert(file.number(), block, &bytes);
    Some(entries)
}

/// One block's bytes.
fn read_one(file: &DataFile, block: usize) -> Option<Bytes> {
    file.read_blocks(block, 1).ok()?.pop()
}

fn bad_block(file: &DataFile, block: usize) -> BadBlock {
    BadBlock {
        file: file.number(),
        offset: file.footer().blocks[block].offset,
    }
}
