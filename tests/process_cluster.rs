//! A cluster of separate processes on loopback, killed while it works: one meta (or two on an etcd), three bookies, two
//! serving nodes.
//!
//! Each test runs steady, modest load through the public client, kills something with `kill -9`, and lets the judge of
//! histories say whether everything that was promised held. The gaps in publishing and consuming are printed.
//! `LEDGERLINE_HISTORY=path` keeps each test's history in `path.<test>`; `LEDGERLINE_BIN` names another binary to test;
//! `LEDGERLINE_ROUNDS` makes it kill more often.
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
use tests::check::{Limits, Report, Verdict, judge_bytes};
use tests::history::{Guarantees, HistoryWriter};
use tests::process::{Cluster, Etcd, Habits, Load, Role, commands, wait_until};
use tests::workload::Workload;

const TOPIC: &str = "orders";
/// Ordered, one consumer.
const READERS: &str = "readers";
/// Shared by two consumers.
const WORKERS: &str = "workers";
/// Messages a second, of two writers together.
const RATE: u32 = 200;
/// How long publishing and consuming may stand still after a node was killed.
const GIVE_UP: Duration = Duration::from_secs(15);

/// Two cores do not hold two clusters.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn binary() -> PathBuf {
    let named = std::env::var_os(commands::BINARY_ENV).map(PathBuf::from);
    named.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_ledgerline")))
}

/// A cluster under load.
struct Run {
    name: &'static str,
    cluster: Cluster,
    load: Load,
    history: HistoryWriter,
    _alone: MutexGuard<'static, ()>,
}

impl Run {
    /// Starts everything and waits until the load flows.
    fn start(name: &'static str, readers: Habits, workers: Habits) -> anyhow::Result<Self> {
        let alone = one_at_a_time();
        let cluster = Cluster::separate(&binary(), 3, 2)?;
        Self::start_on(name, alone, cluster, readers, workers)
    }

    /// The same on a cluster that is laid out.
    fn start_on(
        name: &'static str,
        alone: MutexGuard<'static, ()>,
        mut cluster: Cluster,
        readers: Habits,
        workers: Habits,
    ) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let promises = Guarantees {
            faults: true,
            ..Guarantees::full()
        };
        let history = HistoryWriter::in_memory(promises);
        cluster.record_faults(history.clone());
        for bookie in ["bookie-1", "bookie-2", "bookie-3"] {
            let small = ["--journal-file", "16MiB", "--free-low", "64MiB"];
            cluster.node(bookie)?.extra = small.map(Into::into).to_vec();
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
        for plan in Workload::modest(1, 2, u64::MAX, RATE).writers() {
            load.write(plan);
        }
        let run = Self {
            name,
            cluster,
            load,
            history,
            _alone: alone,
        };
        run.flows(RATE.into())?;
        println!("{name}: the load flows after {:.1?}", begun.elapsed());
        run.forget_pauses()?;
        Ok(run)
    }

    /// Waits until so many more messages are stored, and as many are consumed.
    fn flows(&self, messages: u64) -> anyhow::Result<()> {
        let written = self.load.written();
        let count = |counts: &tests::process::Counts| counts.done.load(Ordering::Relaxed);
        let readers = self.load.consumed(READERS)?;
        let workers = self.load.consumed(WORKERS)?;
        let wanted = [written, readers, workers].map(|counts| count(counts) + messages);
        let within = GIVE_UP * 2 + Duration::from_secs(messages * 2 / u64::from(RATE));
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
        self.load.written().take_longest_pause();
        self.load.consumed(READERS)?.take_longest_pause();
        self.load.consumed(WORKERS)?.take_longest_pause();
        Ok(())
    }

    /// Prints how long the load stood still, and gives up on a stillness that is too long.
    fn report_pauses(&self, after: &str, most: Duration) -> anyhow::Result<()> {
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

    /// The serving node that owns the topic.
    fn owner(&self) -> anyhow::Result<String> {
        let endpoint = self.load.owner(TOPIC)?;
        let mut nodes = self.cluster.nodes(Role::Serving);
        let owner = nodes.find(|node| node.endpoint() == endpoint);
        Ok(owner
            .with_context(|| format!("no node at {endpoint}"))?
            .name
            .clone())
    }

    /// Ends the load, drains every subscription, and judges.
    fn judge(mut self, subscriptions: &[&str], limits: Limits) -> anyhow::Result<Report> {
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
}

fn keep(path: &Path, name: &str, history: &[u8]) -> anyhow::Result<()> {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(name);
    println!("history: {}", path.display());
    Ok(std::fs::write(path, history)?)
}

/// How often the tests kill: twice, or as `LEDGERLINE_ROUNDS` says, for a longer search.
fn rounds() -> u32 {
    let named = std::env::var("LEDGERLINE_ROUNDS").ok();
    named.and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}

fn limits(recovery: Duration) -> Limits {
    Limits { recovery }
}

#[test]
fn a_killed_bookie_fails_no_publish_and_shards_still_open() {
    let mut run = Run::start("bookie", Habits::default(), Habits::default()).unwrap();
    run.cluster.kill("bookie-2").unwrap();
    run.flows(600).unwrap();
    run.report_pauses("kill -9 of a bookie", GIVE_UP).unwrap();
    // A new shard opens on the two that are left.
    run.load.create_topic("late", Quorum::THREE_TWO).unwrap();
    run.load
        .subscribe("late", "late-readers", SubscriptionMode::Exclusive)
        .unwrap();
    run.load
        .consume("late", "late-readers", "late-reader", Habits::default());
    let mut late = Workload::modest(2, 1, 100, 100);
    late.topics = vec!["late".to_owned()];
    for plan in late.writers() {
        run.load.write(plan);
    }
    let late = run.load.consumed("late-readers").unwrap();
    assert!(wait_until(GIVE_UP, || late.done.load(Ordering::Relaxed) >= 100));
    run.load.drain("late", "late-readers", GIVE_UP).unwrap();
    // The old one opens elsewhere: its owner leaves, as for an upgrade.
    let owner = run.owner().unwrap();
    run.cluster.stop(&owner).unwrap();
    run.flows(400).unwrap();
    run.report_pauses("the owner's leaving with a bookie down", GIVE_UP)
        .unwrap();
    assert_ne!(run.owner().unwrap(), owner);
    let report = run.judge(&[READERS, WORKERS], limits(GIVE_UP)).unwrap();
    assert_eq!((report.stats.fails, report.stats.infos), (0, 0), "{report}");
}

#[test]
fn a_killed_owner_is_replaced_and_nothing_is_lost_doubled_or_reordered() {
    let nacks = Habits {
        nack_every: 11,
        ..Habits::default()
    };
    let mut run = Run::start("owner", Habits::default(), nacks).unwrap();
    for round in 1..=rounds() {
        let owner = run.owner().unwrap();
        run.cluster.kill(&owner).unwrap();
        run.flows(600).unwrap();
        let what = format!("kill -9 of the owner ({owner}, time {round})");
        run.report_pauses(&what, GIVE_UP).unwrap();
        assert_ne!(run.owner().unwrap(), owner);
        run.cluster.start(&owner).unwrap();
        run.cluster.wait_ready().unwrap();
    }
    let report = run.judge(&[READERS, WORKERS], limits(GIVE_UP)).unwrap();
    assert_eq!((report.stats.fails, report.stats.infos), (0, 0), "{report}");
}

#[test]
fn everything_killed_at_once_keeps_what_was_acked_and_redelivers_what_was_not() {
    let holds = Habits {
        hold_every: 7,
        ..Habits::default()
    };
    let mut run = Run::start("all", holds, holds).unwrap();
    for round in 1..=rounds() {
        run.flows(300).unwrap();
        run.cluster.kill_all().unwrap();
        run.cluster.start_all().unwrap();
        run.cluster.wait_ready().unwrap();
        run.flows(100).unwrap();
        let what = format!("kill -9 of everything (time {round}), restart included");
        run.report_pauses(&what, Duration::MAX).unwrap();
    }
    // What is held is acked from now on, but what the last sessions got comes only to the next ones.
    run.cluster.kill_all().unwrap();
    for subscription in [READERS, WORKERS] {
        run.load.stop_holding(subscription).unwrap();
    }
    run.cluster.start_all().unwrap();
    run.flows(300).unwrap();
    // Somebody new reads all there ever was.
    run.load
        .subscribe(TOPIC, "audit", SubscriptionMode::Exclusive)
        .unwrap();
    run.load
        .consume(TOPIC, "audit", "auditor", Habits::default());
    let report = run
        .judge(
            &[READERS, WORKERS, "audit"],
            limits(Duration::from_secs(60)),
        )
        .unwrap();
    // Each of the three got all, and what was held came again.
    assert!(
        report.stats.deliveries > 3 * report.stats.messages,
        "{report}"
    );
    assert_eq!((report.stats.fails, report.stats.infos), (0, 0), "{report}");
}

/// The meta node that said last that it is active.
fn active_meta(cluster: &mut Cluster) -> anyhow::Result<String> {
    for name in ["meta-1", "meta-2"] {
        let Ok(process) = cluster.process(name) else {
            continue;
        };
        let log = process.log();
        let said = log.rfind("this meta node is active");
        if said > log.rfind("this meta node is not active any more") {
            return Ok(name.to_owned());
        }
    }
    anyhow::bail!("no meta node is active")
}

#[test]
fn a_killed_active_meta_is_replaced_and_publishing_goes_on() {
    let alone = one_at_a_time();
    let Some(etcd) = Etcd::start().unwrap() else {
        return;
    };
    let cluster = Cluster::on_etcd(&binary(), &etcd.endpoint(), 2, 3, 2).unwrap();
    let habits = Habits::default();
    let mut run = Run::start_on("meta", alone, cluster, habits, habits).unwrap();
    for round in 1..=rounds() {
        let active = active_meta(&mut run.cluster).unwrap();
        run.cluster.kill(&active).unwrap();
        let killed = Instant::now();
        let topic = format!("late-{round}");
        let made = wait_until(Duration::from_secs(10), || {
            // One whose answer was lost is there all the same.
            run.load.create_topic(&topic, Quorum::THREE_TWO).is_ok()
                || run.load.topic_stats(&topic).is_ok()
        });
        assert!(made, "no topic can be made {:?} later", killed.elapsed());
        println!(
            "meta: a topic was made {:.2?} after kill -9 of {active}",
            killed.elapsed()
        );
        run.flows(600).unwrap();
        let what = format!("kill -9 of the active meta ({active}, time {round})");
        run.report_pauses(&what, GIVE_UP).unwrap();
        assert_ne!(active_meta(&mut run.cluster).unwrap(), active);
        run.cluster.start(&active).unwrap();
        run.cluster.wait_ready().unwrap();
    }
    let report = run.judge(&[READERS, WORKERS], limits(GIVE_UP)).unwrap();
    assert_eq!((report.stats.fails, report.stats.infos), (0, 0), "{report}");
}
