//! The limits and the patience of an owner.

use std::time::Duration;

use types::ByteSize;

/// The limits and the patience of an owner. None of them touches safety.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// A ledger with so many bytes of payload is rolled.
    pub ledger_bytes_max: ByteSize,
    /// A ledger with so many entries is rolled.
    pub ledger_entries_max: u64,
    /// A request of recovery or to meta without an answer is sent again after this; doubles up to `retry_after_max`.
    pub retry_after: Duration,
    /// An add is sent again after this on a connection that seems to stand. Rarely needed: what a broken connection
    /// lost is sent again at once on the next.
    pub resend_after: Duration,
    /// The longest wait before a request is sent again.
    pub retry_after_max: Duration,
    /// A bookie that owes answers for so long is left behind, while enough others answer.
    pub straggler_time: Duration,
    /// A bookie that owes answers for so many bytes is left behind, while enough others answer.
    pub straggler_bytes: ByteSize,
    /// A bookie that gave trouble is not chosen for new ledgers for so long, or until it connects again.
    pub trouble_time: Duration,
    /// Between two seals in the background of one log.
    pub seal_interval_min: Duration,
    /// The LAC is sent on its own when no add has carried it for so long.
    pub idle_lac_after: Duration,
    /// Most entries that recovery reads at once.
    pub recovery_window: usize,
}

/// Why a [`Config`] cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A limit of zero would never let anything through.
    #[error("a limit must not be zero field={field}")]
    Zero {
        /// Which field.
        field: &'static str,
    },
    /// The longest wait is shorter than the first.
    #[error("the longest wait is shorter than the first field=retry_after_max")]
    RetryOrder,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ledger_bytes_max: ByteSize::mib(256),
            ledger_entries_max: 1_000_000,
            retry_after: Duration::from_millis(500),
            resend_after: Duration::from_secs(3),
            retry_after_max: Duration::from_secs(5),
            straggler_time: Duration::from_secs(5),
            straggler_bytes: ByteSize::mib(16),
            trouble_time: Duration::from_secs(10),
            seal_interval_min: Duration::from_secs(10),
            idle_lac_after: Duration::from_millis(20),
            recovery_window: 16,
        }
    }
}

impl Config {
    /// Checks the bounds.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let limits = [
            ("ledger_bytes_max", self.ledger_bytes_max.get() == 0),
            ("ledger_entries_max", self.ledger_entries_max == 0),
            ("straggler_bytes", self.straggler_bytes.get() == 0),
            ("recovery_window", self.recovery_window == 0),
        ];
        if let Some((field, _)) = limits.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(ConfigError::Zero { field });
        }
        if self.retry_after_max < self.retry_after {
            return Err(ConfigError::RetryOrder);
        }
        Ok(())
    }
}
