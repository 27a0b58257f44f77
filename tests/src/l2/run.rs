//! One run of one seed, and what came of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

use super::marks::Marks;
use super::swarm::Swarm;
use super::trace::{Detail, Logs, Trace, Traced};
use super::world::World;
use crate::check::{Limits, Report, Verdict, judge_bytes};
use crate::history::{Guarantees, HistoryWriter};

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What the seed made of it.
    pub swarm: Swarm,
    /// Simulated time.
    pub time: Duration,
    /// From the end of the harm until everything was settled and drained.
    pub rest: Duration,
    /// Rare things that were seen.
    pub marks: Marks,
    /// The judge's report.
    pub report: Report,
    /// What went wrong, if something did.
    pub failure: Option<String>,
    /// What happened.
    pub trace: Traced,
    /// The history, as the judge read it.
    pub history: Vec<u8>,
}

/// Runs a seed.
pub fn run(swarm: Swarm, detail: Detail) -> Outcome {
    let trace = Trace::new(detail);
    let logs = Logs(trace.clone()).with_filter(LevelFilter::INFO);
    let subscriber = Registry::default().with(logs);
    tracing::subscriber::with_default(subscriber, || run_traced(swarm, &trace))
}

fn run_traced(swarm: Swarm, trace: &Trace) -> Outcome {
    let history = HistoryWriter::simulated(Guarantees::full(), || {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    });
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(&swarm, trace, &history);
        let problems = world.run();
        (problems, world.sim.elapsed(), world.rest, world.marks)
    }));
    let (mut problems, time, rest, mut marks) = ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        let problem = format!("the simulation panicked: {}", text.unwrap_or_default());
        (
            vec![problem],
            Duration::ZERO,
            Duration::ZERO,
            Marks::default(),
        )
    });
    let history = history.finish().unwrap_or_default();
    let limits = Limits {
        recovery: swarm.chaos + Duration::from_secs(60),
    };
    let report = judge_bytes(&history, limits);
    if report.verdict != Verdict::Valid {
        problems.push(report.to_string());
    }
    let trace = trace.finish(&history);
    for (message, count) in &trace.said {
        marks.add_count(message, *count);
    }
    Outcome {
        swarm,
        time,
        rest,
        marks,
        report,
        failure: (!problems.is_empty()).then(|| problems.join("\n")),
        trace,
        history,
    }
}
