//! What an owner says to bookies and hears from them.

use std::fmt;

use types::storage::{Add, AddResult, LacResult, Read, ReadLac, ReadResult, SetLac};
use types::{EntryId, LedgerId};

/// The caller's own name for an append; comes back when it is confirmed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// Makes it from a number of the caller's choosing.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// A request to one bookie. All but [`Request::SetLac`] are answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// Store an entry.
    Add(Add),
    /// Read an entry, fencing.
    Read(Read),
    /// Read the LAC, fencing.
    ReadLac(ReadLac),
    /// Take the LAC.
    SetLac(SetLac),
}

/// A bookie's answer, with what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// To [`Request::Add`].
    Added {
        /// The ledger.
        ledger: LedgerId,
        /// Which entry.
        entry: EntryId,
        /// What became of it.
        result: AddResult,
    },
    /// To [`Request::Read`].
    Read {
        /// The ledger.
        ledger: LedgerId,
        /// Which entry.
        entry: EntryId,
        /// What the bookie has.
        result: ReadResult,
    },
    /// To [`Request::ReadLac`].
    Lac {
        /// The ledger.
        ledger: LedgerId,
        /// What the bookie knows.
        result: LacResult,
    },
}

impl Answer {
    /// The ledger that was asked about.
    pub const fn ledger(&self) -> LedgerId {
        match self {
            Self::Added { ledger, .. } | Self::Read { ledger, .. } | Self::Lac { ledger, .. } => {
                *ledger
            }
        }
    }
}
