//! The flags of whoever serves topics: a serving node, or a process with every role.

use std::time::Duration;

use clap::Args;
use ledgerline_client::ByteSize;

use super::topic::RetentionArgs;
use super::values;

/// How a serving node serves.
#[derive(Debug, Args)]
pub(crate) struct Broker {
    /// Memory for messages between clients and bookies. When it is used up, publishers are told OVERLOADED.
    #[arg(
        long,
        env = "LEDGERLINE_MEMORY",
        default_value = "256MiB",
        value_name = "SIZE"
    )]
    memory: ByteSize,

    /// Memory for the newest messages of all topics, from which subscriptions at the end of their topic are served.
    #[arg(
        long,
        env = "LEDGERLINE_TAIL_MEMORY",
        default_value = "64MiB",
        value_name = "SIZE"
    )]
    tail_memory: ByteSize,

    /// How many times as large as it came a compressed batch of more than 1 MiB may be once it is opened. Producers are
    /// told, and send beyond it as it is.
    #[arg(
        long,
        env = "LEDGERLINE_COMPRESSION_RATIO_MAX",
        default_value_t = 100,
        value_name = "TIMES"
    )]
    compression_ratio_max: u32,

    /// How long messages stay of topics that do not say.
    #[command(flatten)]
    retention: RetentionArgs,

    /// How often each topic is looked at for messages that may go.
    #[arg(long, env = "LEDGERLINE_TRIM_INTERVAL", default_value = "30s", value_parser = values::duration, value_name = "TIME")]
    trim_interval: Duration,

    /// Do not describe the API to tools such as grpcurl.
    #[arg(long, env = "LEDGERLINE_NO_REFLECTION")]
    no_reflection: bool,
}

impl Broker {
    /// Sets a node up so.
    pub(crate) fn set(&self, config: &mut serving::ServingConfig) {
        config.memory = self.memory;
        config.tail_memory = self.tail_memory;
        config.compression_ratio_max = self.compression_ratio_max;
        config.retention = self
            .retention
            .over(config.retention)
            .unwrap_or(config.retention);
        config.shard.trim_interval = self.trim_interval;
        config.reflection = !self.no_reflection;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        broker: Broker,
    }

    fn config(flags: &[&str]) -> serving::ServingConfig {
        let address = host::net::Address::new("127.0.0.1:0");
        let mut config = serving::ServingConfig::new("a".parse().unwrap(), address);
        let words = std::iter::once("serving").chain(flags.iter().copied());
        Command::parse_from(words).broker.set(&mut config);
        config
    }

    #[test]
    fn the_highest_compression_ratio_is_set_and_without_a_word_is_the_servers_default() {
        let address = host::net::Address::new("127.0.0.1:0");
        let default = serving::ServingConfig::new("a".parse().unwrap(), address);
        let ratio = |flags: &[&str]| config(flags).compression_ratio_max;
        assert_eq!(ratio(&[]), default.compression_ratio_max);
        assert_eq!(ratio(&["--compression-ratio-max", "1000"]), 1_000);
    }

    #[test]
    fn a_compression_ratio_of_nothing_is_refused_by_the_name_of_its_flag() {
        let refused = config(&["--compression-ratio-max", "0"]).validate();
        let said = refused.unwrap_err().to_string();
        assert!(
            said.contains("--compression-ratio-max must be at least 1"),
            "{said}"
        );
        assert_eq!(config(&["--compression-ratio-max", "1"]).validate(), Ok(()));
    }
}
