//! The state log: what the owner must not forget.
//!
//! `format.rs` has the bytes, `folded.rs` reads them back, `log.rs` writes them: one write at a time, each with all
//! that gathered meanwhile. The first write of an owner, and the first one after the log rolled, is a snapshot of
//! everything, so that each ledger is a place to begin from.

mod folded;
pub(crate) mod format;
mod log;

pub use folded::SnapshotFinder;
pub(crate) use folded::{Folded, State};
pub(crate) use format::CursorKey;
pub(crate) use log::{SnapshotSource, StateLog, Waiter};
