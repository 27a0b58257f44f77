//! The loop that looks.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use types::chain::Move;
use types::command::Command;
use types::{ErrorKind, LedgerId, Problem, Reason, Revision};

use super::{Audit, PAGE};
use crate::execute::execute;

/// Looking takes at most this part of the time, however many ledgers there are.
const SHARE: u32 = 10;
/// Most ledgers beyond repair that one look tells in the log.
const TOLD_MAX: usize = 16;

pub(crate) struct AuditTask {
    audit: Audit,
    stop: CancellationToken,
}

impl AuditTask {
    pub(crate) const fn new(audit: Audit, stop: CancellationToken) -> Self {
        Self { audit, stop }
    }

    /// Runs until the node stops.
    pub(crate) async fn run(self) {
        let audit = &self.audit;
        let mut seen = None;
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                biased; // Stop first.
                () = self.stop.cancelled() => return,
                () = audit.clock.sleep(wait) => {}
            }
            wait = audit.config.interval;
            let revision = *audit.store.revision().borrow();
            if !self.is_due(seen, revision) {
                continue;
            }
            let begun = audit.clock.now();
            match self.look().await {
                Ok(()) => seen = Some(revision),
                Err(problem) if problem.reason == Reason::Stopping => {}
                Err(problem) => warn!(%problem, "ledgers could not be looked at"),
            }
            let took = audit.clock.now().since(begun);
            wait = wait.max(took * (SHARE - 1));
        }
    }

    /// Whether anything changed, a bookie has been away for long enough, or one said what it cannot copy.
    fn is_due(&self, seen: Option<Revision>, revision: Revision) -> bool {
        let now = self.audit.clock.now();
        seen != Some(revision) || self.audit.lock().memory.wants_look(now)
    }

    /// Looks at everything, and begins the moves that are wanted.
    async fn look(&self) -> Result<(), Problem> {
        let audit = &self.audit;
        let bookies = audit.bookies().await?;
        let now = audit.clock.now();
        let mut look = audit.lock().memory.look(now, audit.config.grace, &bookies);
        let mut after = None;
        loop {
            let page = audit.page(after).await?;
            for ledger in &page {
                look.ledger(ledger);
            }
            match page.last() {
                Some(last) if page.len() >= PAGE => after = Some(last.id),
                _ => break,
            }
        }
        let findings = look.finish(audit.config.moves);
        let news = {
            let mut state = audit.lock();
            let news = state.memory.tell(&findings.beyond);
            state.due = findings.due;
            state.plan = findings.plan;
            state.widest = findings.widest;
            news
        };
        for beyond in news.iter().take(TOLD_MAX) {
            warn!(ledger = %beyond.ledger, why = ?beyond.why, "ledger cannot be made good now");
        }
        if news.len() > TOLD_MAX {
            warn!(ledgers = news.len(), "more ledgers cannot be made good now");
        }
        for (ledger, moving) in findings.moves {
            self.assign(ledger, moving).await?;
        }
        Ok(())
    }

    /// Begins a move, or calls it off. What the rules refuse was overtaken: the next look sees what is there then.
    async fn assign(&self, ledger: LedgerId, moving: Option<Move>) -> Result<(), Problem> {
        let audit = &self.audit;
        let command = Command::AssignCopy { ledger, moving };
        match execute(audit.store.as_ref(), &audit.numbering, &command).await {
            Ok(_) => match moving {
                Some(Move { from, to }) => {
                    info!(%ledger, %from, %to, "a copy is to move");
                    audit.lock().due.entry(to).or_default().insert(ledger);
                }
                None => info!(%ledger, "a copy need not move any more"),
            },
            Err(problem) if problem.kind() == ErrorKind::Invalid => {
                debug!(%ledger, %problem, "a copy cannot move");
            }
            Err(problem) => return Err(problem),
        }
        Ok(())
    }
}
