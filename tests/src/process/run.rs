//! A cluster of separate processes under steady, modest load, and the verdict on what it did.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test on real processes, in real time"
)]

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use ledgerline_client::{Quorum, SubscriptionMode};

use super::{Cluster, Counts, Habits, Load, Role, wait_until};
use crate::check::{Limits, Report, Verdict, judge_bytes};
use crate::history::{Guarantees, HistoryWriter};
use crate::workload::Workload;

/// The topic of the load.
pub const TOPIC: &str = "orders";
/// A subscription of the load: ordered, one consumer.
pub const READERS: &str = "readers";
/// A subscription of the load: shared by two consumers.
pub const WORKERS: &str = "workers";
/// Messages a second, of two writers together.
pub const RATE: u32 = 200;
/// How long publishing and consuming may stand still after a node was killed.
pub const GIVE_UP: Duration = Duration::from_secs(15);

/// Two cores do not hold two clusters.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A cluster under load.
#[derive(Debug)]
pub struct Run {
    name: &'static str,
    /// Its processes.
    pub cluster: Cluster,
    /// Its load.
    pub load: Load,
    history: HistoryWriter,
    /// Messages a second.
    rate: u32,
    _alone: MutexGuard<'static, ()>,
}

impl Run {
    /// Starts one meta, three bookies and two serving nodes, and waits until the load flows. One run at a time: two cores
    /// do not hold two clusters.
    ///
    /// # Errors
    ///
    /// What did not come up, with the end of its log.
    pub fn start(
        binary: &Path,
        name: &'static str,
        readers: Habits,
        workers: Habits,
    ) -> anyhow::Result<Self> {
        Self::start_at(binary, name, RATE, [readers, workers])
    }

    /// As [`Run::start`], with so many messages a second; `habits` are those of the readers and of the workers.
    ///
    /// # Errors
    ///
    /// As [`Run::start`].
    pub fn start_at(
        binary: &Path,
        name: &'static str,
        rate: u32,
        habits: [Habits; 2],
    ) -> anyhow::Result<Self> {
        Self::start_on(name, rate, habits, || Cluster::separate(binary, 3, 2))
    }

    /// As [`Run::start_at`], on a cluster with two serving nodes and three bookies that is laid out when its turn has come.
    ///
    /// # Errors
    ///
    /// As [`Run::start`].
    pub fn start_on(
        name: &'static str,
        rate: u32,
        habits: [Habits; 2],
        lay_out: impl FnOnce() -> anyhow::Result<Cluster>,
    ) -> anyhow::Result<Self> {
        let run = Self::start_where(name, rate, habits, || lay_out().map(Some))?;
        run.context("the cluster was laid out")
    }

    /// As [`Run::start_on`]; none where the machine does not permit such a cluster.
    ///
    /// # Errors
    ///
    /// As [`Run::start`].
    pub fn start_where(
        name: &'static str,
        rate: u32,
        habits: [Habits; 2],
        lay_out: impl FnOnce() -> anyhow::Result<Option<Cluster>>,
    ) -> anyhow::Result<Option<Self>> {
        let [readers, workers] = habits;
        let alone = one_at_a_time();
        let Some(mut cluster) = lay_out()? else {
            return Ok(None);
        };
        let begun = Instant::now();
        let promises = Guarantees {
            faults: true,
            ..Guarantees::full()
        };
        let history = HistoryWriter::in_memory(promises);
        cluster.record_faults(history.clone());
        for bookie in ["bookie-1", "bookie-2", "bookie-3"] {
            let small = ["--journal-file", "16MiB", "--free-low", "64MiB"];
            cluster.node(bookie)?.extra.extend(small.map(Into::into));
        }
        cluster.start_all()?;
        cluster.wait_ready()?;
        let addresses: Vec<String> = cluster.nodes(Role::Serving).map(|n| n.endpoint()).collect();
        let mut load = Load::new(&addresses.join(","), history.clone())?;
        load.create_topic(TOPIC, Quorum::THREE_TWO)?;
        load.subscribe(TOPIC, READERS, SubscriptionMode::Exclusive)?;
        load.subscribe(TOPIC, WORKERS, SubscriptionMode::Shared)?;
        load.consume(TOPIC, READERS, "reader", readers);
        load.consume(TOPIC, WORKERS, "worker-1", workers);
        load.consume(TOPIC, WORKERS, "worker-2", workers);
        for plan in Workload::modest(1, 2, u64::MAX, rate).writers() {
            load.write(plan);
        }
        let run = Self {
            name,
            cluster,
            load,
            history,
            rate,
            _alone: alone,
        };
        run.flows(rate.into())?;
        println!("{name}: the load flows after {:.1?}", begun.elapsed());
        run.forget_pauses()?;
        Ok(Some(run))
    }

    /// Waits until so many more messages are stored, and as many are consumed.
    ///
    /// # Errors
    ///
    /// They are not in a time that is far too long.
    pub fn flows(&self, messages: u64) -> anyhow::Result<()> {
        let written = self.load.written();
        let count = |counts: &Counts| counts.done.load(Ordering::Relaxed);
        let readers = self.load.consumed(READERS)?;
        let workers = self.load.consumed(WORKERS)?;
        let wanted = [written, readers, workers].map(|counts| count(counts) + messages);
        let within = GIVE_UP * 2 + Duration::from_secs(messages * 2 / u64::from(self.rate));
        let flows = wait_until(within, || {
            let now = [written, readers, workers].map(count);
            now.iter().zip(&wanted).all(|(now, wanted)| now >= wanted)
        });
        anyhow::ensure!(
            flows,
            "the load does not flow: written {written:?}, readers {readers:?}, workers {workers:?}"
        );
        Ok(())
    }

    fn forget_pauses(&self) -> anyhow::Result<()> {
        self.take_pauses().map(drop)
    }

    /// How long publishing and consuming stood still at most since this was asked last.
    ///
    /// # Errors
    ///
    /// Never, of a run that started.
    pub fn take_pauses(&self) -> anyhow::Result<[Duration; 2]> {
        let publishing = self.load.written().take_longest_pause();
        let readers = self.load.consumed(READERS)?.take_longest_pause();
        let workers = self.load.consumed(WORKERS)?.take_longest_pause();
        Ok([publishing, readers.max(workers)])
    }

    /// Prints how long the load stood still since the last report, and gives up on a stillness that is too long.
    ///
    /// # Errors
    ///
    /// It stood still for longer than `most`.
    pub fn report_pauses(&self, after: &str, most: Duration) -> anyhow::Result<()> {
        let publishing = self.load.written().take_longest_pause();
        let readers = self.load.consumed(READERS)?.take_longest_pause();
        let workers = self.load.consumed(WORKERS)?.take_longest_pause();
        println!(
            "{}: after {after}: longest gap in publishing {publishing:.2?}, \
             in consuming {readers:.2?} (exclusive), {workers:.2?} (shared)",
            self.name
        );
        anyhow::ensure!(
            publishing.max(readers).max(workers) <= most,
            "the load stood still for too long after {after}"
        );
        Ok(())
    }

    /// The name of the serving node that owns the topic.
    ///
    /// # Errors
    ///
    /// Nobody knows.
    pub fn owner(&self) -> anyhow::Result<String> {
        let endpoint = self.load.owner(TOPIC)?;
        let mut nodes = self.cluster.nodes(Role::Serving);
        let owner = nodes.find(|node| node.endpoint() == endpoint);
        Ok(owner
            .with_context(|| format!("no node at {endpoint}"))?
            .name
            .clone())
    }

    /// Ends the load, drains the subscriptions, and judges. `LEDGERLINE_HISTORY=path` keeps the history in `path.<name>`.
    ///
    /// # Errors
    ///
    /// The load did not end.
    ///
    /// # Panics
    ///
    /// When the history is not valid: the cluster's directory stays.
    pub fn judge(mut self, subscriptions: &[&str], limits: Limits) -> anyhow::Result<Report> {
        self.load.finish_writing()?;
        for subscription in subscriptions {
            self.load
                .drain(TOPIC, subscription, Duration::from_secs(60))?;
        }
        self.load.finish()?;
        let bytes = self.history.finish()?;
        let report = judge_bytes(&bytes, limits);
        println!("{}: {report}", self.name);
        if let Some(path) = std::env::var_os("LEDGERLINE_HISTORY") {
            keep(&PathBuf::from(path), self.name, &bytes)?;
        } else if report.verdict != Verdict::Valid {
            keep(&self.cluster.dir().join("history"), self.name, &bytes)?;
        }
        assert_eq!(report.verdict, Verdict::Valid, "{report}");
        Ok(report)
    }

    /// As [`Run::judge`] for the load's own subscriptions and any `more`, of a run that no user of the cluster may have
    /// noticed but by waiting.
    ///
    /// # Panics
    ///
    /// The history is not valid, what was sent failed, or nobody knows whether it did.
    ///
    /// # Errors
    ///
    /// As [`Run::judge`].
    pub fn judge_faultless(self, more: &[&str], recovery: Duration) -> anyhow::Result<Report> {
        let subscriptions = [&[READERS, WORKERS], more].concat();
        let report = self.judge(&subscriptions, Limits { recovery })?;
        assert_eq!((report.stats.fails, report.stats.infos), (0, 0), "{report}");
        Ok(report)
    }
}

fn keep(path: &Path, name: &str, history: &[u8]) -> anyhow::Result<()> {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(name);
    println!("history: {}", path.display());
    Ok(std::fs::write(path, history)?)
}
