//! The bookies there are, as meta tells them, kept up to date.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use types::BookieId;
use types::cluster::{BookieRecord, BookieState};

/// A view of the bookies that follows meta. Clones are the same view.
#[derive(Clone)]
pub struct Directory {
    bookies: watch::Receiver<Arc<[BookieRecord]>>,
}

impl Directory {
    /// A view of what `bookies` holds, now and later.
    pub const fn new(bookies: watch::Receiver<Arc<[BookieRecord]>>) -> Self {
        Self { bookies }
    }

    /// The bookies as they are known now.
    pub fn bookies(&self) -> Arc<[BookieRecord]> {
        Arc::clone(&self.bookies.borrow())
    }

    /// One bookie as it is known now.
    pub fn bookie(&self, id: BookieId) -> Option<BookieRecord> {
        self.bookies
            .borrow()
            .iter()
            .find(|bookie| bookie.id == id)
            .cloned()
    }

    /// The bookies as an owner chooses among them for a new ledger.
    pub fn candidates(&self) -> Vec<ledger::Candidate> {
        let candidate = |bookie: &BookieRecord| ledger::Candidate {
            bookie: bookie.id,
            writable: bookie.state == BookieState::ReadWrite,
            live: bookie.live,
        };
        self.bookies.borrow().iter().map(candidate).collect()
    }

    /// Waits for the next change. Returns at once when there was one since the last call on this clone; never
    /// returns once nothing follows meta any more.
    ///
    /// # Cancel safety
    ///
    /// A change is not missed.
    pub async fn changed(&mut self) {
        if self.bookies.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("bookies", &self.bookies().len())
            .finish()
    }
}
