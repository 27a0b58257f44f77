//! The flags of each scenario; `plan`: what they come to.

mod plan;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use ledgerline_client::{ByteSize, Quorum};

use crate::cli::produce::{Batching, Compressing};
use crate::cli::values;

/// What is measured.
#[derive(Debug, Subcommand)]
pub(super) enum Scenario {
    Publish(Publish),
    Latency(Latency),
    E2e(E2e),
    Catchup(Catchup),
    Fanout(Fanout),
    Shared(Shared),
    Topics(Topics),
}

impl Scenario {
    /// Its name on the command line.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Publish(_) => "publish",
            Self::Latency(_) => "latency",
            Self::E2e(_) => "e2e",
            Self::Catchup(_) => "catchup",
            Self::Fanout(_) => "fanout",
            Self::Shared(_) => "shared",
            Self::Topics(_) => "topics",
        }
    }
}

/// What every scenario has.
#[derive(Debug, Clone, Args)]
pub(super) struct Common {
    /// The topic. It is made if there is none, and stays [default: a new one, deleted at the end].
    #[arg(long, env = "LEDGERLINE_TOPIC", global = true)]
    pub(super) topic: Option<String>,

    /// The quorum of a topic that is made [default: the cluster's].
    #[arg(long, env = "LEDGERLINE_QUORUM", value_parser = values::quorum, value_name = "WRITE/ACK", global = true)]
    pub(super) quorum: Option<Quorum>,

    /// How long trouble is waited out before the command gives up, also when it begins.
    #[arg(long, env = "LEDGERLINE_TIMEOUT", default_value = "2m", value_parser = values::duration, value_name = "TIME", global = true)]
    pub(super) timeout: Duration,

    /// Where to probe this machine's disk before the bench: the directory of a bookie's journal tells most; `none`
    /// leaves it out [default: the system's temporary directory].
    #[arg(
        long,
        env = "LEDGERLINE_PROBE_DIR",
        value_name = "DIR",
        global = true,
        hide_default_value = true
    )]
    pub(super) probe_dir: Option<PathBuf>,

    /// Say how it goes every 5 s, also where stderr is no terminal.
    #[arg(long, env = "LEDGERLINE_PROGRESS", global = true)]
    pub(super) progress: bool,

    /// Print the result as one JSON object, and nothing else on stdout.
    #[arg(long, env = "LEDGERLINE_JSON", global = true)]
    pub(super) json: bool,
}

/// How much is published.
#[derive(Debug, Clone, Args)]
pub(super) struct Amount {
    /// How many messages [default: as many as go in --duration].
    #[arg(long, env = "LEDGERLINE_COUNT", value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// How long to publish [default: 10s].
    #[arg(long, env = "LEDGERLINE_DURATION", value_parser = values::duration, value_name = "TIME")]
    duration: Option<Duration>,

    /// What to leave out of the result at the beginning; a run that is shorter is measured whole [default: 1s, a fifth
    /// of --duration at most; nothing with --count].
    #[arg(long, env = "LEDGERLINE_WARMUP", value_parser = values::duration, value_name = "TIME")]
    warmup: Option<Duration>,
}

/// What messages are, and how they travel.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Content {
    /// Bytes of a message: a stamp of 32, and noise that cannot be compressed.
    #[arg(
        long,
        env = "LEDGERLINE_SIZE",
        default_value = "1KiB",
        value_name = "SIZE"
    )]
    size: ByteSize,

    /// How much of a message's noise is zeros instead, which compress to next to nothing. Noise alone hardly shrinks.
    #[arg(long, env = "LEDGERLINE_COMPRESSIBLE", default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=100))]
    compressible: u8,

    #[command(flatten)]
    compression: Compressing,
}

/// Publish, and measure from the send of a message to its ack.
///
/// Without --rate the load is a closed loop: as fast as acks come, so that latency is mostly time
/// in the queue. With it latency is counted from the time a message was due. Nothing is read back:
/// `bench catchup --topic` on the same topic reads and checks what was published.
///
/// Examples:
///   ledgerline bench publish
///   ledgerline bench publish --producers 4 --topics 4 --size 100B --duration 30s
///   ledgerline bench publish --tasks 64
///   ledgerline bench publish --compression zstd --compressible 75
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Publish {
    #[command(flatten)]
    amount: Amount,

    #[command(flatten)]
    content: Content,

    /// Producers, each with a stream of its own [default: as many as --topics].
    #[arg(long, env = "LEDGERLINE_PRODUCERS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    producers: Option<u32>,

    /// Topics that the producers take in turn: as many as producers gives each one of its own. More than one are
    /// named after --topic, with a number.
    #[arg(long, env = "LEDGERLINE_TOPICS", default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    topics: u32,

    /// Messages a second, of all producers together [default: a closed loop].
    #[arg(long, env = "LEDGERLINE_RATE", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,

    /// Tasks on each producer that send one message and wait for its ack, again and again: nothing is batched by the
    /// user [default: none, one sender that does not wait].
    #[arg(long, env = "LEDGERLINE_TASKS", value_name = "N", conflicts_with_all = ["rate", "outstanding", "unary"], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    tasks: Option<u32>,

    /// One unary call a message instead of a stream, --in-flight calls at a time for each producer.
    #[arg(long, env = "LEDGERLINE_UNARY", conflicts_with_all = ["rate", "outstanding"])]
    unary: bool,

    /// Most messages of a producer without an ack [default: what its memory holds: 64 MiB, of many
    /// producers 512 MiB together].
    #[arg(long, env = "LEDGERLINE_OUTSTANDING", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    outstanding: Option<u32>,

    #[command(flatten)]
    batching: Batching,
}

/// Send one message at a time, and measure from its send to its ack.
///
/// One producer, one message outstanding: what a program waits that publishes now and then. No ack
/// can be faster than a write and sync of the disk, which is probed before.
///
/// Example:
///   ledgerline bench latency --size 100B --duration 30s
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Latency {
    #[command(flatten)]
    amount: Amount,

    #[command(flatten)]
    content: Content,
}

/// Publish at a rate and consume at the same time, and measure until the consumer has a message.
///
/// An open loop: latency is counted from the time a message was due, not from when it was sent at
/// last. A stall counts for every message that it held up.
///
/// Example:
///   ledgerline bench e2e --rate 20000 --duration 30s
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct E2e {
    /// Messages a second.
    #[arg(long, env = "LEDGERLINE_RATE", default_value_t = 5_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,

    #[command(flatten)]
    amount: Amount,

    #[command(flatten)]
    content: Content,

    #[command(flatten)]
    batching: Batching,
}

/// What is there to be read.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Backlog {
    /// How many messages [default: all there are; 500000 if they are published now].
    #[arg(long, env = "LEDGERLINE_COUNT", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    #[command(flatten)]
    content: Content,
}

/// Read a backlog from its start with one consumer, and measure how fast messages come.
///
/// A topic that holds messages of an earlier bench is read as it is; in any other a backlog is
/// published first, which is not measured. Measured is the time until the last message is here;
/// acks go out on the way.
///
/// With --rate the consumer takes messages at a set pace, and acks each at once. The server may send
/// ahead what is taken in a fifth of a second, so that it has to keep that pace: this is for what a
/// reader of old messages does to publishing beside it.
///
/// Examples:
///   ledgerline bench catchup --count 1000000
///   ledgerline bench publish --topic load && ledgerline bench catchup --topic load
///
/// Publishing beside a reader at a set pace, the last two lines in two terminals; publish more at
/// first than the servers keep in memory, so that it comes from the disk:
///   ledgerline bench publish --topic old --duration 60s
///   ledgerline bench catchup --topic old --rate 20000
///   ledgerline bench publish --duration 10s
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Catchup {
    /// Messages a second that are read, at most [default: as fast as they come].
    #[arg(long, env = "LEDGERLINE_RATE", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,

    #[command(flatten)]
    backlog: Backlog,
}

/// Publish to many subscriptions at the end of a topic, and measure all deliveries.
///
/// Every subscription gets every message; each has a consumer of its own, which acks and checks
/// what it gets. The figure counts deliveries, latency is from the time a message was due (--rate)
/// or sent to each of its deliveries.
///
/// Example:
///   ledgerline bench fanout --subscriptions 50 --rate 1000
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Fanout {
    /// Subscriptions.
    #[arg(long, env = "LEDGERLINE_SUBSCRIPTIONS", default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    subscriptions: u32,

    /// Messages a second that are published [default: a closed loop].
    #[arg(long, env = "LEDGERLINE_RATE", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,

    #[command(flatten)]
    amount: Amount,

    #[command(flatten)]
    content: Content,

    #[command(flatten)]
    batching: Batching,
}

/// Share a backlog among consumers, ack each message, and measure confirmed acks.
///
/// As in `bench catchup` the backlog is what the topic holds, or published first. A message counts
/// once its ack is confirmed, which means durable; latency is from the ack to its confirmation.
///
/// Example:
///   ledgerline bench shared --consumers 16 --count 200000
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Shared {
    /// Consumers.
    #[arg(long, env = "LEDGERLINE_CONSUMERS", default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    consumers: u32,

    #[command(flatten)]
    backlog: Backlog,
}

/// Make topics, and measure how fast they come.
///
/// They are named after --topic, with numbers from 0 on, and must not be there yet; nothing is
/// published to them. Latency is from asking for a topic to the answer that it is made. At the end
/// they are deleted, which is not measured; with --topic those that were made stay, also after
/// Ctrl-C or a failure. This machine's disk is not probed.
///
/// Examples:
///   ledgerline bench topics
///   ledgerline bench topics --count 100000 --at-once 64 --progress
///   ledgerline bench topics --topic many --count 500
#[derive(Debug, Clone, Copy, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Topics {
    /// How many topics, 1000000 at most.
    #[arg(long, env = "LEDGERLINE_COUNT", default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,

    /// How many are asked for at a time, 10000 at most. One without an answer for 15 s is asked for again, and is timed
    /// from the first time. As many are deleted at a time at the end, 64 at least.
    #[arg(long, env = "LEDGERLINE_AT_ONCE", default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    at_once: u32,
}
