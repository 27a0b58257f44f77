//! Blocks kept in memory for reads, weighed in bytes.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use bytes::Bytes;
use host::metrics::Counter;
use types::ByteSize;

type Fixed = BuildHasherDefault<DefaultHasher>;

/// A cache of blocks, shared by the read workers. Of size zero it keeps nothing, and reads are deterministic.
#[derive(Clone)]
pub(crate) struct BlockCache {
    blocks: Option<moka::sync::Cache<(u64, usize), Bytes, Fixed>>,
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
        let looks = Arc::default();
        if size.get() == 0 {
            return Self {
                blocks: None,
                looks,
            };
        }
        let weigh =
            |_: &(u64, usize), block: &Bytes| u32::try_from(block.len()).unwrap_or(u32::MAX);
        let cache = moka::sync::Cache::builder()
            .max_capacity(size.get())
            .weigher(weigh)
            .build_with_hasher(Fixed::default());
        Self {
            blocks: Some(cache),
            looks,
        }
    }

    /// A block of a file. File numbers are never used again, so an entry is never stale.
    pub(crate) fn get(&self, file: u64, block: usize) -> Option<Bytes> {
        let blocks = self.blocks.as_ref();
        let found = blocks.and_then(|blocks| blocks.get(&(file, block)));
        match found {
            Some(_) => self.looks.hits.inc(),
            None => self.looks.misses.inc(),
        }
        found
    }

    /// How many blocks were found.
    pub(crate) fn hits(&self) -> u64 {
        self.looks.hits.get()
    }

    /// How many were not.
    pub(crate) fn misses(&self) -> u64 {
        self.looks.misses.get()
    }

    pub(crate) fn insert(&self, file: u64, block: usize, bytes: &Bytes) {
        if let Some(cache) = &self.blocks {
            cache.insert((file, block), bytes.clone());
        }
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.blocks.as_ref().map(moka::sync::Cache::weighted_size);
        write!(f, "BlockCache({bytes:?} bytes)")
    }
}
