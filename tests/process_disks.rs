//! A cluster of separate processes whose disks fail: a sync that reports an error, a disk that is full, directories that
//! were exchanged.
//!
//! Skipped, and says so, where system calls cannot be traced or nothing can be mounted.
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

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tests::process::{Cluster, GIVE_UP, Habits, Mount, Run, Tool, commands, wait_until};

/// For what should take a moment, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(60);

fn binary() -> PathBuf {
    commands::binary_or(env!("CARGO_BIN_EXE_ledgerline"))
}

/// A cluster of three bookies under load, laid out by `change`.
fn start(name: &'static str, change: impl FnOnce(&mut Cluster) -> anyhow::Result<()>) -> Run {
    let habits = [Habits::default(), Habits::default()];
    let lay_out = || {
        let mut cluster = Cluster::separate(&binary(), 3, 2)?;
        change(&mut cluster)?;
        Ok(cluster)
    };
    Run::start_on(name, 200, habits, lay_out).expect("the cluster comes up")
}

/// Judges; nothing that was sent may have failed.
fn judge(run: Run) {
    run.judge_faultless(&[], GIVE_UP).expect("the load ends");
}

/// Whether system calls can be traced, and faults put in their place.
fn can_inject() -> bool {
    let inject = [
        "-qq",
        "-D",
        "-o",
        "/dev/null",
        "-e",
        "inject=sync:error=EIO",
        "true",
    ];
    let tried = Command::new("strace").args(inject).output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        println!("SKIPPED: strace cannot trace here (it must be installed and permitted)");
    }
    can
}

/// Runs a program so that, from the `first` on, every such call returns an I/O error. The tracer stands aside, so that the
/// process that was spawned is the program itself.
fn failing(call: &str, first: u32) -> Vec<OsString> {
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:error=EIO:when={first}+");
    let words = [
        "strace",
        "-qq",
        "-D",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &inject,
    ];
    words.map(Into::into).to_vec()
}

#[test]
fn a_bookie_whose_journal_cannot_be_synced_ends_and_fails_no_publish() {
    if !can_inject() {
        return;
    }
    // The syncs of its start are some dozens, those of the load some hundreds a second.
    let mut run = start("sync-error", |cluster| {
        cluster.node("bookie-1")?.wrapper = failing("fdatasync", 600);
        Ok(())
    });
    let bookie = run.cluster.process("bookie-1").unwrap();
    let ended = bookie.wait_ended(SOON).unwrap();
    assert!(!ended.success(), "{ended}: {}", bookie.log());
    assert!(
        bookie.log().contains("Input/output error"),
        "{}",
        bookie.log()
    );
    run.flows(300).unwrap();
    run.report_pauses("a sync failed", GIVE_UP).unwrap();
    // On a disk that is well again it goes on as the one it was, and can be relied on.
    run.cluster.node("bookie-1").unwrap().wrapper.clear();
    run.cluster.start("bookie-1").unwrap();
    run.cluster.wait_ready().unwrap();
    run.flows(300).unwrap();
    run.cluster.kill("bookie-2").unwrap();
    run.flows(300).unwrap();
    run.report_pauses("it came back, and another one was killed", GIVE_UP)
        .unwrap();
    judge(run);
}

#[test]
fn a_bookie_whose_disk_is_full_fails_no_publish_and_takes_writes_again_by_itself() {
    let Some(mount) = Mount::tmpfs("size=256m").unwrap() else {
        return;
    };
    let data = mount.path().to_owned();
    let mut run = start("full-disk", |cluster| {
        cluster.node("bookie-1")?.data_dir = data;
        Ok(())
    });
    let ballast = mount.path().join("ballast");
    // It writes until nothing more goes, and leaves what went.
    let filled = fs::write(&ballast, vec![0xaa; 256 << 20]);
    assert!(filled.is_err(), "the disk is smaller than that");
    let says = |run: &mut Run, text: &str| {
        let bookie = run.cluster.process("bookie-1").unwrap();
        let seen = wait_until(SOON, || bookie.log().contains(text));
        assert!(seen, "{text}: {}", bookie.log());
    };
    says(&mut run, "standing=ReadOnly");
    run.flows(600).unwrap();
    run.report_pauses("a bookie's disk was full", GIVE_UP)
        .unwrap();
    fs::remove_file(&ballast).unwrap();
    says(&mut run, "standing=ReadWrite");
    run.flows(300).unwrap();
    // With the one that was full the other two are not needed both.
    run.cluster.kill("bookie-2").unwrap();
    run.flows(300).unwrap();
    run.report_pauses("it had room again, and another one was killed", GIVE_UP)
        .unwrap();
    judge(run);
}

#[test]
fn bookies_on_each_others_directories_are_refused_and_lose_nothing() {
    let mut run = start("exchanged", |_| Ok(()));
    let exchange = |run: &mut Run| {
        let one = run.cluster.node("bookie-1").unwrap().data_dir.clone();
        let other = run.cluster.node("bookie-2").unwrap().data_dir.clone();
        run.cluster.node("bookie-1").unwrap().data_dir = other;
        run.cluster.node("bookie-2").unwrap().data_dir = one;
    };
    run.cluster.kill("bookie-1").unwrap();
    run.cluster.kill("bookie-2").unwrap();
    exchange(&mut run);
    for name in ["bookie-1", "bookie-2"] {
        let node = run.cluster.node(name).unwrap().clone();
        let refused = Tool::new(&binary()).unwrap().run(node.arguments(), SOON);
        let refused = refused.unwrap();
        println!("{}", refused.stderr);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        for word in ["bookie-1", "bookie-2", "--name"] {
            assert!(refused.stderr.contains(word), "{refused:?}");
        }
    }
    exchange(&mut run);
    run.cluster.start_all().unwrap();
    run.flows(300).unwrap();
    judge(run);
}
