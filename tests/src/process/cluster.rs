//! Nodes by name.
#![expect(
    clippy::disallowed_methods,
    reason = "the harness makes the real directories its nodes live in"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

use super::child::Process;
use super::commands::{Node, Role};
use super::network::{Network, TEST};
use super::ports::free_addresses;
use super::tool::Tool;
use crate::history::{Event, Fault, HistoryWriter, Name, Phase};

/// How long a node may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How long a command may take.
const ASK_LIMIT: Duration = Duration::from_secs(20);

/// How long a node may take to end when asked.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// The nodes of a test, and the processes they are at the moment.
pub struct Cluster {
    binary: PathBuf,
    nodes: BTreeMap<String, Node>,
    /// The spawn table: who runs now. Only pids in here are ever signalled.
    running: BTreeMap<String, Process>,
    starts: BTreeMap<String, u32>,
    history: Option<HistoryWriter>,
    /// Dropped after the processes in it.
    network: Option<Network>,
    /// Dropped last, after the processes.
    dir: Option<TempDir>,
}

impl Cluster {
    /// Lays out one meta node `meta`, bookies `bookie-1` … and serving nodes `serving-1` … Nothing runs yet.
    ///
    /// # Errors
    ///
    /// When directories or ports cannot be had.
    pub fn separate(binary: &Path, bookies: usize, serving: usize) -> anyhow::Result<Self> {
        Self::laid_out(binary, None, &["meta".to_owned()], bookies, serving)
    }

    /// The same with meta nodes `meta-1` … on an etcd that runs.
    ///
    /// # Errors
    ///
    /// As [`Cluster::separate`].
    pub fn on_etcd(
        binary: &Path,
        etcd: &str,
        metas: usize,
        bookies: usize,
        serving: usize,
    ) -> anyhow::Result<Self> {
        let metas: Vec<String> = (1..=metas).map(|n| format!("meta-{n}")).collect();
        Self::laid_out(binary, Some(etcd), &metas, bookies, serving)
    }

    fn laid_out(
        binary: &Path,
        etcd: Option<&str>,
        metas: &[String],
        bookies: usize,
        serving: usize,
    ) -> anyhow::Result<Self> {
        let names = names(metas, bookies, serving);
        let addresses = free_addresses(names.len())?;
        let mut cluster = Self::empty(binary)?;
        cluster.add_all(names.into_iter().zip(addresses).collect())?;
        for name in metas {
            cluster.node(name)?.etcd = etcd.map(ToOwned::to_owned);
        }
        Ok(cluster)
    }

    /// As [`Cluster::separate`], each node in a network of its own; none where the machine does not permit it.
    ///
    /// # Errors
    ///
    /// As [`Cluster::separate`].
    pub fn in_network(
        binary: &Path,
        bookies: usize,
        serving: usize,
    ) -> anyhow::Result<Option<Self>> {
        let names = names(&["meta".to_owned()], bookies, serving);
        let all: Vec<String> = names.iter().map(|(_, name)| name.clone()).collect();
        let Some(network) = Network::lay_out(&all)? else {
            return Ok(None);
        };
        let mut cluster = Self::empty(binary)?;
        let mut nodes = Vec::new();
        for (role, name) in names {
            let address = network.address(&name)?;
            nodes.push(((role, name), address));
        }
        cluster.add_all(nodes)?;
        for name in all {
            cluster.node(&name)?.wrapper = network.command(&name);
        }
        cluster.network = Some(network);
        Ok(Some(cluster))
    }

    /// Drops what goes from one node to another from now on; see [`Network::cut`].
    ///
    /// # Errors
    ///
    /// Where nodes have no networks of their own.
    pub fn cut(&mut self, from: &str, to: &str) -> anyhow::Result<()> {
        self.note("cut", &format!("{from}>{to}"), Phase::Start);
        let network = self.network.as_mut();
        network.context("the nodes share a network")?.cut(from, to)
    }

    /// Drops everything from and to a node, from and to the test too.
    ///
    /// # Errors
    ///
    /// As [`Cluster::cut`].
    pub fn isolate(&mut self, name: &str) -> anyhow::Result<()> {
        let mut others: Vec<String> = self.nodes.keys().cloned().collect();
        others.push(TEST.to_owned());
        for other in others.iter().filter(|other| *other != name) {
            self.cut(name, other)?;
            self.cut(other, name)?;
        }
        Ok(())
    }

    /// Lets everything through again.
    ///
    /// # Errors
    ///
    /// As [`Cluster::cut`].
    pub fn heal(&mut self) -> anyhow::Result<()> {
        let network = self.network.as_mut();
        network.context("the nodes share a network")?.heal()?;
        self.note("cut", "all", Phase::Stop);
        Ok(())
    }

    /// Adds nodes with their addresses, meta's among them.
    fn add_all(&mut self, nodes: Vec<((Role, String), SocketAddr)>) -> anyhow::Result<()> {
        let meta = nodes.iter().filter(|((role, _), _)| *role == Role::Meta);
        let meta: Vec<SocketAddr> = meta.map(|(_, address)| *address).collect();
        for ((role, name), address) in nodes {
            let known: &[SocketAddr] = if role == Role::Meta { &[] } else { &meta };
            self.add(role, name, address, known)?;
        }
        Ok(())
    }

    /// Lays out one process with all roles, `standalone`.
    ///
    /// # Errors
    ///
    /// As [`Cluster::separate`].
    pub fn standalone(binary: &Path) -> anyhow::Result<Self> {
        let mut cluster = Self::empty(binary)?;
        let address = *free_addresses(1)?.first().context("one address")?;
        cluster.add(Role::Standalone, "standalone".to_owned(), address, &[])?;
        Ok(cluster)
    }

    fn empty(binary: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("ledgerline-").tempdir()?;
        std::fs::create_dir_all(dir.path().join("logs"))?;
        Ok(Self {
            binary: binary.to_owned(),
            nodes: BTreeMap::new(),
            running: BTreeMap::new(),
            starts: BTreeMap::new(),
            history: None,
            network: None,
            dir: Some(dir),
        })
    }

    fn add(
        &mut self,
        role: Role,
        name: String,
        listen: SocketAddr,
        meta: &[SocketAddr],
    ) -> anyhow::Result<()> {
        let data_dir = self.dir().join("data").join(&name);
        std::fs::create_dir_all(&data_dir)?;
        let node = Node {
            role,
            name: name.clone(),
            listen,
            data_dir,
            meta: meta.to_vec(),
            etcd: None,
            extra: Vec::new(),
            wrapper: Vec::new(),
        };
        self.nodes.insert(name, node);
        Ok(())
    }

    /// Adds a meta node on an etcd. The other nodes know of it from their next start on.
    ///
    /// # Errors
    ///
    /// When a directory or a port cannot be had.
    pub fn add_meta(&mut self, name: &str, etcd: &str) -> anyhow::Result<()> {
        let address = *free_addresses(1)?.first().context("one address")?;
        self.add(Role::Meta, name.to_owned(), address, &[])?;
        self.node(name)?.etcd = Some(etcd.to_owned());
        for node in self.nodes.values_mut() {
            if node.role != Role::Meta {
                node.meta.push(address);
            }
        }
        Ok(())
    }

    /// Writes faults to this history from now on.
    pub fn record_faults(&mut self, history: HistoryWriter) {
        self.history = Some(history);
    }

    /// The folder with everything of this cluster.
    ///
    /// # Panics
    ///
    /// Never: it is there until the cluster is dropped.
    pub fn dir(&self) -> &Path {
        let dir = self.dir.as_ref();
        dir.expect("the directory lives as long as the cluster")
            .path()
    }

    /// The nodes of a role, by name.
    pub fn nodes(&self, role: Role) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(move |node| node.role == role)
    }

    /// A node, to change its arguments before it starts.
    ///
    /// # Errors
    ///
    /// When there is no such node.
    pub fn node(&mut self, name: &str) -> anyhow::Result<&mut Node> {
        self.nodes
            .get_mut(name)
            .with_context(|| format!("no node {name}"))
    }

    /// The process that a node is now.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn process(&mut self, name: &str) -> anyhow::Result<&mut Process> {
        self.running
            .get_mut(name)
            .with_context(|| format!("{name} does not run"))
    }

    /// The spawn table: who runs, with which pid.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        let pids = self.running.iter().map(|(name, p)| (name.clone(), p.pid()));
        pids.collect()
    }

    /// Asks the cluster by the command line, such as `cluster nodes`: what it answers as JSON.
    ///
    /// # Errors
    ///
    /// The command's, with what it said.
    pub fn ask(&self, line: &str) -> anyhow::Result<serde_json::Value> {
        let servers: Vec<String> = self.nodes(Role::Serving).map(Node::endpoint).collect();
        let servers = servers.join(",");
        let words = line
            .split_whitespace()
            .chain(["--json", "--server", &servers]);
        let ended = Tool::new(&self.binary)?.run(words, ASK_LIMIT)?;
        anyhow::ensure!(ended.code == Some(0), "{line}: {}", ended.stderr);
        Ok(serde_json::from_str(&ended.text())?)
    }

    /// Starts a node and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it runs already, cannot be started, ends, or does not listen in time; with the end of its log.
    pub fn start(&mut self, name: &str) -> anyhow::Result<()> {
        let address = self.spawn(name)?;
        self.process(name)?.wait_listening(address, START_LIMIT)?;
        Ok(())
    }

    /// Starts every node that does not run, meta first, and waits until all listen.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        let mut names: Vec<(Role, String)> = self
            .nodes
            .values()
            .filter(|node| !self.running.contains_key(&node.name))
            .map(|node| (node.role, node.name.clone()))
            .collect();
        // The order of `Role`: meta, bookies, serving.
        names.sort();
        let mut started = Vec::new();
        for (role, name) in names {
            if role == Role::Meta {
                self.start(&name)?;
            } else {
                started.push((self.spawn(&name)?, name));
            }
        }
        for (address, name) in started {
            self.process(&name)?.wait_listening(address, START_LIMIT)?;
        }
        Ok(())
    }

    /// Waits until every node that runs says that it is ready.
    ///
    /// # Errors
    ///
    /// When one ends, or does not say it in time; with the end of its log.
    pub fn wait_ready(&mut self) -> anyhow::Result<()> {
        for process in self.running.values_mut() {
            process.wait_saying(" is ready", START_LIMIT)?;
        }
        Ok(())
    }

    fn spawn(&mut self, name: &str) -> anyhow::Result<SocketAddr> {
        if self.running.get_mut(name).is_some_and(Process::is_running) {
            anyhow::bail!("{name} runs already");
        }
        let node = self
            .nodes
            .get(name)
            .with_context(|| format!("no node {name}"))?;
        let start = self.starts.entry(name.to_owned()).or_default();
        *start += 1;
        let log = self
            .dir()
            .join("logs")
            .join(format!("{name}.{}.log", self.starts[name]));
        let (program, arguments) = node.command(&self.binary);
        let process = Process::spawn(name, &program, arguments, &log)?;
        let address = node.listen;
        self.running.insert(name.to_owned(), process);
        if self.starts[name] > 1 {
            self.note("kill", name, Phase::Stop);
        }
        Ok(address)
    }

    /// `kill -9` of one node.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        self.process(name)?;
        self.note("kill", name, Phase::Start);
        self.process(name)?.kill()?;
        self.running.remove(name);
        Ok(())
    }

    /// `kill -9` of one node, and everything on its disks is gone.
    ///
    /// # Errors
    ///
    /// When it does not run, or its directory cannot be emptied.
    pub fn wipe(&mut self, name: &str) -> anyhow::Result<()> {
        self.kill(name)?;
        let dir = self.node(name)?.data_dir.clone();
        std::fs::remove_dir_all(&dir)?;
        Ok(std::fs::create_dir_all(&dir)?)
    }

    /// `kill -9` of all, at once.
    ///
    /// # Errors
    ///
    /// When one cannot be killed.
    pub fn kill_all(&mut self) -> anyhow::Result<()> {
        for name in self.pids().into_keys() {
            self.note("kill", &name, Phase::Start);
        }
        // All signals first: none of them sees another one die.
        for process in self.running.values_mut() {
            process.begin_kill()?;
        }
        for process in self.running.values_mut() {
            process.kill()?;
        }
        self.running.clear();
        Ok(())
    }

    /// Freezes one node (SIGSTOP).
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn pause(&mut self, name: &str) -> anyhow::Result<()> {
        self.process(name)?;
        self.note("pause", name, Phase::Start);
        Ok(self.process(name)?.pause()?)
    }

    /// Thaws one node (SIGCONT).
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn resume(&mut self, name: &str) -> anyhow::Result<()> {
        self.process(name)?.resume()?;
        self.note("pause", name, Phase::Stop);
        Ok(())
    }

    /// Ends one node as an orchestrator does (SIGTERM), and waits for it.
    ///
    /// # Errors
    ///
    /// When it does not run, does not end in time, or ends with an error.
    pub fn stop(&mut self, name: &str) -> anyhow::Result<()> {
        self.process(name)?;
        self.note("stop", name, Phase::Start);
        let status = self.process(name)?.stop(STOP_LIMIT)?;
        self.running.remove(name);
        self.note("stop", name, Phase::Stop);
        anyhow::ensure!(status.success(), "{name} ended with {status}");
        Ok(())
    }

    /// Writes to the history that something beside the cluster's own nodes was killed, or came back.
    pub fn note_kill(&self, what: &str, phase: Phase) {
        self.note("kill", what, phase);
    }

    fn note(&self, fault: &str, node: &str, phase: Phase) {
        if let Some(history) = &self.history {
            history.record(&Event::Nem(Fault {
                f: Name::from(fault),
                x: Name::from(node),
                ph: phase,
                t: Some(history.now()),
            }));
        }
    }
}

/// The nodes of a cluster: these of meta, bookies `bookie-1` …, serving nodes `serving-1` …
fn names(metas: &[String], bookies: usize, serving: usize) -> Vec<(Role, String)> {
    let metas = metas.iter().map(|name| (Role::Meta, name.clone()));
    let bookies = (1..=bookies).map(|n| (Role::Bookie, format!("bookie-{n}")));
    let serving = (1..=serving).map(|n| (Role::Serving, format!("serving-{n}")));
    metas.chain(bookies).chain(serving).collect()
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("dir", &self.dir)
            .field("running", &self.pids())
            .finish_non_exhaustive()
    }
}

impl Drop for Cluster {
    #[expect(
        clippy::print_stderr,
        reason = "the person at a failed test needs the path"
    )]
    fn drop(&mut self) {
        self.running.clear();
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("logs and data are kept in {}", dir.keep().display());
        }
    }
}
