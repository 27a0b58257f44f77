//! The byte budget of a node: memory is admitted by bytes, at once or not at all.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use types::{ByteSize, Problem, Reason};

/// How long a client waits before it tries again.
const WAIT: Duration = Duration::from_millis(50);

/// The least share: a few batches, so that many who do little are not slowed down when one of them does much.
const LEAST: u64 = 1 << 20;

/// The bytes of messages that a node may hold between its clients and the bookies. Clones share it.
#[derive(Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

struct Shared {
    limit: u64,
    used: AtomicU64,
    /// Who takes from it now.
    sharers: AtomicU64,
}

/// One of those that take from a [`Budget`], until it is dropped.
pub struct BudgetShare {
    shared: Arc<Shared>,
    bytes: u64,
}

/// Bytes taken from a [`Budget`]; given back when it is dropped.
pub struct BudgetPermit {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit: ByteSize) -> Self {
        let shared = Shared {
            limit: limit.get(),
            used: AtomicU64::new(0),
            sharers: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Takes bytes out of the budget, now.
    ///
    /// # Errors
    ///
    /// `OVERLOADED`: not so many are left. Back off.
    pub fn acquire(&self, bytes: usize) -> Result<BudgetPermit, Problem> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let limit = self.shared.limit;
        let take = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
        let taken = self
            .shared
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        match taken {
            Ok(_) => Ok(BudgetPermit {
                shared: Arc::clone(&self.shared),
                bytes,
            }),
            Err(used) => Err(Problem::new(
                Reason::Overloaded,
                format!(
                    "the node's memory for messages is used up, try again later used={used} limit={limit}"
                ),
            )
            .with("limit", limit)
            .retry_after(WAIT)),
        }
    }

    /// Becomes one of those that take from it.
    pub fn share(&self) -> BudgetShare {
        let sharers = self.shared.sharers.fetch_add(1, Ordering::Relaxed) + 1;
        BudgetShare {
            shared: Arc::clone(&self.shared),
            bytes: (self.shared.limit / 4 / sharers).max(LEAST),
        }
    }

    /// Bytes taken now.
    pub fn used(&self) -> ByteSize {
        ByteSize::new(self.shared.used.load(Ordering::Relaxed))
    }

    /// Bytes there are.
    pub fn limit(&self) -> ByteSize {
        ByteSize::new(self.shared.limit)
    }
}

impl BudgetShare {
    /// What it should take at most at a time, as many as they were when it came: those that came before it may take more, a
    /// few times the quarter of the budget in all, and who takes no more than this is seldom refused.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.shared.sharers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl BudgetPermit {
    /// How many.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for BudgetPermit {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Budget({}/{})", self.used(), self.limit())
    }
}

impl fmt::Debug for BudgetShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BudgetShare({})", self.bytes)
    }
}

impl fmt::Debug for BudgetPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BudgetPermit({})", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_share_a_budget_the_less_each_may_take() {
        let budget = Budget::new(ByteSize::mib(64));
        let first = budget.share();
        let others: Vec<_> = (0..3).map(|_| budget.share()).collect();
        assert_eq!((first.bytes(), others[2].bytes()), (16 << 20, 4 << 20));
        let many: Vec<_> = (0..100).map(|_| budget.share()).collect();
        assert_eq!(many[99].bytes(), LEAST);
        drop((others, many));
        assert_eq!(budget.share().bytes(), 8 << 20);
    }

    #[test]
    fn bytes_are_given_back_and_never_exceed_the_limit() {
        let budget = Budget::new(ByteSize::new(100));
        let first = budget.acquire(60).unwrap();
        let refused = budget.acquire(41).unwrap_err();
        assert_eq!(refused.reason, Reason::Overloaded);
        assert!(refused.retry_after.is_some());
        let second = budget.acquire(40).unwrap();
        assert_eq!(budget.used(), ByteSize::new(100));
        drop((first, second));
        assert_eq!(budget.used(), ByteSize::new(0));
    }
}
