use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::AckSet;

fn offsets(range: OffsetRange) -> std::ops::Range<u64> {
    range.start.get()..range.end.get()
}

fn some_range() -> impl Strategy<Value = OffsetRange> {
    (0_u64..60, 0_u64..12).prop_map(|(start, len)| OffsetRange::of(start, start + len))
}

/// The ranges a set of offsets takes.
fn ranges_of(model: &BTreeSet<u64>) -> Vec<OffsetRange> {
    let mut ranges: Vec<OffsetRange> = Vec::new();
    for offset in model {
        match ranges.last_mut() {
            Some(last) if last.end.get() == *offset => last.end = Offset::new(offset + 1),
            _ => ranges.push(OffsetRange::of(*offset, offset + 1)),
        }
    }
    ranges
}

proptest! {
    #[test]
    fn a_range_set_is_a_set(steps in prop::collection::vec((any::<bool>(), some_range()), 0..60)) {
        let (mut set, mut model) = (RangeSet::new(), BTreeSet::new());
        for (is_insert, range) in steps {
            if is_insert {
                let fresh = offsets(range).filter(|offset| model.insert(*offset)).count();
                prop_assert_eq!(set.insert(range), fresh as u64);
            } else {
                set.remove(range);
                model.retain(|offset| !offsets(range).contains(offset));
            }
            prop_assert_eq!(set.count(), model.len() as u64);
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), ranges_of(&model));
        }
        for offset in 0..80 {
            prop_assert_eq!(set.contains(Offset::new(offset)), model.contains(&offset));
        }
    }

    #[test]
    fn the_first_gap_is_the_first_gap(ranges in prop::collection::vec(some_range(), 0..20), within in some_range()) {
        let set: RangeSet = ranges.iter().copied().collect();
        let mut gaps = offsets(within).filter(|offset| !set.contains(Offset::new(*offset)));
        let start = gaps.next();
        let found = set.first_gap(within);
        prop_assert_eq!(found.map(|gap| gap.start.get()), start);
        if let Some(gap) = found {
            prop_assert!(offsets(gap).all(|offset| !set.contains(Offset::new(offset))));
            prop_assert!(gap.end == within.end || set.contains(gap.end));
        }
    }

    #[test]
    fn an_ack_set_is_a_set_with_everything_below_its_mark(
        mark in 0_u64..20,
        steps in prop::collection::vec(some_range(), 0..40),
        end in 0_u64..80,
    ) {
        let mut acks = AckSet::new(Offset::new(mark));
        let mut model: BTreeSet<u64> = (0..mark).collect();
        for range in steps {
            let fresh = offsets(range).filter(|offset| model.insert(*offset)).count();
            prop_assert_eq!(acks.insert(range), fresh as u64);
        }
        let first_gap = (0..).find(|offset| !model.contains(offset)).unwrap();
        prop_assert_eq!(acks.mark().get(), first_gap);
        prop_assert!(acks.above().iter().all(|range| range.start > acks.mark()));
        let unacked = (0..90).filter(|offset| !model.contains(offset)).count();
        prop_assert_eq!(acks.unacked_below(Offset::new(90)), unacked as u64);
        let had = model.iter().any(|offset| *offset >= end);
        prop_assert_eq!(acks.truncate(Offset::new(end)), had);
        for offset in 0..90 {
            let expected = offset < end && model.contains(&offset);
            prop_assert_eq!(acks.contains(Offset::new(offset)), expected);
        }
    }
}
