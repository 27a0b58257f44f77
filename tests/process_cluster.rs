//! A cluster of separate processes on loopback, killed while it works: one meta (or two on an etcd), three bookies, two
//! serving nodes.
//!
//! Each test runs steady, modest load through the public client, kills something with `kill -9`, and lets the judge of
//! histories say whether everything that was promised held. The gaps in publishing and consuming are printed.
//! `LEDGERLINE_HISTORY=path` keeps each test's history in `path.<test>`; `LEDGERLINE_BIN` names another binary to test;
//! `LEDGERLINE_ROUNDS` makes it kill more often.
#![expect(
    clippy::disallowed_methods,
    reason = "a test on real processes, in real time"
)]

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ledgerline_client::{Quorum, SubscriptionMode};
use tests::history::Phase;
use tests::process::{
    Cluster, Etcd, GIVE_UP, Habits, RATE, READERS, Run, TOPIC, WORKERS, commands, wait_until,
};
use tests::workload::Workload;

fn binary() -> PathBuf {
    commands::binary_or(env!("CARGO_BIN_EXE_ledgerline"))
}

fn start(name: &'static str, readers: Habits, workers: Habits) -> Run {
    Run::start(&binary(), name, readers, workers).expect("the cluster comes up")
}

/// How often the tests kill: twice, or as `LEDGERLINE_ROUNDS` says, for a longer search.
fn rounds() -> u64 {
    commands::number("LEDGERLINE_ROUNDS").unwrap_or(2)
}

#[test]
fn a_killed_bookie_fails_no_publish_and_shards_still_open() {
    let mut run = start("bookie", Habits::default(), Habits::default());
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
    run.judge_faultless(&[], GIVE_UP).unwrap();
}

#[test]
fn a_killed_owner_is_replaced_and_nothing_is_lost_doubled_or_reordered() {
    let nacks = Habits {
        nack_every: 11,
        ..Habits::default()
    };
    let mut run = start("owner", Habits::default(), nacks);
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
    run.judge_faultless(&[], GIVE_UP).unwrap();
}

#[test]
fn everything_killed_at_once_keeps_what_was_acked_and_redelivers_what_was_not() {
    let holds = Habits {
        hold_every: 7,
        ..Habits::default()
    };
    let mut run = start("all", holds, holds);
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
        .judge_faultless(&["audit"], Duration::from_secs(60))
        .unwrap();
    // Each of the three got all, and what was held came again.
    assert!(
        report.stats.deliveries > 3 * report.stats.messages,
        "{report}"
    );
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
    let Some(etcd) = Etcd::start().unwrap() else {
        return;
    };
    let habits = [Habits::default(); 2];
    let lay_out = || Cluster::on_etcd(&binary(), &etcd.endpoint(), 2, 3, 2);
    let mut run = Run::start_on("meta", RATE, habits, lay_out).unwrap();
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
    run.judge_faultless(&[], GIVE_UP).unwrap();
}

#[test]
fn etcd_without_its_leader_or_its_quorum_fails_no_publish_and_serves_again_by_itself() {
    let Some(mut etcd) = Etcd::of(3).unwrap() else {
        return;
    };
    let habits = [Habits::default(); 2];
    let lay_out = || Cluster::on_etcd(&binary(), &etcd.endpoint(), 2, 3, 2);
    let run = Run::start_on("etcd", RATE, habits, lay_out).unwrap();
    // One after the other: one of them is the leader.
    for member in 0..3 {
        run.cluster.note_kill("etcd", Phase::Start);
        etcd.kill(member).unwrap();
        run.flows(600).unwrap();
        let what = format!("kill -9 of etcd member {member}");
        run.report_pauses(&what, GIVE_UP).unwrap();
        etcd.restart(member).unwrap();
        run.cluster.note_kill("etcd", Phase::Stop);
        run.flows(200).unwrap();
    }
    run.cluster.note_kill("etcd", Phase::Start);
    etcd.kill(0).unwrap();
    etcd.kill(1).unwrap();
    // Longer than any lease. Who owns a topic goes on publishing.
    let written = run.load.written().done.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(10));
    let since = run.load.written().done.load(Ordering::Relaxed) - written;
    assert!(since > 5 * u64::from(RATE), "{since} messages in 10 s");
    let back = Instant::now();
    etcd.restart(0).unwrap();
    etcd.restart(1).unwrap();
    run.cluster.note_kill("etcd", Phase::Stop);
    let made = wait_until(GIVE_UP, || {
        run.load.create_topic("late", Quorum::THREE_TWO).is_ok()
            || run.load.topic_stats("late").is_ok()
    });
    assert!(made, "no topic can be made {:?} later", back.elapsed());
    println!(
        "etcd: a topic was made {:.2?} after its quorum came back",
        back.elapsed()
    );
    run.flows(600).unwrap();
    run.report_pauses("ten seconds without a quorum of etcd", GIVE_UP * 2)
        .unwrap();
    run.judge_faultless(&[], GIVE_UP).unwrap();
}
