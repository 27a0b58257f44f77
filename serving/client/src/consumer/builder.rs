//! How a consumer is set up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use types::topic::{StartPosition, SubscriptionMode};
use types::{ByteSize, ConsumerName, Problem, Reason, SubscriptionName};

use super::state::{Credit, Inner};
use super::task::Task;
use super::{Consumer, Observer, SessionChange, Settings};
use crate::Error;
use crate::connect::Shared;

/// Makes a [`Consumer`].
#[derive(Debug)]
#[must_use = "nothing happens before `open`"]
pub struct ConsumerBuilder {
    shared: Shared,
    subscription: String,
    mode: Option<SubscriptionMode>,
    name: Option<String>,
    ack_deadline: Option<Duration>,
    start: Option<StartPosition>,
    create: bool,
    messages: u32,
    bytes: ByteSize,
    timeout: Duration,
    observer: Observer,
}

impl ConsumerBuilder {
    pub(crate) fn new(shared: Shared, subscription: &str) -> Self {
        Self {
            shared,
            subscription: subscription.to_owned(),
            mode: None,
            name: None,
            ack_deadline: None,
            start: None,
            create: false,
            messages: 1_000,
            bytes: ByteSize::mib(8),
            timeout: Duration::from_secs(120),
            observer: Observer::default(),
        }
    }

    /// The mode that the subscription must have, or gets when it is created. Default: whatever it has; exclusive when
    /// it is created.
    pub const fn mode(mut self, mode: SubscriptionMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// A name for people and statistics.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long a message may stay unacked before it goes to somebody else. Default: the subscription's.
    pub const fn ack_deadline(mut self, deadline: Duration) -> Self {
        self.ack_deadline = Some(deadline);
        self
    }

    /// Makes the subscription if there is none.
    pub const fn create_if_missing(mut self) -> Self {
        self.create = true;
        self
    }

    /// Where the subscription starts if it is made now. Default: at the oldest message.
    pub const fn start(mut self, start: StartPosition) -> Self {
        self.start = Some(start);
        self
    }

    /// How much may be underway to this consumer, or wait in its memory, before it is taken: messages and encoded bytes
    /// (one message may be larger). Few for slow work, so that what waits here does not lose its lease. Default: 1,000
    /// messages, 8 MiB.
    pub const fn credit(mut self, messages: u32, bytes: ByteSize) -> Self {
        self.messages = messages;
        self.bytes = bytes;
        self
    }

    /// How long the consumer tries to reconnect before it gives up. Default: two minutes.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Is told of every stream that this consumer opens and of its end, reconnects included, from its task: it must not
    /// block. For tests and statistics; most programs need not care.
    pub fn on_session(mut self, observer: impl Fn(SessionChange) + Send + Sync + 'static) -> Self {
        self.observer = Observer::new(observer);
        self
    }

    /// Opens the consumer.
    ///
    /// # Errors
    ///
    /// `BAD_FIELD` for a setting out of bounds, `TOPIC_NOT_FOUND`, `SUBSCRIPTION_NOT_FOUND`, `WRONG_MODE`,
    /// `EXCLUSIVE_HELD`; and after [`ConsumerBuilder::timeout`] whatever stood in the way.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, the consumer is given up.
    pub async fn open(self) -> Result<Consumer, Error> {
        let settings = self.settings()?;
        let credit = Credit {
            messages: u64::from(self.messages),
            bytes: self.bytes.get(),
        };
        let inner = Arc::new(Inner::new(Arc::clone(&self.shared), settings, credit));
        let (ready, opened) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let task = Task::new(Arc::clone(&inner), self.timeout, self.observer);
        // Given up before it is open, it is closed by its drop.
        let consumer = Consumer::new(inner, ended);
        self.shared
            .host
            .tasks
            .spawn("consumer", task.run(ready, end));
        let stopping = |_| Err(Error::new(Reason::Stopping, "the client is stopping"));
        opened.await.unwrap_or_else(stopping)?;
        Ok(consumer)
    }

    fn settings(&self) -> Result<Settings, Error> {
        let subscription: SubscriptionName = self
            .subscription
            .parse()
            .map_err(|error| Problem::bad_field("subscription", error))?;
        let name: Option<ConsumerName> = match &self.name {
            Some(name) => Some(
                name.parse()
                    .map_err(|error| Problem::bad_field("name", error))?,
            ),
            None => None,
        };
        if self.messages == 0 || self.bytes.get() == 0 || self.bytes > ByteSize::mib(1 << 20) {
            let message = "must be one message and one byte at least, 1 TiB at most";
            return Err(Problem::bad_field("credit", message).into());
        }
        Ok(Settings {
            subscription,
            name,
            mode: self.mode,
            ack_deadline: self.ack_deadline,
            start: self.start,
            create: self.create,
        })
    }
}
