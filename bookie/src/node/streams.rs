//! The answers to the adds of one stream, on their way to it.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use types::storage::AddResult;

/// The answers of one stream. As many as it has adds in flight: its reader stops while too many wait.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    answers: Mutex<Vec<(u64, AddResult)>>,
    filled: Notify,
}

impl Outbox {
    /// Adds an answer; [`Outbox::flush`] tells the stream.
    pub(super) fn push(&self, id: u64, result: AddResult) {
        // One vector, whole after each statement.
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((id, result));
    }

    /// Wakes the stream.
    pub(super) fn flush(&self) {
        self.filled.notify_one();
    }

    /// Waits for answers and takes all there are.
    ///
    /// # Cancel safety
    ///
    /// Nothing is taken unless it is returned.
    pub(super) async fn take(&self) -> Vec<(u64, AddResult)> {
        loop {
            let answers =
                std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
            if !answers.is_empty() {
                return answers;
            }
            self.filled.notified().await;
        }
    }
}
