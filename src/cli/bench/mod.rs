//! `ledgerline bench …`: how fast, measured so that nothing is hidden.

mod load;
mod pace;
mod probe;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use host::Host;
use ledgerline_client::{ByteSize, Client, Quorum, Reason};
use tokio_util::sync::CancellationToken;

use super::client::{Server, block_on, explain};
use super::produce::Tuning;
use super::values;
use crate::terminal;
use report::Report;

/// Measure a cluster: publish, consume, end to end.
///
/// Latency at a fixed rate is counted from the time a message was due, not from when it was sent at last: a stall of the
/// cluster counts for every message it held up. Without --rate the load is a closed loop: as fast as receipts come.
/// A disk is probed first (write and fdatasync of 4 KiB, on this machine): no ack can be faster than the disk.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    server: Server,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publish, and measure from the send to the ack.
    Produce(Load),
    /// Read and ack a topic from its start as fast as it comes; publish it first with `bench produce`.
    Consume(Read),
    /// Publish and consume, and measure from the send to the receipt by the consumer.
    E2e(Load),
}

/// What every bench has.
#[derive(Debug, Clone, Args)]
struct Common {
    /// The topic. It is made if there is none [default: a new one].
    #[arg(long, env = "LEDGERLINE_TOPIC", global = true)]
    topic: Option<String>,

    /// The quorum of a topic that is made [default: the cluster's].
    #[arg(long, env = "LEDGERLINE_QUORUM", value_parser = values::quorum, value_name = "WRITE/ACK", global = true)]
    quorum: Option<Quorum>,

    /// Where to probe the disk: the directory of a bookie's journal tells most.
    #[arg(
        long,
        env = "LEDGERLINE_PROBE_DIR",
        default_value = ".",
        value_name = "DIR",
        global = true
    )]
    probe_dir: PathBuf,

    /// Print the result as JSON.
    #[arg(long, env = "LEDGERLINE_JSON", global = true)]
    json: bool,
}

/// What is published.
#[derive(Debug, Clone, Args)]
struct Load {
    /// How many messages [default: as many as go in --duration].
    #[arg(long, env = "LEDGERLINE_COUNT", value_name = "N")]
    count: Option<u64>,

    /// How long, when no --count is given.
    #[arg(long, env = "LEDGERLINE_DURATION", default_value = "10s", value_parser = values::duration, value_name = "TIME")]
    duration: Duration,

    /// What to leave out of the result at the beginning.
    #[arg(long, env = "LEDGERLINE_WARMUP", default_value = "1s", value_parser = values::duration, value_name = "TIME")]
    warmup: Duration,

    /// Bytes of a message; they are random.
    #[arg(
        long,
        env = "LEDGERLINE_SIZE",
        default_value = "1KiB",
        value_name = "SIZE"
    )]
    size: ByteSize,

    /// Messages a second, of all producers together. Default: a closed loop.
    #[arg(long, env = "LEDGERLINE_RATE", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,

    /// Producers, each with a connection's stream of its own.
    #[arg(long, env = "LEDGERLINE_PRODUCERS", default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    producers: u32,

    /// Most messages of a producer without a receipt: 1 measures the latency of a single message. Default: what its
    /// memory holds.
    #[arg(long, env = "LEDGERLINE_OUTSTANDING", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    outstanding: Option<u32>,

    #[command(flatten)]
    tuning: Tuning,
}

/// What is read.
#[derive(Debug, Clone, Args)]
struct Read {
    /// How many messages [default: all there are].
    #[arg(long, env = "LEDGERLINE_COUNT", value_name = "N")]
    count: Option<u64>,

    /// Consumers that share the messages.
    #[arg(long, env = "LEDGERLINE_CONSUMERS", default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    consumers: u32,
}

/// What a bench works with.
struct Scene {
    client: Client,
    host: Host,
    topic: String,
    stop: CancellationToken,
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let json = self.common.json;
        let report = block_on(self.measure())?;
        report.print(json);
        Ok(())
    }

    async fn measure(self) -> anyhow::Result<Report> {
        let stop = terminal::stop_signal();
        let host = Host::real("bench");
        let client = self.server.connect().await?;
        let probe = probe::run(&host, &self.common.probe_dir)?;
        let name = match &self.command {
            Command::Produce(_) => "produce",
            Command::Consume(_) => "consume",
            Command::E2e(_) => "e2e",
        };
        let topic = match (&self.common.topic, &self.command) {
            (Some(topic), _) => topic.clone(),
            (None, Command::Consume(_)) => {
                bail!(
                    "`bench consume` reads what is there: set --topic to one that `bench produce --topic` filled"
                )
            }
            (None, _) => format!("bench-{:08x}", host.rng.below(1 << 32)),
        };
        let quorum = self.quorum(&client, &topic).await?;
        let mut report = Report::new(name, &topic, &quorum, probe);
        terminal::say(report.head());
        let scene = Scene {
            client,
            host,
            topic,
            stop,
        };
        match self.command {
            Command::Produce(load) => load::produce(scene, load, &mut report).await?,
            Command::Consume(read) => load::consume(scene, read, &mut report).await?,
            Command::E2e(load) => load::end_to_end(scene, load, &mut report).await?,
        }
        Ok(report)
    }

    /// Makes the topic if it is to be made; its quorum.
    async fn quorum(&self, client: &Client, topic: &str) -> anyhow::Result<String> {
        let admin = client.admin();
        let is_made = !matches!(self.command, Command::Consume(_));
        let found = match admin.get_topic(topic).await {
            Err(error) if error.reason() == Reason::TopicNotFound && is_made => {
                admin.create_topic(topic, self.common.quorum).await
            }
            found => found,
        };
        let quorum = found.map_err(explain)?.quorum.unwrap_or_default();
        Ok(format!("{}/{}", quorum.write, quorum.ack))
    }
}
