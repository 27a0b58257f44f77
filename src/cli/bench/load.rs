//! The loads themselves.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use host::Clock;
use ledgerline_client::{
    ByteSize, Consumer, Message, Producer, Receipt, StartPosition, SubscriptionMode,
};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, oneshot};
use types::MonoTime;

use super::pace::{self, End};
use super::report::{Report, histogram, record};
use super::{Load, Read, Scene};
use crate::cli::client::explain;
use crate::cli::progress::Progress;

/// Bytes of a payload that tell when the message was due.
const STAMP: usize = 8;
/// Receipts on their way from the sender to the one who waits for them, when nothing else bounds them.
const RECEIPTS: usize = 1 << 16;

/// A bench of publishing.
pub(super) async fn produce(scene: Scene, load: Load, report: &mut Report) -> anyhow::Result<()> {
    describe(&load, report);
    let mut progress = Progress::new(&scene.host.clock, "publishing", load.count);
    let publishing = publish(&scene, &load).await?;
    let measured = publishing.finish(Some(&mut progress)).await?;
    progress.clear();
    measured.tell(&load, report);
    Ok(())
}

/// A bench of publishing and consuming at the same time.
pub(super) async fn end_to_end(
    scene: Scene,
    load: Load,
    report: &mut Report,
) -> anyhow::Result<()> {
    if load.size.as_usize() < STAMP {
        bail!("messages carry the time they were due; set --size to at least {STAMP}B");
    }
    describe(&load, report);
    let clock = scene.host.clock.clone();
    let mut progress = Progress::new(&clock, "publishing and consuming", load.count);
    let mut consumer = open(
        &scene,
        StartPosition::Latest,
        SubscriptionMode::Exclusive,
        true,
    )
    .await?;
    let publishing = publish(&scene, &load).await?;
    let warm_at = publishing.begun.after(load.warmup);
    let mut received = histogram();
    let measured = {
        let mut listening = Listening {
            consumer: &mut consumer,
            received: &mut received,
            progress: &mut progress,
            clock: &clock,
            warm_at,
        };
        let mut consuming = std::pin::pin!(listening.run());
        let measured = tokio::select! {
            biased;
            failed = &mut consuming => return Err(failed),
            measured = publishing.finish(None) => measured?,
        };
        // The last messages are on their way.
        if let Ok(failed) = clock.timeout(Duration::from_secs(2), &mut consuming).await {
            return Err(failed);
        }
        measured
    };
    progress.clear();
    measured.tell(&load, report);
    report.latency("e2e", received);
    consumer.close().await.map_err(explain)
}

/// A consumer that measures.
struct Listening<'a> {
    consumer: &'a mut Consumer,
    received: &'a mut Histogram<u64>,
    progress: &'a mut Progress,
    clock: &'a Clock,
    warm_at: MonoTime,
}

impl Listening<'_> {
    /// Takes messages on and on; returns only when that fails.
    async fn run(&mut self) -> anyhow::Error {
        loop {
            let message = match self.consumer.recv().await {
                Ok(message) => message,
                Err(error) => return explain(error),
            };
            let now = self.clock.now();
            let stamp = message
                .payload()
                .get(..STAMP)
                .and_then(|it| it.try_into().ok());
            let due = MonoTime::from_nanos(u64::from_le_bytes(stamp.unwrap_or_default()));
            if due >= self.warm_at {
                record(self.received, now.since(due));
            }
            self.consumer.ack(&message);
            self.progress.add(message.payload().len());
        }
    }
}

/// A bench of reading what is there.
pub(super) async fn consume(scene: Scene, read: Read, report: &mut Report) -> anyhow::Result<()> {
    let stats = scene
        .client
        .admin()
        .topic_stats(&scene.topic)
        .await
        .map_err(explain)?;
    let there = stats
        .shards
        .iter()
        .map(|shard| shard.next_offset - shard.first_offset)
        .sum();
    let count = read.count.unwrap_or(there);
    if count > there || count == 0 {
        bail!(
            "the topic holds {there} messages, {count} are to be read; fill it first: ledgerline bench produce --topic {} --count N",
            scene.topic
        );
    }
    report.set("consumers", json!(read.consumers));
    let mode = if read.consumers == 1 {
        SubscriptionMode::Exclusive
    } else {
        SubscriptionMode::Shared
    };
    let name = subscription(&scene);
    let mut consumers = Vec::new();
    for _ in 0..read.consumers {
        consumers.push(open_named(&scene, &name, StartPosition::Earliest, mode, false).await?);
    }
    let clock = scene.host.clock.clone();
    let mut progress = Progress::new(&clock, "consuming", Some(count));
    let begun = clock.now();
    let (sizes, mut told) = mpsc::channel::<(u64, u64)>(1024);
    for consumer in consumers {
        let sizes = sizes.clone();
        scene.host.tasks.spawn("consumer", drain(consumer, sizes));
    }
    drop(sizes);
    let (mut messages, mut bytes) = (0, 0);
    while messages < count {
        let some = tokio::select! {
            biased;
            () = scene.stop.cancelled() => break,
            some = told.recv() => some.context("a consumer ended early; its log line says why")?,
        };
        messages += some.0;
        bytes += some.1;
        progress.add_many(some.0, some.1);
    }
    progress.clear();
    report.throughput(messages, bytes, clock.now().since(begun));
    Ok(())
}

/// Reads and acks on and on, and tells how much came.
async fn drain(mut consumer: Consumer, sizes: mpsc::Sender<(u64, u64)>) {
    while let Ok(first) = consumer.recv().await {
        let (mut messages, mut bytes) = (0, 0);
        let mut next = Some(first);
        while let Some(message) = next {
            messages += 1;
            bytes += message.payload().len() as u64;
            // Without acks the server would stop at its limit of unacked messages.
            consumer.ack(&message);
            next = if messages < 256 {
                consumer.try_recv().ok().flatten()
            } else {
                None
            };
        }
        if sizes.send((messages, bytes)).await.is_err() {
            return;
        }
    }
}

fn subscription(scene: &Scene) -> String {
    format!(
        "{}/subscriptions/bench-{:08x}",
        scene.topic,
        scene.host.rng.below(1 << 32)
    )
}

async fn open(
    scene: &Scene,
    start: StartPosition,
    mode: SubscriptionMode,
    is_tail: bool,
) -> anyhow::Result<Consumer> {
    open_named(scene, &subscription(scene), start, mode, is_tail).await
}

async fn open_named(
    scene: &Scene,
    name: &str,
    start: StartPosition,
    mode: SubscriptionMode,
    is_tail: bool,
) -> anyhow::Result<Consumer> {
    let (messages, bytes) = if is_tail { (10_000, 16) } else { (50_000, 64) };
    let builder = scene
        .client
        .consumer(name)
        .create_if_missing()
        .start(start)
        .mode(mode);
    builder
        .credit(messages, ByteSize::mib(bytes))
        .open()
        .await
        .map_err(explain)
}

fn describe(load: &Load, report: &mut Report) {
    report.set("size", json!(load.size.to_string()));
    report.set(
        "rate",
        load.rate.map_or(json!("closed loop"), |rate| json!(rate)),
    );
    report.set("producers", json!(load.producers));
    report.set(
        "outstanding",
        load.outstanding.map_or(json!("64MiB"), |most| json!(most)),
    );
    report.set(
        "in flight",
        json!(format!("{} batches", load.tuning.in_flight)),
    );
    report.set("batch", json!(format!("up to {}", load.tuning.batch)));
}

/// What producers measured.
struct Measured {
    acks: Histogram<u64>,
    messages: u64,
    took: Duration,
}

impl Measured {
    fn tell(self, load: &Load, report: &mut Report) {
        report.throughput(self.messages, self.messages * load.size.get(), self.took);
        report.latency("ack", self.acks);
    }
}

/// Producers at work.
struct Publishing {
    begun: MonoTime,
    warmup: Duration,
    settled: mpsc::Receiver<Settled>,
    parts: Vec<oneshot::Receiver<anyhow::Result<()>>>,
}

/// A message that has its receipt.
struct Settled {
    due: MonoTime,
    at: MonoTime,
    bytes: usize,
}

/// Starts the producers.
async fn publish(scene: &Scene, load: &Load) -> anyhow::Result<Publishing> {
    let clock = scene.host.clock.clone();
    let (settle, settled) = mpsc::channel(RECEIPTS);
    let mut producers = Vec::new();
    for _ in 0..load.producers {
        let builder = scene
            .client
            .producer(&scene.topic)
            .in_flight(load.tuning.in_flight);
        let builder = builder
            .batch_bytes(load.tuning.batch)
            .timeout(load.tuning.timeout);
        producers.push(builder.create().await.map_err(explain)?);
    }
    let begun = clock.now();
    let mut parts = Vec::new();
    let all = u64::from(load.producers);
    for (index, producer) in producers.into_iter().enumerate() {
        let is_first = |rest: u64| u64::from((index as u64) < rest);
        let count = load.count.map(|count| count / all + is_first(count % all));
        let part = Part {
            producer,
            clock: clock.clone(),
            rng: scene.host.rng.fork("payload"),
            size: load.size.as_usize(),
            end: End {
                count,
                duration: load.duration,
            },
            rate: load
                .rate
                .map(|rate| f64::from(rate) / f64::from(load.producers)),
            outstanding: load
                .outstanding
                .map(|most| Arc::new(Semaphore::new(most as usize))),
            stop: scene.stop.clone(),
            settled: settle.clone(),
        };
        let (done, ended) = oneshot::channel();
        scene.host.tasks.spawn("producer", async move {
            // Whoever does not wait has learnt of another failure.
            let _ = done.send(part.run().await);
        });
        parts.push(ended);
    }
    Ok(Publishing {
        begun,
        warmup: load.warmup,
        settled,
        parts,
    })
}

impl Publishing {
    /// Waits for the end, and counts.
    async fn finish(mut self, mut progress: Option<&mut Progress>) -> anyhow::Result<Measured> {
        // A load that is shorter than the warm-up is measured whole.
        let warm_at = self.begun.after(self.warmup);
        let (mut all, mut warm) = (histogram(), histogram());
        let (mut messages, mut warm_messages) = (0, 0);
        let mut last = self.begun;
        let mut some = Vec::new();
        while self.settled.recv_many(&mut some, 1024).await > 0 {
            for Settled { due, at, bytes } in some.drain(..) {
                record(&mut all, at.since(due));
                messages += 1;
                if at >= warm_at {
                    record(&mut warm, at.since(due));
                    warm_messages += 1;
                }
                last = last.max(at);
                if let Some(progress) = &mut progress {
                    progress.add(bytes);
                }
            }
        }
        for part in self.parts {
            part.await.context("a producer was given up")??;
        }
        if warm_messages > 0 && last > warm_at {
            return Ok(Measured {
                acks: warm,
                messages: warm_messages,
                took: last.since(warm_at),
            });
        }
        Ok(Measured {
            acks: all,
            messages,
            took: last.since(self.begun),
        })
    }
}

/// One producer's part of a load.
struct Part {
    producer: Producer,
    clock: Clock,
    rng: host::Rng,
    size: usize,
    end: End,
    rate: Option<f64>,
    outstanding: Option<Arc<Semaphore>>,
    stop: tokio_util::sync::CancellationToken,
    settled: mpsc::Sender<Settled>,
}

impl Part {
    async fn run(self) -> anyhow::Result<()> {
        let (receipts, waiting) = mpsc::channel(RECEIPTS);
        let wait = settle(
            waiting,
            self.settled.clone(),
            self.clock.clone(),
            self.size,
            self.outstanding.clone(),
        );
        let (sent, waited) = tokio::join!(self.send(receipts), wait);
        waited.and(sent)
    }

    async fn send(self, receipts: mpsc::Sender<(MonoTime, Receipt)>) -> anyhow::Result<()> {
        // Random bytes, at another place each time: nothing can be compressed or compared.
        let mut noise = vec![0; self.size + 4096];
        self.rng.fill(&mut noise);
        let mut dues = self
            .rate
            .map(|rate| pace::start(&self.clock, rate, self.end));
        let begun = self.clock.now();
        let mut number: u64 = 0;
        while !self.stop.is_cancelled() {
            if let Some(outstanding) = &self.outstanding {
                // Given back with the receipt.
                outstanding
                    .acquire()
                    .await
                    .context("never closed")?
                    .forget();
            }
            let due = match &mut dues {
                Some(dues) => match dues.recv().await {
                    Some(due) => due,
                    None => break,
                },
                None => self.clock.now(),
            };
            let is_over = match self.end.count {
                Some(count) => number >= count,
                None => self.rate.is_none() && due.since(begun) >= self.end.duration,
            };
            if is_over {
                break;
            }
            let message = Message::new(self.payload(&noise, due));
            let receipt = self.producer.send(message).await.map_err(explain)?;
            number += 1;
            if receipts.send((due, receipt)).await.is_err() {
                break; // A receipt failed: that is told there.
            }
        }
        Ok(())
    }

    fn payload(&self, noise: &[u8], due: MonoTime) -> Bytes {
        let at = self.rng.index(4096);
        let mut payload = noise[at..at + self.size].to_vec();
        if let Some(stamp) = payload.get_mut(..STAMP) {
            stamp.copy_from_slice(&due.as_nanos().to_le_bytes());
        }
        payload.into()
    }
}

/// Waits for receipts, in the order they come: that of sending.
async fn settle(
    mut receipts: mpsc::Receiver<(MonoTime, Receipt)>,
    settled: mpsc::Sender<Settled>,
    clock: Clock,
    bytes: usize,
    outstanding: Option<Arc<Semaphore>>,
) -> anyhow::Result<()> {
    while let Some((due, receipt)) = receipts.recv().await {
        receipt.await.map_err(explain)?;
        let at = clock.now();
        if let Some(outstanding) = &outstanding {
            outstanding.add_permits(1);
        }
        // Whoever counts is there until the last producer is done.
        let _ = settled.send(Settled { due, at, bytes }).await;
    }
    Ok(())
}
