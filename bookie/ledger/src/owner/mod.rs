//! The owner of one shard: claims it, recovers both its logs, then writes them, as one machine.
//!
//! One [`Owner`] is one attempt to own. It starts with [`Event::Claim`] and ends with [`Effect::Over`]; to own the shard
//! again, make a new one. What the shell does: hand in events, perform effects in order, call again at
//! [`Owner::deadline`]. It owes three things:
//!
//! - Answers to another [`Owner`]'s requests, an earlier one of the same shard included, never come in here.
//! - [`crate::Request`]s to one bookie are sent in the order of the effects, or dropped with the connection; the shell
//!   tells [`Event::Lost`] then, connects again by itself while the owner lives, and tells [`Event::Connected`].
//! - Every [`Effect::Command`] and [`Effect::Claim`] is answered by an [`Event::Outcome`]; when in doubt by
//!   [`Outcome::Unknown`]. The same command may be emitted again, to be sent again as it is.

use std::sync::Arc;

use types::chain::{Claim, LogKind, ShardView};
use types::storage::{AddResult, LacResult, ReadResult};
use types::{
    BookieId, CommandId, EntryId, Epoch, LedgerId, LedgerSeq, MonoTime, SessionId, ShardId,
};

use crate::config::Config;
use crate::message::Answer;
use crate::recovery::Recovery;
use crate::retry::earlier;
use crate::writer::{Queued, Turn};

mod bookies;
mod command;
mod event;
mod log;
mod serving;
#[cfg(test)]
mod tests;

pub use event::{Effect, Event, Outcome, Over, Stuck};

use bookies::Bookies;
use command::{Asked, InFlight};
use log::{Log, Tail};

/// How far an owner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    /// Nothing happened yet.
    New,
    /// Meta is asked for the shard.
    Claiming,
    /// The ends of the tails are being found, then committed.
    Recovering,
    /// Appends are written.
    Serving,
    /// Over.
    Over,
}

/// The owner of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    shard: ShardId,
    session: SessionId,
    seed: u128,
    commands_issued: u64,
    config: Arc<Config>,
    phase: Phase,
    /// The record as last seen with this owner in it; none before the claim is committed.
    view: Option<Box<ShardView>>,
    bookies: Bookies,
    logs: [Log; 2],
    /// The one claim or command whose outcome is not known.
    in_flight: Option<Box<InFlight>>,
    /// Which log's turn it is for the one command.
    next_turn: usize,
    leaving: Option<Leaving>,
}

/// How an owner goes when it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Leaving {
    /// With both logs closed and the shard free for others.
    Release,
    /// With both logs closed, still named in the record.
    Retire,
}

impl Owner {
    /// An owner to be: nothing happens before [`Event::Claim`].
    ///
    /// `seed` is 128 random bits, fresh for each owner: its n-th command has the id `seed` + n · φ, φ being an odd
    /// constant, so an owner never repeats one and two owners share one only by an accident of 2⁻¹²⁸.
    pub fn new(
        shard: ShardId,
        session: SessionId,
        seed: u128,
        config: impl Into<Arc<Config>>,
    ) -> Self {
        let config = config.into();
        Self {
            shard,
            session,
            seed,
            commands_issued: 0,
            logs: LogKind::BOTH.map(|kind| Log::new(kind, &config)),
            config,
            phase: Phase::New,
            view: None,
            bookies: Bookies::default(),
            in_flight: None,
            next_turn: 0,
            leaving: None,
        }
    }

    /// The owner's epoch, once the claim is committed.
    pub fn epoch(&self) -> Option<Epoch> {
        Some(self.view.as_ref()?.record.epoch)
    }

    /// The shard's record as this owner last saw it.
    pub fn view(&self) -> Option<&ShardView> {
        self.view.as_deref()
    }

    /// Whether both logs are recovered and appends are written.
    pub fn is_serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    /// Whether this owner is over.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Whether a command of this owner is on its way and its outcome not known. A lapsed owner answers nothing
    /// then.
    pub const fn awaits_outcome(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The claim or command whose outcome is not known.
    pub fn command_in_flight(&self) -> Option<CommandId> {
        Some(self.in_flight.as_ref()?.asked.id())
    }

    /// The open ledger of a log.
    pub fn open_ledger(&self, log: LogKind) -> Option<LedgerId> {
        Some(self.log(log).writer()?.ledger())
    }

    /// The LAC of the open ledger of a log.
    pub fn lac(&self, log: LogKind) -> Option<EntryId> {
        self.log(log).writer()?.lac()
    }

    /// Bytes of payload that were appended to a log and are not confirmed. The caller bounds them.
    pub fn queued_bytes(&self, log: LogKind) -> u64 {
        self.log(log).queued_bytes()
    }

    const fn log(&self, kind: LogKind) -> &Log {
        &self.logs[place(kind)]
    }

    /// When to call again with [`Event::Deadline`].
    pub fn deadline(&self) -> Option<MonoTime> {
        let command = self.in_flight.as_ref().and_then(|asked| asked.retry.at());
        let logs = self.logs.iter().map(|log| log.deadline(&self.config));
        logs.fold(command, earlier)
    }

    /// Takes an event and adds what is to be done to `effects`.
    ///
    /// # Panics
    ///
    /// When [`Event::Claim`] comes a second time.
    pub fn handle(&mut self, now: MonoTime, event: Event, effects: &mut Vec<Effect>) {
        if self.is_over() {
            return; // Whatever still comes is about a reign that ended.
        }
        match event {
            Event::Claim => self.claim(now, effects),
            Event::Candidates(candidates) => self.bookies.replace(candidates),
            Event::Append {
                log,
                token,
                payload,
                next_offset,
            } => self.append(
                log,
                Queued {
                    token,
                    payload,
                    next_offset,
                },
            ),
            Event::Answer { bookie, answer } => self.answered(now, bookie, answer, effects),
            Event::Connected(bookie) => self.connected(now, bookie, effects),
            Event::Lost(bookie) => self.lost(now, bookie, effects),
            Event::Outcome { command, outcome } => self.outcome(now, command, outcome, effects),
            Event::Record(view) => self.record_seen(now, view, effects),
            Event::RecordGone => self.record_gone(effects),
            Event::Roll(log) => self.roll(log),
            Event::Trim { log, first } => self.trim(log, first),
            Event::Release => self.leave(Leaving::Release, effects),
            Event::Retire => self.leave(Leaving::Retire, effects),
            Event::Deadline => self.tick(now, effects),
        }
        match self.phase {
            Phase::New | Phase::Claiming | Phase::Over => {}
            Phase::Recovering => self.advance_recovery(now, effects),
            Phase::Serving => self.advance_serving(now, effects),
        }
    }

    fn claim(&mut self, now: MonoTime, effects: &mut Vec<Effect>) {
        assert!(self.phase == Phase::New, "an owner claims once");
        self.phase = Phase::Claiming;
        let claim = Claim {
            shard: self.shard,
            session: self.session,
            command: self.next_command(),
        };
        self.ask_meta(now, Asked::Claim(claim), effects);
    }

    fn next_command(&mut self) -> CommandId {
        const PHI: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let id = self
            .seed
            .wrapping_add(PHI.wrapping_mul(self.commands_issued.into()));
        self.commands_issued += 1;
        CommandId::new(id)
    }

    fn append(&mut self, log: LogKind, queued: Queued) {
        if self.leaving.is_none() {
            self.logs[place(log)].push(queued);
        }
    }

    fn roll(&mut self, log: LogKind) {
        let log = &mut self.logs[place(log)];
        if log.writer().is_some_and(|writer| !writer.is_empty()) {
            log.is_rolling = true;
        }
    }

    /// Notes what may go of what is closed now: what is closed later is not meant.
    fn trim(&mut self, kind: LogKind, first: LedgerSeq) {
        let Some(view) = &self.view else {
            return;
        };
        let links = view.record.chain(kind).links.iter();
        let closed = links.take_while(|link| link.end.is_some() && link.seq < first);
        if let Some(last) = closed.last() {
            self.logs[place(kind)].wants_first(last.seq.next());
        }
    }

    fn leave(&mut self, how: Leaving, effects: &mut Vec<Effect>) {
        self.leaving = Some(how);
        if self.phase == Phase::New {
            self.end(Over::Released, effects);
        }
    }

    /// This owner is over: it forgets everything and confirms nothing any more.
    fn end(&mut self, over: Over, effects: &mut Vec<Effect>) {
        self.phase = Phase::Over;
        self.in_flight = None;
        self.logs = LogKind::BOTH.map(|kind| Log::new(kind, &self.config));
        effects.push(Effect::Over(over));
    }

    fn answered(
        &mut self,
        now: MonoTime,
        bookie: BookieId,
        answer: Answer,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(by) = fenced_by(&answer) {
            return self.end(Over::Fenced { bookie, by }, effects);
        }
        let ledger = answer.ledger();
        for log in &mut self.logs {
            let mut turn = Turn {
                now,
                config: &self.config,
                log: log.kind,
                effects,
            };
            match &mut log.tail {
                Tail::Recovering(recovery) if recovery.ledger() == ledger => {
                    return recovery.answered(&mut turn, bookie, answer);
                }
                Tail::Open(writer) if writer.ledger() == ledger => {
                    let Answer::Added { entry, result, .. } = answer else {
                        return; // A writer asks nothing else.
                    };
                    if writer.added(&mut turn, bookie, entry, result) {
                        self.bookies.avoid(bookie, now, &self.config);
                    }
                    return;
                }
                Tail::None | Tail::Recovering(_) | Tail::Recovered(..) | Tail::Open(_) => {}
            }
        }
        // Late: the ledger is closed.
    }

    fn connected(&mut self, now: MonoTime, bookie: BookieId, effects: &mut Vec<Effect>) {
        self.bookies.connected(bookie);
        for log in &mut self.logs {
            let mut turn = Turn {
                now,
                config: &self.config,
                log: log.kind,
                effects,
            };
            match &mut log.tail {
                Tail::Recovering(recovery) => recovery.connected(&mut turn, bookie),
                Tail::Open(writer) => writer.connected(&mut turn, bookie),
                Tail::None | Tail::Recovered(..) => {}
            }
        }
    }

    fn lost(&mut self, now: MonoTime, bookie: BookieId, effects: &mut Vec<Effect>) {
        self.bookies.lost(bookie);
        for log in &mut self.logs {
            let mut turn = Turn {
                now,
                config: &self.config,
                log: log.kind,
                effects,
            };
            if let Some(writer) = log.writer_mut() {
                writer.lost(&mut turn, bookie);
            }
        }
    }

    fn tick(&mut self, now: MonoTime, effects: &mut Vec<Effect>) {
        self.tick_command(now, effects);
        for log in &mut self.logs {
            let mut turn = Turn {
                now,
                config: &self.config,
                log: log.kind,
                effects,
            };
            match &mut log.tail {
                Tail::Recovering(recovery) => recovery.tick(&mut turn),
                Tail::Open(writer) => {
                    for bookie in writer.tick(&mut turn) {
                        self.bookies.avoid(bookie, now, &self.config);
                    }
                }
                Tail::None | Tail::Recovered(..) => {}
            }
        }
        self.tick_shortage(now, effects);
    }

    /// The claim is committed: recovers whatever is not closed.
    fn begin(&mut self, now: MonoTime, view: Box<ShardView>, effects: &mut Vec<Effect>) {
        self.phase = Phase::Recovering;
        let epoch = view.record.epoch;
        for log in &mut self.logs {
            let mut turn = Turn {
                now,
                config: &self.config,
                log: log.kind,
                effects,
            };
            let link = view.record.chain(log.kind).tail();
            if let (Some(link), Some(record)) = (link, view.tail(log.kind)) {
                let recovery = Recovery::start(&mut turn, record, epoch, link.first_offset);
                log.tail = Tail::Recovering(Box::new(recovery));
            }
        }
        self.view = Some(view);
    }

    /// Notes the ends that were found; when all are, asks meta to close both tails in one transaction.
    fn advance_recovery(&mut self, now: MonoTime, effects: &mut Vec<Effect>) {
        for log in &mut self.logs {
            if let Tail::Recovering(recovery) = &log.tail
                && let Some(end) = recovery.end()
            {
                log.tail = Tail::Recovered(recovery.ledger(), end);
            }
        }
        let is_recovering = |log: &Log| matches!(log.tail, Tail::Recovering(_));
        if self.in_flight.is_none() && !self.logs.iter().any(is_recovering) {
            self.close_recovered(now, effects);
        }
    }
}

/// A log's place among the owner's logs.
const fn place(kind: LogKind) -> usize {
    match kind {
        LogKind::Message => 0,
        LogKind::State => 1,
    }
}

/// The epoch of the newer owner that an answer tells of.
const fn fenced_by(answer: &Answer) -> Option<Epoch> {
    match answer {
        Answer::Added {
            result: AddResult::Fenced { by },
            ..
        }
        | Answer::Read {
            result: ReadResult::Fenced { by },
            ..
        }
        | Answer::Lac {
            result: LacResult::Fenced { by },
            ..
        } => Some(*by),
        Answer::Added { .. } | Answer::Read { .. } | Answer::Lac { .. } => None,
    }
}
