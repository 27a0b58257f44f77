//! What outlives a writer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a writer has sent, and what of it has no answer: its process may die and another go on. Clones are the same past.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The first number that was never sent.
    next: u64,
    /// What of it is not known to be stored.
    open: BTreeSet<u64>,
    /// Of what a process left open: what turned out to be stored, and what was sent again.
    found: u64,
    again: u64,
}

impl Past {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Valid after each statement.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number is about to be sent. Whether it was before.
    pub(super) fn sends(&self, n: u64) -> bool {
        let mut inner = self.lock();
        inner.next = inner.next.max(n + 1);
        let is_repeat = !inner.open.insert(n);
        inner.again += u64::from(is_repeat);
        is_repeat
    }

    /// A number is known to be stored.
    pub(super) fn stored(&self, n: u64) {
        self.lock().open.remove(&n);
    }

    /// The first number that was never sent.
    pub(super) fn next(&self) -> u64 {
        self.lock().next
    }

    /// The topic has so many of the writer's messages: which of the open ones are stored after all.
    ///
    /// # Errors
    ///
    /// The topic has fewer than it confirmed, or more than were sent.
    pub(super) fn take_up(&self, stored: u64) -> anyhow::Result<BTreeSet<u64>> {
        let mut inner = self.lock();
        let next = inner.next;
        anyhow::ensure!(
            stored <= next,
            "the topic has {stored} messages of a writer that sent {next}"
        );
        let lost = (stored..next).find(|n| !inner.open.contains(n));
        if let Some(lost) = lost {
            anyhow::bail!("the topic has {stored} messages of a writer, but confirmed its {lost}");
        }
        let left = inner.open.split_off(&stored);
        let found = std::mem::replace(&mut inner.open, left);
        inner.found += found.len() as u64;
        Ok(found)
    }

    /// Forgets what was sent: nobody goes on with it. What of it is open.
    pub(crate) fn give_up(&self) -> BTreeSet<u64> {
        let mut inner = self.lock();
        inner.next = 0;
        std::mem::take(&mut inner.open)
    }

    /// Of what dead processes left open: how many messages were stored, and how many were sent again.
    pub(crate) fn repeats(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.found, inner.again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sent 0 to 4, and 0 and 1 are stored.
    fn past() -> Past {
        let past = Past::default();
        for n in 0..5 {
            assert!(!past.sends(n));
        }
        past.stored(0);
        past.stored(1);
        past
    }

    #[test]
    fn what_the_topic_has_is_found_and_the_rest_is_sent_again() {
        let past = past();
        assert_eq!(past.take_up(3).unwrap(), BTreeSet::from([2]));
        assert!(past.sends(3) && past.sends(4) && !past.sends(5));
        assert_eq!((past.next(), past.repeats()), (6, (1, 2)));
    }

    #[test]
    fn a_topic_that_has_less_than_it_confirmed_or_more_than_was_sent_is_found_out() {
        assert!(past().take_up(1).unwrap_err().to_string().contains("its 1"));
        assert!(past().take_up(6).is_err());
    }

    #[test]
    fn what_is_given_up_begins_anew() {
        let past = past();
        assert_eq!(past.give_up(), BTreeSet::from([2, 3, 4]));
        assert!(!past.sends(0));
    }
}
