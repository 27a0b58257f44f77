//! Does one session of an ordered subscription get the log in order, without holes and repeats?
//!
//! Only what is delivered as new is judged: a redelivery says so. Moving the subscription by a seek starts afresh.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::findings::Findings;
use super::logs::Logs;
use super::records::{Records, Recv, Sub, first_ack};
use super::verdict::Check;

pub(super) fn check(records: &Records, logs: &Logs, findings: &mut Findings) {
    let mut rows: Vec<(u32, u32, usize)> = records
        .recvs
        .iter()
        .enumerate()
        .filter(|(_, recv)| {
            records.subs[recv.sub as usize].is_ordered()
                && records.messages[recv.message as usize].is_real()
        })
        .map(|(row, recv)| (recv.session, recv.sub, row))
        .collect();
    rows.sort_unstable();
    for session in rows.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let mut redelivered = BTreeSet::new();
        let mut before: Option<&Recv> = None;
        let mut highest = 0;
        for &(_, _, row) in session {
            let recv = &records.recvs[row];
            if recv.redelivered {
                redelivered.insert(recv.message);
                continue;
            }
            match before {
                Some(before) if !is_moved(&records.subs[recv.sub as usize], before, recv) => {
                    let step = Step {
                        before,
                        recv,
                        highest,
                        redelivered: &redelivered,
                    };
                    step.check(records, logs, findings);
                    highest = highest.max(recv.offset);
                }
                _ => highest = recv.offset,
            }
            before = Some(recv);
        }
    }
}

/// Whether a seek may lie between two deliveries.
fn is_moved(sub: &Sub, before: &Recv, recv: &Recv) -> bool {
    sub.seeks
        .iter()
        .any(|seek| before.t <= seek.done && seek.begun <= recv.t)
}

/// One delivery and the one before it.
struct Step<'a> {
    before: &'a Recv,
    recv: &'a Recv,
    /// The highest offset delivered so far.
    highest: u64,
    /// What was redelivered to this session.
    redelivered: &'a BTreeSet<u32>,
}

impl Step<'_> {
    fn check(&self, records: &Records, logs: &Logs, findings: &mut Findings) {
        let (before, recv) = (self.before, self.recv);
        let is_internal = before.batch == recv.batch;
        let check = match recv.offset.cmp(&before.offset) {
            Ordering::Equal => Check::DupInSession,
            Ordering::Less if is_internal => Check::IntNonmonotonic,
            Ordering::Less => Check::Nonmonotonic,
            Ordering::Greater => {
                let check = if is_internal {
                    Check::IntSkip
                } else {
                    Check::Skip
                };
                if let Some(skipped) = self.skipped(records, logs) {
                    findings.note(check, || {
                        let skipped = records.describe(skipped);
                        format!("{skipped} left out: {}", self.describe(records))
                    });
                }
                return;
            }
        };
        findings.note(check, || self.describe(records));
    }

    /// The first message that should have come between.
    fn skipped(&self, records: &Records, logs: &Logs) -> Option<u32> {
        let partition = records.subs[self.recv.sub as usize].partition as usize;
        let log = &logs.by_partition[partition];
        let start = log.partition_point(|place| place.offset <= self.highest);
        log[start..]
            .iter()
            .take_while(|place| place.offset < self.recv.offset)
            .filter(|place| place.offset >= records.trims[partition])
            .find(|place| {
                !self.redelivered.contains(&place.message)
                    && !is_settled(records, self.recv, place.message, place.offset)
            })
            .map(|place| place.message)
    }

    fn describe(&self, records: &Records) -> String {
        let session = &records.sessions[self.recv.session as usize];
        format!(
            "{} offset={} after offset={} {} consumer={}",
            records.describe(self.recv.message),
            self.recv.offset,
            self.before.offset,
            records.describe_sub(self.recv.sub),
            records.names.text(session.consumer)
        )
    }
}

/// Whether the subscription need not get `message` now: filtered out, acked (perhaps), or handed back for later.
fn is_settled(records: &Records, recv: &Recv, message: u32, offset: u64) -> bool {
    let sub = &records.subs[recv.sub as usize];
    let is_before = |t: Option<u64>| t.is_some_and(|t| t <= recv.t);
    records.is_excluded(message, sub.name)
        || Sub::acked_below(&sub.cumulative, recv.t) > offset
        || is_before(first_ack(&records.acks, recv.sub, message))
        || is_before(first_ack(&records.nacks, recv.sub, message))
}
