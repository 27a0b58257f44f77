//! What happens to an owner and what it wants done.

use std::sync::Arc;

use types::chain::{Claim, LedgerRecord, LinkEnd, LogKind, ShardCommand, ShardView};
use types::{BookieId, CommandId, EntryId, Epoch, LedgerId, LedgerSeq, Offset, Payload, Reason};

use crate::ensemble::Candidate;
use crate::message::{Answer, Request, Token};

/// What happens to an owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// Begin: claim the shard.
    Claim,
    /// The registered bookies as they stand now; replaces what was told before.
    Candidates(Arc<[Candidate]>),
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
    /// The shard was read from meta, and has no record any more: its topic was deleted, and what was left of it swept
    /// away.
    RecordGone,
    /// Close the open ledger of a log after its last entry; the next append makes a new one. A ledger that grew too
    /// large or idle.
    Roll(LogKind),
    /// Drop the ledgers of a log before this one, which nobody needs any more: all of them closed. Answered with
    /// [`Effect::Trimmed`], in several parts when they are many. Forgotten with the owner.
    Trim {
        /// Which log.
        log: LogKind,
        /// The first ledger that stays.
        first: LedgerSeq,
    },
    /// Confirm what was appended, close both logs, and give the shard up. Nothing is appended from here on.
    Release,
    /// The same, but stay the owner in the record: so that nobody else claims the shard before it is deleted.
    Retire,
    /// The time that [`crate::Owner::deadline`] named has come.
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
    /// The oldest ledgers of a log are dropped, for good: their bookies may forget them.
    Trimmed {
        /// Which log.
        log: LogKind,
        /// The first ledger there is now, made or yet to be made.
        first: LedgerSeq,
        /// The first offset there is now.
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
    /// Meta has no record of the shard any more: its topic was deleted.
    #[error("the shard is deleted")]
    Deleted,
    /// It gave the shard up as it was told.
    #[error("released")]
    Released,
    /// It closed both logs as it was told, and is the owner in the record still.
    #[error("retired")]
    Retired,
}
