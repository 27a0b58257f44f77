//! An etcd for a cluster's metadata.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::child::Process;
use super::ports::free_addresses;

/// The environment variable that names the etcd to test with.
const BINARY_ENV: &str = "LEDGERLINE_ETCD_BIN";

/// How long it may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(30);

/// An etcd of one member on loopback. Killed when dropped, and its data removed.
#[derive(Debug)]
pub struct Etcd {
    client: SocketAddr,
    _process: Process,
    _dir: TempDir,
}

impl Etcd {
    /// Starts the etcd that `LEDGERLINE_ETCD_BIN` names, or the one on PATH; none where there is none, which is printed.
    ///
    /// # Errors
    ///
    /// When it does not start, and with `CI=true` also when there is none.
    #[expect(
        clippy::print_stdout,
        reason = "the person at the test must know that it did not run"
    )]
    pub fn start() -> anyhow::Result<Option<Self>> {
        let Some(binary) = binary() else {
            let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
            anyhow::ensure!(!is_ci, "no etcd: set {BINARY_ENV} to its binary");
            println!("SKIPPED: no etcd on PATH and none in {BINARY_ENV}");
            return Ok(None);
        };
        let dir = tempfile::Builder::new()
            .prefix("ledgerline-etcd-")
            .tempdir()?;
        let addresses = free_addresses(2)?;
        let (client, peer) = (addresses[0], addresses[1]);
        let (at, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let data = dir.path().join("data").display().to_string();
        let first = format!("default={peer}");
        let arguments = [
            ("--data-dir", data.as_str()),
            ("--log-level", "error"),
            ("--listen-client-urls", &at),
            ("--advertise-client-urls", &at),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &first),
        ];
        let arguments = arguments.iter().flat_map(|(flag, value)| [*flag, *value]);
        let log = dir.path().join("log");
        let mut process = Process::spawn("etcd", &binary, arguments, &log)?;
        process.wait_listening(client, START_LIMIT)?;
        Ok(Some(Self {
            client,
            _process: process,
            _dir: dir,
        }))
    }

    /// Where it answers.
    pub fn endpoint(&self) -> String {
        self.client.to_string()
    }
}

fn binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(BINARY_ENV) {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let mut all = std::env::split_paths(&path).map(|dir| dir.join("etcd"));
    all.find(|file| file.is_file())
}
