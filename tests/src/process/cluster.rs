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
use super::ports::free_addresses;
use crate::history::{Event, Fault, HistoryWriter, Name, Phase};

/// How long a node may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(30);

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
        let mut cluster = Self::empty(binary)?;
        let addresses = free_addresses(metas.len() + bookies + serving)?;
        let (at_meta, others) = addresses.split_at(metas.len());
        for (name, address) in metas.iter().zip(at_meta) {
            cluster.add(Role::Meta, name.clone(), *address, &[])?;
            cluster.node(name)?.etcd = etcd.map(ToOwned::to_owned);
        }
        for (index, address) in others.iter().enumerate() {
            let (role, name) = if index < bookies {
                (Role::Bookie, format!("bookie-{}", index + 1))
            } else {
                (Role::Serving, format!("serving-{}", index - bookies + 1))
            };
            cluster.add(role, name, *address, at_meta)?;
        }
        Ok(cluster)
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
        };
        self.nodes.insert(name, node);
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
        let process = Process::spawn(name, &self.binary, node.arguments(), &log)?;
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
