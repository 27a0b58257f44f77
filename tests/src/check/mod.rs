//! The judge of histories.
//!
//! It knows what Ledgerline promises and nothing of how the promise is kept. Events are noted one by one into compact
//! tables (`records`: names interned, messages numbered), the tables are put in log order once (`logs`), and then each
//! group of checks reads them, one file a group:
//!
//! | file | checks |
//! |---|---|
//! | `loss.rs` | `lost_acked`, `lost_visible`, `lost_unacked`, `unverified` |
//! | `identity.rs` | `phantom`, `aborted_read`, `corrupt`, `misrouted`, `time_travel`, `early_delivery`, `filter_leak` |
//! | `offsets.rs` | `inconsistent_offset`, `duplicate`, `ack_offset_mismatch`, `epoch_regression`, `offset_gap` |
//! | `order.rs` | `producer_order`, `realtime_order`, `key_order` |
//! | `session.rs` | `(int_)nonmonotonic`, `dup_in_session`, `(int_)skip` |
//! | `acks.rs` | `acked_redelivery` |
//! | `deletion.rs` | `after_deletion` |
//! | `tail.rs` | `stale_tail`, `nonmonotonic_tail`, `future_tail` |
//! | `liveness.rs` | `undrained`, `hung_op`, `slow_recovery` |
//! | `proof.rs` | `no_acks`, `truncated`, `bad_line`, `no_faults` |
//!
//! **Definitions.** *committed(m)*: m was acked or some consumer saw it. *off(m)*: the lowest offset at which consumers saw
//! it, else the lowest that an ack named. *rank(m)*: its place among the committed messages of its partition by off.
//! *ordered*: reader, exclusive, failover. *excused(S, m)*: off(m) lies below a trim or below what S was moved to by a
//! seek, or S is among those whose filter excludes m. A message that was received without ever having been sent is a
//! phantom and takes no part in anything else.
//!
//! `lost_unacked` goes beyond the table of `reliability.md`: a message that S received and never acked must come again once
//! every session that received it is over (a `close`, or a later `open` that takes its place), so a drained S that did not
//! get it again has lost it.
//!
//! **The verdict** is *violated* if any check says so, else *inconclusive* if too little happened to prove anything, else
//! *valid*. What a run does not promise ([`Guarantees`](crate::history::Guarantees)) is counted as allowed and condemns
//! nothing.
//!
//! **What must hold of a history for this to be fair**: a consumer's `open` is written for *each* attach, reconnects behind
//! a client library's back included, since order and repeats are judged per session; `close` when a session is over;
//! `drained` only once redeliveries after that could have come; `ep` only where the answer comes from the owner that wrote
//! the entry.
//!
//! **The judge is judged** in `tests/`: `scripted.rs` has the smallest history for each check, `generator.rs` makes correct
//! histories in which nothing may be found, `injected.rs` plants one anomaly at random and expects exactly that one (it is
//! the list of what re-breaks each check).
//!
//! To extend: name the check in `verdict.rs`, with the promise it belongs to, and read the tables in a file of its own.

mod acks;
mod deletion;
mod findings;
mod identity;
mod judge;
mod liveness;
mod logs;
mod loss;
mod offsets;
mod order;
mod proof;
mod records;
mod session;
mod tail;
mod verdict;

pub use findings::{Finding, Report, Stats};
pub use judge::{Judge, Limits, judge_bytes, judge_file};
pub use verdict::{Check, Verdict};

#[cfg(test)]
mod tests;
