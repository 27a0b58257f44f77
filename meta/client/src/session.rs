//! A node's life in meta's eyes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::cluster::{NodeRole, SessionRecord, SessionState};
use types::command::{Command, Reply};
use types::{CommandId, ErrorKind, MonoTime, NodeName, SessionId};

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
    end: CancellationToken,
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
        let Reply::Session(record) = meta.execute_repeatable(open).await? else {
            return Err(MetaError::odd_answer());
        };
        tracing::info!(session = %record.id, node = %record.name, "session open");
        let (certain, told) = watch::channel(true);
        let end = CancellationToken::new();
        let keeper = Keeper {
            host: host.clone(),
            meta: meta.clone(),
            id: record.id,
            lease: config.lease,
            certain,
            end: end.clone(),
        };
        host.tasks.spawn("session", keeper.run(sent));
        Ok(Self {
            meta: meta.clone(),
            record: Arc::new(record),
            certain: told,
            end,
        })
    }

    /// Its number.
    pub fn id(&self) -> SessionId {
        self.record.id
    }

    /// Whether it is certain that meta counts the node as alive, now and later.
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
#[error(
    "the session is over, another process of this name has begun? give each node its own --name session={session}"
)]
struct SessionOver {
    session: SessionId,
}

struct Keeper {
    host: host::Host,
    meta: MetaClient,
    id: SessionId,
    lease: Duration,
    certain: watch::Sender<bool>,
    end: CancellationToken,
}

impl Keeper {
    /// Sends keep-alives. `opened` is when the opening was sent: the lease runs from there at the latest.
    async fn run(self, opened: MonoTime) -> Result<(), SessionOver> {
        let margin = self.lease / BEATS;
        let mut certain_until = opened.after(self.lease - margin);
        let stop = self.host.tasks.token();
        let clock = &self.host.clock;
        let mut next = clock.now();
        loop {
            let is_certain = *self.certain.borrow();
            let doubt = is_certain.then_some(certain_until);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = self.end.cancelled() => return Ok(()),
                () = clock.deadline(doubt) => {
                    tracing::warn!(session = %self.id, "the lease is not certain any more");
                    self.certain.send_replace(false);
                    continue;
                }
                () = clock.sleep_until(next) => {}
            }
            let sent = clock.now();
            next = sent.after(self.lease / BEATS);
            // An answer after the lease would prove nothing.
            let answer = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = self.end.cancelled() => return Ok(()),
                answer = self.meta.keep_alive(self.id, self.lease / 2) => answer,
            };
            match answer {
                Ok(record) if record.state == SessionState::Live => {
                    certain_until = sent.after(self.lease - margin);
                    let is_certain = clock.now() < certain_until;
                    if self.certain.send_replace(is_certain) != is_certain {
                        tracing::info!(session = %self.id, is_certain, "the lease was renewed");
                    }
                }
                Ok(record) if record.state == SessionState::Ended => {
                    return Err(SessionOver { session: self.id });
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Fenced => {
                    return Err(SessionOver { session: self.id });
                }
                Err(error) => {
                    tracing::debug!(%error, "meta did not hear the sign of life");
                    if clock.now() >= certain_until {
                        self.certain.send_replace(false);
                    }
                }
            }
        }
    }
}
