//! The engine against a model: random requests, restarts, kills and power losses. Whatever was acked is there, fences
//! hold, nothing is made up, and nothing is called damaged that was not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use bookie::{Answer, Ask, Config, Reclaim, Request};
use host::Rng;
use host::disk::sim::{Fault, SimDisk};
use types::storage::{AddKind, AddResult, LacResult, ReadLac, ReadResult};
use types::{Epoch, LedgerId, LogId};

use support::{Bookie, CREATED, Model, add, config, entry, is_found, ledger};

/// What a run did, to see that it did something.
#[derive(Debug, Default)]
struct Seen {
    acked: usize,
    fenced: usize,
    busy: usize,
    cuts: usize,
    opens: usize,
    merged: bool,
    recycled: bool,
    dropped: usize,
    given_up: usize,
    returned: usize,
    rewritten: u64,
}

/// What became of a ledger that is not written any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    /// Trimmed, or its log deleted.
    Dropped,
    /// Closed, and its ensemble names others.
    Away,
    /// Repair began to bring it back.
    Back,
}

struct Run {
    bookie: Bookie,
    model: Model,
    rng: Rng,
    /// Adds and fences that have not been answered: token, and what it was.
    adds: Vec<(u64, LedgerId, u64, usize)>,
    fences: Vec<(u64, LogId, u64)>,
    /// The ledger that is written of each log, and its next entry.
    current: [LedgerId; 3],
    next: [u64; 3],
    past: BTreeMap<LedgerId, Past>,
    /// Entries that were acked and may be gone.
    lost: BTreeMap<(LedgerId, u64), usize>,
    /// Ledgers that meta says are elsewhere: its word is on its way.
    word: Option<BTreeSet<LedgerId>>,
    last_log: u64,
    epoch: u64,
    seen: Seen,
}

impl Run {
    fn new(seed: u64, config: Config) -> Self {
        let mut bookie = Bookie::new(SimDisk::new(seed), config);
        bookie.open().unwrap();
        Self {
            bookie,
            model: Model::default(),
            rng: Rng::seeded(seed),
            adds: Vec::new(),
            fences: Vec::new(),
            current: [1, 2, 3].map(|log| ledger(log, 0)),
            next: [0; 3],
            past: BTreeMap::new(),
            lost: BTreeMap::new(),
            word: None,
            last_log: 10,
            epoch: 2,
            seen: Seen::default(),
        }
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..55 => self.add(),
            55..58 => self.fence(),
            58..64 => self.read(),
            64..67 => {
                self.bookie.now += self.rng.below(20_000_000);
                self.bookie.tick();
            }
            67..93 => {
                let busy = self.bookie.busy();
                if !busy.is_empty() {
                    let worker = busy[self.rng.index(busy.len())];
                    self.bookie.run_one(worker);
                }
            }
            93..95 => self.bookie.settle(),
            95..98 => match self.rng.below(5) {
                0 | 1 => self.drop_some(),
                2 => self.move_away(),
                3 => self.hear(),
                _ => self.bring_back(),
            },
            _ => self.restart(),
        }
        assert_eq!(self.bookie.fatal, None);
        self.take_answers();
    }

    fn add(&mut self) {
        let mut requests = Vec::new();
        for _ in 0..=self.rng.below(4) {
            let slot = self.rng.index(3);
            let ledger = self.current[slot];
            // Mostly the next entry; sometimes one again; seldom with a gap.
            let id = match self.rng.below(12) {
                0 => self.rng.below(self.next[slot] + 1),
                1 => self.next[slot] + 2,
                _ => self.next[slot],
            };
            self.next[slot] = self.next[slot].max(id + 1);
            let size = usize::try_from(id % 7 * 150).unwrap();
            let token = self.bookie.token();
            let kind = match self.rng.below(10) {
                0 => AddKind::Recovery,
                1 => AddKind::Repair,
                _ => AddKind::Write,
            };
            let add = types::storage::Add {
                kind,
                ..add(ledger, id, size, self.epoch - self.rng.below(40) / 39)
            };
            requests.push(Request {
                token,
                ask: Ask::Add(add),
            });
            self.model.sent.insert((ledger, id), size);
            self.adds.push((token.0, ledger, id, size));
        }
        self.bookie.handle(bookie::Event::Requests(requests));
    }

    fn fence(&mut self) {
        let log = match self.rng.index(5) {
            slot @ 0..3 => self.current[slot].log().get(),
            other => u64::try_from(other).unwrap() + 1,
        };
        let epoch = self.epoch + self.rng.below(2);
        let token = self.bookie.ask(Ask::ReadLac(ReadLac {
            ledger: ledger(log, 0),
            created: CREATED,
            fence: Some(Epoch::new(epoch)),
        }));
        self.fences.push((token.0, LogId::new(log), epoch));
        self.epoch = epoch;
    }

    fn read(&mut self) {
        let slot = self.rng.index(3);
        let id = self.rng.below(self.next[slot] + 3);
        let ledger = self.current[slot];
        // What is acked while the read is under way may be missed by it.
        let acked = self.model.acked.get(&(ledger, id)).copied();
        let result = self.bookie.read(ledger, id, None);
        self.take_answers();
        if let Some(size) = acked {
            assert!(
                is_found(&result, &entry(ledger, id, size)),
                "{ledger} {id} {result:?}"
            );
        } else if let Some(size) = self.model.sent.get(&(ledger, id)) {
            let found = is_found(&result, &entry(ledger, id, *size));
            assert!(found || result == ReadResult::NeverHad, "{result:?}");
        } else {
            assert_eq!(result, ReadResult::NeverHad);
        }
        let run = self.bookie.run(ledger, id, id + 5, 2_000);
        assert!(!run.is_empty());
        self.take_answers();
    }

    /// Trims the ledger of a log, or deletes the log, and tells the bookie.
    fn drop_some(&mut self) {
        let slot = self.rng.index(3);
        let old = self.current[slot];
        let mut word = Reclaim::default();
        if self.rng.one_in(3) {
            self.last_log += 1;
            self.current[slot] = ledger(self.last_log, 0);
            word.deleted.push(old.log());
            self.model.fences.remove(&old.log());
            self.fences.retain(|(_, log, _)| *log != old.log());
        } else {
            self.current[slot] = LedgerId::new(old.log(), old.seq().next());
            word.trimmed.push((old.log(), old.seq().next()));
        }
        self.next[slot] = 0;
        self.past.insert(old, Past::Dropped);
        // Older ledgers of the log go with it, wherever they are.
        for (ledger, past) in &mut self.past {
            if ledger.log() == old.log() {
                *past = Past::Dropped;
            }
        }
        self.forget();
        self.bookie.handle(bookie::Event::Reclaim(word));
        self.seen.dropped += 1;
        // At once it says so of everything that is gone.
        let id = self.lost.keys().find(|(ledger, _)| *ledger == old);
        if let Some((ledger, id)) = id.copied() {
            assert_eq!(self.bookie.read(ledger, id, None), ReadResult::Unknown);
        }
    }

    /// Closes a ledger and names others in its ensemble; meta is asked, and its word comes later.
    fn move_away(&mut self) {
        let slot = self.rng.index(3);
        let old = self.current[slot];
        self.current[slot] = LedgerId::new(old.log(), old.seq().next());
        self.next[slot] = 0;
        self.past.insert(old, Past::Away);
        self.forget();
        let held = self.bookie.engine.as_mut().unwrap().begin_reclaim();
        let away = |ledger: &LedgerId| self.past.get(ledger) == Some(&Past::Away);
        self.word = Some(held.into_iter().filter(away).collect());
    }

    /// Hands meta's word in, however old it is by now.
    fn hear(&mut self) {
        let given_up: Vec<LedgerId> = self.word.take().into_iter().flatten().collect();
        self.seen.given_up += given_up.len();
        self.bookie.handle(bookie::Event::Reclaim(Reclaim {
            given_up,
            ..Reclaim::default()
        }));
    }

    /// Repair writes some entries of a ledger that is elsewhere, or goes on doing so.
    fn bring_back(&mut self) {
        let away = self.past.iter().filter(|(_, past)| **past != Past::Dropped);
        let away: Vec<LedgerId> = away.map(|(ledger, _)| *ledger).collect();
        if away.is_empty() {
            return;
        }
        // Mostly one that meta's word on its way gives up.
        let mut word = self.word.iter().flatten().copied();
        let known = word.rfind(|ledger| away.contains(ledger));
        let ledger = match known {
            Some(ledger) if !self.rng.one_in(4) => ledger,
            _ => away[self.rng.index(away.len())],
        };
        self.past.insert(ledger, Past::Back);
        for id in 0..self.rng.below(30) {
            let size = usize::try_from(id % 7 * 150).unwrap();
            let token = self.bookie.ask(Ask::Add(types::storage::Add {
                kind: AddKind::Repair,
                ..add(ledger, id, size, 1)
            }));
            self.adds.push((token.0, ledger, id, size));
            self.seen.returned += 1;
        }
    }

    /// What was acked of ledgers that are dropped or elsewhere may be gone.
    fn forget(&mut self) {
        let past = &self.past;
        let is_past =
            |ledger: &LedgerId| matches!(past.get(ledger), Some(Past::Dropped | Past::Away));
        self.model.sent.retain(|(ledger, _), _| !is_past(ledger));
        let acked = std::mem::take(&mut self.model.acked);
        let (lost, acked) = acked
            .into_iter()
            .partition(|((ledger, _), _)| is_past(ledger));
        self.model.acked = acked;
        let lost: BTreeMap<_, _> = lost;
        self.lost.extend(lost);
    }

    /// What may be gone is whole or unknown; only what went elsewhere may be denied, by a start that knows nothing of it.
    fn check_lost(&mut self) {
        for ((ledger, id), size) in &self.lost {
            let result = self.bookie.read(*ledger, *id, None);
            let may_deny = self.past[ledger] != Past::Dropped;
            assert!(
                is_found(&result, &entry(*ledger, *id, *size))
                    || result == ReadResult::Unknown
                    || (may_deny && result == ReadResult::NeverHad),
                "{ledger} {id} {result:?}"
            );
        }
    }

    fn restart(&mut self) {
        self.take_answers();
        match self.rng.below(6) {
            0 => self.bookie.stop(),
            1 => self.bookie.kill(),
            2 => self.bookie.power_loss(&self.rng.fork("power")),
            _ => self.die_in_a_call(),
        }
        self.adds.clear();
        self.fences.clear();
        // Whoever asked meta is gone as well.
        self.word = None;
        let report = self.bookie.open().unwrap();
        assert!(report.damage.is_empty(), "false alarm: {report:?}");
        self.seen.opens += 1;
        self.seen.cuts += usize::from(report.cut_tail);
        // Every so often everything is read back; the epoch moves on, as the check of fences leaves traces.
        if self.rng.one_in(3) {
            self.check();
        }
    }

    /// Power fails within one of the next calls, and what was not synced is kept, lost or torn.
    fn die_in_a_call(&mut self) {
        self.add();
        let op = self.bookie.disk.ops() + 1 + self.rng.below(6);
        let fault = match self.rng.below(3) {
            0 => Fault::PowerCutAfter,
            1 => Fault::Io,
            _ => Fault::PowerCut,
        };
        self.bookie.disk.fail_at(op, fault);
        while self.bookie.fatal.is_none() && self.bookie.disk.ops() < op {
            let busy = self.bookie.busy();
            if busy.is_empty() {
                break;
            }
            let worker = busy[self.rng.index(busy.len())];
            self.bookie.run_one(worker);
        }
        // What was answered before counts.
        self.take_answers();
        self.bookie.disk.heal();
        if fault == Fault::Io && self.rng.one_in(2) {
            self.bookie.kill();
        } else {
            self.bookie.power_loss(&self.rng.fork("power"));
        }
    }

    fn check(&mut self) {
        self.model.check(&mut self.bookie);
        self.check_lost();
        self.take_answers();
    }

    fn take_answers(&mut self) {
        let answers = &mut self.bookie.answers;
        self.adds
            .retain(|(token, ledger, id, size)| match answers.remove(token) {
                None => true,
                Some(Answer::Add(AddResult::Stored)) => {
                    let place = match self.past.get(ledger) {
                        Some(Past::Dropped | Past::Away) => &mut self.lost,
                        Some(Past::Back) | None => &mut self.model.acked,
                    };
                    place.insert((*ledger, *id), *size);
                    self.seen.acked += 1;
                    false
                }
                Some(Answer::Add(result)) => {
                    assert_ne!(result, AddResult::Mismatch);
                    self.seen.fenced += usize::from(matches!(result, AddResult::Fenced { .. }));
                    self.seen.busy += usize::from(result == AddResult::Busy);
                    false
                }
                Some(other) => panic!("{other:?} to an add"),
            });
        self.fences
            .retain(|(token, log, epoch)| match answers.remove(token) {
                None => true,
                Some(Answer::ReadLac(LacResult::Lac(_))) => {
                    let held = self.model.fences.entry(*log).or_insert(*epoch);
                    *held = (*held).max(*epoch);
                    false
                }
                Some(_) => false,
            });
        let stats = self.bookie.engine.as_ref().unwrap().stats();
        self.seen.rewritten = self.seen.rewritten.max(stats.files_rewritten);
        self.seen.merged |= stats.data_files > 0;
        self.seen.recycled |= stats.mark > 40;
    }
}

fn run(seed: u64, steps: usize) -> Seen {
    let mut run = Run::new(seed, config());
    for _ in 0..steps {
        run.step();
    }
    run.restart();
    run.check();
    run.seen
}

#[test]
fn what_was_acked_survives_any_mix_of_kills_and_power_losses() {
    let mut all = Seen::default();
    for seed in 0..40 {
        let seen = run(seed, 400);
        all.acked += seen.acked;
        all.fenced += seen.fenced;
        all.busy += seen.busy;
        all.cuts += seen.cuts;
        all.opens += seen.opens;
        all.merged |= seen.merged;
        all.recycled |= seen.recycled;
        all.dropped += seen.dropped;
        all.given_up += seen.given_up;
        all.returned += seen.returned;
        all.rewritten += seen.rewritten;
    }
    // A silent run proves nothing.
    assert!(
        all.acked > 5_000 && all.fenced > 100 && all.opens > 200,
        "{all:?}"
    );
    assert!(
        all.dropped > 40 && all.given_up > 5 && all.returned > 200 && all.rewritten > 0,
        "{all:?}"
    );
    assert!(all.cuts > 3 && all.merged && all.recycled, "{all:?}");
}

#[test]
fn the_same_seed_leaves_the_same_disk() {
    let digest = |seed| {
        let mut run = Run::new(seed, config());
        for _ in 0..200 {
            run.step();
        }
        run.bookie.disk.digest()
    };
    assert_eq!(digest(7), digest(7));
    assert_ne!(digest(7), digest(8));
}
