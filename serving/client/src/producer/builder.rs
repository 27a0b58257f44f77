//! How a producer is set up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use types::batch::Codec;
use types::{ByteSize, Problem, ProducerName, Reason, TopicName};

use super::state::Inner;
use super::task::Task;
use super::{Producer, core};
use crate::Error;
use crate::connect::Shared;

/// Most messages of a batch.
const BATCH_MESSAGES: u32 = 10_000;

/// Makes a [`Producer`].
#[derive(Debug)]
#[must_use = "nothing happens before `create`"]
pub struct ProducerBuilder {
    shared: Shared,
    topic: String,
    name: Option<String>,
    memory: ByteSize,
    batch_bytes: ByteSize,
    in_flight: usize,
    timeout: Duration,
    compression: Option<Codec>,
}

impl ProducerBuilder {
    pub(crate) fn new(shared: Shared, topic: &str) -> Self {
        Self {
            shared,
            topic: topic.to_owned(),
            name: None,
            memory: ByteSize::mib(64),
            batch_bytes: ByteSize::kib(256),
            in_flight: 16,
            timeout: Duration::from_secs(120),
            compression: None,
        }
    }

    /// A name that stays the same over restarts of the program. Its numbering goes on where it was
    /// ([`Producer::stored_before`]), and an older producer of the same name is shut out: no two programs may use one
    /// name at a time. Default: a random name of this producer's own.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Most bytes of messages without a receipt. [`Producer::send`] waits for room. Default: 64 MiB.
    pub const fn memory(mut self, memory: ByteSize) -> Self {
        self.memory = memory;
        self
    }

    /// A batch is closed at so many bytes. Default: 256 KiB, at most 4 MiB.
    pub const fn batch_bytes(mut self, bytes: ByteSize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Most batches without a receipt. Default: 16, with which a disk that syncs in 10 ms is kept busy at 400 MB/s.
    pub const fn in_flight(mut self, batches: usize) -> Self {
        self.in_flight = batches;
        self
    }

    /// How long the producer tries to get through trouble (a node that died, too few bookies) before it gives up and
    /// fails what waits. Default: two minutes without any progress.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Compresses each batch as it is sent, on the producer's own task. A batch that does not shrink goes as it is, and so
    /// does one that the server would not take compressed. Larger batches shrink more
    /// ([`ProducerBuilder::batch_bytes`]). Default: none.
    pub fn compression(mut self, codec: impl Into<Option<Codec>>) -> Self {
        self.compression = codec.into();
        self
    }

    /// Opens the producer.
    ///
    /// # Errors
    ///
    /// `BAD_FIELD` for a setting out of bounds, `TOPIC_NOT_FOUND`, and after [`ProducerBuilder::timeout`] whatever
    /// stood in the way.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, the producer is given up.
    pub async fn create(self) -> Result<Producer, Error> {
        let (topic, name) = self.names()?;
        self.check()?;
        let limits = core::Limits {
            batch_bytes: self.batch_bytes.as_usize(),
            batch_messages: BATCH_MESSAGES,
            in_flight: self.in_flight,
        };
        let memory = self.memory.as_usize();
        let inner = Arc::new(Inner::new(
            Arc::clone(&self.shared),
            topic,
            name,
            limits,
            memory,
        ));
        let (ready, opened) = oneshot::channel();
        let task = Task::new(Arc::clone(&inner), self.timeout, self.compression);
        self.shared.host.tasks.spawn("producer", task.run(ready));
        let ended = |_| Err(Error::new(Reason::Stopping, "the client is stopping"));
        let opened = opened.await.unwrap_or_else(ended)?;
        Ok(Producer::new(inner, opened))
    }

    fn names(&self) -> Result<(TopicName, ProducerName), Error> {
        let topic = self
            .topic
            .parse()
            .map_err(|error| Problem::bad_field("topic", error))?;
        let name = match &self.name {
            Some(name) => name
                .parse()
                .map_err(|error| Problem::bad_field("name", error))?,
            None => format!("auto-{:032x}", self.shared.host.rng.u128())
                .parse()
                .expect("hexadecimal digits make a name"),
        };
        Ok((topic, name))
    }

    fn check(&self) -> Result<(), Error> {
        let bounds = [
            (
                "memory",
                self.memory,
                ByteSize::kib(64),
                ByteSize::new(u64::from(u32::MAX)),
            ),
            (
                "batch_bytes",
                self.batch_bytes,
                ByteSize::new(1),
                ByteSize::mib(4),
            ),
        ];
        for (field, value, least, most) in bounds {
            if value < least || value > most {
                let message = format!("must be {least} to {most}, not {value}");
                return Err(Problem::bad_field(field, message).into());
            }
        }
        if !(1..=64).contains(&self.in_flight) {
            let message = format!("must be 1 to 64 batches, not {}", self.in_flight);
            return Err(Problem::bad_field("in_flight", message).into());
        }
        Ok(())
    }
}
