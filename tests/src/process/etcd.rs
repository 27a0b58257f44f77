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

/// An etcd of some members on loopback. Killed when dropped, and its data removed.
#[derive(Debug)]
pub struct Etcd {
    binary: PathBuf,
    members: Vec<Member>,
    dir: TempDir,
}

#[derive(Debug)]
struct Member {
    client: SocketAddr,
    peer: SocketAddr,
    process: Option<Process>,
    starts: u32,
}

impl Etcd {
    /// Starts an etcd of one member: the program that `LEDGERLINE_ETCD_BIN` names, or the one on PATH; none where there is
    /// none, which is printed.
    ///
    /// # Errors
    ///
    /// When it does not start, and with `CI=true` also when there is none.
    pub fn start() -> anyhow::Result<Option<Self>> {
        Self::of(1)
    }

    /// The same, of so many members.
    ///
    /// # Errors
    ///
    /// As [`Etcd::start`].
    #[expect(
        clippy::print_stdout,
        reason = "the person at the test must know that it did not run"
    )]
    pub fn of(members: usize) -> anyhow::Result<Option<Self>> {
        let Some(binary) = binary() else {
            let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
            anyhow::ensure!(!is_ci, "no etcd: set {BINARY_ENV} to its binary");
            println!("SKIPPED: no etcd on PATH and none in {BINARY_ENV}");
            return Ok(None);
        };
        let dir = tempfile::Builder::new()
            .prefix("ledgerline-etcd-")
            .tempdir()?;
        let addresses = free_addresses(2 * members)?;
        let (clients, peers) = addresses.split_at(members);
        let members = clients.iter().zip(peers).map(|(client, peer)| Member {
            client: *client,
            peer: *peer,
            process: None,
            starts: 0,
        });
        let mut etcd = Self {
            binary,
            members: members.collect(),
            dir,
        };
        // A member answers once most of them are there.
        for member in 0..etcd.members.len() {
            etcd.spawn(member)?;
        }
        for member in 0..etcd.members.len() {
            etcd.wait_listening(member)?;
        }
        Ok(Some(etcd))
    }

    /// Starts a member again that was killed.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn restart(&mut self, member: usize) -> anyhow::Result<()> {
        self.spawn(member)?;
        self.wait_listening(member)
    }

    /// `kill -9` of one member.
    ///
    /// # Errors
    ///
    /// When the signal is refused.
    pub fn kill(&mut self, member: usize) -> anyhow::Result<()> {
        if let Some(mut process) = self.members[member].process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Where it answers: all members, commas between.
    pub fn endpoint(&self) -> String {
        let members = self.members.iter();
        let all: Vec<String> = members.map(|member| member.client.to_string()).collect();
        all.join(",")
    }

    fn spawn(&mut self, index: usize) -> anyhow::Result<()> {
        let named = |index: usize, peer: SocketAddr| format!("m{index}=http://{peer}");
        let all = self.members.iter().enumerate();
        let all: Vec<String> = all.map(|(at, member)| named(at, member.peer)).collect();
        let member = &mut self.members[index];
        member.starts += 1;
        let (client, peer) = (member.client, member.peer);
        let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let name = format!("m{index}");
        let data = self.dir.path().join(&name).display().to_string();
        let cluster = all.join(",");
        let arguments = [
            ("--name", name.as_str()),
            ("--data-dir", data.as_str()),
            ("--log-level", "error"),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &cluster),
        ];
        let arguments = arguments.iter().flat_map(|(flag, value)| [*flag, *value]);
        let log = self
            .dir
            .path()
            .join(format!("{name}.{}.log", member.starts));
        member.process = Some(Process::spawn(&name, &self.binary, arguments, &log)?);
        Ok(())
    }

    fn wait_listening(&mut self, index: usize) -> anyhow::Result<()> {
        let member = &mut self.members[index];
        if let Some(process) = &mut member.process {
            process.wait_listening(member.client, START_LIMIT)?;
        }
        Ok(())
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
