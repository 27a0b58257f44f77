//! Is what was confirmed as acked never delivered again?

use super::findings::Findings;
use super::logs::Logs;
use super::records::{Records, Sub, first_ack};
use super::verdict::Check;
use crate::history::SubscriptionType;

pub(super) fn check(records: &Records, logs: &Logs, findings: &mut Findings) {
    for recv in &records.recvs {
        let sub = &records.subs[recv.sub as usize];
        let opened_at = records.sessions[recv.session as usize].opened_at;
        if sub.kind == SubscriptionType::Reader {
            continue;
        }
        let one_by_one = first_ack(&records.confirmed, recv.sub, recv.message);
        let together = first_below(sub, recv.offset);
        let acked_at = match (one_by_one, together) {
            (Some(a), Some(b)) => a.min(b),
            (Some(t), None) | (None, Some(t)) => t,
            (None, None) => continue,
        };
        let is_moved_later = sub.seeks.iter().any(|seek| seek.done >= acked_at);
        // A copy at another offset is another delivery; the offset checks judge that.
        if acked_at < opened_at && !is_moved_later && !logs.is_doubled(recv.message) {
            findings.note(Check::AckedRedelivery, || {
                format!(
                    "{} offset={} ack confirmed at t={acked_at} delivered to a session opened at t={opened_at} {}",
                    records.describe(recv.message),
                    recv.offset,
                    records.describe_sub(recv.sub)
                )
            });
        }
    }
}

/// When a cumulative ack that covers `offset` was first confirmed.
fn first_below(sub: &Sub, offset: u64) -> Option<u64> {
    let list = &sub.cumulative_confirmed;
    let at = list.partition_point(|&(_, end)| end <= offset);
    list.get(at).map(|&(t, _)| t)
}
