//! The memory of a node for the newest entries of its topics: each topic may have its fill while there is enough for all,
//! and an even part when there is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use types::ByteSize;

/// The bytes that all tails of a node may have together. Clones share it.
#[derive(Debug, Clone)]
pub struct TailMemory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: u64,
    used: AtomicU64,
    /// How many tails have anything in them.
    holders: AtomicU64,
}

/// What one topic's tail has of a [`TailMemory`]; given back when it is dropped.
#[derive(Debug)]
pub struct TailPart {
    shared: Arc<Shared>,
    bytes: u64,
}

impl TailMemory {
    /// So many bytes.
    pub fn new(limit: ByteSize) -> Self {
        let shared = Shared {
            limit: limit.get(),
            used: AtomicU64::new(0),
            holders: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A part for one more tail, which is empty.
    pub fn part(&self) -> TailPart {
        TailPart {
            shared: Arc::clone(&self.shared),
            bytes: 0,
        }
    }

    /// Bytes that tails have now.
    pub fn used(&self) -> ByteSize {
        ByteSize::new(self.shared.used.load(Ordering::Relaxed))
    }
}

impl TailPart {
    /// Tells how many bytes the tail has, and hears how many it may have, and has from then on: `most`, or less when all
    /// tails together have too many. Each notices when it is next used, so that for a moment there is more than the limit.
    pub fn hold(&mut self, bytes: u64, most: ByteSize) -> ByteSize {
        self.set(bytes);
        let shared = &self.shared;
        let excess = shared
            .used
            .load(Ordering::Relaxed)
            .saturating_sub(shared.limit);
        let each = if excess == 0 && shared.limit > 0 {
            most
        } else {
            let even = shared.limit / shared.holders.load(Ordering::Relaxed).max(1);
            // No more goes than is too much: most tails may have far less than an even part.
            ByteSize::new(even.max(bytes.saturating_sub(excess))).min(most)
        };
        self.set(bytes.min(each.get()));
        each
    }

    fn set(&mut self, bytes: u64) {
        let Shared { used, holders, .. } = &*self.shared;
        if bytes >= self.bytes {
            used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        match (self.bytes, bytes) {
            (0, 1..) => {
                holders.fetch_add(1, Ordering::Relaxed);
            }
            (1.., 0) => {
                holders.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
        self.bytes = bytes;
    }
}

impl Drop for TailPart {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: ByteSize = ByteSize::new(60);

    #[test]
    fn each_tail_has_its_fill_until_there_are_too_many_and_then_an_even_part() {
        let memory = TailMemory::new(ByteSize::new(100));
        let (mut one, mut other) = (memory.part(), memory.part());
        assert_eq!(one.hold(60, MOST), MOST);
        assert_eq!(other.hold(40, MOST), MOST);
        assert_eq!(other.hold(60, MOST), ByteSize::new(50));
        assert_eq!(one.hold(60, MOST), ByteSize::new(50));
        assert_eq!(other.hold(50, MOST), MOST);
        assert_eq!(memory.used(), ByteSize::new(100));
    }

    #[test]
    fn no_more_goes_than_is_too_much_and_nothing_stays_where_nothing_may() {
        let memory = TailMemory::new(ByteSize::new(100));
        let mut small: Vec<_> = (0..50).map(|_| memory.part()).collect();
        for part in &mut small {
            part.hold(1, MOST);
        }
        let mut large = memory.part();
        assert_eq!(large.hold(60, MOST), ByteSize::new(50));
        let none = TailMemory::new(ByteSize::new(0));
        assert_eq!(none.part().hold(0, MOST), ByteSize::new(0));
        assert_eq!(none.part().hold(10, MOST), ByteSize::new(0));
    }

    #[test]
    fn a_tail_that_is_emptied_or_gone_leaves_its_part_to_the_others() {
        let memory = TailMemory::new(ByteSize::new(100));
        let mut parts: Vec<_> = (0..10).map(|_| memory.part()).collect();
        for part in &mut parts {
            part.hold(60, MOST);
        }
        assert_eq!(parts[0].hold(60, MOST), ByteSize::new(10));
        parts.truncate(2);
        parts[1].hold(0, MOST);
        assert_eq!(parts[0].hold(60, MOST), MOST);
        assert_eq!(memory.used(), MOST);
    }
}
