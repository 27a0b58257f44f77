//! The fold over the state log.

use std::collections::BTreeMap;

use super::format::{CursorKey, Kind, Part, Record, read_kind, read_record};
use crate::codec::Reader;
use crate::producers::ProducerTable;
use crate::{AckSet, FormatError, OffsetRange};

/// What the state log says, entry after entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Folded {
    now: State,
    /// A snapshot whose last part has not come yet.
    staged: Option<Staged>,
}

/// Cursors and producers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    pub(crate) cursors: BTreeMap<CursorKey, AckSet>,
    pub(crate) table: ProducerTable,
    /// Records of cursors that nothing made. All right in front of the first snapshot, when the scan began in the
    /// middle of the log: the snapshot holds what they said.
    pub(crate) dangling: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Staged {
    id: u64,
    next_index: u64,
    state: State,
}

impl Folded {
    /// What was folded. A snapshot that was not completed counts for nothing: what it said was said before.
    pub(crate) fn into_state(self) -> State {
        self.now
    }

    pub(crate) const fn state(&self) -> &State {
        &self.now
    }

    /// Takes one entry. On an error nothing has changed.
    pub(crate) fn feed(&mut self, payload: &[u8]) -> Result<(), FormatError> {
        let mut reader = Reader::new(payload);
        let kind = read_kind(&mut reader)?;
        let mut records = Vec::new();
        while !reader.is_empty() {
            records.push(read_record(&mut reader)?);
        }
        match kind {
            Kind::Delta => {
                self.staged = None;
                self.now.fold(records);
            }
            Kind::Snapshot(part) => self.feed_part(part, records),
        }
        Ok(())
    }

    fn feed_part(&mut self, part: Part, records: Vec<Record>) {
        let mut staged = match self.staged.take() {
            Some(staged) if staged.id == part.id && staged.next_index == part.index => staged,
            _ if part.index == 0 => Staged {
                id: part.id,
                next_index: 0,
                state: State::default(),
            },
            _ => return, // Its beginning is in a ledger before the scan.
        };
        staged.state.fold(records);
        staged.next_index += 1;
        if part.is_last {
            self.now = staged.state;
        } else {
            self.staged = Some(staged);
        }
    }
}

impl State {
    fn fold(&mut self, records: Vec<Record>) {
        for record in records {
            match record {
                Record::Cursor { key, mark, ranges } => {
                    let cursor = self.cursors.entry(key);
                    let cursor = cursor.or_insert_with(|| AckSet::new(mark));
                    cursor.insert(OffsetRange::of(0, mark.get()));
                    add(cursor, ranges);
                }
                Record::Acked { key, ranges } => match self.cursors.get_mut(&key) {
                    Some(cursor) => add(cursor, ranges),
                    None => self.dangling += 1,
                },
                Record::Opened(opened) => {
                    let (epoch, since) = (opened.epoch, opened.since);
                    self.table
                        .fold_opened(opened.name, epoch, since, opened.used);
                }
                Record::Table {
                    last_epoch,
                    covered,
                    log_bytes,
                } => {
                    self.table.last_epoch = self.table.last_epoch.max(last_epoch);
                    self.table.covered = covered;
                    self.table.log_bytes = log_bytes;
                }
                Record::Producer { name, named } => {
                    self.table.names.insert(name, named);
                }
            }
        }
    }
}

fn add(cursor: &mut AckSet, ranges: Vec<OffsetRange>) {
    for range in ranges {
        cursor.insert(range);
    }
}

/// Finds out whether a state ledger holds a complete snapshot, so that a replay may begin with its first entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SnapshotFinder {
    /// Id and next index of the snapshot whose parts come.
    expected: Option<(u64, u64)>,
    is_found: bool,
}

impl SnapshotFinder {
    /// Takes one entry of the ledger, in order from its first; the first bytes are enough
    /// ([`SnapshotFinder::PREFIX_LEN`]). Tells whether a complete snapshot was seen.
    ///
    /// # Errors
    ///
    /// [`FormatError`] when the entry cannot be read.
    pub fn feed(&mut self, payload: &[u8]) -> Result<bool, FormatError> {
        match read_kind(&mut Reader::new(payload))? {
            Kind::Delta => self.expected = None,
            Kind::Snapshot(part) => {
                let follows = self.expected == Some((part.id, part.index));
                if follows || part.index == 0 {
                    self.expected = Some((part.id, part.index + 1));
                    self.is_found |= part.is_last;
                } else {
                    self.expected = None;
                }
            }
        }
        Ok(self.is_found)
    }

    /// Whether a complete snapshot was seen.
    pub const fn is_found(&self) -> bool {
        self.is_found
    }

    /// So many first bytes of an entry say what it is.
    pub const PREFIX_LEN: usize = 23;
}
