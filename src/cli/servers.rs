//! The commands that run a role until they are stopped.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use types::{ByteSize, NodeName, Quorum};

use crate::server;

/// Reads `3/2`.
fn quorum(text: &str) -> Result<Quorum, String> {
    let expected = "expected WRITE/ACK, such as 3/2: copies written, copies fsynced before the ack";
    let (write, ack) = text.split_once('/').ok_or(expected)?;
    let (write, ack) = (write.parse(), ack.parse());
    let (Ok(write), Ok(ack)) = (write, ack) else {
        return Err(expected.to_owned());
    };
    Quorum::new(write, ack).map_err(|error| error.to_string())
}

/// Reads `2s`, `500ms`, `1m`.
fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a number with ms, s or m, such as 500ms or 2s";
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(0));
    let count: u64 = digits.parse().map_err(|_| expected)?;
    match unit {
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "m" if count <= 1_000_000 => Ok(Duration::from_secs(count * 60)),
        _ => Err(expected.to_owned()),
    }
}

/// Reads where a node is reached: `host:port`.
fn address(text: &str) -> Result<String, String> {
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

/// Where metadata is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MetaStore {
    /// On this machine's disk, for one meta process.
    Embedded,
    /// In etcd, for any number of meta processes: one is active, the others stand by.
    Etcd,
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
}

/// Run the meta service.
#[derive(Debug, Args)]
pub(crate) struct Meta {
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

    /// Where the metadata is kept.
    #[arg(
        long,
        env = "LEDGERLINE_STORE",
        default_value = "embedded",
        value_enum,
        value_name = "STORE"
    )]
    pub(crate) store: MetaStore,

    /// The directory of the embedded store [default: ledgerline-meta].
    #[arg(long, env = "LEDGERLINE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// The members of etcd, with `--store etcd`. Any of them answers; name all.
    #[arg(long, env = "LEDGERLINE_ETCD", value_name = "HOST:PORT,…", value_parser = addresses)]
    pub(crate) etcd: Option<Addresses>,

    /// What the cluster's keys in etcd begin with, the same for all its meta processes and no other cluster's
    /// [default: /ledgerline/main/].
    #[arg(long, env = "LEDGERLINE_ETCD_PREFIX", value_name = "/PREFIX/")]
    pub(crate) etcd_prefix: Option<String>,

    /// How long a meta process that fell silent stays the active one, in whole seconds; then another takes over
    /// [default: 3s].
    #[arg(long, env = "LEDGERLINE_ETCD_LEASE", value_parser = duration, value_name = "TIME")]
    pub(crate) etcd_lease: Option<Duration>,

    /// Where nodes reach it, if that is not where it listens: where those that stand by in etcd send them to.
    #[arg(long, env = "LEDGERLINE_ADVERTISE", value_name = "HOST:PORT", value_parser = address)]
    pub(crate) advertise: Option<String>,
}

/// The store that flags ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreChoice {
    /// A directory.
    Embedded(PathBuf),
    /// etcd.
    Etcd {
        members: Addresses,
        prefix: String,
        lease: Duration,
    },
}

impl Meta {
    /// Which store, unless the flags contradict each other.
    pub(crate) fn store(&self) -> anyhow::Result<StoreChoice> {
        if self.store == MetaStore::Etcd {
            anyhow::ensure!(
                self.data_dir.is_none(),
                "--data-dir is of the embedded store: leave it out with --store etcd"
            );
            let members = self.etcd.clone();
            let members = members
                .context("--store etcd needs its members: --etcd HOST:PORT,… or LEDGERLINE_ETCD")?;
            return Ok(StoreChoice::Etcd {
                members,
                prefix: self
                    .etcd_prefix
                    .clone()
                    .unwrap_or_else(|| "/ledgerline/main/".to_owned()),
                lease: self.etcd_lease.unwrap_or(Duration::from_secs(3)),
            });
        }
        for (flag, is_given) in [
            ("--etcd", self.etcd.is_some()),
            ("--etcd-prefix", self.etcd_prefix.is_some()),
            ("--etcd-lease", self.etcd_lease.is_some()),
            ("--advertise", self.advertise.is_some()),
        ] {
            anyhow::ensure!(
                !is_given,
                "{flag} means nothing to the embedded store: add --store etcd, or leave it out"
            );
        }
        let default = || PathBuf::from("ledgerline-meta");
        let dir = self.data_dir.clone().unwrap_or_else(default);
        Ok(StoreChoice::Embedded(dir))
    }
}

/// Run a bookie.
#[derive(Debug, Args)]
pub(crate) struct Bookie {
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

    /// How long it counts as alive after its last sign of life.
    #[arg(long, env = "LEDGERLINE_LEASE", default_value = "2s", value_parser = duration, value_name = "TIME")]
    pub(crate) lease: Duration,
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
    #[arg(long, env = "LEDGERLINE_QUORUM", default_value = "3/2", value_parser = quorum, value_name = "WRITE/ACK")]
    pub(crate) quorum: Quorum,

    /// Make a topic that does not exist when somebody uses it.
    #[arg(long, env = "LEDGERLINE_AUTO_CREATE_TOPICS")]
    pub(crate) auto_create_topics: bool,

    /// How long it counts as alive after its last sign of life; then others may take its topics.
    #[arg(long, env = "LEDGERLINE_LEASE", default_value = "2s", value_parser = duration, value_name = "TIME")]
    pub(crate) lease: Duration,

    #[command(flatten)]
    pub(crate) broker: Broker,
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

    /// Memory for blocks that were read.
    #[arg(
        long,
        env = "LEDGERLINE_READ_CACHE",
        default_value = "128MiB",
        value_name = "SIZE"
    )]
    pub(crate) read_cache: ByteSize,
}

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
    pub(crate) memory: ByteSize,

    /// Do not describe the API to tools such as grpcurl.
    #[arg(long, env = "LEDGERLINE_NO_REFLECTION")]
    pub(crate) no_reflection: bool,
}

impl Standalone {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        server::run(server::standalone(self))
    }
}

impl Meta {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        server::run(server::meta(self))
    }
}

impl Bookie {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        server::run(server::bookie(self))
    }
}

impl Serving {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        server::run(server::serving(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the flags of `meta` ask for.
    fn store(flags: &[&str]) -> anyhow::Result<StoreChoice> {
        let line = ["ledgerline", "meta"].iter().chain(flags);
        let cli = <crate::cli::Cli as clap::Parser>::try_parse_from(line)?;
        match cli.command {
            crate::cli::Command::Meta(meta) => meta.store(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn store_of_meta_is_what_the_flags_say_and_contradictions_are_refused() {
        let embedded = StoreChoice::Embedded("ledgerline-meta".into());
        assert_eq!(store(&[]).unwrap(), embedded);
        let etcd = store(&["--store", "etcd", "--etcd", "a:1, b:2"]).unwrap();
        let wanted = StoreChoice::Etcd {
            members: Addresses(vec!["a:1".to_owned(), "b:2".to_owned()]),
            prefix: "/ledgerline/main/".to_owned(),
            lease: Duration::from_secs(3),
        };
        assert_eq!(etcd, wanted);
        for (flags, blamed) in [
            (&["--store", "etcd"][..], "--etcd"),
            (&["--etcd", "a:1"], "--store etcd"),
            (&["--etcd-prefix", "/a/"], "--etcd-prefix"),
            (&["--etcd-lease", "3s"], "--etcd-lease"),
            (&["--advertise", "a:1"], "--advertise"),
            (
                &["--store", "etcd", "--etcd", "a:1", "--data-dir", "d"],
                "--data-dir",
            ),
            (&["--store", "etcd", "--etcd", "a:1,,b:2"], "HOST:PORT"),
            (&["--store", "redis"], "embedded, etcd"),
        ] {
            let error = store(flags).unwrap_err().to_string();
            assert!(error.contains(blamed), "{flags:?}: {error}");
        }
    }

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!(quorum("3/2"), Ok(Quorum::THREE_TWO));
        assert!(quorum("2/2").unwrap_err().contains("below write"));
        assert!(quorum("3").unwrap_err().contains("such as 3/2"));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        for bad in ["", "2", "s", "2h", "-1s", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
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
