//! How the copies of ledgers stand, in words for operators.

use proto::raw::v1 as pb;
use types::BookieId;
use types::cluster::{BookieDuty, BookieRecord};
use types::repair::{BeyondRepair, BeyondWhy, BookieCopies, RepairPlan};

/// The plan as operators see it: bookies by name, without those that are no part of the cluster any more.
pub(super) fn plan(plan: &RepairPlan, bookies: &[BookieRecord]) -> pb::RepairPlan {
    let of = |copies: &BookieCopies| {
        let bookie = bookies.iter().find(|bookie| bookie.id == copies.bookie)?;
        (bookie.duty != BookieDuty::Gone).then(|| pb::RepairOfBookie {
            name: bookie.name.to_string(),
            ledgers: copies.named,
            due: copies.due,
            leaving: copies.leaving,
            lost: copies.is_lost,
        })
    };
    let concerns = plan.beyond.iter().map(|beyond| concern(beyond, bookies));
    pb::RepairPlan {
        known: plan.is_known,
        closed_ledgers: plan.closed,
        whole_ledgers: plan.whole,
        short_ledgers: plan.short,
        moving_ledgers: plan.moving,
        waiting_ledgers: plan.waiting,
        beyond_repair_ledgers: plan.beyond_count,
        concerns: concerns.collect(),
        bookies: plan.bookies.iter().filter_map(of).collect(),
        copies_last_minute: plan.done_last_minute,
        left_seconds: plan.left.map(|left| left.as_secs()),
    }
}

fn concern(beyond: &BeyondRepair, bookies: &[BookieRecord]) -> String {
    let name = |id: BookieId| {
        let bookie = bookies.iter().find(|bookie| bookie.id == id);
        bookie.map_or_else(|| id.to_string(), |bookie| bookie.name.to_string())
    };
    let ledger = beyond.ledger;
    match beyond.why {
        BeyondWhy::NoTarget { of } => format!(
            "ledger {ledger}: no bookie can take over the copy of {}; start another one",
            name(of)
        ),
        BeyondWhy::NoCopy => {
            format!("ledger {ledger}: every bookie that had a copy is lost; bring one of them back")
        }
        BeyondWhy::EntriesMissing { at } => format!(
            "ledger {ledger}: {} found an entry nowhere; bring a bookie back that had a copy",
            name(at)
        ),
    }
}

#[cfg(test)]
mod tests {
    use types::{Incarnation, LedgerId, LedgerSeq, LogId, Revision, SessionId};

    use super::*;

    fn bookie(number: u64, duty: BookieDuty) -> BookieRecord {
        BookieRecord {
            zone: None,
            id: BookieId::new(number),
            name: format!("b{number}").parse().unwrap(),
            address: String::new(),
            born: Revision::new(1),
            incarnation: Incarnation::new(1),
            mark: 0,
            state: types::cluster::BookieState::ReadWrite,
            duty,
            session: SessionId::new(1),
            live: true,
        }
    }

    #[test]
    fn bookies_are_named_and_those_that_are_gone_left_out() {
        let bookies = [bookie(1, BookieDuty::Gone), bookie(2, BookieDuty::Draining)];
        let copies = |number| BookieCopies {
            bookie: BookieId::new(number),
            named: 3,
            due: 2,
            leaving: 1,
            is_lost: false,
        };
        let ledger = LedgerId::new(LogId::new(4), LedgerSeq::new(5));
        let of = BookieId::new(2);
        let shown = plan(
            &RepairPlan {
                bookies: vec![copies(1), copies(2)],
                beyond: vec![BeyondRepair {
                    ledger,
                    why: BeyondWhy::NoTarget { of },
                }],
                ..RepairPlan::default()
            },
            &bookies,
        );
        assert_eq!(shown.bookies.len(), 1);
        assert_eq!(
            (&*shown.bookies[0].name, shown.bookies[0].ledgers),
            ("b2", 3)
        );
        let wanted = format!("ledger {ledger}: no bookie can take over the copy of b2");
        assert!(shown.concerns[0].starts_with(&wanted), "{shown:?}");
    }
}
