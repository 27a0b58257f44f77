//! Blocks kept in memory for reads, weighed in bytes.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::BuildHasherDefault;

use bytes::Bytes;
use types::ByteSize;

type Fixed = BuildHasherDefault<DefaultHasher>;

/// A cache of blocks, shared by the read workers. Of size zero it keeps nothing, and reads are deterministic.
#[derive(Clone)]
pub(crate) struct BlockCache(Option<moka::sync::Cache<(u64, usize), Bytes, Fixed>>);

impl BlockCache {
    pub(crate) fn new(size: ByteSize) -> Self {
        if size.get() == 0 {
            return Self(None);
        }
        let weigh =
            |_: &(u64, usize), block: &Bytes| u32::try_from(block.len()).unwrap_or(u32::MAX);
        let cache = moka::sync::Cache::builder()
            .max_capacity(size.get())
            .weigher(weigh)
            .build_with_hasher(Fixed::default());
        Self(Some(cache))
    }

    /// A block of a file. File numbers are never used again, so an entry is never stale.
    pub(crate) fn get(&self, file: u64, block: usize) -> Option<Bytes> {
        self.0.as_ref()?.get(&(file, block))
    }

    pub(crate) fn insert(&self, file: u64, block: usize, bytes: &Bytes) {
        if let Some(cache) = &self.0 {
            cache.insert((file, block), bytes.clone());
        }
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.as_ref().map(moka::sync::Cache::weighted_size);
        write!(f, "BlockCache({bytes:?} bytes)")
    }
}
