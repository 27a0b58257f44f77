//! A cluster of separate processes that freeze, leave, come back and are killed at random under load. See also
//! `process_cluster.rs`.
//!
//! `LEDGERLINE_CYCLES` says how often nodes are killed at random (20), `LEDGERLINE_KILL_SEED` which ones: the seed is printed.
#![expect(
    clippy::disallowed_methods,
    reason = "a test on real processes, in real time"
)]

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use host::Rng;
use tests::check::Limits;
use tests::process::{GIVE_UP, Habits, READERS, Run, WORKERS, commands};

fn binary() -> PathBuf {
    let named = std::env::var_os(commands::BINARY_ENV).map(PathBuf::from);
    named.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_ledgerline")))
}

fn start(name: &'static str) -> Run {
    Run::start(&binary(), name, Habits::default(), Habits::default()).expect("the cluster comes up")
}

/// Judges; nothing that was sent may have failed.
fn judge(run: Run) {
    let limits = Limits { recovery: GIVE_UP };
    let report = run
        .judge(&[READERS, WORKERS], limits)
        .expect("the load ends");
    assert_eq!((report.stats.fails, report.stats.infos), (0, 0), "{report}");
}

#[test]
fn a_frozen_owner_is_replaced_and_does_no_harm_when_it_wakes() {
    let mut run = start("frozen-owner");
    for _ in 0..2 {
        let owner = run.owner().unwrap();
        run.cluster.pause(&owner).unwrap();
        run.flows(600).unwrap();
        run.report_pauses("SIGSTOP of the owner", GIVE_UP).unwrap();
        assert_ne!(run.owner().unwrap(), owner);
        run.cluster.resume(&owner).unwrap();
        run.flows(300).unwrap();
        run.report_pauses("SIGCONT of the old owner", GIVE_UP)
            .unwrap();
    }
    judge(run);
}

#[test]
fn a_bookie_that_freezes_and_wakes_fails_no_publish() {
    let mut run = start("frozen-bookie");
    run.cluster.pause("bookie-1").unwrap();
    sleep(Duration::from_secs(5));
    run.flows(300).unwrap();
    run.report_pauses("SIGSTOP of a bookie", GIVE_UP).unwrap();
    run.cluster.resume("bookie-1").unwrap();
    run.flows(300).unwrap();
    run.report_pauses("SIGCONT of the bookie", GIVE_UP).unwrap();
    // With the woken one the other two are not needed both.
    run.cluster.kill("bookie-2").unwrap();
    run.flows(300).unwrap();
    run.report_pauses("kill -9 of another bookie", GIVE_UP)
        .unwrap();
    judge(run);
}

#[test]
fn a_frozen_meta_makes_nobody_lose_a_topic() {
    let mut run = start("frozen-meta");
    let owner = run.owner().unwrap();
    run.cluster.pause("meta").unwrap();
    sleep(Duration::from_secs(8));
    run.cluster.resume("meta").unwrap();
    run.flows(600).unwrap();
    run.report_pauses("SIGSTOP of meta for 8 s", GIVE_UP)
        .unwrap();
    assert_eq!(run.owner().unwrap(), owner);
    judge(run);
}

#[test]
fn every_node_is_restarted_in_turn_and_no_client_sees_an_error() {
    let mut run = start("rolling");
    let nodes = [
        "bookie-1",
        "bookie-2",
        "bookie-3",
        "serving-1",
        "serving-2",
        "meta",
        "serving-1",
    ];
    for node in nodes {
        run.cluster.stop(node).unwrap();
        run.cluster.start(node).unwrap();
        run.cluster.wait_ready().unwrap();
        run.flows(200).unwrap();
        run.report_pauses(&format!("the restart of {node}"), GIVE_UP)
            .unwrap();
    }
    judge(run);
}

/// A number from the environment.
fn named(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nodes_killed_at_random_over_and_over_lose_double_and_reorder_nothing() {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = named("LEDGERLINE_KILL_SEED").unwrap_or_else(|| clock().unwrap().as_secs());
    let cycles = named("LEDGERLINE_CYCLES").unwrap_or(20);
    println!("kills: LEDGERLINE_KILL_SEED={seed} LEDGERLINE_CYCLES={cycles}");
    let rng = Rng::seeded(seed);
    let habits = Habits {
        nack_every: 97,
        ..Habits::default()
    };
    let mut run = Run::start_at(&binary(), "kills", 2_000, [Habits::default(), habits])
        .expect("the cluster comes up");
    let names = [
        "bookie-1",
        "bookie-2",
        "bookie-3",
        "serving-1",
        "serving-2",
        "meta",
    ];
    for cycle in 1..=cycles {
        // One node; or several at once, as when a machine or the power fails.
        let several = if rng.one_in(4) { 1 + rng.below(5) } else { 0 };
        let mut killed = vec![names[rng.index(names.len())]];
        for _ in 0..several {
            let one = names[rng.index(names.len())];
            if !killed.contains(&one) {
                killed.push(one);
            }
        }
        for node in &killed {
            run.cluster.kill(node).unwrap();
        }
        sleep(Duration::from_millis(rng.below(3_000)));
        run.cluster.start_all().unwrap();
        run.cluster.wait_ready().unwrap();
        run.flows(1_000).unwrap();
        run.report_pauses(&format!("kill -9 {cycle} of {killed:?}"), GIVE_UP * 2)
            .unwrap();
    }
    judge(run);
}
