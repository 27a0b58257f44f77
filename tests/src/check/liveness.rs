//! Did everything come to an end, and soon enough?

use super::findings::Findings;
use super::judge::Limits;
use super::records::{Records, Tick, TickKind, small};
use super::verdict::Check;

/// A refused send that is repeated within this time, in nanoseconds, was wanted all along: fast refusals do not hide an
/// outage.
const RETRY_PAUSE: u64 = 1_000_000_000;

pub(super) fn check(records: &mut Records, limits: Limits, findings: &mut Findings) {
    recovery(records, limits, findings);
    if !records.has_end {
        return; // A run that died finished nothing, which says nothing of the system.
    }
    for (index, sub) in records.subs.iter().enumerate() {
        let is_gone = sub.is_deleted || records.is_deleted(sub.partition);
        if sub.is_declared && !is_gone && sub.drained.is_none() {
            findings.note(Check::Undrained, || {
                let partition = records.describe_partition(sub.partition);
                let sub = records.describe_sub(small(index));
                format!("{sub} partition={partition}")
            });
        }
    }
    for (index, message) in records.messages.iter().enumerate() {
        if message.pending() > 0 {
            findings.note(Check::HungOp, || records.describe(small(index)));
        }
    }
}

/// Finds the longest time per partition in which sends waited and nothing was acked.
fn recovery(records: &mut Records, limits: Limits, findings: &mut Findings) {
    let limit = u64::try_from(limits.recovery.as_nanos()).unwrap_or(u64::MAX);
    let mut ticks = std::mem::take(&mut records.ticks);
    ticks.sort_by_key(|tick| (tick.partition, tick.t));
    for run in ticks.chunk_by(|a, b| a.partition == b.partition) {
        for gap in gaps(run) {
            records.stats.longest_gap_ns = records.stats.longest_gap_ns.max(gap.length);
            if gap.length > limit {
                findings.note(Check::SlowRecovery, || {
                    let partition = records.describe_partition(run[0].partition);
                    format!(
                        "partition={partition} from t={} for ms={}",
                        gap.begun,
                        gap.length / 1_000_000
                    )
                });
            }
        }
    }
}

struct Gap {
    begun: u64,
    length: u64,
}

/// The times in which sends of one partition waited for an ack. A gap ends with an ack, or when nobody wants to send.
fn gaps(ticks: &[Tick]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut pending = 0_u64;
    let mut begun: Option<u64> = None;
    let mut refused_at = 0_u64;
    for tick in ticks {
        match tick.kind {
            TickKind::Send => {
                let is_idle = pending == 0 && tick.t > refused_at.saturating_add(RETRY_PAUSE);
                if is_idle && let Some(begun) = begun.take() {
                    gaps.push(Gap::between(begun, refused_at));
                }
                begun.get_or_insert(tick.t);
                pending += 1;
            }
            TickKind::Ok => {
                if let Some(begun) = begun.take() {
                    gaps.push(Gap::between(begun, tick.t));
                }
                pending = pending.saturating_sub(1);
                if pending > 0 {
                    begun = Some(tick.t);
                }
            }
            TickKind::Refused => {
                pending = pending.saturating_sub(1);
                refused_at = tick.t;
            }
        }
    }
    if let (Some(begun), Some(last)) = (begun, ticks.last()) {
        gaps.push(Gap::between(begun, last.t));
    }
    gaps
}

impl Gap {
    fn between(begun: u64, end: u64) -> Self {
        Self {
            begun,
            length: end.saturating_sub(begun),
        }
    }
}
