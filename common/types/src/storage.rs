//! What an owner says to a bookie, and what the bookie answers.

use bytes::Bytes;

use crate::{Crc32c, EntryId, Epoch, LedgerId, Offset, Payload, Revision, crc32c_of};

/// What a ledger stores under one number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its place in the ledger.
    pub id: EntryId,
    /// The first offset of the log after this entry.
    pub next_offset: Offset,
    /// Its bytes.
    pub payload: Payload,
    /// The checksum of all of the above and of the ledger's id; see [`Entry::checksum`].
    pub crc: Crc32c,
}

impl Entry {
    /// Most bytes of a payload: a batch of 8 MiB and its header.
    pub const MAX_PAYLOAD: usize = (8 << 20) + (64 << 10);

    /// Makes an entry of `ledger` and its checksum.
    pub fn new(ledger: LedgerId, id: EntryId, next_offset: Offset, payload: Payload) -> Self {
        let crc = Self::checksum(ledger, id, next_offset, &payload);
        Self {
            id,
            next_offset,
            payload,
            crc,
        }
    }

    /// The checksum of an entry. It covers the place as well as the bytes, so that an entry that strayed to another
    /// place never passes for the one that belongs there. The LAC is not under it: replicas stay byte-identical.
    pub fn checksum(
        ledger: LedgerId,
        id: EntryId,
        next_offset: Offset,
        payload: &Payload,
    ) -> Crc32c {
        let mut place = [0; 28];
        place[0..8].copy_from_slice(&ledger.log().get().to_le_bytes());
        place[8..12].copy_from_slice(&ledger.seq().get().to_le_bytes());
        place[12..20].copy_from_slice(&id.get().to_le_bytes());
        place[20..28].copy_from_slice(&next_offset.get().to_le_bytes());
        crc32c_of([&place[..], &payload.head()[..], &payload.body()[..]])
    }

    /// Whether the checksum matches, the entry being of `ledger`.
    pub fn is_intact(&self, ledger: LedgerId) -> bool {
        Self::checksum(ledger, self.id, self.next_offset, &self.payload) == self.crc
    }
}

/// On whose word an entry is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddKind {
    /// The writer of an open ledger.
    Write,
    /// The recovery of a ledger's tail, writing back what it found.
    Recovery,
    /// The repair of a closed ledger: skips the checks of epoch, sequence number and birth.
    Repair,
}

/// A request to store an entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Add {
    /// The ledger.
    pub ledger: LedgerId,
    /// The meta revision that created the ledger.
    pub created: Revision,
    /// The epoch of the shard's owner.
    pub epoch: Epoch,
    /// The highest entry known to be on Qa bookies; none before the first.
    pub lac: Option<EntryId>,
    /// On whose word.
    pub kind: AddKind,
    /// The entry.
    pub entry: Entry,
}

/// The answer to an [`Add`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddResult {
    /// It would survive a power loss.
    Stored,
    /// A newer owner exists: the caller's reign is over.
    Fenced {
        /// The epoch that fenced the log.
        by: Epoch,
    },
    /// This bookie takes no more of this ledger. The owner may well be alive.
    Sealed(SealedReason),
    /// Another payload is stored under this number. Must never happen; an alarm is raised.
    Mismatch,
    /// The bookie's byte budget is full. Try again later.
    Busy,
    /// The bookie takes no writes now: its disk is full or read-only.
    ReadOnly,
}

/// Why a bookie takes no more of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SealedReason {
    /// It saw an add to a successor, so this ledger is closed.
    SuccessorSeen,
    /// The ledger is older than the bookie's birth.
    OlderThanBirth,
    /// The ledger was trimmed or deleted.
    Dropped,
}

/// A request for one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Read {
    /// The ledger.
    pub ledger: LedgerId,
    /// The meta revision that created the ledger.
    pub created: Revision,
    /// Which entry.
    pub entry: EntryId,
    /// Fence the log with this epoch, before the look-up and durably before the answer. Only recovery does.
    pub fence: Option<Epoch>,
}

/// The answer to a [`Read`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReadResult {
    /// Here it is, its checksum verified by the bookie.
    Found {
        /// The entry.
        entry: Entry,
        /// The highest LAC the bookie has seen for the ledger.
        lac: Option<EntryId>,
    },
    /// This bookie never had it, and knows that it did not.
    NeverHad,
    /// It cannot say: damaged, unreadable, or older than its birth.
    Unknown,
    /// The log is fenced by a higher epoch than the request's.
    Fenced {
        /// The epoch that fenced the log.
        by: Epoch,
    },
    /// The bookie's budget for reads is full. Try again later.
    Busy,
}

/// A request for what the bookie knows of a ledger's LAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReadLac {
    /// The ledger.
    pub ledger: LedgerId,
    /// The meta revision that created the ledger.
    pub created: Revision,
    /// Fence the log with this epoch, durably before the answer.
    pub fence: Option<Epoch>,
}

/// The answer to a [`ReadLac`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LacResult {
    /// The highest LAC this bookie has seen; a lower bound.
    Lac(Option<EntryId>),
    /// The log is fenced by a higher epoch than the request's.
    Fenced {
        /// The epoch that fenced the log.
        by: Epoch,
    },
    /// The bookie's budget is full. Try again later.
    Busy,
}

/// The LAC on its own, sent by an idle writer. Not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SetLac {
    /// The ledger.
    pub ledger: LedgerId,
    /// The meta revision that created the ledger.
    pub created: Revision,
    /// The epoch of the shard's owner.
    pub epoch: Epoch,
    /// The highest entry known to be on Qa bookies.
    pub lac: EntryId,
}

/// A request for a run of entries, as a stream. For readers at or below the LAC or the closed end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReadRun {
    /// The ledger.
    pub ledger: LedgerId,
    /// The meta revision that created the ledger.
    pub created: Revision,
    /// The first entry.
    pub first: EntryId,
    /// The last entry wanted.
    pub last: EntryId,
    /// Most bytes of payloads; the first entry comes whatever its size.
    pub max_bytes: u64,
    /// Only so many first bytes of each payload: a reader of headers. The checksum is then only the bookie's to verify.
    pub payload_limit: Option<u32>,
}

/// One entry of a [`ReadRun`]'s answer. A run ends early, with the last item saying why, at the first entry that
/// cannot be given; the reader asks another bookie from there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RunItem {
    /// An entry, its payload whole.
    Entry(Entry),
    /// The first bytes of an entry.
    Prefix {
        /// Which entry.
        id: EntryId,
        /// The first offset after it.
        next_offset: Offset,
        /// The first bytes of its payload.
        prefix: Bytes,
    },
    /// The bookie never had the entry that comes next.
    NeverHad,
    /// The bookie cannot say.
    Unknown,
    /// The bookie's budget for reads is full.
    Busy,
}
