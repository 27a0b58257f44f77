//! What happens next: the one queue of events, ordered by time, and by the order of their making where times are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::event::Event;

/// Simulated time since the start of the run, in nanoseconds.
pub(super) type Nanos = u64;

/// A millisecond.
pub(super) const MS: Nanos = 1_000_000;
/// A second.
pub(super) const SECOND: Nanos = 1_000 * MS;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<Item>>,
    made: u64,
}

#[derive(Debug)]
struct Item {
    at: Nanos,
    ordinal: u64,
    event: Event,
}

impl Agenda {
    /// Puts an event in.
    pub(super) fn put(&mut self, at: Nanos, event: Event) {
        let ordinal = self.made;
        self.made += 1;
        self.heap.push(Reverse(Item { at, ordinal, event }));
    }

    /// Takes the next one out.
    pub(super) fn take(&mut self) -> Option<(Nanos, Event)> {
        let Reverse(item) = self.heap.pop()?;
        Some((item.at, item.event))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.ordinal == other.ordinal
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.ordinal).cmp(&(other.at, other.ordinal))
    }
}
