//! A busy topic while one node is moved, slow or away.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use ledgerline_client::Quorum;
use tests::process::{Cluster, GIVE_UP, Habits, Role, Run, TOPIC, wait_until};

use crate::Whom;
use crate::figures::{Times, latencies, resident};

/// Messages a second.
const RATE: u32 = 2_000;
/// How long one look at latencies takes.
const LOOK: Duration = Duration::from_secs(15);
/// How long a drain may take before something is wrong.
const DRAINED: Duration = Duration::from_secs(30);

fn start(
    name: &'static str,
    lay_out: impl FnOnce() -> anyhow::Result<Cluster>,
) -> anyhow::Result<Run> {
    Run::start_on(name, RATE, [Habits::default(); 2], lay_out)
}

/// Longest times without a receipt, and without a delivery.
#[derive(Debug, Default)]
struct Gaps([Vec<Duration>; 2]);

impl Gaps {
    fn note(&mut self, run: &Run) -> anyhow::Result<()> {
        run.flows(u64::from(RATE) / 2)?;
        let [publishing, consuming] = run.take_pauses()?;
        self.0[0].push(publishing);
        self.0[1].push(consuming);
        Ok(())
    }

    fn print(self, what: &str) {
        let [publishing, consuming] = self.0.map(Times::of);
        publishing.print(&format!("{what}, gap in publishing"));
        consuming.print(&format!("{what}, gap in consuming"));
    }
}

/// Whether a serving node is in a state, with or without shards.
fn is_in(run: &Run, name: &str, state: &str, is_empty: bool) -> bool {
    let nodes = run.cluster.ask("cluster nodes").unwrap_or_default();
    let mut all = nodes.as_array().into_iter().flatten();
    all.any(|node| {
        let shards = node["shards"].as_u64();
        node["name"] == name && node["state"] == state && (shards == Some(0) || !is_empty)
    })
}

pub(crate) fn moves(binary: &Path, times: u32) -> anyhow::Result<()> {
    let mut run = start("moves", || Cluster::separate(binary, 3, 3))?;
    let mut gaps = Gaps::default();
    for _ in 0..times {
        let owner = run.owner()?;
        run.cluster.ask(&format!("cluster drain {owner}"))?;
        let drained = wait_until(DRAINED, || is_in(&run, &owner, "drained", true));
        anyhow::ensure!(drained, "{owner} is not drained");
        gaps.note(&run)?;
        run.cluster.ask(&format!("cluster undrain {owner}"))?;
        let back = wait_until(DRAINED, || is_in(&run, &owner, "live", false));
        anyhow::ensure!(back, "{owner} is not taken back");
    }
    gaps.print("drain of the owner");
    let mut gaps = Gaps::default();
    for _ in 0..times {
        let owner = run.owner()?;
        run.cluster.stop(&owner)?;
        run.cluster.start(&owner)?;
        run.cluster.wait_ready()?;
        gaps.note(&run)?;
    }
    gaps.print("restart of the owner");
    latencies(&run).print("publish all the while, from when due");
    run.judge_faultless(&[], GIVE_UP).map(drop)
}

pub(crate) fn kills(binary: &Path, whom: Whom, times: u32) -> anyhow::Result<()> {
    let mut run = start("kills", || Cluster::separate(binary, 3, 2))?;
    let mut gaps = Gaps::default();
    for time in 0..times {
        let node = match whom {
            Whom::Bookie => format!("bookie-{}", 1 + time % 3),
            Whom::Owner => run.owner()?,
        };
        run.cluster.kill(&node)?;
        // Long enough for each of two writers and three consumers to notice: no gap may count with the next one's.
        run.flows(4 * u64::from(RATE))?;
        gaps.note(&run)?;
        run.cluster.start(&node)?;
        run.cluster.wait_ready()?;
        run.flows(u64::from(RATE))?;
        run.take_pauses()?;
    }
    gaps.print(&format!("kill -9 ({whom:?})"));
    run.judge_faultless(&[], GIVE_UP).map(drop)
}

pub(crate) fn slow_bookie(binary: &Path, delay: u32) -> anyhow::Result<()> {
    let mut run = start("slow bookie", || Cluster::separate(binary, 4, 2))?;
    let owner = run.owner()?;
    let memory = |run: &mut Run| run.cluster.process(&owner).map(|it| resident(it));
    let look = |run: &mut Run, what: &str| -> anyhow::Result<()> {
        sleep(LOOK);
        latencies(run).print(&format!("publish, {what}"));
        println!("  resident memory of the owner: {} MiB", memory(run)?);
        Ok(())
    };
    look(&mut run, "warming up")?;
    look(&mut run, "all well")?;
    let pid = run.cluster.process("bookie-1")?.pid();
    let inject = format!("inject=fdatasync,fsync:delay_exit={delay}");
    let mut tracer = Command::new("strace")
        .args([
            "-qq",
            "-f",
            "-o",
            "/dev/null",
            "-e",
            "trace=fdatasync,fsync",
        ])
        .args(["-e", &inject, "-p", &pid.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .context("strace is needed to slow a bookie")?;
    look(&mut run, &format!("a bookie syncs {delay} us slower"))?;
    tracer.kill()?;
    tracer.wait()?;
    look(&mut run, "it is well again")?;
    run.cluster.pause("bookie-2")?;
    sleep(Duration::from_secs(5));
    run.cluster.resume("bookie-2")?;
    look(&mut run, "another one was stopped for 5 s")?;
    look(&mut run, "it is well again")?;
    let [publishing, consuming] = run.take_pauses()?;
    println!("longest gap in publishing {publishing:.2?}, in consuming {consuming:.2?}");
    run.judge_faultless(&[], GIVE_UP).map(drop)
}

pub(crate) fn meta_away(binary: &Path, seconds: u64) -> anyhow::Result<()> {
    let mut run = start("meta away", || Cluster::separate(binary, 3, 2))?;
    run.flows(u64::from(RATE))?;
    run.take_pauses()?;
    latencies(&run);
    run.cluster.kill("meta")?;
    sleep(Duration::from_secs(seconds));
    let [publishing, _] = run.take_pauses()?;
    latencies(&run).print(&format!("publish, meta away for {seconds} s"));
    println!("  longest gap in publishing {publishing:.2?}");
    run.cluster.start("meta")?;
    let back = Instant::now();
    let made = wait_until(GIVE_UP, || {
        let made = run.load.create_topic("late", Quorum::THREE_TWO);
        made.is_ok() || run.load.topic_stats("late").is_ok()
    });
    anyhow::ensure!(made, "no topic can be made");
    println!(
        "a topic was made and owned {:.2?} after it listened again",
        back.elapsed()
    );
    run.flows(u64::from(RATE))?;
    let [publishing, consuming] = run.take_pauses()?;
    println!("  longest gap in publishing {publishing:.2?}, in consuming {consuming:.2?}");
    println!("{TOPIC} is owned by {}", run.owner()?);
    let running = run.cluster.nodes(Role::Serving).count();
    anyhow::ensure!(running == 2, "all serving nodes stayed");
    run.judge_faultless(&[], GIVE_UP + Duration::from_secs(seconds))
        .map(drop)
}
