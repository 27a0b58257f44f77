//! Leases of sessions: meta's memory of who gave a sign of life, on meta's own clock.
//!
//! The state of a session (live, expired, ended) is in its record; *when* it expires is only here. A session is told
//! that it is live only after its lease was renewed, and renewing and expiring one session never overlap, so that an
//! owner's own clock, which counts from before it asked, always ends first. When meta starts, or was paused, every
//! lease runs anew.

mod core;
mod task;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use catalog::{Key, Need, Record};
use host::Clock;
use types::cluster::{SessionRecord, SessionState};
use types::command::{Answer, Command, Query, Reply};
use types::{Problem, Reason, SessionId};

use crate::execute::{Numbering, ask, execute, problem};
use crate::store::Store;

use self::core::Leases;
pub(crate) use task::LeaseTask;

/// The leases of all sessions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LeaseKeeper {
    store: Arc<dyn Store>,
    numbering: Arc<Numbering>,
    clock: Clock,
    leases: Arc<Mutex<Leases>>,
    /// Held while sessions expire, and while one that is not known as live is looked at.
    turn: Arc<Semaphore>,
}

impl LeaseKeeper {
    /// Brings every session that has not ended to life and starts its lease anew: the claims of others wait for it. Where
    /// it is certain that their processes `are_gone`, ends them all.
    ///
    /// # Errors
    ///
    /// The problem that the store has.
    pub(crate) async fn start(
        store: Arc<dyn Store>,
        numbering: Arc<Numbering>,
        clock: Clock,
        are_gone: bool,
    ) -> Result<Self, Problem> {
        let leases = Arc::new(Mutex::new(Leases::new(clock.now())));
        let keeper = Self {
            store,
            numbering,
            clock,
            leases,
            turn: Arc::new(Semaphore::new(1)),
        };
        for session in keeper.sessions().await? {
            if are_gone {
                let session = session.id;
                keeper.command(&Command::EndSession { session }).await?;
                continue;
            }
            if session.state == SessionState::Expired {
                keeper
                    .command(&Command::ReviveSession {
                        session: session.id,
                    })
                    .await?;
            }
            keeper.renew(&session);
        }
        Ok(keeper)
    }

    /// Takes a sign of life and says how the session stands.
    ///
    /// # Errors
    ///
    /// `SESSION_UNKNOWN`, or the problem that the store has.
    ///
    /// # Cancel safety
    ///
    /// The lease may be renewed all the same.
    pub(crate) async fn keep_alive(&self, id: SessionId) -> Result<SessionRecord, Problem> {
        let was_known = self.lock().touch(self.clock.now(), id);
        let session = self.read(id).await?;
        if matches!(session.state, SessionState::Replaced | SessionState::Ended)
            || (was_known && session.state == SessionState::Live)
        {
            return Ok(session);
        }
        // It is not known here as live, or expires at this moment: decide alone.
        let _turn = self.turn.acquire().await;
        match self.command(&Command::ReviveSession { session: id }).await {
            Ok(Reply::Session(session)) => {
                self.renew(&session);
                Ok(session)
            }
            Ok(_) => Err(Problem::new(
                Reason::Internal,
                "a revival has another reply",
            )),
            // It ended meanwhile: that is how it stands.
            Err(problem) if problem.reason == Reason::SessionUnknown => self.read(id).await,
            Err(problem) => Err(problem),
        }
    }

    fn renew(&self, session: &SessionRecord) {
        let now = self.clock.now();
        self.lock().renew(now, session.id, session.lease);
    }

    async fn sessions(&self) -> Result<Vec<SessionRecord>, Problem> {
        match ask(self.store.as_ref(), &Query::Sessions).await?.0 {
            Answer::Sessions(sessions) => Ok(sessions),
            _ => Err(Problem::new(
                Reason::Internal,
                "a list of sessions has another answer",
            )),
        }
    }

    async fn read(&self, id: SessionId) -> Result<SessionRecord, Problem> {
        let key = Key::Session(id);
        let mut need = Need::default();
        need.keys.insert(key.clone());
        let snapshot = self
            .store
            .read(need)
            .await
            .map_err(|error| problem(&error))?;
        match snapshot.records.get(&key) {
            Some(Some(found)) if let Record::Session(session) = &found.record => {
                Ok(session.clone())
            }
            _ => {
                let message = format!("no such session, open a new one session={id}");
                Err(Problem::new(Reason::SessionUnknown, message))
            }
        }
    }

    async fn command(&self, command: &Command) -> Result<Reply, Problem> {
        execute(self.store.as_ref(), &self.numbering, command).await
    }

    /// How many leases run.
    pub(crate) fn running(&self) -> u64 {
        self.lock().count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LeaseKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseKeeper").finish_non_exhaustive()
    }
}
