//! The cluster: nodes that are started, stopped and killed one by one.

use std::sync::Arc;
use std::time::Duration;

use admin::Admin;
use bookie::{BookieNode, NodeConfig};
use futures::stream;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use host::disk::sim::SimDisk;
use host::net::{Address, Conn, Incoming, Net, Pipes};
use host::{Host, TaskFailure};
use meta_client::{MetaClient, MetaConfig};
use serving::{Bound, Serving, ServingConfig};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tests::page::Page;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::Channel;
use types::{ByteSize, Quorum};

/// Where meta listens.
const META: &str = "pipe:meta";
/// How long a stop may take, in simulated time.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// The largest message and the largest batch: small, so that tests of the limits are quick.
pub(crate) const MESSAGE_MAX: usize = 64 << 10;
pub(crate) const BATCH_MAX: usize = 256 << 10;

/// What a cluster is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) bookies: usize,
    pub(crate) serving: usize,
    pub(crate) quorum: Quorum,
    pub(crate) auto_create_topics: bool,
    /// The serving nodes are in the process of the first bookie, and call it.
    pub(crate) beside: bool,
    /// How long a topic stays where it was opened before it moves for the sake of balance.
    pub(crate) rest: Duration,
}

impl Default for Plan {
    /// One of each, one copy, topics made on use.
    fn default() -> Self {
        Self {
            bookies: 1,
            serving: 1,
            quorum: Quorum::ONE,
            auto_create_topics: true,
            beside: false,
            rest: Duration::from_secs(60 * 60),
        }
    }
}

/// The machine of a node: it outlives the process that runs on it.
struct Machine<T> {
    name: String,
    disk: SimDisk,
    process: Option<Process<T>>,
    /// How often it was started.
    starts: u64,
}

struct Process<T> {
    node: T,
    host: Host,
    cut: CancellationToken,
}

impl<T> Machine<T> {
    fn new(name: String, seed: u64) -> Self {
        Self {
            name,
            disk: SimDisk::new(seed),
            process: None,
            starts: 0,
        }
    }

    /// What a new process finds.
    fn boot(&mut self, pipes: &Pipes) -> (Host, CancellationToken) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        if self.disk.is_off() {
            self.disk.restart();
        }
        self.starts += 1;
        let cut = CancellationToken::new();
        let net = Leash {
            pipes: pipes.clone(),
            cut: cut.clone(),
        };
        let host = Host::simulated(&self.name, self.starts)
            .with_net(Arc::new(net))
            .with_disk(Arc::new(self.disk.clone()));
        (host, cut)
    }

    fn node(&self) -> &T {
        let process = self.process.as_ref();
        &process
            .unwrap_or_else(|| panic!("{} does not run", self.name))
            .node
    }

    fn take(&mut self) -> Process<T> {
        let process = self.process.take();
        process.unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    /// Ends the process as a power loss of its machine does: nothing more leaves it, nothing more reaches its disk.
    async fn kill(&mut self) {
        let Process { node, host, cut } = self.take();
        cut.cancel();
        self.disk.cut_power();
        // What still runs can do no harm; it is gone before another process comes.
        let _ = host.tasks.stop(STOP_WITHIN).await;
        drop(node);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The admin port of a node, and a way to it.
pub(crate) struct Monitor {
    admin: Admin,
    net: Arc<dyn Net>,
}

impl Monitor {
    async fn of<T>(machine: &Machine<T>) -> Self {
        let process = machine.process.as_ref();
        let host = &process.expect("it runs").host;
        let at = Address::new("pipe:admin:0");
        Self {
            admin: Admin::start(host, &at).await.unwrap(),
            net: Arc::clone(&host.net),
        }
    }

    /// Asks for a page: its status and its text.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let mut conn = self.net.connect(self.admin.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n");
        conn.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        conn.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// Its metrics.
    pub(crate) async fn metrics(&self) -> Page {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        Page::parse(&text).unwrap_or_else(|fault| panic!("{fault} in {text}"))
    }
}

/// A cluster. Everything of it is gone when it is dropped with its runtime.
pub(crate) struct Cluster {
    plan: Plan,
    pipes: Pipes,
    meta: Machine<()>,
    bookies: Vec<Machine<BookieNode>>,
    serving: Vec<Machine<Serving>>,
}

impl Cluster {
    /// Starts meta, then the bookies, then the serving nodes.
    pub(crate) async fn start(plan: Plan) -> Self {
        let machines = 0_u64..;
        let mut seeds = machines.into_iter();
        let mut seed = || seeds.next().expect("there is always a next number");
        let mut cluster = Self {
            plan,
            pipes: Pipes::new(),
            meta: Machine::new("meta".to_owned(), seed()),
            bookies: (1..=plan.bookies)
                .map(|n| Machine::new(format!("bookie-{n}"), seed()))
                .collect(),
            serving: Vec::new(),
        };
        cluster.serving = (1..=plan.serving)
            .map(|n| Machine::new(format!("serving-{n}"), 1_000 + n as u64))
            .collect();
        cluster.start_meta().await;
        for index in 0..plan.bookies {
            cluster.start_bookie(index).await;
        }
        for index in 0..plan.serving {
            cluster.start_serving(index).await;
        }
        cluster
    }

    /// A cluster of one node of each kind.
    pub(crate) async fn small() -> Self {
        Self::start(Plan::default()).await
    }

    /// Three bookies with 3/2, and two serving nodes.
    pub(crate) async fn full() -> Self {
        let plan = Plan {
            bookies: 3,
            serving: 2,
            quorum: Quorum::THREE_TWO,
            ..Plan::default()
        };
        Self::start(plan).await
    }

    /// A connection to a serving node, from a client of its own.
    pub(crate) fn client(&self, index: usize) -> Channel {
        let net: Arc<dyn Net> = Arc::new(self.pipes.clone());
        proto::transport::channel(&net, self.serving[index].node().local())
    }

    /// Where clients reach a serving node.
    pub(crate) fn endpoint(&self, index: usize) -> String {
        self.serving[index].node().endpoint().to_owned()
    }

    pub(crate) async fn start_meta(&mut self) {
        let (host, cut) = self.meta.boot(&self.pipes);
        let config = meta::MetaConfig {
            listen: Address::new(META),
            store: meta::store::EmbeddedConfig::new("/meta"),
            nodes: meta::Nodes::Anywhere,
            audit: meta::AuditConfig::default(),
        };
        meta::Meta::start(&host, config).await.unwrap();
        self.meta.process = Some(Process {
            node: (),
            host,
            cut,
        });
    }

    /// Opens the admin port of meta.
    pub(crate) async fn monitor_meta(&self) -> Monitor {
        Monitor::of(&self.meta).await
    }

    /// Opens the admin port of a bookie.
    pub(crate) async fn monitor_bookie(&self, index: usize) -> Monitor {
        Monitor::of(&self.bookies[index]).await
    }

    /// Opens the admin port of a serving node.
    pub(crate) async fn monitor_serving(&self, index: usize) -> Monitor {
        Monitor::of(&self.serving[index]).await
    }

    pub(crate) async fn kill_meta(&mut self) {
        self.meta.kill().await;
    }

    pub(crate) async fn start_bookie(&mut self, index: usize) {
        let machine = &mut self.bookies[index];
        let (host, cut) = machine.boot(&self.pipes);
        let mut engine = bookie::Config::new("/journal".into(), "/data".into());
        engine.journal_first_file = ByteSize::mib(1);
        engine.journal_file = ByteSize::mib(1);
        engine.group_max = ByteSize::new(256 << 10);
        engine.entry_max = 512 << 10;
        engine.memtable = ByteSize::mib(1);
        engine.cache = ByteSize::new(0);
        engine.free_low = ByteSize::mib(4);
        let config = NodeConfig {
            name: machine.name.parse().unwrap(),
            listen: Address::new("pipe:bookie:0"),
            advertise: None,
            zone: None,
            lease: Duration::from_secs(2),
            engine,
            repair: bookie::RepairConfig::default(),
            scrub: bookie::ScrubConfig::default(),
        };
        let client = connect(&host).await;
        let node = BookieNode::start(&host, config, client).await.unwrap();
        machine.process = Some(Process { node, host, cut });
    }

    /// The disk of a bookie.
    pub(crate) fn disk(&self, index: usize) -> &SimDisk {
        &self.bookies[index].disk
    }

    /// Waits until a bookie's process would end by itself; says why.
    pub(crate) async fn bookie_failure(&self, index: usize) -> TaskFailure {
        let process = self.bookies[index].process.as_ref();
        let tasks = &process.expect("it runs").host.tasks;
        let ended = tokio::time::timeout(STOP_WITHIN, tasks.join()).await;
        ended.expect("the process ends").unwrap_err()
    }

    pub(crate) async fn kill_bookie(&mut self, index: usize) {
        self.bookies[index].kill().await;
    }

    /// Stops a bookie as its user would.
    pub(crate) async fn stop_bookie(&mut self, index: usize) {
        let Process { node, host, .. } = self.bookies[index].take();
        node.stop().await;
        host.tasks.stop(STOP_WITHIN).await.unwrap();
    }

    /// Cuts a bookie off from every other process.
    pub(crate) fn cut_off_bookie(&self, index: usize) {
        let process = self.bookies[index].process.as_ref();
        process.expect("it runs").cut.cancel();
    }

    pub(crate) async fn start_serving(&mut self, index: usize) {
        let machine = &mut self.serving[index];
        let (host, cut) = machine.boot(&self.pipes);
        let name = machine.name.parse().unwrap();
        let mut config = ServingConfig::new(name, Address::new("pipe:serving:0"));
        config.quorum = self.plan.quorum;
        config.auto_create_topics = self.plan.auto_create_topics;
        config.balance.rest = self.plan.rest;
        config.message_max = ByteSize::new(MESSAGE_MAX as u64);
        config.batch_max = ByteSize::new(BATCH_MAX as u64);
        let client = connect(&host).await;
        let mut bound = Bound::at(&host, config).await.unwrap();
        if self.plan.beside {
            bound = bound.beside(self.bookies[0].node().in_process());
        }
        let node = bound.start(&host, client).await.unwrap();
        machine.process = Some(Process { node, host, cut });
    }

    pub(crate) async fn kill_serving(&mut self, index: usize) {
        self.serving[index].kill().await;
    }

    /// Stops a serving node as its user would.
    pub(crate) async fn stop_serving(&mut self, index: usize) {
        let Process { node, host, .. } = self.serving[index].take();
        node.stop().await;
        host.tasks.stop(STOP_WITHIN).await.unwrap();
    }
}

async fn connect(host: &Host) -> MetaClient {
    let config = MetaConfig::new(vec![Address::new(META)]);
    MetaClient::connect(host, config, Duration::from_secs(10))
        .await
        .unwrap()
}

/// A process's way to the network: cut when it is killed.
#[derive(Debug, Clone)]
struct Leash {
    pipes: Pipes,
    cut: CancellationToken,
}

impl Net for Leash {
    fn listen(&self, at: &Address) -> BoxFuture<'static, io::Result<Incoming>> {
        let (listening, cut) = (self.pipes.listen(at), self.cut.clone());
        async move {
            let Incoming { local, conns } = listening.await?;
            // The listener goes with the process, so that the next one may have its name.
            let conns = stream::unfold((conns, cut), |(mut conns, cut)| async move {
                let next = tokio::select! {
                    biased;
                    () = cut.cancelled() => None,
                    next = conns.next() => next,
                }?;
                let next = next.map(|(conn, peer)| (leashed(conn, &cut), peer));
                Some((next, (conns, cut)))
            });
            Ok(Incoming {
                local,
                conns: conns.boxed(),
            })
        }
        .boxed()
    }

    fn connect(&self, to: &Address) -> BoxFuture<'static, io::Result<Box<dyn Conn>>> {
        let (connecting, cut) = (self.pipes.connect(to), self.cut.clone());
        async move {
            if cut.is_cancelled() {
                return Err(dead());
            }
            Ok(leashed(connecting.await?, &cut))
        }
        .boxed()
    }
}

fn dead() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the process is dead")
}

fn leashed(conn: Box<dyn Conn>, cut: &CancellationToken) -> Box<dyn Conn> {
    Box::new(Leashed {
        conn: Some(conn),
        cut: Box::pin(cut.clone().cancelled_owned()),
    })
}

/// A connection of a process: closed when it is killed.
struct Leashed {
    conn: Option<Box<dyn Conn>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Leashed {
    fn alive(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut Box<dyn Conn>>> {
        if self.conn.is_some() && self.cut.as_mut().poll(context).is_ready() {
            // The other end hears of it at once.
            self.conn = None;
        }
        self.conn.as_mut().map(Pin::new).ok_or_else(dead)
    }
}

impl AsyncRead for Leashed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.alive(context)?.poll_read(context, into)
    }
}

impl AsyncWrite for Leashed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.alive(context)?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive(context)?.poll_shutdown(context)
    }
}
