//! What travels between owners, bookies and meta.

use std::fmt;

use ledger::{Answer, Outcome, Request};
use types::command::Command;
use types::storage::{AddResult, LacResult, ReadResult};
use types::{BookieId, CommandId};

/// Something on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Message {
    /// From an owner to the bookie at a place.
    ToBookie(u8, u8, Request),
    /// To an owner, from a bookie.
    ToOwner(u8, BookieId, Answer),
    /// From an owner.
    ToMeta(u8, Box<Command>),
    /// To an owner, about its command.
    FromMeta(u8, CommandId, Box<Outcome>),
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToBookie(from, to, request) => {
                write!(f, "owner {from} -> b{}: {request:?}", to + 1)
            }
            Self::ToOwner(to, bookie, answer) => write!(f, "{bookie} -> owner {to}: {answer:?}"),
            Self::ToMeta(from, command) => match &**command {
                Command::ClaimShard(_) => write!(f, "owner {from} -> meta: claim"),
                Command::ChangeShard(command) => {
                    let (on, change) = (command.planned_on, &command.change);
                    write!(f, "owner {from} -> meta: on {on}: {change:?}")
                }
                other => write!(f, "owner {from} -> meta: {other:?}"),
            },
            Self::FromMeta(to, _, outcome) => match &**outcome {
                Outcome::Committed(view) => {
                    let (at, epoch) = (view.version, view.record.epoch);
                    write!(f, "meta -> owner {to}: committed at {at}, epoch {epoch}")
                }
                Outcome::Conflict(view) => {
                    let (at, epoch) = (view.version, view.record.epoch);
                    write!(f, "meta -> owner {to}: conflict, now {at}, epoch {epoch}")
                }
                other => write!(f, "meta -> owner {to}: {other:?}"),
            },
        }
    }
}

/// Whether an answer tells of a newer owner.
pub(super) const fn is_fenced(answer: &Answer) -> bool {
    matches!(
        answer,
        Answer::Added {
            result: AddResult::Fenced { .. },
            ..
        } | Answer::Read {
            result: ReadResult::Fenced { .. },
            ..
        } | Answer::Lac {
            result: LacResult::Fenced { .. },
            ..
        }
    )
}
