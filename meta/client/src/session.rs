//! A node's life in meta's eyes.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::cluster::{NodeRole, SessionRecord, SessionState};
use types::command::{Command, Reply};
use types::{CommandId, ErrorKind, MonoTime, NodeName, Problem, Reason, SessionId};

use crate::{MetaClient, MetaError};

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// What it does.
    pub role: NodeRole,
    /// Its name: the same name is the same node, and its new session ends the old one.
    pub name: NodeName,
    /// Where other nodes reach it.
    pub address: String,
    /// Where clients reach it; empty for a bookie.
    pub endpoint: String,
    /// How long it counts as alive after a keep-alive.
    pub lease: Duration,
}

/// A node's process instance, kept alive by a task. Clones are the same session.
///
/// This side's clock of the lease runs from when a keep-alive was *sent* and ends a quarter of the lease before
/// meta's can: so when meta lets others claim what the node serves, the node has known for that long that it may.
#[derive(Clone)]
pub struct Session {
    meta: MetaClient,
    record: Arc<SessionRecord>,
    certain: watch::Receiver<bool>,
    certain_until: CertainUntil,
    end: CancellationToken,
}

/// Until when the lease is certain, shared between the task that renews it and those who ask.
#[derive(Clone, Default)]
struct CertainUntil(Arc<AtomicU64>);

impl CertainUntil {
    fn get(&self) -> MonoTime {
        MonoTime::from_nanos(self.0.load(Ordering::Acquire))
    }

    fn set(&self, until: MonoTime) {
        self.0.store(until.as_nanos(), Ordering::Release);
    }
}

/// A keep-alive is sent each time this part of the lease has passed.
const BEATS: u32 = 4;

impl Session {
    /// Opens a session and keeps it alive until it is ended, or the tasks of `host` are stopped.
    ///
    /// When meta says that the session is over (the node has a newer one: two processes of one name), the tasks of
    /// `host` fail.
    ///
    /// # Errors
    ///
    /// [`MetaError`].
    pub async fn open(
        host: &host::Host,
        meta: &MetaClient,
        config: SessionConfig,
    ) -> Result<Self, MetaError> {
        let sent = host.clock.now();
        let open = Command::OpenSession {
            role: config.role,
            name: config.name,
            address: config.address,
            endpoint: config.endpoint,
            lease: config.lease,
            command: CommandId::new(host.rng.u128()),
        };
        let Reply::Session(record) = meta.execute(open).await? else {
            return Err(MetaError::odd_answer());
        };
        tracing::info!(session = %record.id, node = %record.name, "session open");
        let (certain, told) = watch::channel(true);
        let certain_until = CertainUntil::default();
        // The lease runs from when the opening was sent, at the earliest.
        certain_until.set(sent.after(config.lease - config.lease / BEATS));
        let end = CancellationToken::new();
        let keeper = Keeper {
            host: host.clone(),
            meta: meta.clone(),
            id: record.id,
            lease: config.lease,
            certain,
            certain_until: certain_until.clone(),
            end: end.clone(),
        };
        host.tasks.spawn("session", keeper.run());
        Ok(Self {
            meta: meta.clone(),
            record: Arc::new(record),
            certain: told,
            certain_until,
            end,
        })
    }

    /// How it stood when it was opened.
    pub fn record(&self) -> &SessionRecord {
        &self.record
    }

    /// Its number.
    pub fn id(&self) -> SessionId {
        self.record.id
    }

    /// Whether it is certain that meta counts the node as alive at `now`, a reading of this node's clock. Asked at the
    /// moment that counts, it is right also when the task that renews the lease was not run for a while.
    pub fn lease_is_certain(&self, now: MonoTime) -> bool {
        now < self.certain_until.get()
    }

    /// The same, told when it changes.
    pub fn certain(&self) -> watch::Receiver<bool> {
        self.certain.clone()
    }

    /// Ends the session: the node stops, and what it served may be claimed at once. Tried for a moment only: the lease
    /// does the same a little later.
    pub async fn end(&self) {
        self.end.cancel();
        let end = Command::EndSession { session: self.id() };
        if let Err(error) = self.meta.execute(end).await {
            tracing::warn!(%error, "meta was not told that the session ends; its lease will");
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// Meta says that the session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum SessionOver {
    #[error(
        "the session is over, another process of this name has begun; give each node its own --name session={session}"
    )]
    Replaced { session: SessionId },
    /// The metadata was restored: what this process knows may be of the time that is forgotten.
    #[error("the session is over session={session}: {problem}")]
    Forgotten {
        session: SessionId,
        problem: Problem,
    },
}

struct Keeper {
    host: host::Host,
    meta: MetaClient,
    id: SessionId,
    lease: Duration,
    certain: watch::Sender<bool>,
    certain_until: CertainUntil,
    end: CancellationToken,
}

impl Keeper {
    /// Sends signs of life until the session ends or the node stops.
    async fn run(self) -> Result<(), SessionOver> {
        let stop = self.host.tasks.token();
        let beat = self.lease / BEATS;
        let mut next = self.host.clock.now();
        loop {
            let sent = self.host.clock.now().max(next);
            let sign = async {
                self.host.clock.sleep_until(sent).await;
                let sent = self.host.clock.now();
                (sent, self.meta.keep_alive(self.id, beat).await)
            };
            let (sent, answer) = tokio::select! {
                biased; // Stop first; doubt before an answer that may take its time.
                () = stop.cancelled() => return Ok(()),
                () = self.end.cancelled() => return Ok(()),
                never = self.doubt() => match never {},
                answer = sign => answer,
            };
            next = sent.after(beat);
            match answer {
                Ok(record) => match record.state {
                    SessionState::Live => self.renewed(sent),
                    SessionState::Expired => {}
                    SessionState::Replaced | SessionState::Ended => {
                        return Err(SessionOver::Replaced { session: self.id });
                    }
                },
                Err(MetaError::Refused(problem)) if problem.reason == Reason::WrongGeneration => {
                    let session = self.id;
                    return Err(SessionOver::Forgotten { session, problem });
                }
                Err(error) if error.kind() == ErrorKind::Fenced => {
                    return Err(SessionOver::Replaced { session: self.id });
                }
                Err(error) => {
                    tracing::debug!(session = %self.id, %error, "meta did not hear the sign of life");
                }
            }
        }
    }

    /// Says that the lease is not certain when its time is up, and then waits for ever.
    async fn doubt(&self) -> Infallible {
        if *self.certain.borrow() {
            self.host.clock.sleep_until(self.certain_until.get()).await;
            tracing::warn!(session = %self.id, "the lease is not certain any more");
            self.certain.send_replace(false);
        }
        std::future::pending().await
    }

    /// Meta renewed the lease after `sent`, so that it runs from there at the earliest.
    fn renewed(&self, sent: MonoTime) {
        let until = sent.after(self.lease - self.lease / BEATS);
        self.certain_until.set(until);
        let is_certain = self.host.clock.now() < until;
        // Whoever follows it hears of changes alone: behind a node are all its shards.
        let has_changed = self.certain.send_if_modified(|told| {
            let before = std::mem::replace(told, is_certain);
            before != is_certain
        });
        if has_changed {
            tracing::info!(session = %self.id, is_certain, "the lease was renewed");
        }
    }
}
