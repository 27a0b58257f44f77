//! Carrying commands and queries out on a store: read what is needed, decide, commit, again on a conflict.

use std::time::Duration;

use tokio::sync::Semaphore;

use catalog::{Answered, Planned, Snapshot, answer, plan};
use proto::meta::ACTIVE;
use types::command::{Answer, Command, Query, Reply};
use types::{Problem, Reason, Revision};

use crate::store::{CommitError, Store, StoreError};

/// How often a command is planned before its caller is told to come back. Each time means that another command won.
const PLANS_MAX: usize = 64;

/// How often reading may find that more is needed: commands follow references three deep.
const READS_MAX: usize = 8;

/// When to come back after losing that often.
const RETRY: Duration = Duration::from_millis(100);

/// Commands that take numbers all change one record: they go one at a time instead of each other's way.
#[derive(Debug)]
pub(crate) struct Numbering(Semaphore);

impl Numbering {
    pub(crate) fn new() -> Self {
        Self(Semaphore::new(1))
    }
}

const fn takes_numbers(command: &Command) -> bool {
    matches!(
        command,
        Command::Bootstrap { .. }
            | Command::OpenSession { .. }
            | Command::RegisterBookie { .. }
            | Command::CreateTopic { .. }
            | Command::CreateSubscription { .. }
    )
}

/// Carries a command out.
///
/// # Errors
///
/// The problem that the rules find with it; `OUTCOME_UNKNOWN` when it may or may not have happened; `UNREACHABLE`
/// and `STOPPING` when it has not.
///
/// # Cancel safety
///
/// Dropping the future does not undo the command: it may still happen.
pub(crate) async fn execute(
    store: &dyn Store,
    numbering: &Numbering,
    command: &Command,
) -> Result<Reply, Problem> {
    let _turn = if takes_numbers(command) {
        numbering.0.acquire().await.ok()
    } else {
        None
    };
    for _ in 0..PLANS_MAX {
        let commit = match decide(store, command).await? {
            Planned::Answer(reply) => return reply,
            Planned::Write(commit) => commit,
            Planned::Need(_) => return Err(endless()),
        };
        match store.commit(commit.write).await {
            Ok(revision) => return Ok(commit.draft.committed(revision)),
            Err(CommitError::Conflict) => {}
            Err(CommitError::Refused(error)) => return Err(problem(&error)),
            Err(CommitError::Unknown { reason }) => {
                let message = format!("the command may or may not have happened reason={reason}");
                return Err(Problem::new(Reason::OutcomeUnknown, message));
            }
        }
    }
    let message = "others changed the same records each time; nothing happened";
    Err(Problem::new(Reason::Overloaded, message).retry_after(RETRY))
}

async fn decide(store: &dyn Store, command: &Command) -> Result<Planned, Problem> {
    let mut snapshot = Snapshot::new();
    for _ in 0..READS_MAX {
        let mut need = match plan(command, &snapshot) {
            Planned::Need(need) => need,
            done => return Ok(done),
        };
        need.join(snapshot.asked());
        snapshot = store.read(need).await.map_err(|error| problem(&error))?;
    }
    Err(endless())
}

/// Answers a query, with the revision it was read at.
///
/// # Errors
///
/// The problem that the rules find with it; `UNREACHABLE` and `STOPPING` when the store does not answer.
pub(crate) async fn ask(store: &dyn Store, query: &Query) -> Result<(Answer, Revision), Problem> {
    let mut snapshot = Snapshot::new();
    for _ in 0..READS_MAX {
        let mut need = match answer(query, &snapshot) {
            Answered::Need(need) => need,
            Answered::Answer(answer) => return Ok((answer?, snapshot.revision)),
        };
        need.join(snapshot.asked());
        snapshot = store.read(need).await.map_err(|error| problem(&error))?;
    }
    Err(endless())
}

pub(crate) fn problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Stopping => Problem::new(Reason::Stopping, "meta is stopping"),
        StoreError::Failed { .. } | StoreError::Unreachable { .. } => {
            Problem::new(Reason::Unreachable, error.to_string())
        }
        StoreError::NotActive { active } => not_active(active.as_deref()),
        StoreError::TooLarge { .. } => Problem::new(Reason::LimitReached, error.to_string()),
    }
}

/// What a node that stands by answers: nothing happened, and where to go.
pub(crate) fn not_active(active: Option<&str>) -> Problem {
    let message = "this meta node stands by, ask the active one";
    let problem = Problem::new(Reason::Unreachable, message);
    match active {
        Some(active) => problem.with(ACTIVE, active),
        None => problem,
    }
}

fn endless() -> Problem {
    Problem::new(Reason::Internal, "the rules ask for records without end")
}
