//! A partial view of a store at one revision, and what is missing from it.

use std::collections::{BTreeMap, BTreeSet};

use types::Revision;

use crate::{Key, KeyRange, Record};

/// A record with its versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Versioned {
    /// The record.
    pub record: Record,
    /// The revision that made it.
    pub created: Revision,
    /// The revision that last changed it.
    pub modified: Revision,
}

impl Versioned {
    /// The birth that a record at [`Key::Birth`] tells: its last change, or what was carried over with it.
    pub const fn birth(&self) -> Revision {
        match self.record {
            Record::BornAt(born) => born,
            _ => self.modified,
        }
    }
}

/// Records and ranges to read.
///
/// Whoever loads them reads *all* that was asked for since planning began anew, at one revision, so that a decision
/// never rests on two different moments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Need {
    /// Single records.
    pub keys: BTreeSet<Key>,
    /// Ranges.
    pub ranges: BTreeSet<KeyRange>,
}

impl Need {
    /// Whether nothing is needed.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.is_empty()
    }

    /// Adds another need to this one.
    pub fn join(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.ranges.extend(other.ranges);
    }
}

/// What was read of a store at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The revision it was read at.
    pub revision: Revision,
    /// Each key that was read, with its record, or none where there is none.
    pub records: BTreeMap<Key, Option<Versioned>>,
    /// Each range that was read, with its records in order.
    pub ranges: BTreeMap<KeyRange, Vec<(Key, Versioned)>>,
}

impl Snapshot {
    /// A view of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything read so far, to be read again together with what is missing.
    pub fn asked(&self) -> Need {
        Need {
            keys: self.records.keys().cloned().collect(),
            ranges: self.ranges.keys().cloned().collect(),
        }
    }
}
