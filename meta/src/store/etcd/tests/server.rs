//! A real etcd on loopback, killed when its handle is dropped.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use super::*;

/// The etcd to test with. Where there is none the test says so and passes over, but fails where `CI=true`.
pub(super) fn binary() -> Option<PathBuf> {
    let named = std::env::var_os("LEDGERLINE_ETCD_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = || {
        let mut all = std::env::split_paths(&path).map(|dir| dir.join("etcd"));
        all.find(|file| file.is_file())
    };
    let binary = named.or_else(on_path);
    if binary.is_none() {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "no etcd: set LEDGERLINE_ETCD_BIN to its binary"
        );
        println!("SKIPPED: no etcd on PATH and none in LEDGERLINE_ETCD_BIN");
    }
    binary
}

/// Two cores do not hold many an etcd without elections running late.
static ONE: Mutex<()> = Mutex::const_new(());

/// Addresses that nobody listens on; all are held until the last is found.
fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let held: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
        .collect();
    held.iter().map(|one| one.local_addr().unwrap()).collect()
}

/// The members of one etcd.
#[derive(Debug)]
pub(super) struct Server {
    binary: PathBuf,
    members: Vec<Member>,
    dir: TempDir,
    _alone: MutexGuard<'static, ()>,
}

#[derive(Debug)]
struct Member {
    client: SocketAddr,
    peer: SocketAddr,
    child: Option<Child>,
}

impl Server {
    /// Starts an etcd of so many members and waits until it answers.
    pub(super) async fn start(binary: PathBuf, count: usize) -> Self {
        let alone = ONE.lock().await;
        let free = free_addresses(count * 2);
        let members = free.chunks(2).map(|pair| Member {
            client: pair[0],
            peer: pair[1],
            child: None,
        });
        let mut server = Self {
            binary,
            members: members.collect(),
            dir: tempfile::tempdir().unwrap(),
            _alone: alone,
        };
        for member in 0..count {
            server.run(member);
        }
        server.answers().await;
        server
    }

    /// Starts a member that does not run, on the data it had.
    pub(super) fn run(&mut self, member: usize) {
        let peers = self.members.iter().enumerate();
        let peers: Vec<_> = peers
            .map(|(n, one)| format!("m{n}=http://{}", one.peer))
            .collect();
        let Member { client, peer, .. } = &self.members[member];
        let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let mut command = Command::new(&self.binary);
        let data: OsString = self.dir.path().join(member.to_string()).into();
        command
            .arg("--data-dir")
            .arg(data)
            .args(["--name", &format!("m{member}"), "--log-level", "error"])
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &peers.join(",")]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        self.members[member].child = Some(child.unwrap());
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self, member: usize) {
        let mut child = self.members[member].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(super) fn endpoints(&self) -> Vec<Address> {
        let addresses = self.members.iter().map(|one| one.client.to_string());
        addresses.map(Address::new).collect()
    }

    pub(super) fn client(&self) -> Client {
        Client::new(&Host::real("test"), &self.endpoints(), LONG)
    }

    /// Waits until a linearizable read is answered.
    pub(super) async fn answers(&self) {
        let read = self.client().range(one(Bytes::from_static(b"x"))).await;
        read.unwrap();
    }

    /// The member that leads the others.
    pub(super) async fn leading(&self) -> usize {
        for (number, member) in self.members.iter().enumerate() {
            let at = Address::new(member.client.to_string());
            let host = Host::real("test");
            let channel = proto::transport::channel(&host.net, &at);
            let mut stub = proto::etcd::maintenance_client::MaintenanceClient::new(channel);
            let status = stub.status(proto::etcd::StatusRequest {}).await.unwrap();
            let status = status.into_inner();
            if status.header.unwrap().member_id == status.leader {
                return number;
            }
        }
        panic!("nobody leads");
    }

    pub(super) async fn compact(&self, revision: Revision) {
        let host = Host::real("test");
        let channel = proto::transport::channel(&host.net, &self.endpoints()[0]);
        let mut stub = proto::etcd::kv_client::KvClient::new(channel);
        let request = proto::etcd::CompactionRequest {
            revision: i64::try_from(revision.get()).unwrap(),
            physical: true,
        };
        stub.compact(request).await.unwrap();
    }

    pub(super) fn config(&self, prefix: &str) -> EtcdConfig {
        EtcdConfig {
            patience: Duration::from_secs(20),
            ..EtcdConfig::new(self.endpoints(), prefix)
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|one| one.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
