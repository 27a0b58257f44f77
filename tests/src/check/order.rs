//! Do messages lie in the log in the order that was promised?

use std::collections::BTreeMap;

use super::findings::Findings;
use super::logs::Logs;
use super::records::{NONE, Records, Word};
use super::verdict::Check;
use crate::history::SubscriptionType;

pub(super) fn check(records: &Records, logs: &Logs, findings: &mut Findings) {
    producer(records, logs, findings);
    realtime(records, logs, findings);
    keys(records, logs, findings);
}

/// Along the log each writer's numbers rise.
fn producer(records: &Records, logs: &Logs, findings: &mut Findings) {
    let mut highest: Vec<Option<u32>> = vec![None; records.streams.len()];
    for place in logs.by_partition.iter().flatten() {
        let message = &records.messages[place.message as usize];
        let highest = &mut highest[message.stream as usize];
        match *highest {
            Some(before) if records.messages[before as usize].n > message.n => {
                findings.note(Check::ProducerOrder, || {
                    format!(
                        "{} offset={} lies behind n={}",
                        records.describe(place.message),
                        place.offset,
                        records.messages[before as usize].n
                    )
                });
            }
            _ => *highest = Some(place.message),
        }
    }
}

/// Nothing lies before a message that was acked before it was sent itself.
fn realtime(records: &Records, logs: &Logs, findings: &mut Findings) {
    for log in &logs.by_partition {
        let mut latest_sent: Option<u32> = None;
        for place in log {
            let message = &records.messages[place.message as usize];
            let latest = latest_sent.map_or(0, |m| records.messages[m as usize].first_send);
            if message.ok_at != NONE && message.ok_at < latest {
                findings.note(Check::RealtimeOrder, || {
                    let other = latest_sent.expect("something was sent at that time");
                    format!(
                        "{} offset={} acked at t={} lies behind {} sent at t={latest}",
                        records.describe(place.message),
                        place.offset,
                        message.ok_at,
                        records.describe(other)
                    )
                });
            }
            if message.first_send > latest || latest_sent.is_none() {
                latest_sent = Some(place.message);
            }
        }
    }
}

/// On a key-shared subscription the first deliveries of a key come in log order.
fn keys(records: &Records, logs: &Logs, findings: &mut Findings) {
    let is_keyed = |sub: u32| {
        let sub = &records.subs[sub as usize];
        sub.is_declared && sub.kind == SubscriptionType::KeyShared
    };
    let mut rows: Vec<(u32, u64, usize)> = records
        .recvs
        .iter()
        .enumerate()
        .filter(|(_, recv)| is_keyed(recv.sub))
        .map(|(row, recv)| (recv.sub, recv.t, row))
        .collect();
    rows.sort_unstable();
    let mut is_delivered = std::collections::BTreeSet::new();
    let mut highest: BTreeMap<(u32, Word), u64> = BTreeMap::new();
    for (sub, _, row) in rows {
        let recv = &records.recvs[row];
        let Some(key) = records.messages[recv.message as usize].key else {
            continue;
        };
        let Some(offset) = logs.offset(recv.message) else {
            continue;
        };
        if !is_delivered.insert((sub, recv.message)) {
            continue;
        }
        let before = highest.entry((sub, key)).or_insert(offset);
        if offset < *before {
            findings.note(Check::KeyOrder, || {
                format!(
                    "{} offset={offset} key={} after offset={before} {}",
                    records.describe(recv.message),
                    records.names.text(key),
                    records.describe_sub(sub)
                )
            });
        }
        *before = offset.max(*before);
    }
}
