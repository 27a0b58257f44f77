//! Identifiers. Each is its own type with a private field, so that two numbers are never swapped by accident;
//! absence is an `Option`, never a special number.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($raw:ty), $shown:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name($raw);

        impl $name {
            /// Makes it from its number.
            pub const fn new(raw: $raw) -> Self {
                Self(raw)
            }

            /// Its number.
            pub const fn get(self) -> $raw {
                self.0
            }

            /// The one that follows.
            ///
            /// # Panics
            ///
            /// When the numbers are used up, which no running system reaches.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("numbers are never used up"))
            }

            /// The one before, or `None` for the first.
            #[must_use]
            pub const fn prev(self) -> Option<Self> {
                match self.0.checked_sub(1) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($shown, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($shown, "{}"), self.0)
            }
        }
    };
}

number! {
    /// A log: a chain of ledgers with one writer at a time. From one counter in meta, never reused.
    LogId(u64), ""
}
number! {
    /// The place of a ledger in its log: 0, 1, 2 …
    LedgerSeq(u32), ""
}
number! {
    /// The place of an entry in its ledger: 0, 1, 2 …
    EntryId(u64), "e"
}
number! {
    /// The reign of one owner of a shard. A new owner has a higher one, and fences the lower.
    Epoch(u64), ""
}
number! {
    /// A point in meta's history. Every committed change has a higher one than all before it.
    Revision(u64), "r"
}
number! {
    /// A storage node, numbered by meta when it registers for the first time.
    BookieId(u64), "b"
}
number! {
    /// A serving node or a bookie as meta counts them; a node keeps its number over restarts.
    NodeId(u64), "n"
}
number! {
    /// One process instance of a node, as meta knows it. A node's new instance ends its old one.
    SessionId(u64), "s"
}
number! {
    /// How often a bookie has started: raised and made durable before it answers anything.
    Incarnation(u64), ""
}
number! {
    /// One hash range of a topic's ordering keys.
    ShardId(u64), "shard-"
}
number! {
    /// A topic, numbered by meta and never reused.
    TopicId(u64), "topic-"
}
number! {
    /// A subscription, numbered by meta and never reused.
    SubscriptionId(u64), "sub-"
}
number! {
    /// The number of a message in its shard: dense and monotonic.
    Offset(u64), ""
}
number! {
    /// The number of a message in its producer's sequence: contiguous, from 0.
    SequenceId(u64), ""
}
number! {
    /// Which opening of a producer name this is. A newer one shuts out the older.
    ProducerEpoch(u64), ""
}
number! {
    /// The life of a cursor: raised when the cursor is moved by force, so that older acks are refused.
    Generation(u32), ""
}

impl Offset {
    /// The offset `count` messages further on.
    ///
    /// # Panics
    ///
    /// When offsets are used up, which no running system reaches.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(
            self.0
                .checked_add(count)
                .expect("offsets are never used up"),
        )
    }
}

impl SequenceId {
    /// The sequence number `count` messages further on, or `None` past the end of the numbers.
    #[must_use]
    pub const fn checked_plus(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }
}

/// A ledger: its log and its place in it. Written `17/0`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerId {
    log: LogId,
    seq: LedgerSeq,
}

impl LedgerId {
    /// The ledger at `seq` of `log`.
    pub const fn new(log: LogId, seq: LedgerSeq) -> Self {
        Self { log, seq }
    }

    /// The log it belongs to.
    pub const fn log(self) -> LogId {
        self.log
    }

    /// Its place in the log.
    pub const fn seq(self) -> LedgerSeq {
        self.seq
    }
}

impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.log, self.seq)
    }
}

impl fmt::Debug for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.log, self.seq)
    }
}

macro_rules! uuid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// Makes it from 128 bits, random ones where it is made anew.
            pub const fn new(raw: u128) -> Self {
                Self(raw)
            }

            /// Its bits.
            pub const fn get(self) -> u128 {
                self.0
            }

            /// Its sixteen bytes, most significant first.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// Reads the sixteen bytes of [`Self::to_bytes`]; `None` for any other length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Some(Self(u128::from_be_bytes(bytes.try_into().ok()?)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
    };
}

uuid! {
    /// A whole cluster. Every data directory carries it, so that a disk of another cluster is refused.
    ClusterId
}
uuid! {
    /// One command of an owner on its shard's record. Kept in the record, so that a lost answer can be settled.
    CommandId
}
