//! The record of a shard and of its ledgers, as meta keeps them, and the changes an owner asks of them.

use crate::{BookieId, CommandId, EntryId, Epoch, LedgerId, LedgerSeq, LogId, Offset, Quorum};
use crate::{Revision, SessionId, ShardId, TopicId};

/// Which of a shard's two logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogKind {
    /// What producers published.
    Message,
    /// What the owner must not forget: cursors, producers.
    State,
}

/// Most ledgers that one [`ShardChange::Trim`] drops: a commit stays well below what a store takes (128 records for etcd).
pub const TRIM_MAX: usize = 32;

/// How far a restore of the metadata raises each shard's epoch: above all that was claimed since the image was taken.
pub const EPOCHS_OF_RESTORE: u64 = 1 << 32;

/// How many numbers of ledgers a restore of the metadata leaves out in each log.
pub const LEDGERS_OF_RESTORE: u32 = 1 << 20;

/// The first sequence number that a ledger made at this epoch may have.
pub fn first_seq_at(epoch: Epoch) -> LedgerSeq {
    let restores = u32::try_from(epoch.get() / EPOCHS_OF_RESTORE).unwrap_or(u32::MAX);
    LedgerSeq::new(restores.saturating_mul(LEDGERS_OF_RESTORE))
}

impl LogKind {
    /// Both, message log first.
    pub const BOTH: [Self; 2] = [Self::Message, Self::State];
}

/// How far a ledger is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LedgerState {
    /// Its owner appends.
    Open,
    /// The owner of this epoch is finding its end.
    Recovering {
        /// The epoch of the shard's owner.
        epoch: Epoch,
    },
    /// Its end is final.
    Closed {
        /// Its last entry, none when it is empty.
        last: Option<EntryId>,
        /// Whether all Qw copies of all entries were verified: every bookie of the ensemble is in
        /// [`LedgerRecord::verified`].
        complete: bool,
    },
}

/// Whose copy of a closed ledger was found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verified {
    /// The bookie.
    pub bookie: BookieId,
    /// Its birth then. Born again since, it may have lost the copy: the word counts no more.
    pub born: Revision,
}

/// A copy of a closed ledger on its way to another bookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Move {
    /// Whose place it is, in the ensemble until the move is over.
    pub from: BookieId,
    /// Who takes that place once its copy is whole.
    pub to: BookieId,
}

/// A move as it stands in a ledger's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Assignment {
    /// Whose place it is, in the ensemble until the move is over.
    pub from: BookieId,
    /// Who takes that place once its copy is whole.
    pub to: BookieId,
    /// The revision of the record that it changed: no two assignments of a ledger have the same. A word about an earlier
    /// one, late, says nothing about a copy that was given up since.
    pub number: Revision,
}

impl Assignment {
    /// What was asked for.
    pub const fn asked(&self) -> Move {
        Move {
            from: self.from,
            to: self.to,
        }
    }
}

/// A copy that a bookie found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WholeCopy {
    /// Of which ledger.
    pub ledger: LedgerId,
    /// The assignment by which the bookie is to take another's place; none of one that has a place.
    pub assignment: Option<Revision>,
}

/// One ledger's own record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LedgerRecord {
    /// Which ledger.
    pub id: LedgerId,
    /// The meta revision that created it. Filled in by the store when the record is read.
    pub created: Revision,
    /// The bookies that hold it, Qw of them.
    pub ensemble: Vec<BookieId>,
    /// Its quorum.
    pub quorum: Quorum,
    /// How far it is.
    pub state: LedgerState,
    /// The bookies whose copy was found whole, each once. Empty while it is not closed.
    pub verified: Vec<Verified>,
    /// The copy that is on its way to another bookie.
    pub moving: Option<Assignment>,
}

impl LedgerRecord {
    /// Whether the bookie's copy was found whole, at this birth of the bookie.
    pub fn is_verified(&self, bookie: BookieId, born: Revision) -> bool {
        self.verified.contains(&Verified { bookie, born })
    }

    /// What a bookie says of its copy once it found it whole, having read this record before it looked.
    pub fn whole_copy(&self, bookie: BookieId) -> WholeCopy {
        let here = self.moving.filter(|assigned| assigned.to == bookie);
        WholeCopy {
            ledger: self.id,
            assignment: here.map(|assigned| assigned.number),
        }
    }
}

/// A ledger's place in its chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChainLink {
    /// Which ledger of the log.
    pub seq: LedgerSeq,
    /// The offset of its first message (of its first entry in a state log).
    pub first_offset: Offset,
    /// Its end, once it is closed.
    pub end: Option<LinkEnd>,
}

/// The end of a closed ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkEnd {
    /// Its last entry, none when it is empty.
    pub last: Option<EntryId>,
    /// The first offset after it.
    pub next_offset: Offset,
}

/// A log as the shard's record holds it. At most the last link is not closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Chain {
    /// Which log.
    pub log: LogId,
    /// The first ledger that is not trimmed, made or yet to be made: older ones are no more.
    pub first: LedgerSeq,
    /// The first offset that is not trimmed.
    pub first_offset: Offset,
    /// Its ledgers, oldest first.
    pub links: Vec<ChainLink>,
}

impl Chain {
    /// A log without ledgers: they are made on first need.
    pub const fn empty(log: LogId) -> Self {
        Self {
            log,
            first: LedgerSeq::new(0),
            first_offset: Offset::new(0),
            links: Vec::new(),
        }
    }

    /// The link that is not closed, if there is one.
    pub fn tail(&self) -> Option<&ChainLink> {
        self.links.last().filter(|link| link.end.is_none())
    }

    /// The ledger of the link that is not closed.
    pub fn tail_id(&self) -> Option<LedgerId> {
        self.tail().map(|link| LedgerId::new(self.log, link.seq))
    }

    /// The sequence number after its last ledger.
    pub fn next_seq(&self) -> LedgerSeq {
        self.links.last().map_or(self.first, |link| link.seq.next())
    }

    /// Drops its oldest ledgers, so many or as many as are closed, and tells which they were.
    pub fn trim(&mut self, count: usize) -> Vec<LedgerId> {
        let closed = self.links.iter().take_while(|link| link.end.is_some());
        let dropped = closed.count().min(count);
        let mut ledgers = Vec::with_capacity(dropped);
        for link in self.links.drain(..dropped) {
            self.first = link.seq.next();
            self.first_offset = link.end.map_or(self.first_offset, |end| end.next_offset);
            ledgers.push(LedgerId::new(self.log, link.seq));
        }
        ledgers
    }

    /// The first offset after all closed ledgers; `None` while a ledger is not closed.
    pub fn next_offset(&self) -> Option<Offset> {
        match self.links.last() {
            None => Some(self.first_offset),
            Some(link) => link.end.map(|end| end.next_offset),
        }
    }
}

/// What meta says of a log to those who hold some of its ledgers. A log that it does not name at all is no reason to
/// drop anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStanding {
    /// Its ledgers before this one are trimmed.
    Live {
        /// The first ledger that is not.
        first: LedgerSeq,
    },
    /// Its topic was deleted, and all its ledgers with it.
    Deleted,
}

/// The one record of a shard. Every change of either chain changes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShardRecord {
    /// Which shard.
    pub id: ShardId,
    /// The topic it belongs to.
    pub topic: TopicId,
    /// Its copies, from the topic when the shard was made; new ledgers use it.
    pub quorum: Quorum,
    /// The epoch of its owner; 0 before the first.
    pub epoch: Epoch,
    /// The session of its owner; none before the first and after a release.
    pub owner: Option<SessionId>,
    /// The owner's last command that committed, or the claim.
    pub last_command: Option<CommandId>,
    /// The log of messages.
    pub message: Chain,
    /// The log of state.
    pub state: Chain,
    /// Its topic was deleted: nobody owns it any more, and what its chains still name is swept away.
    pub is_deleted: bool,
}

impl ShardRecord {
    /// One of its two chains.
    pub const fn chain(&self, kind: LogKind) -> &Chain {
        match kind {
            LogKind::Message => &self.message,
            LogKind::State => &self.state,
        }
    }

    /// The sequence number of a log's next ledger: the one after its last, and above all that were given since the
    /// image that the metadata was last restored from.
    ///
    /// What a restore forgets may have made ledgers that bookies still hold. The upper half of the epoch counts
    /// restores, see [`EPOCHS_OF_RESTORE`]; each of them leaves [`LEDGERS_OF_RESTORE`] numbers out.
    pub fn next_seq(&self, kind: LogKind) -> LedgerSeq {
        self.chain(kind).next_seq().max(first_seq_at(self.epoch))
    }

    /// One of its two chains, to change.
    pub const fn chain_mut(&mut self, kind: LogKind) -> &mut Chain {
        match kind {
            LogKind::Message => &mut self.message,
            LogKind::State => &mut self.state,
        }
    }
}

/// A shard's record as read: with its version and the records of the ledgers that are not closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShardView {
    /// The record.
    pub record: ShardRecord,
    /// The revision that last changed it. An owner's command names the one it was planned on.
    pub version: Revision,
    /// The records of the tails, one for each log at most.
    pub tails: Vec<LedgerRecord>,
}

impl ShardView {
    /// The record of a log's tail.
    pub fn tail(&self, kind: LogKind) -> Option<&LedgerRecord> {
        let id = self.record.chain(kind).tail_id()?;
        self.tails.iter().find(|tail| tail.id == id)
    }
}

/// A claim of a shard by a session: new owner, epoch + 1, both tails to `Recovering`.
///
/// Allowed when the shard has no owner, its owner's session is gone (expired or ended), or it is the claimant's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Which shard.
    pub shard: ShardId,
    /// The claimant.
    pub session: SessionId,
    /// The id of this command.
    pub command: CommandId,
}

/// An owner's command on its shard's record, committed on exactly the version it names or answered with the record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShardCommand {
    /// Which shard.
    pub shard: ShardId,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// The id of this command.
    pub command: CommandId,
    /// The record's version that the owner planned on.
    pub planned_on: Revision,
    /// The change.
    pub change: ShardChange,
}

/// What an owner changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ShardChange {
    /// Closes the tails that recovery found the ends of, both in one transaction. Names every tail there is.
    CloseRecovered {
        /// The end of the message log's tail.
        message: Option<LinkEnd>,
        /// The end of the state log's tail.
        state: Option<LinkEnd>,
    },
    /// Closes the open ledger of a log at its LAC, appends a successor, or both in one transaction.
    Extend {
        /// Which log.
        log: LogKind,
        /// The end of the open ledger; none when the log has no open ledger.
        close: Option<LinkEnd>,
        /// The bookies of the successor; none to close only.
        successor: Option<Vec<BookieId>>,
    },
    /// Drops the oldest closed ledgers of a log, so that bookies may forget them. Nothing brings them back.
    Trim {
        /// Which log.
        log: LogKind,
        /// The first ledger that stays; with the number of the next one to be made, none stays.
        first: LedgerSeq,
    },
    /// Gives the shard up: the record has no owner, the next claim recovers whatever is open.
    Release,
}

/// The answer to a [`Claim`] or a [`ShardCommand`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ShardOutcome {
    /// Committed; the record as it is now.
    Committed(ShardView),
    /// Not committed; the record as it is. It may hold this very command's id: then an earlier try had landed.
    Conflict(ShardView),
}
