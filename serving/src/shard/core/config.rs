//! The limits and the patience of a shard.

use std::sync::Arc;
use std::time::Duration;

use types::ByteSize;

/// The limits and the patience of a served shard. None of them touches safety.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShardConfig {
    /// Of producers, subscriptions and consumers.
    pub topic: Arc<topic::Config>,
    /// Of the writer of both logs.
    pub ledger: Arc<ledger::Config>,
    /// Bytes of the newest confirmed entries that are kept in memory for all subscriptions.
    pub tail_cache: ByteSize,
    /// Bytes that are read from the bookies ahead of one subscription that follows the log in order.
    pub read_ahead: ByteSize,
    /// Most runs of entries that are read at once; others wait their turn.
    pub runs_max: usize,
    /// How long a read for a subscription may take before it is given up for now.
    pub read_timeout: Duration,
    /// How long to wait for the next entry of a run before a second bookie is asked.
    pub speculate_after: Duration,
    /// How long to wait before something that failed is tried again.
    pub retry_after: Duration,
    /// How often is looked for messages that nobody needs any more.
    pub trim_interval: Duration,
    /// An open ledger is rolled at a quarter of what retention keeps, and never below so many bytes by size, or twice
    /// the interval by time.
    pub trim_roll_bytes: ByteSize,
    /// Most requests that wait while the shard is being opened.
    pub waiting_max: usize,
    /// How long a request waits while the shard is being opened.
    pub open_patience: Duration,
}

/// Why a [`ShardConfig`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardConfigError {
    /// A limit of zero would never let anything through.
    #[error("{field} must be above zero")]
    Zero {
        /// Which flag; for what has none, which field.
        field: &'static str,
    },
    /// A value of the topic's part.
    #[error(transparent)]
    Topic(#[from] topic::ConfigError),
    /// A value of the ledger's part.
    #[error(transparent)]
    Ledger(#[from] ledger::ConfigError),
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            topic: Arc::default(),
            ledger: Arc::new(ledger::Config {
                ledger_bytes_max: ByteSize::mib(1024),
                ..ledger::Config::default()
            }),
            tail_cache: ByteSize::mib(8),
            read_ahead: ByteSize::mib(4),
            runs_max: 16,
            read_timeout: Duration::from_secs(10),
            speculate_after: Duration::from_millis(200),
            retry_after: Duration::from_millis(500),
            trim_interval: Duration::from_secs(30),
            trim_roll_bytes: ByteSize::mib(16),
            waiting_max: 1_000,
            open_patience: Duration::from_secs(5),
        }
    }
}

impl ShardConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    ///
    /// [`ShardConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ShardConfigError> {
        self.topic.validate()?;
        self.ledger.validate()?;
        let limits = [
            ("read_ahead", self.read_ahead.get() == 0),
            ("runs_max", self.runs_max == 0),
            ("read_timeout", self.read_timeout.is_zero()),
            ("retry_after", self.retry_after.is_zero()),
            ("--trim-interval", self.trim_interval.is_zero()),
            ("waiting_max", self.waiting_max == 0),
        ];
        match limits.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((field, _)) => Err(ShardConfigError::Zero { field }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(ShardConfig::default().validate(), Ok(()));
    }

    #[test]
    fn a_zero_names_its_field() {
        let config = ShardConfig {
            runs_max: 0,
            ..ShardConfig::default()
        };
        let error = config.validate().unwrap_err();
        assert_eq!(error, ShardConfigError::Zero { field: "runs_max" });
    }
}
