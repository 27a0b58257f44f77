//! Much data, and many topics.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use ledgerline_client::{Client, Quorum, TopicOptions};
use tests::process::{Cluster, GIVE_UP, Habits, Role, Run, wait_until};

use crate::figures::{Times, latencies, resident};

/// Messages a second of the load beside a repair.
const RATE: u32 = 2_000;
/// How long one look at latencies takes.
const LOOK: Duration = Duration::from_secs(15);
/// How long a repair, or opening all topics, may take.
const MOST: Duration = Duration::from_secs(300);
/// The pause between two looks at how many topics are owned.
const LOOK_AT_TOPICS: Duration = Duration::from_millis(500);
/// Calls under way at a time.
const AT_ONCE: usize = 64;
/// A topic with much data.
const BULK: &str = "bulk";

fn client(cluster: &Cluster) -> anyhow::Result<Client> {
    let servers: Vec<String> = cluster
        .nodes(Role::Serving)
        .map(|node| node.endpoint())
        .collect();
    Ok(Client::builder().addresses(servers.join(",")).build()?)
}

/// Fills a topic whose ledgers are closed then.
async fn fill(client: Client, mebibytes: u64) -> anyhow::Result<()> {
    let options = TopicOptions {
        quorum: Some(Quorum::THREE_TWO),
        retention: None,
    };
    client.admin().create_topic(BULK, options).await?;
    let producer = client.producer(BULK).create().await?;
    let mut noise = tests::workload::Prng::new(1);
    let mut receipts = Vec::new();
    for _ in 0..mebibytes * 16 {
        let words = (0..8 * 1024).flat_map(|_| noise.next_u64().to_le_bytes());
        receipts.push(producer.send(words.collect::<Vec<u8>>()).await?);
        if receipts.len() == 256 {
            futures::future::try_join_all(receipts.drain(..)).await?;
        }
    }
    futures::future::try_join_all(receipts).await?;
    Ok(())
}

pub(crate) fn repair(binary: &Path, mebibytes: u64) -> anyhow::Result<()> {
    let lay_out = || {
        let mut cluster = Cluster::separate(binary, 4, 2)?;
        let soon = ["--audit-interval", "500ms", "--repair-grace", "5s"];
        cluster.node("meta")?.extra = soon.map(Into::into).to_vec();
        Ok(cluster)
    };
    let mut run = Run::start_on("repair", RATE, [Habits::default(); 2], lay_out)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(fill(client(&run.cluster)?, mebibytes))?;
    // Its ledger is closed when another node takes the topic.
    for node in ["serving-1", "serving-2"] {
        run.cluster.stop(node)?;
        run.cluster.start(node)?;
        run.cluster.wait_ready()?;
        run.flows(u64::from(RATE))?;
    }
    let plan = |run: &Run| run.cluster.ask("cluster repair plan");
    let is_whole =
        |run: &Run| plan(run).is_ok_and(|it| it["state"] == "known" && it["whole"] == it["closed"]);
    anyhow::ensure!(wait_until(MOST, || is_whole(&run)), "{}", plan(&run)?);
    latencies(&run);
    sleep(LOOK);
    latencies(&run).print("publish, all well");
    run.cluster.kill("bookie-1")?;
    let killed = Instant::now();
    let noticed = wait_until(MOST, || !is_whole(&run));
    anyhow::ensure!(noticed, "nobody notices");
    println!(
        "noticed {:.1?} after the kill -9 (grace time 5 s)",
        killed.elapsed()
    );
    latencies(&run).print("publish, until it was noticed");
    let begun = Instant::now();
    anyhow::ensure!(wait_until(MOST, || is_whole(&run)), "{}", plan(&run)?);
    println!(
        "every ledger has all its copies {:.1?} later",
        begun.elapsed()
    );
    latencies(&run).print("publish, while copies were made");
    run.judge_faultless(&[], GIVE_UP).map(drop)
}

/// The topics that serving nodes have which are there. What a node that was killed owned is nobody's.
fn owned(cluster: &Cluster) -> anyhow::Result<u64> {
    let nodes = cluster.ask("cluster nodes")?;
    let nodes = nodes.as_array().context("a list of nodes")?;
    Ok(nodes
        .iter()
        .filter(|node| node["state"] == "live")
        .filter_map(|node| node["shards"].as_u64())
        .sum())
}

/// Makes topics and stores a message in each: how long each took.
async fn make(client: &Client, count: usize) -> anyhow::Result<Times> {
    let each = futures::stream::iter((0..count).map(|n| async move {
        let begun = Instant::now();
        let topic = format!("topic-{n}");
        let options = TopicOptions {
            quorum: Some(Quorum::THREE_TWO),
            retention: None,
        };
        client.admin().create_topic(&topic, options).await?;
        publish(client, &topic).await?;
        anyhow::Ok(begun.elapsed())
    }));
    let all = each.buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(Times::of(all))
}

async fn publish(client: &Client, topic: &str) -> anyhow::Result<()> {
    let producer = client.producer(topic).create().await?;
    producer.send("1").await?.await?;
    Ok(())
}

pub(crate) fn topics(binary: &Path, count: usize) -> anyhow::Result<()> {
    let mut cluster = Cluster::separate(binary, 3, 2)?;
    cluster.start_all()?;
    cluster.wait_ready()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let client = client(&cluster)?;
    let begun = Instant::now();
    let took = runtime.block_on(make(&client, count))?;
    println!(
        "{count} topics were made with a message each in {:.1?}",
        begun.elapsed()
    );
    took.print("each, 64 at a time");
    memory(&mut cluster)?;
    cluster.kill_all()?;
    let begun = Instant::now();
    cluster.start_all()?;
    println!(
        "all processes were killed and listen again after {:.1?}",
        begun.elapsed()
    );
    let mut before = 0;
    let all = u64::try_from(count)?;
    let done = wait_until(MOST, || {
        sleep(LOOK_AT_TOPICS); // Each look reads the records of all topics.
        let now = owned(&cluster).unwrap_or_default();
        if now / 1_000 > before / 1_000 {
            println!("  {now} topics are owned after {:.1?}", begun.elapsed());
        }
        before = now;
        now >= all
    });
    anyhow::ensure!(done, "{before} topics of {count} are owned");
    println!(
        "all {count} topics are owned {:.1?} after the start",
        begun.elapsed()
    );
    memory(&mut cluster)?;
    let begun = Instant::now();
    let again = futures::stream::iter((0..count).map(|n| {
        let client = &client;
        async move { publish(client, &format!("topic-{n}")).await }
    }));
    runtime.block_on(again.buffer_unordered(AT_ONCE).try_collect::<()>())?;
    println!("a message in each took {:.1?}", begun.elapsed());
    memory(&mut cluster)
}

fn memory(cluster: &mut Cluster) -> anyhow::Result<()> {
    for node in ["meta", "bookie-1", "serving-1", "serving-2"] {
        let resident = resident(cluster.process(node)?);
        println!("  resident memory of {node}: {resident} MiB");
    }
    Ok(())
}
