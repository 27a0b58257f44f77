//! A bookie's engine alone, on a real disk: how long a start after a kill takes, and what many ledgers cost beside one.
//!
//! The engine is driven by hand, as the task of a bookie's node drives it: requests that come together are handed in
//! together, each of its workers is a [`host::DiskWorker`] with a thread of its own, and what ends there is handed back. Left
//! out is what stands before the engine: gRPC, the checks of what comes over it, and meta.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement looks at its files and its process itself and speaks to a person"
)]

mod args;
mod bed;
mod ledgers;
mod load;
mod process;
mod replay;
mod report;
mod running;

use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use host::Host;
use tokio::runtime::Runtime;

use args::{Args, Work};
use bed::Bed;

// The allocator of the servers: entries are allocated, and it shows.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the workers may take for what they have begun.
const STOP_WITHIN: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let machine = Machine::start()?;
    let (needed, flags) = match &args.work {
        Work::Replay(it) => (replay::needed(it)?, "--bytes"),
        Work::Ledgers(it) => (ledgers::needed(it)?, "--bytes or --rounds"),
    };
    let bed = Bed::make(&args.dir, needed, flags)?;
    let told = measure(&machine, &bed, &args);
    // Whatever came of it, nobody writes there any more when the directory goes.
    machine.end();
    drop(bed);
    print!("{}", told?);
    Ok(())
}

/// Measures what is asked for; what is to be printed.
fn measure(machine: &Machine, bed: &Bed, args: &Args) -> anyhow::Result<String> {
    Ok(match &args.work {
        Work::Replay(it) => replay::measure(machine, bed, it)?.told(args),
        Work::Ledgers(it) => ledgers::measure(machine, bed, it)?.told(args),
    })
}

/// The machine, and a runtime for what must be waited for beside the measurement.
struct Machine {
    host: Host,
    runtime: Runtime,
}

impl Machine {
    /// Begins to listen for Ctrl-C, which ends a measurement so that it cleans up after itself.
    fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("no runtime: allow this process more threads")?;
        let host = Host::real("bench");
        let inside = runtime.enter();
        let stopping = host.tasks.token();
        host.tasks.spawn("ctrl-c", async move {
            tokio::select! {
                biased; // An end that was asked for is none by Ctrl-C.
                () = stopping.cancelled() => Ok(()),
                heard = tokio::signal::ctrl_c() => match heard {
                    Ok(()) => Err("stopped by Ctrl-C".to_owned()),
                    Err(error) => Err(format!("cannot listen for Ctrl-C: {error}")),
                },
            }
        });
        drop(inside);
        Ok(Self { host, runtime })
    }

    /// Fails when something beside the measurement has, or a person stopped it.
    fn check(&self) -> anyhow::Result<()> {
        match self.host.tasks.failure() {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    /// Waits until everything has ended that still runs.
    fn end(&self) {
        // What failed was told where it did.
        let _ = self.runtime.block_on(self.host.tasks.stop(STOP_WITHIN));
    }

    /// Waits until the workers of a part have ended.
    fn stop(&self, part: &Host) -> anyhow::Result<()> {
        let stopped = self.runtime.block_on(part.tasks.stop(STOP_WITHIN));
        stopped.context("the workers of the engine did not end as they should")
    }
}

/// Tells a person how far it is. Not on stdout, which is for the figures.
fn say(what: &str) {
    eprintln!("{what}");
}
