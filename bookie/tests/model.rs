//! The engine against a model: random requests, restarts, kills and power losses. Whatever was acked is there, fences
//! hold, nothing is made up, and nothing is called damaged that was not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use bookie::{Answer, Ask, Config, Request};
use host::Rng;
use host::disk::sim::{Fault, SimDisk};
use types::storage::{AddKind, AddResult, LacResult, ReadLac, ReadResult};
use types::{Epoch, LogId};

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
}

struct Run {
    bookie: Bookie,
    model: Model,
    rng: Rng,
    /// Adds and fences that have not been answered: token, and what it was.
    adds: Vec<(u64, types::LedgerId, u64, usize)>,
    fences: Vec<(u64, LogId, u64)>,
    next: [u64; 3],
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
            next: [0; 3],
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
            67..96 => {
                let busy = self.bookie.busy();
                if !busy.is_empty() {
                    let worker = busy[self.rng.index(busy.len())];
                    self.bookie.run_one(worker);
                }
            }
            96..98 => self.bookie.settle(),
            _ => self.restart(),
        }
        assert_eq!(self.bookie.fatal, None);
        self.take_answers();
    }

    fn add(&mut self) {
        let mut requests = Vec::new();
        for _ in 0..=self.rng.below(4) {
            let log = self.rng.below(3);
            let ledger = ledger(log + 1, 0);
            let slot = usize::try_from(log).unwrap();
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
        let log = self.rng.below(5) + 1;
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
        let log = self.rng.below(3);
        let id = self.rng.below(self.next[usize::try_from(log).unwrap()] + 3);
        let ledger = ledger(log + 1, 0);
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
        self.take_answers();
    }

    fn take_answers(&mut self) {
        let answers = &mut self.bookie.answers;
        self.adds
            .retain(|(token, ledger, id, size)| match answers.remove(token) {
                None => true,
                Some(Answer::Add(AddResult::Stored)) => {
                    self.model.acked.insert((*ledger, *id), *size);
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
    }
    // A silent run proves nothing.
    assert!(
        all.acked > 5_000 && all.fenced > 100 && all.opens > 200,
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
