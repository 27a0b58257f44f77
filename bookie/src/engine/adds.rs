//! Adds: check, make visible, journal, answer when durable.

use types::storage::{Add, AddKind, AddResult, SealedReason};

use ledger::{AddDecision, Held};

use crate::job::Lane;
use crate::journal::format::Record;
use crate::store::format::{Key, Stored};
use crate::store::memtable::Memtable;

use super::reads::Purpose;
use super::tables::{Look, fingerprint};
use super::{Alarm, Answer, Effect, Engine, Standing, Token, reply};

/// An add that is visible and not durable.
#[derive(Debug)]
pub(super) struct PendingAdd {
    /// Who waits for the first copy to be durable.
    waiters: Vec<Token>,
    cost: u64,
}

impl Engine {
    pub(super) fn add(&mut self, token: Token, add: Add, effects: &mut Vec<Effect>) {
        assert!(
            add.entry.payload.len() <= self.config.entry_max,
            "the caller refuses payloads above the limit"
        );
        if let Some(refusal) = self.no_room(&add) {
            effects.push(reply(token, Answer::Add(refusal)));
            return;
        }
        if add.kind == AddKind::Repair {
            self.repaired(add.ledger);
        }
        let key = key_of(&add);
        match self.tables.look(key) {
            // A place that files may hold is looked at first: the entry may be there, and be another.
            Look::Files(_) if self.is_lane_full(Lane::Recovery) => {
                effects.push(reply(token, Answer::Add(AddResult::Busy)));
            }
            Look::Files(files) => {
                self.waiting_bytes += Memtable::cost(&add.entry);
                let task = self.task(Purpose::Add { token, add }, Lane::Recovery, 0);
                self.look_in_files(task, key, files, effects);
            }
            Look::Memory(_) | Look::Absent => self.decide(token, add, Held::Absent, effects),
        }
    }

    /// Refusals that say nothing about the ledger. They come before the rules, which take effect when asked.
    fn no_room(&self, add: &Add) -> Option<AddResult> {
        if self.is_stopping {
            return Some(AddResult::Busy);
        }
        // Recovery and repair may use what is kept in reserve (I27).
        if add.kind == AddKind::Write && self.standing() == Standing::ReadOnly {
            return Some(AddResult::ReadOnly);
        }
        let cost = Memtable::cost(&add.entry);
        let is_journal_behind =
            self.waiting_bytes > 0 && self.waiting_bytes + cost > self.config.write_budget.get();
        let is_flush_behind = self.tables.flushing.is_some()
            && self.tables.active.bytes() >= self.config.memtable.get();
        (is_journal_behind || is_flush_behind).then_some(AddResult::Busy)
    }

    /// Takes the end of a look-up for an add: what files hold at its place.
    pub(super) fn add_looked_up(
        &mut self,
        token: Token,
        add: Add,
        in_files: Held,
        effects: &mut Vec<Effect>,
    ) {
        self.waiting_bytes -= Memtable::cost(&add.entry);
        self.decide(token, add, in_files, effects);
    }

    /// Asks the rules, memory going before what files hold, and does what they say.
    fn decide(&mut self, token: Token, add: Add, in_files: Held, effects: &mut Vec<Effect>) {
        let key = key_of(&add);
        // Given up while its place was looked at: what was found may be on its way out.
        let is_back = add.kind == AddKind::Repair && self.repaired(add.ledger);
        if self.is_given_up(add.ledger) {
            // Closed, and others hold it: nothing but a repair can be owed here.
            let refusal = AddResult::Sealed(SealedReason::Dropped);
            effects.push(reply(token, Answer::Add(refusal)));
            return;
        }
        let in_files = if is_back { Held::Absent } else { in_files };
        let held = match self.tables.in_memory(key).map(fingerprint) {
            None => in_files,
            Some(copy) if self.pending.contains_key(&key) => Held::Visible(copy),
            Some(copy) => Held::Durable(copy),
        };
        match self.acceptor.add(&add, held) {
            AddDecision::Answer(result) => {
                if result == AddResult::Mismatch {
                    effects.push(Effect::Alarm(Alarm::Mismatch {
                        ledger: key.ledger,
                        entry: key.entry,
                    }));
                }
                effects.push(reply(token, Answer::Add(result)));
            }
            AddDecision::Append => self.append(token, add),
            AddDecision::Wait => {
                let pending = self.pending.get_mut(&key);
                pending
                    .expect("a visible copy that is not durable is pending")
                    .waiters
                    .push(token);
            }
        }
    }

    /// Visible first, then journaled: a fencing read that comes after sees it (I10).
    fn append(&mut self, token: Token, add: Add) {
        let key = key_of(&add);
        let cost = Memtable::cost(&add.entry);
        self.tables.insert(Stored {
            ledger: add.ledger,
            created: add.created,
            entry: add.entry.clone(),
        });
        self.waiting_bytes += cost;
        let pending = PendingAdd {
            waiters: vec![token],
            cost,
        };
        let earlier = self.pending.insert(key, pending);
        assert!(earlier.is_none(), "a pending entry is visible");
        self.journal.push(Record::Add {
            ledger: add.ledger,
            created: add.created,
            epoch: add.epoch,
            lac: add.lac,
            kind: add.kind,
            entry: add.entry,
        });
    }

    pub(super) fn add_durable(&mut self, key: Key, effects: &mut Vec<Effect>) {
        let pending = self.pending.remove(&key);
        let pending = pending.expect("what the journal synced was pending");
        self.waiting_bytes -= pending.cost;
        let stored = || Answer::Add(AddResult::Stored);
        effects.extend(
            pending
                .waiters
                .into_iter()
                .map(|token| reply(token, stored())),
        );
    }
}

const fn key_of(add: &Add) -> Key {
    Key {
        ledger: add.ledger,
        entry: add.entry.id,
    }
}
