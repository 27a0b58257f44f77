//! What the owner knows of the bookies beyond its open ledgers.

use std::sync::Arc;

use types::{BookieId, LedgerId, MonoTime, Quorum};

use crate::config::Config;
use crate::ensemble::{Candidate, choose, healthy};

/// The registered bookies, whose connection is broken, and who gave trouble.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Bookies {
    candidates: Arc<[Candidate]>,
    lost: Vec<BookieId>,
    /// Until when a bookie is not chosen.
    trouble: Vec<(BookieId, MonoTime)>,
}

impl Bookies {
    pub(super) fn replace(&mut self, candidates: Arc<[Candidate]>) {
        self.candidates = candidates;
    }

    pub(super) fn connected(&mut self, bookie: BookieId) {
        self.lost.retain(|lost| *lost != bookie);
        self.trouble.retain(|(sick, _)| *sick != bookie);
    }

    pub(super) fn lost(&mut self, bookie: BookieId) {
        if let Err(place) = self.lost.binary_search(&bookie) {
            self.lost.insert(place, bookie);
        }
    }

    pub(super) fn avoid(&mut self, bookie: BookieId, now: MonoTime, config: &Config) {
        let until = now.after(config.trouble_time);
        match self
            .trouble
            .binary_search_by_key(&bookie, |(sick, _)| *sick)
        {
            Ok(place) => self.trouble[place].1 = until,
            Err(place) => self.trouble.insert(place, (bookie, until)),
        }
    }

    pub(super) fn is_lost(&self, bookie: BookieId) -> bool {
        self.lost.binary_search(&bookie).is_ok()
    }

    fn is_avoided(&self, bookie: BookieId, now: MonoTime) -> bool {
        let is_sick = |(sick, until): &(BookieId, MonoTime)| *sick == bookie && *until > now;
        self.is_lost(bookie) || self.trouble.iter().any(is_sick)
    }

    /// The bookies of a new ledger; none when fewer than Qa would take it.
    pub(super) fn choose(
        &self,
        ledger: LedgerId,
        quorum: Quorum,
        now: MonoTime,
    ) -> Option<Vec<BookieId>> {
        choose(ledger, quorum, &self.candidates, |b| {
            self.is_avoided(b, now)
        })
    }

    /// Whether a new ledger would have Qw healthy bookies.
    pub(super) fn has_full_ensemble(&self, quorum: Quorum, now: MonoTime) -> bool {
        healthy(&self.candidates, |b| self.is_avoided(b, now)) >= quorum.write()
    }

    /// Whether [`Self::choose`] finds an ensemble.
    pub(super) fn can_choose(&self, quorum: Quorum, now: MonoTime) -> bool {
        self.candidates.len() >= quorum.write()
            && healthy(&self.candidates, |b| self.is_avoided(b, now)) >= quorum.ack()
    }
}
