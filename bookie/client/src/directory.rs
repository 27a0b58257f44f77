//! The bookies there are, as meta tells them, kept up to date.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use types::cluster::{BookieDuty, BookieRecord};
use types::{BookieId, ZoneName};

/// A view of the bookies that follows meta. Clones are the same view.
#[derive(Clone)]
pub struct Directory {
    bookies: watch::Receiver<Arc<[BookieRecord]>>,
    made: Arc<Mutex<Made>>,
}

/// Candidates, and the bookies of which they were made: many shards ask for the same.
#[derive(Default)]
struct Made {
    of: Option<Arc<[BookieRecord]>>,
    candidates: Arc<[ledger::Candidate]>,
}

impl Directory {
    /// A view of what `bookies` holds, now and later.
    pub fn new(bookies: watch::Receiver<Arc<[BookieRecord]>>) -> Self {
        let made = Arc::default();
        Self { bookies, made }
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
    pub fn candidates(&self) -> Arc<[ledger::Candidate]> {
        let bookies = self.bookies();
        // Both parts are replaced together, with nothing between that could panic.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.of.as_ref().is_none_or(|of| !Arc::ptr_eq(of, &bookies)) {
            let candidates = candidates(&bookies);
            if made.candidates != candidates {
                made.candidates = candidates;
            }
            made.of = Some(bookies);
        }
        Arc::clone(&made.candidates)
    }
}

fn candidates(bookies: &[BookieRecord]) -> Arc<[ledger::Candidate]> {
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

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("bookies", &self.bookies().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use types::cluster::BookieState;
    use types::{Incarnation, Revision, SessionId};

    use super::*;

    fn bookie(id: u64, duty: BookieDuty) -> BookieRecord {
        BookieRecord {
            zone: None,
            id: BookieId::new(id),
            name: format!("b{id}").parse().unwrap(),
            address: String::new(),
            born: Revision::new(1),
            incarnation: Incarnation::new(1),
            mark: 0,
            state: BookieState::ReadWrite,
            duty,
            session: SessionId::new(1),
            live: true,
        }
    }

    fn ids(candidates: &[ledger::Candidate]) -> Vec<u64> {
        candidates.iter().map(|it| it.bookie.get()).collect()
    }

    #[test]
    fn all_shards_share_the_candidates_until_there_are_other_bookies() {
        let known: Arc<[_]> = [1, 2].map(|id| bookie(id, BookieDuty::Active)).into();
        let (tell, told) = watch::channel(known);
        let directory = Directory::new(told);
        let first = directory.candidates();
        assert_eq!(ids(&first), [1, 2]);
        assert!(Arc::ptr_eq(&first, &directory.clone().candidates()));

        let advanced = |id| BookieRecord {
            mark: 7,
            ..bookie(id, BookieDuty::Active)
        };
        tell.send_replace([1, 2].map(advanced).into());
        assert!(
            Arc::ptr_eq(&first, &directory.candidates()),
            "a mark is nothing that shards choose by"
        );

        let drained = bookie(2, BookieDuty::Draining);
        tell.send_replace(Arc::from([bookie(1, BookieDuty::Active), drained]));
        assert_eq!(ids(&directory.candidates()), [1]);
    }
}
