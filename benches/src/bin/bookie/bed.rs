//! The directory that is measured in, and how the engine is opened there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bookie::{Config, Engine, OpenReport, Opening, Place};
use host::disk::{Disk, RealDisk};
use host::{Host, Rng};
use types::cluster::{BookieDuty, BookieRecord, BookieState};
use types::{BookieId, ByteSize, ClusterId, Revision, SessionId};

/// A directory of its own, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Bed {
    dir: PathBuf,
}

/// An engine that was opened, and how long that took.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    pub(crate) report: OpenReport,
    pub(crate) start: Duration,
    pub(crate) finish: Duration,
}

impl Bed {
    /// Makes the directory, when there are so many bytes free; `flags` would make it fewer.
    pub(crate) fn make(dir: &Path, needed: u64, flags: &str) -> anyhow::Result<Self> {
        let unfit = || {
            format!(
                "nothing can be measured in {}: set --dir to another directory",
                dir.display()
            )
        };
        let free = RealDisk.space(dir).with_context(unfit)?.free_bytes;
        if free < needed {
            let [free, needed] = [free, needed].map(ByteSize::new);
            bail!(
                "too little room in {}: set --dir to another directory, or {flags} to less free={free} needed={needed}",
                dir.display()
            );
        }
        let name = format!(".ledgerline-bookie-{:016x}", Rng::from_os().u64());
        let bed = Self {
            dir: dir.join(name),
        };
        RealDisk.create_dir_all(&bed.dir).with_context(unfit)?;
        Ok(bed)
    }

    /// The settings of a production bookie here.
    pub(crate) fn config(&self) -> Config {
        Config::new(self.dir.join("journal"), self.dir.join("data"))
    }

    /// Opens what is here, as a node does; meta, which is not asked, would agree to everything.
    ///
    /// # Errors
    ///
    /// What the engine says, and when it finds damage.
    pub(crate) fn open(&self, host: &Host, config: &Config) -> anyhow::Result<Opened> {
        let place = Place {
            cluster: ClusterId::new(1),
            name: "bench".parse().context("the name is one")?,
            entropy: host.rng.u128(),
        };
        let disk: Arc<dyn Disk> = Arc::clone(&host.disk);
        let began = host.clock.now();
        let opening = Opening::start(config.clone(), disk, place)?;
        let started = host.clock.now();
        let record = agree(&opening);
        let told = host.clock.now();
        let (engine, report) = opening.finish(&record, told)?;
        let finished = host.clock.now();
        if !report.damage.is_empty() {
            bail!("the journal lost something damage={:?}", report.damage);
        }
        Ok(Opened {
            engine,
            report,
            start: started.since(began),
            finish: finished.since(told),
        })
    }

    /// Bytes of all files of the journal.
    pub(crate) fn journal_bytes(&self) -> anyhow::Result<u64> {
        let lengths = self.journal_files()?.into_iter().map(fs::metadata);
        let lengths: std::io::Result<Vec<_>> = lengths.map(|it| it.map(|it| it.len())).collect();
        Ok(lengths
            .context("the journal cannot be looked at")?
            .iter()
            .sum())
    }

    /// Drops the journal from the system's cache. What lies there unwritten stays, and the engine leaves nothing so.
    pub(crate) fn evict_journal(&self) -> anyhow::Result<()> {
        for path in self.journal_files()? {
            let file = fs::File::open(path)?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
                .context("the system does not evict files from its cache")?;
        }
        Ok(())
    }

    fn journal_files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let dir = self.config().journal_dir;
        let names = RealDisk.list(&dir);
        let names = names.context("the journal cannot be listed")?;
        let files = names.into_iter().map(|name| dir.join(name));
        Ok(files.filter(|path| is_journal(path)).collect())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            let dir = self.dir.display();
            crate::say(&format!(
                "could not be removed, do it by hand: {dir}: {error}"
            ));
        }
    }
}

/// Whether it is a file that a start reads: neither the identity nor a file that was still being made.
fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "journal")
}

/// What meta would answer.
fn agree(opening: &Opening) -> BookieRecord {
    let claim = opening.claim("127.0.0.1:1".to_owned());
    BookieRecord {
        zone: None,
        id: BookieId::new(1),
        name: claim.name,
        address: claim.address,
        born: claim.born.unwrap_or(Revision::new(1)),
        incarnation: claim.incarnation,
        mark: claim.mark,
        state: BookieState::ReadWrite,
        duty: BookieDuty::Active,
        session: SessionId::new(1),
        live: true,
    }
}
