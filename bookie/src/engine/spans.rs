//! Sets of entry ids, as runs without gaps.

use std::collections::BTreeMap;

use types::EntryId;

/// Entry ids. Runs that touch are one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Spans(BTreeMap<EntryId, EntryId>);

impl Spans {
    /// Adds the ids from `first` to `last`.
    pub(super) fn insert(&mut self, first: EntryId, last: EntryId) {
        if last < first {
            return;
        }
        let (mut first, mut last) = (first, last);
        // All that overlap or touch: the one that begins before, and those that begin inside.
        while let Some((begin, end)) = self.0.range(..=last.next()).next_back() {
            let (begin, end) = (*begin, *end);
            if end.next() < first {
                break;
            }
            self.0.remove(&begin);
            first = first.min(begin);
            last = last.max(end);
        }
        self.0.insert(first, last);
    }

    /// The runs of ids up to `last` that are not in it, at most `limit`.
    pub(super) fn missing(&self, last: EntryId, limit: usize) -> Vec<(EntryId, EntryId)> {
        let mut missing = Vec::new();
        let mut next = EntryId::new(0);
        for (begin, end) in &self.0 {
            if *begin > last || missing.len() >= limit {
                break;
            }
            if let Some(before) = begin.prev().filter(|before| next <= *before) {
                missing.push((next, before));
            }
            next = end.next();
        }
        if next <= last && missing.len() < limit {
            missing.push((next, last));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use host::Rng;

    use super::*;

    fn id(id: u64) -> EntryId {
        EntryId::new(id)
    }

    #[test]
    fn what_is_missing_is_what_was_never_added() {
        for seed in 0..200 {
            let rng = Rng::seeded(seed);
            let mut spans = Spans::default();
            let mut model = BTreeSet::new();
            for _ in 0..rng.below(8) {
                let first = rng.below(20);
                let last = first + rng.below(6);
                spans.insert(id(first), id(last));
                model.extend(first..=last);
            }
            let last = rng.below(25);
            let missing = spans.missing(id(last), usize::MAX);
            let ids: Vec<u64> = missing
                .iter()
                .flat_map(|(first, last)| first.get()..=last.get())
                .collect();
            let wanted: Vec<u64> = (0..=last).filter(|id| !model.contains(id)).collect();
            assert_eq!(ids, wanted, "seed {seed}: {spans:?}");
            let apart = missing.windows(2).all(|two| two[0].1.next() < two[1].0);
            assert!(apart, "runs that touch are one: {missing:?}");
        }
    }

    #[test]
    fn only_so_many_runs_are_told() {
        let mut spans = Spans::default();
        spans.insert(id(1), id(1));
        spans.insert(id(3), id(3));
        assert_eq!(spans.missing(id(9), 2), [(id(0), id(0)), (id(2), id(2))]);
    }
}
