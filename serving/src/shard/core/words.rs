//! What clients and operators are told about a shard's standing.

use std::time::Duration;

use ledger::{Over, Stuck};
use types::{Problem, Reason};

/// How long clients wait when another node has the shard and it is not known here which.
const REFUSED_WAIT: Duration = Duration::from_millis(200);

/// What clients are told of a shard whose owner is over.
pub(super) fn over_problem(over: Over) -> Problem {
    let (reason, text) = match over {
        Over::Fenced { .. } | Over::Deposed { .. } => {
            (Reason::NotOwner, "another node took the shard over")
        }
        Over::Released => (Reason::NotOwner, "the node gave the shard up"),
        Over::Retired => (Reason::ShardOpening, "the topic is being deleted"),
        Over::Deleted
        | Over::ClaimRefused {
            reason: Some(Reason::TopicNotFound),
        } => (Reason::TopicNotFound, "the topic was deleted"),
        Over::ClaimRefused {
            reason: None | Some(Reason::OwnerAlive),
        } => (Reason::NotOwner, "another node owns the shard"),
        Over::ClaimRefused { reason: Some(_) } => (
            Reason::Unreachable,
            "meta did not let the node have the shard",
        ),
    };
    let problem = Problem::new(reason, format!("{text}: {over}"));
    match over {
        Over::Fenced { by: epoch, .. } | Over::Deposed { epoch } => problem
            .with("epoch", epoch.get())
            .retry_after(Duration::ZERO),
        Over::Released => problem.retry_after(Duration::ZERO),
        Over::Deleted
        | Over::ClaimRefused {
            reason: Some(Reason::TopicNotFound),
        } => problem,
        Over::ClaimRefused { .. } | Over::Retired => problem.retry_after(REFUSED_WAIT),
    }
}

/// What clients are told of a shard that is being given up.
pub(in crate::shard) fn given_up() -> Problem {
    let text = "the node gives the shard up, ask another";
    Problem::new(Reason::NotOwner, text).retry_after(Duration::ZERO)
}

/// What is waited for, in words.
pub(super) fn words(stuck: &Stuck) -> String {
    match stuck {
        Stuck::Recovery {
            ledger,
            waiting_for,
        } => {
            format!("the end of a ledger waits for bookies ledger={ledger} bookies={waiting_for:?}")
        }
        Stuck::TooFewBookies { log } => {
            format!("a new ledger waits for bookies that take it log={log:?}")
        }
        Stuck::Meta { command, refused } => {
            format!(
                "meta has not told the outcome of a command command={command} refused={refused:?}"
            )
        }
    }
}
