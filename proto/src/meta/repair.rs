//! What meta's auditor says.

use std::time::Duration;

use types::chain::LedgerRecord;
use types::repair::{BeyondRepair, BeyondWhy, BookieCopies, RepairPlan};
use types::{BookieId, LedgerId, LedgerSeq, LogId, Problem};

use super::shards::{ledger, ledger_id, ledger_id_to_wire, ledger_to_wire};
use super::{all, missing, nanos, pb};

use pb::beyond_repair::Why as Wire;

/// A bookie's question for the copies that it is to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueAsk {
    /// The bookie.
    pub bookie: BookieId,
    /// Most ledgers.
    pub limit: usize,
    /// Ledgers it was given and cannot copy now, since an entry is nowhere.
    pub stuck: Vec<LedgerId>,
}

/// The question on the wire.
pub fn due_ask_to_wire(caller: pb::Caller, ask: &DueAsk) -> pb::DueCopiesRequest {
    pb::DueCopiesRequest {
        caller: Some(caller),
        bookie: ask.bookie.get(),
        limit: u32::try_from(ask.limit).unwrap_or(u32::MAX),
        stuck: ask.stuck.iter().copied().map(ledger_id_to_wire).collect(),
    }
}

/// Reads the question; its caller is checked apart.
pub fn due_ask(ask: &pb::DueCopiesRequest) -> DueAsk {
    let id = |id: &pb::LedgerId| LedgerId::new(LogId::new(id.log), LedgerSeq::new(id.seq));
    DueAsk {
        bookie: BookieId::new(ask.bookie),
        limit: usize::try_from(ask.limit).unwrap_or(usize::MAX),
        stuck: ask.stuck.iter().map(id).collect(),
    }
}

/// The copies on the wire.
pub fn due_answer_to_wire(ledgers: &[LedgerRecord]) -> pb::DueCopiesResponse {
    pb::DueCopiesResponse {
        ledgers: ledgers.iter().map(ledger_to_wire).collect(),
    }
}

/// Reads the copies.
///
/// # Errors
///
/// `BAD_FIELD` names what makes no sense.
pub fn due_answer(answer: pb::DueCopiesResponse) -> Result<Vec<LedgerRecord>, Problem> {
    all(answer.ledgers, ledger)
}

/// A plan on the wire.
pub fn plan_to_wire(it: &RepairPlan) -> pb::RepairPlanResponse {
    pb::RepairPlanResponse {
        is_known: it.is_known,
        closed: it.closed,
        whole: it.whole,
        short: it.short,
        moving: it.moving,
        waiting: it.waiting,
        beyond_count: it.beyond_count,
        beyond: it.beyond.iter().map(beyond_to_wire).collect(),
        bookies: it.bookies.iter().map(copies_to_wire).collect(),
        done_last_minute: it.done_last_minute,
        left_nanos: it.left.map(nanos),
    }
}

/// Reads a plan.
///
/// # Errors
///
/// `BAD_FIELD` names what makes no sense.
pub fn plan(it: pb::RepairPlanResponse) -> Result<RepairPlan, Problem> {
    Ok(RepairPlan {
        is_known: it.is_known,
        closed: it.closed,
        whole: it.whole,
        short: it.short,
        moving: it.moving,
        waiting: it.waiting,
        beyond_count: it.beyond_count,
        beyond: all(it.beyond, beyond)?,
        bookies: it.bookies.iter().map(copies).collect(),
        done_last_minute: it.done_last_minute,
        left: it.left_nanos.map(Duration::from_nanos),
    })
}

fn beyond_to_wire(it: &BeyondRepair) -> pb::BeyondRepair {
    pb::BeyondRepair {
        ledger: Some(ledger_id_to_wire(it.ledger)),
        why: Some(match it.why {
            BeyondWhy::NoTarget { of } => Wire::NoTarget(of.get()),
            BeyondWhy::NoCopy => Wire::NoCopy(pb::Nothing {}),
            BeyondWhy::EntriesMissing { at } => Wire::EntriesMissing(at.get()),
        }),
    }
}

fn beyond(it: pb::BeyondRepair) -> Result<BeyondRepair, Problem> {
    Ok(BeyondRepair {
        ledger: ledger_id("beyond.ledger", it.ledger)?,
        why: match it.why.ok_or_else(|| missing("beyond.why"))? {
            Wire::NoTarget(id) => BeyondWhy::NoTarget {
                of: BookieId::new(id),
            },
            Wire::NoCopy(_) => BeyondWhy::NoCopy,
            Wire::EntriesMissing(id) => BeyondWhy::EntriesMissing {
                at: BookieId::new(id),
            },
        },
    })
}

const fn copies_to_wire(it: &BookieCopies) -> pb::BookieCopies {
    pb::BookieCopies {
        bookie: it.bookie.get(),
        named: it.named,
        due: it.due,
        leaving: it.leaving,
        is_lost: it.is_lost,
    }
}

const fn copies(it: &pb::BookieCopies) -> BookieCopies {
    BookieCopies {
        bookie: BookieId::new(it.bookie),
        named: it.named,
        due: it.due,
        leaving: it.leaving,
        is_lost: it.is_lost,
    }
}
