//! What a run writes down: its trace, for people and for comparing runs; its history, for the judge.

use std::fmt;

use super::agenda::Nanos;
use super::event::Event;
use crate::check::{Judge, Limits, Report};
use crate::history::{self, HistoryWriter};

/// Most characters of a line.
const LINE_MAX: usize = 400;

/// The lines of a run, when they are wanted.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Keeps lines when `is_on`.
    pub(super) fn new(is_on: bool) -> Self {
        Self {
            lines: is_on.then(Vec::new),
        }
    }

    /// Adds a line.
    pub(super) fn line(&mut self, ordinal: u64, now: Nanos, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let text = text();
            lines.push(format!(
                "{ordinal:>7} {:>4}.{:09} {text}",
                now / 1_000_000_000,
                now % 1_000_000_000
            ));
        }
    }

    /// Adds an event.
    pub(super) fn event(&mut self, ordinal: u64, now: Nanos, event: &Event) {
        self.line(ordinal, now, || {
            let text = match event {
                Event::Arrives { to, message } => format!("{to:?} <- {message:?}"),
                Event::JobBegins {
                    bookie,
                    worker,
                    job,
                    ..
                } => {
                    format!("bookie-{bookie} {worker:?} begins {}", job.name())
                }
                Event::JobEnds {
                    bookie,
                    worker,
                    done,
                    ..
                } => {
                    format!("bookie-{bookie} {worker:?} ends {:?}", done.error())
                }
                Event::MetaCommits { plan, .. } => format!("commit {:?}", plan.command),
                other => format!("{other:?}"),
            };
            text.chars().take(LINE_MAX).collect()
        });
    }

    /// The lines.
    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

/// The history of a run.
pub(super) struct History {
    judge: Judge,
    writer: Option<HistoryWriter>,
}

impl History {
    /// Begins it; `writer` gets it too.
    pub(super) fn new(writer: Option<HistoryWriter>) -> Self {
        let limits = Limits {
            recovery: std::time::Duration::from_secs(3_600),
        };
        let mut judge = Judge::new(limits);
        judge.note(&history::Event::Meta {
            v: history::format::VERSION,
            g: history::Guarantees::full(),
        });
        Self { judge, writer }
    }

    /// Notes an event.
    pub(super) fn note(&mut self, event: &history::Event<'_>) {
        self.judge.note(event);
        if let Some(writer) = &self.writer {
            writer.record(event);
        }
    }

    /// Ends it, and has it judged.
    pub(super) fn judge(self) -> Report {
        let mut judge = self.judge;
        judge.note(&history::Event::End);
        if let Some(writer) = self.writer {
            // A run is not stopped by its witness.
            let _ = writer.finish();
        }
        judge.finish()
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").finish_non_exhaustive()
    }
}
