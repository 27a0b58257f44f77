//! How nodes talk to meta.
//!
//! [`MetaClient`] asks and changes, [`MetaWatch`] tells what changed, [`Session`] keeps a node alive in meta's eyes
//! and knows when that is no longer certain. Clients of Ledgerline never come here: they speak to serving nodes.
//!
//! An answer that was lost is never taken for a failure: [`MetaError::OutcomeUnknown`] says that the command may have
//! had its effect. Reads are repeated until their time is up; a command is repeated only while it certainly never
//! left, or where its owner says that repeating does no harm.

mod client;
mod error;
mod session;
mod watch;

pub use client::{MetaClient, MetaConfig};
pub use error::MetaError;
pub use session::{Session, SessionConfig};
pub use watch::{MetaWatch, WatchEvent};
