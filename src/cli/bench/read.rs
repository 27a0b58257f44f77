//! Consumers at work: they read, check and ack.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use host::Clock;
use ledgerline_client::{
    AckReceipt, ByteSize, Consumer, Error, Reason, Received, StartPosition, SubscriptionMode,
    SubscriptionOptions,
};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use types::MonoTime;

use super::meter::Meter;
use super::pace::Bucket;
use super::scene::Scene;
use super::stamp::{self, Stamp, Unstamped};
use super::verify::{Verdict, Verifier};
use crate::cli::client::explain;

/// Messages that are checked and counted together.
const TOGETHER: usize = 256;
/// Most acks of a consumer that wait for their confirmation.
const UNCONFIRMED_MAX: usize = 10_000;

/// How a subscription is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habits {
    /// Where it begins.
    pub(super) start: StartPosition,
    pub(super) mode: SubscriptionMode,
    pub(super) consumers: u32,
    /// Each ack is waited for, and timed.
    pub(super) is_confirmed: bool,
    /// Messages a second that each consumer takes at most; none for as fast as they come.
    pub(super) rate: Option<u32>,
    /// What each consumer may be sent ahead.
    pub(super) credit: (u32, ByteSize),
    pub(super) timeout: Duration,
}

/// What the consumers of one subscription found together.
#[derive(Debug)]
pub(super) struct Findings {
    state: Mutex<State>,
    moved: Notify,
}

#[derive(Debug)]
struct State {
    verifier: Verifier,
    /// Acks without a confirmation, where those are waited for.
    unconfirmed: u64,
    /// Acks of messages whose lease was over: they go to another consumer.
    refused: u64,
}

impl Findings {
    pub(super) fn new(verifier: Verifier) -> Self {
        Self {
            state: Mutex::new(State {
                verifier,
                unconfirmed: 0,
                refused: 0,
            }),
            moved: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What was found is valid after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what was found.
    pub(super) fn verdict(&self, of: impl FnOnce(&Verifier) -> Verdict) -> Verdict {
        of(&self.lock().verifier)
    }

    /// Acks that were refused.
    pub(super) fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// Waits until so many messages are here, and acked where that is waited for. False when nothing moved for
    /// `patience`.
    async fn wait_for(&self, messages: u64, clock: &Clock, patience: Duration) -> bool {
        loop {
            let moved = self.moved.notified();
            {
                let state = self.lock();
                if state.verifier.arrived() >= messages && state.unconfirmed == 0 {
                    return true;
                }
            }
            if clock.timeout(patience, moved).await.is_err() {
                return false;
            }
        }
    }
}

/// Subscriptions that are being read.
#[derive(Debug)]
pub(super) struct Reading {
    scene: Scene,
    /// Of each subscription.
    pub(super) findings: Vec<Arc<Findings>>,
    timeout: Duration,
    stop: CancellationToken,
    ends: mpsc::Receiver<anyhow::Result<()>>,
    running: usize,
}

/// How waiting for messages ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// They are here.
    All,
    /// Nothing came any more.
    InVain,
    /// By the user.
    Stopped,
}

/// Consumers that are open, each with the number of its subscription.
pub(super) struct Opened {
    consumers: Vec<(usize, Consumer)>,
    subscriptions: usize,
    habits: Habits,
}

/// Makes subscriptions of a topic; their names.
pub(super) async fn subscribe(
    scene: &Scene,
    subscriptions: u32,
    habits: Habits,
) -> anyhow::Result<Vec<String>> {
    let topic = &scene.topic(0);
    let admin = scene.client.admin();
    let mut names = Vec::new();
    for number in 0..subscriptions {
        let name = format!("{topic}/subscriptions/bench-{:08x}-{number}", scene.run);
        let options = SubscriptionOptions {
            mode: Some(habits.mode),
            ack_deadline: None,
            start: Some(habits.start),
        };
        scene.makes_subscription(&name);
        let making = admin.create_subscription(&name, options);
        scene.make(topic, habits.timeout, making).await?;
        names.push(name);
    }
    Ok(names)
}

/// Opens the consumers of subscriptions.
pub(super) async fn open(
    scene: &Scene,
    names: Vec<String>,
    habits: Habits,
) -> anyhow::Result<Opened> {
    let topic = scene.topic(0);
    let mut consumers = Vec::new();
    for (number, name) in names.iter().enumerate() {
        for _ in 0..habits.consumers {
            let builder = scene
                .client
                .consumer(name)
                .credit(habits.credit.0, habits.credit.1)
                .timeout(habits.timeout);
            let opening = scene.open(&topic, habits.timeout, builder.open());
            consumers.push((number, opening.await?));
        }
    }
    Ok(Opened {
        consumers,
        subscriptions: names.len(),
        habits,
    })
}

/// Starts to read. `timed`: messages of this run are timed from when they were due.
pub(super) fn start(
    scene: &Scene,
    opened: Opened,
    meter: &Arc<Meter>,
    timed: Option<u32>,
    verifier: impl Fn() -> Verifier,
) -> Reading {
    let findings: Vec<Arc<Findings>> = (0..opened.subscriptions)
        .map(|_| Arc::new(Findings::new(verifier())))
        .collect();
    let stop = CancellationToken::new();
    let clock = &scene.host.clock;
    let running = opened.consumers.len();
    let (end, ends) = mpsc::channel(running);
    for (number, consumer) in opened.consumers {
        let reader = Reader {
            consumer,
            findings: Arc::clone(&findings[number]),
            meter: Arc::clone(meter),
            clock: clock.clone(),
            timed,
            is_confirmed: opened.habits.is_confirmed,
            bucket: opened
                .habits
                .rate
                .map(|rate| Bucket::new(clock.now(), rate)),
            contents: Vec::with_capacity(TOGETHER),
            times: Vec::with_capacity(TOGETHER),
            unconfirmed: VecDeque::new(),
        };
        let (end, stop) = (end.clone(), stop.clone());
        scene.host.tasks.spawn("reader", async move {
            // Whoever does not wait has learnt of another failure.
            let _ = end.send(reader.run(stop).await).await;
        });
    }
    Reading {
        scene: scene.clone(),
        findings,
        timeout: opened.habits.timeout,
        stop,
        ends,
        running,
    }
}

impl Reading {
    /// Waits until so many messages arrived at each subscription. Fails when a consumer does.
    pub(super) async fn wait_for(&mut self, messages: u64) -> anyhow::Result<Waited> {
        let (clock, timeout) = (&self.scene.host.clock, self.timeout);
        let all = async {
            for findings in &self.findings {
                if !findings.wait_for(messages, clock, timeout).await {
                    return Waited::InVain;
                }
            }
            Waited::All
        };
        tokio::select! {
            biased;
            () = self.scene.stop.cancelled() => Ok(Waited::Stopped),
            Some(ended) = self.ends.recv() => {
                ended?;
                anyhow::bail!("a consumer ended by itself");
            }
            waited = all => Ok(waited),
        }
    }

    /// Returns when a consumer fails, and never otherwise.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        match self.ends.recv().await {
            Some(Err(error)) => error,
            _ => anyhow::anyhow!("a consumer ended by itself"),
        }
    }

    /// Ends the consumers, with all they have acked.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        for _ in 0..self.running {
            match self.ends.recv().await {
                Some(ended) => ended?,
                None => break,
            }
        }
        Ok(())
    }
}

/// One consumer.
struct Reader {
    consumer: Consumer,
    findings: Arc<Findings>,
    meter: Arc<Meter>,
    clock: Clock,
    timed: Option<u32>,
    is_confirmed: bool,
    /// Holds it to a rate.
    bucket: Option<Bucket>,
    /// Buffers of [`Reader::take`] and [`Reader::settle`], kept for their memory.
    contents: Vec<(u64, Result<Stamp, Unstamped>)>,
    times: Vec<MonoTime>,
    /// Acks that are not confirmed yet, with the bytes of their messages.
    unconfirmed: VecDeque<(MonoTime, usize, AckReceipt)>,
}

impl Reader {
    async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut stopped = std::pin::pin!(stop.cancelled());
        loop {
            let has_room = self.unconfirmed.len() < UNCONFIRMED_MAX;
            let first = self.unconfirmed.front_mut();
            let confirmed = async {
                match first {
                    Some((_, _, receipt)) => receipt.await,
                    None => std::future::pending().await,
                }
            };
            let ready_at = self.bucket.as_ref().map(Bucket::ready_at);
            let next = async {
                if let Some(at) = ready_at {
                    // Nothing is taken meanwhile, so that the server is not granted more.
                    self.clock.sleep_until(at).await;
                }
                self.consumer.recv().await
            };
            tokio::select! {
                biased;
                () = &mut stopped => break,
                confirmed = confirmed => self.settle(confirmed)?,
                message = next, if has_room => self.take(message.map_err(explain)?)?,
            }
        }
        self.consumer.close().await.map_err(explain)
    }

    /// Takes a message and those that are here with it, as far as its rate allows.
    fn take(&mut self, first: Received) -> anyhow::Result<()> {
        let now = self.clock.now();
        let room = self.bucket.as_mut().map(|bucket| bucket.room(now));
        let most = room.map_or(TOGETHER, |room| {
            usize::try_from(room).unwrap_or(TOGETHER).clamp(1, TOGETHER)
        });
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(message) = next {
            let content = stamp::read(message.payload());
            if let Ok(stamp) = content
                && self.timed == Some(stamp.run)
            {
                self.times.push(stamp.due);
            }
            self.contents.push((message.offset(), content));
            let len = message.payload().len();
            bytes += len;
            if self.is_confirmed {
                let receipt = self.consumer.ack_confirmed(&message);
                self.unconfirmed.push_back((self.clock.now(), len, receipt));
            } else {
                self.consumer.ack(&message);
            }
            next = if self.contents.len() < most {
                self.consumer.try_recv().map_err(explain)?
            } else {
                None
            };
        }
        let messages = self.contents.len() as u64;
        if let Some(bucket) = &mut self.bucket {
            bucket.take(messages);
        }
        if !self.is_confirmed {
            let now = self.clock.now();
            self.meter.count(now, messages, bytes as u64, &self.times);
        }
        let mut state = self.findings.lock();
        for (offset, content) in self.contents.drain(..) {
            state.verifier.take(offset, content);
        }
        if self.is_confirmed {
            state.unconfirmed += messages;
        }
        drop(state);
        self.findings.moved.notify_one();
        self.times.clear();
        Ok(())
    }

    /// Takes the confirmation of the first ack, and those that are here with it.
    fn settle(&mut self, first: Result<(), Error>) -> anyhow::Result<()> {
        let mut next = Some(first);
        let (mut bytes, mut settled, mut refused) = (0, 0, 0);
        while let Some(confirmed) = next {
            let (asked, len, _) = self.unconfirmed.pop_front().expect("it was confirmed");
            settled += 1;
            match confirmed {
                Ok(()) => {
                    bytes += len;
                    self.times.push(asked);
                }
                Err(error) if error.reason() == Reason::LeaseLost => refused += 1,
                Err(error) => return Err(explain(error)),
            }
            let waiting = self.unconfirmed.front_mut();
            next = waiting.and_then(|(_, _, receipt)| receipt.now_or_never());
        }
        let now = self.clock.now();
        self.meter
            .count(now, settled - refused, bytes as u64, &self.times);
        let mut state = self.findings.lock();
        state.unconfirmed -= settled;
        state.refused += refused;
        drop(state);
        self.findings.moved.notify_one();
        self.times.clear();
        Ok(())
    }
}
