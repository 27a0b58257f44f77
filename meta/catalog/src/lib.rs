//! The rules of meta, pure: what a command or a query reads, what it answers, and what it writes.
//!
//! [`plan`] turns a [`Command`](types::command::Command) and the records read so far into one of three things
//! ([`Planned`]): the records it still needs, an answer that changes nothing, or a [`Commit`]. A commit is a
//! conditional write: it names the version of *every* record that the decision rests on, and a store carries it out
//! only if none of them has changed. Otherwise the command is planned again on what is there now. An owner's command
//! on its shard needs no exception from that: it names the version its owner planned on, and planning it on any
//! other version gives a conflict, never a write.
//!
//! [`answer`] does the same for queries. [`MemStore`] is the reference store that simulators and tests use, and
//! [`check`] finds what is wrong with a whole store.
//!
//! There is no IO, clock, randomness, lock or async here: time and ids come in the command. See `meta/DESIGN.md`
//! for the rules by number.

mod answer;
mod carry;
mod codec;
mod copies;
mod drains;
mod invariants;
mod key;
mod mem;
mod names;
mod nodes;
mod plan;
mod record;
mod shard;
mod snapshot;
mod topics;

pub use answer::{Answered, answer};
pub use carry::{Passage, carry};
pub use codec::{DecodeError, decode_key, decode_record, encode_key, encode_record};
pub use invariants::{Violation, check, check_step};
pub use key::{Key, KeyRange};
pub use mem::{Committed, Conflict, Image, MemStore};
pub use plan::{Commit, Condition, Draft, Planned, Write, plan};
pub use record::{BookieBody, Counters, LedgerBody, LogRecord, LossRecord, NodeRecord, Record};
pub use snapshot::{Need, Snapshot, Versioned};
