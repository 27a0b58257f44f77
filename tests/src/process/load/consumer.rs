//! A consumer.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ledgerline_client::{AckReceipt, Client, Received, SessionChange};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Counts;
use crate::history::{Acked, Delivered, Event, HistoryWriter, Name, Received as Line, Session};
use crate::workload::Stamp;

/// Acks that may be waited for at a time.
const ACKS_MAX: usize = 100_000;

/// The names of streams that are open. Clones are the same names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    open: Arc<Mutex<BTreeSet<String>>>,
}

impl Streams {
    fn note(&self, name: &str, is_open: bool) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if is_open {
            open.insert(name.to_owned());
        } else {
            open.remove(name);
        }
    }

    /// Those that are open, and from now on are not: their process died.
    pub(crate) fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How a consumer works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Habits {
    /// Leaves one message in so many unacked, until [`Load::stop_holding`](super::Load::stop_holding). 0: acks all.
    pub hold_every: u64,
    /// Hands one message in so many back the first time it comes. 0: none.
    pub nack_every: u64,
    /// Keeps a message so long before it acks it.
    pub work: Duration,
}

pub(crate) struct Consuming {
    pub(crate) topic: String,
    pub(crate) subscription: String,
    pub(crate) name: String,
    pub(crate) habits: Habits,
    pub(crate) client: Client,
    pub(crate) history: HistoryWriter,
    pub(crate) counts: Arc<Counts>,
    pub(crate) holds: Arc<AtomicBool>,
    pub(crate) stop: CancellationToken,
    /// Its streams that are open, by their names in the history.
    pub(crate) streams: Streams,
}

/// An ack that is not answered: the session's name, the message.
type Asked = (String, Stamp, AckReceipt);

impl Consuming {
    /// Consumes until it is asked to stop.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let full = format!("{}/subscriptions/{}", self.topic, self.subscription);
        let (subscription, name) = (self.subscription.clone(), self.name.clone());
        let (history, streams) = (self.history.clone(), self.streams.clone());
        let observe = move |change| {
            let (number, is_open) = match change {
                SessionChange::Opens(number) => (number, true),
                SessionChange::Ends(number) => (number, false),
            };
            let consumer = session(&name, number);
            streams.note(&consumer, is_open);
            let session = Session {
                t: history.now(),
                sub: Name::from(&*subscription),
                c: Name::from(&*consumer),
            };
            history.record(&if is_open {
                Event::Open(session)
            } else {
                Event::Close(session)
            });
        };
        let mut consumer = self
            .client
            .consumer(full)
            .name(&self.name)
            .on_session(observe)
            .open()
            .await?;
        let (asked, answers) = mpsc::channel(ACKS_MAX);
        let receiving = async {
            let asked = asked; // Dropped at the end, which ends the settling.
            let mut before = Instant::now();
            loop {
                let received = tokio::select! {
                    biased;
                    () = self.stop.cancelled() => break,
                    received = consumer.recv() => received?,
                };
                let now = Instant::now();
                self.counts.paused(now - before);
                before = now;
                self.note(&received);
                if !self.habits.work.is_zero() {
                    tokio::time::sleep(self.habits.work).await;
                }
                self.decide(&consumer.acker(), &received, &asked).await?;
            }
            anyhow::Ok(())
        };
        let ((), received) = tokio::join!(self.settle(answers), receiving);
        received?;
        consumer.close().await?;
        Ok(())
    }

    /// Acks a message, hands it back, or keeps it.
    async fn decide(
        &self,
        acker: &ledgerline_client::Acker,
        received: &Received,
        asked: &mpsc::Sender<Asked>,
    ) -> anyhow::Result<()> {
        let Ok(stamp) = Stamp::read(received.payload()) else {
            return Ok(()); // The judge hears of it.
        };
        let is_one_in = |count: u64| count > 0 && received.offset().is_multiple_of(count);
        if self.holds.load(Ordering::Relaxed) && is_one_in(self.habits.hold_every) {
            return Ok(());
        }
        let consumer = session(&self.name, received.session());
        if is_one_in(self.habits.nack_every) && received.attempt() == 1 {
            self.history
                .record(&Event::Nack(self.line(&consumer, &stamp)));
            acker.nack(received, Duration::ZERO);
            return Ok(());
        }
        self.history
            .record(&Event::Ack(self.line(&consumer, &stamp)));
        self.counts.pending.fetch_add(1, Ordering::Relaxed);
        asked
            .send((consumer, stamp, acker.ack_confirmed(received)))
            .await?;
        Ok(())
    }

    /// Writes down which acks were confirmed.
    async fn settle(&self, mut answers: mpsc::Receiver<Asked>) {
        while let Some((consumer, stamp, receipt)) = answers.recv().await {
            if receipt.await.is_ok() {
                self.history
                    .record(&Event::AckOk(self.line(&consumer, &stamp)));
            } else {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
            }
            self.counts.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn note(&self, received: &Received) {
        self.counts.done.fetch_add(1, Ordering::Relaxed);
        let consumer = session(&self.name, received.session());
        let stamp = Stamp::read(received.payload()).ok();
        let (writer, n, partition) = match &stamp {
            Some(stamp) => (&*stamp.writer, stamp.n, &*stamp.partition),
            None => ("", 0, &*self.topic),
        };
        self.history.record(&Event::Recv(Line {
            t: self.history.now(),
            sub: Name::from(&*self.subscription),
            c: Name::from(&*consumer),
            p: Name::from(&*self.topic),
            ms: vec![Delivered {
                w: Name::from(writer),
                n,
                o: received.offset(),
                redelivered: received.attempt() > 1,
                hash: Some(Stamp::hash(received.payload())),
                astray: (partition != self.topic).then(|| Name::from(partition)),
            }],
        }));
    }

    fn line<'a>(&'a self, consumer: &'a str, stamp: &'a Stamp) -> Acked<'a> {
        Acked {
            t: self.history.now(),
            sub: Name::from(&*self.subscription),
            c: Name::from(consumer),
            p: Name::from(&*self.topic),
            ms: vec![(Name::from(&*stamp.writer), stamp.n)],
            cu: None,
        }
    }
}

/// The name in the history of one stream of a consumer.
fn session(consumer: &str, number: u64) -> String {
    format!("{consumer}/{number}")
}
