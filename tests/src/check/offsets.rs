//! Does each offset belong to one message, each message to one offset, and do acks and deliveries agree?

use super::findings::Findings;
use super::logs::Logs;
use super::records::{NONE, Records, small};
use super::verdict::Check;
use crate::history::Start;

pub(super) fn check(records: &Records, logs: &Logs, findings: &mut Findings) {
    let claims = claims(records, logs);
    inconsistent(records, &claims, findings);
    doubled(records, logs, findings);
    mismatched(records, logs, findings);
    epochs(records, findings);
    gaps(records, logs, &claims, findings);
}

/// Who says that which message lies where, by acks or deliveries: (partition, offset, message), sorted, each once.
fn claims(records: &Records, logs: &Logs) -> Vec<(u32, u64, u32)> {
    let mut claims: Vec<(u32, u64, u32)> = logs
        .seen
        .iter()
        .chain(&logs.named)
        .map(|&(message, offset)| (records.partition_of(message), offset, message))
        .collect();
    claims.sort_unstable();
    claims.dedup();
    claims
}

fn inconsistent(records: &Records, claims: &[(u32, u64, u32)], findings: &mut Findings) {
    for pair in claims.windows(2) {
        if let [(p1, o1, m1), (p2, o2, m2)] = *pair
            && (p1, o1) == (p2, o2)
        {
            findings.note(Check::InconsistentOffset, || {
                format!(
                    "offset={o1} of both {} and {}",
                    records.describe(m1),
                    records.describe(m2)
                )
            });
        }
    }
}

/// The offsets of `message` in a list sorted by (message, offset).
fn offsets_of(pairs: &[(u32, u64)], message: u32) -> &[(u32, u64)] {
    let start = pairs.partition_point(|&(other, _)| other < message);
    let len = pairs[start..].partition_point(|&(other, _)| other == message);
    &pairs[start..start + len]
}

fn doubled(records: &Records, logs: &Logs, findings: &mut Findings) {
    let mut note = |run: &[(u32, u64)], who: &str| {
        findings.note(Check::Duplicate, || {
            let offsets: Vec<u64> = run.iter().map(|&(_, offset)| offset).collect();
            format!(
                "{} {who} at offsets={offsets:?}",
                records.describe(run[0].0)
            )
        });
    };
    for run in logs.seen.chunk_by(|a, b| a.0 == b.0) {
        if run.len() > 1 {
            note(run, "seen");
        }
    }
    for run in logs.named.chunk_by(|a, b| a.0 == b.0) {
        if run.len() > 1 && offsets_of(&logs.seen, run[0].0).is_empty() {
            note(run, "acked");
        }
    }
}

fn mismatched(records: &Records, logs: &Logs, findings: &mut Findings) {
    for &(message, offset) in &logs.named {
        let seen = offsets_of(&logs.seen, message);
        if !seen.is_empty() && !seen.contains(&(message, offset)) {
            findings.note(Check::AckOffsetMismatch, || {
                format!(
                    "{} acked at offset={offset} seen at offset={}",
                    records.describe(message),
                    seen[0].1
                )
            });
        }
    }
}

fn epochs(records: &Records, findings: &mut Findings) {
    let mut rows: Vec<(u32, u64, u64, u32)> = records
        .named
        .iter()
        .filter(|named| named.epoch != NONE)
        .map(|named| {
            let partition = records.partition_of(named.message);
            (partition, named.offset, named.epoch, named.message)
        })
        .collect();
    rows.sort_unstable();
    for run in rows.chunk_by(|a, b| a.0 == b.0) {
        let mut highest = 0;
        for &(_, offset, epoch, message) in run {
            if epoch < highest {
                findings.note(Check::EpochRegression, || {
                    format!(
                        "{} offset={offset} epoch={epoch} after epoch={highest}",
                        records.describe(message)
                    )
                });
            }
            highest = highest.max(epoch);
        }
    }
}

fn gaps(records: &Records, logs: &Logs, claims: &[(u32, u64, u32)], findings: &mut Findings) {
    let has_unknown = partitions_with_unknown(records, logs);
    for pair in claims.windows(2) {
        let [(partition, below, _), (other, above, _)] = *pair else {
            continue;
        };
        let first_kept = records.trims[partition as usize];
        let first_missing = (below + 1).max(first_kept);
        if partition != other || first_missing >= above {
            continue;
        }
        // A message of unknown fate may lie there, unless somebody read everything.
        if has_unknown[partition as usize] && !is_covered(records, partition, first_missing) {
            continue;
        }
        findings.note_many(Check::OffsetGap, above - first_missing, || {
            let name = records.describe_partition(partition);
            format!("partition={name} missing offsets={first_missing}..{above}")
        });
    }
}

fn partitions_with_unknown(records: &Records, logs: &Logs) -> Vec<bool> {
    let mut has_unknown = vec![false; records.partitions.len()];
    for (index, message) in records.messages.iter().enumerate() {
        let id = small(index);
        let may_be_stored = message.infos > 0 || message.pending() > 0 || message.oks > 0;
        if message.is_real() && may_be_stored && logs.offset(id).is_none() {
            has_unknown[records.partition_of(id) as usize] = true;
        }
    }
    has_unknown
}

/// Whether a drained subscription began at or below `offset`.
fn is_covered(records: &Records, partition: u32, offset: u64) -> bool {
    records.subs.iter().any(|sub| {
        let reaches = match sub.start {
            Start::Earliest => true,
            Start::Offset(first) => first <= offset,
            Start::Latest => false,
        };
        sub.is_declared
            && sub.partition == partition
            && sub.drained.is_some()
            && sub.seeks.is_empty()
            && reaches
    })
}
