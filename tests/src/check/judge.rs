//! The judge's face: events in, report out.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::time::Duration;

use super::findings::{Findings, Report};
use super::logs::Logs;
use super::records::Records;
use super::{acks, deletion, identity, liveness, loss, offsets, order, proof, session, tail};
use crate::history::{Event, Line, read_lines};

/// What the judge is told besides the history.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest time in which sends of a partition may be pending without an ack.
    pub recovery: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            recovery: Duration::from_secs(15),
        }
    }
}

/// Judges one history, event by event.
pub struct Judge {
    limits: Limits,
    records: Records,
}

impl Judge {
    /// Begins with nothing noted.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            records: Records::default(),
        }
    }

    /// Notes the next event of the history.
    pub fn note(&mut self, event: &Event<'_>) {
        self.records.note(event);
    }

    /// Notes the next line as the reader found it.
    pub fn note_line(&mut self, number: u64, line: &Line<'_>) {
        match line {
            Line::Event(event) => self.note(event),
            Line::Bad(error) => self.records.complain(|| format!("line {number}: {error}")),
            // The end is missing too, which says it all.
            Line::Cut => {}
        }
    }

    /// Gives the verdict.
    pub fn finish(self) -> Report {
        let mut findings = Findings::new(self.records.promises);
        let mut records = self.records;
        records.settle();
        let logs = Logs::build(&records);
        identity::check(&records, &mut findings);
        offsets::check(&records, &logs, &mut findings);
        order::check(&records, &logs, &mut findings);
        session::check(&records, &logs, &mut findings);
        acks::check(&records, &logs, &mut findings);
        deletion::check(&records, &mut findings);
        tail::check(&records, &logs, &mut findings);
        loss::check(&records, &logs, &mut findings);
        liveness::check(&mut records, self.limits, &mut findings);
        proof::check(&records, &mut findings);
        findings.report(records.stats)
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge")
            .field("limits", &self.limits)
            .field("stats", &self.records.stats)
            .finish_non_exhaustive()
    }
}

/// Judges a history held in memory.
#[expect(
    clippy::missing_panics_doc,
    reason = "reading from memory does not fail, so there is no panic to describe"
)]
pub fn judge_bytes(history: &[u8], limits: Limits) -> Report {
    let mut judge = Judge::new(limits);
    read_lines(history, |number, line| judge.note_line(number, &line))
        .expect("reading from memory does not fail");
    judge.finish()
}

/// Judges the history in the file at `path`.
///
/// # Errors
///
/// Those of reading the file.
#[expect(
    clippy::disallowed_methods,
    reason = "histories are files of the test program, on the real disk"
)]
pub fn judge_file(path: &Path, limits: Limits) -> io::Result<Report> {
    let file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut judge = Judge::new(limits);
    read_lines(file, |number, line| judge.note_line(number, &line))?;
    Ok(judge.finish())
}
