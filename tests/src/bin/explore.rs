//! Explores the real ledger machines state by state and prints what it saw.
//!
//! `explore [--deep] [--depth N] [--walks N] [--seed N] [--jobs N] [world…]`; without names, every world. Ends with 1
//! when an invariant is broken or a goal was not reached.

#![expect(clippy::print_stdout, reason = "a program of the command line")]

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tests::explore::{Preset, all, explore, wander};

const USAGE: &str =
    "explore [--deep] [--depth N] [--walks N] [--seed N] [--jobs N] [world…], the worlds being";

struct Options {
    is_deep: bool,
    depth: Option<usize>,
    walks: usize,
    seed: u64,
    jobs: usize,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            println!("{problem}\n{USAGE}");
            for preset in all() {
                println!("  {:16} {}", preset.name, preset.about);
            }
            return ExitCode::from(2);
        }
    };
    let is_wanted = |preset: &Preset| {
        options.names.is_empty() || options.names.iter().any(|name| name == preset.name)
    };
    let mut wanted: Vec<_> = all().into_iter().filter(is_wanted).collect();
    wanted.sort_by_key(|preset| !preset.is_small); // What is quickly said is said first.
    let next = AtomicUsize::new(0);
    let has_failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.clamp(1, wanted.len()) {
            scope.spawn(|| {
                while let Some(preset) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (is_well, told) = run(preset, &options);
                    println!("{told}");
                    if !is_well {
                        has_failed.store(true, Ordering::Relaxed);
                        next.store(wanted.len(), Ordering::Relaxed); // Enough is known.
                    }
                }
            });
        }
    });
    ExitCode::from(u8::from(has_failed.into_inner()))
}

/// Explores one world, then walks it. Says whether all was well, and what it saw.
fn run(preset: &Preset, options: &Options) -> (bool, String) {
    let mut told = format!("{}: {}", preset.name, preset.about);
    let start = now();
    let mut limits = preset.limits(options.is_deep);
    limits.depth = options.depth.unwrap_or(limits.depth);
    let mut report = explore(&preset.world(), limits);
    let _ = write!(told, "\n  {:.1?}: {report}", start.elapsed());
    if report.violation.is_some() {
        return (false, told);
    }
    if options.walks > 0 {
        let start = now();
        let walked = wander(&preset.world(), options.seed, options.walks, 400);
        let (walks, steps) = (options.walks, walked.steps);
        let _ = write!(
            told,
            "\n  {:.1?}: {walks} walks, {steps} steps",
            start.elapsed()
        );
        if walked.violation.is_some() {
            let _ = write!(told, "\n  seed {}: {walked}", options.seed);
            return (false, told);
        }
        for (goal, count) in walked.goals {
            *report.goals.entry(goal).or_default() += count;
        }
    }
    let _ = write!(told, "\n  {:?}", report.goals);
    let missing = report.lacks(preset.goals);
    if !missing.is_empty() {
        let _ = write!(told, "\n  INCONCLUSIVE: never reached {missing:?}");
    }
    (missing.is_empty(), told)
}

fn now() -> std::time::Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "the program tells how long it took"
    )]
    std::time::Instant::now()
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        is_deep: false,
        depth: None,
        walks: 2_000,
        seed: 1,
        jobs: 2,
        names: Vec::new(),
    };
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().unwrap_or_default();
            text.parse()
                .map_err(|_| format!("{word} wants a number text={text:?}"))
        };
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        match word.as_str() {
            "--deep" => options.is_deep = true,
            "--depth" => options.depth = Some(size(number()?)),
            "--walks" => options.walks = size(number()?),
            "--jobs" => options.jobs = size(number()?),
            "--seed" => options.seed = number()?,
            name if all().iter().any(|preset| preset.name == name) => options.names.push(word),
            _ => return Err(format!("no such world or flag: {word}")),
        }
    }
    Ok(options)
}
