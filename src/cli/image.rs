//! `ledgerline meta backup`, `restore`, `export` and `import`: all of a cluster's metadata in a file.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use host::Host;
use host::net::Address;
use indicatif::{ProgressBar, ProgressStyle};
use meta::image::{self, Header, Place, Progress};
use meta::store::{EmbeddedConfig, EtcdConfig};

use super::store::{StoreArgs, StoreChoice};
use super::threads::Threads;
use crate::server;
use crate::terminal::{Interrupted, stop_signal};

/// What may be done with the metadata other than serve it.
#[derive(Debug, Subcommand)]
pub(crate) enum MetaCommand {
    /// Write all metadata into a file, to have it if the store is lost.
    ///
    /// From etcd at any time. An embedded store must not be in use: stop meta for a moment; serving nodes and bookies
    /// go on without it.
    Backup(Backup),
    /// Make a store of a file that `backup` or `export` wrote, in a place that has none.
    ///
    /// What was changed after the file was written is forgotten, and with it what was published into ledgers made since:
    /// restore only when the store is lost. No number is given twice. Nodes that still run stop, since what they know
    /// may be of the forgotten time: start them again.
    Restore(Restore),
    /// Write all metadata of an embedded store into a file, and end the store: it never opens again.
    ///
    /// For `import` into etcd. Stop meta first; serving nodes and bookies go on without it.
    Export(Export),
    /// Make a store of a file that `export` wrote, in an etcd prefix that has no keys.
    ///
    /// It goes on exactly where the exported store ended. Nothing serves from the prefix before all of it is there; when
    /// it is cut short, run it again.
    Import(Import),
}

/// `backup`.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file to write. It must not be there.
    file: PathBuf,

    #[command(flatten)]
    store: StoreArgs,
}

/// `restore`.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The file to read.
    file: PathBuf,

    #[command(flatten)]
    store: StoreArgs,
}

/// `export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The file to write. It must not be there.
    file: PathBuf,

    /// The directory of the embedded store [default: ledgerline-meta].
    #[arg(long, env = "LEDGERLINE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// `import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file to read.
    file: PathBuf,

    #[command(flatten)]
    store: StoreArgs,
}

impl MetaCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        server::run(Threads::default(), async {
            let stop = stop_signal();
            let host = Host::real("ledgerline");
            tokio::select! {
                biased;
                () = stop.cancelled() => Err(Interrupted("it was cut short; run it again".to_owned()).into()),
                done = self.carry_out(&host) => done,
            }
        })
    }

    async fn carry_out(self, host: &Host) -> anyhow::Result<()> {
        let bar = Bar::new();
        match self {
            Self::Backup(Backup { file, store }) => {
                let from = place(store.choose()?);
                let header = image::backup(host, &from, &file, bar.progress()).await?;
                bar.finish();
                say(&format!("{} is whole: {}", file.display(), told(&header)))
            }
            Self::Restore(Restore { file, store }) => {
                let to = place(store.choose()?);
                let header = image::restore(host, &file, &to, bar.progress()).await?;
                bar.finish();
                say(&format!(
                    "restored: {}\nWhat was changed after {} is forgotten. Start meta, then every serving node and \
                     bookie again.",
                    told(&header),
                    header.taken
                ))
            }
            Self::Export(Export { file, data_dir }) => {
                let dir = data_dir.unwrap_or_else(StoreArgs::default_dir);
                let config = EmbeddedConfig::new(dir.clone());
                let header = image::export(host, &config, &file, bar.progress()).await?;
                bar.finish();
                let (shown, dir) = (file.display(), dir.display());
                say(&format!(
                    "{shown} is whole: {}\nThe store in {dir} never opens again. Next: ledgerline meta import {shown} \
                     --store etcd --etcd HOST:PORT,…",
                    told(&header)
                ))
            }
            Self::Import(Import { file, store }) => {
                let Place::Etcd(to) = place(store.choose()?) else {
                    anyhow::bail!(
                        "an import goes into etcd: add --store etcd and --etcd HOST:PORT,…; a directory is made by \
                         `ledgerline meta restore`"
                    );
                };
                let header = image::import(host, &file, &to, bar.progress()).await?;
                bar.finish();
                say(&format!(
                    "imported: {}\nStart meta on it: ledgerline meta --store etcd --etcd … (with the same \
                     --etcd-prefix, if you gave one)",
                    told(&header)
                ))
            }
        }
    }
}

fn place(choice: StoreChoice) -> Place {
    match choice {
        StoreChoice::Embedded(dir) => Place::Embedded(EmbeddedConfig::new(dir)),
        StoreChoice::Etcd {
            members, prefix, ..
        } => {
            let members = members.0.into_iter().map(Address::new).collect();
            Place::Etcd(EtcdConfig::new(members, prefix))
        }
    }
}

fn told(header: &Header) -> String {
    format!(
        "{} records of cluster {} at revision {}",
        header.records, header.cluster, header.revision
    )
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("stdout is closed; the work is done")
}

/// How far it is: a line that moves at a terminal, nothing elsewhere.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{msg} {human_pos} of {human_len} records")
        {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn progress(&self) -> Progress {
        let bar = self.0.clone();
        Progress::to(move |what, done, all| {
            // A step is seen, each record need not be.
            if done % 1000 == 0 || done == all {
                bar.set_message(what);
                bar.set_length(all);
                bar.set_position(done);
            }
        })
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}
