//! Which bookies hold a new ledger.

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
}

/// Chooses the bookies of a new ledger, or none when fewer than Qa of them would take it now.
///
/// Healthy ones (writable, live, not avoided) come first, spread by a hash of the ledger. Where at least Qa are healthy
/// and fewer than Qw, registered ones fill the rest: repair completes their copies once the ledger is closed (R6).
pub fn choose(
    ledger: LedgerId,
    quorum: Quorum,
    candidates: &[Candidate],
    is_avoided: impl Fn(BookieId) -> bool,
) -> Option<Vec<BookieId>> {
    let is_healthy = |c: &Candidate| c.writable && c.live && !is_avoided(c.bookie);
    let mut ranked: Vec<_> = candidates
        .iter()
        .map(|c| (!is_healthy(c), !c.live, weight(ledger, c.bookie), c.bookie))
        .collect();
    ranked.sort_unstable();
    ranked.dedup_by_key(|(.., bookie)| *bookie);
    let healthy = ranked.iter().filter(|(is_sick, ..)| !is_sick).count();
    if healthy < quorum.ack() || ranked.len() < quorum.write() {
        return None;
    }
    ranked.truncate(quorum.write());
    Some(ranked.into_iter().map(|(.., bookie)| bookie).collect())
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
