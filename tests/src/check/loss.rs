//! Did every subscription get what it was entitled to?

use super::findings::Findings;
use super::logs::Logs;
use super::records::{Message, Records, Recv, Sub, first_ack, small};
use super::verdict::Check;
use crate::history::{Start, SubscriptionType};

pub(super) fn check(records: &Records, logs: &Logs, findings: &mut Findings) {
    let ranks = logs.ranks();
    let mut is_verified = vec![false; records.messages.len()];
    let mut rows: Vec<u32> = (0..small(records.recvs.len())).collect();
    rows.sort_by_key(|&row| records.recvs[row as usize].sub);
    for index in 0..records.subs.len() {
        let id = small(index);
        let start = rows.partition_point(|&row| records.recvs[row as usize].sub < id);
        let len = rows[start..].partition_point(|&row| records.recvs[row as usize].sub == id);
        if !records.subs[index].is_declared {
            continue;
        }
        let received = Received::of(records, logs, id, &rows[start..start + len], &ranks);
        one(records, logs, id, &received, &mut is_verified, findings);
    }
    unverified(records, logs, &is_verified, findings);
}

/// What one subscription received, by rank.
struct Received {
    is_received: Vec<bool>,
    /// Received by a session that is not over: it may still ack it.
    is_held: Vec<bool>,
    highest: Option<usize>,
}

impl Received {
    fn of(records: &Records, logs: &Logs, sub: u32, rows: &[u32], ranks: &[u32]) -> Self {
        let sub = &records.subs[sub as usize];
        let len = logs.by_partition[sub.partition as usize].len();
        let mut received = Self {
            is_received: vec![false; len],
            is_held: vec![false; len],
            highest: None,
        };
        for &row in rows {
            let recv: &Recv = &records.recvs[row as usize];
            let rank = ranks[recv.message as usize] as usize;
            if rank >= len {
                continue; // A phantom.
            }
            let ended = records.sessions[recv.session as usize].ended;
            let is_over = match (ended, sub.drained) {
                (Some(ended), Some(drained)) => ended < drained,
                _ => false,
            };
            received.is_received[rank] = true;
            received.is_held[rank] |= !is_over;
            received.highest = received.highest.max(Some(rank));
        }
        received
    }
}

/// Judges one subscription on one partition.
fn one(
    records: &Records,
    logs: &Logs,
    id: u32,
    received: &Received,
    is_verified: &mut [bool],
    findings: &mut Findings,
) {
    let sub = &records.subs[id as usize];
    let is_drained = sub.drained.is_some();
    let moved_to = sub.seeks.iter().map(|seek| seek.to).max().unwrap_or(0);
    let first = records.trims[sub.partition as usize].max(moved_to);
    let describe = |message: u32, offset: Option<u64>| {
        let offset = offset.map_or_else(|| "unknown".to_owned(), |offset| offset.to_string());
        format!(
            "{} offset={offset} {}",
            records.describe(message),
            records.describe_sub(id)
        )
    };
    for (rank, place) in logs.by_partition[sub.partition as usize].iter().enumerate() {
        let message = &records.messages[place.message as usize];
        if place.offset < first
            || !is_entitled(sub, message, Some(place.offset))
            || records.is_excluded(place.message, sub.name)
        {
            continue;
        }
        is_verified[place.message as usize] |= is_drained;
        if received.is_received[rank] {
            let is_forgotten = is_drained
                && sub.kind != SubscriptionType::Reader
                && !received.is_held[rank]
                && !is_acked(records, sub, id, place.message, place.offset);
            if is_forgotten {
                findings.note(Check::LostUnacked, || {
                    describe(place.message, Some(place.offset))
                });
            }
            continue;
        }
        let is_passed = sub.is_ordered() && received.highest.is_some_and(|highest| rank < highest);
        if is_drained || is_passed {
            findings.note(loss_of(message), || {
                describe(place.message, Some(place.offset))
            });
        }
    }
    for &message in &logs.unplaced[sub.partition as usize] {
        let row = &records.messages[message as usize];
        let is_owed = is_entitled(sub, row, None) && !records.is_excluded(message, sub.name);
        if is_drained && is_owed && sub.seeks.is_empty() && first == 0 {
            is_verified[message as usize] = true;
            findings.note(loss_of(row), || describe(message, None));
        }
    }
}

fn loss_of(message: &Message) -> Check {
    if message.oks > 0 {
        Check::LostAcked
    } else {
        Check::LostVisible
    }
}

fn is_entitled(sub: &Sub, message: &Message, offset: Option<u64>) -> bool {
    match sub.start {
        Start::Earliest => true,
        Start::Latest => message.first_send >= sub.made_at,
        Start::Offset(first) => offset.is_some_and(|offset| offset >= first),
    }
}

/// Whether the subscription ever tried to ack the message: the attempt may have counted.
fn is_acked(records: &Records, sub: &Sub, id: u32, message: u32, offset: u64) -> bool {
    Sub::acked_below(&sub.cumulative, u64::MAX) > offset
        || first_ack(&records.acks, id, message).is_some()
}

/// Acked messages that no drained subscription was entitled to: nobody would have noticed their loss.
fn unverified(records: &Records, logs: &Logs, is_verified: &[bool], findings: &mut Findings) {
    if !records.has_end {
        return; // `truncated` says more.
    }
    for (index, message) in records.messages.iter().enumerate() {
        let id = small(index);
        let is_trimmed = logs
            .offset(id)
            .is_some_and(|offset| offset < records.trims[records.partition_of(id) as usize]);
        let is_gone = is_trimmed || records.is_deleted(records.partition_of(id));
        if message.is_real() && message.oks > 0 && !is_verified[index] && !is_gone {
            findings.note(Check::Unverified, || records.describe(id));
        }
    }
}
