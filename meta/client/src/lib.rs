//! How nodes talk to meta.
//!
//! [`MetaClient`] asks and changes, [`MetaWatch`] tells what changed, [`Session`] keeps a node alive in meta's eyes
//! and knows when that is no longer certain. Clients of Ledgerline never come here: they speak to serving nodes.
//!
//! An answer that was lost is never taken for a failure: [`MetaError::OutcomeUnknown`] says that the command may have
//! had its effect. Reads are repeated until their time is up. A command is repeated while it certainly did not happen,
//! and after a lost answer only where the same command twice is the same as once; an owner's commands on its shard are
//! not among these, their owner repeats them with the same id and knows what to make of the answer.
//!
//! A node's own clock of its lease ([`Session::lease_is_certain`]) runs from when a sign of life was *sent* and ends a
//! quarter of the lease before meta's can: the node doubts before meta lets anybody claim what it serves.

mod client;
mod copies;
mod error;
mod session;
mod watch;

pub use client::{MetaClient, MetaConfig};
pub use error::MetaError;
pub use session::{Session, SessionConfig};
pub use watch::{MetaWatch, WatchEvent};
