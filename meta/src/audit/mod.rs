//! The auditor: notices which copies of closed ledgers are not whole, and whose are to be elsewhere.
//!
//! It runs in the active meta process only. When something changed it reads all bookies and all ledgers, page by page,
//! and keeps in memory what is due: bookies ask for their part and do the work, people ask for the plan. It changes one
//! thing in the records: which copy goes to which bookie. A bookie counts as lost when its session has not been live for
//! the grace, by this process's own clock; a new active process begins to count anew.

pub mod core;
mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catalog::{Key, KeyRange, Need, Record};
use host::Clock;
use proto::meta::DueAsk;
use types::chain::{LedgerRecord, LedgerState, WholeCopy};
use types::cluster::{BookieDuty, BookieRecord};
use types::command::{Answer, Command, Query};
use types::repair::RepairPlan;
use types::{BookieId, LedgerId, Problem, Reason};

use crate::execute::{Numbering, ask, problem};
use crate::store::Store;

use self::core::Memory;
pub(crate) use task::AuditTask;

/// Ledgers read at a time.
const PAGE: usize = 1000;
/// When to come back for what is not known yet.
const SOON: Duration = Duration::from_secs(1);
/// Most ledgers that a bookie is given at once.
const DUE_MAX: usize = 1000;

/// How copies are watched over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// How often the ledgers are looked at, when anything changed.
    pub interval: Duration,
    /// How long a bookie may be away until its copies are made anew elsewhere.
    pub grace: Duration,
    /// Most copies that move to another bookie at a time.
    pub moves: usize,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            grace: Duration::from_secs(5 * 60),
            moves: 32,
        }
    }
}

impl AuditConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// The flag to change, and to what.
    pub fn validate(&self) -> Result<(), AuditConfigError> {
        if self.interval < Duration::from_millis(100) {
            return Err(AuditConfigError::Interval);
        }
        if self.moves == 0 {
            return Err(AuditConfigError::Moves);
        }
        Ok(())
    }
}

/// A number that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuditConfigError {
    /// The interval is too short.
    #[error("--audit-interval is at least 100ms: each look reads the record of every ledger")]
    Interval,
    /// No copy could move.
    #[error("--repair-moves is at least 1: without a move no lost copy is made anew")]
    Moves,
}

/// What the auditor knows. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Audit {
    store: Arc<dyn Store>,
    numbering: Arc<Numbering>,
    clock: Clock,
    config: AuditConfig,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    memory: Memory,
    /// The copies that each bookie is to make, as last looked at.
    due: BTreeMap<BookieId, BTreeSet<LedgerId>>,
    plan: RepairPlan,
    /// Most copies that any ledger has.
    widest: usize,
    /// Copies found whole since this process became active.
    copies_done: u64,
}

impl Audit {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        numbering: Arc<Numbering>,
        clock: Clock,
        config: AuditConfig,
    ) -> Self {
        Self {
            store,
            numbering,
            clock,
            config,
            state: Arc::default(),
        }
    }

    /// The ledgers that a bookie is to make a copy of or to look at, without those it says it cannot copy now.
    ///
    /// # Errors
    ///
    /// The problem that the store has.
    pub(crate) async fn due(&self, question: &DueAsk) -> Result<Vec<LedgerRecord>, Problem> {
        let limit = question.limit.min(DUE_MAX);
        let ids: Vec<LedgerId> = {
            let mut state = self.lock();
            let stuck = question.stuck.iter().copied().take(DUE_MAX);
            state.memory.stuck(question.bookie, stuck);
            let due = state.due.get(&question.bookie).into_iter().flatten();
            let is_wanted = |id: &&LedgerId| !state.memory.is_stuck(question.bookie, **id);
            due.filter(is_wanted).take(limit).copied().collect()
        };
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        match ask(self.store.as_ref(), &Query::Ledgers(ids)).await?.0 {
            Answer::Ledgers(mut ledgers) => {
                ledgers.retain(|it| matches!(it.state, LedgerState::Closed { .. }));
                Ok(ledgers)
            }
            _ => Err(Problem::new(
                Reason::Internal,
                "a list of ledgers has another answer",
            )),
        }
    }

    /// A bookie's word on its copies was taken: they are due no more.
    pub(crate) fn whole(&self, bookie: BookieId, copies: &[WholeCopy]) {
        let now = self.clock.now();
        let mut state = self.lock();
        let Some(due) = state.due.get_mut(&bookie) else {
            return;
        };
        let done = copies.iter().filter(|copy| due.remove(&copy.ledger));
        let done = done.count();
        let done = u64::try_from(done).expect("a usize fits");
        state.copies_done += done;
        state.memory.done(now, done);
    }

    /// How the copies stand.
    pub(crate) fn plan(&self) -> RepairPlan {
        let now = self.clock.now();
        let mut state = self.lock();
        let State {
            memory, due, plan, ..
        } = &mut *state;
        for bookie in &mut plan.bookies {
            let due = due.get(&bookie.bookie).map_or(0, BTreeSet::len);
            bookie.due = u64::try_from(due).expect("a usize fits");
        }
        memory.rate(now, plan);
        plan.clone()
    }

    /// Whether a command may be carried out, as far as the copies of all ledgers have a say in it.
    ///
    /// # Errors
    ///
    /// The numbers that stand against it, or the problem that the store has.
    pub(crate) async fn permits(&self, command: &Command) -> Result<(), Problem> {
        match command {
            Command::DrainBookie { id, draining: true } => self.permits_drain(*id).await,
            Command::RetireBookie { id } => self.permits_retirement(*id).await,
            _ => Ok(()),
        }
    }

    /// Enough bookies must be left for the ledger with the most copies.
    async fn permits_drain(&self, id: BookieId) -> Result<(), Problem> {
        let bookies = self.bookies().await?;
        let state = self.lock();
        if !state.plan.is_known {
            let message = "the ledgers have not been looked at yet, try again";
            return Err(Problem::new(Reason::Unreachable, message).retry_after(SOON));
        }
        let lost = state.plan.bookies.iter().filter(|it| it.is_lost);
        let lost: BTreeSet<BookieId> = lost.map(|it| it.bookie).collect();
        let stays = |it: &&BookieRecord| {
            it.id != id && it.duty == BookieDuty::Active && !lost.contains(&it.id)
        };
        let left = bookies.iter().filter(stays).count();
        if left >= state.widest {
            return Ok(());
        }
        let message = format!(
            "too few bookies would be left, start others first left={left} needed={}",
            state.widest
        );
        // Not a shortage that passes by itself: callers need not try again.
        Err(Problem::bad_field("node", message)
            .with("left", left)
            .with("needed", state.widest))
    }

    /// No ledger may name it, as the records are now.
    async fn permits_retirement(&self, id: BookieId) -> Result<(), Problem> {
        let mut naming = 0_u64;
        let mut after = None;
        loop {
            let page = self.page(after).await?;
            let names = |it: &&LedgerRecord| {
                it.ensemble.contains(&id) || it.moving.is_some_and(|moving| moving.to == id)
            };
            naming += u64::try_from(page.iter().filter(names).count()).expect("a usize fits");
            match page.last() {
                Some(last) if page.len() >= PAGE => after = Some(last.id),
                _ => break,
            }
        }
        if naming == 0 {
            return Ok(());
        }
        let message = format!(
            "ledgers still name the bookie, drain it and wait until its copies have moved \
             ledgers={naming}"
        );
        Err(Problem::bad_field("node", message).with("ledgers", naming))
    }

    async fn bookies(&self) -> Result<Vec<BookieRecord>, Problem> {
        match ask(self.store.as_ref(), &Query::Bookies).await?.0 {
            Answer::Bookies(bookies) => Ok(bookies),
            _ => Err(Problem::new(
                Reason::Internal,
                "a list of bookies has another answer",
            )),
        }
    }

    /// The ledgers after one, in their order.
    async fn page(&self, after: Option<LedgerId>) -> Result<Vec<LedgerRecord>, Problem> {
        let range = KeyRange::ledgers(after, PAGE);
        let mut need = Need::default();
        need.ranges.insert(range.clone());
        let read = self.store.read(need).await;
        let mut snapshot = read.map_err(|error| problem(&error))?;
        let found = snapshot.ranges.remove(&range).unwrap_or_default();
        let records = found.into_iter();
        Ok(records
            .filter_map(|(key, versioned)| match (key, versioned.record) {
                (Key::Ledger(id), Record::Ledger(body)) => Some(body.with(id, versioned.created)),
                _ => None,
            })
            .collect())
    }

    /// Copies found whole since this process became active.
    pub(crate) fn copies_done(&self) -> u64 {
        self.lock().copies_done
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}
