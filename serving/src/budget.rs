//! The byte budget of a node: memory is admitted by bytes, at once or not at all.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use types::{ByteSize, Problem, Reason};

/// How long a client waits before it tries again.
const WAIT: Duration = Duration::from_millis(50);

/// The bytes of messages that a node may hold between its clients and the bookies. Clones share it.
#[derive(Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

struct Shared {
    limit: u64,
    used: AtomicU64,
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

    /// Bytes taken now.
    pub fn used(&self) -> ByteSize {
        ByteSize::new(self.shared.used.load(Ordering::Relaxed))
    }

    /// Bytes there are.
    pub fn limit(&self) -> ByteSize {
        ByteSize::new(self.shared.limit)
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

impl fmt::Debug for BudgetPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BudgetPermit({})", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
