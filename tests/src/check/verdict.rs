//! The checks by name, and the verdict.

use std::fmt;

use crate::history::Guarantees;

/// What the judge says of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every promise held, and enough happened to tell.
    Valid,
    /// A promise was broken.
    Violated,
    /// Nothing was found broken, but too little happened, or was written down, to prove anything.
    Inconclusive,
}

impl Verdict {
    /// The exit code of a program that judges: 0 valid, 1 violated, 2 inconclusive.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::Violated => 1,
            Self::Inconclusive => 2,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "valid",
            Self::Violated => "violated",
            Self::Inconclusive => "inconclusive",
        })
    }
}

/// What becomes of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// It condemns the run.
    Violation,
    /// The run does not promise it: it is counted.
    Allowed,
    /// It says that the run proves nothing.
    Doubt,
}

/// Which promise a check belongs to.
enum Promise {
    Always,
    If(fn(&Guarantees) -> bool),
    Doubt,
}

macro_rules! checks {
    ($($(#[$doc:meta])* $check:ident = $name:literal, $promise:expr;)*) => {
        /// A check, by the name of what it finds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check {
            $($(#[$doc])* $check,)*
        }

        impl Check {
            /// All checks.
            pub const ALL: &'static [Self] = &[$(Self::$check,)*];

            /// Its name in reports: `lost_acked`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$check => $name,)*
                }
            }

            fn promise(self) -> Promise {
                match self {
                    $(Self::$check => $promise,)*
                }
            }
        }
    };
}

checks! {
    /// An acked message that a subscription was entitled to and never got.
    LostAcked = "lost_acked", Promise::Always;
    /// The same of a message that was never acked, but that some consumer saw.
    LostVisible = "lost_visible", Promise::Always;
    /// Delivered, never acked, its consumers gone, and never delivered again.
    LostUnacked = "lost_unacked", Promise::Always;
    /// Received without ever having been sent.
    Phantom = "phantom", Promise::Always;
    /// Received although every attempt to send it was refused.
    AbortedRead = "aborted_read", Promise::Always;
    /// Received with another content than was sent, or unreadable.
    Corrupt = "corrupt", Promise::Always;
    /// Received from another partition than it was sent to.
    Misrouted = "misrouted", Promise::Always;
    /// Two messages at one offset.
    InconsistentOffset = "inconsistent_offset", Promise::Always;
    /// One message at two offsets.
    Duplicate = "duplicate", Promise::If(|g| g.dedup);
    /// An ack named an offset at which no consumer saw the message, who saw it elsewhere.
    AckOffsetMismatch = "ack_offset_mismatch", Promise::Always;
    /// Two messages of one writer lie in the wrong order.
    ProducerOrder = "producer_order", Promise::If(|g| g.producer_order);
    /// Acked before the other was sent, yet behind it in the log.
    RealtimeOrder = "realtime_order", Promise::If(|g| g.linearizable);
    /// The epoch falls along the log.
    EpochRegression = "epoch_regression", Promise::Always;
    /// An offset that belongs to no message.
    OffsetGap = "offset_gap", Promise::If(|g| g.dense);
    /// Received before it was sent.
    TimeTravel = "time_travel", Promise::If(|g| g.shared_clock);
    /// An ordered session went back, from one answer to the next.
    Nonmonotonic = "nonmonotonic", Promise::Always;
    /// The same inside one answer.
    IntNonmonotonic = "int_nonmonotonic", Promise::Always;
    /// An ordered session got the same offset twice, and was not told.
    DupInSession = "dup_in_session", Promise::Always;
    /// An ordered session left a message out, from one answer to the next.
    Skip = "skip", Promise::Always;
    /// The same inside one answer.
    IntSkip = "int_skip", Promise::Always;
    /// The first deliveries of one key are out of order on a key-shared subscription.
    KeyOrder = "key_order", Promise::Always;
    /// Delivered to a session that began after its ack was confirmed.
    AckedRedelivery = "acked_redelivery", Promise::If(|g| g.durable_ack);
    /// Acked or received although it was begun after the topic's deletion was answered.
    AfterDeletion = "after_deletion", Promise::If(|g| g.shared_clock);
    /// Delivered before it was due.
    EarlyDelivery = "early_delivery", Promise::Always;
    /// Delivered to a subscription whose filter excludes it.
    FilterLeak = "filter_leak", Promise::Always;
    /// The tail lies before what was acked earlier.
    StaleTail = "stale_tail", Promise::If(|g| g.linearizable);
    /// The tail went back.
    NonmonotonicTail = "nonmonotonic_tail", Promise::If(|g| g.linearizable);
    /// The tail names a message that was sent later.
    FutureTail = "future_tail", Promise::If(|g| g.linearizable);
    /// A subscription that was not drained in the end.
    Undrained = "undrained", Promise::Always;
    /// A send without an outcome.
    HungOp = "hung_op", Promise::Always;
    /// Sends were pending and nothing was acked for too long.
    SlowRecovery = "slow_recovery", Promise::Always;
    /// Nothing was acked.
    NoAcks = "no_acks", Promise::Doubt;
    /// Acked messages whose loss nobody would have noticed.
    Unverified = "unverified", Promise::Doubt;
    /// The history has no end.
    Truncated = "truncated", Promise::Doubt;
    /// Lines that are no events, or events that contradict the format.
    BadLine = "bad_line", Promise::Doubt;
    /// Faults were promised and none was made.
    NoFaults = "no_faults", Promise::Doubt;
}

impl Check {
    pub(super) fn weight(self, promises: &Guarantees) -> Weight {
        match self.promise() {
            Promise::Always => Weight::Violation,
            Promise::If(promised) if promised(promises) => Weight::Violation,
            Promise::If(_) => Weight::Allowed,
            Promise::Doubt => Weight::Doubt,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
