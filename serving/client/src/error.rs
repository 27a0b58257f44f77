//! What a client is told when something does not work.

use types::{ErrorKind, Problem, Reason};

/// Why a call failed. `message` is for people and says what to do; programs branch on [`Error::reason`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problem.message)]
pub struct Error {
    problem: Problem,
}

impl Error {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            problem: Problem::new(reason, message),
        }
    }

    /// The stable word, as the server sends it.
    pub const fn reason(&self) -> Reason {
        self.problem.reason
    }

    /// What to do about it.
    pub const fn kind(&self) -> ErrorKind {
        self.problem.kind()
    }

    /// Everything the server said: field, resource, facts, wait.
    pub const fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Whether the same call may work later, and repeating it does no harm.
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Retry | ErrorKind::Moved | ErrorKind::Busy | ErrorKind::Stopping
        )
    }

    /// Whether it is not known if the call had its effect.
    pub const fn is_outcome_unknown(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unknown)
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self { problem }
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self {
            problem: proto::status::from_status(&status),
        }
    }
}
