//! One copy is made good: what is missing here is looked for, read where it may be, stored, and looked at again.

use std::collections::BTreeMap;

use bookie::node::repair::core::{Fetch, Next};
use bookie::{Answer, Ask, Holdings, HoldingsResult};
use types::cluster::BookieState;
use types::storage::{Add, AddKind, AddResult, Entry, ReadRun, RunItem};
use types::{BookieId, EntryId, Epoch};

use super::{BUSY, BUSY_MAX, SILENCE, Step};
use crate::l1::event::{Asker, Message};
use crate::l1::net::Host;
use crate::l1::world::World;

impl World {
    /// What is missing here of the ledger at hand?
    pub(super) fn repair_looks(&mut self, at: usize) {
        let Some(copying) = &self.repair(at).copying else {
            return;
        };
        let ask = Ask::Holdings(Holdings {
            ledger: copying.record.id,
            last: copying.last,
        });
        let step = self.repair_steps(at, Step::Looks, None);
        self.repair_asks_engine(at, step, vec![ask]);
    }

    fn repair_asks_engine(&mut self, at: usize, step: u64, asks: Vec<Ask>) {
        let life = self.bookies[at].life;
        let asker = Asker::Repair {
            bookie: at,
            life,
            step,
        };
        self.ask_engine(at, asker, asks);
    }

    /// This bookie's own engine answered.
    pub(in crate::l1::bookies) fn repair_hears(
        &mut self,
        at: usize,
        number: u64,
        ask: &Ask,
        answer: Answer,
    ) {
        if self.repair(at).number != number {
            return;
        }
        match (ask, answer) {
            (_, Answer::Holdings(HoldingsResult::Busy)) => {
                if self.repair_is_busy(at) {
                    self.repair_steps(at, Step::LooksAgain, Some(BUSY));
                }
            }
            (_, Answer::Holdings(HoldingsResult::Missing(missing))) => {
                self.repair_lacks(at, missing);
            }
            (Ask::Add(add), Answer::Add(result)) => self.repair_stored(at, add.entry.id, result),
            (ask, answer) => self.violation("engine", format!("{ask:?}: {answer:?}")),
        }
    }

    /// Counts one more time that the engine was busy. False when that was too often, and the ledger was left for later.
    fn repair_is_busy(&mut self, at: usize) -> bool {
        let Some(copying) = &mut self.repair(at).copying else {
            return false;
        };
        copying.busy += 1;
        let goes_on = copying.busy < BUSY_MAX;
        if !goes_on {
            self.repair_sets_back(at, false);
        }
        goes_on
    }

    fn repair_lacks(&mut self, at: usize, missing: Vec<(EntryId, EntryId)>) {
        let is_writable = self.bookies[at].standing == BookieState::ReadWrite;
        let own = self.bookies[at].id;
        let repair = self.repair(at);
        let (Some(copying), Some(own)) = (&mut repair.copying, own) else {
            return;
        };
        if missing.is_empty() {
            let (record, is_copied) = (copying.record.clone(), !copying.before.is_empty());
            return self.repair_whole(at, &record, is_copied);
        }
        // Stored and not to be seen, or no room but for those who cannot wait.
        if missing == copying.before || !is_writable {
            return self.repair_sets_back(at, false);
        }
        copying.before.clone_from(&missing);
        let fetch = Fetch::new(&copying.record, own, &repair.bookies, missing);
        copying.fetch = Some(fetch);
        // Copying takes its time: what was found whole before is told first, so that no word is old when it comes (I26).
        if repair.found.is_empty() {
            self.repair_fetches(at);
        } else {
            self.repair_tells(at, false);
        }
    }

    /// Reads the next run that is missing, where it may be.
    pub(super) fn repair_fetches(&mut self, at: usize) {
        let life = self.bookies[at].life;
        let fetch = |world: &mut Self| {
            let copying = world.repair(at).copying.as_ref()?;
            copying.fetch.as_ref().map(Fetch::next)
        };
        match fetch(self) {
            None => {}
            Some(Next::Done) => self.repair_looks(at),
            Some(Next::Failed { is_nowhere, .. }) => self.repair_sets_back(at, is_nowhere),
            Some(Next::Read { from, run }) => {
                let Some(there) = self.bookie_of(from) else {
                    return self.repair_came(at, from, None);
                };
                let step = self.repair_steps(at, Step::Reads(from), Some(SILENCE));
                let message = Message::Fetch {
                    from: at,
                    life,
                    step,
                    run,
                };
                self.send(Host::Bookie(at), Host::Bookie(there), message);
            }
        }
    }

    /// Another bookie asks for what it lacks.
    pub(in crate::l1) fn bookie_fetched(&mut self, at: usize, asker: Asker, run: ReadRun) {
        if self.bookies[at].is_open() {
            self.ask_engine(at, asker, vec![Ask::ReadRun(run)]);
        }
    }

    /// Another bookie gave what it has.
    pub(in crate::l1) fn repair_given(&mut self, at: usize, number: u64, items: Vec<RunItem>) {
        let repair = self.repair(at);
        if repair.number == number
            && let Step::Reads(from) = repair.step
        {
            self.repair_came(at, from, Some(items));
        }
    }

    pub(super) fn repair_came(&mut self, at: usize, from: BookieId, items: Option<Vec<RunItem>>) {
        let copying = self.repair(at).copying.as_mut();
        let Some(fetch) = copying.and_then(|copying| copying.fetch.as_mut()) else {
            return;
        };
        let entries = fetch.came(from, items);
        if entries.is_empty() {
            return self.repair_fetches(at);
        }
        let waiting = entries.into_iter().map(|entry| (entry.id, entry));
        self.repair_stores(at, waiting.collect());
    }

    pub(super) fn repair_stores(&mut self, at: usize, waiting: BTreeMap<EntryId, Entry>) {
        let Some(copying) = &self.repair(at).copying else {
            return;
        };
        let record = &copying.record;
        let add = |entry: &Entry| {
            Ask::Add(Add {
                ledger: record.id,
                created: record.created,
                epoch: Epoch::new(0), // Not looked at in a repair.
                lac: None,
                kind: AddKind::Repair,
                entry: entry.clone(),
            })
        };
        let adds: Vec<Ask> = waiting.values().map(add).collect();
        let open = adds.len();
        let step = self.repair_steps(at, Step::Stores { waiting, open }, None);
        self.repair_asks_engine(at, step, adds);
    }

    fn repair_stored(&mut self, at: usize, entry: EntryId, result: AddResult) {
        let Step::Stores { waiting, open } = &mut self.repair(at).step else {
            return;
        };
        *open -= 1;
        match result {
            AddResult::Stored => {
                waiting.remove(&entry);
            }
            AddResult::Busy => {}
            AddResult::Sealed(_)
            | AddResult::Mismatch
            | AddResult::ReadOnly
            | AddResult::Fenced { .. } => return self.repair_sets_back(at, false),
        }
        if *open > 0 {
            return;
        }
        let waiting = std::mem::take(waiting);
        if waiting.is_empty() {
            self.repair_fetches(at);
        } else if self.repair_is_busy(at) {
            self.repair_steps(at, Step::StoresAgain(waiting), Some(BUSY));
        }
    }
}
