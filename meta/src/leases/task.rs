//! The loop that follows sessions and lets their leases run out.

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use types::cluster::SessionState;
use types::command::{Change, Command};
use types::{Problem, Reason, Revision, SessionId};

use super::LeaseKeeper;
use super::core::TICK;
use crate::execute::problem;
use crate::store::ChangesSince;

/// Changes read at a time.
const CHANGES_MAX: usize = 1000;

pub(crate) struct LeaseTask {
    keeper: LeaseKeeper,
    seen: Revision,
    stop: CancellationToken,
}

impl LeaseTask {
    /// Follows changes after `seen`.
    pub(crate) const fn new(keeper: LeaseKeeper, seen: Revision, stop: CancellationToken) -> Self {
        Self { keeper, seen, stop }
    }

    /// Runs until the node stops.
    pub(crate) async fn run(mut self) {
        let mut revision = self.keeper.store.revision();
        // Changes that were committed before this task began count too.
        revision.mark_changed();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                biased; // Stop first; then who lives, before who does not.
                () = self.stop.cancelled() => return,
                Ok(()) = revision.changed() => self.follow().await,
                _ = tick.tick() => self.expire().await,
            };
            if let Err(problem) = done {
                if problem.reason != Reason::Stopping {
                    warn!(%problem, "leases could not be looked at");
                }
                self.keeper.clock.sleep(TICK).await;
                revision.mark_changed();
            }
        }
    }

    /// Notes the sessions that changed.
    async fn follow(&mut self) -> Result<(), Problem> {
        loop {
            let changes = self.keeper.store.changes(self.seen, CHANGES_MAX).await;
            match changes.map_err(|error| problem(&error))? {
                ChangesSince::Events { events, upto } => {
                    for event in &events {
                        if let Change::Session(id) = event.change {
                            self.note(id).await?;
                        }
                    }
                    let is_all = events.len() < CHANGES_MAX;
                    self.seen = upto;
                    if is_all {
                        return Ok(());
                    }
                }
                ChangesSince::Compacted { now } => {
                    for session in self.keeper.sessions().await? {
                        self.note(session.id).await?;
                    }
                    self.seen = now;
                }
            }
        }
    }

    async fn note(&self, id: SessionId) -> Result<(), Problem> {
        let session = self.keeper.read(id).await?;
        let now = self.keeper.clock.now();
        let mut leases = self.keeper.lock();
        match session.state {
            SessionState::Live | SessionState::Replaced => leases.start(now, id, session.lease),
            SessionState::Expired | SessionState::Ended => leases.remove(id),
        }
        Ok(())
    }

    /// Marks the sessions whose lease ran out. One that could not be marked is tried again after another lease.
    async fn expire(&self) -> Result<(), Problem> {
        let _turn = self.keeper.turn.acquire().await;
        let due = self.keeper.lock().take_due(self.keeper.clock.now());
        let mut first_problem = Ok(());
        for (session, lease) in due {
            match self
                .keeper
                .command(&Command::ExpireSession { session })
                .await
            {
                Ok(_) => info!(%session, ?lease, "session expired"),
                Err(problem) => {
                    let now = self.keeper.clock.now();
                    self.keeper.lock().start(now, session, lease);
                    first_problem = first_problem.and(Err(problem));
                }
            }
        }
        first_problem
    }
}
