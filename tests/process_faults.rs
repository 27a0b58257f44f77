//! A cluster of separate processes that freeze, leave and come back under load: see `process_cluster.rs`, which kills them.
#![expect(
    clippy::disallowed_methods,
    reason = "a test on real processes, in real time"
)]

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

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
