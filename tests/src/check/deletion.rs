//! Is a topic that was deleted used no more?
//!
//! What was begun before may still come to its end after it: only what was begun later is judged.

use super::findings::Findings;
use super::records::{NONE, Records, small};
use super::verdict::Check;

pub(super) fn check(records: &Records, findings: &mut Findings) {
    if records.deletions.iter().all(|at| *at == NONE) {
        return;
    }
    for (index, message) in records.messages.iter().enumerate() {
        let id = small(index);
        let deleted = records.deletions[records.partition_of(id) as usize];
        if message.is_real() && message.oks > 0 && message.first_send > deleted {
            findings.note(Check::AfterDeletion, || {
                format!("{} acked", records.describe(id))
            });
        }
    }
    for recv in &records.recvs {
        let deleted = records.deletions[records.subs[recv.sub as usize].partition as usize];
        if records.sessions[recv.session as usize].opened_at > deleted {
            findings.note(Check::AfterDeletion, || {
                format!("{} received", records.describe(recv.message))
            });
        }
    }
}
