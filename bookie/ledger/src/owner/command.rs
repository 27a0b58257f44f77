//! The owner's one command in flight, and what settles it (R5, R8).
//!
//! A command whose outcome is not known is repeated as it is: same id, same planned version, same change. Whatever
//! number of copies travel, at most one commits, because the first one changes the version. The outcome is known when
//!
//! - meta answers `Committed`, or the record shows the command's id: it landed;
//! - the record has this owner's epoch, a higher version than the command was planned on, and not its id: no copy of
//!   it ever will land. Its version is gone; and had it landed, the id would still be there, since only this owner's
//!   next command, which waits for this outcome, or a claim, which raises the epoch, replaces it;
//! - the record has another epoch or owner: this owner is over, and what became of the command is the next one's
//!   to find;
//! - meta has no record of the shard any more: this owner is over, and its topic was deleted.
//!
//! A record at the planned version without the id proves nothing, and neither does another refusal: a copy may still be on
//! its way.

use types::chain::{Claim, LinkEnd, LogKind, ShardChange, ShardCommand, ShardView};
use types::{BookieId, CommandId, MonoTime, Reason};

use crate::config::Config;
use crate::owner::log::Tail;
use crate::owner::{Effect, Outcome, Over, Owner, Phase, Stuck, place};
use crate::retry::Retry;
use crate::writer::{Turn, Writer};

/// What meta was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Asked {
    /// For the shard.
    Claim(Claim),
    /// For a change of it.
    Command(ShardCommand),
}

impl Asked {
    pub(super) const fn id(&self) -> CommandId {
        match self {
            Self::Claim(claim) => claim.command,
            Self::Command(command) => command.command,
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Claim(claim) => Effect::Claim(claim.clone()),
            Self::Command(command) => Effect::Command(command.clone()),
        }
    }
}

/// A claim or command whose outcome is not known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct InFlight {
    pub(super) asked: Asked,
    pub(super) retry: Retry,
    refused: Option<Reason>,
}

impl InFlight {
    fn new(asked: Asked, now: MonoTime, config: &Config) -> Self {
        let mut retry = Retry::idle(config.retry_after);
        retry.wait_for(now, config.retry_after_max);
        Self {
            asked,
            retry,
            refused: None,
        }
    }
}

impl Owner {
    /// Asks meta, nothing else being on its way.
    pub(super) fn ask_meta(&mut self, now: MonoTime, asked: Asked, effects: &mut Vec<Effect>) {
        assert!(self.in_flight.is_none(), "one command is in flight at most");
        effects.push(asked.effect());
        self.in_flight = Some(Box::new(InFlight::new(asked, now, &self.config)));
    }

    /// Asks meta for a change, planned on the record as last seen.
    pub(super) fn ask_change(
        &mut self,
        now: MonoTime,
        change: ShardChange,
        effects: &mut Vec<Effect>,
    ) {
        let command = self.next_command();
        let view = self.view.as_ref().expect("only a claimed shard is changed");
        let command = ShardCommand {
            shard: self.shard,
            epoch: view.record.epoch,
            command,
            planned_on: view.version,
            change,
        };
        self.ask_meta(now, Asked::Command(command), effects);
    }

    /// Repeats what has had no answer, as it is.
    pub(super) fn tick_command(&mut self, now: MonoTime, effects: &mut Vec<Effect>) {
        let Some(in_flight) = &mut self.in_flight else {
            return;
        };
        if !in_flight.retry.is_due(now) {
            return;
        }
        in_flight.retry.wait_for(now, self.config.retry_after_max);
        effects.push(Effect::Stuck(Stuck::Meta {
            command: in_flight.asked.id(),
            refused: in_flight.refused,
        }));
        effects.push(in_flight.asked.effect());
    }

    /// Takes meta's answer.
    pub(super) fn outcome(
        &mut self,
        now: MonoTime,
        command: CommandId,
        outcome: Outcome,
        effects: &mut Vec<Effect>,
    ) {
        let in_flight = self.in_flight.as_mut();
        let Some(in_flight) = in_flight.filter(|asked| asked.asked.id() == command) else {
            return self.repeat_told(&outcome, effects);
        };
        let is_claim = matches!(in_flight.asked, Asked::Claim(_));
        match outcome {
            Outcome::Committed(view) if is_claim => self.claim_told(now, view, true, effects),
            Outcome::Conflict(view) if is_claim => self.claim_told(now, view, false, effects),
            Outcome::Refused(reason) if is_claim => {
                let reason = Some(reason);
                self.end(Over::ClaimRefused { reason }, effects);
            }
            Outcome::Committed(view) => self.settle(now, view, true, effects),
            Outcome::Conflict(view) => self.settle(now, view, false, effects),
            Outcome::Unknown => in_flight.retry.back_off(now, &self.config),
            Outcome::Refused(Reason::TopicNotFound) => self.record_gone(effects),
            Outcome::Refused(reason) => {
                in_flight.refused = Some(reason);
                in_flight.retry.back_off(now, &self.config);
            }
        }
    }

    /// Takes an answer to a repeat of what is settled. Only another reign in it is news.
    fn repeat_told(&mut self, outcome: &Outcome, effects: &mut Vec<Effect>) {
        if let Outcome::Committed(view) | Outcome::Conflict(view) = outcome {
            let epoch = view.record.epoch;
            if self.epoch().is_some_and(|own| own < epoch) {
                self.end(Over::Deposed { epoch }, effects);
            }
        }
    }

    fn claim_told(
        &mut self,
        now: MonoTime,
        view: Box<ShardView>,
        is_committed: bool,
        effects: &mut Vec<Effect>,
    ) {
        let claimed = self.in_flight.as_ref().map(|asked| asked.asked.id());
        if view.record.last_command == claimed && view.record.owner == Some(self.session) {
            self.in_flight = None;
            return self.begin(now, view, effects);
        }
        let epoch = view.record.epoch;
        let over = if is_committed {
            Over::Deposed { epoch } // Committed, and already overtaken by the next claim.
        } else {
            Over::ClaimRefused { reason: None }
        };
        self.end(over, effects);
    }

    /// Takes the record as somebody read it. It may settle the command in flight, or end this owner.
    pub(super) fn record_seen(
        &mut self,
        now: MonoTime,
        view: Box<ShardView>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(known) = &self.view else {
            return; // Nothing is claimed yet.
        };
        if view.version > known.version {
            self.settle(now, view, false, effects);
        }
    }

    /// Takes the word that the shard of this owner has no record. A record goes only after the deletion of its topic, and
    /// never comes again: no copy of a command ever will land.
    pub(super) fn record_gone(&mut self, effects: &mut Vec<Effect>) {
        if self.view.is_some() {
            self.end(Over::Deleted, effects); // Before the claim is committed, its own answer tells.
        }
    }

    /// Takes the record as it is after, or instead of, the command in flight.
    fn settle(
        &mut self,
        now: MonoTime,
        view: Box<ShardView>,
        is_committed: bool,
        effects: &mut Vec<Effect>,
    ) {
        let epoch = view.record.epoch;
        if self.epoch() != Some(epoch) || view.record.owner != Some(self.session) {
            let has_released = view.record.owner.is_none() && self.holds_release(&view);
            let over = if has_released {
                Over::Released
            } else {
                Over::Deposed { epoch }
            };
            return self.end(over, effects);
        }
        let Some(in_flight) = self.in_flight.take() else {
            return self.adopt(view, effects);
        };
        let Asked::Command(command) = &in_flight.asked else {
            self.in_flight = Some(in_flight);
            return; // A claim is settled by its own answer.
        };
        if is_committed || view.record.last_command == Some(command.command) {
            self.landed(now, command.change.clone(), view, effects);
        } else if view.version > command.planned_on {
            self.adopt(view, effects);
            self.never_lands(now, &command.change, effects);
        } else {
            let mut unproven = in_flight; // Repeated at its time.
            unproven.retry.back_off(now, &self.config);
            self.in_flight = Some(unproven);
        }
    }

    /// Whether the record shows that this owner's release landed.
    fn holds_release(&self, view: &ShardView) -> bool {
        let Some(Asked::Command(command)) = self.in_flight.as_ref().map(|asked| &asked.asked)
        else {
            return false;
        };
        command.change == ShardChange::Release
            && view.record.last_command == Some(command.command)
            && view.record.epoch == command.epoch
    }

    /// Takes a newer record in which nothing of this owner's has changed. An operator may have closed a tail that
    /// could not be recovered; anything else that is not as this owner left it ends it.
    fn adopt(&mut self, view: Box<ShardView>, effects: &mut Vec<Effect>) {
        for log in &mut self.logs {
            let tail = view.record.chain(log.kind).tail_id();
            let (is_open, held) = match &log.tail {
                Tail::None => (true, None),
                Tail::Recovering(recovery) => (false, Some(recovery.ledger())),
                Tail::Recovered(ledger, _) => (false, Some(*ledger)),
                Tail::Open(writer) => (true, Some(writer.ledger())),
            };
            if tail == held {
                continue;
            }
            if is_open || tail.is_some() {
                let epoch = view.record.epoch;
                return self.end(Over::Deposed { epoch }, effects);
            }
            log.tail = Tail::None;
        }
        self.view = Some(view);
    }

    /// The command in flight is known never to land: what waited for it goes on, and is planned again.
    fn never_lands(&mut self, now: MonoTime, change: &ShardChange, effects: &mut Vec<Effect>) {
        if let ShardChange::Extend { log, .. } = change {
            let log = &mut self.logs[place(*log)];
            let mut turn = Turn {
                now,
                config: &self.config,
                log: log.kind,
                effects,
            };
            if let Tail::Open(writer) = &mut log.tail
                && writer.is_frozen()
            {
                writer.thaw(&mut turn);
            }
        }
    }

    /// The command in flight is committed.
    fn landed(
        &mut self,
        now: MonoTime,
        change: ShardChange,
        view: Box<ShardView>,
        effects: &mut Vec<Effect>,
    ) {
        match change {
            ShardChange::CloseRecovered { .. } => {
                self.view = Some(view);
                self.open(effects);
            }
            ShardChange::Extend {
                log,
                close,
                successor,
            } => {
                self.view = Some(view);
                if let Some(end) = close {
                    self.closed(log, end, effects);
                }
                if successor.is_some() {
                    self.extended(now, log, effects);
                }
            }
            ShardChange::Trim { log, .. } => {
                let chain = view.record.chain(log);
                effects.push(Effect::Trimmed {
                    log,
                    first: chain.first,
                    first_offset: chain.first_offset,
                });
                self.view = Some(view);
            }
            ShardChange::Release => self.end(Over::Released, effects),
        }
    }

    /// Every tail is closed: serves.
    fn open(&mut self, effects: &mut Vec<Effect>) {
        for log in &mut self.logs {
            if let Tail::Recovered(ledger, end) = log.tail {
                effects.push(Effect::Closed {
                    log: log.kind,
                    ledger,
                    end,
                });
            }
            log.tail = Tail::None;
        }
        self.phase = Phase::Serving;
        let view = self.view.clone().expect("a shard that opens was claimed");
        effects.push(Effect::Opened(view));
    }

    /// Asks meta to close the tails whose ends were found; with none, there is nothing to ask.
    pub(super) fn close_recovered(&mut self, now: MonoTime, effects: &mut Vec<Effect>) {
        let end_of = |kind: LogKind| match self.log(kind).tail {
            Tail::Recovered(_, end) => Some(end),
            Tail::None | Tail::Recovering(_) | Tail::Open(_) => None,
        };
        let (message, state) = (end_of(LogKind::Message), end_of(LogKind::State));
        if message.is_none() && state.is_none() {
            self.open(effects);
            return self.advance_serving(now, effects);
        }
        self.ask_change(now, ShardChange::CloseRecovered { message, state }, effects);
    }

    /// The open ledger of a log is closed; what it did not confirm waits before everything else.
    fn closed(&mut self, kind: LogKind, end: LinkEnd, effects: &mut Vec<Effect>) {
        let log = &mut self.logs[place(kind)];
        let Tail::Open(writer) = std::mem::replace(&mut log.tail, Tail::None) else {
            unreachable!("only an open ledger is closed by an extension");
        };
        assert!(writer.end() == end, "nothing moves above a chosen end");
        effects.push(Effect::Closed {
            log: kind,
            ledger: writer.ledger(),
            end,
        });
        log.is_rolling = false;
        log.push_front(writer.into_unconfirmed());
    }

    /// A log has a new open ledger; it takes adds from now on (R1).
    fn extended(&mut self, now: MonoTime, kind: LogKind, effects: &mut Vec<Effect>) {
        let view = self
            .view
            .as_ref()
            .expect("a shard that is extended was claimed");
        let record = view
            .tail(kind)
            .expect("the record has the tail it was extended by");
        let link = view.record.chain(kind).tail();
        let first_offset = link.expect("a tail has a link").first_offset;
        let is_lost = |bookie: BookieId| self.bookies.is_lost(bookie);
        let (epoch, with) = (view.record.epoch, (now, &*self.config));
        let writer = Writer::new(record, epoch, first_offset, is_lost, with);
        effects.push(Effect::Extended {
            log: kind,
            ledger: record.clone(),
            first_offset,
        });
        self.logs[place(kind)].tail = Tail::Open(Box::new(writer));
    }
}
