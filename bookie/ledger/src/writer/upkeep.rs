//! Keeps an eye on the ensemble: who lags, who is gone, what is sent again, when the ledger should be sealed (R6).

use types::storage::SetLac;
use types::{BookieId, MonoTime};

use super::member::Standing;
use super::{Need, Turn, Writer};
use crate::config::Config;
use crate::message::Request;
use crate::retry::earlier;

impl Writer {
    /// Leaves behind whoever owes too much or for too long, as long as Qa others keep up (R6).
    pub(super) fn leave_stragglers(&mut self) {
        for place in 0..self.members.len() {
            let member = &self.members[place];
            if member.standing != Standing::Taking || !member.is_gone() {
                continue;
            }
            let keeping_up = self.members.iter().filter(|member| member.keeps_up());
            if keeping_up.count() >= self.quorum.ack() {
                self.leave_behind(place);
            }
        }
    }

    /// A connection stands again: what is pending is sent again, also to one that was left behind.
    pub(crate) fn connected(&mut self, turn: &mut Turn<'_>, bookie: BookieId) {
        if let Some(place) = self.place(bookie) {
            self.members[place].connect(turn.now);
            self.resend(turn, place);
        }
    }

    /// A connection broke: answers to what was sent on it may never come.
    ///
    /// Where fewer than Qa are left, whoever lags is needed again, at once (R6).
    pub(crate) fn lost(&mut self, turn: &mut Turn<'_>, bookie: BookieId) {
        let Some(place) = self.place(bookie) else {
            return;
        };
        self.members[place].disconnect(turn.now);
        let start = self.pending_start();
        for slot in self.slots.iter_mut().take(start) {
            if slot.owed_by.has(place) {
                slot.owed_by.remove(place);
                self.members[place].forgive(slot.weight);
            }
        }
        self.forget_settled();
        if self.is_frozen || !self.is_short() {
            return;
        }
        for place in 0..self.members.len() {
            if self.members[place].lags() {
                self.members[place].revive();
                self.resend(turn, place);
            }
        }
    }

    /// Whether fewer than Qa bookies are sent entries.
    fn is_short(&self) -> bool {
        let sent_to = self.members.iter().filter(|member| member.is_sent_to());
        sent_to.count() < self.quorum.ack()
    }

    /// Sends a member everything pending that it has not stored.
    pub(super) fn resend(&mut self, turn: &mut Turn<'_>, place: usize) {
        if self.is_frozen || !self.members[place].is_sent_to() {
            return;
        }
        for index in self.pending_start()..self.slots.len() {
            if !self.slots[index].stored_by.has(place) {
                self.send(turn, index, place);
            }
        }
    }

    /// Does what is due. Returns the bookies that should be avoided for new ledgers.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) -> Vec<BookieId> {
        if self.is_frozen {
            return Vec::new();
        }
        let mut late = Vec::new();
        for member in &mut self.members {
            let was_gone = member.is_gone();
            member.notice(turn.now, turn.config);
            if member.is_gone() && !was_gone {
                late.push(member.bookie);
            }
        }
        self.leave_stragglers();
        let is_short = self.is_short();
        for place in 0..self.members.len() {
            let member = &mut self.members[place];
            let is_due = member.retry.is_due(turn.now);
            // One that was read-only is tried again; one that was left behind when there are too few without it (R6).
            if is_due || (is_short && member.standing == Standing::Behind) {
                member.revive();
                member.retried(turn.now, turn.config);
                self.resend(turn, place);
            }
        }
        if self.idle_lac_at.is_some_and(|at| at <= turn.now) {
            self.tell_lac(turn);
        }
        late
    }

    /// Sends the LAC on its own: the writer is idle and readers wait for it.
    fn tell_lac(&mut self, turn: &mut Turn<'_>) {
        self.idle_lac_at = None;
        let Some(lac) = self.end.last else {
            return;
        };
        for member in self.members.iter().filter(|member| member.is_sent_to()) {
            turn.send(
                member.bookie,
                Request::SetLac(SetLac {
                    ledger: self.ledger,
                    created: self.created,
                    epoch: self.epoch,
                    lac,
                }),
            );
        }
        self.told = Some(lac);
    }

    /// When [`Self::tick`] has something to do.
    pub(crate) fn deadline(&self, config: &Config) -> Option<MonoTime> {
        if self.is_frozen {
            return None;
        }
        let members = self.members.iter().map(|member| member.deadline(config));
        members.fold(self.idle_lac_at, earlier)
    }

    /// What the owner should do about this ledger. An idle one waits for its next add.
    pub(crate) fn need(&self) -> Need {
        let gone = self
            .members
            .iter()
            .filter(|member| member.is_gone())
            .count();
        if gone == 0 {
            Need::Nothing
        } else if self.members.len() - gone < self.quorum.ack() {
            Need::SealNow
        } else {
            Need::Seal
        }
    }
}
