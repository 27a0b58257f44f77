//! Times as a person reads them.

use std::time::Duration;

use tests::process::{Process, Run};

/// Times, the shortest first.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time that so many of a thousand do not exceed.
    pub(crate) fn permille(&self, permille: usize) -> Duration {
        let at = (self.0.len() * permille).div_ceil(1_000).max(1) - 1;
        self.0.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn print(&self, what: &str) {
        println!(
            "{what}: n={} p50={:.2?} p99={:.2?} p99.9={:.2?} max={:.2?}",
            self.0.len(),
            self.permille(500),
            self.permille(990),
            self.permille(999),
            self.permille(1_000),
        );
    }
}

/// How long messages took, from when each was due to its receipt, since this was asked last.
pub(crate) fn latencies(run: &Run) -> Times {
    Times::of(run.load.written().take_latencies())
}

/// Resident memory in MiB; zero where the system does not say.
pub(crate) fn resident(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid()));
    let status = status.unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
