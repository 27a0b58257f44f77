//! Where entries are: two memtables and the data files.

use std::collections::BTreeMap;
use std::sync::Arc;

use types::storage::Entry;

use ledger::Fingerprint;

use crate::codec::wide;
use crate::store::file::DataFile;
use crate::store::format::{Key, Stored};
use crate::store::memtable::Memtable;

/// A full memtable on its way to a data file.
#[derive(Debug)]
pub(super) struct Flushing {
    pub(super) table: Arc<Memtable>,
    /// What the checkpoint mark becomes once a MANIFEST names the file.
    pub(super) mark: u64,
    pub(super) stage: Stage,
}

/// How far a flush is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// To be written.
    Waiting,
    /// Being written.
    Writing,
    /// Durable in a file that no MANIFEST names yet.
    Written,
}

/// Every place an entry may be.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) active: Memtable,
    pub(super) flushing: Option<Flushing>,
    pub(super) files: BTreeMap<u64, Arc<DataFile>>,
    /// Live bytes of each file.
    pub(super) live: BTreeMap<u64, u64>,
    pub(super) next_file: u64,
}

/// What a look-up in memory and in the indexes gives.
#[derive(Debug)]
pub(super) enum Look {
    /// It is in memory.
    Memory(Entry),
    /// One of these files may hold it, in one block each; newest first.
    Files(Vec<(Arc<DataFile>, usize)>),
    /// It is nowhere.
    Absent,
}

impl Tables {
    /// The entry, if it is in memory.
    pub(super) fn in_memory(&self, key: Key) -> Option<&Entry> {
        let flushing = || self.flushing.as_ref()?.table.get(key);
        self.active.get(key).or_else(flushing)
    }

    /// The files that may hold the entry, newest first.
    pub(super) fn files_of(&self, key: Key) -> Vec<(Arc<DataFile>, usize)> {
        let newest_first = self.files.values().rev();
        newest_first
            .filter_map(|file| Some((Arc::clone(file), file.block_of(key)?)))
            .collect()
    }

    pub(super) fn look(&self, key: Key) -> Look {
        if let Some(entry) = self.in_memory(key) {
            return Look::Memory(entry.clone());
        }
        let files = self.files_of(key);
        if files.is_empty() {
            Look::Absent
        } else {
            Look::Files(files)
        }
    }

    pub(super) fn insert(&mut self, stored: Stored) {
        self.active.insert(stored);
    }

    /// Bytes of entries in memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        let flushing = self.flushing.as_ref();
        self.active.bytes() + flushing.map_or(0, |flushing| flushing.table.bytes())
    }

    /// Takes the next file number.
    pub(super) const fn take_number(&mut self) -> u64 {
        let number = self.next_file;
        self.next_file += 1;
        number
    }
}

/// What makes an entry the same as another.
pub(super) fn fingerprint(entry: &Entry) -> Fingerprint {
    Fingerprint {
        crc: entry.crc,
        len: wide(entry.payload.len()),
        next_offset: entry.next_offset,
    }
}
