//! What a serving node counts, and whether it may be sent work.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use host::Probe;
use host::metrics::{Counter, Gauge, Held, Histogram, Page, Source};
use topic::{Receipt, Stored};
use types::Reason;

use crate::node::Node;
use crate::shard::Status;
use crate::shard::core::{Request, Told};

/// The numbers of a node's shards and streams, moved once for each batch.
#[derive(Debug, Default)]
pub struct Metrics {
    stored: Published,
    duplicates: Published,
    batches_refused: ByReason,
    requests_refused: ByReason,
    publish: Histogram,
    deliveries: Counter,
    delivered_messages: Counter,
    delivered_bytes: Counter,
    redelivered_messages: Counter,
    unreadable_batches: Counter,
    acks: Counter,
    nacks: Counter,
    extends: Counter,
    producers: Arc<Gauge>,
    consumers: Arc<Gauge>,
    moves: Histogram,
    moves_failed: Counter,
    opened_unasked: Counter,
}

/// Batches that were stored.
#[derive(Debug, Default)]
struct Published {
    batches: Counter,
    messages: Counter,
    bytes: Counter,
}

/// A counter for each reason there is.
#[derive(Debug)]
struct ByReason(Box<[Counter]>);

impl Default for ByReason {
    fn default() -> Self {
        Self(Reason::ALL.iter().map(|_| Counter::default()).collect())
    }
}

impl ByReason {
    fn inc(&self, reason: Reason) {
        // In the order of the declaration, as `ALL` is.
        self.0[reason as usize].inc();
    }

    fn write(&self, page: &mut Page, name: &'static str, help: &'static str) {
        for (reason, count) in Reason::ALL.iter().zip(&self.0) {
            let labels = [("reason", reason.as_str())];
            page.counter(name, help, &labels, count.get());
        }
    }
}

impl Metrics {
    /// A batch got its receipt; of so many bytes, where they were taken in.
    pub(crate) fn receipt(&self, receipt: &Receipt, bytes: u64) {
        let published = match &receipt.outcome {
            Ok(Stored::New { .. }) => &self.stored,
            Ok(Stored::Duplicate { .. } | Stored::DuplicateSomewhere) => &self.duplicates,
            Err(problem) => return self.batches_refused.inc(problem.reason),
        };
        published.batches.inc();
        published.messages.add(receipt.count.into());
        published.bytes.add(bytes);
    }

    /// A request was answered with an error, or a stream ended with one.
    pub(crate) fn refused(&self, reason: Reason) {
        self.requests_refused.inc(reason);
    }

    /// Times batches from their request to their receipt.
    pub(crate) const fn publish(&self) -> &Histogram {
        &self.publish
    }

    /// A consumer is told something.
    pub(crate) fn told(&self, told: &Told) {
        let Told::Delivery(delivery) = told else {
            return;
        };
        self.deliveries.inc();
        self.delivered_messages.add(delivery.count.into());
        let bytes = u64::try_from(delivery.batch.len()).expect("a usize fits");
        self.delivered_bytes.add(bytes);
        if delivery.attempt > 1 {
            self.redelivered_messages.add(delivery.count.into());
        }
    }

    /// A subscription met a stored batch that it cannot read.
    pub(crate) fn unreadable(&self) {
        self.unreadable_batches.inc();
    }

    /// A consumer asks for something.
    pub(crate) fn asked(&self, request: &Request) {
        match request {
            Request::Ack(_) => self.acks.inc(),
            Request::Nack(_) => self.nacks.inc(),
            Request::Extend(_) => self.extends.inc(),
            _ => {}
        }
    }

    /// A stream is open, until what is returned is dropped; none for a unary call.
    pub(crate) fn opened(&self, request: &Request) -> Option<Held> {
        match request {
            Request::OpenProducer(_) => Some(self.producers.hold()),
            Request::OpenConsumer(_) => Some(self.consumers.hold()),
            _ => None,
        }
    }

    /// A shard was moved to another node; it was between owners for no longer than this.
    pub(crate) fn moved(&self, took: Duration) {
        self.moves.record(took);
    }

    /// A shard could not be moved to another node.
    pub(crate) fn move_failed(&self) {
        self.moves_failed.inc();
    }

    /// A shard that nobody owned was opened without a request for it.
    pub(crate) fn opened_unasked(&self) {
        self.opened_unasked.inc();
    }

    fn write_moves(&self, page: &mut Page) {
        page.histogram(
            "ledgerline_serving_move_seconds",
            "How long moves of a shard to another node took, from when it was admitted no more here until it was served there.",
            &self.moves,
        );
        let results = [
            ("done", self.moves.count()),
            ("failed", self.moves_failed.get()),
        ];
        for (result, count) in results {
            let help = "Moves of a shard from this node to another, by how they ended.";
            let labels = [("result", result)];
            page.counter("ledgerline_serving_moves_total", help, &labels, count);
        }
        page.counter(
            "ledgerline_serving_shards_opened_unasked_total",
            "Shards without an owner that the node opened without a request for them.",
            &[],
            self.opened_unasked.get(),
        );
    }

    fn write_publishing(&self, page: &mut Page) {
        for (result, published) in [("stored", &self.stored), ("duplicate", &self.duplicates)] {
            let labels = [("result", result)];
            page.counter(
                "ledgerline_serving_published_batches_total",
                "Batches whose receipt said that they are stored, by whether they were stored now or before.",
                &labels,
                published.batches.get(),
            );
            page.counter(
                "ledgerline_serving_published_messages_total",
                "Their messages.",
                &labels,
                published.messages.get(),
            );
            page.counter(
                "ledgerline_serving_published_bytes_total",
                "Their bytes, as the producers encoded them.",
                &labels,
                published.bytes.get(),
            );
        }
        self.batches_refused.write(
            page,
            "ledgerline_serving_batches_refused_total",
            "Batches whose receipt said that they are refused, by reason.",
        );
        page.histogram(
            "ledgerline_serving_publish_seconds",
            "How long batches waited for their receipt, from when they were taken in.",
            &self.publish,
        );
    }

    fn write_consuming(&self, page: &mut Page) {
        let mut counter = |name, help, value: &Counter| page.counter(name, help, &[], value.get());
        counter(
            "ledgerline_serving_deliveries_total",
            "Deliveries to consumers: parts of one entry each.",
            &self.deliveries,
        );
        counter(
            "ledgerline_serving_delivered_messages_total",
            "Messages delivered, redelivered ones included.",
            &self.delivered_messages,
        );
        counter(
            "ledgerline_serving_delivered_bytes_total",
            "Their bytes, as delivered.",
            &self.delivered_bytes,
        );
        counter(
            "ledgerline_serving_redelivered_messages_total",
            "Messages delivered that had been delivered before.",
            &self.redelivered_messages,
        );
        counter(
            "ledgerline_serving_unreadable_batches_total",
            "Times that a subscription met a stored batch that is not what it says; it waits there and tries again.",
            &self.unreadable_batches,
        );
        let kinds = [
            ("ack", &self.acks),
            ("nack", &self.nacks),
            ("extend", &self.extends),
        ];
        for (kind, requests) in kinds {
            let help =
                "Acks, nacks and extensions that consumers sent; one may name many messages.";
            let labels = [("kind", kind)];
            page.counter(
                "ledgerline_serving_acks_total",
                help,
                &labels,
                requests.get(),
            );
        }
    }
}

impl Source for Metrics {
    fn write(&self, page: &mut Page) {
        self.write_publishing(page);
        self.write_consuming(page);
        self.write_moves(page);
        self.requests_refused.write(
            page,
            "ledgerline_serving_requests_refused_total",
            "Calls and streams that ended with an error of the API, by reason.",
        );
        for (kind, streams) in [("publish", &self.producers), ("consume", &self.consumers)] {
            let help = "Streams open on shards that are served here.";
            let labels = [("kind", kind)];
            page.gauge("ledgerline_serving_streams", help, &labels, streams.get());
        }
    }
}

/// States of a shard, as labels.
const STATES: [&str; 3] = ["opening", "serving", "releasing"];

impl Source for Node {
    fn write(&self, page: &mut Page) {
        let mut shards = [0; STATES.len()];
        for shard in self.served() {
            match shard.status() {
                Status::Opening { .. } => shards[0] += 1,
                Status::Serving { .. } => shards[1] += 1,
                Status::Releasing => shards[2] += 1,
                Status::Over(_) => {}
            }
        }
        for (state, count) in STATES.iter().zip(shards) {
            let labels = [("state", *state)];
            let help = "Shards that this node has claimed or claims, by state.";
            page.gauge("ledgerline_serving_shards", help, &labels, count);
        }
        let mut gauge = |name, help, value| page.gauge(name, help, &[], value);
        gauge(
            "ledgerline_serving_memory_used_bytes",
            "Bytes of batches between clients and bookies.",
            self.parts.budget.used().get(),
        );
        gauge(
            "ledgerline_serving_memory_limit_bytes",
            "Most bytes of batches between clients and bookies; beyond it batches are refused.",
            self.parts.budget.limit().get(),
        );
        gauge(
            "ledgerline_serving_tail_bytes",
            "Bytes of the newest messages of topics that are kept in memory for subscriptions at their ends.",
            self.parts.tails.used().get(),
        );
        gauge(
            "ledgerline_serving_lease_certain",
            "1 while it is certain that meta counts the node as alive; else it delivers nothing.",
            self.is_lease_certain().into(),
        );
        self.parts.metrics.write(page);
    }
}

impl Node {
    fn is_lease_certain(&self) -> bool {
        self.parts.lease.lease_is_certain(self.host.clock.now())
    }
}

impl Probe for Node {
    fn ready(&self) -> Result<(), &'static str> {
        if self.is_stopping.load(Ordering::Relaxed) {
            Err("draining")
        } else if !self.is_lease_certain() {
            Err("meta is not reachable")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_try_of_a_batch_that_cannot_be_read_is_counted() {
        let metrics = Metrics::default();
        metrics.unreadable();
        metrics.unreadable();
        let mut page = Page::default();
        metrics.write(&mut page);
        let line = "\nledgerline_serving_unreadable_batches_total 2\n";
        assert!(page.to_string().contains(line), "{page}");
    }

    #[test]
    fn each_reason_has_the_counter_of_its_name() {
        let metrics = Metrics::default();
        for reason in Reason::ALL {
            metrics.refused(*reason);
        }
        let mut page = Page::default();
        metrics.write(&mut page);
        let text = page.to_string();
        for reason in Reason::ALL {
            let line =
                format!("ledgerline_serving_requests_refused_total{{reason=\"{reason}\"}} 1\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
    }
}
