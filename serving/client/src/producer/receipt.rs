//! The promise that a message is stored.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use types::Reason;

use crate::Error;

/// Where messages are, once they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stored {
    /// The offset of the first message; those that were sent together follow on. `None` for a repeat of something
    /// stored so long ago that its place is not known any more.
    pub first_offset: Option<u64>,
    /// How many messages.
    pub count: u32,
    /// Whether they had been stored before: this was a repeat, and nothing was stored twice.
    pub duplicate: bool,
}

/// Resolves once the messages are fsynced on enough disks, or never will be by this producer.
///
/// Dropping it does not take the messages back, but then nobody learns whether they were stored: that is counted
/// ([`Producer::receipts_ignored`](super::Producer::receipts_ignored)) and logged. Call [`Receipt::ignore`] where
/// that is what you want.
#[must_use = "a message is only known to be stored once its receipt resolved"]
pub struct Receipt {
    answer: oneshot::Receiver<Result<Stored, Error>>,
    ignored: Arc<AtomicU64>,
    is_settled: bool,
}

impl Receipt {
    pub(super) fn new(
        answer: oneshot::Receiver<Result<Stored, Error>>,
        ignored: Arc<AtomicU64>,
    ) -> Self {
        Self {
            answer,
            ignored,
            is_settled: false,
        }
    }

    /// Gives up knowing whether the messages were stored, on purpose: neither counted nor logged.
    pub fn ignore(mut self) {
        self.is_settled = true;
    }
}

impl Future for Receipt {
    type Output = Result<Stored, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = std::task::ready!(Pin::new(&mut self.answer).poll(context));
        self.is_settled = true;
        Poll::Ready(answer.unwrap_or_else(|_| {
            let message = "the producer's task ended; it may or may not be stored";
            Err(Error::new(Reason::OutcomeUnknown, message))
        }))
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.is_settled {
            self.ignored.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").finish_non_exhaustive()
    }
}
