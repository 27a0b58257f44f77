//! Producers at work.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use host::Clock;
use ledgerline_client::{ByteSize, Codec, Producer, Receipt};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use types::MonoTime;

use super::meter::{Counted, Meter};
use super::outbox::{Outbox, TOGETHER};
use super::pace::{self, End};
use super::scene::Scene;
use super::stamp::{Maker, Noise};
use super::unary::Unary;
use crate::cli::client::explain;
use crate::cli::produce::{Batching, to_f64};

/// Messages of a sender without a receipt, when nothing else bounds them.
const OUTSTANDING: u32 = 1 << 16;
/// How many messages may go before a sender that never waits looks whether it is to stop.
const LOOK: u64 = 64;

/// Bytes without an ack of all producers together, which are in memory beside the servers that are measured, and the
/// least and the most of each.
const MEMORY: u64 = 512 << 20;
const MEMORY_LEAST: u64 = 8 << 20;
const MEMORY_MOST: u64 = 64 << 20;

/// What is published, how, and until when.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) producers: u32,
    pub(super) topics: u32,
    pub(super) way: Way,
    /// Messages a second, of all producers together; none for a closed loop.
    pub(super) rate: Option<u32>,
    pub(super) size: ByteSize,
    /// The part of a message's noise that is zeros, in percent.
    pub(super) compressible: u8,
    /// How batches are compressed.
    pub(super) codec: Option<Codec>,
    pub(super) end: End,
    pub(super) warmup: Duration,
    pub(super) batching: Batching,
    pub(super) timeout: Duration,
}

/// How a producer is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// One sender that does not wait for receipts, or only when so many messages are without one.
    Stream { outstanding: Option<u32> },
    /// So many tasks that each wait for the receipt of their message.
    Tasks(u32),
    /// A call for each message.
    Unary,
}

impl Load {
    /// Streams of messages: those who number their own.
    fn streams_of_each(&self) -> u32 {
        match self.way {
            Way::Stream { .. } => 1,
            Way::Tasks(tasks) => tasks,
            Way::Unary => u32::try_from(self.batching.in_flight).unwrap_or(u32::MAX),
        }
    }
}

/// Producers at work.
pub(super) struct Publishing {
    pub(super) meter: Arc<Meter>,
    streams: Vec<oneshot::Receiver<anyhow::Result<u64>>>,
}

/// Opens the producers, and starts them once all are open.
pub(super) async fn start(scene: &Scene, load: &Load) -> anyhow::Result<Publishing> {
    let mut producers = Vec::new();
    for index in 0..load.producers {
        let topic = &scene.topic(index % load.topics);
        producers.push(Caller::open(scene, load, topic, index).await?);
    }
    let noise = Noise::new(&scene.host.rng, load.size.as_usize(), load.compressible);
    let clock = &scene.host.clock;
    let meter = Arc::new(Meter::new(Counted::Messages, clock.now(), load.warmup));
    let each = load.streams_of_each();
    let all = u64::from(load.producers) * u64::from(each);
    let stop = scene.stop.child_token();
    let mut streams = Vec::new();
    for (producer, number) in producers
        .iter()
        .flat_map(|it| std::iter::repeat_n(it, each as usize))
        .zip(0..)
    {
        let is_first = |rest: u64| u64::from(u64::from(number) < rest);
        let count = load.end.count;
        let stream = Stream {
            maker: Maker::new(&noise, scene.run, number),
            clock: clock.clone(),
            meter: Arc::clone(&meter),
            size: load.size.get(),
            end: End {
                count: count.map(|count| count / all + is_first(count % all)),
                ..load.end
            },
            stop: stop.clone(),
        };
        let rate = load.rate.map(|rate| f64::from(rate) / to_f64(all));
        let (done, ended) = oneshot::channel();
        let working = stream.run(producer.clone(), load.way, rate);
        let stop = stop.clone();
        scene.host.tasks.spawn("stream", async move {
            let ended = working.await;
            if ended.is_err() {
                stop.cancel();
            }
            // Whoever does not wait has learnt of another failure.
            let _ = done.send(ended);
        });
        streams.push(ended);
    }
    Ok(Publishing { meter, streams })
}

impl Publishing {
    /// Waits until all is sent and acked; how many messages of each stream are.
    pub(super) async fn finish(self) -> anyhow::Result<Vec<u64>> {
        let mut acked = Vec::new();
        for stream in self.streams {
            acked.push(stream.await.context("a producer was given up")??);
        }
        Ok(acked)
    }
}

/// The way to the servers.
#[derive(Debug, Clone)]
enum Caller {
    Producer(Producer),
    Unary(Box<Unary>),
}

impl Caller {
    async fn open(scene: &Scene, load: &Load, topic: &str, index: u32) -> anyhow::Result<Self> {
        if load.way == Way::Unary {
            let unary = Unary::new(scene, topic, index, load.timeout)?;
            return Ok(Self::Unary(Box::new(unary)));
        }
        let memory = (MEMORY / u64::from(load.producers.max(1))).clamp(MEMORY_LEAST, MEMORY_MOST);
        let builder = scene
            .client
            .producer(topic)
            .in_flight(load.batching.in_flight)
            .batch_bytes(load.batching.batch)
            .compression(load.codec)
            .memory(ByteSize::new(memory))
            .timeout(load.timeout);
        let opening = scene.open(topic, load.timeout, builder.create());
        Ok(Self::Producer(opening.await?))
    }
}

/// One stream of numbered messages.
struct Stream {
    maker: Maker,
    clock: Clock,
    meter: Arc<Meter>,
    size: u64,
    end: End,
    stop: CancellationToken,
}

impl Stream {
    /// Publishes to the end; how many messages are acked.
    async fn run(self, caller: Caller, way: Way, rate: Option<f64>) -> anyhow::Result<u64> {
        match (caller, way) {
            (Caller::Producer(producer), Way::Stream { outstanding }) => {
                self.flow(producer, outstanding, rate).await
            }
            (caller, _) => self.one_by_one(caller).await,
        }
    }

    /// Sends a message, waits for its ack, sends the next.
    async fn one_by_one(mut self, mut caller: Caller) -> anyhow::Result<u64> {
        let begun = self.clock.now();
        for number in 0.. {
            let due = self.clock.now();
            if self.stop.is_cancelled() || self.end.is_over(number, due.since(begun)) {
                return Ok(number);
            }
            let payload = self.maker.next(due);
            match &mut caller {
                Caller::Producer(producer) => {
                    let receipt = producer.send(payload).await.map_err(explain)?;
                    receipt.await.map_err(explain)?;
                }
                Caller::Unary(unary) => unary.publish(payload).await?,
            }
            self.meter.count(self.clock.now(), 1, self.size, &[due]);
        }
        Ok(u64::MAX)
    }

    /// Sends on and on, and takes receipts as they come.
    async fn flow(
        self,
        producer: Producer,
        outstanding: Option<u32>,
        rate: Option<f64>,
    ) -> anyhow::Result<u64> {
        let outstanding = outstanding.unwrap_or(OUTSTANDING) as usize;
        let room = Arc::new(Semaphore::new(outstanding));
        let (out, waiting) = mpsc::channel(outstanding);
        let settling = Settling {
            waiting,
            room: Arc::clone(&room),
            clock: self.clock.clone(),
            meter: Arc::clone(&self.meter),
            size: self.size,
            dues: Vec::with_capacity(TOGETHER),
            acked: 0,
        };
        let settled = async {
            let settled = settling.run().await;
            // After a failure the sender may wait for room that nobody gives back.
            room.close();
            settled
        };
        let room = Room {
            room: Arc::clone(&room),
            taken: 0,
        };
        let sending = self.send(producer, room, rate, Outbox::new(out));
        let (sent, acked) = tokio::join!(sending, settled);
        // Why a receipt failed says more than why the next message could not be sent.
        let acked = acked?;
        sent.map(|()| acked)
    }

    async fn send(
        self,
        producer: Producer,
        room: Room,
        rate: Option<f64>,
        mut outbox: Outbox<Sent>,
    ) -> anyhow::Result<()> {
        let sent = self.send_on(&producer, room, rate, &mut outbox).await;
        // What was sent is waited for whatever came after it. If nobody does, a receipt failed: that is told there.
        let _ = outbox.hand_over().await;
        sent
    }

    async fn send_on(
        mut self,
        producer: &Producer,
        mut room: Room,
        rate: Option<f64>,
        outbox: &mut Outbox<Sent>,
    ) -> anyhow::Result<()> {
        let mut dues = rate.map(|rate| pace::start(&self.clock, rate, self.end));
        let stop = self.stop.clone();
        let mut stopped = std::pin::pin!(stop.cancelled());
        let begun = self.clock.now();
        for number in 0.. {
            if number % LOOK == 0 && stop.is_cancelled() {
                return Ok(());
            }
            let next = async {
                room.take().await?;
                match &mut dues {
                    Some(dues) => dues.recv().await,
                    None => Some(self.clock.now()),
                }
            };
            let Some(Some(due)) = outbox.unless(stopped.as_mut(), next).await else {
                return Ok(());
            };
            // The pace ends by itself.
            if rate.is_none() && self.end.is_over(number, due.since(begun)) {
                return Ok(());
            }
            let sending = producer.send(self.maker.next(due));
            let Some(sent) = outbox.unless(stopped.as_mut(), sending).await else {
                return Ok(());
            };
            let receipt = sent.map_err(explain)?;
            if outbox.add((due, receipt)).await.is_none() {
                return Ok(()); // A receipt failed: that is told there.
            }
        }
        Ok(())
    }
}

/// When a message was due, and its receipt.
type Sent = (MonoTime, Receipt);

/// Room for messages without a receipt, of the one sender who takes from it. It is given back with the receipts.
struct Room {
    room: Arc<Semaphore>,
    /// What was taken and is not used yet.
    taken: usize,
}

impl Room {
    /// Takes room for a message; none when nobody gives any back.
    async fn take(&mut self) -> Option<()> {
        if self.taken == 0 {
            // Whatever there is, at once: to take it message by message would cost a good part of sending one.
            let some = self.room.available_permits().clamp(1, TOGETHER);
            let permits = u32::try_from(some).expect("it was just bounded");
            self.room.acquire_many(permits).await.ok()?.forget();
            self.taken = some;
        }
        self.taken -= 1;
        Some(())
    }
}

/// Waits for receipts, in the order they come: that of sending.
struct Settling {
    waiting: mpsc::Receiver<Vec<Sent>>,
    room: Arc<Semaphore>,
    clock: Clock,
    meter: Arc<Meter>,
    size: u64,
    /// When those messages were due that are acked and not counted yet.
    dues: Vec<MonoTime>,
    acked: u64,
}

impl Settling {
    /// How many messages are acked at the end.
    async fn run(mut self) -> anyhow::Result<u64> {
        while let Some(sent) = self.next().await {
            for (due, mut receipt) in sent {
                let stored = if let Some(stored) = (&mut receipt).now_or_never() {
                    stored
                } else {
                    self.count();
                    receipt.await
                };
                stored.map_err(explain)?;
                self.dues.push(due);
                if self.dues.len() == TOGETHER {
                    self.count();
                }
            }
        }
        Ok(self.acked)
    }

    /// What was sent next.
    async fn next(&mut self) -> Option<Vec<Sent>> {
        if let Ok(sent) = self.waiting.try_recv() {
            return Some(sent);
        }
        self.count();
        self.waiting.recv().await
    }

    /// Counts what is here together, before anything is waited for.
    fn count(&mut self) {
        let some = self.dues.len();
        let bytes = some as u64 * self.size;
        if some > 0 {
            self.meter
                .count(self.clock.now(), some as u64, bytes, &self.dues);
            self.dues.clear();
            self.room.add_permits(some);
            self.acked += some as u64;
        }
    }
}
