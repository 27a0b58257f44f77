//! What a shard's machine asks of its shell.

use std::time::Duration;

use compression::OpenError;
use types::batch::Body;
use types::chain::LogKind;
use types::topic::SubscriptionMode;
use types::{
    Generation, LedgerId, MonoTime, Offset, Payload, Problem, ProducerEpoch, SequenceId,
    SubscriptionId, SubscriptionName, WallTime,
};

use crate::{OffsetRange, Position, ProducerIdentity, ReadId, StreamId, Token};

/// One thing to do. Performed in order; safety never rests on that order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Give this entry to the owner of the ledgers.
    Append(Append),
    /// Tell a producer that it may publish.
    ProducerReady {
        /// Its stream.
        stream: StreamId,
        /// What it is told.
        ready: ProducerReady,
    },
    /// Tell a producer what became of a batch. In the order of the batches on the stream.
    Receipt {
        /// Its stream.
        stream: StreamId,
        /// What it is told.
        receipt: Receipt,
    },
    /// A subscription's first cursor is durable: meta may activate it.
    CursorDurable {
        /// The subscription.
        subscription: SubscriptionId,
        /// The cursor's generation.
        generation: Generation,
    },
    /// A subscription's first cursor cannot be made.
    CursorRefused {
        /// The subscription.
        subscription: SubscriptionId,
        /// Why.
        problem: Problem,
    },
    /// The answer to `FindFloor`.
    Floor {
        /// Every subscription has acked all messages below it, durably.
        offset: Offset,
        /// Up to which entry, inclusive, a later owner needs no header.
        covered: Option<Position>,
        /// The first ledger of the state log that a later owner needs; none while that is not known.
        state: Option<LedgerId>,
    },
    /// Tell a consumer that it is subscribed.
    ConsumerReady {
        /// Its stream.
        stream: StreamId,
        /// What it is told.
        ready: ConsumerReady,
    },
    /// Send messages of one entry to a consumer. Its permits are already taken.
    Deliver {
        /// Its stream.
        stream: StreamId,
        /// The messages.
        delivery: Delivery,
    },
    /// Answer an ack, a nack or an extension.
    AckResult {
        /// The consumer's stream.
        stream: StreamId,
        /// The answer.
        result: AckResult,
    },
    /// Tell a consumer how its subscription stands.
    Heartbeat {
        /// Its stream.
        stream: StreamId,
        /// How it stands.
        heartbeat: Heartbeat,
    },
    /// Refuse one request of a stream; the stream goes on.
    Refuse {
        /// The stream.
        stream: StreamId,
        /// Why.
        problem: Problem,
    },
    /// End a stream. The machine has already forgotten it; no `CloseStream` is needed (one does no harm).
    EndStream {
        /// The stream.
        stream: StreamId,
        /// Why.
        problem: Problem,
    },
    /// A stream that was to finish has nothing left to be answered: end it without an error.
    Finished {
        /// The stream.
        stream: StreamId,
    },
    /// A stored batch of which a part is wanted, or which a consumer cannot open itself, is not what its header says. Tell
    /// people: the subscription waits at it and tries again.
    Unreadable(Unreadable),
    /// Read confirmed entries of the message log, from the tail cache or the bookies. Answered with `EntriesRead` or
    /// `ReadFailed`; when the answer is lost, deliveries of the subscription stop, so it must not be.
    Read(ReadRequest),
}

/// An entry for one of the logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Append {
    /// Which log.
    pub log: LogKind,
    /// Comes back in `Appended`.
    pub token: Token,
    /// The bytes.
    pub payload: Payload,
    /// The first offset after it: of messages in the message log, of entries in the state log.
    pub next_offset: Offset,
}

/// What a producer is told when it may publish.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProducerReady {
    /// Who it is: name and epoch, or a number that ends with the stream.
    pub identity: ProducerIdentity,
    /// The last number stored; none: its numbers start at 0.
    pub last_sequence: Option<SequenceId>,
    /// What it may have in flight.
    pub limits: ProducerLimits,
}

impl ProducerReady {
    /// The epoch that fences older streams of the name; 0 without a name.
    pub fn epoch(&self) -> ProducerEpoch {
        match &self.identity {
            ProducerIdentity::Named { epoch, .. } => *epoch,
            ProducerIdentity::Unnamed { .. } => ProducerEpoch::new(0),
        }
    }
}

/// What a producer may have in flight: a batch counts from when it is sent until its receipt. These are its credits;
/// a receipt gives them back. One batch is always allowed, whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProducerLimits {
    /// Batches.
    pub batches: u32,
    /// Messages.
    pub messages: u64,
    /// Bytes of encoded batches.
    pub bytes: u64,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The number of its first message.
    pub first_sequence: SequenceId,
    /// How many messages it has.
    pub count: u32,
    /// Stored, or definitely refused: a refused batch consumed no numbers.
    pub outcome: Result<Stored, Problem>,
}

/// A stored batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stored {
    /// Stored now.
    New {
        /// The offset of its first message.
        first_offset: Offset,
        /// The entry that holds it.
        position: Position,
        /// When the owner numbered it.
        publish_time: WallTime,
    },
    /// A repeat of a batch that is stored once. The facts are the original's.
    Duplicate {
        /// The offset of its first message.
        first_offset: Offset,
        /// The entry that holds it.
        position: Position,
        /// When the owner numbered it.
        publish_time: WallTime,
    },
    /// All its messages are stored, but the batch is too old to know where, or was cut differently.
    DuplicateSomewhere,
}

/// What a consumer is told when it is subscribed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConsumerReady {
    /// How the subscription shares messages.
    pub mode: SubscriptionMode,
    /// How long this consumer's messages may stay unacked.
    pub ack_deadline: Duration,
    /// The cursor's generation: to be sent with every ack, nack and extension.
    pub generation: Generation,
    /// Everything below it is acked.
    pub cursor: Offset,
}

/// Messages of one entry for one consumer: offsets `first_offset` to `first_offset + count - 1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// Of which subscription.
    pub subscription: SubscriptionId,
    /// The cursor's generation.
    pub generation: Generation,
    /// The entry.
    pub position: Position,
    /// The offset of the first message.
    pub first_offset: Offset,
    /// How many messages.
    pub count: u32,
    /// The batch: the producer's own bytes, or the part of them that holds these messages. A part is never compressed.
    pub batch: Body,
    /// When the owner numbered the entry.
    pub publish_time: WallTime,
    /// The producer of the entry.
    pub producer: ProducerIdentity,
    /// The producer's number of the first message of this delivery.
    pub first_sequence: SequenceId,
    /// 1 the first time.
    pub attempt: u32,
    /// When the lease ends, on the owner's clock.
    pub lease_deadline: MonoTime,
    /// When the lease ends, for people.
    pub lease_expire_time: WallTime,
}

/// A part of a request that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RangeProblem {
    /// The messages; none for the whole request.
    pub range: Option<OffsetRange>,
    /// Why.
    pub problem: Problem,
}

/// The answer to an ack, a nack or an extension. What `problems` does not name was done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AckResult {
    /// The consumer's number of the request.
    pub request_id: u64,
    /// What was refused.
    pub problems: Vec<RangeProblem>,
    /// Whether the rest is durable: acks of a consumer that asked for confirmation.
    pub confirmed: bool,
}

/// How a consumer's subscription stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Heartbeat {
    /// Messages of the subscription not acked.
    pub backlog: u64,
    /// Why this consumer gets nothing just now.
    pub blocked: Option<BlockedReason>,
}

/// Why a consumer gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockedReason {
    /// There is nothing for it: all is acked, held by others, or waits for its time.
    NoMessages,
    /// Its permits are used up.
    NoPermits,
    /// It has too many messages unacked.
    UnackedLimit,
    /// The messages cannot be read just now, a stored batch is not what its header says, or the owner is not sure that it
    /// still is the owner.
    Storage,
}

/// A stored batch that a subscription waits at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unreadable {
    /// Which subscription.
    pub subscription: SubscriptionName,
    /// The entry that holds the batch.
    pub position: Position,
    /// Its messages.
    pub messages: OffsetRange,
    /// What is wrong.
    pub fault: BatchFault,
    /// The subscription has not told of it before, at this owner. Else it tried again.
    pub is_first: bool,
}

/// Why a stored batch cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BatchFault {
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is cut off, or is no batch.
    #[error("the batch does not hold the messages that its header counts")]
    Records,
}

/// A read of confirmed entries for one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReadRequest {
    /// For which subscription.
    pub subscription: SubscriptionId,
    /// Comes back in the answer.
    pub read: ReadId,
    /// The first entry wanted is the one that holds this offset.
    pub from: Offset,
    /// No entry that starts at or after it: the end of what is confirmed.
    pub end: Offset,
    /// Stop after so many bytes; the first entry comes whatever its size.
    pub max_bytes: u64,
    /// Stop after so many messages; the first entry comes whatever its count.
    pub max_messages: u64,
}
