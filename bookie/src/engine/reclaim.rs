//! What meta's word lets go, and how much of each data file is live.
//!
//! Trimmed ledgers and deleted logs are facts of the acceptor: refused for ever, and in every MANIFEST from then on. A
//! ledger that was given up, because it is closed and lives elsewhere, is remembered here only, since repair may bring
//! it back: its first repair write takes it out again.

use std::collections::{BTreeMap, BTreeSet};

use types::{EntryId, LedgerId, LedgerSeq, LogId};

use crate::store::file::DataFile;
use crate::store::format::{Key, Run};

use super::Engine;

/// Meta's positive word about what may go. Never made from something that was not found (I24).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reclaim {
    /// Logs, each with its first ledger that is not trimmed.
    pub trimmed: Vec<(LogId, LedgerSeq)>,
    /// Logs that are deleted.
    pub deleted: Vec<LogId>,
    /// Closed ledgers whose ensemble does not name this bookie. Meta was asked after [`Engine::begin_reclaim`].
    pub given_up: Vec<LedgerId>,
}

/// Why bytes of a ledger are not live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    Trimmed,
    Deleted,
    GivenUp,
}

/// Ledgers that lived here and live elsewhere now. In memory only: after a restart meta is asked again.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    /// Their entries are left out of whatever is written.
    ledgers: BTreeSet<LedgerId>,
    /// Repaired since: what is missing of them may have been here.
    returned: BTreeSet<LedgerId>,
    /// Repaired since meta was last asked: an older word does not give them up.
    repaired: BTreeSet<LedgerId>,
}

impl Engine {
    /// The ledgers it holds entries of, without those that are to go: what meta is to be asked about. From this call on
    /// it remembers which of them are repaired, so that a word that is older than a repair does not drop its copies.
    pub fn begin_reclaim(&mut self) -> BTreeSet<LedgerId> {
        self.given_up.repaired.clear();
        let flushing = self.tables.flushing.iter();
        let memory = flushing.flat_map(|flushing| flushing.table.ledgers());
        let files = self.tables.files.values();
        let files = files.flat_map(|file| file.footer().runs.iter().map(|run| run.ledger));
        let held = self.tables.active.ledgers().chain(memory).chain(files);
        held.filter(|ledger| self.gone(*ledger).is_none()).collect()
    }

    /// Takes meta's word. No entry goes here: whatever is written from now on leaves out what is gone, together with a
    /// MANIFEST that has the facts.
    pub(super) fn reclaim(&mut self, word: Reclaim) {
        let mut is_fact = false;
        for (log, first_live) in word.trimmed {
            is_fact |= self.acceptor.trim(log, first_live);
        }
        for log in word.deleted {
            is_fact |= self.acceptor.delete(log);
        }
        let mut is_news = is_fact;
        for ledger in word.given_up {
            is_news |= self.give_up(ledger);
        }
        if is_fact {
            self.upkeep.is_dirty = true;
            let (acceptor, given_up) = (&self.acceptor, &mut self.given_up);
            for ledgers in [&mut given_up.ledgers, &mut given_up.returned] {
                ledgers.retain(|ledger| !acceptor.is_dropped(*ledger));
            }
        }
        if is_news {
            self.count_live(|_| true);
        }
    }

    fn give_up(&mut self, ledger: LedgerId) -> bool {
        // Whoever waits for an add is owed what it is told.
        if self.given_up.repaired.contains(&ledger) || self.is_pending(ledger) {
            return false;
        }
        self.given_up.returned.remove(&ledger);
        self.given_up.ledgers.insert(ledger)
    }

    fn is_pending(&self, ledger: LedgerId) -> bool {
        let key = |entry| Key { ledger, entry };
        let all = key(EntryId::new(0))..=key(EntryId::new(u64::MAX));
        self.pending.range(all).next().is_some()
    }

    /// Notes that a ledger is being repaired, or looked at for that: it is held again if it was given up, and then this is true. Copies from
    /// before that are still in files count again, so a merge that leaves them out is not to be used.
    pub(super) fn repaired(&mut self, ledger: LedgerId) -> bool {
        self.given_up.repaired.insert(ledger);
        if !self.given_up.ledgers.remove(&ledger) {
            return false;
        }
        self.given_up.returned.insert(ledger);
        if let Some(merging) = &mut self.upkeep.merging {
            merging.is_void |= merging.left_out.contains(&ledger);
        }
        self.count_live(|file| file.run(ledger).is_some());
        true
    }

    /// Whether a ledger was given up and not repaired since.
    pub(super) fn is_given_up(&self, ledger: LedgerId) -> bool {
        self.given_up.ledgers.contains(&ledger)
    }

    /// Whether entries of a ledger may be missing because it was given up once.
    pub(super) fn was_given_up(&self, ledger: LedgerId) -> bool {
        self.is_given_up(ledger) || self.given_up.returned.contains(&ledger)
    }

    /// Why a ledger's entries are to go, or nothing when they are live.
    pub(super) fn gone(&self, ledger: LedgerId) -> Option<Gone> {
        if self.acceptor.is_deleted(ledger.log()) {
            Some(Gone::Deleted)
        } else if self.acceptor.is_dropped(ledger) {
            Some(Gone::Trimmed)
        } else if self.is_given_up(ledger) {
            Some(Gone::GivenUp)
        } else {
            None
        }
    }

    /// Counts the live bytes of some files anew.
    pub(super) fn count_live(&mut self, is_changed: impl Fn(&DataFile) -> bool) {
        let files = self.tables.files.iter();
        let counted: BTreeMap<u64, u64> = files
            .filter(|(_, file)| is_changed(file))
            .map(|(number, file)| (*number, self.live_bytes(file)))
            .collect();
        self.tables.live.extend(counted);
        self.upkeep.looks_at_files = true;
    }

    pub(super) fn live_bytes(&self, file: &DataFile) -> u64 {
        let runs = file.footer().runs.iter();
        let live = runs.filter(|run| self.gone(run.ledger).is_none());
        file.share(live.map(Run::weight).sum())
    }
}
