//! The command lines of the binary's roles.
//!
//! Everything that depends on the names of flags stands here, so that a change of the command line is a change of this
//! file alone.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The environment variable that names the binary to test.
pub const BINARY_ENV: &str = "LEDGERLINE_BIN";

/// The flag that says where a node's admin port is.
pub const ADMIN_LISTEN: &str = "--admin-listen";

/// What a process of the binary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// All roles in one process.
    Standalone,
    /// The metadata service, on its embedded store or on etcd.
    Meta,
    /// A storage node.
    Bookie,
    /// A broker.
    Serving,
}

impl Role {
    /// The binary's subcommand.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Meta => "meta",
            Self::Bookie => "bookie",
            Self::Serving => "serving",
        }
    }

    /// Whether it keeps anything on disk.
    pub const fn has_data(self) -> bool {
        !matches!(self, Self::Serving)
    }
}

/// One node: what survives its processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its role.
    pub role: Role,
    /// Its name, unique in the cluster.
    pub name: String,
    /// Where it listens; also what it tells others.
    pub listen: SocketAddr,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Where meta listens; nowhere for meta and standalone.
    pub meta: Vec<SocketAddr>,
    /// The members of etcd, for a meta that keeps nothing itself.
    pub etcd: Option<String>,
    /// Further arguments of this node.
    pub extra: Vec<OsString>,
    /// A program and its arguments that run the binary, such as one that injects faults; empty: the binary runs itself.
    pub wrapper: Vec<OsString>,
}

impl Node {
    /// The arguments of the binary, the subcommand first.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![self.role.command().into()];
        let mut flag = |name: &str, value: OsString| {
            arguments.push(name.into());
            arguments.push(value);
        };
        flag("--listen", self.listen.to_string().into());
        if let Some(etcd) = &self.etcd {
            flag("--store", "etcd".into());
            flag("--etcd", etcd.into());
            flag("--advertise", self.listen.to_string().into());
        } else if self.role.has_data() {
            flag("--data-dir", self.data_dir.clone().into());
        }
        if matches!(self.role, Role::Bookie | Role::Serving) {
            flag("--name", self.name.clone().into());
            flag("--advertise", self.listen.to_string().into());
        }
        if !self.meta.is_empty() {
            let all: Vec<String> = self.meta.iter().map(ToString::to_string).collect();
            flag("--meta", all.join(",").into());
        }
        // Many nodes share a machine here; a test of the port asks for one.
        if !self.extra.iter().any(|word| word == ADMIN_LISTEN) {
            flag(ADMIN_LISTEN, "off".into());
        }
        arguments.extend(self.extra.iter().cloned());
        arguments
    }

    /// The program to start for `binary`, and its arguments.
    pub fn command(&self, binary: &Path) -> (PathBuf, Vec<OsString>) {
        let mut words = self.wrapper.iter().cloned();
        let Some(program) = words.next() else {
            return (binary.to_owned(), self.arguments());
        };
        let binary = std::iter::once(binary.as_os_str().to_owned());
        let arguments = words.chain(binary).chain(self.arguments());
        (program.into(), arguments.collect())
    }

    /// The endpoint for gRPC clients.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.listen)
    }
}

/// The binary to test: what `LEDGERLINE_BIN` names, else `ledgerline` beside this test program's folder, where cargo
/// puts it. Tests of the root package know it better: `env!("CARGO_BIN_EXE_ledgerline")`.
///
/// # Errors
///
/// When there is no such file: build it first, `cargo build`.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = variable_of(BINARY_ENV) {
        return exists(Path::new(&path));
    }
    let program = std::env::current_exe()?;
    let folder = program
        .ancestors()
        .skip(1)
        .find(|folder| folder.file_name().is_none_or(|name| name != "deps"))
        .unwrap_or(Path::new("."));
    exists(&folder.join("ledgerline"))
}

/// The binary to test: what `LEDGERLINE_BIN` names, else `built`, which tests of the root package know:
/// `env!("CARGO_BIN_EXE_ledgerline")`.
pub fn binary_or(built: &str) -> PathBuf {
    variable_of(BINARY_ENV)
        .unwrap_or_else(|| built.to_owned())
        .into()
}

/// A number that the environment gives a test, such as how often it does its work.
///
/// # Panics
///
/// It is no number.
#[expect(
    clippy::panic,
    reason = "a test whose environment makes no sense must not run with another number"
)]
pub fn number(variable: &str) -> Option<u64> {
    let text = variable_of(variable)?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} must be a number, not {text}")),
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test program is told by its environment what to test"
)]
fn variable_of(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn exists(path: &Path) -> anyhow::Result<PathBuf> {
    anyhow::ensure!(
        path.is_file(),
        "no binary at {}: build it, or name it in {BINARY_ENV}",
        path.display()
    );
    Ok(path.to_owned())
}
