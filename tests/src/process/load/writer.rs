//! A writer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ledgerline_client::{Client, Error, ErrorKind, Producer, Receipt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Counts, Past};
use crate::history::{Event, HistoryWriter, Name, Outcome, Sent, Stored};
use crate::workload::{Stamp, WriterPlan};
use types::Reason;

/// Receipts that may be waited for at a time: what is sent in some minutes of outage.
const RECEIPTS_MAX: usize = 100_000;

pub(crate) struct Writer {
    pub(crate) plan: WriterPlan,
    pub(crate) client: Client,
    pub(crate) history: HistoryWriter,
    pub(crate) counts: Arc<Counts>,
    pub(crate) stop: CancellationToken,
    /// What earlier processes of the writer have sent.
    pub(crate) past: Past,
    /// Whether its producer has its name and so goes on where the topic is; else the past is empty.
    pub(crate) is_named: bool,
}

impl Writer {
    /// Sends what the plan says until all is sent or it is asked to stop, then waits for every answer. What an earlier
    /// process has sent and is not stored is sent again, first of all and in any case.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let producer = self.producer().await?;
        let first_new = self.past.next();
        let (waiting, receipts) = mpsc::channel(RECEIPTS_MAX);
        let begun = Instant::now();
        let sent_before = self.plan.due(first_new);
        let due = |n| begun + self.plan.due(n).saturating_sub(sent_before);
        let sending = async {
            let waiting = waiting; // Dropped at the end, which ends the settling.
            let first = if self.is_named {
                producer.stored_before()
            } else {
                0
            };
            for n in first..self.plan.messages() {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled(), if n >= first_new => break,
                    () = sleep_until(due(n)) => {}
                }
                let payload = self.plan.payload(n);
                self.begin(n, &payload);
                match producer.send(payload).await {
                    Ok(receipt) => waiting.send((n, receipt)).await?,
                    Err(error) if self.is_named && is_fenced(&error) => {
                        self.counts.pending.fetch_sub(1, Ordering::Relaxed);
                        return Err(error.into());
                    }
                    Err(error) => {
                        self.history.record(&Event::Fail(self.outcome(n)));
                        self.counts.refused.fetch_add(1, Ordering::Relaxed);
                        self.counts.pending.fetch_sub(1, Ordering::Relaxed);
                        return Err(error.into());
                    }
                }
            }
            Ok(())
        };
        let ((), sent) = tokio::join!(self.settle(&due, receipts), sending);
        sent
    }

    /// Opens its producer, and writes down what turns out to be stored of what earlier processes have sent.
    async fn producer(&self) -> anyhow::Result<Producer> {
        let producer = self.client.producer(&self.plan.topic);
        if !self.is_named {
            return Ok(producer.create().await?);
        }
        let producer = producer.name(&self.plan.writer).create().await?;
        for n in self.past.take_up(producer.stored_before())? {
            self.stored(n, None);
        }
        Ok(producer)
    }

    fn begin(&self, n: u64, payload: &[u8]) {
        if self.past.sends(n) {
            self.history.record(&Event::Info(self.outcome(n)));
        }
        self.counts.pending.fetch_add(1, Ordering::Relaxed);
        self.history.record(&Event::Send(Sent {
            t: self.history.now(),
            w: Name::from(&*self.plan.writer),
            p: Name::from(&*self.plan.topic),
            n,
            k: None,
            h: Some(Stamp::hash(payload)),
            due: None,
            x: Vec::new(),
        }));
    }

    /// Writes down what became of each message: receipts resolve in order.
    async fn settle(
        &self,
        due: &impl Fn(u64) -> Instant,
        mut receipts: mpsc::Receiver<(u64, Receipt)>,
    ) {
        let mut before = Instant::now();
        while let Some((n, receipt)) = receipts.recv().await {
            let answer = receipt.await;
            if answer.is_ok() {
                let now = Instant::now();
                self.counts.paused(now - before);
                before = now;
                self.counts.took(now - due(n));
            }
            self.settled(n, answer.map(|stored| stored.first_offset));
            self.counts.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn settled(&self, n: u64, answer: Result<Option<u64>, Error>) {
        let error = match answer {
            Ok(offset) => return self.stored(n, offset),
            // As if the process had died: the next one of the name finds out.
            Err(error) if self.is_named && is_fenced(&error) => return,
            Err(error) => error,
        };
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        // Only a request that could never be granted is known not to be stored.
        self.history.record(&if error.kind() == ErrorKind::Invalid {
            Event::Fail(self.outcome(n))
        } else {
            Event::Info(self.outcome(n))
        });
    }

    fn stored(&self, n: u64, offset: Option<u64>) {
        self.counts.done.fetch_add(1, Ordering::Relaxed);
        self.past.stored(n);
        self.history.record(&Event::Ok(Stored {
            t: self.history.now(),
            w: Name::from(&*self.plan.writer),
            p: Name::from(&*self.plan.topic),
            n,
            o: offset,
            ep: None,
        }));
    }

    fn outcome(&self, n: u64) -> Outcome<'_> {
        Outcome {
            t: self.history.now(),
            w: Name::from(&*self.plan.writer),
            p: Name::from(&*self.plan.topic),
            n,
        }
    }
}

/// Whether another opening took the producer's name.
pub(crate) fn is_fenced(error: &Error) -> bool {
    error.reason() == Reason::ProducerFenced
}
