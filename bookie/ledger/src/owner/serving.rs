//! What an owner does while it serves: keeps appends flowing, and decides when a ledger is closed or made.

use types::chain::{LogKind, ShardChange, TRIM_MAX};
use types::{LedgerId, MonoTime};

use crate::owner::log::Tail;
use crate::owner::{Effect, Leaving, Over, Owner, Stuck, place};
use crate::writer::{Need, Turn};

impl Owner {
    /// Numbers what waits, then plans the one command if one is needed.
    pub(super) fn advance_serving(&mut self, now: MonoTime, effects: &mut Vec<Effect>) {
        for kind in LogKind::BOTH {
            self.flush(now, kind, effects);
        }
        for _ in 0..self.logs.len() {
            if self.in_flight.is_some() {
                return;
            }
            let kind = LogKind::BOTH[self.next_turn];
            self.next_turn = (self.next_turn + 1) % self.logs.len();
            if let Some(change) = self.plan(now, kind) {
                self.ask_change(now, change, effects);
            }
        }
        if self.in_flight.is_none() {
            match self.leaving {
                Some(Leaving::Release) if self.is_all_closed() => {
                    self.ask_change(now, ShardChange::Release, effects);
                }
                Some(Leaving::Retire) if self.is_all_closed() => {
                    return self.end(Over::Retired, effects);
                }
                Some(_) => {}
                None => {
                    if let Some(change) = self.plan_trim() {
                        self.ask_change(now, change, effects);
                    }
                }
            }
        }
        // A roll that turned out impossible goes on in the old ledger.
        for kind in LogKind::BOTH {
            self.flush(now, kind, effects);
        }
    }

    /// The next part of a trim. It is the least urgent of an owner's commands.
    fn plan_trim(&self) -> Option<ShardChange> {
        let record = &self.view.as_ref()?.record;
        LogKind::BOTH.into_iter().find_map(|log| {
            let wanted = self.log(log).trim_to?;
            let links = record.chain(log).links.iter();
            let dropped = links.take_while(|link| link.end.is_some() && link.seq < wanted);
            let last = dropped.take(TRIM_MAX).last()?;
            let first = last.seq.next();
            Some(ShardChange::Trim { log, first })
        })
    }

    fn is_all_closed(&self) -> bool {
        let is_closed = |log: &super::Log| log.tail == Tail::None && log.queue.is_empty();
        self.logs.iter().all(is_closed)
    }

    /// Numbers what waits in a log. A full ledger is rolled, when there are bookies for the next one.
    fn flush(&mut self, now: MonoTime, kind: LogKind, effects: &mut Vec<Effect>) {
        let can_roll = |owner: &Self| owner.bookies.can_choose(owner.quorum(), now);
        let is_full = |owner: &Self| {
            let writer = owner.log(kind).writer();
            writer.is_some_and(|writer| writer.is_full(&owner.config))
        };
        let mut may_overfill = false;
        loop {
            let log = &mut self.logs[place(kind)];
            let mut turn = Turn {
                now,
                config: &self.config,
                log: kind,
                effects,
            };
            log.flush(&mut turn, may_overfill);
            if may_overfill || log.is_rolling || !is_full(self) {
                break;
            }
            if can_roll(self) {
                self.logs[place(kind)].is_rolling = true;
            } else {
                may_overfill = true;
            }
        }
        if self.leaving.is_some() && self.log(kind).queue.is_empty() {
            self.logs[place(kind)].is_rolling = true;
        }
    }

    fn quorum(&self) -> types::Quorum {
        let view = self
            .view
            .as_ref()
            .expect("a shard that is served was claimed");
        view.record.quorum
    }

    /// What a log needs of meta now. Where it closes a ledger, the end is chosen here (R5).
    fn plan(&mut self, now: MonoTime, kind: LogKind) -> Option<ShardChange> {
        let log = self.log(kind);
        let has_queue = !log.queue.is_empty();
        let Tail::Open(writer) = &log.tail else {
            let is_needed = has_queue && log.tail == Tail::None;
            return is_needed.then(|| self.extend(now, kind)).flatten();
        };
        let is_drained = log.is_rolling && writer.is_drained();
        let need = if log.is_wanted() {
            writer.need()
        } else {
            Need::Nothing // An idle ledger waits for its next add.
        };
        if self.may_seal(now, kind, need) {
            let change = self.extend(now, kind);
            if change.is_some() {
                self.logs[place(kind)].sealed_at = Some(now);
            }
            return change;
        }
        if !is_drained {
            return None;
        }
        if !has_queue {
            return self.close(kind);
        }
        let change = self.extend(now, kind);
        self.logs[place(kind)].is_rolling = change.is_some();
        change
    }

    /// Whether a ledger is sealed now because of its bookies: at once when nothing is confirmed any more, at a set rate
    /// and only towards a full ensemble when a copy is missing (R6).
    fn may_seal(&mut self, now: MonoTime, kind: LogKind, need: Need) -> bool {
        let sealed_at = self.log(kind).sealed_at;
        let has_passed = |wait| sealed_at.is_none_or(|at| at.after(wait) <= now);
        match need {
            Need::Nothing => false,
            Need::Seal => {
                has_passed(self.config.seal_interval_min)
                    && self.bookies.has_full_ensemble(self.quorum(), now)
            }
            Need::SealNow => {
                let may = has_passed(self.config.retry_after);
                if !may {
                    self.logs[place(kind)].shortage.arm(now);
                }
                may
            }
        }
    }

    /// Closes the open ledger, if there is one, and makes the next.
    fn extend(&mut self, now: MonoTime, kind: LogKind) -> Option<ShardChange> {
        let view = self
            .view
            .as_ref()
            .expect("a shard that is served was claimed");
        let log = view.record.chain(kind).log;
        let next = LedgerId::new(log, view.record.next_seq(kind));
        let chosen = self.bookies.choose(next, view.record.quorum, now);
        let log = &mut self.logs[place(kind)];
        let Some(successor) = chosen else {
            log.shortage.arm(now);
            return None;
        };
        log.shortage.stop();
        Some(ShardChange::Extend {
            log: kind,
            close: log.writer_mut().map(|writer| writer.freeze()),
            successor: Some(successor),
        })
    }

    /// Closes the open ledger.
    fn close(&mut self, kind: LogKind) -> Option<ShardChange> {
        let writer = self.logs[place(kind)].writer_mut()?;
        Some(ShardChange::Extend {
            log: kind,
            close: Some(writer.freeze()),
            successor: None,
        })
    }

    /// Says so when a ledger is needed and too few bookies can take it; it is planned again right after.
    pub(super) fn tick_shortage(&mut self, now: MonoTime, effects: &mut Vec<Effect>) {
        for kind in LogKind::BOTH {
            if !self.log(kind).shortage.is_due(now) {
                continue;
            }
            let is_short = !self.bookies.can_choose(self.quorum(), now);
            let log = &mut self.logs[place(kind)];
            if is_short && log.is_wanted() {
                log.shortage.back_off(now, &self.config);
                effects.push(Effect::Stuck(Stuck::TooFewBookies { log: kind }));
            } else {
                log.shortage.stop();
            }
        }
    }
}
