//! Sets of offsets as sorted, disjoint, non-touching ranges: exact, and as small as the holes in them.

use std::collections::BTreeMap;
use std::fmt;

use types::Offset;

/// Offsets from `start` up to, and not including, `end`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffsetRange {
    /// The first offset.
    pub start: Offset,
    /// The first offset after it.
    pub end: Offset,
}

impl OffsetRange {
    /// Makes it from its bounds. One whose start is not below its end is empty.
    pub const fn new(start: Offset, end: Offset) -> Self {
        Self { start, end }
    }

    pub(crate) const fn of(start: u64, end: u64) -> Self {
        Self::new(Offset::new(start), Offset::new(end))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// How many offsets it has.
    pub const fn len(self) -> u64 {
        self.end.get().saturating_sub(self.start.get())
    }
}

impl fmt::Debug for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// A set of offsets.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RangeSet {
    /// Start to end. No two touch.
    ranges: BTreeMap<u64, u64>,
    /// How many offsets are in it.
    count: u64,
}

impl RangeSet {
    /// Nothing.
    pub const fn new() -> Self {
        Self {
            ranges: BTreeMap::new(),
            count: 0,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many offsets are in it.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// How many ranges it takes to say what is in it.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// Its ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = OffsetRange> + '_ {
        self.ranges.iter().map(|(s, e)| OffsetRange::of(*s, *e))
    }

    /// Whether an offset is in it.
    pub fn contains(&self, offset: Offset) -> bool {
        let before = self.ranges.range(..=offset.get()).next_back();
        before.is_some_and(|(_, end)| *end > offset.get())
    }

    /// Adds a range, and tells how many of its offsets were not there before.
    pub fn insert(&mut self, range: OffsetRange) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let (mut start, mut end) = (range.start.get(), range.end.get());
        let mut gone = 0;
        // Every range that overlaps or touches ends at or after our start and starts at or before our end.
        while let Some((s, e)) = self.ranges.range(..=end).next_back().map(|(s, e)| (*s, *e)) {
            if e < start {
                break;
            }
            self.ranges.remove(&s);
            gone += e - s;
            start = start.min(s);
            end = end.max(e);
        }
        self.ranges.insert(start, end);
        let added = (end - start) - gone;
        self.count += added;
        added
    }

    /// Takes a range out.
    pub fn remove(&mut self, range: OffsetRange) {
        if range.is_empty() {
            return;
        }
        let (start, end) = (range.start.get(), range.end.get());
        while let Some((s, e)) = self.ranges.range(..end).next_back().map(|(s, e)| (*s, *e)) {
            if e <= start {
                break;
            }
            self.ranges.remove(&s);
            self.count -= e.min(end) - s.max(start);
            if e > end {
                self.ranges.insert(end, e);
            }
            if s < start {
                self.ranges.insert(s, start);
            }
        }
    }

    /// Takes the first range out when it starts at or before `offset`.
    pub(crate) fn take_first_from(&mut self, offset: Offset) -> Option<OffsetRange> {
        let (start, end) = self.ranges.first_key_value().map(|(s, e)| (*s, *e))?;
        if start > offset.get() {
            return None;
        }
        self.ranges.remove(&start);
        self.count -= end - start;
        Some(OffsetRange::of(start, end))
    }

    /// The first range of `within` that is not in the set.
    pub fn first_gap(&self, within: OffsetRange) -> Option<OffsetRange> {
        if within.is_empty() {
            return None;
        }
        let mut start = within.start.get();
        if let Some((_, end)) = self.ranges.range(..=start).next_back() {
            start = start.max(*end);
        }
        let end = self
            .ranges
            .range(start..)
            .next()
            .map_or(u64::MAX, |(s, _)| *s);
        let gap = OffsetRange::of(start, end.min(within.end.get()));
        (!gap.is_empty()).then_some(gap)
    }
}

impl fmt::Debug for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl FromIterator<OffsetRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = OffsetRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

#[cfg(test)]
mod tests;
