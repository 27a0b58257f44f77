//! Judges histories: `judge FILE…`.
//!
//! Prints a report for each file and exits with the worst verdict: 0 valid, 1 violated, 2 inconclusive (or a file that
//! cannot be read).
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of the command line"
)]

use std::path::Path;
use std::process::ExitCode;

use tests::check::{Limits, Verdict, judge_file};

fn main() -> ExitCode {
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    if files.is_empty() || files.iter().any(|file| file == "--help" || file == "-h") {
        eprintln!("usage: judge FILE…\n\nExits 0 valid, 1 violated, 2 inconclusive.");
        return ExitCode::from(2);
    }
    let mut worst = Verdict::Valid;
    for file in &files {
        let path = Path::new(file);
        let verdict = match judge_file(path, Limits::default()) {
            Ok(report) => {
                println!("{}\n{report}", path.display());
                report.verdict
            }
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                Verdict::Inconclusive
            }
        };
        worst = match (worst, verdict) {
            (Verdict::Violated, _) | (_, Verdict::Violated) => Verdict::Violated,
            (Verdict::Inconclusive, _) | (_, Verdict::Inconclusive) => Verdict::Inconclusive,
            (Verdict::Valid, Verdict::Valid) => Verdict::Valid,
        };
    }
    ExitCode::from(worst.exit_code())
}
