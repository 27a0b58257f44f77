//! One producer's numbers: what is stored, what is in flight, what comes next.

use std::collections::VecDeque;

use types::{Offset, SequenceId, WallTime};

use crate::{Position, Stored};

/// Where a stored batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Recent {
    /// The number of its first message.
    pub(crate) first: SequenceId,
    /// How many messages it has.
    pub(crate) count: u32,
    /// The offset of its first message.
    pub(crate) first_offset: Offset,
    /// The entry.
    pub(crate) position: Position,
    /// When the owner numbered it.
    pub(crate) publish_time: WallTime,
}

impl Recent {
    /// The first number after it.
    pub(crate) fn end(&self) -> u64 {
        self.first.get() + u64::from(self.count)
    }

    pub(crate) const fn stored_new(&self) -> Stored {
        Stored::New {
            first_offset: self.first_offset,
            position: self.position,
            publish_time: self.publish_time,
        }
    }

    pub(crate) const fn stored_before(&self) -> Stored {
        Stored::Duplicate {
            first_offset: self.first_offset,
            position: self.position,
            publish_time: self.publish_time,
        }
    }
}

/// What a batch is to the numbers before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It comes next.
    New,
    /// All of it was appended before.
    Repeat,
    /// It leaves numbers out, or repeats only a part of itself.
    OutOfOrder {
        /// The number that comes next.
        expected: SequenceId,
    },
}

/// One producer's numbers in one shard. They are dense: 0, 1, 2 …
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Sequences {
    /// The first number not confirmed.
    confirmed_next: u64,
    /// The first number not appended.
    appended_next: u64,
    /// The last confirmed batches, oldest first, each following the one before.
    recent: VecDeque<Recent>,
}

impl Sequences {
    /// What was confirmed, from a snapshot. `recent` ends at `confirmed_next`.
    pub(crate) const fn restore(confirmed_next: u64, recent: VecDeque<Recent>) -> Self {
        Self {
            confirmed_next,
            appended_next: confirmed_next,
            recent,
        }
    }

    pub(crate) const fn confirmed_next(&self) -> u64 {
        self.confirmed_next
    }

    pub(crate) const fn recent(&self) -> &VecDeque<Recent> {
        &self.recent
    }

    /// The last number confirmed.
    pub(crate) fn last(&self) -> Option<SequenceId> {
        SequenceId::new(self.confirmed_next).prev()
    }

    /// Whether nothing is in flight.
    pub(crate) const fn is_settled(&self) -> bool {
        self.confirmed_next == self.appended_next
    }

    /// Whether all numbers below `end` are confirmed.
    pub(crate) const fn is_confirmed(&self, end: u64) -> bool {
        self.confirmed_next >= end
    }

    /// Judges a batch of the numbers `first` up to `end`.
    pub(crate) const fn judge(&self, first: SequenceId, end: u64) -> Verdict {
        if first.get() == self.appended_next {
            Verdict::New
        } else if end <= self.appended_next {
            Verdict::Repeat
        } else {
            Verdict::OutOfOrder {
                expected: SequenceId::new(self.appended_next),
            }
        }
    }

    /// Notes that the batch that comes next went to the log.
    pub(crate) fn append(&mut self, count: u32) {
        self.appended_next += u64::from(count);
    }

    /// Notes that a batch is confirmed, and keeps at most `keep` of them. In the fold of a log it may skip numbers:
    /// the producer was forgotten in between.
    pub(crate) fn confirm(&mut self, batch: Recent, keep: usize) {
        if self
            .recent
            .back()
            .is_some_and(|last| last.end() != batch.first.get())
        {
            self.recent.clear();
        }
        self.confirmed_next = batch.end();
        self.appended_next = self.appended_next.max(self.confirmed_next);
        self.recent.push_back(batch);
        while self.recent.len() > keep {
            self.recent.pop_front();
        }
    }

    /// The batch that was cut exactly so, if its place is still known.
    pub(crate) fn find(&self, first: SequenceId, count: u32) -> Option<&Recent> {
        let at = self
            .recent
            .binary_search_by_key(&first, |batch| batch.first);
        let batch = &self.recent[at.ok()?];
        (batch.count == count).then_some(batch)
    }

    /// Forgets what lies at or beyond the end of the log. Tells whether there was anything.
    pub(crate) fn truncate(&mut self, end: Offset) -> bool {
        let before = self.confirmed_next;
        while let Some(last) = self.recent.back().filter(|last| last.first_offset >= end) {
            self.confirmed_next = last.first.get();
            self.recent.pop_back();
        }
        self.appended_next = self.confirmed_next;
        before != self.confirmed_next
    }
}
