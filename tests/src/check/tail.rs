//! Is the tail that was answered neither older nor newer than it can be?

use super::findings::Findings;
use super::logs::Logs;
use super::records::{NONE, Records, TailRow};
use super::verdict::Check;

pub(super) fn check(records: &Records, logs: &Logs, findings: &mut Findings) {
    if records.tails.is_empty() {
        return;
    }
    for (index, log) in logs.by_partition.iter().enumerate() {
        let mut tails: Vec<&TailRow> = records
            .tails
            .iter()
            .filter(|tail| tail.partition as usize == index)
            .collect();
        tails.sort_unstable_by_key(|tail| tail.done);
        let acked = rising(log.iter().filter_map(|place| {
            let ok_at = records.messages[place.message as usize].ok_at;
            (ok_at != NONE).then_some((ok_at, place.offset + 1))
        }));
        let answered = rising(tails.iter().map(|tail| (tail.done, tail.next)));
        for tail in tails {
            let describe = |bound: u64| {
                let name = records.describe_partition(tail.partition);
                format!(
                    "partition={name} asked at t={} next={} other={bound}",
                    tail.begun, tail.next
                )
            };
            let acked = highest_before(&acked, tail.begun);
            if tail.next < acked {
                findings.note(Check::StaleTail, || describe(acked));
            }
            let answered = highest_before(&answered, tail.begun);
            if tail.next < answered {
                findings.note(Check::NonmonotonicTail, || describe(answered));
            }
            let Some(last) = tail.next.checked_sub(1) else {
                continue;
            };
            if let Ok(rank) = log.binary_search_by_key(&last, |place| place.offset) {
                let message = log[rank].message;
                if records.messages[message as usize].first_send > tail.done {
                    findings.note(Check::FutureTail, || records.describe(message));
                }
            }
        }
    }
}

/// Sorted by time, with the running maximum of the values.
fn rising(pairs: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut pairs: Vec<(u64, u64)> = pairs.collect();
    pairs.sort_unstable();
    let mut highest = 0;
    for (_, value) in &mut pairs {
        highest = highest.max(*value);
        *value = highest;
    }
    pairs
}

/// The highest value of a time before `t`, 0 for none.
fn highest_before(rising: &[(u64, u64)], t: u64) -> u64 {
    let upto = rising.partition_point(|&(at, _)| at < t);
    upto.checked_sub(1).map_or(0, |last| rising[last].1)
}
