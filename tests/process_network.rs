//! A cluster of separate processes in a network of their own, cut in every way: one node from all others, one direction
//! only, pairs at random. What is cut is dropped without a word, so nobody is told and connections stay open.
//!
//! `LEDGERLINE_CUTS` says how often pairs are cut at random (8), `LEDGERLINE_CUT_SEED` which ones: the seed is printed.
//! Skipped, and says so, where network namespaces cannot be made.
#![expect(
    clippy::disallowed_methods,
    reason = "a test on real processes, in real time"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it measured"
)]

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use host::Rng;
use tests::process::{Cluster, Habits, RATE, Run, TEST, commands};

/// A cut is noticed by keepalives and leases; then a cut node's work begins anew.
const CUT_LIMIT: Duration = Duration::from_secs(30);

fn binary() -> PathBuf {
    commands::binary_or(env!("CARGO_BIN_EXE_ledgerline"))
}

/// A cluster under load; none where nodes cannot have networks of their own.
fn start(name: &'static str) -> Option<Run> {
    let habits = [Habits::default(), Habits::default()];
    let lay_out = || Cluster::in_network(&binary(), 3, 2);
    let run = Run::start_where(name, RATE, habits, lay_out);
    run.expect("the cluster comes up")
}

/// Judges; nothing that was sent may have failed.
fn judge(run: Run) {
    run.judge_faultless(&[], CUT_LIMIT).expect("the load ends");
}

#[test]
fn an_isolated_owner_is_replaced_and_writes_nothing_when_it_is_back() {
    let Some(mut run) = start("isolated-owner") else {
        return;
    };
    for _ in 0..2 {
        let owner = run.owner().unwrap();
        run.cluster.isolate(&owner).unwrap();
        run.flows(600).unwrap();
        run.report_pauses("the owner was isolated", CUT_LIMIT)
            .unwrap();
        assert_ne!(run.owner().unwrap(), owner);
        run.cluster.heal().unwrap();
        run.flows(300).unwrap();
        run.report_pauses("the old owner came back", CUT_LIMIT)
            .unwrap();
    }
    judge(run);
}

#[test]
fn an_owner_without_meta_goes_on_publishing() {
    let Some(mut run) = start("owner-without-meta") else {
        return;
    };
    let owner = run.owner().unwrap();
    run.cluster.cut(&owner, "meta").unwrap();
    run.cluster.cut("meta", &owner).unwrap();
    let written = run.load.written().done.load(Ordering::Relaxed);
    sleep(Duration::from_secs(8));
    let since = run.load.written().done.load(Ordering::Relaxed) - written;
    assert!(since > 4 * u64::from(RATE), "{since} messages in 8 s");
    run.cluster.heal().unwrap();
    run.flows(600).unwrap();
    run.report_pauses("the owner was cut from meta for 8 s", CUT_LIMIT)
        .unwrap();
    judge(run);
}

#[test]
fn a_bookie_that_is_heard_by_nobody_but_hears_everybody_fails_no_publish() {
    let Some(mut run) = start("one-way") else {
        return;
    };
    for (from, to) in [("bookie-1", "all"), ("all", "bookie-2")] {
        for other in ["serving-1", "serving-2", "meta", TEST] {
            if to == "all" {
                run.cluster.cut(from, other).unwrap();
            } else {
                run.cluster.cut(other, to).unwrap();
            }
        }
        run.flows(1_000).unwrap();
        run.report_pauses(&format!("{from} was cut from {to}"), CUT_LIMIT)
            .unwrap();
        run.cluster.heal().unwrap();
        run.flows(300).unwrap();
        run.report_pauses("the cut was healed", CUT_LIMIT).unwrap();
    }
    judge(run);
}

#[test]
fn bookies_that_nobody_reaches_hold_publishing_up_and_lose_nothing() {
    let Some(mut run) = start("no-bookies") else {
        return;
    };
    for bookie in ["bookie-1", "bookie-2", "bookie-3"] {
        for serving in ["serving-1", "serving-2"] {
            run.cluster.cut(serving, bookie).unwrap();
            run.cluster.cut(bookie, serving).unwrap();
        }
    }
    sleep(Duration::from_secs(5));
    run.cluster.heal().unwrap();
    run.flows(600).unwrap();
    run.report_pauses("no bookie was reached for 5 s", CUT_LIMIT)
        .unwrap();
    judge(run);
}

#[test]
fn pairs_cut_at_random_lose_double_and_reorder_nothing() {
    let Some(mut run) = start("cuts") else {
        return;
    };
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH);
    let seed =
        commands::number("LEDGERLINE_CUT_SEED").unwrap_or_else(|| clock().unwrap().as_secs());
    let cuts = commands::number("LEDGERLINE_CUTS").unwrap_or(8);
    println!("cuts: LEDGERLINE_CUT_SEED={seed} LEDGERLINE_CUTS={cuts}");
    let rng = Rng::seeded(seed);
    let nodes = [
        "bookie-1",
        "bookie-2",
        "bookie-3",
        "meta",
        "serving-1",
        "serving-2",
    ];
    for cycle in 1..=cuts {
        let mut told = Vec::new();
        for _ in 0..=rng.below(4) {
            let (one, other) = (rng.index(nodes.len()), rng.index(nodes.len()));
            if one == other {
                continue;
            }
            let (one, other) = (nodes[one], nodes[other]);
            run.cluster.cut(one, other).unwrap();
            let is_one_way = rng.one_in(3);
            if !is_one_way {
                run.cluster.cut(other, one).unwrap();
            }
            told.push(format!(
                "{one}{}{other}",
                if is_one_way { ">" } else { "|" }
            ));
        }
        sleep(Duration::from_millis(rng.below(6_000)));
        run.cluster.heal().unwrap();
        run.flows(300).unwrap();
        run.report_pauses(&format!("cut {cycle} of {told:?}"), CUT_LIMIT)
            .unwrap();
    }
    judge(run);
}
