//! Sets of offsets, as ranges that do not touch.

use std::collections::BTreeMap;
use std::ops::Range;

/// Offsets. Neighbours are one range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RangeSet {
    /// The end of each range by its start.
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ranges.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Adds a range, joined with what it touches.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        // Mostly messages are acked in the order in which they came.
        if let Some(mut last) = self.ranges.last_entry()
            && *last.get() == start
        {
            *last.get_mut() = end;
            return;
        }
        while let Some((&before, &its_end)) = self.ranges.range(..=end).next_back() {
            if its_end < start {
                break;
            }
            self.ranges.remove(&before);
            start = start.min(before);
            end = end.max(its_end);
        }
        self.ranges.insert(start, end);
    }

    pub(super) fn contains(&self, offset: u64) -> bool {
        self.ranges
            .range(..=offset)
            .next_back()
            .is_some_and(|(_, &end)| offset < end)
    }

    /// The ranges in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }

    /// Takes the first so many ranges out.
    pub(super) fn take_first(&mut self, count: usize) -> Self {
        match self.ranges.keys().nth(count).copied() {
            None => std::mem::take(self),
            Some(rest) => {
                let rest = self.ranges.split_off(&rest);
                Self {
                    ranges: std::mem::replace(&mut self.ranges, rest),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u64, u64)]) -> RangeSet {
        let mut set = RangeSet::default();
        for (start, end) in ranges {
            set.insert(*start..*end);
        }
        set
    }

    #[test]
    fn neighbours_and_overlaps_become_one() {
        let joined = |ranges: &[(u64, u64)]| {
            set(ranges)
                .iter()
                .map(|range| (range.start, range.end))
                .collect::<Vec<_>>()
        };
        assert_eq!(joined(&[(5, 6), (7, 8)]), [(5, 6), (7, 8)]);
        assert_eq!(joined(&[(5, 6), (7, 8), (6, 7)]), [(5, 8)]);
        assert_eq!(joined(&[(1, 2), (3, 4), (8, 9), (0, 9)]), [(0, 9)]);
        assert_eq!(joined(&[(0, 9), (3, 4), (4, 4)]), [(0, 9)]);
        assert_eq!(joined(&[(4, 6), (1, 5)]), [(1, 6)]);
    }

    #[test]
    fn it_knows_what_it_holds_and_gives_out_the_first() {
        let mut some = set(&[(1, 3), (5, 6), (8, 9)]);
        assert!([1, 2, 5, 8].iter().all(|offset| some.contains(*offset)));
        assert!(
            [0, 3, 4, 6, 7, 9]
                .iter()
                .all(|offset| !some.contains(*offset))
        );
        assert_eq!(some.take_first(2), set(&[(1, 3), (5, 6)]));
        assert_eq!(some.take_first(2), set(&[(8, 9)]));
        assert!(some.is_empty());
    }
}
