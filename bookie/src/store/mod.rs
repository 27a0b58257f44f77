//! Entries at rest: a memtable, and immutable data files sorted by (log, ledger, entry).

pub(crate) mod buffers;
pub(crate) mod cache;
pub(crate) mod file;
pub mod format;
pub(crate) mod lookup;
pub(crate) mod memtable;
pub(crate) mod merge;
pub(crate) mod writer;
