//! Reads a run of entries at or below the LAC or the closed end, from whichever copy is good.
//!
//! One [`Reader`] is one run. It asks one bookie, verifies what comes, goes on with the next bookie where that one
//! stops, and asks a second one when the first is slow. One good copy of each entry is enough.

use bytes::Bytes;
use types::storage::{Entry, ReadRun, RunItem};
use types::{BookieId, EntryId, LedgerId, MonoTime, Offset, Revision};

use crate::ensemble::Members;

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunPlan {
    /// The ledger.
    pub ledger: LedgerId,
    /// The meta revision that created it.
    pub created: Revision,
    /// Its bookies, in the order to ask them.
    pub ensemble: Vec<BookieId>,
    /// The first entry.
    pub first: EntryId,
    /// The last entry: at or below the LAC, or the closed end.
    pub last: EntryId,
    /// Most bytes of payloads; the first entry comes whatever its size.
    pub max_bytes: u64,
    /// Only so many first bytes of each payload.
    pub payload_limit: Option<u32>,
    /// How long to wait for the next entry before a second bookie is asked.
    pub speculate_after: std::time::Duration,
    /// How long to wait before all are asked again, when none could give an entry.
    pub retry_after: std::time::Duration,
}

/// What happens to a reader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReaderEvent {
    /// Begin.
    Start,
    /// The next item of an attempt's answer.
    Item {
        /// Which attempt.
        attempt: u32,
        /// The item.
        item: RunItem,
    },
    /// A bookie has ended its answer in order.
    Ended {
        /// Which attempt.
        attempt: u32,
    },
    /// An attempt's answer broke off, or the bookie could not be asked.
    Broken {
        /// Which attempt.
        attempt: u32,
    },
    /// The time that [`Reader::deadline`] named has come.
    Deadline,
}

/// What a reader wants done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReaderEffect {
    /// Ask a bookie; its items and its end come back under the attempt's number.
    Ask {
        /// The number.
        attempt: u32,
        /// Which bookie.
        bookie: BookieId,
        /// What to ask.
        run: ReadRun,
    },
    /// Nobody listens to an attempt any more.
    Cancel {
        /// The number.
        attempt: u32,
    },
    /// A bookie gave nothing for [`RunPlan::speculate_after`], and another one is asked beside it if there is one: who reads
    /// on does well to ask it last for a while.
    Slow {
        /// Which bookie.
        bookie: BookieId,
    },
    /// The next entry, verified.
    Entry(Entry),
    /// The first bytes of the next entry, verified by the bookie.
    Prefix {
        /// Which entry.
        id: EntryId,
        /// The first offset after it.
        next_offset: Offset,
        /// The first bytes of its payload.
        prefix: Bytes,
    },
    /// The run is complete: all entries came, or as many as the byte limit allows.
    Done,
    /// Every bookie answered that it does not have this entry or cannot read it. The run is over; reading it again
    /// later may help when a bookie comes back repaired.
    Lost {
        /// Which entry.
        entry: EntryId,
    },
}

/// A bookie that is being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Attempt {
    number: u32,
    place: usize,
    /// The entry it was asked from on.
    from: EntryId,
    /// The entry its next item is about.
    expects: EntryId,
}

/// The reading of one run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reader {
    plan: RunPlan,
    /// The first entry that has not come.
    next: EntryId,
    bytes: u64,
    /// At most two: the one asked, and the one asked because that one is slow.
    attempts: Vec<Attempt>,
    attempts_made: u32,
    /// Who does not have `next` or cannot read it.
    failed: Members,
    /// Who was asked for `next` in vain: broken off, or busy.
    tried: Members,
    deadline: Option<MonoTime>,
    is_over: bool,
}

impl Reader {
    /// A reader of one run.
    pub const fn new(plan: RunPlan) -> Self {
        let next = plan.first;
        Self {
            plan,
            next,
            bytes: 0,
            attempts: Vec::new(),
            attempts_made: 0,
            failed: Members::NONE,
            tried: Members::NONE,
            deadline: None,
            is_over: false,
        }
    }

    /// When to call again with [`ReaderEvent::Deadline`].
    pub const fn deadline(&self) -> Option<MonoTime> {
        self.deadline
    }

    /// Takes an event and adds what is to be done to `effects`.
    pub fn handle(&mut self, now: MonoTime, event: ReaderEvent, effects: &mut Vec<ReaderEffect>) {
        if self.is_over {
            return; // Late items of an attempt that was cancelled.
        }
        match event {
            ReaderEvent::Start => self.ask_next(now, effects),
            ReaderEvent::Item { attempt, item } => self.item(now, attempt, item, effects),
            ReaderEvent::Ended { attempt } => self.ended(now, attempt, effects),
            ReaderEvent::Broken { attempt } => {
                if self.drop_attempt(attempt, |reader, place| reader.tried.insert(place)) {
                    self.ask_next(now, effects);
                }
            }
            ReaderEvent::Deadline => self.tick(now, effects),
        }
    }

    /// A bookie has ended its answer. One that gave entries, all up to here, mostly stopped at the byte limit: the rest is
    /// another run, whoever else is still silent.
    fn ended(&mut self, now: MonoTime, number: u32, effects: &mut Vec<ReaderEffect>) {
        let leads =
            |a: &Attempt| a.number == number && a.expects == self.next && a.expects > a.from;
        let stopped = self.attempts.iter().any(leads);
        if self.drop_attempt(number, |reader, place| reader.tried.insert(place)) {
            let has_gained = self.next > self.plan.first;
            if stopped || has_gained && self.attempts.is_empty() {
                return self.finish(ReaderEffect::Done, effects);
            }
            self.ask_next(now, effects);
        }
    }

    /// Forgets an attempt, if it still counts.
    fn drop_attempt(&mut self, number: u32, note: impl FnOnce(&mut Self, usize)) -> bool {
        let Some(index) = self.attempts.iter().position(|a| a.number == number) else {
            return false;
        };
        let attempt = self.attempts.remove(index);
        if attempt.expects == self.next {
            note(self, attempt.place);
        }
        true
    }

    fn item(&mut self, now: MonoTime, number: u32, item: RunItem, effects: &mut Vec<ReaderEffect>) {
        let Some(attempt) = self.attempts.iter_mut().find(|a| a.number == number) else {
            return; // Cancelled.
        };
        let (id, len, effect) = match item {
            RunItem::Entry(entry)
                if entry.id == attempt.expects && entry.is_intact(self.plan.ledger) =>
            {
                (entry.id, entry.payload.len(), ReaderEffect::Entry(entry))
            }
            RunItem::Prefix {
                id,
                next_offset,
                prefix,
            } if id == attempt.expects => {
                let len = prefix.len();
                let effect = ReaderEffect::Prefix {
                    id,
                    next_offset,
                    prefix,
                };
                (id, len, effect)
            }
            RunItem::Busy => {
                self.drop_attempt(number, |reader, place| reader.tried.insert(place));
                return self.ask_next(now, effects);
            }
            // What does not verify is a damaged copy, whoever damaged it.
            RunItem::Entry(_) | RunItem::Prefix { .. } | RunItem::NeverHad | RunItem::Unknown => {
                effects.push(ReaderEffect::Cancel { attempt: number });
                self.drop_attempt(number, |reader, place| reader.failed.insert(place));
                return self.ask_next(now, effects);
            }
        };
        attempt.expects = id.next();
        if id == self.next {
            self.gained(now, len, effect, effects);
        } // Else the other bookie was quicker with this one.
    }

    /// The next entry came.
    fn gained(
        &mut self,
        now: MonoTime,
        len: usize,
        entry: ReaderEffect,
        effects: &mut Vec<ReaderEffect>,
    ) {
        effects.push(entry);
        self.bytes += u64::try_from(len).unwrap_or(u64::MAX);
        if self.next == self.plan.last || self.bytes >= self.plan.max_bytes {
            self.next = self.next.next();
            return self.finish(ReaderEffect::Done, effects);
        }
        self.next = self.next.next();
        self.failed = Members::NONE;
        self.tried = Members::NONE;
        self.deadline = Some(now.after(self.plan.speculate_after));
    }

    fn finish(&mut self, last: ReaderEffect, effects: &mut Vec<ReaderEffect>) {
        let number = |a: Attempt| ReaderEffect::Cancel { attempt: a.number };
        effects.extend(self.attempts.drain(..).map(number));
        effects.push(last);
        self.is_over = true;
        self.deadline = None;
    }

    /// Asks the first bookie that has not failed, been tried or is being asked.
    fn ask_next(&mut self, now: MonoTime, effects: &mut Vec<ReaderEffect>) {
        let is_asked = |place: usize| self.attempts.iter().any(|a| a.place == place);
        let members = 0..self.plan.ensemble.len();
        let all = self.plan.ensemble.len();
        let free = members
            .clone()
            .find(|p| !self.failed.has(*p) && !self.tried.has(*p) && !is_asked(*p));
        let Some(place) = free else {
            if self.attempts.is_empty() && self.failed.len() == all {
                let entry = self.next;
                return self.finish(ReaderEffect::Lost { entry }, effects);
            }
            let wait = Some(now.after(self.plan.retry_after));
            self.deadline = wait; // Somebody may still answer, or can be asked again.
            return;
        };
        let attempt = Attempt {
            number: self.attempts_made,
            place,
            from: self.next,
            expects: self.next,
        };
        self.attempts_made += 1;
        self.attempts.push(attempt);
        self.deadline = Some(now.after(self.plan.speculate_after));
        effects.push(ReaderEffect::Ask {
            attempt: attempt.number,
            bookie: self.plan.ensemble[place],
            run: ReadRun {
                ledger: self.plan.ledger,
                created: self.plan.created,
                first: self.next,
                last: self.plan.last,
                max_bytes: self.plan.max_bytes.saturating_sub(self.bytes),
                payload_limit: self.plan.payload_limit,
            },
        });
    }

    fn tick(&mut self, now: MonoTime, effects: &mut Vec<ReaderEffect>) {
        if self.deadline.is_none_or(|at| now < at) {
            return;
        }
        let bookie = |a: &Attempt| self.plan.ensemble[a.place];
        effects.extend(
            self.attempts
                .iter()
                .map(|a| ReaderEffect::Slow { bookie: bookie(a) }),
        );
        // Both are slow: the older one is given up, and its bookie may be asked again later.
        if self.attempts.len() == 2 {
            let oldest = self.attempts[0].number;
            effects.push(ReaderEffect::Cancel { attempt: oldest });
            self.drop_attempt(oldest, |reader, place| reader.tried.insert(place));
        }
        let asked = self.attempts.len() + self.failed.len() + self.tried.len();
        if asked >= self.plan.ensemble.len() {
            self.tried = Members::NONE;
        }
        self.ask_next(now, effects);
    }
}

#[cfg(test)]
mod tests;
