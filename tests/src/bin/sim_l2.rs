//! The cluster simulator's command line.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program of the test suite, with files of its own"
)]

use std::collections::BTreeSet;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mad_turmoil::time::SimClocksGuard;
use rustix::time::{ClockId, clock_gettime};
use tests::l2::{Detail, Marks, Outcome, Swarm, is_repeatable, run};
use tests::seeds::{in_parallel, recorded_and_first};

/// Runs the real servers and clients of a cluster in a simulated world, one world a seed.
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
        /// Prints what the nodes log and what is done to them.
        #[arg(long)]
        trace: bool,
        /// Prints also every read and write of a connection.
        #[arg(long)]
        network: bool,
    },
    /// Runs many seeds; prints each that fails.
    Sweep {
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many.
        #[arg(long, default_value_t = 50)]
        count: u64,
        /// How many at a time.
        #[arg(long, default_value_t = 2)]
        jobs: u64,
        /// Stop after so many minutes.
        #[arg(long)]
        minutes: Option<u64>,
        /// Append each seed that fails to this file, with what it found, as in `tests/seeds-l2.txt`.
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
    },
    /// Runs seeds twice and compares the traces byte by byte.
    SameSeed {
        /// How many.
        #[arg(long, default_value_t = 2)]
        seeds: u64,
    },
    /// Runs the seeds of `tests/seeds-l2.txt` and a fixed range; every rare thing must be seen.
    Fixed {
        /// How many of the range.
        #[arg(long, default_value_t = 40)]
        count: u64,
        /// How many at a time.
        #[arg(long, default_value_t = 2)]
        jobs: u64,
    },
}

/// Seeds that once failed.
const SEEDS: &str = include_str!("../../seeds-l2.txt");

fn main() -> ExitCode {
    if !is_repeatable() {
        println!(
            "this build is not repeatable: tokio would not draw from the seed. \
             Run it as `cargo sim-l2 …`, which builds it with `--cfg tokio_unstable`"
        );
        return ExitCode::FAILURE;
    }
    let is_good = match Args::parse().what {
        What::Run {
            seed,
            trace,
            network,
        } => run_one(seed, detail(trace, network)),
        What::Sweep {
            from,
            count,
            jobs,
            minutes,
            record,
        } => {
            let limit = minutes.map(|minutes| Duration::from_secs(60 * minutes));
            let seeds: Vec<u64> = (from..from.saturating_add(count)).collect();
            sweep(&seeds, jobs, limit, record.as_deref()).0
        }
        What::SameSeed { seeds } => (0..seeds).all(is_same),
        What::Fixed { count, jobs } => fixed(count, jobs),
    };
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn detail(trace: bool, network: bool) -> Detail {
    match (trace, network) {
        (_, true) => Detail::Network,
        (true, _) => Detail::Logs,
        _ => Detail::Recent,
    }
}

fn run_one(seed: u64, detail: Detail) -> bool {
    // HTTP/2 forgets streams that were reset by the real time, and wakes others in an order that follows from it.
    let clocks = SimClocksGuard::init();
    let swarm = Swarm::new(seed);
    println!("{swarm:?}");
    let outcome = run(swarm, detail);
    drop(clocks);
    for line in &outcome.trace.lines {
        println!("{line}");
    }
    if let Some(path) = std::env::var_os("LEDGERLINE_HISTORY")
        && let Err(error) = std::fs::write(&path, &outcome.history)
    {
        println!("the history cannot be written: {error}");
    }
    let Some(failure) = &outcome.failure else {
        print!("{}", Summary::of(&outcome));
        return true;
    };
    if detail == Detail::Recent {
        for line in &outcome.trace.recent {
            println!("  {line}");
        }
    }
    print!("{}", Summary::of(&outcome));
    println!("SEED={seed} FAILED: {failure}");
    println!("  replay: cargo sim-l2 run --seed {seed} --trace");
    false
}

/// What one run, or many, come to, as `run` prints it and `sweep` reads it.
#[derive(Debug, Default)]
struct Summary {
    marks: Marks,
    runs: u64,
    simulated_ms: u64,
    rest_ms: u64,
    stored: u64,
    events: u64,
    digest: u64,
}

impl Summary {
    fn of(outcome: &Outcome) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            marks: outcome.marks.clone(),
            runs: 1,
            simulated_ms: ms(outcome.time),
            rest_ms: ms(outcome.rest),
            stored: outcome.report.stats.oks,
            events: outcome.trace.events,
            digest: outcome.trace.digest,
        }
    }

    /// Reads what a run has printed. Other lines are passed over.
    fn read(text: &str) -> Self {
        let mut summary = Self::default();
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let (Some(key), Some(value)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(value) = value.parse() else { continue };
            match (key, words.next()) {
                ("mark", Some(mark)) => summary.marks.add_count(mark, value),
                ("simulated_ms", None) => summary.simulated_ms = value,
                ("rest_ms", None) => summary.rest_ms = value,
                ("stored", None) => summary.stored = value,
                ("events", None) => summary.events = value,
                ("digest", None) => summary.digest = value,
                ("runs", None) => summary.runs = value,
                _ => {}
            }
        }
        summary
    }

    fn add(&mut self, other: &Self) {
        self.marks.add(&other.marks);
        self.runs += other.runs;
        self.simulated_ms += other.simulated_ms;
        self.rest_ms = self.rest_ms.max(other.rest_ms);
        self.stored += other.stored;
        self.events += other.events;
        self.digest ^= other.digest;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (mark, count) in self.marks.iter() {
            writeln!(f, "mark {count} {mark}")?;
        }
        writeln!(f, "runs {}", self.runs)?;
        writeln!(f, "simulated_ms {}", self.simulated_ms)?;
        writeln!(f, "rest_ms {}", self.rest_ms)?;
        writeln!(f, "stored {}", self.stored)?;
        writeln!(f, "events {}", self.events)?;
        writeln!(f, "digest {}", self.digest)
    }
}

/// Runs a seed in a process of its own: tokio numbers tasks over a whole process, and drops them in an order that follows
/// from the numbers, so a second run in one process is another run.
fn run_apart(seed: u64, more: &[&str]) -> (bool, String) {
    let output = std::env::current_exe().and_then(|program| {
        let seed = seed.to_string();
        let mut command = Command::new(program);
        command.args(["run", "--seed", &seed]).args(more).output()
    });
    match output {
        Ok(output) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            (output.status.success(), text)
        }
        Err(error) => (false, format!("the run cannot be started: {error}")),
    }
}

/// The real time since the machine started. In this program the standard library tells the simulated one.
fn real_time() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(now.tv_nsec.unsigned_abs())
}

/// Runs seeds; whether all were good, and what was seen.
fn sweep(seeds: &[u64], jobs: u64, limit: Option<Duration>, file: Option<&Path>) -> (bool, Marks) {
    let begun = real_time();
    let totals = Mutex::new((Summary::default(), BTreeSet::new()));
    let is_over = || limit.is_some_and(|limit| real_time() - begun > limit);
    in_parallel(seeds, jobs, is_over, |seed| {
        let (is_good, text) = run_apart(seed, &[]);
        let mut totals = totals.lock().unwrap_or_else(|e| e.into_inner());
        totals.0.add(&Summary::read(&text));
        if !is_good {
            for line in text.lines().filter(|line| !line.starts_with("mark ")) {
                println!("{line}");
            }
            println!("SEED={seed} failed: cargo sim-l2 run --seed {seed} --trace");
            totals.1.insert(seed);
            if let Some(file) = file
                && let Err(error) = record(file, seed, &text)
            {
                println!("{} cannot be written: {error}", file.display());
            }
        }
    });
    let (all, failed) = totals.into_inner().unwrap_or_else(|e| e.into_inner());
    let took = (real_time() - begun).as_secs();
    for (mark, count) in all.marks.iter() {
        println!("{count:>9} {mark}");
    }
    let simulated = all.simulated_ms / 1_000;
    println!(
        "seeds={} failed={} simulated_s={simulated} cluster_hours={}.{:02} stored={} longest_rest_ms={} took_s={took} speed={}",
        all.runs,
        failed.len(),
        simulated / 3_600,
        simulated % 3_600 / 36,
        all.stored,
        all.rest_ms,
        simulated / took.max(1),
    );
    if !failed.is_empty() {
        println!("failed seeds: {failed:?}");
    }
    (failed.is_empty() && all.runs > 0, all.marks)
}

/// Appends a seed that failed to a file, with the first line of why.
fn record(file: &Path, seed: u64, text: &str) -> io::Result<()> {
    let why = text
        .lines()
        .find_map(|line| line.split_once(" FAILED: "))
        .map_or("ended without a word", |(_, why)| why);
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    writeln!(file, "{seed} {why}")
}

/// Whether a seed is the same in two processes: each line that a node logs, each read and write, and the judge's word.
fn is_same(seed: u64) -> bool {
    let ((_, one), (_, two)) = (
        run_apart(seed, &["--network"]),
        run_apart(seed, &["--network"]),
    );
    let ones: Vec<&str> = one.lines().collect();
    let twos: Vec<&str> = two.lines().collect();
    if ones == twos {
        let events = Summary::read(&one).events;
        println!(
            "seed {seed}: {events} events, {} lines, twice the same",
            ones.len()
        );
        return events > 0;
    }
    let at = ones.iter().zip(&twos).position(|(one, two)| one != two);
    let at = at.unwrap_or(ones.len().min(twos.len()));
    println!("SEED={seed} is not the same twice, line {at}");
    for line in &ones[at.saturating_sub(20)..at] {
        println!("    {line}");
    }
    println!("  < {:?}\n  > {:?}", ones.get(at), twos.get(at));
    false
}

fn fixed(count: u64, jobs: u64) -> bool {
    let seeds = recorded_and_first(SEEDS, count);
    let (is_good, marks) = sweep(&seeds, jobs, None, None);
    let missing = marks.missing();
    for mark in &missing {
        println!("never seen: {mark}");
    }
    is_good && missing.is_empty()
}
