//! The commands that run a role until they are stopped.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use types::{ByteSize, NodeName, Quorum, ZoneName};

use super::broker::Broker;
use super::df::Df;
use super::image::MetaCommand;
use super::store::{StoreArgs, StoreChoice, refuse_of_etcd};
use super::threads::Threads;
use super::values;
use crate::server;

/// Reads where a node is reached: `host:port`.
pub(super) fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("expected HOST:PORT".to_owned()),
    }
}

/// Where the admin port is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminListen {
    /// At `host:port`.
    At(String),
    /// Nowhere.
    Off,
}

/// Reads `host:port`, or `off`.
fn admin_listen(text: &str) -> Result<AdminListen, String> {
    match text {
        "off" => Ok(AdminListen::Off),
        _ => address(text)
            .map(AdminListen::At)
            .map_err(|error| format!("{error}, or off")),
    }
}

/// Reads a comma-separated list of where nodes are reached.
pub(crate) fn addresses(text: &str) -> Result<Addresses, String> {
    let all = text.split(',').map(|one| address(one.trim()));
    let all: Result<Vec<String>, String> = all.collect();
    all.map(Addresses)
        .map_err(|_| "expected HOST:PORT, or several with commas between".to_owned())
}

/// Where the nodes of a kind are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addresses(pub(crate) Vec<String>);

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Run everything in one process.
#[derive(Debug, Args)]
pub(crate) struct Standalone {
    /// Where clients connect. Loopback unless you say otherwise: there is no authentication yet.
    #[arg(
        long,
        env = "LEDGERLINE_LISTEN",
        default_value = "127.0.0.1:7450",
        value_name = "IP:PORT"
    )]
    pub(crate) listen: SocketAddr,

    /// Where it answers GET /metrics, /healthz and /readyz; off for nowhere. Loopback unless you say otherwise.
    #[arg(long, env = "LEDGERLINE_ADMIN_LISTEN", default_value = "127.0.0.1:7480", value_name = "HOST:PORT", value_parser = admin_listen)]
    pub(crate) admin_listen: AdminListen,

    /// Where messages and metadata are kept.
    #[arg(
        long,
        env = "LEDGERLINE_DATA_DIR",
        default_value = "ledgerline-data",
        value_name = "DIR"
    )]
    pub(crate) data_dir: PathBuf,

    /// Where the journal is kept, if it has a disk of its own [default: in the data directory].
    #[arg(long, env = "LEDGERLINE_JOURNAL_DIR", value_name = "DIR")]
    pub(crate) journal_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) storage: Storage,

    #[command(flatten)]
    pub(crate) broker: Broker,

    #[command(flatten)]
    pub(crate) threads: Threads,
}

/// Run the meta service.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Meta {
    /// What to do other than run it.
    #[command(subcommand)]
    pub(crate) command: Option<MetaCommand>,

    /// Where bookies and serving nodes connect.
    #[arg(
        long,
        env = "LEDGERLINE_LISTEN",
        default_value = "127.0.0.1:7460",
        value_name = "IP:PORT"
    )]
    pub(crate) listen: SocketAddr,

    /// Where it answers GET /metrics, /healthz and /readyz; off for nowhere. Loopback unless you say otherwise.
    #[arg(long, env = "LEDGERLINE_ADMIN_LISTEN", default_value = "127.0.0.1:7481", value_name = "HOST:PORT", value_parser = admin_listen)]
    pub(crate) admin_listen: AdminListen,

    #[command(flatten)]
    pub(crate) kept: StoreArgs,

    /// How long a meta process that fell silent stays the active one, in whole seconds; then another takes over
    /// [default: 3s].
    #[arg(long, env = "LEDGERLINE_ETCD_LEASE", value_parser = values::duration, value_name = "TIME")]
    pub(crate) etcd_lease: Option<Duration>,

    /// Where nodes reach it, if that is not where it listens: where those that stand by in etcd send them to.
    #[arg(long, env = "LEDGERLINE_ADVERTISE", value_name = "HOST:PORT", value_parser = address)]
    pub(crate) advertise: Option<String>,

    #[command(flatten)]
    pub(crate) audit: Audit,

    #[command(flatten)]
    pub(crate) threads: Threads,
}

/// How meta watches over the copies of closed ledgers.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// How often the copies of ledgers are looked at, when anything changed.
    #[arg(long, env = "LEDGERLINE_AUDIT_INTERVAL", default_value = "10s", value_parser = values::duration, value_name = "TIME")]
    pub(crate) audit_interval: Duration,

    /// How long a bookie may be away until its copies are made anew on others.
    #[arg(long, env = "LEDGERLINE_REPAIR_GRACE", default_value = "5m", value_parser = values::duration, value_name = "TIME")]
    pub(crate) repair_grace: Duration,

    /// Most copies that move to another bookie at a time.
    #[arg(
        long,
        env = "LEDGERLINE_REPAIR_MOVES",
        default_value = "32",
        value_name = "COUNT"
    )]
    pub(crate) repair_moves: usize,
}

impl Audit {
    /// The numbers for meta.
    pub(crate) const fn config(&self) -> meta::AuditConfig {
        meta::AuditConfig {
            interval: self.audit_interval,
            grace: self.repair_grace,
            moves: self.repair_moves,
        }
    }
}

impl Meta {
    /// Which store, unless the flags contradict each other.
    pub(crate) fn store(&self) -> anyhow::Result<StoreChoice> {
        let choice = self.kept.choose()?;
        match choice {
            StoreChoice::Etcd {
                members,
                prefix,
                lease,
            } => Ok(StoreChoice::Etcd {
                members,
                prefix,
                lease: self.etcd_lease.unwrap_or(lease),
            }),
            embedded @ StoreChoice::Embedded(_) => {
                refuse_of_etcd(&[
                    ("--etcd-lease", self.etcd_lease.is_some()),
                    ("--advertise", self.advertise.is_some()),
                ])?;
                Ok(embedded)
            }
        }
    }
}

/// Run a bookie.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bookie {
    /// What to do other than run one.
    #[command(subcommand)]
    pub(crate) command: Option<BookieCommand>,

    /// The meta service; where there are several processes of it, all of them.
    #[arg(long, env = "LEDGERLINE_META", default_value = "127.0.0.1:7460", value_name = "HOST:PORT,…", value_parser = addresses)]
    pub(crate) meta: Addresses,

    /// The bookie's name. Its disks belong to this name; a blank disk under a known name is a lost one.
    #[arg(long, env = "LEDGERLINE_NAME", default_value = "bookie-1")]
    pub(crate) name: NodeName,

    /// Where serving nodes connect.
    #[arg(
        long,
        env = "LEDGERLINE_LISTEN",
        default_value = "127.0.0.1:7470",
        value_name = "IP:PORT"
    )]
    pub(crate) listen: SocketAddr,

    /// Where it answers GET /metrics, /healthz and /readyz; off for nowhere. Loopback unless you say otherwise.
    #[arg(long, env = "LEDGERLINE_ADMIN_LISTEN", default_value = "127.0.0.1:7482", value_name = "HOST:PORT", value_parser = admin_listen)]
    pub(crate) admin_listen: AdminListen,

    /// Where serving nodes reach it, if that is not where it listens.
    #[arg(long, env = "LEDGERLINE_ADVERTISE", value_name = "HOST:PORT", value_parser = address)]
    pub(crate) advertise: Option<String>,

    /// The rack, room or availability zone that it shares with others. The copies of a ledger are spread over as many zones
    /// as there are; a bookie without one is a zone of its own.
    #[arg(long, env = "LEDGERLINE_ZONE", value_name = "NAME")]
    pub(crate) zone: Option<ZoneName>,

    /// Where entries are kept.
    #[arg(
        long,
        env = "LEDGERLINE_DATA_DIR",
        default_value = "ledgerline-bookie",
        value_name = "DIR"
    )]
    pub(crate) data_dir: PathBuf,

    /// Where the journal is kept, if it has a disk of its own [default: in the data directory].
    #[arg(long, env = "LEDGERLINE_JOURNAL_DIR", value_name = "DIR")]
    pub(crate) journal_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) storage: Storage,

    #[command(flatten)]
    pub(crate) repair: Repair,

    #[command(flatten)]
    pub(crate) threads: Threads,

    /// How long it counts as alive after its last sign of life.
    #[arg(long, env = "LEDGERLINE_LEASE", default_value = "2s", value_parser = values::duration, value_name = "TIME")]
    pub(crate) lease: Duration,
}

/// What may be asked of a running bookie.
#[derive(Debug, Subcommand)]
pub(crate) enum BookieCommand {
    // Its longer line is where it is.
    Df(Df),
}

/// Run a serving node.
#[derive(Debug, Args)]
pub(crate) struct Serving {
    /// The meta service; where there are several processes of it, all of them.
    #[arg(long, env = "LEDGERLINE_META", default_value = "127.0.0.1:7460", value_name = "HOST:PORT,…", value_parser = addresses)]
    pub(crate) meta: Addresses,

    /// The node's name, unique among serving nodes.
    #[arg(long, env = "LEDGERLINE_NAME", default_value = "serving-1")]
    pub(crate) name: NodeName,

    /// Where clients connect. Loopback unless you say otherwise: there is no authentication yet.
    #[arg(
        long,
        env = "LEDGERLINE_LISTEN",
        default_value = "127.0.0.1:7450",
        value_name = "IP:PORT"
    )]
    pub(crate) listen: SocketAddr,

    /// Where it answers GET /metrics, /healthz and /readyz; off for nowhere. Loopback unless you say otherwise.
    #[arg(long, env = "LEDGERLINE_ADMIN_LISTEN", default_value = "127.0.0.1:7480", value_name = "HOST:PORT", value_parser = admin_listen)]
    pub(crate) admin_listen: AdminListen,

    /// Where clients and other serving nodes reach it, if that is not where it listens.
    #[arg(long, env = "LEDGERLINE_ADVERTISE", value_name = "HOST:PORT", value_parser = address)]
    pub(crate) advertise: Option<String>,

    /// The copies of new topics that do not say: written/fsynced before the ack.
    #[arg(long, env = "LEDGERLINE_QUORUM", default_value = "3/2", value_parser = values::quorum, value_name = "WRITE/ACK")]
    pub(crate) quorum: Quorum,

    /// Make a topic that does not exist when somebody uses it.
    #[arg(long, env = "LEDGERLINE_AUTO_CREATE_TOPICS")]
    pub(crate) auto_create_topics: bool,

    /// How long it counts as alive after its last sign of life; then others may take its topics.
    #[arg(long, env = "LEDGERLINE_LEASE", default_value = "2s", value_parser = values::duration, value_name = "TIME")]
    pub(crate) lease: Duration,

    /// How often it looks how topics are spread over the serving nodes, opens those that nobody serves and gives others
    /// away; off to do so only when it is drained.
    #[arg(long, env = "LEDGERLINE_BALANCE_INTERVAL", default_value = "10s", value_parser = values::interval, value_name = "TIME")]
    pub(crate) balance_interval: values::Interval,

    /// Most topics that move away from it at a time.
    #[arg(
        long,
        env = "LEDGERLINE_BALANCE_MOVES",
        default_value = "4",
        value_name = "COUNT"
    )]
    pub(crate) balance_moves: usize,

    /// How long a topic stays where it was opened before it may move for the sake of balance.
    #[arg(long, env = "LEDGERLINE_BALANCE_REST", default_value = "1m", value_parser = values::duration, value_name = "TIME")]
    pub(crate) balance_rest: Duration,

    #[command(flatten)]
    pub(crate) broker: Broker,

    #[command(flatten)]
    pub(crate) threads: Threads,
}

/// How a bookie stores.
#[derive(Debug, Args)]
pub(crate) struct Storage {
    /// Size of a journal file.
    #[arg(
        long,
        env = "LEDGERLINE_JOURNAL_FILE",
        default_value = "256MiB",
        value_name = "SIZE"
    )]
    pub(crate) journal_file: ByteSize,

    /// Free space below which a bookie takes no new entries. Reads, fences and recovery go on.
    #[arg(
        long,
        env = "LEDGERLINE_FREE_LOW",
        default_value = "1GiB",
        value_name = "SIZE"
    )]
    pub(crate) free_low: ByteSize,

    /// How often a bookie asks meta which of its ledgers are trimmed, deleted or moved away, to give their space back.
    #[arg(long, env = "LEDGERLINE_RECLAIM_INTERVAL", default_value = "30s", value_parser = values::duration, value_name = "TIME")]
    pub(crate) reclaim_interval: Duration,

    /// A data file with less than this percentage of its bytes live is rewritten without the rest; 0 rewrites none.
    #[arg(long, env = "LEDGERLINE_REWRITE_BELOW", default_value_t = 50, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(0..=90))]
    pub(crate) rewrite_below: u64,

    /// How often a bookie reads all its data files through to find damage, or off. What is damaged is made good from other
    /// bookies.
    #[arg(long, env = "LEDGERLINE_SCRUB_INTERVAL", default_value = "7d", value_parser = values::interval, value_name = "TIME")]
    pub(crate) scrub_interval: values::Interval,

    /// Most bytes that it reads for that in a second.
    #[arg(
        long,
        env = "LEDGERLINE_SCRUB_RATE",
        default_value = "16MiB",
        value_name = "SIZE"
    )]
    pub(crate) scrub_rate: ByteSize,

    /// Memory for what was read of data files, which go past the system's cache: what a second reader finds there does
    /// not come from the disk. Below 18MiB nothing is read ahead.
    #[arg(
        long,
        env = "LEDGERLINE_READ_CACHE",
        default_value = "128MiB",
        value_name = "SIZE"
    )]
    pub(crate) read_cache: ByteSize,
}

/// How a bookie repairs its copies of ledgers.
#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// How often meta is asked which copies are to be completed, when there were none.
    #[arg(long, env = "LEDGERLINE_REPAIR_INTERVAL", default_value = "10s", value_parser = values::duration, value_name = "TIME")]
    pub(crate) repair_interval: Duration,

    /// Most bytes copied from other bookies in a second.
    #[arg(
        long,
        env = "LEDGERLINE_REPAIR_RATE",
        default_value = "64MiB",
        value_name = "SIZE"
    )]
    pub(crate) repair_rate: ByteSize,
}

impl Serving {
    /// The numbers for spreading topics.
    pub(crate) const fn balance(&self) -> serving::BalanceConfig {
        serving::BalanceConfig {
            interval: self.balance_interval.0,
            moves: self.balance_moves,
            rest: self.balance_rest,
        }
    }
}

impl Repair {
    /// The numbers for the bookie.
    pub(crate) const fn config(&self) -> bookie::RepairConfig {
        bookie::RepairConfig {
            interval: self.repair_interval,
            rate: self.repair_rate,
        }
    }
}

impl Standalone {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        server::run(self.threads, server::standalone(self))
    }
}

impl Meta {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Some(command) => command.run(),
            None => server::run(self.threads, server::meta(self)),
        }
    }
}

impl Bookie {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Some(BookieCommand::Df(it)) => it.run(),
            None => server::run(self.threads, server::bookie(self)),
        }
    }
}

impl Serving {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        server::run(self.threads, server::serving(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_people_write_them() {
        assert!(address("a:1").is_ok());
        for bad in ["a", ":1", "a:b", "a:70000"] {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert_eq!(admin_listen("off"), Ok(AdminListen::Off));
        let at = AdminListen::At("localhost:1".to_owned());
        assert_eq!(admin_listen("localhost:1"), Ok(at));
        assert!(admin_listen("on").unwrap_err().ends_with("or off"));
    }
}
