//! What meta counts, and whether it may be asked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use catalog::{Need, Snapshot, Write};
use host::metrics::{Histogram, Page, Source};
use host::{Clock, Probe};
use types::chain::ShardOutcome;
use types::cluster::MetaGeneration;
use types::command::{Command, Reply};
use types::{ClusterId, ErrorKind, Problem, Revision};

use crate::audit::Audit;
use crate::leases::LeaseKeeper;
use crate::store::{ChangesSince, CommitError, Store, StoreError};

/// The numbers of meta.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By kind and outcome. Each of them has waited for a disk: a lock is nothing to it.
    commands: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    commit: Histogram,
}

impl Metrics {
    /// A command of a node was answered.
    pub(crate) fn command(&self, command: &Command, answer: &Result<Reply, Problem>) {
        let outcome = match answer {
            Ok(Reply::Shard(ShardOutcome::Conflict(_))) => "refused",
            Ok(_) => "done",
            Err(problem) => match problem.kind() {
                ErrorKind::Unknown => "unknown",
                ErrorKind::Invalid
                | ErrorKind::NotFound
                | ErrorKind::Conflict
                | ErrorKind::Fenced
                | ErrorKind::Moved => "refused",
                ErrorKind::Retry
                | ErrorKind::Busy
                | ErrorKind::Corrupt
                | ErrorKind::Stopping
                | ErrorKind::Bug => "failed",
            },
        };
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        *commands.entry((command.name(), outcome)).or_default() += 1;
    }
}

/// A store whose commits are timed.
pub(crate) struct Timed {
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Timed {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            clock,
            metrics,
        }
    }
}

impl Store for Timed {
    fn read(&self, need: Need) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        self.store.read(need)
    }

    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            let begun = self.clock.now();
            let committed = self.store.commit(write).await;
            let took = self.clock.now().since(begun);
            self.metrics.commit.record(took);
            committed
        })
    }

    fn changes(
        &self,
        after: Revision,
        limit: usize,
    ) -> BoxFuture<'_, Result<ChangesSince, StoreError>> {
        self.store.changes(after, limit)
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.store.revision()
    }

    fn generation(&self) -> MetaGeneration {
        self.store.generation()
    }

    fn cluster(&self) -> ClusterId {
        self.store.cluster()
    }
}

impl fmt::Debug for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

/// Meta as those see it who ask how it does.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) leases: LeaseKeeper,
    pub(crate) audit: Audit,
    pub(crate) revision: watch::Receiver<Revision>,
    pub(crate) stop: CancellationToken,
}

impl Probe for Watched {
    fn ready(&self) -> Result<(), &'static str> {
        if self.stop.is_cancelled() {
            return Err("draining");
        }
        Ok(())
    }
}

impl Source for Watched {
    fn write(&self, page: &mut Page) {
        let commands = &self.metrics.commands;
        let commands = commands.lock().unwrap_or_else(PoisonError::into_inner);
        for ((kind, outcome), count) in &*commands {
            let help = "Commands of nodes, by kind and outcome.";
            let labels = [("kind", *kind), ("outcome", *outcome)];
            page.counter("ledgerline_meta_commands_total", help, &labels, *count);
        }
        drop(commands);
        page.histogram(
            "ledgerline_meta_commit_seconds",
            "How long the store took to commit a write, waiting for its turn included.",
            &self.metrics.commit,
        );
        let plan = self.audit.plan();
        page.counter(
            "ledgerline_meta_repaired_copies_total",
            "Copies of closed ledgers that bookies found whole, since this process became active.",
            &[],
            self.audit.copies_done(),
        );
        let mut gauge = |name, help, value| page.gauge(name, help, &[], value);
        gauge(
            "ledgerline_meta_leases",
            "Sessions whose lease runs.",
            self.leases.running(),
        );
        gauge(
            "ledgerline_meta_revision",
            "The revision of the last change.",
            self.revision.borrow().get(),
        );
        gauge(
            "ledgerline_meta_ledgers_short",
            "Closed ledgers that lack a copy known to be whole at a bookie which is there.",
            plan.short,
        );
        gauge(
            "ledgerline_meta_ledgers_moving",
            "Closed ledgers with a copy on its way to another bookie.",
            plan.moving,
        );
        gauge(
            "ledgerline_meta_ledgers_waiting",
            "Closed ledgers with a copy that is to move and waits for its turn.",
            plan.waiting,
        );
        gauge(
            "ledgerline_meta_ledgers_beyond_repair",
            "Closed ledgers that cannot be made good now.",
            plan.beyond_count,
        );
    }
}
