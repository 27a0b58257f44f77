//! The owner of one shard: claims it, recovers both its logs, then writes them, as one machine.
//!
//! One [`Owner`] is one attempt to own. It starts with [`Event::Claim`] and ends with [`Effect::Over`]; to own the shard
//! again, make a new one. What the shell does: hand in events, perform effects in order, call again at
//! [`Owner::deadline`]. It owes three things:
//!
//! - Answers to another [`Owner`]'s requests, an earlier one of the same shard included, never come in here.
//! - [`Request`]s to one bookie are sent in the order of the effects, or dropped with the connection; the shell tells
//!   [`Event::Lost`] then, connects again by itself while the owner lives, and tells [`Event::Connected`].
//! - Every [`Effect::Command`] and [`Effect::Claim`] is answered by one [`Event::Outcome`] for each time it was emitted;
//!   when in doubt, [`Outcome::Unknown`].

use types::chain::{Claim, LedgerRecord, LinkEnd, LogKind, ShardCommand, ShardView};
use types::{
    BookieId, CommandId, EntryId, Epoch, LedgerId, MonoTime, Offset, Payload, Reason, SessionId,
    ShardId,
};

use crate::config::Config;
use crate::ensemble::Candidate;
use crate::message::{Answer, Request, Token};

/// What happens to an owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// Begin: claim the shard.
    Claim,
    /// The registered bookies as they stand now; replaces what was told before.
    Candidates(Vec<Candidate>),
    /// Append an entry to a log. Entries of a log are confirmed in the order they come in. Before
    /// [`Effect::Opened`] they wait; after [`Effect::Over`] they are ignored.
    Append {
        /// Which log.
        log: LogKind,
        /// The caller's name for it.
        token: Token,
        /// Its bytes.
        payload: Payload,
        /// The first offset of the log after it.
        next_offset: Offset,
    },
    /// A bookie answered.
    Answer {
        /// Which bookie.
        bookie: BookieId,
        /// What.
        answer: Answer,
    },
    /// A connection to a bookie stands: anew, or for the first time.
    Connected(BookieId),
    /// The connection to a bookie broke, or could not be made. Requests on it may be lost, answers too.
    Lost(BookieId),
    /// Meta answered a claim or a command.
    Outcome {
        /// Which.
        command: CommandId,
        /// What it said.
        outcome: Outcome,
    },
    /// The shard's record as just read from meta, because a watch told that it changed.
    Record(Box<ShardView>),
    /// Close the open ledger of a log after its last entry, and go on in a new one.
    Roll(LogKind),
    /// Close the open ledger of a log after its last entry; the next append makes a new one.
    CloseIdle(LogKind),
    /// Confirm what was appended, close both logs, and give the shard up. Nothing is appended from here on.
    Release,
    /// The time that [`Owner::deadline`] named has come.
    Deadline,
}

/// What meta said to a claim or a command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Committed; the record as it is now.
    Committed(Box<ShardView>),
    /// Not committed by this try; the record as it is. An earlier try may have been.
    Conflict(Box<ShardView>),
    /// No answer, or none that tells: it may be committed, now or later.
    Unknown,
    /// Meta refused it for this reason. An earlier try may have been committed.
    Refused(Reason),
}

/// What an owner wants done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Send a request to a bookie.
    Send {
        /// Which bookie.
        bookie: BookieId,
        /// What to send.
        request: Request,
    },
    /// Ask meta for the shard.
    Claim(Claim),
    /// Ask meta for a change of the shard's record.
    Command(ShardCommand),
    /// Both logs are recovered and closed: everything in them is readable up to the ends in the record, and the
    /// shard can be served now.
    Opened(Box<ShardView>),
    /// An entry is durable on Qa bookies, and so is every entry before it. Comes in the order of the appends.
    Confirmed {
        /// Which log.
        log: LogKind,
        /// The caller's name for it.
        token: Token,
        /// The ledger it is in.
        ledger: LedgerId,
        /// Its place there; the LAC of that ledger from now on.
        entry: EntryId,
        /// The first offset after it.
        next_offset: Offset,
    },
    /// The open ledger of a log was closed.
    Closed {
        /// Which log.
        log: LogKind,
        /// The ledger.
        ledger: LedgerId,
        /// Its end.
        end: LinkEnd,
    },
    /// A log has a new open ledger.
    Extended {
        /// Which log.
        log: LogKind,
        /// The new ledger.
        ledger: LedgerRecord,
        /// Its first offset.
        first_offset: Offset,
    },
    /// Something is waited for longer than usual, and is tried again. For people and metrics.
    Stuck(Stuck),
    /// A bookie holds other bytes under a number of this ledger. Must never happen.
    Mismatch {
        /// The bookie.
        bookie: BookieId,
        /// The ledger.
        ledger: LedgerId,
        /// The entry.
        entry: EntryId,
    },
    /// This owner is over: it confirms nothing any more and ignores every event. Appends that were not confirmed may
    /// or may not be stored.
    Over(Over),
}

/// What an owner waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stuck {
    /// The end of a ledger cannot be told before more of these bookies answer.
    Recovery {
        /// The ledger.
        ledger: LedgerId,
        /// The bookies that have not said what they have.
        waiting_for: Vec<BookieId>,
    },
    /// Fewer than Qa bookies can take a new ledger.
    TooFewBookies {
        /// Which log waits for it.
        log: LogKind,
    },
    /// Meta has not told the outcome of a command.
    Meta {
        /// Which.
        command: CommandId,
        /// Its last refusal, if it gave one.
        refused: Option<Reason>,
    },
}

/// Why an owner is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Over {
    /// A bookie answered that a newer owner fenced a log.
    #[error("fenced by a newer owner bookie={bookie} by={by}")]
    Fenced {
        /// The bookie.
        bookie: BookieId,
        /// The newer owner's epoch.
        by: Epoch,
    },
    /// The record has another epoch or another owner.
    #[error("the shard has another owner epoch={epoch}")]
    Deposed {
        /// The record's epoch.
        epoch: Epoch,
    },
    /// Meta did not let this session claim the shard.
    #[error("the claim was refused reason={reason:?}")]
    ClaimRefused {
        /// Its reason; none when another claim came first.
        reason: Option<Reason>,
    },
    /// It gave the shard up as it was told.
    #[error("released")]
    Released,
}

/// The owner of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    shard: ShardId,
    session: SessionId,
    seed: u128,
    config: Config,
}

impl Owner {
    /// An owner to be: nothing happens before [`Event::Claim`].
    ///
    /// `seed` is 128 random bits, fresh for each owner: the ids of its commands are made from it.
    pub const fn new(shard: ShardId, session: SessionId, seed: u128, config: Config) -> Self {
        Self {
            shard,
            session,
            seed,
            config,
        }
    }

    /// Takes an event and adds what is to be done to `effects`.
    pub fn handle(&mut self, _now: MonoTime, _event: Event, _effects: &mut Vec<Effect>) {}

    /// When to call again with [`Event::Deadline`].
    pub const fn deadline(&self) -> Option<MonoTime> {
        None
    }

    /// The owner's epoch, once the claim is committed.
    pub const fn epoch(&self) -> Option<Epoch> {
        None
    }

    /// Whether both logs are open for appends.
    pub const fn is_serving(&self) -> bool {
        false
    }

    /// Whether a command of this owner is on its way and its outcome not known. A reader's tail is not answered
    /// then.
    pub const fn awaits_outcome(&self) -> bool {
        false
    }

    /// The open ledger of a log.
    pub const fn open_ledger(&self, _log: LogKind) -> Option<LedgerId> {
        None
    }

    /// The LAC of the open ledger of a log.
    pub const fn lac(&self, _log: LogKind) -> Option<EntryId> {
        None
    }

    /// Bytes of payload that were appended to a log and are not confirmed. The caller bounds them.
    pub const fn queued_bytes(&self, _log: LogKind) -> u64 {
        0
    }
}
