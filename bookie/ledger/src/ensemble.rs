//! Which bookies hold a new ledger.

use std::collections::BTreeMap;

use types::{BookieId, LedgerId, Quorum};

/// A set of an ensemble's members, by their place in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Members(u8);

impl Members {
    /// Nobody.
    pub(crate) const NONE: Self = Self(0);

    /// Whether the member at `place` is in it.
    pub(crate) const fn has(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }

    /// Puts the member at `place` in.
    pub(crate) const fn insert(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    /// Takes the member at `place` out.
    pub(crate) const fn remove(&mut self, place: usize) {
        self.0 &= !(1 << place);
    }

    /// How many there are.
    pub(crate) const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there are none.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries((0..8).filter(|place| self.has(*place)))
            .finish()
    }
}

/// A registered bookie as the owner's node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Which bookie.
    pub bookie: BookieId,
    /// Whether it takes new ledgers.
    pub writable: bool,
    /// Whether its session is live.
    pub live: bool,
    /// Its failure domain, by a number that means nothing else; none: it fails alone.
    pub zone: Option<u32>,
}

/// Chooses the bookies of a new ledger, or none when fewer than Qa of them would take it now.
///
/// Healthy ones (writable, live, not avoided) come first; among them those of failure domains that have the fewest copies
/// yet; and then a hash of the ledger spreads. Where at least Qa are healthy and fewer than Qw, registered ones fill the
/// rest: repair completes their copies once the ledger is closed (R6).
pub fn choose(
    ledger: LedgerId,
    quorum: Quorum,
    candidates: &[Candidate],
    is_avoided: impl Fn(BookieId) -> bool,
) -> Option<Vec<BookieId>> {
    let is_healthy = |c: &Candidate| c.writable && c.live && !is_avoided(c.bookie);
    let distinct: BTreeMap<BookieId, &Candidate> =
        candidates.iter().map(|it| (it.bookie, it)).collect();
    let mut left: Vec<&Candidate> = distinct.into_values().collect();
    let healthy = left.iter().filter(|it| is_healthy(it)).count();
    if healthy < quorum.ack() || left.len() < quorum.write() {
        return None;
    }
    let mut chosen: Vec<&Candidate> = Vec::with_capacity(quorum.write());
    while chosen.len() < quorum.write() {
        let beside = |it: &Candidate| match it.zone {
            Some(zone) => chosen.iter().filter(|c| c.zone == Some(zone)).count(),
            None => 0,
        };
        let rank = |it: &Candidate| {
            let weight = weight(ledger, it.bookie);
            (!is_healthy(it), !it.live, beside(it), weight, it.bookie)
        };
        let (best, _) = left.iter().enumerate().min_by_key(|(_, it)| rank(it))?;
        chosen.push(left.swap_remove(best));
    }
    Some(chosen.into_iter().map(|it| it.bookie).collect())
}

/// How many healthy bookies there are.
pub(crate) fn healthy(candidates: &[Candidate], is_avoided: impl Fn(BookieId) -> bool) -> usize {
    candidates
        .iter()
        .filter(|c| c.writable && c.live && !is_avoided(c.bookie))
        .count()
}

/// A bookie's place in the order for a ledger: lowest first. Two ledgers order the same bookies differently.
fn weight(ledger: LedgerId, bookie: BookieId) -> u64 {
    let mut mixed = ledger.log().get();
    for part in [u64::from(ledger.seq().get()), bookie.get()] {
        mixed = scramble(mixed ^ scramble(part.wrapping_add(0x9e37_79b9_7f4a_7c15)));
    }
    mixed
}

/// The finalizer of splitmix64: every bit of the input moves every bit of the output.
const fn scramble(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use types::{LedgerSeq, LogId};

    use super::*;

    fn all(count: u64) -> Vec<Candidate> {
        (1..=count).map(|b| candidate(b, true)).collect()
    }

    fn candidate(bookie: u64, is_well: bool) -> Candidate {
        Candidate {
            bookie: BookieId::new(bookie),
            writable: true,
            live: is_well,
            zone: None,
        }
    }

    fn ledger(log: u64) -> LedgerId {
        LedgerId::new(LogId::new(log), LedgerSeq::new(0))
    }

    #[test]
    fn ensembles_are_distinct_healthy_and_spread() {
        let mut used = BTreeSet::new();
        for log in 0..100 {
            let chosen = choose(ledger(log), Quorum::THREE_TWO, &all(6), |b| b.get() == 4).unwrap();
            let distinct: BTreeSet<_> = chosen.iter().copied().collect();
            assert_eq!(distinct.len(), 3);
            assert!(!distinct.contains(&BookieId::new(4)));
            used.insert(distinct);
        }
        assert_eq!(used.len(), 10, "every set of three of the five is used");
    }

    #[test]
    fn no_failure_domain_has_two_copies_while_another_has_none() {
        // Two domains of three, and one that fails alone.
        let zones = [Some(1), Some(1), Some(1), Some(2), Some(2), Some(2), None];
        let mut well = all(7);
        for (candidate, zone) in well.iter_mut().zip(zones) {
            candidate.zone = zone;
        }
        let mut used = BTreeSet::new();
        for log in 0..200 {
            let chosen = choose(ledger(log), Quorum::THREE_TWO, &well, |_| false).unwrap();
            let zone = |id: &BookieId| zones[usize::try_from(id.get()).unwrap() - 1];
            let first = chosen.iter().filter(|id| zone(id) == Some(1)).count();
            let second = chosen.iter().filter(|id| zone(id) == Some(2)).count();
            assert!(
                first.abs_diff(second) <= 1 && first.max(second) <= 2,
                "{chosen:?}"
            );
            assert!(first >= 1 && second >= 1, "{chosen:?}");
            used.insert(chosen);
        }
        assert!(used.len() > 9, "spread within the domains");
        // Health goes first: two copies in one domain are better than one at a sick bookie.
        for sick in &mut well[3..] {
            sick.live = false;
        }
        let chosen = choose(ledger(1), Quorum::THREE_TWO, &well, |_| false).unwrap();
        assert!(chosen.iter().all(|id| id.get() <= 3), "{chosen:?}");
    }

    #[test]
    fn with_at_least_qa_healthy_the_rest_is_filled_with_registered_ones() {
        let two_up = [candidate(1, true), candidate(2, false), candidate(3, true)];
        let chosen = choose(ledger(1), Quorum::THREE_TWO, &two_up, |_| false).unwrap();
        assert_eq!(chosen.last(), Some(&BookieId::new(2)));
        assert_eq!(chosen.len(), 3);
    }

    #[test]
    fn with_fewer_than_qa_healthy_nothing_is_chosen() {
        let one_up = [candidate(1, true), candidate(2, false), candidate(3, false)];
        assert_eq!(
            choose(ledger(1), Quorum::THREE_TWO, &one_up, |_| false),
            None
        );
        assert_eq!(
            choose(ledger(1), Quorum::THREE_TWO, &all(2), |_| false),
            None
        );
    }
}
