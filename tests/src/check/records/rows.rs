//! The rows of the tables. Small and flat: a history has millions.

use super::names::Word;
use crate::history::{Start, SubscriptionType};

/// A time or offset that does not exist. Rows hold plain numbers, since an `Option` would double them.
pub(crate) const NONE: u64 = u64::MAX;

/// The messages of one writer on one partition.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) writer: Word,
    pub(crate) partition: u32,
    /// By number, where the numbers are dense, as they should be.
    pub(super) dense: Vec<u32>,
    /// Those far beyond: phantoms mostly.
    pub(super) far: std::collections::BTreeMap<u64, u32>,
}

/// One message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) stream: u32,
    /// The ordering key.
    pub(crate) key: Option<Word>,
    pub(crate) n: u64,
    pub(crate) hash: Option<u64>,
    /// The first attempt, or [`NONE`].
    pub(crate) first_send: u64,
    /// The first answer "stored", or [`NONE`].
    pub(crate) ok_at: u64,
    /// Not to be delivered before; 0 where it does not say.
    pub(crate) due: u64,
    pub(crate) sends: u32,
    pub(crate) oks: u32,
    pub(crate) fails: u32,
    pub(crate) infos: u32,
}

impl Message {
    pub(super) fn new(stream: u32, n: u64) -> Self {
        Self {
            stream,
            key: None,
            n,
            hash: None,
            first_send: NONE,
            ok_at: NONE,
            due: 0,
            sends: 0,
            oks: 0,
            fails: 0,
            infos: 0,
        }
    }

    /// Whether it was sent at all.
    pub(crate) fn is_real(&self) -> bool {
        self.sends > 0
    }

    /// Attempts without an outcome.
    pub(crate) fn pending(&self) -> u32 {
        self.sends
            .saturating_sub(self.oks + self.fails + self.infos)
    }
}

/// An offset that an ack named.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named {
    pub(crate) message: u32,
    pub(crate) offset: u64,
    /// Or [`NONE`].
    pub(crate) epoch: u64,
}

/// A subscription on one partition.
#[derive(Debug)]
pub(crate) struct Sub {
    pub(crate) name: Word,
    pub(crate) partition: u32,
    pub(crate) kind: SubscriptionType,
    pub(crate) start: Start,
    /// When its creation was answered.
    pub(crate) made_at: u64,
    /// Whether a `sub` line names it.
    pub(crate) is_declared: bool,
    /// Whether it was deleted: it need not get anything any more.
    pub(crate) is_deleted: bool,
    /// The event that says that it is drained.
    pub(crate) drained: Option<u64>,
    pub(crate) seeks: Vec<Moved>,
    /// Cumulative acks as invoked: time, and the end below which all is acked.
    pub(crate) cumulative: Vec<(u64, u64)>,
    /// Cumulative acks that were confirmed.
    pub(crate) cumulative_confirmed: Vec<(u64, u64)>,
}

impl Sub {
    pub(crate) fn is_ordered(&self) -> bool {
        self.is_declared && self.kind.is_ordered()
    }

    /// The end below which everything was acked by time `t`, 0 for nothing. Needs [`Records::settle`](super::Records).
    pub(crate) fn acked_below(list: &[(u64, u64)], t: u64) -> u64 {
        // Sorted by time, with running maximum of the ends.
        let upto = list.partition_point(|&(at, _)| at <= t);
        upto.checked_sub(1).map_or(0, |last| list[last].1)
    }
}

/// A seek.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) begun: u64,
    pub(crate) done: u64,
    pub(crate) to: u64,
}

/// One session of a consumer.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) consumer: Word,
    /// When the attach was invoked.
    pub(crate) opened_at: u64,
    /// The event that ended it: its `close`, or the `open` that takes its place.
    pub(crate) ended: Option<u64>,
}

/// One delivery of one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recv {
    pub(crate) t: u64,
    pub(crate) offset: u64,
    pub(crate) message: u32,
    pub(crate) session: u32,
    pub(crate) sub: u32,
    /// The `recv` line it came with.
    pub(crate) batch: u32,
    pub(crate) redelivered: bool,
}

/// One message acked, confirmed or handed back, by one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AckRow {
    pub(crate) sub: u32,
    pub(crate) message: u32,
    pub(crate) t: u64,
}

/// The first time that `sub` did it to `message`. The rows are sorted.
pub(crate) fn first_ack(rows: &[AckRow], sub: u32, message: u32) -> Option<u64> {
    let at = rows.partition_point(|row| (row.sub, row.message) < (sub, message));
    rows.get(at)
        .filter(|row| (row.sub, row.message) == (sub, message))
        .map(|row| row.t)
}

/// An answer to "what is the tail".
#[derive(Debug, Clone, Copy)]
pub(crate) struct TailRow {
    pub(crate) partition: u32,
    pub(crate) begun: u64,
    pub(crate) done: u64,
    /// The last message's offset plus one; 0 for an empty partition.
    pub(crate) next: u64,
}

/// A moment in the life of a partition's sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tick {
    pub(crate) t: u64,
    pub(crate) partition: u32,
    pub(crate) kind: TickKind,
}

/// What happened at a [`Tick`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TickKind {
    Send,
    Ok,
    Refused,
}

/// A message received from a partition it does not belong to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Astray {
    pub(crate) sub: u32,
    pub(crate) message: u32,
    pub(crate) offset: u64,
}
