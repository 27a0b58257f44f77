//! Where the metadata is: the flags that say it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::servers::{Addresses, addresses};

/// Where metadata is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MetaStore {
    /// On this machine's disk, for one meta process.
    Embedded,
    /// In etcd, for any number of meta processes: one is active, the others stand by.
    Etcd,
}

/// Where metadata is kept, and where exactly.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Where the metadata is kept.
    #[arg(
        long,
        env = "LEDGERLINE_STORE",
        default_value = "embedded",
        value_enum,
        value_name = "STORE"
    )]
    pub(crate) store: MetaStore,

    /// The directory of the embedded store [default: ledgerline-meta].
    #[arg(long, env = "LEDGERLINE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// The members of etcd, with `--store etcd`. Any of them answers; name all.
    #[arg(long, env = "LEDGERLINE_ETCD", value_name = "HOST:PORT,…", value_parser = addresses)]
    pub(crate) etcd: Option<Addresses>,

    /// What the cluster's keys in etcd begin with, the same for all its meta processes and no other cluster's
    /// [default: /ledgerline/main/].
    #[arg(long, env = "LEDGERLINE_ETCD_PREFIX", value_name = "/PREFIX/")]
    pub(crate) etcd_prefix: Option<String>,
}

/// The store that flags ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreChoice {
    /// A directory.
    Embedded(PathBuf),
    /// etcd.
    Etcd {
        members: Addresses,
        prefix: String,
        lease: Duration,
    },
}

impl StoreArgs {
    /// The directory of the embedded store where none is named.
    pub(crate) fn default_dir() -> PathBuf {
        PathBuf::from("ledgerline-meta")
    }

    /// Which store, unless the flags contradict each other.
    pub(crate) fn choose(&self) -> anyhow::Result<StoreChoice> {
        if self.store == MetaStore::Etcd {
            anyhow::ensure!(
                self.data_dir.is_none(),
                "--data-dir is of the embedded store: leave it out with --store etcd"
            );
            let members = self.etcd.clone();
            let members = members
                .context("--store etcd needs its members: --etcd HOST:PORT,… or LEDGERLINE_ETCD")?;
            let prefix = self.etcd_prefix.clone();
            return Ok(StoreChoice::Etcd {
                members,
                prefix: prefix.unwrap_or_else(|| "/ledgerline/main/".to_owned()),
                lease: Duration::from_secs(3),
            });
        }
        refuse_of_etcd(&[
            ("--etcd", self.etcd.is_some()),
            ("--etcd-prefix", self.etcd_prefix.is_some()),
        ])?;
        let dir = self.data_dir.clone();
        Ok(StoreChoice::Embedded(dir.unwrap_or_else(Self::default_dir)))
    }
}

/// Refuses flags of etcd that were given to the embedded store.
pub(super) fn refuse_of_etcd(flags: &[(&str, bool)]) -> anyhow::Result<()> {
    for (flag, is_given) in flags {
        anyhow::ensure!(
            !is_given,
            "{flag} means nothing to the embedded store: add --store etcd, or leave it out"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the flags of `meta` ask for.
    fn store(flags: &[&str]) -> anyhow::Result<StoreChoice> {
        let line = ["ledgerline", "meta"].iter().chain(flags);
        let cli = <crate::cli::Cli as clap::Parser>::try_parse_from(line)?;
        match cli.command {
            crate::cli::Command::Meta(meta) => meta.store(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn store_of_meta_is_what_the_flags_say_and_contradictions_are_refused() {
        let embedded = StoreChoice::Embedded("ledgerline-meta".into());
        assert_eq!(store(&[]).unwrap(), embedded);
        let etcd = store(&["--store", "etcd", "--etcd", "a:1, b:2"]).unwrap();
        let wanted = StoreChoice::Etcd {
            members: Addresses(vec!["a:1".to_owned(), "b:2".to_owned()]),
            prefix: "/ledgerline/main/".to_owned(),
            lease: Duration::from_secs(3),
        };
        assert_eq!(etcd, wanted);
        for (flags, blamed) in [
            (&["--store", "etcd"][..], "--etcd"),
            (&["--etcd", "a:1"], "--store etcd"),
            (&["--etcd-prefix", "/a/"], "--etcd-prefix"),
            (&["--etcd-lease", "3s"], "--etcd-lease"),
            (&["--advertise", "a:1"], "--advertise"),
            (
                &["--store", "etcd", "--etcd", "a:1", "--data-dir", "d"],
                "--data-dir",
            ),
            (&["--store", "etcd", "--etcd", "a:1,,b:2"], "HOST:PORT"),
            (&["--store", "redis"], "embedded, etcd"),
        ] {
            let error = store(flags).unwrap_err().to_string();
            assert!(error.contains(blamed), "{flags:?}: {error}");
        }
    }
}
