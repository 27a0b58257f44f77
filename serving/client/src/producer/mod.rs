//! Publishing to one topic.

mod builder;
mod core;
mod receipt;
mod state;
mod task;

pub use builder::ProducerBuilder;
pub use receipt::{Receipt, Stored};

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use types::{ProducerName, Reason, TopicName};

use crate::{Error, Message};
use core::Size;
use receipt::Promise;
use state::{Inner, Opened};

/// Bytes a message costs in memory beside its encoding.
const OVERHEAD: usize = 128;
/// Most messages that are sent together.
const TOGETHER_MAX: usize = 10_000;
/// Most bytes that are sent together, unless one message alone is larger.
const TOGETHER_BYTES: usize = 4 << 20;

/// Publishes to one topic, in order, each message stored once.
///
/// Messages that wait while a batch is on its way travel together: there is no timer to set. When a node dies the
/// producer finds the topic's new owner and repeats what has no receipt, under the same numbers, so that nothing is
/// stored twice and the order is kept.
///
/// Clones publish in the same sequence. When the last is dropped, what waits is still sent; use [`Producer::close`]
/// to wait for it.
///
/// ```no_run
/// # async fn example() -> Result<(), ledgerline_client::Error> {
/// let client = ledgerline_client::Client::connect("http://127.0.0.1:7450").await?;
/// let producer = client.producer("orders").create().await?;
/// let receipt = producer.send("one coffee").await?; // On its way, in order.
/// let stored = receipt.await?; // Fsynced.
/// println!("stored at offset {:?}", stored.first_offset);
/// producer.close().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// What all clones of a producer hold; dropping the last tells the task.
#[derive(Debug)]
struct Handle {
    inner: Arc<Inner>,
    opened: Opened,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.lock().is_closing = true;
        self.inner.work.notify_one();
    }
}

impl Producer {
    fn new(inner: Arc<Inner>, opened: Opened) -> Self {
        Self {
            handle: Arc::new(Handle { inner, opened }),
        }
    }

    fn inner(&self) -> &Inner {
        &self.handle.inner
    }

    /// The topic's full name.
    pub fn topic(&self) -> &TopicName {
        &self.inner().topic
    }

    /// The producer's name.
    pub fn name(&self) -> &ProducerName {
        &self.inner().name
    }

    /// How many messages the topic had of this producer's name when the producer was opened, 0 for a new name. A program
    /// that numbers its messages from 0 and keeps its producer's name goes on with this number after it was restarted:
    /// what comes before is stored, and what it sent from there on is not and never will be.
    pub fn stored_before(&self) -> u64 {
        self.handle.opened.stored
    }

    /// Sends a message. Waits for room in memory; the returned [`Receipt`] resolves once the message is stored.
    ///
    /// # Errors
    ///
    /// `MESSAGE_TOO_LARGE`; or why the producer is over.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, the message was not sent.
    pub async fn send(&self, message: impl Into<Message>) -> Result<Receipt, Error> {
        self.send_slice(std::slice::from_ref(&message.into())).await
    }

    /// Sends a message and does not want to know whether it was stored: no receipt, nothing counted as ignored. It is
    /// repeated through trouble like any other.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, the message was not sent.
    pub async fn send_and_forget(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.send(message).await?.ignore();
        Ok(())
    }

    /// Sends messages that belong together: one receipt for all. They are stored next to each other, all or none.
    /// At most 10,000 messages of together 4 MiB.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`]; and `BAD_FIELD` when there are none.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, the messages were not sent.
    pub async fn send_all(
        &self,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<Receipt, Error> {
        let messages: Vec<Message> = messages.into_iter().collect();
        self.send_slice(&messages).await
    }

    async fn send_slice(&self, messages: &[Message]) -> Result<Receipt, Error> {
        let size = self.measure(messages)?;
        match self.inner().room.acquire_many(size.cost).await {
            Ok(permit) => permit.forget(), // Given back when the messages are settled.
            Err(_) => return Err(self.inner().why_over()),
        }
        self.hand_in(messages, size)
    }

    /// Sends a message if there is room at once.
    ///
    /// # Errors
    ///
    /// `OVERLOADED` when there is no room; else as [`Producer::send`].
    pub fn try_send(&self, message: impl Into<Message>) -> Result<Receipt, Error> {
        let message = message.into();
        let messages = std::slice::from_ref(&message);
        let size = self.measure(messages)?;
        match self.inner().room.try_acquire_many(size.cost) {
            Ok(permit) => permit.forget(),
            Err(tokio::sync::TryAcquireError::NoPermits) => {
                let message = "the producer's memory is full of messages without a receipt; wait, or raise `memory`";
                return Err(Error::new(Reason::Overloaded, message));
            }
            Err(tokio::sync::TryAcquireError::Closed) => return Err(self.inner().why_over()),
        }
        self.hand_in(messages, size)
    }

    /// Encodes messages where they will stay. Their room was taken.
    fn hand_in(&self, messages: &[Message], size: Size) -> Result<Receipt, Error> {
        let inner = self.inner();
        let mut state = inner.lock();
        if let Some(over) = &state.over {
            return Err(over.clone());
        }
        if state.core.is_idle() {
            // Time without work is no lack of progress.
            state.progress = inner.shared.host.clock.now();
        }
        state.promised += 1;
        let promise = || Promise::new(&inner.ignored);
        let receipt = state.core.add(size, promise, |batch, promise, first| {
            for message in messages {
                message.append_to(batch);
            }
            promise.receipt(first, size.count)
        });
        let is_due = state.core.can_take();
        drop(state);
        if is_due {
            inner.work.notify_one();
        }
        Ok(receipt)
    }

    /// Waits until everything that was sent so far has its receipt.
    ///
    /// # Errors
    ///
    /// Why the producer is over.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub async fn flush(&self) -> Result<(), Error> {
        let flushed = {
            let mut state = self.inner().lock();
            if let Some(over) = &state.over {
                return Err(over.clone());
            }
            if state.settled == state.promised {
                return Ok(());
            }
            let (done, flushed) = oneshot::channel();
            let promised = state.promised;
            state.flushes.push_back((promised, done));
            flushed
        };
        flushed
            .await
            .unwrap_or_else(|_| Err(self.inner().why_over()))
    }

    /// Waits until everything that was sent has its receipt, and ends the producer once its clones are dropped too.
    ///
    /// # Errors
    ///
    /// As [`Producer::flush`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, what waits is still sent.
    pub async fn close(self) -> Result<(), Error> {
        self.flush().await
    }

    /// How many receipts were dropped before they resolved: nobody knows whether those messages are stored. Told in the
    /// log when the producer ends.
    pub fn receipts_ignored(&self) -> u64 {
        self.inner().ignored.load(Ordering::Relaxed)
    }

    /// How much messages are, within the limits.
    fn measure(&self, messages: &[Message]) -> Result<Size, Error> {
        let mut bytes = 0;
        for message in messages {
            let len = message.encoded_len();
            let most = self.handle.opened.message_max;
            if len > most {
                let text =
                    format!("the message has {len} bytes encoded, the server takes at most {most}");
                return Err(Error::new(Reason::MessageTooLarge, text));
            }
            bytes += message.record_len();
        }
        let is_too_much = bytes > TOGETHER_BYTES || messages.len() > TOGETHER_MAX;
        if messages.len() > 1 && is_too_much {
            let text =
                "at most 10000 messages of together 4 MiB are sent together; send them in parts";
            return Err(Error::new(Reason::MessageTooLarge, text));
        }
        if messages.is_empty() {
            return Err(Error::new(Reason::BadField, "there is no message to send"));
        }
        let count = u32::try_from(messages.len()).expect("the number was just bounded");
        let cost = self.cost(bytes);
        Ok(Size { bytes, count, cost })
    }

    /// What messages cost in memory; what is larger than the memory takes all of it.
    fn cost(&self, bytes: usize) -> u32 {
        let cost = (bytes + OVERHEAD).min(self.inner().memory);
        u32::try_from(cost).expect("the memory was bounded to 32 bits")
    }
}
