//! What can go wrong between a node and meta.

use std::time::Duration;

use host::net::Address;
use proto::meta::ACTIVE;
use types::{ErrorKind, Problem, Reason};

/// Why meta gave no answer to use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// Meta said no. Nothing happened.
    #[error("{0}")]
    Refused(Problem),
    /// Meta could not be reached. Nothing happened.
    #[error("meta cannot be reached: {reason}{}", or_where(active.as_ref()))]
    Unreachable {
        /// What stood in the way.
        reason: String,
        /// Who is to be asked instead, where a meta node that stands by was asked and knew.
        active: Option<Address>,
    },
    /// The answer was lost: a command may or may not have had its effect.
    #[error("the answer of meta was lost, the outcome is unknown: {reason}")]
    OutcomeUnknown {
        /// What happened to the answer.
        reason: String,
    },
}

fn or_where(active: Option<&Address>) -> String {
    active.map_or_else(String::new, |active| format!(" active={active}"))
}

impl MetaError {
    /// Meta answered another question than was asked: a defect.
    pub fn odd_answer() -> Self {
        let message = "meta answered another question than was asked";
        Self::Refused(Problem::new(Reason::Internal, message))
    }

    /// What the caller should do.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(problem) => problem.kind(),
            Self::Unreachable { .. } => ErrorKind::Retry,
            Self::OutcomeUnknown { .. } => ErrorKind::Unknown,
        }
    }

    /// When to try again, where meta said so.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(problem) => problem.retry_after,
            Self::Unreachable { .. } | Self::OutcomeUnknown { .. } => None,
        }
    }

    /// Reads the status that ended a call.
    pub(crate) fn of(status: &tonic::Status) -> Self {
        let problem = proto::status::from_status(status);
        match problem.reason {
            Reason::Unreachable => Self::Unreachable {
                active: problem.metadata.get(ACTIVE).map(Address::new),
                reason: problem.message,
            },
            Reason::OutcomeUnknown => Self::OutcomeUnknown {
                reason: problem.message,
            },
            _ => Self::Refused(problem),
        }
    }
}

impl From<MetaError> for Problem {
    fn from(error: MetaError) -> Self {
        match error {
            MetaError::Refused(problem) => problem,
            MetaError::Unreachable { .. } => Self::new(Reason::Unreachable, error.to_string()),
            MetaError::OutcomeUnknown { .. } => {
                Self::new(Reason::OutcomeUnknown, error.to_string())
            }
        }
    }
}
