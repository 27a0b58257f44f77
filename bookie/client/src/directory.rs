//! The bookies there are, as meta tells them, kept up to date.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use types::cluster::{BookieDuty, BookieRecord};
use types::{BookieId, ZoneName};

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
        let bookies = self.bookies.borrow();
        let zones: BTreeSet<&ZoneName> = bookies.iter().filter_map(|it| it.zone.as_ref()).collect();
        let number = |zone: &ZoneName| {
            let place = zones.iter().position(|known| *known == zone)?;
            u32::try_from(place).ok()
        };
        let candidate = |bookie: &BookieRecord| ledger::Candidate {
            bookie: bookie.id,
            writable: bookie.takes_ledgers(),
            live: bookie.live,
            zone: bookie.zone.as_ref().and_then(number),
        };
        // One that is drained is not even to fill a place: its copy would move away at once.
        let is_active = |bookie: &&BookieRecord| bookie.duty == BookieDuty::Active;
        bookies.iter().filter(is_active).map(candidate).collect()
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
