//! A cursor's exact set of acked offsets.

use types::Offset;

use crate::{OffsetRange, RangeSet};

/// Everything below the mark, and what is acked above it. Exact and unlimited; never shrinks but by [`AckSet::truncate`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AckSet {
    mark: Offset,
    above: RangeSet,
}

impl AckSet {
    /// Everything below `mark`.
    pub const fn new(mark: Offset) -> Self {
        Self {
            mark,
            above: RangeSet::new(),
        }
    }

    /// The first offset not acked.
    pub const fn mark(&self) -> Offset {
        self.mark
    }

    /// What is acked above the mark. Never touches it.
    pub const fn above(&self) -> &RangeSet {
        &self.above
    }

    /// Whether an offset is acked.
    pub fn contains(&self, offset: Offset) -> bool {
        offset < self.mark || self.above.contains(offset)
    }

    /// Adds a range, and tells how many of its offsets were not there before.
    pub fn insert(&mut self, range: OffsetRange) -> u64 {
        let start = range.start.max(self.mark);
        let added = self.above.insert(OffsetRange::new(start, range.end));
        if let Some(first) = self.above.take_first_from(self.mark) {
            self.mark = first.end;
        }
        added
    }

    /// Takes out everything at or above `end`: what does not exist is not acked. Tells whether there was anything.
    pub fn truncate(&mut self, end: Offset) -> bool {
        let had = self.mark > end;
        self.mark = self.mark.min(end);
        let before = self.above.count();
        self.above
            .remove(OffsetRange::new(end, Offset::new(u64::MAX)));
        had || self.above.count() != before
    }

    /// The first range of `within` that is not acked.
    pub fn first_unacked(&self, within: OffsetRange) -> Option<OffsetRange> {
        let start = within.start.max(self.mark);
        self.above.first_gap(OffsetRange::new(start, within.end))
    }

    /// How many offsets below `end` are not acked.
    pub const fn unacked_below(&self, end: Offset) -> u64 {
        end.get()
            .saturating_sub(self.mark.get())
            .saturating_sub(self.above.count())
    }
}
