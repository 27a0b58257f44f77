//! A cluster of separate processes that freeze, leave, come back and are killed at random under load. See also
//! `process_cluster.rs`.
//!
//! `LEDGERLINE_CYCLES` says how often nodes are killed at random (20), `LEDGERLINE_KILL_SEED` which ones: the seed is printed.
#![expect(
    clippy::disallowed_methods,
    reason = "a test on real processes, in real time"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use host::Rng;
use host::net::Address;
use ledgerline_client::SubscriptionMode;
use meta_client::{MetaClient, MetaConfig};
use tests::process::{
    Cluster, Ended, GIVE_UP, Habits, Role, Run, TOPIC, Tool, commands, wait_until,
};
use tokio::runtime::Runtime;
use types::chain::{LedgerRecord, LedgerState, LogKind};
use types::cluster::BookieRecord;
use types::command::{Answer, Query};
use types::{BookieId, LedgerId};

/// How long the repair of a small cluster may take.
const REPAIR_LIMIT: Duration = Duration::from_secs(60);

fn binary() -> PathBuf {
    commands::binary_or(env!("CARGO_BIN_EXE_ledgerline"))
}

fn start(name: &'static str) -> Run {
    Run::start(&binary(), name, Habits::default(), Habits::default()).expect("the cluster comes up")
}

/// Judges; nothing that was sent may have failed.
fn judge(run: Run) {
    run.judge_faultless(&[], GIVE_UP).expect("the load ends");
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

/// Four bookies; copies are looked at often, and a bookie that is away is soon lost.
fn repairing(binary: &Path) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::separate(binary, 4, 2)?;
    let soon = ["--audit-interval", "500ms", "--repair-grace", "2s"];
    cluster.node("meta")?.extra = soon.map(Into::into).to_vec();
    for bookie in ["bookie-1", "bookie-2", "bookie-3", "bookie-4"] {
        let often = ["--repair-interval", "500ms"];
        cluster.node(bookie)?.extra = often.map(Into::into).to_vec();
    }
    let small = ["--journal-file", "16MiB", "--free-low", "64MiB"];
    let last = cluster.node("bookie-4")?;
    last.extra.extend(small.map(Into::into));
    Ok(cluster)
}

/// What meta's records say of copies.
struct Copies {
    runtime: Runtime,
    meta: MetaClient,
}

impl Copies {
    fn of(cluster: &Cluster) -> Self {
        let runtime = Runtime::new().unwrap();
        let node = cluster.nodes(Role::Meta).next().unwrap();
        let config = MetaConfig::new(vec![Address::new(node.listen.to_string())]);
        let host = host::Host::real("test");
        let meta = runtime.block_on(MetaClient::connect(&host, config, GIVE_UP));
        let meta = meta.unwrap();
        Self { runtime, meta }
    }

    fn ask(&self, query: Query) -> Answer {
        self.runtime.block_on(self.meta.query(query)).unwrap()
    }

    fn bookies(&self) -> Vec<BookieRecord> {
        match self.ask(Query::Bookies) {
            Answer::Bookies(bookies) => bookies,
            other => panic!("{other:?}"),
        }
    }

    /// Every ledger of the load's topic.
    fn ledgers(&self) -> Vec<LedgerRecord> {
        let Answer::Topic(Some(topic)) = self.ask(Query::Topic(TOPIC.parse().unwrap())) else {
            panic!("the topic is there");
        };
        let Answer::Shard(Some(view), _) = self.ask(Query::Shard(topic.shards[0])) else {
            panic!("the shard is there");
        };
        let chains = LogKind::BOTH.map(|kind| view.record.chain(kind));
        let ids = chains.into_iter().flat_map(|chain| {
            let links = chain.links.iter();
            links.map(|link| LedgerId::new(chain.log, link.seq))
        });
        match self.ask(Query::Ledgers(ids.collect())) {
            Answer::Ledgers(ledgers) => ledgers,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until every closed ledger is whole at every bookie it names, none of which is `lost`, and the plan says the
    /// same.
    fn wait_whole(&self, lost: Option<&str>) {
        let is_whole = || {
            let bookies = self.bookies();
            let is_good = |ledger: &LedgerRecord, id: &BookieId| {
                let bookie = bookies.iter().find(|bookie| bookie.id == *id);
                bookie.is_some_and(|it| {
                    ledger.is_verified(*id, it.born) && Some(it.name.as_str()) != lost
                })
            };
            let ledgers = self.ledgers();
            let mut closed = ledgers
                .iter()
                .filter(|it| matches!(it.state, LedgerState::Closed { .. }));
            let plan = self.runtime.block_on(self.meta.repair_plan()).unwrap();
            closed.all(|it| it.ensemble.iter().all(|id| is_good(it, id))) && plan.is_empty()
        };
        let done = wait_until(REPAIR_LIMIT, is_whole);
        let plan = self.runtime.block_on(self.meta.repair_plan());
        assert!(done, "{plan:?} {:?}", self.ledgers());
    }
}

/// Lets another node own the topic, so that its ledgers are closed.
fn close_ledgers(run: &mut Run) {
    let owner = run.owner().unwrap();
    run.cluster.stop(&owner).unwrap();
    run.cluster.start(&owner).unwrap();
    run.cluster.wait_ready().unwrap();
    run.flows(300).unwrap();
}

#[test]
fn copies_that_were_lost_are_made_anew_and_hold_all_that_was_acked() {
    let habits = [Habits::default(), Habits::default()];
    let lay_out = || repairing(&binary());
    let mut run = Run::start_on("repair", 200, habits, lay_out).expect("the cluster comes up");
    let copies = Copies::of(&run.cluster);
    close_ledgers(&mut run);
    copies.wait_whole(None);
    // Born again: it holds nothing, and is given its ledgers again.
    let before = copies.ledgers().len();
    run.cluster.wipe("bookie-1").unwrap();
    run.flows(300).unwrap();
    run.cluster.start("bookie-1").unwrap();
    run.cluster.wait_ready().unwrap();
    run.flows(300).unwrap();
    close_ledgers(&mut run);
    copies.wait_whole(None);
    assert!(copies.ledgers().len() > before, "ledgers were closed");
    // Lost for good: others take its place.
    run.cluster.kill("bookie-2").unwrap();
    run.flows(300).unwrap();
    close_ledgers(&mut run);
    copies.wait_whole(Some("bookie-2"));
    run.report_pauses("a wiped and a lost bookie", GIVE_UP)
        .unwrap();
    // Of the first three now only the wiped one is left: what it and the fourth hold was copied.
    run.cluster.kill("bookie-3").unwrap();
    run.load
        .subscribe(TOPIC, "again", SubscriptionMode::Exclusive)
        .unwrap();
    run.load.consume(TOPIC, "again", "again", Habits::default());
    run.flows(300).unwrap();
    run.judge_faultless(&["again"], GIVE_UP)
        .expect("the load ends");
}

/// `ledgerline cluster …`, as JSON.
fn operate(run: &Run, words: &[&str]) -> Ended {
    let tool = Tool::new(&binary()).unwrap();
    let servers: Vec<String> = run
        .cluster
        .nodes(Role::Serving)
        .map(|n| n.endpoint())
        .collect();
    let servers = servers.join(",");
    let all = ["cluster", "--json", "--server", &servers];
    tool.run(all.iter().chain(words), GIVE_UP).unwrap()
}

#[test]
fn a_drained_bookie_is_left_by_its_copies_and_taken_out_for_good() {
    let habits = [Habits::default(), Habits::default()];
    let lay_out = || repairing(&binary());
    let mut run = Run::start_on("drain", 200, habits, lay_out).expect("the cluster comes up");
    let copies = Copies::of(&run.cluster);
    close_ledgers(&mut run);
    copies.wait_whole(None);
    let early = operate(&run, &["decommission", "bookie-2"]);
    assert_ne!(early.code, Some(0), "{early:?}");
    let drained = operate(&run, &["drain", "bookie-2"]);
    assert_eq!(drained.code, Some(0), "{drained:?}");
    let too_many = operate(&run, &["drain", "bookie-1"]);
    assert!(too_many.stderr.contains("left=2 needed=3"), "{too_many:?}");
    // The owner leaves it by itself, and then its copies do.
    copies.wait_whole(Some("bookie-2"));
    let done = wait_until(REPAIR_LIMIT, || {
        operate(&run, &["decommission", "bookie-2"]).code == Some(0)
    });
    assert!(done, "{:?}", copies.ledgers());
    let plan = operate(&run, &["repair", "plan"]);
    assert!(plan.text().contains("\"beyond_repair\": 0"), "{plan:?}");
    let nodes = operate(&run, &["nodes"]);
    assert!(!nodes.text().contains("bookie-2"), "{nodes:?}");
    run.cluster.kill("bookie-2").unwrap();
    // It may listen for a moment, before meta refuses it.
    let _ = run.cluster.start("bookie-2");
    let process = run.cluster.process("bookie-2").unwrap();
    let back = process.wait_saying(" is ready", GIVE_UP).unwrap_err();
    assert!(format!("{back:#} {back:?}").contains("--name"), "{back:#}");
    run.flows(300).unwrap();
    judge(run);
}

#[test]
fn nodes_killed_at_random_over_and_over_lose_double_and_reorder_nothing() {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH);
    let seed =
        commands::number("LEDGERLINE_KILL_SEED").unwrap_or_else(|| clock().unwrap().as_secs());
    let cycles = commands::number("LEDGERLINE_CYCLES").unwrap_or(20);
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
