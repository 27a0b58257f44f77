//! Commands of the binary that end by themselves.
#![expect(
    clippy::disallowed_methods,
    reason = "the harness runs real commands on real files"
)]

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;

use super::child::{Process, clean_command};

/// Runs commands of the binary, each to its end.
#[derive(Debug)]
pub struct Tool {
    binary: PathBuf,
    dir: tempfile::TempDir,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it said to the person.
    pub stderr: String,
}

impl Ended {
    /// What it printed, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Tool {
    /// For this binary.
    ///
    /// # Errors
    ///
    /// When there is no place for what commands print.
    pub fn new(binary: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            binary: binary.to_owned(),
            dir: tempfile::Builder::new()
                .prefix("ledgerline-tool-")
                .tempdir()?,
        })
    }

    /// Runs a command with nothing on its stdin.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or does not end in time; it is killed then.
    pub fn run(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        within: Duration,
    ) -> anyhow::Result<Ended> {
        self.run_with(arguments, None, within)
    }

    /// Runs a command with a file on its stdin.
    ///
    /// # Errors
    ///
    /// As [`Tool::run`].
    pub fn run_with(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        stdin: Option<&Path>,
        within: Duration,
    ) -> anyhow::Result<Ended> {
        let (out, err) = (
            self.dir.path().join("stdout"),
            self.dir.path().join("stderr"),
        );
        let stdin = match stdin {
            Some(path) => Stdio::from(File::open(path)?),
            None => Stdio::null(),
        };
        let mut command = clean_command(&self.binary);
        command
            .args(arguments)
            .stdin(stdin)
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?);
        let mut process = Process::of("command", command.spawn()?, &err);
        let status = process
            .wait_ended(within)
            .with_context(|| format!("{command:?}"))?;
        Ok(Ended {
            code: status.code(),
            stdout: std::fs::read(&out)?,
            stderr: String::from_utf8_lossy(&std::fs::read(&err)?).into_owned(),
        })
    }
}
