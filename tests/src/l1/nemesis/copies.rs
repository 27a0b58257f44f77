//! Harm that repair makes good: bookies that are lost for good, or drained, and whose turn it is to lose something.

use types::cluster::BookieDuty;
use types::command::{Answer, Command, Query};

use super::Act;
use crate::l1::agenda::{MS, SECOND};
use crate::l1::marks::Mark;
use crate::l1::world::World;

impl World {
    /// The bookie that may lose something now: one at a time, the next one only once all that the last one lost was made
    /// good.
    pub(super) fn a_victim(&mut self) -> Option<usize> {
        let is_next = match self.victim {
            Some(at) => self.swarm.repairs && self.is_made_good(at) && self.rng.one_in(2),
            None => true,
        };
        if is_next {
            let there = self.bookies_there();
            self.victim = Some(there[self.rng.index(there.len())]);
        }
        self.victim
            .filter(|at| !self.bookies[*at].is_gone && self.is_first_to_lose(*at))
    }

    /// Whether no ledger counts on another bookie that was lost for good, or may yet. One that all copies had left may be chosen for
    /// a new ledger, for as long as its session lasts or no other bookie answers: who loses something then is one too many.
    fn is_first_to_lose(&self, at: usize) -> bool {
        let mut others = (0..self.bookies.len()).filter(|other| *other != at);
        let is_over = |other| self.is_made_good(other) && !self.is_live(other);
        others.all(|other| !self.bookies[other].is_gone || is_over(other))
    }

    /// Whether meta takes it for one that lives.
    fn is_live(&self, at: usize) -> bool {
        let Ok(Answer::Bookies(known)) = self.meta.store.query(&Query::Bookies) else {
            return true;
        };
        let id = self.bookies[at].id;
        known.iter().any(|it| Some(it.id) == id && it.live)
    }

    /// Something is lost there.
    pub(super) fn is_harmed(&mut self, at: usize) {
        self.observer.damage(at);
        if self.observer.is_other_damaged(at) && !self.swarm.is_beyond {
            self.marks.hit(Mark::LostInTurn);
        }
    }

    fn bookies_there(&self) -> Vec<usize> {
        let all = 0..self.bookies.len();
        all.filter(|at| !self.bookies[*at].is_gone).collect()
    }

    /// A bookie never comes back, while enough others are there for every copy.
    pub(super) fn harm_gone(&mut self) {
        if self.swarm.is_beyond || self.bookies_there().len() <= self.swarm.quorum.write() {
            return;
        }
        let Some(at) = self.a_victim() else {
            return;
        };
        self.is_harmed(at);
        self.marks.hit(Mark::BookieGone);
        self.trace(|| format!("bookie-{at} is lost for good"));
        self.bookie_dies(at);
        self.bookies[at].is_gone = true;
    }

    /// The bookie that does not come back when all harm ends. Who may be lost is who may stay away; not one more, though,
    /// when others were lost for good before and too few would be left for a ledger: then nobody promises that writing goes
    /// on.
    pub(super) fn stays_away(&self) -> Option<usize> {
        let drawn = self.swarm.gone.0?;
        let there = self.bookies_there().len();
        let is_spare = there == self.bookies.len() || there > self.swarm.quorum.write();
        let at = self.victim.unwrap_or(drawn);
        let may_go = is_spare && self.is_first_to_lose(at);
        (may_go || self.swarm.is_beyond || self.bookies[at].is_gone).then_some(at)
    }

    /// An operator drains a bookie, while enough others are there, and takes it back.
    pub(super) fn harm_drain(&mut self) {
        let Ok(Answer::Bookies(known)) = self.meta.store.query(&Query::Bookies) else {
            return;
        };
        let mut there = self.bookies_there();
        there.retain(|at| {
            let id = self.bookies[*at].id;
            let is_active = |duty| duty == BookieDuty::Active;
            known
                .iter()
                .any(|it| Some(it.id) == id && is_active(it.duty))
        });
        if there.len() <= self.swarm.quorum.write() {
            return;
        }
        let at = there[self.rng.index(there.len())];
        self.marks.hit(Mark::Drained);
        self.drains(at, true);
        let wait = 100 * MS + self.rng.below(8 * SECOND);
        self.later(wait, Act::Undrain(at));
    }

    /// Says whether a bookie's copies are to move to others.
    pub(super) fn drains(&mut self, at: usize, draining: bool) {
        if !self.swarm.repairs {
            return;
        }
        if let Some(id) = self.bookies[at].id {
            // One that has never been heard of cannot be drained.
            let _ = self.meta_execute(&Command::DrainBookie { id, draining });
        }
    }
}
