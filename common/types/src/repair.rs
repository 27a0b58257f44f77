//! What meta's auditor finds: copies of closed ledgers that are to be made, and those that cannot be.

use std::time::Duration;

use crate::{BookieId, LedgerId};

/// How the copies of all ledgers stand, as meta last looked at them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairPlan {
    /// Whether meta has looked at every ledger since it became active. If not, the numbers are not known yet.
    pub is_known: bool,
    /// Closed ledgers.
    pub closed: u64,
    /// Those of them whose every copy is whole, where it is to stay.
    pub whole: u64,
    /// Those that lack a whole copy at a bookie which is there to have one.
    pub short: u64,
    /// Those with a copy on its way to another bookie.
    pub moving: u64,
    /// Those that have a copy to move and wait for their turn.
    pub waiting: u64,
    /// How many can not be made good.
    pub beyond_count: u64,
    /// The first of those, and why.
    pub beyond: Vec<BeyondRepair>,
    /// Each bookie's part.
    pub bookies: Vec<BookieCopies>,
    /// Copies found whole in the last minute.
    pub done_last_minute: u64,
    /// How long the rest takes at that rate; none where nothing was done or nothing is left.
    pub left: Option<Duration>,
}

impl RepairPlan {
    /// Whether all ledgers are known to be whole.
    pub const fn is_empty(&self) -> bool {
        self.is_known
            && self.short == 0
            && self.moving == 0
            && self.waiting == 0
            && self.beyond_count == 0
    }
}

/// A ledger that cannot be made good now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeyondRepair {
    /// Which ledger.
    pub ledger: LedgerId,
    /// Why.
    pub why: BeyondWhy,
}

/// Why a ledger cannot be made good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BeyondWhy {
    /// No bookie could take over the copy of this one: start another bookie.
    NoTarget {
        /// The bookie that is lost, or drained.
        of: BookieId,
    },
    /// Every bookie that had a copy is lost: bring one of them back.
    NoCopy,
    /// This bookie found an entry nowhere: bring a bookie back that had a copy.
    EntriesMissing {
        /// The bookie that is to have a copy.
        at: BookieId,
    },
}

/// One bookie's part in the repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookieCopies {
    /// Which bookie.
    pub bookie: BookieId,
    /// The ledgers that name it, open ones too.
    pub named: u64,
    /// Copies that it is to make, or to look at.
    pub due: u64,
    /// Copies of its that are to move to others.
    pub leaving: u64,
    /// Whether it counts as lost: nobody has heard of it for too long, or it is gone for good.
    pub is_lost: bool,
}
