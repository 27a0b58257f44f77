//! A cluster of separate processes whose metadata goes into a file and comes back: moved from one meta to etcd while
//! bookies and serving nodes run on, and restored after meta's disk was lost.
//!
//! As in `process_cluster`, load runs all the while and the judge of histories says whether what was promised held.
#![expect(
    clippy::disallowed_methods,
    reason = "a test on real processes, in real time"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ledgerline_client::{Quorum, SubscriptionMode};
use tests::process::{Cluster, Etcd, GIVE_UP, Habits, RATE, Run, TOPIC, commands, wait_until};

/// What a meta that finds its store moved away says.
const MOVED: &str = "was moved away and never opens here again";

fn binary() -> PathBuf {
    commands::binary_or(env!("CARGO_BIN_EXE_ledgerline"))
}

/// Runs `ledgerline meta …` to its end: whether it did what was asked, and what it said.
fn meta(words: &[&str]) -> anyhow::Result<(bool, String)> {
    let output = Command::new(binary()).arg("meta").args(words).output()?;
    let said = String::from_utf8([output.stdout, output.stderr].concat())?;
    Ok((output.status.success(), said))
}

/// The same, of what must succeed; what it said.
fn must(words: &[&str]) -> anyhow::Result<String> {
    let (is_done, said) = meta(words)?;
    anyhow::ensure!(is_done, "{words:?}: {said}");
    Ok(said)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the tests' own folders are text")
}

fn makes_a_topic(run: &mut Run, topic: &str) {
    let made = wait_until(Duration::from_secs(20), || {
        // One whose answer was lost is there all the same.
        run.load.create_topic(topic, Quorum::THREE_TWO).is_ok()
            || run.load.topic_stats(topic).is_ok()
    });
    assert!(made, "no topic can be made");
}

/// Somebody new reads all there ever was; then the judge has the word.
fn judge(mut run: Run) -> anyhow::Result<()> {
    run.load
        .subscribe(TOPIC, "audit", SubscriptionMode::Exclusive)?;
    run.load
        .consume(TOPIC, "audit", "auditor", Habits::default());
    run.judge_faultless(&["audit"], Duration::from_secs(60))
        .map(drop)
}

#[test]
fn metadata_moves_to_etcd_while_nodes_run_and_everything_goes_on() {
    let Some(etcd) = Etcd::start().unwrap() else {
        return;
    };
    let habits = [Habits::default(); 2];
    let lay_out = || Cluster::separate(&binary(), 3, 2);
    let mut run = Run::start_on("move", RATE, habits, lay_out).unwrap();
    let store = run.cluster.node("meta").unwrap().data_dir.clone();
    let file = run.cluster.dir().join("metadata");
    let etcd_at = etcd.endpoint();

    let nodes = ["bookie-1", "bookie-2", "bookie-3", "serving-1", "serving-2"];
    let pids = run.cluster.pids();
    run.cluster.stop("meta").unwrap();
    let stopped = Instant::now();
    println!(
        "{}",
        must(&["export", text(&file), "--data-dir", text(&store)]).unwrap()
    );
    let (is_done, said) = meta(&["--data-dir", text(&store), "--admin-listen", "off"]).unwrap();
    assert!(!is_done && said.contains(MOVED), "{said}");
    let import = ["import", text(&file), "--store", "etcd", "--etcd", &etcd_at];
    println!("{}", must(&import).unwrap());
    let (is_done, said) = meta(&import).unwrap();
    assert!(!is_done && said.contains("choose an empty place"), "{said}");
    run.cluster.node("meta").unwrap().etcd = Some(etcd_at.clone());
    run.cluster.add_meta("meta-2", &etcd_at).unwrap();
    // The second is active, which the nodes do not know of: the first one tells them.
    run.cluster.start("meta-2").unwrap();
    let second = run.cluster.process("meta-2").unwrap();
    second
        .wait_saying("this meta node is active", GIVE_UP)
        .unwrap();
    run.cluster.start("meta").unwrap();
    run.cluster.wait_ready().unwrap();
    println!("move: meta was away for {:.1?}", stopped.elapsed());

    // The same processes, with the sessions they had.
    run.flows(600).unwrap();
    makes_a_topic(&mut run, "after-the-move");
    run.report_pauses("the move to etcd", GIVE_UP).unwrap();
    for node in nodes {
        assert_eq!(run.cluster.pids()[node], pids[node]);
        let log = run.cluster.process(node).unwrap().log();
        assert!(log.contains("meta was moved to another store"), "{log}");
    }
    // One after the other is told of the second meta. Then each of the two takes over from the other.
    for node in nodes {
        run.cluster.stop(node).unwrap();
        run.cluster.start(node).unwrap();
        run.cluster.wait_ready().unwrap();
        run.flows(200).unwrap();
    }
    for (killed, topic) in [
        ("meta-2", "after-the-second-meta"),
        ("meta", "after-the-first-meta"),
    ] {
        run.cluster.kill(killed).unwrap();
        makes_a_topic(&mut run, topic);
        run.flows(600).unwrap();
        run.cluster.start(killed).unwrap();
    }
    run.report_pauses("restarts of all nodes and kill -9 of a meta", GIVE_UP)
        .unwrap();
    judge(run).unwrap();
}

#[test]
fn a_restored_cluster_has_all_that_was_acked_in_the_ledgers_of_the_backup() {
    let habits = [Habits::default(); 2];
    let lay_out = || Cluster::separate(&binary(), 3, 2);
    let mut run = Run::start_on("restore", RATE, habits, lay_out).unwrap();
    let store = run.cluster.node("meta").unwrap().data_dir.clone();
    let file = run.cluster.dir().join("metadata");

    run.cluster.stop("meta").unwrap();
    println!(
        "{}",
        must(&["backup", text(&file), "--data-dir", text(&store)]).unwrap()
    );
    run.cluster.start("meta").unwrap();
    run.cluster.wait_ready().unwrap();
    // After the backup: more entries in the same ledgers, and a topic that will be forgotten.
    run.flows(600).unwrap();
    makes_a_topic(&mut run, "forgotten");

    run.cluster.wipe("meta").unwrap();
    println!(
        "{}",
        must(&["restore", text(&file), "--data-dir", text(&store)]).unwrap()
    );
    run.cluster.start("meta").unwrap();
    // What runs knows of the forgotten time, and ends by itself.
    let nodes = ["bookie-1", "bookie-2", "bookie-3", "serving-1", "serving-2"];
    for node in nodes {
        let ended = wait_until(GIVE_UP, || {
            let process = run.cluster.process(node).unwrap();
            !process.is_running()
        });
        assert!(ended, "{node} does not stop");
        let log = run.cluster.process(node).unwrap().log();
        assert!(log.contains("start the node again"), "{log}");
    }
    for node in nodes {
        run.cluster.start(node).unwrap();
    }
    run.cluster.wait_ready().unwrap();
    run.flows(600).unwrap();
    makes_a_topic(&mut run, "after-the-restore");
    run.report_pauses("the restore", Duration::MAX).unwrap();
    judge(run).unwrap();
}
