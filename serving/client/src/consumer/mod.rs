//! Consuming from one subscription.

mod acks;
mod builder;
mod ranges;
mod received;
mod session;
mod state;
mod task;

pub use builder::ConsumerBuilder;
pub use received::{ProducerStamp, Received};
pub use session::SessionChange;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use pb::consume_request::Frame as Up;
use proto::raw::v1 as pb;
use tokio::sync::oneshot;
use types::topic::{StartPosition, SubscriptionMode};
use types::{ConsumerName, Reason, SubscriptionName};

use crate::Error;
use received::Batch;
use session::Observer;
use state::{Credit, Inner, released};

/// Most ranges in one frame of nacks.
const NACK_RANGES: usize = 1_000;

/// What a consumer asks for, checked.
#[derive(Debug, Clone)]
struct Settings {
    subscription: SubscriptionName,
    name: Option<ConsumerName>,
    mode: Option<SubscriptionMode>,
    ack_deadline: Option<Duration>,
    start: Option<StartPosition>,
    create: bool,
}

/// Gets the messages of a subscription, each at least once.
///
/// It keeps credit with the server, so that messages come as fast as they are taken and no faster. When the stream breaks
/// it finds the topic's owner and goes on: messages that were not taken yet are dropped here and delivered again, acks of
/// those that were taken are sent on the new stream. A message that is not acked within its lease is delivered again, to
/// somebody.
///
/// It is a [`Stream`] as well; the stream ends after its first error, which is final.
///
/// ```no_run
/// # async fn example() -> Result<(), ledgerline_client::Error> {
/// # let client = ledgerline_client::Client::connect("http://127.0.0.1:7450").await?;
/// let mut consumer =
///     client.consumer("orders/subscriptions/billing").create_if_missing().open().await?;
/// loop {
///     let message = consumer.recv().await?;
///     println!("{}: {:?}", message.offset(), message.payload());
///     consumer.ack(&message);
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    acker: Acker,
    /// The delivery that messages are taken from.
    current: Option<Batch>,
    /// Taken and not yet told to the task, of the stream of `session`.
    taken: Credit,
    session: u64,
    ended: Option<oneshot::Receiver<Result<(), Error>>>,
    is_over: bool,
}

/// Acks messages, from anywhere: clones may be handed to workers.
#[derive(Debug, Clone)]
pub struct Acker {
    inner: Arc<Inner>,
}

/// Resolves once an ack is durable: the message is never delivered again.
#[must_use = "an ack is only known to be durable once its receipt resolved; `ack` does without"]
pub struct AckReceipt {
    answer: oneshot::Receiver<Result<(), Error>>,
    inner: Arc<Inner>,
}

impl Acker {
    /// Marks a message as done. It is sent with others in a moment, and again after a reconnect, until the server has it
    /// on disk. A crash of this program before that means that the message comes again.
    pub fn ack(&self, message: &Received) {
        let generation = message.delivery().generation;
        self.inner
            .ack(|acks| acks.ack(generation, message.offset(), None));
    }

    /// The same, to know when it is durable.
    ///
    /// The receipt fails with `LEASE_LOST` when the message went to another consumer meanwhile: it is worked on twice.
    pub fn ack_confirmed(&self, message: &Received) -> AckReceipt {
        let (waiter, answer) = oneshot::channel();
        let generation = message.delivery().generation;
        self.inner
            .ack(|acks| acks.ack(generation, message.offset(), Some(waiter)));
        AckReceipt {
            answer,
            inner: Arc::clone(&self.inner),
        }
    }

    /// Marks a message and all before it as done; in exclusive mode only.
    pub fn ack_cumulative(&self, message: &Received) -> AckReceipt {
        let (waiter, answer) = oneshot::channel();
        let generation = message.delivery().generation;
        let end = message.offset() + 1;
        self.inner
            .ack(|acks| acks.ack_below(generation, end, Some(waiter)));
        AckReceipt {
            answer,
            inner: Arc::clone(&self.inner),
        }
    }

    /// Gives a message back, to be delivered again after `delay`. A message whose stream is gone is delivered again
    /// anyhow.
    pub fn nack(&self, message: &Received, delay: Duration) {
        let generation = message.delivery().generation;
        let delay = (!delay.is_zero()).then(|| proto::time::duration_to_wire(delay));
        let range = pb::OffsetRange {
            start: message.offset(),
            end: message.offset() + 1,
        };
        let mut state = self.inner.lock();
        if !state.is_open || self.inner.session() != message.delivery().session {
            return;
        }
        match state.requests.back_mut() {
            Some(Up::Nack(last))
                if last.generation == generation
                    && last.delay == delay
                    && last.ranges.len() < NACK_RANGES =>
            {
                match last.ranges.last_mut() {
                    Some(before) if before.end == range.start => before.end = range.end,
                    _ => last.ranges.push(range),
                }
                return; // The task was rung for the first of them.
            }
            _ => {
                let ranges = vec![range];
                let nack = pb::Nack {
                    ranges,
                    delay,
                    generation,
                    ..pb::Nack::default()
                };
                state.requests.push_back(Up::Nack(nack));
            }
        }
        drop(state);
        self.inner.work.notify_one();
    }

    /// Asks for more time for a message: `deadline` from now.
    ///
    /// # Errors
    ///
    /// `LEASE_LOST` when the message is not leased to this consumer any more; `BAD_FIELD` for a time out of bounds.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the extension may still happen.
    pub async fn extend(&self, message: &Received, deadline: Duration) -> Result<(), Error> {
        let answer = {
            let mut state = self.inner.lock();
            if let Some(over) = &state.over {
                return Err(over.clone());
            }
            if !state.is_open || self.inner.session() != message.delivery().session {
                return Err(released());
            }
            let request_id = state.request();
            let (waiter, answer) = oneshot::channel();
            state.extensions.insert(request_id, waiter);
            state.requests.push_back(Up::Extend(pb::ExtendDeadline {
                ranges: vec![pb::OffsetRange {
                    start: message.offset(),
                    end: message.offset() + 1,
                }],
                deadline: Some(proto::time::duration_to_wire(deadline)),
                generation: message.delivery().generation,
                request_id,
                ..pb::ExtendDeadline::default()
            }));
            answer
        };
        self.inner.work.notify_one();
        answer.await.unwrap_or_else(|_| Err(self.inner.why_over()))
    }

    /// Waits until every ack so far is decided: durable, or refused.
    ///
    /// # Errors
    ///
    /// Why the consumer is over.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub async fn flush(&self) -> Result<(), Error> {
        let (waiter, answer) = oneshot::channel();
        let mut is_decided = false;
        self.inner
            .ack(|acks| is_decided = acks.flush(waiter).is_some());
        if is_decided {
            return Ok(());
        }
        answer.await.unwrap_or_else(|_| Err(self.inner.why_over()))
    }

    /// How many requests to ack were refused in part at least: leases that were lost, mostly. Acks whose receipt somebody
    /// holds are told there too.
    pub fn acks_refused(&self) -> u64 {
        self.inner.lock().acks.refused()
    }
}

impl Consumer {
    fn new(inner: Arc<Inner>, ended: oneshot::Receiver<Result<(), Error>>) -> Self {
        Self {
            acker: Acker { inner },
            current: None,
            taken: Credit::default(),
            session: 0,
            ended: Some(ended),
            is_over: false,
        }
    }

    /// The subscription's full name.
    pub fn subscription(&self) -> &SubscriptionName {
        &self.acker.inner.settings.subscription
    }

    /// The subscription's mode, as the server said when the stream was opened.
    pub fn mode(&self) -> Option<SubscriptionMode> {
        match self.acker.inner.lock().ready.mode() {
            pb::SubscriptionMode::Exclusive => Some(SubscriptionMode::Exclusive),
            pb::SubscriptionMode::Shared => Some(SubscriptionMode::Shared),
            pb::SubscriptionMode::Unspecified => None,
        }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    ///
    /// Why the consumer is over; it stays over.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, no message is lost.
    pub async fn recv(&mut self) -> Result<Received, Error> {
        std::future::poll_fn(|context| self.poll_recv(Some(context))).await
    }

    /// The next message if one is here already.
    ///
    /// # Errors
    ///
    /// As [`Consumer::recv`].
    pub fn try_recv(&mut self) -> Result<Option<Received>, Error> {
        match self.poll_recv(None) {
            Poll::Ready(Ok(message)) => Ok(Some(message)),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(None),
        }
    }

    fn poll_recv(&mut self, context: Option<&mut Context<'_>>) -> Poll<Result<Received, Error>> {
        loop {
            while let Some(batch) = &mut self.current {
                if batch.session() != self.acker.inner.session() {
                    // Its stream is gone, and with it what was granted there.
                    self.current = None;
                    self.taken = Credit::default();
                    break;
                }
                let (message, bytes) = match batch.next() {
                    Ok(Some(next)) => next,
                    Ok(None) => {
                        self.current = None;
                        break;
                    }
                    Err(error) => {
                        self.current = None;
                        self.acker.inner.fail(&error);
                        return Poll::Ready(Err(error));
                    }
                };
                self.taken.add(Credit { messages: 1, bytes });
                let is_lapsed = self.acker.inner.shared.host.clock.now() >= batch.expires();
                if self.taken.is_part_of(self.acker.inner.credit, 8) {
                    self.tell_taken();
                }
                if !is_lapsed {
                    return Poll::Ready(Ok(message));
                }
            }
            self.tell_taken();
            let mut state = self.acker.inner.lock();
            if let Some(over) = &state.over {
                return Poll::Ready(Err(over.clone()));
            }
            self.current = state.buffer.pop_front();
            if let Some(batch) = &self.current {
                self.session = batch.session();
            } else {
                state.waker = context.map(|context| context.waker().clone());
                return Poll::Pending;
            }
        }
    }

    /// Tells the task what was taken, so that it grants as much again.
    fn tell_taken(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if taken == Credit::default() {
            return;
        }
        let inner = &self.acker.inner;
        let mut state = inner.lock();
        if self.session != inner.session() || !state.is_open {
            return; // What was granted there is void, what is granted now is whole.
        }
        state.refill.add(taken);
        let rings = state.is_refill_due(inner.credit);
        drop(state);
        if rings {
            inner.work.notify_one();
        }
    }

    /// A handle to ack from elsewhere.
    pub fn acker(&self) -> Acker {
        self.acker.clone()
    }

    /// As [`Acker::ack`].
    pub fn ack(&self, message: &Received) {
        self.acker.ack(message);
    }

    /// As [`Acker::ack_confirmed`].
    pub fn ack_confirmed(&self, message: &Received) -> AckReceipt {
        self.acker.ack_confirmed(message)
    }

    /// As [`Acker::ack_cumulative`].
    pub fn ack_cumulative(&self, message: &Received) -> AckReceipt {
        self.acker.ack_cumulative(message)
    }

    /// As [`Acker::nack`].
    pub fn nack(&self, message: &Received, delay: Duration) {
        self.acker.nack(message, delay);
    }

    /// As [`Acker::extend`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn extend(&self, message: &Received, deadline: Duration) -> Result<(), Error> {
        self.acker.extend(message, deadline).await
    }

    /// Waits until every ack is decided, and ends the consumer: what it holds unacked goes to others at once.
    ///
    /// # Errors
    ///
    /// Why the consumer was over before; acks may not have arrived then.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the consumer still ends in order.
    pub async fn close(mut self) -> Result<(), Error> {
        self.begin_close();
        match self.ended.take() {
            Some(ended) => ended
                .await
                .unwrap_or_else(|_| Err(self.acker.inner.why_over())),
            None => Ok(()),
        }
    }

    fn begin_close(&self) {
        self.acker.inner.lock().is_closing = true;
        self.acker.inner.work.notify_one();
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.begin_close();
    }
}

impl Stream for Consumer {
    type Item = Result<Received, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(self.poll_recv(Some(context)));
        self.is_over = item.is_err();
        Poll::Ready(Some(item))
    }
}

impl Future for AckReceipt {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = std::task::ready!(Pin::new(&mut self.answer).poll(context));
        Poll::Ready(answer.unwrap_or_else(|_| {
            let why = self.inner.why_over();
            let message = format!("it is not known whether the ack is durable: {why}");
            Err(Error::new(Reason::OutcomeUnknown, message))
        }))
    }
}

impl fmt::Debug for AckReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckReceipt").finish_non_exhaustive()
    }
}
