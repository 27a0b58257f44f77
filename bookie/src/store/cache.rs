//! Reading blocks of data files, by way of those kept in memory.
//!
//! What is kept is what was read at once: one block, or a piece of the file. Whoever reads the same backlog soon after reads
//! the same pieces.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use host::metrics::Counter;
use types::ByteSize;

use crate::codec::{narrow, small};
use crate::store::buffers::Buffers;
use crate::store::file::{DataFile, PIECE_MAX, Stride};

/// Most buffers that wait to be read into again.
const BUFFERS_KEPT: usize = 16;

type Fixed = BuildHasherDefault<DefaultHasher>;
type Cache = moka::sync::Cache<Place, Bytes, Fixed>;
/// A file's number, the first block, how many. File numbers are never used again, so what is kept is never stale.
type Place = (u64, usize, usize);

/// Blocks kept in memory, weighed in bytes, shared by all who read. Of size zero it keeps nothing, and reads are
/// deterministic.
#[derive(Clone)]
pub(crate) struct BlockCache {
    blocks: Option<Cache>,
    size: u64,
    buffers: Buffers,
    looks: Arc<Looks>,
}

/// Looks for blocks, by what was found.
#[derive(Default)]
struct Looks {
    hits: Counter,
    misses: Counter,
}

impl BlockCache {
    pub(crate) fn new(size: ByteSize) -> Self {
        let buffers = Buffers::new(narrow(PIECE_MAX), BUFFERS_KEPT);
        let weight = buffers.clone();
        let blocks = (size.get() > 0).then(|| {
            moka::sync::Cache::builder()
                .max_capacity(size.get())
                .weigher(move |_: &Place, bytes: &Bytes| small(weight.weight(bytes.len())))
                // Who reads a backlog a second time follows closely, or never comes.
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .build_with_hasher(Fixed::default())
        });
        Self {
            blocks,
            size: size.get(),
            buffers,
            looks: Arc::default(),
        }
    }

    /// So many blocks of a file from `block` on, a piece of it ([`DataFile::piece`]) or one. They are not verified yet: what
    /// is not as it was written is to be [forgotten](Self::forget). None when they cannot be read.
    ///
    /// Who wants a piece that another is just reading waits for it, and hears of its failure. For a single block nobody
    /// waits: lanes do not hold each other up.
    pub(crate) fn read(
        &self,
        file: &DataFile,
        block: usize,
        count: usize,
        stride: Stride,
    ) -> Option<Bytes> {
        let read = || file.read_blocks(block, count, stride, &self.buffers);
        let Some(cache) = &self.blocks else {
            self.looks.misses.inc();
            return read().ok();
        };
        let place = (file.number(), block, count);
        let (bytes, is_kept) = if count > 1 {
            let entry = cache.entry(place).or_try_insert_with(read).ok();
            let is_kept = entry.as_ref().is_some_and(|entry| !entry.is_fresh());
            (entry.map(moka::Entry::into_value), is_kept)
        } else if let Some(bytes) = cache.get(&place) {
            (Some(bytes), true)
        } else {
            let bytes = read().ok();
            if let Some(bytes) = &bytes {
                cache.insert(place, bytes.clone());
            }
            (bytes, false)
        };
        if is_kept {
            self.looks.hits.inc();
            return bytes;
        }
        self.looks.misses.inc();
        if count > 1 {
            // Now, since what goes is memory to read pieces into.
            cache.run_pending_tasks();
        }
        bytes
    }

    /// Whether it pays to read pieces before they are asked for: they stay until they are, though runs of so many bytes are
    /// under way.
    pub(crate) const fn has_room_ahead(&self, under_way: u64) -> bool {
        self.size >= 16 * PIECE_MAX && under_way <= self.size / 2
    }

    /// Lets go of what [`BlockCache::read`] gave.
    pub(crate) fn forget(&self, file: &DataFile, block: usize, count: usize) {
        if let Some(cache) = &self.blocks {
            cache.invalidate(&(file.number(), block, count));
        }
    }

    /// A block of a file, as the disk has it.
    ///
    /// # Errors
    ///
    /// Those of the disk.
    pub(crate) fn read_anew(&self, file: &DataFile, block: usize) -> io::Result<Bytes> {
        file.read_blocks(block, 1, Stride::Whole, &self.buffers)
    }

    /// How many reads, of a block or a piece, found it in memory.
    pub(crate) fn hits(&self) -> u64 {
        self.looks.hits.get()
    }

    /// How many did not.
    pub(crate) fn misses(&self) -> u64 {
        self.looks.misses.get()
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.blocks.as_ref().map(moka::sync::Cache::weighted_size);
        write!(f, "BlockCache({bytes:?} bytes)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read ahead and let go before it is asked for is read twice.
    #[test]
    fn pieces_are_read_ahead_only_while_they_would_stay_until_they_are_asked_for() {
        let least = 16 * PIECE_MAX;
        let cache = |size| BlockCache::new(ByteSize::new(size));
        assert!(!cache(0).has_room_ahead(0));
        assert!(!cache(least - 1).has_room_ahead(0));
        assert!(cache(least).has_room_ahead(least / 2));
        assert!(!cache(least).has_room_ahead(least / 2 + 1));
    }
}
