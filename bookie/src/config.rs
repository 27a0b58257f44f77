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
    /// Most bytes of one payload.
    pub entry_max: usize,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule} value={value}")]
pub struct ConfigError {
    field: &'static str,
    rule: &'static str,
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
            merge_width: 8,
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

    /// Checks the bounds.
    ///
    /// # Errors
    ///
    /// The first value out of its bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |field, rule, value: &dyn std::fmt::Display| {
            Err(ConfigError {
                field,
                rule,
                value: value.to_string(),
            })
        };
        if self.journal_dir == self.data_dir {
            return refuse(
                "data_dir",
                "must differ from journal_dir",
                &self.data_dir.display(),
            );
        }
        let least = self.least_journal_file();
        for (field, size) in [
            ("journal_file", self.journal_file),
            ("journal_first_file", self.journal_first_file),
        ] {
            if size.get() < least {
                return refuse(field, "must hold the largest entry and group", &size);
            }
        }
        if self.journal_file < self.journal_first_file {
            return refuse(
                "journal_file",
                "must not be below journal_first_file",
                &self.journal_file,
            );
        }
        for (field, size) in [
            ("journal_file", self.journal_file),
            ("journal_first_file", self.journal_first_file),
        ] {
            if !size.get().is_multiple_of(4096) || size.get() > 1 << 40 {
                return refuse(field, "must be a multiple of 4KiB up to 1TiB", &size);
            }
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
        if self.entry_max > Entry::MAX_PAYLOAD {
            return refuse(
                "entry_max",
                "is above the protocol's limit",
                &self.entry_max,
            );
        }
        Ok(())
    }

    /// A file header, a frame of the largest group or entry, and a few empty frames.
    fn least_journal_file(&self) -> u64 {
        let entry = u64::try_from(self.entry_max).expect("a usize fits");
        entry.max(self.group_max.get()) + 6 * 4096
    }
}
