//! A writer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ledgerline_client::{Client, Error, ErrorKind, Receipt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Counts;
use crate::history::{Event, HistoryWriter, Name, Outcome, Sent, Stored};
use crate::workload::{Stamp, WriterPlan};

/// Receipts that may be waited for at a time: what is sent in some minutes of outage.
const RECEIPTS_MAX: usize = 100_000;

pub(super) struct Writer {
    pub(super) plan: WriterPlan,
    pub(super) client: Client,
    pub(super) history: HistoryWriter,
    pub(super) counts: Arc<Counts>,
    pub(super) stop: CancellationToken,
}

impl Writer {
    /// Sends what the plan says until all is sent or it is asked to stop, then waits for every answer.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let producer = self.client.producer(&self.plan.topic).create().await?;
        let (waiting, receipts) = mpsc::channel(RECEIPTS_MAX);
        let sending = async {
            let waiting = waiting; // Dropped at the end, which ends the settling.
            let begun = Instant::now();
            for n in 0..self.plan.messages() {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => break,
                    () = sleep_until(begun + self.plan.due(n)) => {}
                }
                let payload = self.plan.payload(n);
                self.begin(n, &payload);
                match producer.send(payload).await {
                    Ok(receipt) => waiting.send((n, receipt)).await?,
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
        let ((), sent) = tokio::join!(self.settle(receipts), sending);
        sent
    }

    fn begin(&self, n: u64, payload: &[u8]) {
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
    async fn settle(&self, mut receipts: mpsc::Receiver<(u64, Receipt)>) {
        let mut before = Instant::now();
        while let Some((n, receipt)) = receipts.recv().await {
            let answer = receipt.await;
            if answer.is_ok() {
                let now = Instant::now();
                self.counts.paused(now - before);
                before = now;
            }
            self.settled(n, answer.map(|stored| stored.first_offset));
            self.counts.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn settled(&self, n: u64, answer: Result<Option<u64>, Error>) {
        let event = match answer {
            Ok(offset) => {
                self.counts.done.fetch_add(1, Ordering::Relaxed);
                Event::Ok(Stored {
                    t: self.history.now(),
                    w: Name::from(&*self.plan.writer),
                    p: Name::from(&*self.plan.topic),
                    n,
                    o: offset,
                    ep: None,
                })
            }
            Err(error) => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                // Only a request that could never be granted is known not to be stored.
                if error.kind() == ErrorKind::Invalid {
                    Event::Fail(self.outcome(n))
                } else {
                    Event::Info(self.outcome(n))
                }
            }
        };
        self.history.record(&event);
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
