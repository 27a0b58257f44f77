//! Did enough happen, and was enough of it written down, for the verdict to mean anything?

use super::findings::Findings;
use super::records::Records;
use super::verdict::Check;

pub(super) fn check(records: &Records, findings: &mut Findings) {
    if records.stats.oks == 0 {
        findings.note(Check::NoAcks, || "nothing was acked".to_owned());
    }
    if !records.has_end {
        findings.note(Check::Truncated, || "the history has no end".to_owned());
    }
    if !records.has_meta {
        findings.note(Check::BadLine, || "no line `meta`".to_owned());
    }
    if records.complaint_count > 0 {
        let count = records.complaint_count;
        findings.note_many(Check::BadLine, count, || records.complaints.join("; "));
    }
    if records.promises.faults && records.stats.faults == 0 {
        findings.note(Check::NoFaults, || "no fault was made".to_owned());
    }
}
