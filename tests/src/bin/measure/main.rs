//! How long a cluster of real processes stands still, and how slow it gets, when something happens to it.
//!
//! Nothing here passes or fails by a time, but every run is judged: a figure of a run that lost a message is none.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program of the test suite, on real processes and the real clock"
)]

mod figures;
mod many;
mod trouble;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use tests::process::binary;

/// Measures a cluster of real processes while things happen to it. Build the servers with the same profile first:
/// `cargo build --release`, or name them with LEDGERLINE_BIN.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Drains the owner of a busy topic over and over, then restarts every serving node in turn.
    Moves {
        /// How many drains, and how many restarts.
        #[arg(long, default_value_t = 50)]
        times: u32,
    },
    /// Kills a node with SIGKILL and starts it again, over and over.
    Kills {
        /// Whom: a bookie, each in turn, or the owner of the busy topic.
        #[arg(value_enum)]
        whom: Whom,
        /// How often.
        #[arg(long, default_value_t = 50)]
        times: u32,
    },
    /// Slows one of four bookies, then stops it for five seconds.
    SlowBookie {
        /// How much longer a sync takes, in microseconds.
        #[arg(long, default_value_t = 10_000)]
        delay: u32,
    },
    /// Takes meta away.
    MetaAway {
        /// For how long, in seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Loses a bookie for good, with data on it.
    Repair {
        /// How much data each bookie has, in MiB, more or less.
        #[arg(long, default_value_t = 512)]
        mebibytes: u64,
    },
    /// Makes topics, kills every process, and waits until all topics are owned again.
    Topics {
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        count: usize,
    },
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Whom {
    Bookie,
    Owner,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let binary: PathBuf = binary()?;
    match args.what {
        What::Moves { times } => trouble::moves(&binary, times),
        What::Kills { whom, times } => trouble::kills(&binary, whom, times),
        What::SlowBookie { delay } => trouble::slow_bookie(&binary, delay),
        What::MetaAway { seconds } => trouble::meta_away(&binary, seconds),
        What::Repair { mebibytes } => many::repair(&binary, mebibytes),
        What::Topics { count } => many::topics(&binary, count),
    }
}
