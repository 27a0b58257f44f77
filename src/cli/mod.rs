//! The command line: what may be said, and what it does.

mod bench;
mod broker;
pub(crate) mod client;
mod cluster;
mod consume;
mod debug;
mod df;
mod image;
mod ledger;
mod namespace;
mod opening;
mod produce;
mod progress;
pub(crate) mod servers;
pub(crate) mod store;
mod subscription;
mod tenant;
pub(crate) mod threads;
mod topic;
mod values;

use clap::{Parser, Subcommand};

/// Ledgerline: messages that are never lost once they are acked.
///
/// One process for a start: `ledgerline standalone`. A cluster: one `meta`, three `bookie`s, two `serving` nodes; the
/// README has the lines. Every flag can be set in the environment too, as LEDGERLINE_ and its name in capitals.
#[derive(Debug, Parser)]
#[command(
    name = "ledgerline",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// Which log lines to print: `warn`, `info`, `debug`, or per part, such as `info,bookie=debug`.
    #[arg(long, env = "LEDGERLINE_LOG", global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,

    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process: one copy of each message, fsynced.
    Standalone(servers::Standalone),
    /// Run the meta service of a cluster, or put its metadata into a file and back.
    Meta(servers::Meta),
    /// Run a bookie, a storage node of a cluster, or ask a running one what takes its space.
    Bookie(servers::Bookie),
    /// Run a serving node of a cluster: it speaks to clients.
    Serving(servers::Serving),
    // Commands without a line here have a longer one where they are.
    Produce(produce::Produce),
    Consume(consume::Consume),
    /// Make and look at tenants.
    Tenant(tenant::Tenant),
    /// Make and look at namespaces.
    Namespace(namespace::Namespace),
    /// Make and look at topics.
    Topic(topic::Topic),
    /// Make and look at subscriptions.
    Subscription(subscription::Subscription),
    /// Look at a cluster: which nodes there are, what is wrong.
    Cluster(cluster::Cluster),
    Bench(bench::Bench),
    /// Look into a stopped node's files.
    #[command(subcommand)]
    Debug(debug::Debug),
    /// What an operator may do to a ledger that cannot be recovered.
    #[command(subcommand)]
    Ledger(ledger::Ledger),
}

impl Command {
    /// Whether it runs until it is stopped, and logs as it goes.
    pub(crate) const fn is_server(&self) -> bool {
        match self {
            Self::Standalone(_) | Self::Serving(_) => true,
            Self::Meta(it) => it.command.is_none(),
            Self::Bookie(it) => it.command.is_none(),
            _ => false,
        }
    }

    /// Does it.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Standalone(it) => it.run(),
            Self::Meta(it) => it.run(),
            Self::Bookie(it) => it.run(),
            Self::Serving(it) => it.run(),
            Self::Produce(it) => it.run(),
            Self::Consume(it) => it.run(),
            Self::Tenant(it) => it.run(),
            Self::Namespace(it) => it.run(),
            Self::Topic(it) => it.run(),
            Self::Subscription(it) => it.run(),
            Self::Cluster(it) => it.run(),
            Self::Bench(it) => it.run(),
            Self::Debug(it) => it.run(),
            Self::Ledger(it) => it.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_flag_has_its_variable() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let mut waiting = vec![command];
        while let Some(command) = waiting.pop() {
            waiting.extend(command.get_subcommands().cloned());
            for flag in command
                .get_arguments()
                .filter_map(|it| Some((it.get_long()?, it)))
            {
                let (long, flag) = flag;
                if !["help", "version"].contains(&long) {
                    let expected = format!("LEDGERLINE_{}", long.to_uppercase().replace('-', "_"));
                    let variable = flag
                        .get_env()
                        .map(|name| name.to_string_lossy().into_owned());
                    let name = command.get_name();
                    assert_eq!(variable.as_deref(), Some(&*expected), "{name} --{long}");
                }
            }
        }
    }
}
