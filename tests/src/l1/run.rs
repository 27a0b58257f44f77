//! One run of one seed, and what came of it.

use std::fmt;

use super::marks::Marks;
use super::observer::Violation;
use super::swarm::Swarm;
use super::trace::{History, Trace};
use super::world::World;
use crate::check::{Check, Report, Verdict};
use crate::history::HistoryWriter;

/// How a run is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether the trace is kept.
    pub trace: bool,
    /// Stop before the event of this ordinal.
    pub until: Option<u64>,
    /// Where the history goes besides the judge.
    pub history: Option<HistoryWriter>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What the seed made of it.
    pub swarm: Swarm,
    /// Events that happened.
    pub events: u64,
    /// Simulated time, in nanoseconds.
    pub time: u64,
    /// What was seen of the rare things.
    pub marks: Marks,
    /// The judge's report.
    pub report: Report,
    /// What went wrong, if something did.
    pub failure: Option<Failure>,
    /// The trace, when it was kept.
    pub trace: Vec<String>,
}

/// What went wrong in a run.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The ordinal of the event.
    pub event: u64,
    /// What was found.
    pub violations: Vec<Violation>,
    /// What the judge said, when it was the judge.
    pub verdict: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.violations {
            writeln!(f, "{}: {}", violation.rule, violation.what)?;
        }
        if let Some(verdict) = &self.verdict {
            writeln!(f, "{verdict}")?;
        }
        write!(f, "at event {}", self.event)
    }
}

/// Runs a seed.
pub fn run(swarm: Swarm, options: Options) -> Outcome {
    let trace = Trace::new(options.trace);
    let history = History::new(options.history);
    let mut world = World::new(swarm.clone(), trace, history);
    world.run(options.until);
    let violations = world.take_violations();
    let trace = world.take_trace().into_lines();
    let (events, time) = (world.events, world.now);
    let World { history, marks, .. } = world;
    let report = history.judge();
    let is_cut = options.until.is_some();
    let verdict =
        (violations.is_empty() && !is_cut && is_bad(&swarm, &report)).then(|| report.to_string());
    let failure = (!violations.is_empty() || verdict.is_some()).then_some(Failure {
        event: events,
        violations,
        verdict,
    });
    Outcome {
        swarm,
        events,
        time,
        marks,
        report,
        failure,
        trace,
    }
}

/// Whether the judge's word condemns the run. Where more was lost than is promised, only lies do.
fn is_bad(swarm: &Swarm, report: &Report) -> bool {
    if !swarm.is_beyond {
        return report.verdict != Verdict::Valid;
    }
    let is_lie = |check: &Check| {
        !matches!(
            check,
            Check::LostAcked
                | Check::LostVisible
                | Check::LostUnacked
                | Check::Undrained
                | Check::HungOp
                | Check::SlowRecovery
        )
    };
    report.violations.keys().any(is_lie)
}
