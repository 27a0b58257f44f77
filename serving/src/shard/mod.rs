//! One shard, served: the sans-IO composition in [`core`], its task, and the handle that the services speak to.
//!
//! [`ShardHandle::start`] claims the shard, recovers it and serves it until it is over: released, or taken by another
//! node. It never comes back from that; to serve the shard again, start a new one.
#![doc = ""]
#![doc = include_str!("DESIGN.md")]

pub mod core;

mod inbox;
mod session;
mod streams;
mod task;

pub use core::{Ended, ShardConfig, ShardConfigError, ShardSetup, Status, Told};
pub use session::Outputs;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use bookie_client::BookiePool;
use host::metrics::Counter;
use host::{Clock, Host};
use topic::{
    Ack, ConsumerReady, Extend, Nack, OffsetRange, OpenConsumer, OpenProducer, ProducerReady,
    Publish, Receipt, Stored, StreamId, TopicStats,
};
use types::batch::{Body, Codecs};
use types::topic::{SubscriptionMode, SubscriptionRecord};
use types::{
    ConsumerName, Epoch, Generation, MonoTime, Offset, Problem, ProducerName, Reason, SequenceId,
    SubscriptionId, TopicName,
};

use crate::budget::Budget;
use crate::metrics::Metrics;
use crate::tail_memory::TailMemory;
use core::{Request, ShardEvent};
use inbox::{Came, Inbox, Message};
use session::channel;
use streams::{Batch, Slot, Streams};

/// What the shards of a node work with.
#[derive(Debug)]
pub struct ShardParts {
    /// The node's connections to the bookies.
    pub pool: BookiePool,
    /// The node's connection to meta.
    pub meta: meta_client::MetaClient,
    /// The node's memory for messages.
    pub budget: Budget,
    /// The node's memory for the newest entries of its topics.
    pub tails: TailMemory,
    /// The node's session: whether it is certain to be live.
    pub lease: meta_client::Session,
    /// The node's numbers.
    pub metrics: Arc<Metrics>,
}

/// A served shard. Clones are the same shard.
#[derive(Clone)]
pub struct ShardHandle {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: Arc<Inbox>,
    budget: Budget,
    clock: Clock,
    topic: TopicName,
    since: MonoTime,
    work: Arc<Counter>,
    next_stream: AtomicU64,
}

/// A consumer to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// Of which subscription. Its cursor must be durable: [`ShardHandle::create_cursor`].
    pub subscription: SubscriptionId,
    /// The mode the consumer expects; none takes what there is.
    pub mode: Option<SubscriptionMode>,
    /// Its name, for people.
    pub name: Option<ConsumerName>,
    /// How long its messages may stay unacked; none for the subscription's own.
    pub ack_deadline: Option<Duration>,
    /// Whether each ack is answered once it is durable.
    pub confirm_acks: bool,
    /// The first grant: messages, and bytes of encoded messages.
    pub permits: (i64, i64),
    /// Which compressed batches it opens itself. It gets others opened.
    pub codecs: Codecs,
}

/// An open producer stream. It ends when `outputs` is dropped.
#[derive(Debug)]
pub struct Producer {
    /// What the producer is told first.
    pub ready: ProducerReady,
    /// Where its batches go.
    pub input: ProducerInput,
    /// Where receipts come from: [`Told::Receipt`], [`Told::Ended`].
    pub outputs: Outputs,
}

/// An open consumer stream. It ends when `outputs` is dropped.
#[derive(Debug)]
pub struct Consumer {
    /// What the consumer is told first.
    pub ready: ConsumerReady,
    /// Where its permits and acks go.
    pub input: ConsumerInput,
    /// Where deliveries and answers come from.
    pub outputs: Outputs,
}

/// The way of a producer's batches into the shard. Clones are the same stream.
#[derive(Debug, Clone)]
pub struct ProducerInput {
    shard: ShardHandle,
    stream: StreamId,
}

/// The way of a consumer's permits and acks into the shard. Clones are the same stream.
#[derive(Debug, Clone)]
pub struct ConsumerInput {
    shard: ShardHandle,
    stream: StreamId,
}

impl ShardHandle {
    /// Begins to serve a shard.
    pub fn start(host: &Host, setup: ShardSetup, parts: Arc<ShardParts>) -> Self {
        let budget = parts.budget.clone();
        let (topic, since) = (setup.topic.clone(), host.clock.now());
        let work = Arc::<Counter>::default();
        let streams = Streams::new(Arc::clone(&parts.metrics), Arc::clone(&work));
        let inbox = task::start(host, setup, parts, streams);
        let shared = Shared {
            inbox,
            budget,
            clock: host.clock.clone(),
            topic,
            since,
            work,
            next_stream: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Its topic.
    pub fn topic(&self) -> &TopicName {
        &self.shared.topic
    }

    /// When it began to be served here.
    pub fn since(&self) -> MonoTime {
        self.shared.since
    }

    /// What it has done for its clients: bytes in and out, and a kilobyte for each message.
    pub fn work(&self) -> u64 {
        self.shared.work.get()
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        self.shared.inbox.status()
    }

    /// Waits until it serves.
    ///
    /// # Errors
    ///
    /// What clients are told when it is over instead.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn opened(&self) -> Result<Epoch, Problem> {
        let found = |status: &Status| match status {
            Status::Serving { epoch } => Some(Ok(*epoch)),
            Status::Over(_) | Status::Releasing => Some(Err(task::problem_of(status))),
            Status::Opening { .. } => None,
        };
        self.shared.inbox.until(found).await
    }

    /// Waits until it is over, and says why.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn over(&self) -> Problem {
        let found = |status: &Status| match status {
            Status::Over(problem) => Some(Problem::clone(problem)),
            _ => None,
        };
        self.shared.inbox.until(found).await
    }

    /// Opens a producer stream. While the shard is being opened this waits, as long as its configuration says.
    ///
    /// # Errors
    ///
    /// Why not, for the client: `PRODUCER_UNKNOWN`, `SHARD_OPENING`, `NOT_OWNER`, a limit.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the stream.
    pub async fn open_producer(
        &self,
        name: Option<ProducerName>,
        resume: bool,
    ) -> Result<Producer, Problem> {
        let stream = self.next_stream();
        let open = OpenProducer {
            stream,
            name,
            resume,
        };
        let (first, outputs) = self.open(Request::OpenProducer(open)).await?;
        let Told::ProducerReady(ready) = first else {
            return Err(self.odd_answer());
        };
        let input = ProducerInput {
            shard: self.clone(),
            stream,
        };
        Ok(Producer {
            ready,
            input,
            outputs,
        })
    }

    /// Opens a consumer stream. While the shard is being opened this waits, as long as its configuration says.
    ///
    /// # Errors
    ///
    /// Why not, for the client: `EXCLUSIVE_HELD`, `WRONG_MODE`, `SUBSCRIPTION_NOT_FOUND` (its cursor is not durable),
    /// `SHARD_OPENING`, `NOT_OWNER`, a limit.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the stream.
    pub async fn open_consumer(&self, options: ConsumerOptions) -> Result<Consumer, Problem> {
        let stream = self.next_stream();
        let open = OpenConsumer {
            stream,
            subscription: options.subscription,
            mode: options.mode,
            name: options.name,
            ack_deadline: options.ack_deadline,
            confirm_acks: options.confirm_acks,
            permits: options.permits,
            codecs: options.codecs,
        };
        let (first, outputs) = self.open(Request::OpenConsumer(open)).await?;
        let Told::ConsumerReady(ready) = first else {
            return Err(self.odd_answer());
        };
        let input = ConsumerInput {
            shard: self.clone(),
            stream,
        };
        Ok(Consumer {
            ready,
            input,
            outputs,
        })
    }

    /// Publishes one validated batch without a producer stream: at least once.
    ///
    /// # Errors
    ///
    /// `OUTCOME_UNKNOWN`: it may be stored. Anything else: it is not.
    ///
    /// # Cancel safety
    ///
    /// Dropping it does not undo the publishing.
    pub async fn publish(&self, count: u32, body: Body) -> Result<Stored, Problem> {
        let batch = self.take_in(&body)?;
        let stream = self.next_stream();
        let request = Request::PublishOnce {
            stream,
            count,
            body,
        };
        let (inlet, mut outputs) = channel(stream, &self.shared.inbox);
        self.send(Message::Open {
            request,
            inlet,
            slot: Some(Slot::Taken(batch)),
        })
        .await?;
        let mut told = Vec::new();
        outputs.next(&mut told).await;
        match told.into_iter().next() {
            Some(Told::Receipt(receipt)) => receipt.outcome,
            Some(Told::Ended(problem) | Told::Refused(problem)) => {
                Err(outcome_unknown(&problem.message))
            }
            _ => Err(outcome_unknown("the shard's task ended")),
        }
    }

    /// Makes the first cursor of a subscription that meta has numbered durable; then meta may activate it. May be
    /// repeated.
    ///
    /// # Errors
    ///
    /// Why not; `OUTCOME_UNKNOWN` when it may have been made: repeat it.
    pub async fn create_cursor(
        &self,
        subscription: SubscriptionRecord,
    ) -> Result<Generation, Problem> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::CreateCursor {
            subscription: Box::new(subscription),
            reply,
        })
        .await?;
        let lost = || outcome_unknown("the shard's task ended");
        answer.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Forgets a subscription that meta has taken away: its consumers end. A shard that opens forgets it too.
    ///
    /// # Errors
    ///
    /// `STOPPING` or `NOT_OWNER`: the shard is not served here any more, and its next owner does not know it.
    pub async fn drop_subscription(&self, subscription: SubscriptionId) -> Result<(), Problem> {
        self.send(Message::DropSubscription(subscription)).await
    }

    /// How the topic stands.
    ///
    /// # Errors
    ///
    /// `SHARD_OPENING` or `NOT_OWNER`: it is not served here now.
    pub async fn stats(&self) -> Result<TopicStats, Problem> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Stats(reply)).await?;
        let stats = answer.await.map_err(|_| self.problem())?;
        stats.ok_or_else(|| self.problem())
    }

    /// Gives the shard up: admits nothing, confirms what was appended, closes both logs and tells meta. Returns when it
    /// is over, at the latest after `within`; then the next owner recovers what was left open.
    pub async fn release(&self, within: Duration) {
        self.leave(within, ShardEvent::Release).await;
    }

    /// The same, but the node stays the owner in meta's record, so that nobody claims the shard before its topic is
    /// deleted. What was left open after `within` keeps meta from deleting it.
    pub async fn retire(&self, within: Duration) {
        self.leave(within, ShardEvent::Retire).await;
    }

    async fn leave(&self, within: Duration, how: ShardEvent) {
        if self.send(Message::Leave { within, how }).await.is_ok() {
            self.over().await;
        }
    }

    /// Tells that the shard's record changed in meta, or that changes may have been missed: it is read again, and shows
    /// whether another node has taken the shard.
    pub fn record_changed(&self) {
        let tell = |came: &mut Came| came.has_record_changed = true;
        self.shared.inbox.ring(tell);
    }

    /// Tells that there are other bookies than before.
    pub fn bookies_changed(&self) {
        let tell = |came: &mut Came| came.have_bookies_changed = true;
        self.shared.inbox.ring(tell);
    }

    /// Has the shard look at the lease of the node's session, and at whether its tasks are to stop: one task of the node
    /// follows both, not one for each shard.
    pub fn look(&self) {
        self.shared.inbox.ring(|_| {});
    }

    /// What a client is told that cannot be served here now.
    pub fn problem(&self) -> Problem {
        task::problem_of(&self.status())
    }

    fn next_stream(&self) -> StreamId {
        StreamId::new(self.shared.next_stream.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes a batch into the node's memory, from now on until its receipt.
    fn take_in(&self, body: &Body) -> Result<Batch, Problem> {
        let permit = self.shared.budget.acquire(body.len())?;
        let since = self.shared.clock.now();
        Ok(Batch { permit, since })
    }

    /// Opens a stream and waits for what it is told first.
    async fn open(&self, request: Request) -> Result<(Told, Outputs), Problem> {
        let stream = request.stream().expect("what opens a stream names it");
        let (inlet, mut outputs) = channel(stream, &self.shared.inbox);
        self.send(Message::Open {
            request,
            inlet,
            slot: None,
        })
        .await?;
        let first = outputs.first().await;
        match first {
            Some(Told::Ended(problem) | Told::Refused(problem)) => Err(problem),
            Some(told) => Ok((told, outputs)),
            None => Err(self.problem()),
        }
    }

    async fn send(&self, message: Message) -> Result<(), Problem> {
        if self.shared.inbox.send(message).await {
            Ok(())
        } else {
            Err(self.problem())
        }
    }

    fn odd_answer(&self) -> Problem {
        Problem::new(Reason::Internal, "the shard gave an answer of another kind")
    }
}

impl ProducerInput {
    /// Hands a validated batch in. Its receipt comes in the order of the calls. Waits while the shard is behind.
    ///
    /// Without room in the node's memory the batch is refused (`OVERLOADED`) in a receipt; what follows it on the stream
    /// is then out of order.
    ///
    /// # Errors
    ///
    /// The stream is over, and why.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, the batch was not handed in.
    pub async fn publish(
        &self,
        first_sequence: SequenceId,
        count: u32,
        body: Body,
    ) -> Result<(), Problem> {
        match self.shard.take_in(&body) {
            Ok(batch) => {
                let publish = Publish {
                    stream: self.stream,
                    first_sequence,
                    count,
                    body,
                };
                self.shard.send(Message::Publish { publish, batch }).await
            }
            Err(problem) => self.refuse(first_sequence, count, problem).await,
        }
    }

    /// Puts the refusal of a batch that cannot be handed in into the order of the receipts.
    ///
    /// # Errors
    ///
    /// The stream is over, and why.
    pub async fn refuse(
        &self,
        first_sequence: SequenceId,
        count: u32,
        problem: Problem,
    ) -> Result<(), Problem> {
        let receipt = Receipt {
            first_sequence,
            count,
            outcome: Err(problem),
        };
        let stream = self.stream;
        self.shard.send(Message::Refuse { stream, receipt }).await
    }

    /// The client sends nothing more: [`Told::Finished`] comes behind the last receipt.
    ///
    /// # Errors
    ///
    /// The stream is over, and why.
    pub async fn finish(&self) -> Result<(), Problem> {
        let request = Request::FinishStream(self.stream);
        self.shard.send(Message::Request(request)).await
    }
}

impl ConsumerInput {
    /// The client sends nothing more: [`Told::Finished`] comes behind the last answer. Leases are released at once.
    ///
    /// # Errors
    ///
    /// The stream is over, and why.
    pub async fn finish(&self) -> Result<(), Problem> {
        self.request(Request::FinishStream(self.stream)).await
    }

    /// Grants more messages and bytes; both add to what was granted. Values below zero are refused
    /// ([`Told::Refused`]).
    ///
    /// # Errors
    ///
    /// The stream is over, and why.
    pub async fn permits(&self, messages: i64, bytes: i64) -> Result<(), Problem> {
        let stream = self.stream;
        self.request(Request::Permits {
            stream,
            messages,
            bytes,
        })
        .await
    }

    /// Messages are done with: `ranges`, and all below `cumulative_end`.
    ///
    /// # Errors
    ///
    /// The stream is over, and why.
    pub async fn ack(
        &self,
        request_id: u64,
        generation: Generation,
        ranges: Vec<OffsetRange>,
        cumulative_end: Option<Offset>,
    ) -> Result<(), Problem> {
        let stream = self.stream;
        self.request(Request::Ack(Ack {
            stream,
            request_id,
            generation,
            ranges,
            cumulative_end,
        }))
        .await
    }

    /// Messages are to come again, after `delay` or a back-off.
    ///
    /// # Errors
    ///
    /// The stream is over, and why.
    pub async fn nack(
        &self,
        request_id: u64,
        generation: Generation,
        ranges: Vec<OffsetRange>,
        delay: Option<Duration>,
    ) -> Result<(), Problem> {
        let stream = self.stream;
        self.request(Request::Nack(Nack {
            stream,
            request_id,
            generation,
            ranges,
            delay,
        }))
        .await
    }

    /// More time for messages: `deadline` from now on, or the consumer's ack deadline.
    ///
    /// # Errors
    ///
    /// The stream is over, and why.
    pub async fn extend(
        &self,
        request_id: u64,
        generation: Generation,
        ranges: Vec<OffsetRange>,
        deadline: Option<Duration>,
    ) -> Result<(), Problem> {
        let stream = self.stream;
        self.request(Request::Extend(Extend {
            stream,
            request_id,
            generation,
            ranges,
            deadline,
        }))
        .await
    }

    async fn request(&self, request: Request) -> Result<(), Problem> {
        self.shard.send(Message::Request(request)).await
    }
}

/// An outcome that is not known, for a call that stored something perhaps.
fn outcome_unknown(why: &str) -> Problem {
    Problem::new(
        Reason::OutcomeUnknown,
        format!("it may or may not have been done: {why}"),
    )
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.inbox.ring(|came| came.is_abandoned = true);
    }
}

impl fmt::Debug for ShardHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardHandle")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
