//! Finds the end of one tail: fences, reads forward, writes back (R7).
//!
//! 1. Fencing reads of the LAC go to the whole ensemble. When Qw − Qa + 1 bookies have answered, every ack quorum has a
//!    member among them, so the highest LAC they told is frozen.
//! 2. From the next entry on, fencing reads go to the whole ensemble again, to those that have not answered too. One
//!    copy makes an entry recoverable; Qw − Qa + 1 answers "never had it" end the ledger before it; anything else decides
//!    nothing, and is asked again.
//! 3. Every recovered entry is written back until Qa bookies have answered *this* write. An entry is written back
//!    only when all before it are recoverable, so that as little as possible comes to lie above the end.
//! 4. When nothing was recovered, the LAC's own entry tells the first offset after the end.

use std::collections::VecDeque;

use types::chain::{LedgerRecord, LinkEnd};
use types::storage::{Add, AddKind, AddResult, Entry, LacResult, Read, ReadLac, ReadResult};
use types::{BookieId, EntryId, Epoch, LedgerId, MonoTime, Offset, Quorum, Revision};

use crate::ensemble::Members;
use crate::message::{Answer, Request};
use crate::owner::{Effect, Stuck};
use crate::retry::Retry;
use crate::writer::Turn;

#[cfg(test)]
mod tests;

/// What is known of one entry above the frozen LAC.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Slot {
    /// Nobody has shown it yet.
    Asked {
        /// Who never had it.
        negative: Members,
    },
    /// Somebody has it; an entry before it is not decided yet.
    Found(Entry),
    /// It is being written back.
    Writing {
        /// The entry.
        entry: Entry,
        /// Who answered this write as durable. The copies that reads found do not count.
        stored: Members,
    },
}

/// How far the recovery is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    /// Asking for the LAC.
    Lac {
        /// Who has answered.
        heard: Members,
    },
    /// Reading forward and writing back.
    Forward,
    /// Reading the LAC's own entry for the offset after it.
    Offset {
        /// Whose turn it is.
        place: usize,
        /// How many were asked since the last pause.
        asked: usize,
    },
    /// The end is known.
    Done,
}

/// The recovery of one tail.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Recovery {
    ledger: LedgerId,
    created: Revision,
    quorum: Quorum,
    ensemble: Vec<BookieId>,
    epoch: Epoch,
    phase: Phase,
    /// The highest LAC told; frozen when `phase` leaves [`Phase::Lac`].
    lac: Option<EntryId>,
    /// The first offset after `done_to`: certain once something was recovered or the ledger is empty.
    next_offset: Option<Offset>,
    /// The last entry that is recovered: the LAC at first, then each one that is written back.
    done_to: Option<EntryId>,
    /// The entries after `done_to` that were asked for, in order.
    slots: VecDeque<Slot>,
    /// Whether the entry after the last slot is known never to have been acked.
    is_end_known: bool,
    /// How many entries may be asked for at once: grows as entries are found.
    window: usize,
    retry: Retry,
}

impl Recovery {
    /// The recovery of a tail by the owner of `epoch`, whose claim is committed. Sends the first requests.
    pub(crate) fn start(
        turn: &mut Turn<'_>,
        record: &LedgerRecord,
        epoch: Epoch,
        first_offset: Offset,
    ) -> Self {
        let mut recovery = Self {
            ledger: record.id,
            created: record.created,
            quorum: record.quorum,
            ensemble: record.ensemble.clone(),
            epoch,
            phase: Phase::Lac {
                heard: Members::NONE,
            },
            lac: None,
            next_offset: Some(first_offset),
            done_to: None,
            slots: VecDeque::new(),
            is_end_known: false,
            window: 1,
            retry: Retry::idle(turn.config.retry_after),
        };
        recovery.retry.arm(turn.now);
        for place in 0..recovery.ensemble.len() {
            recovery.ask(turn, place);
        }
        recovery
    }

    /// The ledger.
    pub(crate) const fn ledger(&self) -> LedgerId {
        self.ledger
    }

    /// The end, once it is known and every entry up to it is on Qa bookies.
    pub(crate) fn end(&self) -> Option<LinkEnd> {
        if self.phase != Phase::Done {
            return None;
        }
        Some(LinkEnd {
            last: self.done_to,
            next_offset: self.next_offset.expect("known when the recovery is done"),
        })
    }

    /// When [`Self::tick`] has something to do.
    pub(crate) const fn deadline(&self) -> Option<MonoTime> {
        self.retry.at()
    }

    /// Asks again whoever has not answered, and says who that is.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        if self.phase == Phase::Done || !self.retry.is_due(turn.now) {
            return;
        }
        self.retry.back_off(turn.now, turn.config);
        turn.effects.push(Effect::Stuck(Stuck::Recovery {
            ledger: self.ledger,
            waiting_for: self.waiting_for(),
        }));
        if let Phase::Offset { place, asked } = &mut self.phase {
            *place = (*place + 1) % self.ensemble.len();
            *asked = 0;
            return self.ask_offset(turn);
        }
        for place in 0..self.ensemble.len() {
            self.ask(turn, place);
        }
    }

    /// A connection stands again: what was asked on the old one is asked again.
    pub(crate) fn connected(&mut self, turn: &mut Turn<'_>, bookie: BookieId) {
        let Some(place) = self.place(bookie) else {
            return;
        };
        match self.phase {
            Phase::Offset { place: asked, .. } if asked == place => self.ask_offset(turn),
            Phase::Offset { .. } | Phase::Done => {}
            Phase::Lac { .. } | Phase::Forward => self.ask(turn, place),
        }
    }

    /// Takes a bookie's answer. `Fenced` is the owner's business and never comes here.
    pub(crate) fn answered(&mut self, turn: &mut Turn<'_>, bookie: BookieId, answer: Answer) {
        let Some(place) = self.place(bookie) else {
            return; // Not of this ensemble: its word counts for nothing (I12).
        };
        match answer {
            Answer::Lac {
                result: LacResult::Lac(lac),
                ..
            } => self.lac_told(turn, place, lac),
            Answer::Lac { .. } => {} // Busy: asked again at the deadline.
            Answer::Read { entry, result, .. } => self.read(turn, place, entry, result),
            Answer::Added { entry, result, .. } => self.added(turn, place, entry, result),
        }
    }

    fn place(&self, bookie: BookieId) -> Option<usize> {
        self.ensemble.iter().position(|member| *member == bookie)
    }

    /// Who has not said what is needed to go on.
    fn waiting_for(&self) -> Vec<BookieId> {
        let answered = match (&self.phase, self.slots.front()) {
            (Phase::Lac { heard }, _) => *heard,
            (Phase::Forward, Some(Slot::Asked { negative })) => *negative,
            (Phase::Forward, Some(Slot::Writing { stored, .. })) => *stored,
            (Phase::Forward | Phase::Offset { .. } | Phase::Done, _) => Members::NONE,
        };
        let missing = (0..self.ensemble.len()).filter(|place| !answered.has(*place));
        missing.map(|place| self.ensemble[place]).collect()
    }

    /// Sends a member everything it has not answered, in the present phase.
    fn ask(&self, turn: &mut Turn<'_>, place: usize) {
        match self.phase {
            Phase::Lac { heard } if !heard.has(place) => {
                let request = Request::ReadLac(ReadLac {
                    ledger: self.ledger,
                    created: self.created,
                    fence: Some(self.epoch),
                });
                turn.send(self.ensemble[place], request);
            }
            Phase::Forward => {
                for index in 0..self.slots.len() {
                    self.ask_slot(turn, place, index);
                }
            }
            Phase::Lac { .. } | Phase::Offset { .. } | Phase::Done => {}
        }
    }

    /// Sends a member what one slot needs of it.
    fn ask_slot(&self, turn: &mut Turn<'_>, place: usize, index: usize) {
        match &self.slots[index] {
            Slot::Asked { negative } if !negative.has(place) => {
                self.ask_entry(turn, place, self.entry_at(index));
            }
            Slot::Writing { entry, stored } if !stored.has(place) => {
                let add = Add {
                    ledger: self.ledger,
                    created: self.created,
                    epoch: self.epoch,
                    lac: self.lac,
                    kind: AddKind::Recovery,
                    entry: entry.clone(),
                };
                turn.send(self.ensemble[place], Request::Add(add));
            }
            Slot::Asked { .. } | Slot::Found(_) | Slot::Writing { .. } => {}
        }
    }

    /// Every read fences, also on a bookie that has not answered anything yet.
    fn ask_entry(&self, turn: &mut Turn<'_>, place: usize, entry: EntryId) {
        let request = Request::Read(Read {
            ledger: self.ledger,
            created: self.created,
            entry,
            fence: Some(self.epoch),
        });
        turn.send(self.ensemble[place], request);
    }

    /// Asks the next member for the LAC's own entry.
    fn ask_offset(&self, turn: &mut Turn<'_>) {
        if let (Phase::Offset { place, .. }, Some(lac)) = (&self.phase, self.lac) {
            self.ask_entry(turn, *place, lac);
        }
    }

    /// The entry of a slot.
    fn entry_at(&self, index: usize) -> EntryId {
        let first = self.done_to.map_or(0, |last| last.next().get());
        EntryId::new(first + u64::try_from(index).expect("lengths fit 64 bits"))
    }

    /// The slot of an entry.
    fn index_of(&self, entry: EntryId) -> Option<usize> {
        let ahead = entry.get().checked_sub(self.entry_at(0).get())?;
        let index = usize::try_from(ahead).ok()?;
        (index < self.slots.len()).then_some(index)
    }

    fn lac_told(&mut self, turn: &mut Turn<'_>, place: usize, lac: Option<EntryId>) {
        let Phase::Lac { heard } = &mut self.phase else {
            return; // Late: the LAC is frozen.
        };
        heard.insert(place);
        self.lac = self.lac.max(lac);
        if heard.len() < self.quorum.recovery() {
            return;
        }
        self.phase = Phase::Forward;
        self.done_to = self.lac;
        if self.lac.is_some() {
            self.next_offset = None;
        }
        self.retry.restart(turn.now);
        self.advance(turn);
    }

    fn read(&mut self, turn: &mut Turn<'_>, place: usize, entry: EntryId, result: ReadResult) {
        let found = match result {
            ReadResult::Found { entry: found, .. }
                if found.id == entry && found.is_intact(self.ledger) =>
            {
                Some(found)
            }
            // What does not verify is no word at all: neither a copy nor its absence.
            ReadResult::Found { .. } | ReadResult::Unknown | ReadResult::Busy => None,
            ReadResult::NeverHad => return self.never_had(turn, place, entry),
            ReadResult::Fenced { .. } => unreachable!("the owner ends at a fence"),
        };
        if self.phase != Phase::Forward {
            return self.offset_read(turn, place, entry, found);
        }
        let Some(index) = self.index_of(entry) else {
            return; // Late: the entry is written back, or above the end.
        };
        let (Slot::Asked { .. }, Some(found)) = (&self.slots[index], found) else {
            return; // Another bookie has shown it, or this one cannot say and is asked again later.
        };
        self.slots[index] = Slot::Found(found);
        self.window = (self.window * 2).min(turn.config.recovery_window);
        self.retry.restart(turn.now);
        self.advance(turn);
    }

    /// A bookie never had an entry, and knows.
    fn never_had(&mut self, turn: &mut Turn<'_>, place: usize, entry: EntryId) {
        if self.phase != Phase::Forward {
            return self.offset_read(turn, place, entry, None);
        }
        let Some(index) = self.index_of(entry) else {
            return; // Late.
        };
        let Slot::Asked { negative } = &mut self.slots[index] else {
            return; // Another bookie has it: it is recovered whatever this one says.
        };
        negative.insert(place);
        if negative.len() >= self.quorum.recovery() {
            // No ack quorum can be hidden: the ledger ends before this entry (I12).
            self.slots.truncate(index);
            self.is_end_known = true;
            self.advance(turn);
        }
    }

    /// An answer about the LAC's own entry.
    fn offset_read(
        &mut self,
        turn: &mut Turn<'_>,
        place: usize,
        entry: EntryId,
        found: Option<Entry>,
    ) {
        let Phase::Offset {
            place: turn_of,
            asked,
        } = &mut self.phase
        else {
            return;
        };
        if Some(entry) != self.lac {
            return; // Late, about an entry above the end.
        }
        if let Some(found) = found {
            self.next_offset = Some(found.next_offset);
            self.finish();
        } else if place == *turn_of && *asked + 1 < self.ensemble.len() {
            *turn_of = (*turn_of + 1) % self.ensemble.len();
            *asked += 1;
            self.ask_offset(turn);
        }
    }

    fn added(&mut self, turn: &mut Turn<'_>, place: usize, entry: EntryId, result: AddResult) {
        let Some(index) = self.index_of(entry) else {
            return; // Late: enough others have stored it.
        };
        let Slot::Writing { stored, .. } = &mut self.slots[index] else {
            return;
        };
        match result {
            AddResult::Stored => {
                stored.insert(place);
                self.retry.restart(turn.now);
                self.advance(turn);
            }
            AddResult::Mismatch => turn.effects.push(Effect::Mismatch {
                bookie: self.ensemble[place],
                ledger: self.ledger,
                entry,
            }),
            // Tried again at the deadline: a full disk gets space, a budget gets free.
            AddResult::Busy | AddResult::ReadOnly | AddResult::Sealed(_) => {}
            AddResult::Fenced { .. } => unreachable!("the owner ends at a fence"),
        }
    }

    /// Goes as far as the answers allow.
    fn advance(&mut self, turn: &mut Turn<'_>) {
        self.write_back(turn);
        while let Some(Slot::Writing { entry, stored }) = self.slots.front() {
            if stored.len() < self.quorum.ack() {
                break;
            }
            self.done_to = Some(entry.id);
            self.next_offset = Some(entry.next_offset);
            self.slots.pop_front();
        }
        while !self.is_end_known && self.slots.len() < self.window {
            self.slots.push_back(Slot::Asked {
                negative: Members::NONE,
            });
            let index = self.slots.len() - 1;
            for place in 0..self.ensemble.len() {
                self.ask_slot(turn, place, index);
            }
        }
        if self.is_end_known && self.slots.is_empty() {
            if self.next_offset.is_some() {
                self.finish();
            } else {
                self.phase = Phase::Offset { place: 0, asked: 0 };
                self.retry.restart(turn.now);
                self.ask_offset(turn);
            }
        }
    }

    /// Begins to write back the found entries that only recoverable ones precede.
    fn write_back(&mut self, turn: &mut Turn<'_>) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            match slot {
                Slot::Asked { .. } => break,
                Slot::Writing { .. } => continue,
                Slot::Found(entry) => {
                    *slot = Slot::Writing {
                        entry: entry.clone(),
                        stored: Members::NONE,
                    };
                }
            }
            for place in 0..self.ensemble.len() {
                self.ask_slot(turn, place, index);
            }
        }
    }

    fn finish(&mut self) {
        self.phase = Phase::Done;
        self.retry.stop();
    }
}
