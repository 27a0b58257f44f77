//! A network of its own for every node, behind one router where a test cuts what goes from one to another.
//!
//! Each node lives in a network namespace with one address; between them is a router, another namespace. What is cut is
//! dropped there without a word, in one direction: nobody is told, connections stay open, and what was sent is sent again
//! until it is healed. Linux only, and only root may: elsewhere the tests say that they skip.
#![expect(
    clippy::print_stdout,
    reason = "the person at a test must know that it did not run"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;

/// Where every node listens: they do not share an address.
const PORT: u16 = 7400;

/// How long it may take to reach a node before any runs.
const REACHED_WITHIN: Duration = Duration::from_secs(5);

/// The test itself, where its clients are.
pub const TEST: &str = "test";

/// The namespaces of a cluster. Removed when dropped; processes in them must have ended before.
#[derive(Debug)]
pub struct Network {
    /// Before every name that this test makes on the machine.
    prefix: String,
    /// The second byte of every address.
    net: u8,
    nodes: BTreeMap<String, u8>,
    cuts: BTreeSet<(String, String)>,
}

impl Network {
    /// Makes a namespace for each name; none where this is not permitted, which is printed.
    ///
    /// # Errors
    ///
    /// When this process has a number that is none.
    pub fn lay_out(names: &[String]) -> anyhow::Result<Option<Self>> {
        let pid = std::process::id();
        let mut network = Self {
            prefix: format!("ll{pid}"),
            net: u8::try_from(128 + pid % 100)?,
            nodes: BTreeMap::new(),
            cuts: BTreeSet::new(),
        };
        if let Err(error) = network.lay_cables(names) {
            println!("SKIPPED: no network namespaces here (only root may): {error:#}");
            return Ok(None);
        }
        Ok(Some(network))
    }

    fn lay_cables(&mut self, names: &[String]) -> anyhow::Result<()> {
        let router = self.router();
        ip(&["netns", "add", &router])?;
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        ip(&["netns", "exec", &router, "sh", "-c", forward])?;
        ip(&["-n", &router, "link", "set", "lo", "up"])?;
        let cable = self.cable();
        let ends = ["type", "veth", "peer", "name", "test"];
        ip(&[&["link", "add", &cable][..], &ends, &["netns", &router]].concat())?;
        self.nodes.insert(TEST.to_owned(), 0);
        self.address_ends(None, &cable, TEST, 0)?;
        for (index, name) in (1..).zip(names) {
            let space = self.namespace(name);
            ip(&["netns", "add", &space])?;
            self.nodes.insert(name.clone(), index);
            let end = format!("node{index}");
            let ends = ["type", "veth", "peer", "name", &end, "netns", &router];
            ip(&[&["-n", &space, "link", "add", "eth0"][..], &ends].concat())?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
            self.address_ends(Some(&space), "eth0", &end, index)?;
        }
        names.iter().try_for_each(|name| self.check_reached(name))
    }

    /// Nobody listens yet: who is reached says so at once.
    fn check_reached(&self, name: &str) -> anyhow::Result<()> {
        let tried = TcpStream::connect_timeout(&self.address(name)?, REACHED_WITHIN);
        match tried {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            other => anyhow::bail!("the router passes nothing on to {name}: {other:?}"),
        }
    }

    /// Gives both ends of a cable their addresses, and the node its way to all others.
    fn address_ends(
        &self,
        space: Option<&str>,
        device: &str,
        end: &str,
        index: u8,
    ) -> anyhow::Result<()> {
        let router = self.router();
        let within = |words: &[&str]| match space {
            Some(space) => ip(&[&["-n", space][..], words].concat()),
            None => ip(words),
        };
        let (ours, theirs) = (self.ip(index, 2), self.ip(index, 1));
        within(&["addr", "add", &format!("{ours}/30"), "dev", device])?;
        within(&["link", "set", device, "up"])?;
        let at = ["-n", &router];
        let there = format!("{theirs}/30");
        ip(&[&at[..], &["addr", "add", &there, "dev", end]].concat())?;
        ip(&[&at[..], &["link", "set", end, "up"]].concat())?;
        let all = format!("10.{}.0.0/16", self.net);
        within(&["route", "add", &all, "via", &theirs.to_string()])
    }

    /// Drops what goes from one node to another, or to and from [`TEST`], from now on.
    ///
    /// # Errors
    ///
    /// An unknown name, or the machine's refusal.
    pub fn cut(&mut self, from: &str, to: &str) -> anyhow::Result<()> {
        let pair = (from.to_owned(), to.to_owned());
        if self.cuts.insert(pair) {
            self.rule("add", from, to)?;
        }
        Ok(())
    }

    /// Lets everything through again.
    ///
    /// # Errors
    ///
    /// The machine's refusal.
    pub fn heal(&mut self) -> anyhow::Result<()> {
        for (from, to) in std::mem::take(&mut self.cuts) {
            self.rule("del", &from, &to)?;
        }
        Ok(())
    }

    fn rule(&self, change: &str, from: &str, to: &str) -> anyhow::Result<()> {
        let (from, to) = (self.address(from)?, self.address(to)?);
        let (from, to) = (from.ip().to_string(), to.ip().to_string());
        let router = self.router();
        let at = ["-n", &router, "rule", change];
        ip(&[&at[..], &["from", &from, "to", &to, "blackhole"]].concat())
    }

    /// Every node but the test.
    pub fn names(&self) -> Vec<String> {
        let names = self.nodes.keys().filter(|name| *name != TEST);
        names.cloned().collect()
    }

    /// Where a node listens.
    ///
    /// # Errors
    ///
    /// An unknown name.
    pub fn address(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let index = self.nodes.get(name);
        let index = index.with_context(|| format!("no node {name} in the network"))?;
        Ok(SocketAddr::new(IpAddr::V4(self.ip(*index, 2)), PORT))
    }

    /// What a command line begins with that is to run where the node is.
    pub fn command(&self, name: &str) -> Vec<OsString> {
        let space = self.namespace(name);
        let words = ["ip", "netns", "exec", &space];
        words.map(OsString::from).to_vec()
    }

    const fn ip(&self, index: u8, end: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net, index, end)
    }

    fn router(&self) -> String {
        format!("{}-router", self.prefix)
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// The end of the cable that the test holds.
    fn cable(&self) -> String {
        format!("{}t", self.prefix)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Nothing can be done about an error here. A cable goes with either of its ends.
        let _ = ip(&["link", "del", &self.cable()]);
        for name in self.names() {
            let _ = ip(&["netns", "del", &self.namespace(&name)]);
        }
        let _ = ip(&["netns", "del", &self.router()]);
    }
}

/// Runs `ip`, of iproute2.
fn ip(words: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .context("the command ip (iproute2) is needed")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "ip {}: {}",
        words.join(" "),
        said.trim()
    );
    Ok(())
}
