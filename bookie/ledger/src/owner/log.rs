//! One of the owner's two logs: its tail, and the appends that have no place in a ledger yet.

use std::collections::VecDeque;

use types::chain::{LinkEnd, LogKind};
use types::{LedgerId, LedgerSeq, MonoTime};

use crate::config::Config;
use crate::recovery::Recovery;
use crate::retry::{Retry, earlier};
use crate::writer::{Queued, Turn, Writer};

/// How the last ledger of a log stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Tail {
    /// There is none that is not closed: the next append needs one.
    None,
    /// Its end is being found.
    Recovering(Box<Recovery>),
    /// Its end is found and not committed yet.
    Recovered(LedgerId, LinkEnd),
    /// It is written.
    Open(Box<Writer>),
}

/// One log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Log {
    pub(super) kind: LogKind,
    pub(super) tail: Tail,
    pub(super) queue: VecDeque<Queued>,
    queue_bytes: u64,
    /// The open ledger is to be closed after its last entry: nothing is numbered in it any more.
    pub(super) is_rolling: bool,
    /// When the last ledger was sealed for a bookie's sake.
    pub(super) sealed_at: Option<MonoTime>,
    /// Ledgers before this one are to be dropped.
    pub(super) trim_to: Option<LedgerSeq>,
    /// Armed while too few bookies can take a new ledger.
    pub(super) shortage: Retry,
}

impl Log {
    pub(super) const fn new(kind: LogKind, config: &Config) -> Self {
        Self {
            kind,
            tail: Tail::None,
            queue: VecDeque::new(),
            queue_bytes: 0,
            is_rolling: false,
            sealed_at: None,
            trim_to: None,
            shortage: Retry::idle(config.retry_after),
        }
    }

    /// The writer of the open ledger.
    pub(super) fn writer(&self) -> Option<&Writer> {
        match &self.tail {
            Tail::Open(writer) => Some(writer),
            Tail::None | Tail::Recovering(_) | Tail::Recovered(..) => None,
        }
    }

    /// The writer of the open ledger, to change.
    pub(super) fn writer_mut(&mut self) -> Option<&mut Writer> {
        match &mut self.tail {
            Tail::Open(writer) => Some(writer),
            Tail::None | Tail::Recovering(_) | Tail::Recovered(..) => None,
        }
    }

    /// Bytes that were appended and are not confirmed.
    pub(super) fn queued_bytes(&self) -> u64 {
        self.queue_bytes + self.writer().map_or(0, Writer::pending_bytes)
    }

    /// Ledgers before this one are needed by nobody.
    pub(super) fn wants_first(&mut self, first: LedgerSeq) {
        self.trim_to = self.trim_to.max(Some(first));
    }

    /// Whether anybody waits for a confirmation.
    pub(super) fn is_wanted(&self) -> bool {
        !self.queue.is_empty() || self.writer().is_some_and(|writer| !writer.is_drained())
    }

    /// Puts an append behind all others.
    pub(super) fn push(&mut self, queued: Queued) {
        self.queue_bytes += len(&queued);
        self.queue.push_back(queued);
    }

    /// Puts what a closed ledger did not confirm before all others, in its order (R5, I17).
    pub(super) fn push_front(&mut self, unconfirmed: impl DoubleEndedIterator<Item = Queued>) {
        for queued in unconfirmed.rev() {
            self.queue_bytes += len(&queued);
            self.queue.push_front(queued);
        }
    }

    /// Numbers what waits, when the open ledger takes it; beyond its limits only when it cannot be rolled.
    pub(super) fn flush(&mut self, turn: &mut Turn<'_>, may_overfill: bool) {
        let Tail::Open(writer) = &mut self.tail else {
            return;
        };
        if self.is_rolling || writer.is_frozen() {
            return;
        }
        while may_overfill || !writer.is_full(turn.config) {
            let Some(queued) = self.queue.pop_front() else {
                break;
            };
            self.queue_bytes -= len(&queued);
            writer.append(turn, queued);
        }
    }

    /// When something is due.
    pub(super) fn deadline(&self, config: &Config) -> Option<MonoTime> {
        let tail = match &self.tail {
            Tail::None | Tail::Recovered(..) => None,
            Tail::Recovering(recovery) => recovery.deadline(),
            Tail::Open(writer) => writer.deadline(config),
        };
        earlier(tail, self.shortage.at())
    }
}

fn len(queued: &Queued) -> u64 {
    u64::try_from(queued.payload.len()).expect("lengths fit 64 bits")
}
