//! Disjoint ranges of offsets with a value each: who holds what, and what waits for its time.

use std::collections::BTreeMap;

use types::Offset;

use crate::OffsetRange;

/// Disjoint ranges with values. Neighbours are not merged: a range keeps the bounds it was delivered with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RangeMap<V> {
    ranges: BTreeMap<u64, (u64, V)>,
    count: u64,
}

impl<V: Clone> RangeMap<V> {
    pub(crate) const fn new() -> Self {
        Self {
            ranges: BTreeMap::new(),
            count: 0,
        }
    }

    /// How many offsets are in it.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Its ranges, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (OffsetRange, &V)> + '_ {
        let ranges = self.ranges.iter();
        ranges.map(|(start, (end, value))| (OffsetRange::of(*start, *end), value))
    }

    /// Its first range.
    pub(crate) fn first(&self) -> Option<(OffsetRange, &V)> {
        self.iter().next()
    }

    /// The first range with an offset at or after `from`, whole.
    pub(crate) fn at_or_after(&self, from: Offset) -> Option<(OffsetRange, &V)> {
        let before = self.ranges.range(..=from.get()).next_back();
        let holder = before.filter(|(_, (end, _))| *end > from.get());
        let found = holder.or_else(|| self.ranges.range(from.get()..).next());
        found.map(|(start, (end, value))| (OffsetRange::of(*start, *end), value))
    }

    /// Adds a range that overlaps none.
    ///
    /// # Panics
    ///
    /// When it overlaps one: an offset has one state.
    pub(crate) fn insert(&mut self, range: OffsetRange, value: V) {
        assert!(!range.is_empty(), "an empty range has no state");
        let next = self.at_or_after(range.start).map(|(found, _)| found);
        assert!(
            next.is_none_or(|found| found.start >= range.end),
            "an offset has one state range={range} found={next:?}"
        );
        self.ranges
            .insert(range.start.get(), (range.end.get(), value));
        self.count += range.len();
    }

    /// Takes out what overlaps `range`, cutting the ranges at its bounds, and hands each piece to `taken`.
    pub(crate) fn take(&mut self, range: OffsetRange, mut taken: impl FnMut(OffsetRange, V)) {
        let mut from = range.start;
        while from < range.end {
            let Some((found, value)) = self.at_or_after(from) else {
                return;
            };
            if found.start >= range.end {
                return;
            }
            let value = value.clone();
            self.ranges.remove(&found.start.get());
            if found.start < range.start {
                let kept = (range.start.get(), value.clone());
                self.ranges.insert(found.start.get(), kept);
            }
            if found.end > range.end {
                let kept = (found.end.get(), value.clone());
                self.ranges.insert(range.end.get(), kept);
            }
            let piece = OffsetRange::new(found.start.max(range.start), found.end.min(range.end));
            self.count -= piece.len();
            from = piece.end;
            taken(piece, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> OffsetRange {
        OffsetRange::of(start, end)
    }

    #[test]
    fn taking_cuts_at_the_bounds() {
        let mut map = RangeMap::new();
        map.insert(range(0, 10), 'a');
        map.insert(range(10, 20), 'b');
        map.insert(range(30, 40), 'c');
        let mut taken = Vec::new();
        map.take(range(5, 35), |range, value| taken.push((range, value)));
        assert_eq!(
            taken,
            [
                (range(5, 10), 'a'),
                (range(10, 20), 'b'),
                (range(30, 35), 'c')
            ]
        );
        let left: Vec<_> = map.iter().map(|(range, value)| (range, *value)).collect();
        assert_eq!(left, [(range(0, 5), 'a'), (range(35, 40), 'c')]);
        assert_eq!(map.count(), 10);
        map.take(range(2, 3), |_, _| ());
        assert_eq!(map.count(), 9);
        assert_eq!(map.iter().count(), 3);
    }

    #[test]
    #[should_panic(expected = "an offset has one state")]
    fn an_offset_has_one_state() {
        let mut map = RangeMap::new();
        map.insert(range(5, 10), ());
        map.insert(range(0, 6), ());
    }
}
