//! Entries in memory, sorted as a data file wants them.

use std::collections::BTreeMap;

use types::storage::Entry;
use types::{EntryId, LedgerId, Revision};

use crate::codec::wide;
use crate::store::format::{Key, Stored};

/// What an entry costs besides its payload.
const OVERHEAD: u64 = 160;

/// A table of entries. A later copy of an entry replaces the earlier one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memtable {
    ledgers: BTreeMap<LedgerId, Ledger>,
    bytes: u64,
    entries: u64,
}

#[derive(Debug, Clone)]
struct Ledger {
    created: Revision,
    entries: BTreeMap<EntryId, Entry>,
}

impl Memtable {
    /// What an entry takes of the table's size.
    pub(crate) fn cost(entry: &Entry) -> u64 {
        wide(entry.payload.len()) + OVERHEAD
    }

    pub(crate) fn insert(&mut self, stored: Stored) {
        let Stored {
            ledger,
            created,
            entry,
        } = stored;
        let cost = Self::cost(&entry);
        let held = self.ledgers.entry(ledger).or_insert_with(|| Ledger {
            created,
            entries: BTreeMap::new(),
        });
        self.bytes += cost;
        self.entries += 1;
        if let Some(replaced) = held.entries.insert(entry.id, entry) {
            self.bytes -= Self::cost(&replaced);
            self.entries -= 1;
        }
    }

    /// Lets the entries of ledgers go that `is_kept` does not pick out.
    pub(crate) fn keep(&mut self, is_kept: impl Fn(LedgerId) -> bool) {
        let (bytes, entries) = (&mut self.bytes, &mut self.entries);
        self.ledgers.retain(|ledger, held| {
            let stays = is_kept(*ledger);
            if !stays {
                *bytes -= held.entries.values().map(Self::cost).sum::<u64>();
                *entries -= wide(held.entries.len());
            }
            stays
        });
    }

    /// The ledgers it has entries of, in order.
    pub(crate) fn ledgers(&self) -> impl Iterator<Item = LedgerId> + '_ {
        self.ledgers.keys().copied()
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Entry> {
        self.ledgers.get(&key.ledger)?.entries.get(&key.entry)
    }

    /// The ids of a ledger's entries, up to `last`.
    pub(crate) fn ids(&self, ledger: LedgerId, last: EntryId) -> impl Iterator<Item = EntryId> {
        let held = self.ledgers.get(&ledger).into_iter();
        held.flat_map(move |held| held.entries.range(..=last).map(|(id, _)| *id))
    }

    /// Bytes it takes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Everything in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Stored> + '_ {
        self.ledgers.iter().flat_map(|(ledger, held)| {
            held.entries.values().map(|entry| Stored {
                ledger: *ledger,
                created: held.created,
                entry: entry.clone(),
            })
        })
    }
}
