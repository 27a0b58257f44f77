//! The repair of a bookie's copies: the steps of its repair task, each in its own time and each a place to die at. The
//! decisions are those of `bookie::node::repair::core`.

mod copy;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bookie::node::repair::core::{Fetch, Setbacks};
use types::chain::{LedgerRecord, LedgerState, WholeCopy};
use types::cluster::BookieRecord;
use types::command::{Answer as Known, COPIES_MAX, Command, Query};
use types::storage::Entry;
use types::{BookieId, EntryId, LedgerId, MonoTime};

use super::Call;
use crate::l1::agenda::{MS, Nanos};
use crate::l1::event::{Due, MetaAnswer, MetaAsk, Timer};
use crate::l1::marks::Mark;
use crate::l1::world::World;

/// How often meta is asked for work, when there was none.
const EVERY: Nanos = 400 * MS;
/// How long meta or another bookie may take to answer.
const SILENCE: Nanos = 900 * MS;
/// The wait when this bookie's own engine is busy.
const BUSY: Nanos = 50 * MS;
/// How often a busy engine is asked before the ledger is left for later.
const BUSY_MAX: u32 = 200;

/// The repair of one process.
#[derive(Debug, Default)]
pub(super) struct Repair {
    setbacks: Setbacks,
    /// Ledgers with a damaged copy here that was not made good yet.
    damaged: BTreeSet<LedgerId>,
    step: Step,
    /// Which step it is: what belongs to an older one is late.
    number: u64,
    bookies: Vec<BookieRecord>,
    left: VecDeque<LedgerRecord>,
    /// Whether those left were found damaged here, and meta need not hear of them.
    is_mending: bool,
    copying: Option<Copying>,
    /// Copies found whole that meta was not told of.
    found: Vec<WholeCopy>,
    told: usize,
}

/// What is done at the moment.
#[derive(Debug, Default)]
enum Step {
    #[default]
    Rests,
    AsksDamaged(Vec<LedgerId>),
    AsksDue,
    AsksBookies,
    Tells {
        count: usize,
        is_last: bool,
    },
    Looks,
    LooksAgain,
    Reads(BookieId),
    Stores {
        waiting: BTreeMap<EntryId, Entry>,
        open: usize,
    },
    StoresAgain(BTreeMap<EntryId, Entry>),
}

/// The ledger at hand.
#[derive(Debug)]
struct Copying {
    record: LedgerRecord,
    last: EntryId,
    before: Vec<(EntryId, EntryId)>,
    fetch: Option<Fetch>,
    busy: u32,
}

impl World {
    fn repair(&mut self, at: usize) -> &mut Repair {
        &mut self.bookies[at].repair
    }

    fn repair_mono(&self, at: usize) -> MonoTime {
        self.bookies[at].mono(self.now)
    }

    /// A step begins; after `wait` it is looked at again, unless it is over.
    fn repair_steps(&mut self, at: usize, step: Step, wait: Option<Nanos>) -> u64 {
        let number = self.next_number();
        let repair = self.repair(at);
        repair.step = step;
        repair.number = number;
        if let Some(wait) = wait {
            self.bookie_timer(at, wait, Timer::Repair(number));
        }
        number
    }

    /// Begins to repair, and begins again when a round is over.
    pub(super) fn repair_rests(&mut self, at: usize, wait: Nanos) {
        if !self.swarm.repairs {
            return;
        }
        let repair = self.repair(at);
        repair.left.clear();
        repair.found.clear();
        repair.copying = None;
        repair.is_mending = false;
        repair.told = 0;
        self.repair_steps(at, Step::Rests, Some(wait));
    }

    /// The process dies.
    pub(super) fn repair_dies(&mut self, at: usize) {
        let repair = std::mem::take(self.repair(at));
        if matches!(
            repair.step,
            Step::Reads(_) | Step::Stores { .. } | Step::StoresAgain(_)
        ) {
            self.marks.hit(Mark::RepairCut);
        }
    }

    /// The engine found damage in the copies of some ledgers.
    pub(super) fn repair_damaged(&mut self, at: usize, ledgers: &[LedgerId]) {
        if self.swarm.repairs {
            self.repair(at).damaged.extend(ledgers);
        }
    }

    /// The time of a step is over.
    pub(super) fn repair_timed(&mut self, at: usize, number: u64) {
        if self.repair(at).number != number {
            return;
        }
        match std::mem::take(&mut self.repair(at).step) {
            Step::Rests => self.repair_round(at),
            Step::AsksDamaged(_) | Step::AsksDue | Step::AsksBookies => {
                self.repair_rests(at, EVERY);
            }
            Step::Tells { is_last, .. } => self.repair_untold(at, is_last),
            Step::LooksAgain => self.repair_looks(at),
            Step::Reads(from) => self.repair_came(at, from, None),
            Step::StoresAgain(waiting) => self.repair_stores(at, waiting),
            Step::Looks | Step::Stores { .. } => unreachable!("the engine answers or dies"),
        }
    }

    fn repair_round(&mut self, at: usize) {
        let now = self.repair_mono(at);
        let repair = self.repair(at);
        let damaged = repair.damaged.iter().copied();
        let due = damaged.filter(|id| !repair.setbacks.is_waiting(now, *id));
        let due: Vec<LedgerId> = due.take(COPIES_MAX).collect();
        if due.is_empty() {
            return self.repair_asks_due(at);
        }
        let ask = MetaAsk::Query(Query::Ledgers(due.clone()));
        self.repair_asks(at, Step::AsksDamaged(due), ask);
    }

    fn repair_asks(&mut self, at: usize, step: Step, ask: MetaAsk) {
        let step = self.repair_steps(at, step, Some(SILENCE));
        self.bookie_call(at, Call::Repair { step, ask });
    }

    fn repair_asks_due(&mut self, at: usize) {
        let now = self.repair_mono(at);
        let Some(bookie) = self.bookies[at].id else {
            return;
        };
        let setbacks = &mut self.repair(at).setbacks;
        let stuck = setbacks.stuck(now);
        let due = Due {
            bookie,
            limit: setbacks.limit(now, COPIES_MAX, &stuck),
            stuck,
        };
        self.repair_asks(at, Step::AsksDue, MetaAsk::Due(due));
    }

    /// Meta answered.
    pub(super) fn repair_told(&mut self, at: usize, number: u64, answer: MetaAnswer) {
        if self.repair(at).number != number {
            return;
        }
        let now = self.repair_mono(at);
        let own = self.bookies[at].id;
        let repair = self.repair(at);
        match (std::mem::take(&mut repair.step), answer) {
            (Step::AsksDamaged(asked), MetaAnswer::Query(Ok(Known::Ledgers(mut records)))) => {
                records.retain(|record| {
                    let is_closed = matches!(record.state, LedgerState::Closed { .. });
                    is_closed && own.is_some_and(|own| record.ensemble.contains(&own))
                });
                let is_ours = |id: &LedgerId| records.iter().any(|record| record.id == *id);
                repair
                    .damaged
                    .retain(|id| !asked.contains(id) || is_ours(id));
                repair.is_mending = true;
                self.repair_takes(at, records);
            }
            (Step::AsksDue, MetaAnswer::Due(mut records)) => {
                records.retain(|record| !repair.setbacks.is_waiting(now, record.id));
                records.truncate(COPIES_MAX);
                self.repair_takes(at, records);
            }
            (Step::AsksBookies, MetaAnswer::Query(Ok(Known::Bookies(bookies)))) => {
                repair.bookies = bookies;
                self.repair_next(at);
            }
            (Step::Tells { count, is_last }, MetaAnswer::Command(Ok(_))) => {
                repair.told += count;
                self.marks.hit(Mark::CopyTold);
                if is_last {
                    self.repair_rests(at, MS); // Where there was work there may be more.
                } else {
                    self.repair_fetches(at);
                }
            }
            (Step::Tells { is_last, .. }, _) => self.repair_untold(at, is_last),
            _ => self.repair_rests(at, EVERY),
        }
    }

    fn repair_takes(&mut self, at: usize, records: Vec<LedgerRecord>) {
        if records.is_empty() {
            return self.repair_next(at);
        }
        self.repair(at).left = records.into();
        self.repair_asks(at, Step::AsksBookies, MetaAsk::Query(Query::Bookies));
    }

    /// The next ledger.
    fn repair_next(&mut self, at: usize) {
        let repair = self.repair(at);
        repair.copying = None;
        let Some(record) = repair.left.pop_front() else {
            if std::mem::take(&mut repair.is_mending) {
                return self.repair_asks_due(at);
            }
            return match (repair.found.is_empty(), repair.told) {
                (false, _) => self.repair_tells(at, true),
                (true, 0) => self.repair_rests(at, EVERY),
                (true, _) => self.repair_rests(at, MS),
            };
        };
        match record.state {
            LedgerState::Closed {
                last: Some(last), ..
            } => {
                repair.copying = Some(Copying {
                    record,
                    last,
                    before: Vec::new(),
                    fetch: None,
                    busy: 0,
                });
                self.repair_looks(at);
            }
            // Of an empty ledger there is nothing to hold.
            _ => self.repair_whole(at, &record, false),
        }
    }

    fn repair_whole(&mut self, at: usize, record: &LedgerRecord, is_copied: bool) {
        let Some(own) = self.bookies[at].id else {
            return;
        };
        let repair = self.repair(at);
        repair.setbacks.over(record.id);
        let mark = if repair.is_mending {
            repair.damaged.remove(&record.id);
            Mark::CopyMended
        } else {
            repair.found.push(record.whole_copy(own));
            Mark::CopyMade
        };
        if is_copied {
            self.marks.hit(mark);
        }
        self.repair_next(at);
    }

    /// The ledger at hand could not be copied now.
    fn repair_sets_back(&mut self, at: usize, is_nowhere: bool) {
        let now = self.repair_mono(at);
        let repair = self.repair(at);
        if let Some(copying) = &repair.copying {
            let id = copying.record.id;
            repair.setbacks.failed(now, id, is_nowhere);
            self.marks.hit(Mark::RepairSetBack);
            self.trace(|| format!("bookie-{at} cannot copy {id} now, nowhere={is_nowhere}"));
        }
        self.repair_next(at);
    }

    fn repair_tells(&mut self, at: usize, is_last: bool) {
        let born = self.bookies[at].born;
        let (Some(bookie), Some(session)) = (self.bookies[at].id, self.bookies[at].session) else {
            return;
        };
        let copies = std::mem::take(&mut self.repair(at).found);
        let count = copies.len();
        let word = Command::CopiesWhole {
            bookie,
            session,
            born,
            copies,
        };
        let ask = MetaAsk::Command(Box::new(word));
        self.repair_asks(at, Step::Tells { count, is_last }, ask);
    }

    /// Meta did not take the word.
    fn repair_untold(&mut self, at: usize, is_last: bool) {
        if is_last {
            self.repair_rests(at, EVERY);
        } else {
            self.repair_sets_back(at, false);
        }
    }
}
