//! Writes one open ledger: numbers the entries, sends each to the whole ensemble, confirms in order (R1, R2).
//!
//! The writer keeps the payload of an entry until it is confirmed, not longer. Of a confirmed entry it only remembers
//! who still owes an answer, so that a slow bookie is noticed by the bytes it owes.
//!
//! A frozen writer has an end chosen (R5): it takes note of answers, and neither confirms nor sends anything.

use std::collections::VecDeque;

use types::chain::{LedgerRecord, LinkEnd, LogKind};
use types::storage::{Add, AddKind, AddResult, Entry, SealedReason};
use types::{BookieId, EntryId, Epoch, LedgerId, MonoTime, Offset, Payload, Quorum, Revision};

use crate::config::Config;
use crate::ensemble::Members;
use crate::message::{Request, Token};
use crate::owner::Effect;

mod member;
#[cfg(test)]
mod tests;
mod upkeep;

use member::{Member, Standing};

/// What every call needs: the time, the limits, the log's name, and where effects go.
pub(crate) struct Turn<'a> {
    pub(crate) now: MonoTime,
    pub(crate) config: &'a Config,
    pub(crate) log: LogKind,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    pub(crate) fn send(&mut self, bookie: BookieId, request: Request) {
        self.effects.push(Effect::Send { bookie, request });
    }
}

/// An append that waits for its place in a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Queued {
    pub(crate) token: Token,
    pub(crate) payload: Payload,
    pub(crate) next_offset: Offset,
}

/// What the owner should do about a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Need {
    /// Nothing.
    Nothing,
    /// A copy is missing or late: seal in the background, when there is a full ensemble to go to.
    Seal,
    /// Fewer than Qa bookies take this ledger: nothing is confirmed until it is sealed or they come back.
    SealNow,
}

/// One numbered entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Slot {
    token: Token,
    next_offset: Offset,
    /// What it weighs against a bookie that owes an answer for it.
    weight: u64,
    /// Gone once it is confirmed.
    payload: Option<Entry>,
    stored_by: Members,
    owed_by: Members,
    /// Of these, who had no room for it when it was sent last.
    refused_by: Members,
}

/// An entry weighs this much more than its payload: a flood of tiny ones is bounded as well.
const ENTRY_OVERHEAD: u64 = 128;

/// The writer of one open ledger.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    ledger: LedgerId,
    created: Revision,
    quorum: Quorum,
    epoch: Epoch,
    members: Vec<Member>,
    /// The entry of the first slot.
    first: EntryId,
    /// Consecutive entries: confirmed ones that somebody owes an answer for, then all that are not confirmed.
    slots: VecDeque<Slot>,
    /// The LAC, and the first offset after it.
    end: LinkEnd,
    /// The LAC that the ensemble was told last.
    told: Option<EntryId>,
    idle_lac_at: Option<MonoTime>,
    payload_bytes: u64,
    pending_bytes: u64,
    is_frozen: bool,
}

impl Writer {
    /// The writer of a ledger that was just made, its transaction having committed (R1).
    pub(crate) fn new(
        record: &LedgerRecord,
        epoch: Epoch,
        first_offset: Offset,
        is_lost: impl Fn(BookieId) -> bool,
        (now, config): (MonoTime, &Config),
    ) -> Self {
        let members = record.ensemble.iter();
        Self {
            ledger: record.id,
            created: record.created,
            quorum: record.quorum,
            epoch,
            members: members
                .map(|bookie| Member::new(*bookie, !is_lost(*bookie), now, config))
                .collect(),
            first: EntryId::new(0),
            slots: VecDeque::new(),
            end: LinkEnd {
                last: None,
                next_offset: first_offset,
            },
            told: None,
            idle_lac_at: None,
            payload_bytes: 0,
            pending_bytes: 0,
            is_frozen: false,
        }
    }

    /// The ledger.
    pub(crate) const fn ledger(&self) -> LedgerId {
        self.ledger
    }

    /// Its LAC.
    pub(crate) const fn lac(&self) -> Option<EntryId> {
        self.end.last
    }

    /// Bytes of payload that are not confirmed.
    pub(crate) const fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// Whether an end is chosen and not settled.
    pub(crate) const fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    /// Whether every entry is confirmed.
    pub(crate) fn is_drained(&self) -> bool {
        self.next() == self.first_pending()
    }

    /// Whether nothing was ever appended.
    pub(crate) fn is_empty(&self) -> bool {
        self.next() == EntryId::new(0)
    }

    /// Whether the ledger is so large that it should be rolled.
    pub(crate) fn is_full(&self, config: &Config) -> bool {
        self.payload_bytes >= config.ledger_bytes_max.get()
            || self.next().get() >= config.ledger_entries_max
    }

    /// The number of the next entry.
    fn next(&self) -> EntryId {
        let count = u64::try_from(self.slots.len()).expect("lengths fit 64 bits");
        EntryId::new(self.first.get() + count)
    }

    /// The first entry that is not confirmed.
    fn first_pending(&self) -> EntryId {
        self.end.last.map_or(EntryId::new(0), EntryId::next)
    }

    /// The slot of an entry, `None` when nobody waits for anything about it any more.
    fn slot_index(&self, entry: EntryId) -> Option<usize> {
        let index = usize::try_from(entry.get().checked_sub(self.first.get())?).ok()?;
        (index < self.slots.len()).then_some(index)
    }

    /// The index of the first slot that is not confirmed.
    fn pending_start(&self) -> usize {
        self.slot_index(self.first_pending())
            .unwrap_or(self.slots.len())
    }

    /// The place of a bookie in the ensemble.
    fn place(&self, bookie: BookieId) -> Option<usize> {
        self.members.iter().position(|m| m.bookie == bookie)
    }

    /// Numbers an entry and sends it to every bookie that takes entries.
    pub(crate) fn append(&mut self, turn: &mut Turn<'_>, queued: Queued) {
        assert!(!self.is_frozen, "nothing is appended above a chosen end");
        let id = self.next();
        let bytes = u64::try_from(queued.payload.len()).expect("lengths fit 64 bits");
        let entry = Entry::new(self.ledger, id, queued.next_offset, queued.payload);
        self.payload_bytes += bytes;
        self.pending_bytes += bytes;
        self.slots.push_back(Slot {
            token: queued.token,
            next_offset: queued.next_offset,
            weight: bytes + ENTRY_OVERHEAD,
            payload: Some(entry),
            stored_by: Members::NONE,
            owed_by: Members::NONE,
            refused_by: Members::NONE,
        });
        let index = self.slots.len() - 1;
        for place in 0..self.members.len() {
            if self.members[place].is_sent_to() {
                self.send(turn, index, place);
            }
        }
        self.told = self.end.last;
        self.idle_lac_at = None;
        self.leave_stragglers();
    }

    /// Sends the entry at `index` to the member at `place`, who owes an answer from then on.
    fn send(&mut self, turn: &mut Turn<'_>, index: usize, place: usize) {
        let slot = &mut self.slots[index];
        let Some(entry) = &slot.payload else {
            return; // Confirmed: its payload is gone, and repair completes the copies.
        };
        let add = Add {
            ledger: self.ledger,
            created: self.created,
            epoch: self.epoch,
            lac: self.end.last,
            kind: AddKind::Write,
            entry: entry.clone(),
        };
        slot.refused_by.remove(place);
        let member = &mut self.members[place];
        if !slot.owed_by.has(place) {
            slot.owed_by.insert(place);
            member.owe(turn.now, slot.weight, turn.config);
        }
        turn.send(member.bookie, Request::Add(add));
    }

    /// Takes a bookie's answer to an add. `Fenced` is the owner's business and never comes here.
    ///
    /// Returns whether the bookie should be avoided for new ledgers.
    pub(crate) fn added(
        &mut self,
        turn: &mut Turn<'_>,
        bookie: BookieId,
        entry: EntryId,
        result: AddResult,
    ) -> bool {
        let Some(place) = self.place(bookie) else {
            return false; // Not of this ensemble: nobody asked it.
        };
        match result {
            AddResult::Stored => self.stored(turn, place, entry),
            AddResult::Busy => {
                self.members[place].refuse(turn.now);
                self.refused(place, entry);
            }
            AddResult::ReadOnly => {
                self.leave_behind(place);
                self.members[place].retry.back_off(turn.now, turn.config);
                return true;
            }
            AddResult::Sealed(reason) => {
                self.seal(place);
                if reason == SealedReason::OlderThanBirth {
                    self.forget_copies(place);
                }
            }
            AddResult::Mismatch => {
                self.seal(place);
                turn.effects.push(Effect::Mismatch {
                    bookie,
                    ledger: self.ledger,
                    entry,
                });
                return true;
            }
            AddResult::Fenced { .. } => unreachable!("the owner ends at a fence"),
        }
        false
    }

    /// Notes a durable copy, and confirms what has become safe.
    fn stored(&mut self, turn: &mut Turn<'_>, place: usize, entry: EntryId) {
        let Some(index) = self.slot_index(entry) else {
            return; // Late: it was confirmed by others and the bookie left behind, or this is a repeat.
        };
        let slot = &mut self.slots[index];
        slot.stored_by.insert(place);
        if slot.owed_by.has(place) {
            slot.owed_by.remove(place);
            self.members[place].pay(turn.now, slot.weight, turn.config);
        }
        self.confirm_prefix(turn);
        self.forget_settled();
    }

    /// The bookie had no room for an entry. It owes it as long as it will be sent it again, which ends with its
    /// confirmation.
    fn refused(&mut self, place: usize, entry: EntryId) {
        let Some(index) = self.slot_index(entry) else {
            return;
        };
        let slot = &mut self.slots[index];
        if slot.payload.is_some() {
            slot.refused_by.insert(place);
        } else if slot.owed_by.has(place) {
            slot.owed_by.remove(place);
            self.members[place].forgive(slot.weight);
        }
        self.forget_settled();
    }

    /// Confirms in order: no entry before its predecessors, even if its own quorum came first (R2); and nothing
    /// above an end that is chosen (R5).
    fn confirm_prefix(&mut self, turn: &mut Turn<'_>) {
        if self.is_frozen {
            return;
        }
        let start = self.pending_start();
        for index in start..self.slots.len() {
            let slot = &mut self.slots[index];
            if slot.stored_by.len() < self.quorum.ack() {
                break;
            }
            let entry = slot.payload.take().expect("a pending entry has a payload");
            self.pending_bytes -= slot.weight - ENTRY_OVERHEAD;
            self.end = LinkEnd {
                last: Some(entry.id),
                next_offset: slot.next_offset,
            };
            for (place, member) in self.members.iter_mut().enumerate() {
                // What was lost with the connection, or found no room, is not sent again: it will never be answered.
                let is_unanswered = slot.refused_by.has(place) || !member.is_connected();
                if slot.owed_by.has(place) && is_unanswered {
                    slot.owed_by.remove(place);
                    member.forgive(slot.weight);
                }
            }
            turn.effects.push(Effect::Confirmed {
                log: turn.log,
                token: slot.token,
                ledger: self.ledger,
                entry: entry.id,
                next_offset: slot.next_offset,
            });
        }
        if self.end.last > self.told && self.idle_lac_at.is_none() {
            self.idle_lac_at = Some(turn.now.after(turn.config.idle_lac_after));
        }
    }

    /// Drops the first slots while they are confirmed and nobody owes an answer.
    fn forget_settled(&mut self) {
        while let Some(slot) = self.slots.front() {
            if slot.payload.is_some() || !slot.owed_by.is_empty() {
                break;
            }
            self.slots.pop_front();
            self.first = self.first.next();
        }
    }

    /// The bookie takes no more of this ledger, for good.
    fn seal(&mut self, place: usize) {
        self.leave_behind(place);
        self.members[place].standing = Standing::Sealed;
    }

    /// The bookie was born again: the copies it told of in its earlier life do not count for what comes.
    fn forget_copies(&mut self, place: usize) {
        let start = self.pending_start();
        for slot in self.slots.iter_mut().skip(start) {
            slot.stored_by.remove(place);
        }
    }

    /// Stops sending to a bookie and waiting for it; it may come back.
    fn leave_behind(&mut self, place: usize) {
        for slot in &mut self.slots {
            slot.owed_by.remove(place);
        }
        self.members[place].fall_behind();
        self.forget_settled();
    }

    /// Chooses the end: from now on nothing above it is confirmed and the LAC does not move (R5).
    pub(crate) fn freeze(&mut self) -> LinkEnd {
        self.is_frozen = true;
        self.idle_lac_at = None;
        self.end
    }

    /// The close is known never to land: goes on where it stopped.
    pub(crate) fn thaw(&mut self, turn: &mut Turn<'_>) {
        self.is_frozen = false;
        self.confirm_prefix(turn);
        self.forget_settled();
        for place in 0..self.members.len() {
            self.resend(turn, place);
        }
    }

    /// The end this writer is at.
    pub(crate) const fn end(&self) -> LinkEnd {
        self.end
    }

    /// What was not confirmed, in order, to be written again in the successor.
    pub(crate) fn into_unconfirmed(self) -> impl DoubleEndedIterator<Item = Queued> {
        self.slots.into_iter().filter_map(|slot| {
            let entry = slot.payload?;
            Some(Queued {
                token: slot.token,
                payload: entry.payload,
                next_offset: slot.next_offset,
            })
        })
    }
}
