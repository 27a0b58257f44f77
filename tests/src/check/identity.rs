//! Is what was received what was sent, whole, once it was sent, and to whom it was meant?

use super::findings::Findings;
use super::records::Records;
use super::verdict::Check;

pub(super) fn check(records: &Records, findings: &mut Findings) {
    content(records, findings);
    let mut is_told = vec![false; records.messages.len()];
    for recv in &records.recvs {
        let message = &records.messages[recv.message as usize];
        let describe = || {
            format!(
                "{} offset={} {}",
                records.describe(recv.message),
                recv.offset,
                records.describe_sub(recv.sub)
            )
        };
        if records.is_excluded(recv.message, records.subs[recv.sub as usize].name) {
            findings.note(Check::FilterLeak, describe);
        }
        if message.is_real() && recv.t < message.due {
            findings.note(Check::EarlyDelivery, describe);
        }
        // The next ones are faults of the message, however often it was delivered.
        let check = if !message.is_real() {
            Check::Phantom
        } else if message.fails == message.sends && message.oks == 0 && message.infos == 0 {
            Check::AbortedRead
        } else if recv.t < message.first_send {
            Check::TimeTravel
        } else {
            continue;
        };
        if !std::mem::replace(&mut is_told[recv.message as usize], true) {
            findings.note(check, describe);
        }
    }
}

fn content(records: &Records, findings: &mut Findings) {
    for &row in &records.corrupt {
        let recv = &records.recvs[row];
        findings.note(Check::Corrupt, || {
            format!(
                "other content than sent {} offset={} {}",
                records.describe(recv.message),
                recv.offset,
                records.describe_sub(recv.sub)
            )
        });
    }
    for &(sub, offset) in &records.unreadable {
        findings.note(Check::Corrupt, || {
            let partition = records.describe_partition(records.subs[sub as usize].partition);
            format!(
                "unreadable partition={partition} offset={offset} {}",
                records.describe_sub(sub)
            )
        });
    }
    for astray in &records.astray {
        findings.note(Check::Misrouted, || {
            let partition = records.subs[astray.sub as usize].partition;
            format!(
                "{} received_from={} offset={} {}",
                records.describe(astray.message),
                records.describe_partition(partition),
                astray.offset,
                records.describe_sub(astray.sub)
            )
        });
    }
}
