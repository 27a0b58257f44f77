//! What happens to a shard, and what it wants done.

use std::sync::Arc;

use ledger::{Candidate, Outcome, Over, Stuck};
use topic::{
    Ack, AckResult, ConsumerReady, Delivery, Extend, Heartbeat, Nack, OpenConsumer, OpenProducer,
    ProducerReady, Publish, Receipt, StreamId,
};
use types::batch::Body;
use types::chain::{Claim, LogKind, ShardCommand};
use types::command::{Answer, Query};
use types::storage::{ReadRun, RunItem};
use types::topic::SubscriptionRecord;
use types::{
    BookieId, CommandId, EntryId, Epoch, Generation, LedgerId, LedgerSeq, Offset, Problem,
    SubscriptionId,
};

/// Names one query to meta until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub(super) u64);

impl QueryId {
    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What happens to a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardEvent {
    /// Begin: claim the shard, recover both logs, replay them, serve.
    Open,
    /// A client asks for something. Before the shard serves it waits, bounded in number and time.
    Request(Request),
    /// The registered bookies as they stand now; replaces what was told before.
    Candidates(Arc<[Candidate]>),
    /// A bookie answered a [`ShardEffect::Send`].
    Answer {
        /// Which bookie.
        bookie: BookieId,
        /// What.
        answer: ledger::Answer,
    },
    /// Items of the answer to a [`ShardEffect::Run`].
    Run {
        /// Which run.
        tag: u64,
        /// The items, in order.
        items: Vec<RunItem>,
        /// Whether nothing more comes: the run is at its end, or the bookie failed. Told once for every run.
        is_last: bool,
    },
    /// A connection to a bookie stands: anew, or for the first time.
    Connected(BookieId),
    /// The connection to a bookie broke, or could not be made. Requests on it may be lost, answers too.
    Lost(BookieId),
    /// Meta answered a [`ShardEffect::Claim`] or [`ShardEffect::Command`]: one event for each time it was asked.
    Outcome {
        /// Which.
        command: CommandId,
        /// What it said; [`Outcome::Unknown`] when in doubt.
        outcome: Outcome,
    },
    /// Meta answered a [`ShardEffect::Query`], or did not: one event for each query.
    Queried {
        /// Which.
        query: QueryId,
        /// What it said.
        result: Result<Answer, Problem>,
    },
    /// A watch told that the shard's record changed, or that changes may have been missed.
    RecordChanged,
    /// Whether this node is certain that its session is live: its own lease clock, which ends before meta's.
    LeaseCertain(bool),
    /// Give the shard up: admit nothing, confirm what was appended, close both logs. Over at [`ShardEffect::Over`].
    Release,
    /// The same, but stay the owner in meta's record: the topic is about to be deleted.
    Retire,
    /// The time that [`Shard::deadline`](super::Shard::deadline) named has come.
    Deadline,
}

/// What a client asks of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A producer stream begins. Answered with [`Told::ProducerReady`] or [`Told::Ended`].
    OpenProducer(OpenProducer),
    /// A batch on a producer stream, validated. Answered with one [`Told::Receipt`], or the stream ends.
    Publish(Publish),
    /// One batch without a producer, validated. Answered with one [`Told::Receipt`], or with [`Told::Ended`], which leaves
    /// the outcome unknown. The stream is gone afterwards.
    PublishOnce {
        /// The call.
        stream: StreamId,
        /// How many messages the batch has.
        count: u32,
        /// The encoded batch.
        body: Body,
    },
    /// A stream of either kind ended, by its client's word or because its connection broke. Not answered.
    CloseStream(StreamId),
    /// A client sends nothing more and waits for what is in flight. Answered with [`Told::Finished`] behind the last
    /// receipt or result.
    FinishStream(StreamId),
    /// Meta has numbered a subscription: make its first cursor durable. Answered with [`ShardEffect::CursorDurable`] or
    /// [`ShardEffect::CursorRefused`].
    CreateCursor(SubscriptionRecord),
    /// Meta has taken a subscription away. Not answered: its consumers end.
    DropSubscription(SubscriptionId),
    /// A consumer stream begins. Answered with [`Told::ConsumerReady`] or [`Told::Ended`].
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
}

impl Request {
    /// The stream it belongs to; none for a cursor.
    pub const fn stream(&self) -> Option<StreamId> {
        match self {
            Self::OpenProducer(open) => Some(open.stream),
            Self::Publish(publish) => Some(publish.stream),
            Self::PublishOnce { stream, .. }
            | Self::CloseStream(stream)
            | Self::FinishStream(stream)
            | Self::Permits { stream, .. } => Some(*stream),
            Self::CreateCursor(_) | Self::DropSubscription(_) => None,
            Self::OpenConsumer(open) => Some(open.stream),
            Self::Ack(ack) => Some(ack.stream),
            Self::Nack(nack) => Some(nack.stream),
            Self::Extend(extend) => Some(extend.stream),
        }
    }
}

impl From<Request> for topic::Event {
    fn from(request: Request) -> Self {
        match request {
            Request::OpenProducer(open) => Self::OpenProducer(open),
            Request::Publish(publish) => Self::Publish(publish),
            Request::PublishOnce {
                stream,
                count,
                body,
            } => Self::PublishOnce {
                stream,
                count,
                body,
            },
            Request::CloseStream(stream) => Self::CloseStream { stream },
            Request::FinishStream(stream) => Self::FinishStream { stream },
            Request::CreateCursor(subscription) => Self::CreateCursor { subscription },
            Request::DropSubscription(subscription) => Self::DropSubscription { subscription },
            Request::OpenConsumer(open) => Self::OpenConsumer(open),
            Request::Permits {
                stream,
                messages,
                bytes,
            } => Self::Permits {
                stream,
                messages,
                bytes,
            },
            Request::Ack(ack) => Self::Ack(ack),
            Request::Nack(nack) => Self::Nack(nack),
            Request::Extend(extend) => Self::Extend(extend),
        }
    }
}

/// What a shard wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardEffect {
    /// Send a request to a bookie. Requests to one bookie keep their order or are dropped with the connection.
    Send {
        /// Which bookie.
        bookie: BookieId,
        /// What to send.
        request: ledger::Request,
    },
    /// Ask a bookie for a run of entries. Answered with [`ShardEvent::Run`]s, the last of them marked.
    Run {
        /// Comes back with the answer.
        tag: u64,
        /// Which bookie.
        bookie: BookieId,
        /// What to read.
        run: ReadRun,
    },
    /// Ask meta for the shard.
    Claim(Claim),
    /// Ask meta for a change of the shard's record.
    Command(ShardCommand),
    /// Read something from meta.
    Query {
        /// Comes back with the answer.
        id: QueryId,
        /// What to read.
        query: Query,
    },
    /// Tell a client's stream something.
    Tell {
        /// The stream.
        stream: StreamId,
        /// What.
        told: Told,
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
    /// The shard serves from now on. For people.
    Opened {
        /// The owner's epoch.
        epoch: Epoch,
        /// What was odd about the logs.
        notes: topic::OpeningNotes,
    },
    /// Something is waited for longer than usual, and is tried again. For people and metrics.
    Stuck(Stuck),
    /// A bookie holds other bytes under a number of this ledger. Must never happen: raise the alarm.
    Mismatch {
        /// The bookie.
        bookie: BookieId,
        /// The ledger.
        ledger: LedgerId,
        /// The entry.
        entry: EntryId,
    },
    /// A subscription waits at a stored batch that is not what its header says, and tries again. For people and metrics.
    Unreadable(topic::Unreadable),
    /// The oldest ledgers of a log are dropped: what is below the offset is no more.
    Trimmed {
        /// Which log.
        log: LogKind,
        /// The first ledger there is now, made or yet to be made.
        first: LedgerSeq,
        /// The first offset there is now.
        first_offset: Offset,
    },
    /// This shard is over: every stream was told, nothing more comes. To serve it again, make a new one.
    Over(Ended),
}

/// Why a shard is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The owner ended: fenced, deposed, refused, or released as it was told.
    Owner(Over),
    /// What the logs hold cannot be served by this program.
    Unusable(Problem),
}

/// What a stream is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The producer may publish.
    ProducerReady(ProducerReady),
    /// What became of a batch; in the order of the batches on the stream.
    Receipt(Receipt),
    /// The consumer is subscribed.
    ConsumerReady(ConsumerReady),
    /// Messages of one entry. The consumer's permits are already taken.
    Delivery(Delivery),
    /// The answer to an ack, a nack or an extension.
    AckResult(AckResult),
    /// How the consumer's subscription stands.
    Heartbeat(Heartbeat),
    /// One request is refused; the stream goes on.
    Refused(Problem),
    /// A stream that was to finish has nothing left to be answered: it is over, without an error.
    Finished,
    /// The stream is over.
    Ended(Problem),
}
