//! What the checks found, and the report made of it.

use std::collections::BTreeMap;
use std::fmt;

use super::verdict::{Check, Verdict, Weight};
use crate::history::Guarantees;

/// Examples kept of each check: enough to look for the cause, few enough to read.
const EXAMPLES: u64 = 5;

/// One example of what a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// What it saw, in words.
    pub text: String,
}

/// Counts of what happened in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Lines that are events.
    pub events: u64,
    /// Attempts to send.
    pub sends: u64,
    /// Answers "stored".
    pub oks: u64,
    /// Definite refusals.
    pub fails: u64,
    /// Unknown outcomes.
    pub infos: u64,
    /// Messages, however often sent.
    pub messages: u64,
    /// Messages received, with repeats.
    pub deliveries: u64,
    /// Of them those that were said to be repeats.
    pub redeliveries: u64,
    /// Messages whose acks were confirmed one by one, with repeats.
    pub acks_confirmed: u64,
    /// Sessions of consumers.
    pub sessions: u64,
    /// Faults begun.
    pub faults: u64,
    /// The longest time in which a partition had sends pending and none was acked, in nanoseconds.
    pub longest_gap_ns: u64,
}

/// What the judge says of a history, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// How often each broken promise was found.
    pub violations: BTreeMap<Check, u64>,
    /// Why the run proves less than it should.
    pub doubts: BTreeMap<Check, u64>,
    /// What broke without having been promised.
    pub allowed: BTreeMap<Check, u64>,
    /// Examples, at most five a check.
    pub examples: Vec<Finding>,
    /// What happened.
    pub stats: Stats,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats {
            events,
            sends,
            oks,
            fails,
            infos,
            messages,
            deliveries,
            redeliveries,
            acks_confirmed,
            sessions,
            faults,
            longest_gap_ns,
        } = self.stats;
        writeln!(f, "verdict: {}", self.verdict)?;
        writeln!(
            f,
            "events={events} messages={messages} sends={sends} ok={oks} fail={fails} info={infos}"
        )?;
        writeln!(
            f,
            "deliveries={deliveries} redeliveries={redeliveries} acks_confirmed={acks_confirmed} \
             sessions={sessions} faults={faults} longest_gap_ms={}",
            longest_gap_ns / 1_000_000
        )?;
        for (title, counts) in [
            ("violation", &self.violations),
            ("inconclusive", &self.doubts),
            ("allowed", &self.allowed),
        ] {
            for (check, count) in counts {
                writeln!(f, "{title}: {check} count={count}")?;
                for example in self.examples.iter().filter(|x| x.check == *check) {
                    writeln!(f, "    {}", example.text)?;
                }
            }
        }
        Ok(())
    }
}

/// Gathers findings while the checks run.
pub(super) struct Findings {
    promises: Guarantees,
    counts: BTreeMap<Check, u64>,
    examples: Vec<Finding>,
}

impl Findings {
    pub(super) fn new(promises: Guarantees) -> Self {
        Self {
            promises,
            counts: BTreeMap::new(),
            examples: Vec::new(),
        }
    }

    /// Notes a finding; `text` is asked for only while examples are still wanted.
    pub(super) fn note(&mut self, check: Check, text: impl FnOnce() -> String) {
        self.note_many(check, 1, text);
    }

    /// Notes `count` findings with one example.
    pub(super) fn note_many(&mut self, check: Check, count: u64, text: impl FnOnce() -> String) {
        let total = self.counts.entry(check).or_default();
        if *total < EXAMPLES {
            self.examples.push(Finding {
                check,
                text: text(),
            });
        }
        *total += count;
    }

    pub(super) fn report(self, stats: Stats) -> Report {
        let mut report = Report {
            verdict: Verdict::Valid,
            violations: BTreeMap::new(),
            doubts: BTreeMap::new(),
            allowed: BTreeMap::new(),
            examples: self.examples,
            stats,
        };
        for (check, count) in self.counts {
            match check.weight(&self.promises) {
                Weight::Violation => report.violations.insert(check, count),
                Weight::Doubt => report.doubts.insert(check, count),
                Weight::Allowed => report.allowed.insert(check, count),
            };
        }
        if !report.violations.is_empty() {
            report.verdict = Verdict::Violated;
        } else if !report.doubts.is_empty() {
            report.verdict = Verdict::Inconclusive;
        }
        report
    }
}
