//! What an operator may choose about a bookie's storage, with bounds.

use std::path::PathBuf;
use std::time::Duration;

use types::ByteSize;
use types::storage::Entry;

/// Where a bookie stores, and how much it uses.
///
/// There is no waiting time for grouping: while one frame is being synced the next one gathers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Directory of the journal. Give it a device of its own where there is one.
    pub journal_dir: PathBuf,
    /// Directory of the data files and the MANIFEST. Not the journal's directory.
    pub data_dir: PathBuf,
    /// Size of a journal file.
    pub journal_file: ByteSize,
    /// Size of the very first journal file, small so that the first start is quick.
    pub journal_first_file: ByteSize,
    /// Most bytes of one frame; a single larger record has a frame of its own.
    pub group_max: ByteSize,
    /// How long the journal is idle before it writes an empty frame behind the last one.
    pub idle_after: Duration,
    /// Bytes of entries in memory at which they are flushed to a data file. There are two such tables.
    pub memtable: ByteSize,
    /// Bytes of a block of a data file; a larger entry has a block of its own.
    pub block: ByteSize,
    /// Most bytes of entries that wait for the journal. Beyond it adds are answered `Busy`.
    pub write_budget: ByteSize,
    /// Most bytes of reads under way in each lane. Beyond it reads are answered `Busy`.
    pub read_budget: ByteSize,
    /// Bytes of blocks kept in memory for reads; zero keeps none.
    pub cache: ByteSize,
    /// Free bytes of either disk below which the writes of writers are refused.
    pub free_low: ByteSize,
    /// How often free space is looked at.
    pub space_every: Duration,
    /// How many data files of like size are merged into one.
    pub merge_width: usize,
    /// A data file with less than this percentage of its bytes live is rewritten without the rest; zero rewrites none.
    pub rewrite_below: u64,
    /// How often meta is asked what may go.
    pub reclaim_every: Duration,
    /// Most bytes of one payload.
    pub entry_max: usize,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule} value={value}")]
pub struct ConfigError {
    /// The flag to change; for what has none, the field.
    field: &'static str,
    rule: String,
    value: String,
}

impl Config {
    /// The values of a production bookie.
    pub fn new(journal_dir: PathBuf, data_dir: PathBuf) -> Self {
        Self {
            journal_dir,
            data_dir,
            journal_file: ByteSize::new(256 << 20),
            journal_first_file: ByteSize::new(16 << 20),
            group_max: ByteSize::new(1 << 20),
            idle_after: Duration::from_millis(10),
            memtable: ByteSize::new(64 << 20),
            block: ByteSize::new(64 << 10),
            write_budget: ByteSize::new(64 << 20),
            read_budget: ByteSize::new(64 << 20),
            cache: ByteSize::new(128 << 20),
            free_low: ByteSize::new(256 << 20),
            space_every: Duration::from_secs(1),
            merge_width: 32,
            rewrite_below: 50,
            reclaim_every: Duration::from_secs(30),
            entry_max: Entry::MAX_PAYLOAD,
        }
    }

    /// Small values, so that tests and simulations reach every change of file with little data. Deterministic: no
    /// read cache.
    pub fn small(journal_dir: PathBuf, data_dir: PathBuf) -> Self {
        Self {
            journal_file: ByteSize::new(64 << 10),
            journal_first_file: ByteSize::new(32 << 10),
            group_max: ByteSize::new(8 << 10),
            memtable: ByteSize::new(24 << 10),
            block: ByteSize::new(2 << 10),
            write_budget: ByteSize::new(64 << 10),
            read_budget: ByteSize::new(256 << 10),
            cache: ByteSize::new(0),
            free_low: ByteSize::new(256 << 10),
            merge_width: 4,
            entry_max: 8 << 10,
            ..Self::new(journal_dir, data_dir)
        }
    }

    /// Free bytes that flushes and new journal files leave to small files that share the disk: MANIFESTs, and the metadata
    /// of a process that holds every role.
    pub(crate) const fn kept(&self) -> u64 {
        self.free_low.get() / 16
    }

    /// Checks the bounds.
    ///
    /// # Errors
    ///
    /// The first value out of its bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |field, rule: &str, value: &dyn std::fmt::Display| {
            Err(ConfigError {
                field,
                rule: rule.to_owned(),
                value: value.to_string(),
            })
        };
        if self.journal_dir == self.data_dir {
            return refuse(
                "--data-dir",
                "must differ from --journal-dir",
                &self.data_dir.display(),
            );
        }
        let least = self.least_journal_file();
        let sizes = [
            ("--journal-file", self.journal_file),
            ("journal_first_file", self.journal_first_file),
        ];
        let most: u64 = 1 << 40;
        for (field, size) in sizes {
            if !size.get().is_multiple_of(4096) || !(least..=most).contains(&size.get()) {
                let (least, most) = (ByteSize::new(least), ByteSize::new(most));
                let rule = format!(
                    "must be {least} to {most} and a multiple of 4KiB: it holds the largest entry"
                );
                return refuse(field, &rule, &size);
            }
        }
        if self.journal_file < self.journal_first_file {
            return refuse(
                "--journal-file",
                "must not be below journal_first_file",
                &self.journal_file,
            );
        }
        if !(4096..=64 << 20).contains(&self.group_max.get()) {
            return refuse("group_max", "must be 4KiB to 64MiB", &self.group_max);
        }
        if !(512..=16 << 20).contains(&self.block.get()) {
            return refuse("block", "must be 512B to 16MiB", &self.block);
        }
        if self.memtable.get() < 4096 {
            return refuse("memtable", "must be at least 4KiB", &self.memtable);
        }
        if !(2..=64).contains(&self.merge_width) {
            return refuse("merge_width", "must be 2 to 64", &self.merge_width);
        }
        if self.rewrite_below > 90 {
            return refuse(
                "--rewrite-below",
                "must be 0 to 90, or the disk is kept busy for little",
                &self.rewrite_below,
            );
        }
        let often = Duration::from_millis(100)..=Duration::from_secs(24 * 60 * 60);
        if !often.contains(&self.reclaim_every) {
            let asked = format!("{:?}", self.reclaim_every);
            return refuse("--reclaim-interval", "must be 100ms to 24h", &asked);
        }
        if self.entry_max > Entry::MAX_PAYLOAD {
            return refuse(
                "entry_max",
                "is above the protocol's limit",
                &self.entry_max,
            );
        }
        Ok(())
    }

    /// A file header, a frame of the largest group or entry, and a few empty frames; whole blocks.
    fn least_journal_file(&self) -> u64 {
        let entry = u64::try_from(self.entry_max).expect("a usize fits");
        (entry.max(self.group_max.get()) + 6 * 4096).next_multiple_of(4096)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_file_that_is_refused_is_told_its_flag_and_its_bounds() {
        let config = |size| Config {
            journal_file: size,
            journal_first_file: size,
            ..Config::new(PathBuf::from("j"), PathBuf::from("d"))
        };
        let least = ByteSize::new(config(ByteSize::new(0)).least_journal_file());
        assert_eq!(config(least).validate(), Ok(()));
        for size in [least.get() - 4096, least.get() + 1, (1 << 40) + 4096] {
            let error = config(ByteSize::new(size)).validate().unwrap_err();
            let bounds = format!("--journal-file must be {least} to 1TiB");
            assert!(error.to_string().starts_with(&bounds), "{error}");
        }
    }

    #[test]
    fn what_reclaim_is_told_has_bounds() {
        let config = || Config::new(PathBuf::from("j"), PathBuf::from("d"));
        assert_eq!(config().validate(), Ok(()));
        for (every, is_fine) in [(99, false), (100, true), (86_400_001, false)] {
            let reclaim_every = Duration::from_millis(every);
            let config = Config {
                reclaim_every,
                ..config()
            };
            assert_eq!(config.validate().is_ok(), is_fine, "{every}");
        }
        for (rewrite_below, is_fine) in [(0, true), (90, true), (91, false)] {
            let config = Config {
                rewrite_below,
                ..config()
            };
            assert_eq!(config.validate().is_ok(), is_fine, "{rewrite_below}");
        }
    }
}
