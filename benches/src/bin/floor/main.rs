//! What this machine allows at best: the parts that a message passes, each alone, in one run.
//!
//! A figure of `ledgerline bench` says little without it: disks and machines differ tenfold, and one and the same machine does
//! from hour to hour. So the floor is measured just before or after, and figures are told as a part of it (`--against`).
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement opens sockets and files itself and speaks to a person"
)]

mod args;
mod disk;
mod memory;
mod ratio;
mod report;
mod rounds;
mod rows;
mod stream;
mod tcp;

use anyhow::Context;
use clap::Parser;
use host::Clock;

use args::Args;
use report::Report;
use rounds::Rounds;
use rows::Row;

// The allocator of the servers and of the command: frames are allocated, and it shows.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let results = ratio::read(&args.against)?;
    let rounds = Rounds::new(Clock::real(), args.rounds, args.round());
    let (mut rows, is_direct) = disk::measure(&rounds, &args)?;
    rows.extend(memory::measure(&rounds));
    rows.extend(over_the_network(&rounds)?);
    let ratios = ratio::ratios(&rows, &results);
    let report = Report::new(&args, is_direct, rows, ratios);
    print!("{}", report.told(args.json));
    Ok(())
}

/// Sockets and streams, on a runtime like that of the servers.
fn over_the_network(rounds: &Rounds) -> anyhow::Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime: allow this process more threads")?;
    runtime.block_on(async {
        let mut rows = Vec::new();
        // On tasks, as clients and servers are: whoever blocks on the runtime is woken later than they.
        rows.extend(tokio::spawn(tcp::measure(rounds.clone())).await??);
        rows.extend(tokio::spawn(stream::measure(rounds.clone())).await??);
        Ok(rows)
    })
}
