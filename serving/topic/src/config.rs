//! What a shard allows. Plain values, checked once.

use std::time::Duration;

use types::ByteSize;

/// The limits and times of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Config {
    /// Producer streams open at once.
    pub producers_max: usize,
    /// Names of producers that are remembered. Beyond it the name unused for the longest is forgotten.
    pub producer_names_max: usize,
    /// Batches a producer may have in flight.
    pub producer_batches_max: u32,
    /// Messages a producer may have in flight.
    pub producer_messages_max: u64,
    /// Bytes a producer may have in flight.
    pub producer_bytes_max: ByteSize,
    /// Bytes of all producers in flight.
    pub in_flight_bytes_max: ByteSize,
    /// Batches of each producer whose positions are remembered, for repeats. At least `producer_batches_max`.
    pub recent_batches: usize,
    /// Batches of one stream without a receipt, repeats and refused ones included; beyond it the stream ends.
    pub receipts_max: usize,
    /// How long a producer waits after a refusal for overload.
    pub overload_wait: Duration,
    /// Bytes of confirmed messages after which the state log names a new point to replay headers from.
    pub snapshot_every: ByteSize,

    /// Subscriptions of the topic.
    pub subscriptions_max: usize,
    /// Consumers of a subscription.
    pub consumers_max: usize,
    /// Messages delivered to a consumer and not acked.
    pub unacked_max: u64,
    /// Ranges in one ack, nack or extension.
    pub ranges_max: usize,
    /// Confirmed acks of one consumer that wait for the disk.
    pub waiting_acks_max: usize,
    /// How long acks that nobody waits for may gather before they are written.
    pub ack_delay: Duration,
    /// The shortest lease.
    pub ack_deadline_min: Duration,
    /// The longest lease.
    pub ack_deadline_max: Duration,
    /// The longest wait of a message given back.
    pub nack_delay_max: Duration,
    /// Bytes of messages asked for at once by one subscription.
    pub read_bytes: ByteSize,
    /// The wait before a failed read is asked again.
    pub read_retry: Duration,
    /// How often consumers hear how they stand.
    pub heartbeat: Duration,

    /// Bytes of one state entry.
    pub state_entry_bytes: ByteSize,
    /// Size at which the state log rolls; see [`Topic::state_roll_size`](crate::Topic::state_roll_size).
    pub state_roll: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            producers_max: 10_000,
            producer_names_max: 1_024,
            producer_batches_max: 128,
            producer_messages_max: 100_000,
            producer_bytes_max: ByteSize::mib(32),
            in_flight_bytes_max: ByteSize::mib(128),
            recent_batches: 128,
            receipts_max: 1_024,
            overload_wait: Duration::from_millis(50),
            snapshot_every: ByteSize::mib(64),
            subscriptions_max: 10_000,
            consumers_max: 1_000,
            unacked_max: 100_000,
            ranges_max: 10_000,
            waiting_acks_max: 1_024,
            ack_delay: Duration::from_millis(20),
            ack_deadline_min: Duration::from_millis(100),
            ack_deadline_max: Duration::from_secs(12 * 3600),
            nack_delay_max: Duration::from_secs(3600),
            read_bytes: ByteSize::mib(1),
            read_retry: Duration::from_millis(500),
            heartbeat: Duration::from_secs(10),
            state_entry_bytes: ByteSize::mib(1),
            state_roll: ByteSize::mib(4),
        }
    }
}

/// A value that a shard cannot work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Must be above zero.
    #[error("must be above zero field={field}")]
    Zero {
        /// Which value.
        field: &'static str,
    },
    /// One value is above another that bounds it.
    #[error("must not be above another field={field} bound={bound}")]
    Above {
        /// Which value.
        field: &'static str,
        /// The value that bounds it.
        bound: &'static str,
    },
    /// More positions than one record of the state log can hold.
    #[error("must be at most 10000 field=recent_batches value={value}")]
    Recent {
        /// The value.
        value: usize,
    },
    /// A state entry is larger than an entry can be, or too small for its longest record.
    #[error("must be between 64KiB and 4MiB field=state_entry_bytes value={value}")]
    StateEntry {
        /// The value.
        value: ByteSize,
    },
}

impl Config {
    /// Checks the values against each other.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first value that cannot be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let counts = [
            ("producers_max", self.producers_max),
            ("producer_names_max", self.producer_names_max),
            ("recent_batches", self.recent_batches),
            ("receipts_max", self.receipts_max),
            ("subscriptions_max", self.subscriptions_max),
            ("consumers_max", self.consumers_max),
            ("ranges_max", self.ranges_max),
            ("waiting_acks_max", self.waiting_acks_max),
        ];
        let sizes = [
            ("producer_batches_max", u64::from(self.producer_batches_max)),
            ("producer_messages_max", self.producer_messages_max),
            ("producer_bytes_max", self.producer_bytes_max.get()),
            ("in_flight_bytes_max", self.in_flight_bytes_max.get()),
            ("snapshot_every", self.snapshot_every.get()),
            ("unacked_max", self.unacked_max),
            ("read_bytes", self.read_bytes.get()),
            ("state_roll", self.state_roll.get()),
        ];
        let times = [
            ("ack_deadline_min", self.ack_deadline_min),
            ("read_retry", self.read_retry),
            ("heartbeat", self.heartbeat),
        ];
        let zero = counts.iter().find(|(_, n)| *n == 0).map(|(field, _)| field);
        let zero = zero.or_else(|| sizes.iter().find(|(_, n)| *n == 0).map(|(field, _)| field));
        let zero = zero.or_else(|| {
            let empty = times.iter().find(|(_, time)| time.is_zero());
            empty.map(|(field, _)| field)
        });
        if let Some(field) = zero {
            return Err(ConfigError::Zero { field });
        }
        let batches = usize::try_from(self.producer_batches_max).unwrap_or(usize::MAX);
        let bounded = [
            (
                batches > self.recent_batches,
                "producer_batches_max",
                "recent_batches",
            ),
            (
                batches > self.receipts_max,
                "producer_batches_max",
                "receipts_max",
            ),
            (
                self.producer_bytes_max > self.in_flight_bytes_max,
                "producer_bytes_max",
                "in_flight_bytes_max",
            ),
            (
                self.ack_deadline_min > self.ack_deadline_max,
                "ack_deadline_min",
                "ack_deadline_max",
            ),
        ];
        if let Some((_, field, bound)) = bounded.into_iter().find(|(wrong, _, _)| *wrong) {
            return Err(ConfigError::Above { field, bound });
        }
        // A producer's record has them all, and a record is never cut.
        if self.recent_batches > 10_000 {
            return Err(ConfigError::Recent {
                value: self.recent_batches,
            });
        }
        let entry = self.state_entry_bytes;
        if entry < ByteSize::kib(64) || entry > ByteSize::mib(4) {
            return Err(ConfigError::StateEntry { value: entry });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn positions_are_kept_for_all_that_may_be_in_flight() {
        let config = Config {
            recent_batches: 1,
            ..Config::default()
        };
        let error = config.validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "must not be above another field=producer_batches_max bound=recent_batches"
        );
    }

    #[test]
    fn zero_and_out_of_range_values_are_named() {
        let zero = Config {
            unacked_max: 0,
            ..Config::default()
        };
        assert_eq!(
            zero.validate(),
            Err(ConfigError::Zero {
                field: "unacked_max"
            })
        );
        let small = Config {
            state_entry_bytes: ByteSize::new(1),
            ..Config::default()
        };
        assert!(matches!(
            small.validate(),
            Err(ConfigError::StateEntry { .. })
        ));
    }
}
