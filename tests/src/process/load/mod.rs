//! Load on a cluster: writers and consumers on the public client, all of whose doings are in the run's history.
//!
//! A run writes what was *asked* before it asks, and what was *answered* after the answer came, so that the judge may be
//! strict. A writer sends by plan, not by answer: an outage shows as a gap and not as a pause. Every stream that a
//! consumer opens, reconnects behind the client's back included, is a session of its own in the history, named
//! `consumer/number`; what is received is attributed to the stream it came on.

mod consumer;
mod past;
mod writer;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use ledgerline_client::{
    Client, Quorum, StartPosition, SubscriptionMode, SubscriptionOptions, TopicOptions, api,
};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::history::{Drained, Event, HistoryWriter, Name, Start, Subscribed, SubscriptionType};
use crate::workload::WriterPlan;

pub use consumer::Habits;
pub(crate) use consumer::{Consuming, Streams};
pub(crate) use past::Past;
pub(crate) use writer::{Writer, is_fenced};

/// Pause between two looks at how a subscription stands.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How long a writer or consumer may take to end once it was asked to.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Counts of one subscription's consumers, or of all writers.
#[derive(Default)]
pub struct Counts {
    /// Writers: messages that were stored. Consumers: messages received.
    pub done: AtomicU64,
    /// Messages refused, or of unknown outcome; acks refused.
    pub refused: AtomicU64,
    /// Sends or acks asked for and not answered.
    pub pending: AtomicU64,
    /// The longest time from one message to the next, in nanoseconds.
    longest_pause: AtomicU64,
    /// Writers: microseconds from when a message was due to its receipt.
    latencies: Mutex<Vec<u64>>,
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counts")
            .field("done", &self.done)
            .field("refused", &self.refused)
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

impl Counts {
    /// The longest time without a message since this was asked last.
    pub fn take_longest_pause(&self) -> Duration {
        Duration::from_nanos(self.longest_pause.swap(0, Ordering::Relaxed))
    }

    /// Writers: how long messages took since this was asked last, from when each was due to its receipt; the shortest
    /// first.
    pub fn take_latencies(&self) -> Vec<Duration> {
        let mut taken = std::mem::take(&mut *self.lock_latencies());
        taken.sort_unstable();
        taken.into_iter().map(Duration::from_micros).collect()
    }

    fn took(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.lock_latencies().push(micros);
    }

    fn lock_latencies(&self) -> MutexGuard<'_, Vec<u64>> {
        // Valid after each statement.
        self.latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn paused(&self, pause: Duration) {
        let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.longest_pause.fetch_max(nanos, Ordering::Relaxed);
    }
}

/// The load of a test. Everything ends with it.
#[derive(Debug)]
pub struct Load {
    runtime: Runtime,
    client: Client,
    history: HistoryWriter,
    written: Arc<Counts>,
    writers: Vec<JoinHandle<anyhow::Result<()>>>,
    stop_writing: CancellationToken,
    groups: Vec<Group>,
}

/// The consumers of one subscription.
#[derive(Debug)]
struct Group {
    subscription: String,
    counts: Arc<Counts>,
    holds: Arc<AtomicBool>,
    stop: CancellationToken,
    consumers: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Load {
    /// A load on the serving nodes at these addresses (`http://…`, commas between).
    ///
    /// # Errors
    ///
    /// When no thread can be started, or an address is none.
    pub fn new(addresses: &str, history: HistoryWriter) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let client = Client::builder().addresses(addresses).build()?;
        Ok(Self {
            runtime,
            client,
            history,
            written: Arc::default(),
            writers: Vec::new(),
            stop_writing: CancellationToken::new(),
            groups: Vec::new(),
        })
    }

    /// Makes a topic.
    ///
    /// # Errors
    ///
    /// The server's.
    pub fn create_topic(&self, topic: &str, quorum: Quorum) -> anyhow::Result<()> {
        let admin = self.client.admin();
        let options = TopicOptions {
            quorum: Some(quorum),
            retention: None,
        };
        self.runtime
            .block_on(admin.create_topic(topic, options))
            .with_context(|| format!("topic {topic} is not made"))?;
        Ok(())
    }

    /// How a topic stands.
    ///
    /// # Errors
    ///
    /// The server's.
    pub fn topic_stats(&self, topic: &str) -> anyhow::Result<api::TopicStats> {
        let admin = self.client.admin();
        Ok(self.runtime.block_on(admin.topic_stats(topic))?)
    }

    /// The endpoint of the node that owns a topic.
    ///
    /// # Errors
    ///
    /// The server's.
    pub fn owner(&self, topic: &str) -> anyhow::Result<String> {
        let stats = self.topic_stats(topic)?;
        let shard = stats
            .shards
            .into_iter()
            .next()
            .context("a topic has a shard")?;
        Ok(shard.endpoint)
    }

    /// Makes a subscription that starts with the oldest message.
    ///
    /// # Errors
    ///
    /// The server's.
    pub fn subscribe(
        &self,
        topic: &str,
        subscription: &str,
        mode: SubscriptionMode,
    ) -> anyhow::Result<()> {
        let options = SubscriptionOptions {
            mode: Some(mode),
            start: Some(StartPosition::Earliest),
            ..SubscriptionOptions::default()
        };
        let name = format!("{topic}/subscriptions/{subscription}");
        let t0 = self.history.now();
        let admin = self.client.admin();
        self.runtime
            .block_on(admin.create_subscription(&name, options))
            .with_context(|| format!("subscription {name} is not made"))?;
        self.history.record(&Event::Sub(Subscribed {
            t0,
            t: self.history.now(),
            sub: Name::from(subscription),
            p: Name::from(topic),
            ty: match mode {
                SubscriptionMode::Exclusive => SubscriptionType::Exclusive,
                SubscriptionMode::Shared => SubscriptionType::Shared,
            },
            from: Start::Earliest,
        }));
        Ok(())
    }

    /// Starts a writer.
    pub fn write(&mut self, plan: WriterPlan) {
        let writer = Writer {
            plan,
            client: self.client.clone(),
            history: self.history.clone(),
            counts: Arc::clone(&self.written),
            stop: self.stop_writing.clone(),
            past: Past::default(),
            is_named: false,
        };
        self.writers.push(self.runtime.spawn(writer.run()));
    }

    /// Starts a consumer of a subscription.
    pub fn consume(&mut self, topic: &str, subscription: &str, consumer: &str, habits: Habits) {
        let known = self
            .groups
            .iter()
            .position(|group| group.subscription == subscription);
        let index = known.unwrap_or_else(|| {
            self.groups.push(Group {
                subscription: subscription.to_owned(),
                counts: Arc::default(),
                holds: Arc::new(AtomicBool::new(true)),
                stop: CancellationToken::new(),
                consumers: Vec::new(),
            });
            self.groups.len() - 1
        });
        let group = &mut self.groups[index];
        let consumer = Consuming {
            topic: topic.to_owned(),
            subscription: subscription.to_owned(),
            name: consumer.to_owned(),
            habits,
            client: self.client.clone(),
            history: self.history.clone(),
            counts: Arc::clone(&group.counts),
            holds: Arc::clone(&group.holds),
            stop: group.stop.clone(),
            streams: Streams::default(),
        };
        group.consumers.push(self.runtime.spawn(consumer.run()));
    }

    /// The counts of the writers.
    pub fn written(&self) -> &Counts {
        &self.written
    }

    /// The counts of a subscription's consumers.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub fn consumed(&self, subscription: &str) -> anyhow::Result<&Counts> {
        Ok(&self.group(subscription)?.counts)
    }

    /// From now on the consumers of a subscription ack everything, whatever their habits.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub fn stop_holding(&self, subscription: &str) -> anyhow::Result<()> {
        self.group(subscription)?
            .holds
            .store(false, Ordering::Relaxed);
        Ok(())
    }

    fn group(&self, subscription: &str) -> anyhow::Result<&Group> {
        let mut groups = self.groups.iter();
        groups
            .find(|group| group.subscription == subscription)
            .with_context(|| format!("nobody consumes {subscription}"))
    }

    /// Ends the writers, and waits until every message of theirs has its answer.
    ///
    /// # Errors
    ///
    /// A writer's, or that it does not end.
    pub fn finish_writing(&mut self) -> anyhow::Result<()> {
        self.stop_writing.cancel();
        for writer in std::mem::take(&mut self.writers) {
            let ended = self
                .runtime
                .block_on(async { timeout(END_LIMIT, writer).await });
            ended.context("a writer does not end")??.context("writer")?;
        }
        Ok(())
    }

    /// Waits until a subscription has nothing left, and says so in the history. Call it when nothing is written any more.
    ///
    /// # Errors
    ///
    /// That it takes longer, with how the subscription stands.
    pub fn drain(&self, topic: &str, subscription: &str, within: Duration) -> anyhow::Result<()> {
        let counts = self.consumed(subscription)?;
        let name = format!("{topic}/subscriptions/{subscription}");
        let admin = self.client.admin();
        self.runtime.block_on(async {
            let begun = Instant::now();
            loop {
                let stats = admin.subscription_stats(&name).await;
                let is_decided = counts.pending.load(Ordering::Relaxed) == 0;
                if is_decided
                    && stats
                        .as_ref()
                        .is_ok_and(|stats| stats.backlog_messages == 0)
                {
                    return Ok(());
                }
                anyhow::ensure!(
                    begun.elapsed() < within,
                    "{subscription} is not drained after {within:?}: {counts:?} {stats:?}"
                );
                sleep(LOOK_INTERVAL).await;
            }
        })?;
        self.history.record(&Event::Drained(Drained {
            sub: Name::from(subscription),
            p: Name::from(topic),
        }));
        Ok(())
    }

    /// Ends the consumers. Nothing is written to the history after this.
    ///
    /// # Errors
    ///
    /// A consumer's, or that it does not end.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.finish_writing()?;
        for group in std::mem::take(&mut self.groups) {
            group.stop.cancel();
            for consumer in group.consumers {
                let ended = self
                    .runtime
                    .block_on(async { timeout(END_LIMIT, consumer).await });
                let ended = ended.context("a consumer does not end")?;
                ended?.with_context(|| format!("consumer of {}", group.subscription))?;
            }
        }
        Ok(())
    }
}
