//! Shards that move between serving nodes, of separate processes, under load: nodes are drained, taken back, killed and
//! added, and no client may notice more than a moment.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;
use std::time::Duration;

use ledgerline_client::Quorum;
use tests::process::{Cluster, GIVE_UP, Habits, Run, commands, wait_until};

/// Messages a second.
const RATE: u32 = 2_000;
/// Topics that nobody uses.
const QUIET: usize = 8;
/// How long a planned move may keep a client from going on here. The aim is a second at most and is printed; this is what
/// tells a move from waiting for a lease, also on a machine that is busy with other tests.
const MOVE_MOST: Duration = Duration::from_millis(1_900);
/// For what should take a moment, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(60);

fn binary() -> PathBuf {
    commands::binary_or(env!("CARGO_BIN_EXE_ledgerline"))
}

/// Three bookies, and serving nodes that look often.
fn lay_out() -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::separate(&binary(), 3, 4)?;
    for number in 1..=4 {
        let often = ["--balance-interval", "1s", "--balance-rest", "1s"];
        let node = cluster.node(&format!("serving-{number}"))?;
        node.extra = often.map(Into::into).to_vec();
    }
    Ok(cluster)
}

/// A run, and what an operator asks of it.
struct Operator {
    run: Run,
}

impl Operator {
    fn ask(&self, line: &str) -> serde_json::Value {
        self.run.cluster.ask(line).unwrap()
    }

    /// How a serving node stands, and how many shards it has; none when it is not there.
    fn standing(&self, name: &str) -> Option<(String, u64)> {
        let nodes = self.ask("cluster nodes");
        let node = nodes
            .as_array()
            .unwrap()
            .iter()
            .find(|node| node["name"] == name)?;
        let state = node["state"].as_str().unwrap().to_owned();
        Some((state, node["shards"].as_u64().unwrap()))
    }

    fn wait_for(&self, name: &str, wanted: impl Fn(&str, u64) -> bool) {
        let is_so = || {
            let standing = self.standing(name);
            standing.is_some_and(|(state, shards)| wanted(&state, shards))
        };
        let nodes = || self.ask("cluster nodes");
        assert!(wait_until(SOON, is_so), "{name}: {}", nodes());
    }

    /// Empties the owner of the load's topic, and takes it back.
    fn drain_the_owner(&self) {
        let owner = self.run.owner().unwrap();
        self.ask(&format!("cluster drain {owner}"));
        self.wait_for(&owner, |state, shards| state == "drained" && shards == 0);
        assert_ne!(self.run.owner().unwrap(), owner);
        self.run.flows(u64::from(RATE) / 2).unwrap();
        let after = format!("a drain of {owner}");
        self.run.report_pauses(&after, MOVE_MOST).unwrap();
        self.ask(&format!("cluster undrain {owner}"));
        self.wait_for(&owner, |state, _| state == "live");
    }
}

#[test]
fn nodes_are_drained_taken_back_stopped_killed_and_added_and_no_publish_fails() {
    let habits = [Habits::default(), Habits::default()];
    let mut run = Run::start_on("moves", RATE, habits, lay_out).unwrap();
    run.cluster.stop("serving-4").unwrap();
    for number in 0..QUIET {
        let topic = format!("quiet-{number}");
        run.load.create_topic(&topic, Quorum::THREE_TWO).unwrap();
    }
    let mut it = Operator { run };
    // Nobody asks for the quiet topics, and all nodes have a share of them.
    for name in ["serving-1", "serving-2", "serving-3"] {
        it.wait_for(name, |_, shards| shards == 3);
    }
    it.run.flows(u64::from(RATE) / 2).unwrap();
    it.run
        .report_pauses("spreading the topics", MOVE_MOST)
        .unwrap();
    for _ in 0..6 {
        it.drain_the_owner();
    }
    // What balance moves after the last drain was taken back.
    it.run.flows(u64::from(RATE)).unwrap();
    it.run.report_pauses("balance", MOVE_MOST).unwrap();

    let owner = it.run.owner().unwrap();
    it.run.cluster.stop(&owner).unwrap();
    it.run.flows(u64::from(RATE) / 2).unwrap();
    let after = format!("a clean stop of {owner}");
    it.run.report_pauses(&after, MOVE_MOST).unwrap();
    it.run.cluster.start(&owner).unwrap();

    let owner = it.run.owner().unwrap();
    it.run.cluster.kill(&owner).unwrap();
    it.run.flows(u64::from(RATE) / 2).unwrap();
    let after = format!("kill -9 of {owner}");
    it.run.report_pauses(&after, GIVE_UP).unwrap();
    // One of several writers and consumers may have come back later than the others: that is not the next one's doing.
    it.run.flows(4 * u64::from(RATE)).unwrap();
    let after = format!("all had noticed the kill -9 of {owner}");
    it.run.report_pauses(&after, GIVE_UP).unwrap();
    it.run.cluster.start("serving-4").unwrap();
    // Two that were left, and the new one.
    it.wait_for("serving-4", |state, shards| state == "live" && shards == 3);
    it.run.flows(u64::from(RATE)).unwrap();
    it.run.report_pauses("a new node", MOVE_MOST).unwrap();

    it.run.judge_faultless(&[], GIVE_UP).unwrap();
}
