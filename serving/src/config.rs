//! What a serving node is told about itself.

use std::time::Duration;

use types::{ByteSize, NodeName, Quorum};

/// A serving node.
#[derive(Debug, Clone)]
pub struct ServingConfig {
    /// Its name, unique among the serving nodes of the cluster.
    pub name: NodeName,
    /// Where it listens for clients: `host:port`.
    pub listen: host::net::Address,
    /// Where clients and other serving nodes reach it: `http://host:port`. None: where it listens.
    pub advertise: Option<String>,
    /// Make a topic that does not exist when somebody publishes to it or subscribes to it.
    pub auto_create_topics: bool,
    /// The quorum of topics that do not name one.
    pub quorum: Quorum,
    /// How long messages stay of topics that do not name it.
    pub retention: types::topic::Retention,
    /// How long the node counts as alive after a keep-alive: after that others may take its shards.
    pub lease: Duration,
    /// Most bytes of messages in memory between clients and bookies.
    pub memory: ByteSize,
    /// Most bytes of the newest entries of all topics in memory, for subscriptions at their ends.
    pub tail_memory: ByteSize,
    /// How long a request waits for a shard that is being opened before it is told to try again.
    pub open_timeout: Duration,
    /// How long a stop waits for what is in flight.
    pub drain_timeout: Duration,
    /// Serve the descriptors of the API to tools such as grpcurl.
    pub reflection: bool,
    /// The largest message, in bytes.
    pub message_max: ByteSize,
    /// The largest batch, in bytes.
    pub batch_max: ByteSize,
    /// How many times as large as it came a compressed batch of more than 1 MiB may be once it is opened.
    pub compression_ratio_max: u32,
    /// Shards.
    pub shard: crate::shard::ShardConfig,
    /// How shards are spread over the serving nodes.
    pub balance: crate::balance::BalanceConfig,
}

/// Why a [`ServingConfig`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServingConfigError {
    /// A lease that is too short would expire between two keep-alives of a busy node, one too long keeps its shards
    /// from others after it died.
    #[error("--lease must be 500ms to 60s lease={lease:?}")]
    Lease {
        /// The lease.
        lease: Duration,
    },
    /// A batch holds at least a message and fits into an entry.
    #[error("the limits must hold 1 <= message <= batch <= {most} message={message} batch={batch}", most = ServingConfig::BATCH_MOST)]
    Sizes {
        /// The largest message.
        message: ByteSize,
        /// The largest batch.
        batch: ByteSize,
    },
    /// Clients hear a ratio of 0 as a server that takes no compressed batches.
    #[error(
        "--compression-ratio-max must be at least 1, not 0; with 1 batches above 1 MiB are sent as they are"
    )]
    Ratio,
    /// A value of the shards' part.
    #[error(transparent)]
    Shard(#[from] crate::shard::ShardConfigError),
    /// A value of how shards are spread.
    #[error(transparent)]
    Balance(#[from] crate::balance::BalanceConfigError),
    /// A budget below a few batches serves nobody.
    #[error("--memory must be at least {least}, four batches memory={memory}", least = ByteSize::new(batch.get() * 4))]
    Memory {
        /// The budget.
        memory: ByteSize,
        /// The largest batch.
        batch: ByteSize,
    },
}

impl ServingConfig {
    /// The largest batch that can be set: what an entry holds.
    pub const BATCH_MOST: ByteSize = ByteSize::mib(8);

    /// The defaults of a node of this name at this address.
    pub fn new(name: NodeName, listen: host::net::Address) -> Self {
        Self {
            name,
            listen,
            advertise: None,
            auto_create_topics: false,
            quorum: Quorum::THREE_TWO,
            retention: types::topic::Retention::DEFAULT,
            lease: Duration::from_secs(2),
            memory: ByteSize::mib(256),
            tail_memory: ByteSize::mib(64),
            open_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
            reflection: true,
            message_max: ByteSize::mib(5),
            batch_max: Self::BATCH_MOST,
            compression_ratio_max: 100,
            shard: crate::shard::ShardConfig::default(),
            balance: crate::balance::BalanceConfig::default(),
        }
    }

    /// What a batch may hold.
    pub(crate) fn batch_limits(&self) -> types::batch::Limits {
        types::batch::Limits {
            message_bytes_max: self.message_max.as_usize(),
            batch_bytes_max: self.batch_max.as_usize(),
            ..types::batch::Limits::default()
        }
    }

    /// What a compressed batch may hold.
    pub(crate) fn compressed_limits(&self) -> compression::Limits {
        compression::Limits {
            batch: self.batch_limits(),
            ratio_max: self.compression_ratio_max,
        }
    }

    /// Checks the bounds.
    ///
    /// # Errors
    ///
    /// [`ServingConfigError`] names the setting.
    pub fn validate(&self) -> Result<(), ServingConfigError> {
        self.shard.validate()?;
        self.balance.validate()?;
        let lease = self.lease;
        if lease < Duration::from_millis(500) || lease > Duration::from_secs(60) {
            return Err(ServingConfigError::Lease { lease });
        }
        let (message, batch) = (self.message_max, self.batch_max);
        if message.get() == 0 || message > batch || batch > Self::BATCH_MOST {
            return Err(ServingConfigError::Sizes { message, batch });
        }
        if self.compression_ratio_max == 0 {
            return Err(ServingConfigError::Ratio);
        }
        if self.memory.get() < batch.get() * 4 {
            return Err(ServingConfigError::Memory {
                memory: self.memory,
                batch,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_and_bounds_are_named() {
        let address = host::net::Address::new("127.0.0.1:0");
        let config = ServingConfig::new("a".parse().unwrap(), address);
        assert_eq!(config.validate(), Ok(()));
        let lease = Duration::from_millis(10);
        let short = ServingConfig {
            lease,
            ..config.clone()
        };
        assert_eq!(short.validate(), Err(ServingConfigError::Lease { lease }));
        let memory = ByteSize::mib(1);
        let small = ServingConfig {
            memory,
            ..config.clone()
        };
        assert!(matches!(
            small.validate(),
            Err(ServingConfigError::Memory { .. })
        ));
        let said = small.validate().unwrap_err().to_string();
        assert!(said.contains("--memory must be at least 32MiB"), "{said}");
        let none = ServingConfig {
            compression_ratio_max: 0,
            ..config.clone()
        };
        assert_eq!(none.validate(), Err(ServingConfigError::Ratio));
        let wide = ServingConfig {
            batch_max: ByteSize::mib(9),
            ..config
        };
        assert!(matches!(
            wide.validate(),
            Err(ServingConfigError::Sizes { .. })
        ));
    }
}
