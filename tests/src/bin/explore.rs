//! Explores the real ledger machines state by state and prints what it saw.
//!
//! `explore [--deep] [--depth N] [--walks N] [--seed N] [world…]`; without names, every world. Ends with 1 when an invariant is
//! broken or a goal was not reached.

#![expect(clippy::print_stdout, reason = "a program of the command line")]

use std::process::ExitCode;

use tests::explore::{Preset, all, explore, wander};

struct Options {
    is_deep: bool,
    depth: Option<usize>,
    walks: usize,
    seed: u64,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            println!("{problem}");
            println!("explore [--deep] [--depth N] [--walks N] [--seed N] [world…]");
            for preset in all() {
                println!("  {:20} {}", preset.name, preset.about);
            }
            return ExitCode::from(2);
        }
    };
    let presets = all().into_iter();
    let wanted = presets.filter(|preset| {
        options.names.is_empty() || options.names.iter().any(|name| name == preset.name)
    });
    let bad = wanted.filter(|preset| !run(preset, &options)).count();
    ExitCode::from(u8::from(bad > 0))
}

/// Explores one world, then walks it. Says whether all was well.
fn run(preset: &Preset, options: &Options) -> bool {
    println!("{}: {}", preset.name, preset.about);
    #[expect(
        clippy::disallowed_methods,
        reason = "the program tells how long it took"
    )]
    let start = std::time::Instant::now();
    let mut limits = preset.limits(options.is_deep);
    limits.depth = options.depth.unwrap_or(limits.depth);
    let mut report = explore(&preset.world(), limits);
    println!("  {report}, {:.1?}", start.elapsed());
    if report.violation.is_some() {
        return false;
    }
    if options.walks > 0 {
        #[expect(
            clippy::disallowed_methods,
            reason = "the program tells how long it took"
        )]
        let start = std::time::Instant::now();
        let walked = wander(&preset.world(), options.seed, options.walks, 400);
        println!(
            "  {} walks, {} steps, {:.1?}",
            options.walks,
            walked.steps,
            start.elapsed()
        );
        if walked.violation.is_some() {
            println!("  seed {}: {walked}", options.seed);
            return false;
        }
        for (goal, count) in walked.goals {
            *report.goals.entry(goal).or_default() += count;
        }
    }
    println!("  {:?}", report.goals);
    let missing = report.lacks(preset.goals);
    if !missing.is_empty() {
        println!("  INCONCLUSIVE: never reached {missing:?}");
    }
    missing.is_empty()
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        is_deep: false,
        depth: None,
        walks: 2_000,
        seed: 1,
        names: Vec::new(),
    };
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().unwrap_or_default();
            text.parse()
                .map_err(|_| format!("{word} wants a number text={text:?}"))
        };
        match word.as_str() {
            "--deep" => options.is_deep = true,
            "--depth" => options.depth = Some(usize::try_from(number()?).unwrap_or(usize::MAX)),
            "--walks" => options.walks = usize::try_from(number()?).unwrap_or(usize::MAX),
            "--seed" => options.seed = number()?,
            name if all().iter().any(|preset| preset.name == name) => options.names.push(word),
            _ => return Err(format!("no such world or flag: {word}")),
        }
    }
    Ok(options)
}
