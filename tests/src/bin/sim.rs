//! The protocol simulator's command line.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program of the test suite, on the real clock"
)]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use tests::history::{Guarantees, HistoryWriter};
use tests::l1::{Mark, Marks, Options, Outcome, Swarm, run};
use tests::seeds::{in_parallel, recorded_and_first};

/// Runs Ledgerline's real machines in a simulated world, one world a seed.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Runs one seed.
    Run {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// Prints what happens.
        #[arg(long)]
        trace: bool,
        /// Stops before the event of this ordinal.
        #[arg(long)]
        until: Option<u64>,
    },
    /// Runs many seeds; prints each that fails.
    Sweep {
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many.
        #[arg(long, default_value_t = 1_000)]
        count: u64,
        /// How many at a time.
        #[arg(long, default_value_t = 2)]
        jobs: u64,
        /// Stop after so many minutes.
        #[arg(long)]
        minutes: Option<u64>,
    },
    /// Runs seeds twice and compares the traces byte by byte.
    SameSeed {
        /// How many.
        #[arg(long, default_value_t = 3)]
        seeds: u64,
    },
    /// Runs the seeds of `tests/seeds.txt` and a fixed range; every rare thing must be seen.
    Fixed {
        /// How many of the range.
        #[arg(long, default_value_t = 300)]
        count: u64,
        /// How many at a time.
        #[arg(long, default_value_t = 2)]
        jobs: u64,
    },
}

/// Seeds that once failed.
const SEEDS: &str = include_str!("../../seeds.txt");

fn main() -> ExitCode {
    let is_good = match Args::parse().what {
        What::Run { seed, trace, until } => run_one(seed, trace, until),
        What::Sweep {
            from,
            count,
            jobs,
            minutes,
        } => {
            let limit = minutes.map(|minutes| Duration::from_secs(60 * minutes));
            let seeds: Vec<u64> = (from..from.saturating_add(count)).collect();
            sweep(&seeds, jobs, limit).0
        }
        What::SameSeed { seeds } => same_seed(seeds),
        What::Fixed { count, jobs } => fixed(count, jobs),
    };
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_one(seed: u64, trace: bool, until: Option<u64>) -> bool {
    let history = std::env::var_os("LEDGERLINE_HISTORY")
        .and_then(|path| HistoryWriter::create(path.as_ref(), Guarantees::full()).ok());
    let swarm = Swarm::new(seed);
    println!("{swarm:?}");
    let outcome = run(
        swarm,
        Options {
            trace,
            until,
            history,
        },
    );
    for line in &outcome.trace {
        println!("{line}");
    }
    println!("{}", outcome.report);
    for mark in Mark::ALL {
        if outcome.marks.count(*mark) > 0 {
            println!("{:>8} {mark}", outcome.marks.count(*mark));
        }
    }
    println!(
        "events={} simulated={}s",
        outcome.events,
        outcome.time / 1_000_000_000
    );
    match &outcome.failure {
        Some(failure) => {
            println!("SEED {seed} FAILED\n{failure}");
            false
        }
        None => true,
    }
}

/// A run that catches what panics.
fn attempt(seed: u64) -> Result<Outcome, String> {
    let swarm = Swarm::new(seed);
    let ran = catch_unwind(AssertUnwindSafe(|| run(swarm, Options::default())));
    ran.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default()
    })
}

/// Tells of a seed that failed, with the one command that replays it.
fn tell(seed: u64, what: &str) {
    println!("SEED={seed} FAILED: {what}");
    println!("  {:?}", Swarm::new(seed));
    println!("  replay: cargo sim run --seed {seed} --trace");
}

/// What many runs come to.
#[derive(Debug, Default)]
struct Totals {
    marks: Marks,
    /// Seconds.
    simulated: u64,
    events: u64,
    runs: u64,
    failed: BTreeSet<u64>,
}

impl Totals {
    /// Adds a run, and tells of it if it failed.
    fn add(&mut self, seed: u64, ran: &Result<Outcome, String>) {
        self.runs += 1;
        let failure = match ran {
            Ok(outcome) => {
                self.marks.add(&outcome.marks);
                self.simulated += outcome.time / 1_000_000_000;
                self.events += outcome.events;
                outcome.failure.as_ref().map(ToString::to_string)
            }
            Err(panic) => Some(format!("panic: {panic}")),
        };
        if let Some(failure) = failure {
            tell(seed, &failure);
            self.failed.insert(seed);
        }
    }
}

/// Runs seeds; whether all were good, and what was seen.
fn sweep(seeds: &[u64], jobs: u64, limit: Option<Duration>) -> (bool, Marks) {
    let begun = Instant::now();
    let totals = Mutex::new(Totals::default());
    let is_over = || limit.is_some_and(|limit| begun.elapsed() > limit);
    in_parallel(seeds, jobs, is_over, |seed| {
        let ran = attempt(seed);
        let mut totals = totals.lock().unwrap_or_else(|e| e.into_inner());
        totals.add(seed, &ran);
    });
    let totals = totals.into_inner().unwrap_or_else(|e| e.into_inner());
    let Totals { marks, runs, .. } = &totals;
    let took = begun.elapsed().as_secs_f64().max(0.001);
    for mark in Mark::ALL {
        println!("{:>9} {mark}", marks.count(*mark));
    }
    println!(
        "seeds={runs} failed={} simulated_s={} events={} took_s={took:.1} per_minute={:.0}",
        totals.failed.len(),
        totals.simulated,
        totals.events,
        f64::from(u32::try_from(*runs).unwrap_or(u32::MAX)) * 60.0 / took,
    );
    if !totals.failed.is_empty() {
        println!("failed seeds: {:?}", totals.failed);
    }
    (totals.failed.is_empty() && *runs > 0, totals.marks)
}

fn same_seed(seeds: u64) -> bool {
    let options = || Options {
        trace: true,
        ..Options::default()
    };
    for seed in 0..seeds {
        let (one, two) = (
            run(Swarm::new(seed), options()),
            run(Swarm::new(seed), options()),
        );
        let differs = one.trace.iter().zip(&two.trace).position(|(a, b)| a != b);
        if differs.is_some() || one.trace.len() != two.trace.len() {
            let at = differs.unwrap_or(0);
            println!("SEED={seed} is not the same twice, line {at}");
            println!("  {:?}\n  {:?}", one.trace.get(at), two.trace.get(at));
            return false;
        }
        println!("seed {seed}: {} lines, twice the same", one.trace.len());
    }
    true
}

fn fixed(count: u64, jobs: u64) -> bool {
    let seeds = recorded_and_first(SEEDS, count);
    let (is_good, marks) = sweep(&seeds, jobs, None);
    let missing = marks.missing();
    for mark in &missing {
        println!("never seen: {mark}");
    }
    is_good && missing.is_empty()
}
