//! What happens to a shard, as its machine hears it.

use std::time::Duration;

use types::batch::{Body, Codecs};
use types::chain::LogKind;
use types::topic::{SubscriptionMode, SubscriptionRecord};
use types::{
    ConsumerName, Generation, LedgerId, Offset, Problem, ProducerName, SequenceId, SubscriptionId,
};

use crate::{OffsetRange, Position, ReadId, StoredEntry, StreamId, Token};

/// One thing that happened. Events about a stream that has ended are late and ignored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// A producer stream begins. Answered with `ProducerReady` or `EndStream`.
    OpenProducer(OpenProducer),
    /// A batch came on a producer stream. Answered with exactly one `Receipt`, or the stream ends.
    Publish(Publish),
    /// A unary publish: a producer stream for one batch, without a name. Answered with exactly one `Receipt`, or
    /// `EndStream` when the owner is over, which leaves the outcome unknown. The stream is gone afterwards.
    PublishOnce {
        /// The call.
        stream: StreamId,
        /// How many messages the batch has.
        count: u32,
        /// The batch, validated by the shell.
        body: Body,
    },
    /// A stream of either kind broke: nobody is there to be answered. A consumer's leases are released at once; a
    /// producer's batches in flight are stored all the same.
    CloseStream {
        /// The stream.
        stream: StreamId,
    },
    /// The client of a stream of either kind says that it is done. What is under way is answered, then comes
    /// `Finished`. A consumer's leases are released at once.
    FinishStream {
        /// The stream.
        stream: StreamId,
    },

    /// Meta has numbered a subscription: make its first cursor durable. May be repeated. Answered with
    /// `CursorDurable` or `CursorRefused`.
    CreateCursor {
        /// The subscription as meta has it.
        subscription: SubscriptionRecord,
    },
    /// A consumer stream begins. Answered with `ConsumerReady` or `EndStream`.
    OpenConsumer(OpenConsumer),
    /// A consumer grants more: both add to what it granted before.
    Permits {
        /// The consumer's stream.
        stream: StreamId,
        /// Messages.
        messages: i64,
        /// Bytes of encoded messages.
        bytes: i64,
    },
    /// A consumer is done with messages.
    Ack(Ack),
    /// A consumer gives messages back.
    Nack(Nack),
    /// A consumer needs more time.
    Extend(Extend),

    /// An append is on Qa bookies and the LAC covers it. In the order of the appends, per log.
    Appended {
        /// Which log.
        log: LogKind,
        /// Which append.
        token: Token,
        /// Where it ended up.
        position: Position,
    },
    /// The state log has a new open ledger: the next state entry starts with a snapshot. A hint only: the machine
    /// finds out by itself from the positions, one entry later.
    StateLedgerStarted {
        /// The new ledger.
        ledger: LedgerId,
    },
    /// The answer to a `Read`: entries in order, without a gap, the first one holding the offset asked for. None at
    /// all counts as a failed read.
    EntriesRead {
        /// Whose read.
        subscription: SubscriptionId,
        /// Which read.
        read: ReadId,
        /// The entries.
        entries: Vec<StoredEntry>,
    },
    /// A `Read` failed; it is asked again after a while.
    ReadFailed {
        /// Whose read.
        subscription: SubscriptionId,
        /// Which read.
        read: ReadId,
        /// Why.
        problem: Problem,
    },

    /// Meta has taken a subscription away: its consumers end, and it is forgotten.
    DropSubscription {
        /// Which one.
        subscription: SubscriptionId,
    },
    /// Below which offset does nobody need anything? Answered with `Floor`, once what it rests on is durable.
    FindFloor,
    /// A later owner would need the headers of old entries: write what saves it from reading them, with the next state
    /// entry, which comes now.
    Cover,
    /// The messages below this offset are about to be dropped: no new subscription begins there any more.
    Trimming {
        /// The first offset that stays; at most a `Floor` that was told.
        first_offset: Offset,
    },
    /// While a problem is set, new batches are refused with it; what was appended goes on waiting.
    HoldPublishing {
        /// The problem, none when publishing may go on.
        problem: Option<Problem>,
    },
    /// While held nothing is delivered: the owner's lease has lapsed, or an outcome of its own is unknown.
    HoldDelivery {
        /// Whether it is held.
        held: bool,
    },
    /// The owner is over. Every stream ends with the problem; later events are ignored.
    Over {
        /// What the clients are told.
        problem: Problem,
    },
    /// The time of [`Topic::deadline`](crate::Topic::deadline) has come. Harmless at any other time.
    Deadline,
}

/// A producer stream begins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OpenProducer {
    /// The stream.
    pub stream: StreamId,
    /// A name makes the producer's numbers outlive the stream.
    pub name: Option<ProducerName>,
    /// Refuse rather than start afresh when the name is not known.
    pub resume: bool,
}

/// A batch on a producer stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Publish {
    /// The stream.
    pub stream: StreamId,
    /// The number of the first message.
    pub first_sequence: SequenceId,
    /// How many messages the batch has.
    pub count: u32,
    /// The batch, validated by the shell.
    pub body: Body,
}

/// A consumer stream begins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OpenConsumer {
    /// The stream.
    pub stream: StreamId,
    /// Of which subscription. Its cursor must be durable.
    pub subscription: SubscriptionId,
    /// The mode the consumer expects; refused when the subscription has another. None takes what there is.
    pub mode: Option<SubscriptionMode>,
    /// The consumer's name, for people.
    pub name: Option<ConsumerName>,
    /// How long its messages may stay unacked; none for the subscription's own.
    pub ack_deadline: Option<Duration>,
    /// Whether each ack is answered once it is durable.
    pub confirm_acks: bool,
    /// The first grant, messages and bytes.
    pub permits: (i64, i64),
    /// Which compressed batches it opens itself. It gets others opened.
    pub codecs: Codecs,
}

/// Messages a consumer is done with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ack {
    /// The consumer's stream.
    pub stream: StreamId,
    /// The consumer's number for this request; 0 for no answer.
    pub request_id: u64,
    /// The cursor's generation, from the delivery.
    pub generation: Generation,
    /// Individual messages.
    pub ranges: Vec<OffsetRange>,
    /// Everything below it too. Exclusive subscriptions only.
    pub cumulative_end: Option<Offset>,
}

/// Messages a consumer gives back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Nack {
    /// The consumer's stream.
    pub stream: StreamId,
    /// The consumer's number for this request; 0 for no answer.
    pub request_id: u64,
    /// The cursor's generation, from the delivery.
    pub generation: Generation,
    /// The messages.
    pub ranges: Vec<OffsetRange>,
    /// How long they wait before they come again; none for not at all.
    pub delay: Option<Duration>,
}

/// Messages a consumer needs more time for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Extend {
    /// The consumer's stream.
    pub stream: StreamId,
    /// The consumer's number for this request; 0 for no answer.
    pub request_id: u64,
    /// The cursor's generation, from the delivery.
    pub generation: Generation,
    /// The messages.
    pub ranges: Vec<OffsetRange>,
    /// The new time from now on; none for the consumer's ack deadline.
    pub deadline: Option<Duration>,
}
