//! Looking into a bookie's files, in words. Reads only, and copes with damage: that is what it is for.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bookie::debug::{self, DescribeError, Detail};
use clap::{Args, Subcommand};
use host::disk::RealDisk;

/// Looking into files.
#[derive(Debug, Subcommand)]
pub(crate) enum Debug {
    /// Everything in a bookie's journal or data directory: identity, MANIFEST, journal frames, data files.
    Dir(What),
    /// A journal file, frame by frame, with damaged frames and those of an earlier use.
    Journal(What),
    /// A data file: its ledgers and its blocks, each checked.
    Data(What),
    /// A MANIFEST: which files count, the checkpoint mark, fences and other facts of each log.
    Manifest(What),
    /// An identity file: whose directory this is.
    Identity(What),
}

/// What to look into.
#[derive(Debug, Args)]
pub(crate) struct What {
    /// The file or directory.
    path: PathBuf,

    /// Print every record and entry too.
    #[arg(long, env = "LEDGERLINE_RECORDS")]
    records: bool,
}

/// Lets the debug functions write to stdout as they go, so that a long file shows progress and a closed pipe ends it.
struct Out(std::io::StdoutLock<'static>);

impl std::fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        std::io::Write::write_all(&mut self.0, text.as_bytes()).map_err(|_| std::fmt::Error)
    }
}

impl Debug {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let mut out = Out(std::io::stdout().lock());
        let (what, done) = match &self {
            Self::Dir(what) => {
                let detail = what.detail();
                (
                    what,
                    debug::describe_dir(&RealDisk, &what.path, detail, &mut out),
                )
            }
            Self::Journal(what) => {
                let detail = what.detail();
                (
                    what,
                    debug::describe_journal(&RealDisk, &what.path, detail, &mut out),
                )
            }
            Self::Data(what) => {
                let detail = what.detail();
                (
                    what,
                    debug::describe_data(&RealDisk, &what.path, detail, &mut out),
                )
            }
            Self::Manifest(what) => (
                what,
                debug::describe_manifest(&RealDisk, &what.path, &mut out),
            ),
            Self::Identity(what) => (
                what,
                debug::describe_identity(&RealDisk, &what.path, &mut out),
            ),
        };
        match done {
            // Nobody reads any more: `ledgerline debug … | head`.
            Err(DescribeError::Output(_)) => Ok(()),
            done => done.with_context(|| unreadable(&what.path)),
        }
    }
}

impl What {
    const fn detail(&self) -> Detail {
        if self.records {
            Detail::Records
        } else {
            Detail::Brief
        }
    }
}

fn unreadable(path: &Path) -> String {
    format!("cannot be looked into: {}", path.display())
}
