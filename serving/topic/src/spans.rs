//! Disjoint ranges of offsets, each with a value and a time: who holds what until when, and what waits for its time.

use std::collections::{BTreeMap, BTreeSet};

use types::{MonoTime, Offset};

use crate::OffsetRange;

/// Disjoint ranges with a value and a time each. Neighbours are not merged: a range keeps the bounds it came with
/// until it is cut.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Spans<V> {
    /// By start.
    spans: BTreeMap<u64, Span<V>>,
    /// Time and start of every span.
    due: BTreeSet<(MonoTime, u64)>,
    /// How many offsets are in it.
    count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Span<V> {
    end: u64,
    at: MonoTime,
    value: V,
}

/// A range with its value and time, as it is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<V> {
    pub(crate) range: OffsetRange,
    pub(crate) at: MonoTime,
    pub(crate) value: V,
}

impl<V: Copy> Spans<V> {
    pub(crate) const fn new() -> Self {
        Self {
            spans: BTreeMap::new(),
            due: BTreeSet::new(),
            count: 0,
        }
    }

    /// How many offsets are in it.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// The earliest time of all.
    pub(crate) fn next_due(&self) -> Option<MonoTime> {
        self.due.first().map(|(at, _)| *at)
    }

    /// All, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Piece<V>> + '_ {
        self.spans.iter().map(|(start, span)| piece(*start, span))
    }

    /// The first span, cut to begin at or after `from`.
    pub(crate) fn at_or_after(&self, from: Offset) -> Option<Piece<V>> {
        let mut found = self.whole_at_or_after(from)?;
        found.range.start = found.range.start.max(from);
        Some(found)
    }

    fn whole_at_or_after(&self, from: Offset) -> Option<Piece<V>> {
        let before = self.spans.range(..=from.get()).next_back();
        let holder = before.filter(|(_, span)| span.end > from.get());
        let found = holder.or_else(|| self.spans.range(from.get()..).next());
        found.map(|(start, span)| piece(*start, span))
    }

    /// Adds a range that overlaps none.
    ///
    /// # Panics
    ///
    /// When it is empty or overlaps one: an offset has one state.
    pub(crate) fn insert(&mut self, range: OffsetRange, at: MonoTime, value: V) {
        assert!(!range.is_empty(), "an empty range has no state");
        let next = self.whole_at_or_after(range.start).map(|next| next.range);
        assert!(
            next.is_none_or(|next| next.start >= range.end),
            "an offset has one state range={range} next={next:?}"
        );
        let (start, end) = (range.start.get(), range.end.get());
        self.spans.insert(start, Span { end, at, value });
        self.due.insert((at, start));
        self.count += range.len();
    }

    /// Takes out what overlaps `range`, cut at its bounds, and hands each piece to `taken`, ascending.
    pub(crate) fn take(&mut self, range: OffsetRange, mut taken: impl FnMut(Piece<V>)) {
        let mut from = range.start;
        while from < range.end {
            let Some(found) = self.whole_at_or_after(from) else {
                return;
            };
            if found.range.start >= range.end {
                return;
            }
            self.remove_span(&found);
            if found.range.start < range.start {
                let kept = OffsetRange::new(found.range.start, range.start);
                self.insert(kept, found.at, found.value);
            }
            if found.range.end > range.end {
                let kept = OffsetRange::new(range.end, found.range.end);
                self.insert(kept, found.at, found.value);
            }
            let cut = OffsetRange::new(
                found.range.start.max(range.start),
                found.range.end.min(range.end),
            );
            from = cut.end;
            taken(Piece {
                range: cut,
                ..found
            });
        }
    }

    /// Takes the earliest out if its time has come.
    pub(crate) fn take_due(&mut self, now: MonoTime) -> Option<Piece<V>> {
        let (at, start) = *self.due.first()?;
        if at > now {
            return None;
        }
        let span = self.spans.get(&start).expect("every time has its span");
        let found = piece(start, span);
        self.remove_span(&found);
        Some(found)
    }

    fn remove_span(&mut self, found: &Piece<V>) {
        let start = found.range.start.get();
        self.spans.remove(&start);
        self.due.remove(&(found.at, start));
        self.count -= found.range.len();
    }
}

const fn piece<V: Copy>(start: u64, span: &Span<V>) -> Piece<V> {
    Piece {
        range: OffsetRange::of(start, span.end),
        at: span.at,
        value: span.value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> OffsetRange {
        OffsetRange::of(start, end)
    }

    fn at(nanos: u64) -> MonoTime {
        MonoTime::from_nanos(nanos)
    }

    #[test]
    fn taking_cuts_at_the_bounds() {
        let mut spans = Spans::new();
        spans.insert(range(0, 10), at(1), 'a');
        spans.insert(range(10, 20), at(2), 'b');
        spans.insert(range(30, 40), at(3), 'c');
        let mut taken = Vec::new();
        spans.take(range(5, 35), |piece| taken.push((piece.range, piece.value)));
        assert_eq!(
            taken,
            [
                (range(5, 10), 'a'),
                (range(10, 20), 'b'),
                (range(30, 35), 'c')
            ]
        );
        let left: Vec<_> = spans
            .iter()
            .map(|piece| (piece.range, piece.value))
            .collect();
        assert_eq!(left, [(range(0, 5), 'a'), (range(35, 40), 'c')]);
        assert_eq!(spans.count(), 10);
    }

    #[test]
    fn every_piece_keeps_its_time() {
        let mut spans = Spans::new();
        spans.insert(range(0, 10), at(5), 'a');
        spans.insert(range(20, 30), at(3), 'b');
        spans.take(range(4, 6), |_| ());
        assert_eq!(spans.take_due(at(2)), None);
        let mut due = Vec::new();
        while let Some(piece) = spans.take_due(at(5)) {
            due.push((piece.range, piece.value));
        }
        assert_eq!(
            due,
            [
                (range(20, 30), 'b'),
                (range(0, 4), 'a'),
                (range(6, 10), 'a')
            ]
        );
        assert_eq!((spans.count(), spans.next_due()), (0, None));
    }

    #[test]
    #[should_panic(expected = "an offset has one state")]
    fn an_offset_has_one_state() {
        let mut spans = Spans::new();
        spans.insert(range(5, 10), at(0), ());
        spans.insert(range(0, 6), at(0), ());
    }
}
