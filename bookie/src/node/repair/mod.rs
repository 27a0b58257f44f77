//! The repair of this bookie's copies: it asks meta which closed ledgers it is to hold, looks what is missing of them,
//! fetches that from the other bookies, and says so to meta when a copy is whole.
//!
//! A copy in which the engine finds damage is looked at again without meta's word, and made good in the same way.
//!
//! One ledger at a time, some megabytes at a time, at a bounded rate; foreground work goes first. A copy is called whole
//! only after the engine said, once more, that it lacks nothing that is durable.

pub mod core;
mod damage;
mod task;
#[cfg(test)]
mod tests;

use std::time::Duration;

use host::metrics::{Counter, Page, Source};
use types::ByteSize;

pub(super) use self::core::Pace;
pub(super) use damage::Damage;
pub(super) use task::RepairTask;

/// How a bookie repairs its copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairConfig {
    /// How often meta is asked for work, when there was none.
    pub interval: Duration,
    /// Most bytes that are copied in a second.
    pub rate: ByteSize,
}

impl Default for RepairConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            rate: ByteSize::mib(64),
        }
    }
}

/// A number that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RepairConfigError {
    /// The interval is too short.
    #[error("--repair-interval is at least 100ms: meta answers each question")]
    Interval,
    /// The rate is too low.
    #[error("--repair-rate is at least 1MiB: a lost bookie must be made good in good time")]
    Rate,
}

impl RepairConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// The flag to change, and to what.
    pub fn validate(&self) -> Result<(), RepairConfigError> {
        if self.interval < Duration::from_millis(100) {
            return Err(RepairConfigError::Interval);
        }
        if self.rate < ByteSize::mib(1) {
            return Err(RepairConfigError::Rate);
        }
        Ok(())
    }
}

/// What the repair counts.
#[derive(Debug, Default)]
pub(super) struct RepairMetrics {
    copied_bytes: Counter,
    copied_entries: Counter,
    whole: Counter,
    failed: Counter,
    mended: Counter,
}

impl Source for RepairMetrics {
    fn write(&self, page: &mut Page) {
        let mut counter = |name, help, value: &Counter| page.counter(name, help, &[], value.get());
        counter(
            "ledgerline_bookie_repair_copied_bytes_total",
            "Bytes of entries copied from other bookies.",
            &self.copied_bytes,
        );
        counter(
            "ledgerline_bookie_repair_copied_entries_total",
            "Entries copied from other bookies.",
            &self.copied_entries,
        );
        counter(
            "ledgerline_bookie_repair_whole_ledgers_total",
            "Copies of ledgers found whole, and told to meta.",
            &self.whole,
        );
        counter(
            "ledgerline_bookie_repair_failed_ledgers_total",
            "Tries to complete the copy of a ledger that failed.",
            &self.failed,
        );
        counter(
            "ledgerline_bookie_repair_mended_ledgers_total",
            "Copies of ledgers that were damaged here and made good from other bookies.",
            &self.mended,
        );
    }
}
