//! Crash states: every call of a journal and MANIFEST workload is a moment at which power may fail, and at each the
//! disk may be left in many ways. In each of them the bookie opens, finds no damage, and holds what was acked.
//!
//! `cargo test` samples 2,000 states; `cargo test -p bookie --test crash_states -- --ignored` 20,000 and more.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;

use bookie::{Answer, Ask, Config, Reclaim};
use host::Rng;
use host::disk::sim::{CrashStates, SimDisk};
use types::storage::{AddKind, AddResult, ReadLac, ReadResult, SealedReason};
use types::{Epoch, LedgerId, LedgerSeq, LogId};

use support::{Bookie, CREATED, Meta, Model, add, config, entry, ledger};

/// What was answered, each from a call of the disk on.
#[derive(Default)]
struct Promises {
    acked: Vec<(u64, LedgerId, u64, usize)>,
    fences: Vec<(u64, LogId, u64)>,
    /// Logs that the bookie heard are trimmed up to a ledger; it may have acted on it from the call on.
    trims: Vec<(u64, LogId, LedgerSeq)>,
    /// Meta's record from a call on.
    meta: BTreeMap<u64, Meta>,
}

impl Promises {
    /// The acked entries that may be gone after a call.
    fn gone(&self, op: u64) -> BTreeMap<LedgerId, (u64, usize)> {
        let acked = self.acked.iter().filter(|(since, ..)| *since <= op);
        acked
            .filter(|(_, ledger, ..)| self.is_trimmed(op, *ledger))
            .map(|(_, ledger, id, size)| (*ledger, (*id, *size)))
            .collect()
    }

    fn is_trimmed(&self, op: u64, ledger: LedgerId) -> bool {
        self.trims.iter().any(|(since, log, first)| {
            *since <= op && *log == ledger.log() && ledger.seq() < *first
        })
    }

    fn at(&self, op: u64) -> (Model, Meta) {
        let mut model = Model::default();
        for (_, ledger, id, size) in self.acked.iter().filter(|(since, ..)| *since <= op) {
            if !self.is_trimmed(op, *ledger) {
                model.acked.insert((*ledger, *id), *size);
            }
        }
        for (_, log, epoch) in self.fences.iter().filter(|(since, ..)| *since <= op) {
            model.fences.insert(*log, *epoch);
        }
        let meta = self.meta.range(..=op).next_back();
        (
            model,
            meta.map_or_else(Meta::default, |(_, meta)| meta.clone()),
        )
    }
}

/// A small bookie's work with every kind of change of file in it: several starts, flushes, merges, recycling, and what a
/// trimmed ledger gives back.
fn workload(config: &Config) -> (SimDisk, Promises) {
    let disk = SimDisk::new(11);
    disk.record_snapshots(true);
    let mut bookie = Bookie::new(disk.clone(), config.clone());
    let mut promises = Promises::default();
    let mut next = 0;
    for round in 0..4 {
        let opening = bookie.opening().unwrap();
        let record = bookie.meta.register(opening.claim("b-1:1".to_owned()));
        promises.meta.insert(disk.ops(), bookie.meta.clone());
        let now = types::MonoTime::from_nanos(bookie.now);
        let (engine, report) = opening.finish(&record, now).unwrap();
        assert!(report.damage.is_empty());
        bookie.engine = Some(engine);
        for step in 0..60_u64 {
            let count = 1 + step % 3;
            let mut tokens = Vec::new();
            for _ in 0..count {
                let size = usize::try_from(next % 5 * 200).unwrap();
                let token = bookie.ask(Ask::Add(add(ledger(1, 0), next, size, 100)));
                tokens.push((token, ledger(1, 0), next, size));
                next += 1;
            }
            tokens.push(write_short(&mut bookie, &mut promises, round * 60 + step));
            if step % 20 == 7 {
                let (log, epoch) = (LogId::new(2 + step % 3), round + 1);
                let ask = ReadLac {
                    ledger: LedgerId::new(log, LedgerSeq::new(0)),
                    created: CREATED,
                    fence: Some(Epoch::new(epoch)),
                };
                let token = bookie.ask(Ask::ReadLac(ask));
                bookie.settle();
                assert!(
                    bookie.answers.remove(&token.0).is_some(),
                    "{:?} {:?}",
                    bookie.fatal,
                    bookie.engine
                );
                promises.fences.push((disk.ops(), log, epoch));
            }
            while bookie.run_one(bookie::Worker::Journal) {
                for (token, ledger, id, size) in &tokens {
                    let stored = Some(Answer::Add(AddResult::Stored));
                    if bookie.answers.remove(&token.0) == stored {
                        promises.acked.push((disk.ops(), *ledger, *id, *size));
                    }
                }
            }
            if step % 4 == 0 {
                bookie.now += 12_000_000;
                bookie.handle(bookie::Event::Deadline);
            }
            for _ in 0..1 + step % 4 {
                bookie.run_one(bookie::Worker::Store);
            }
            promises.meta.insert(disk.ops(), bookie.meta.clone());
        }
        if round == 2 {
            bookie.stop();
        } else {
            bookie.settle();
            bookie.kill();
        }
    }
    (disk, promises)
}

/// Writes to a ledger of another log, a new one every few steps, and has the older half of them trimmed.
fn write_short(
    bookie: &mut Bookie,
    promises: &mut Promises,
    step: u64,
) -> (bookie::Token, LedgerId, u64, usize) {
    let short = ledger(6, u32::try_from(step / 6).unwrap());
    let token = bookie.ask(Ask::Add(add(short, step % 6, 700, 100)));
    if step % 6 == 5 {
        let (log, first) = (LogId::new(6), LedgerSeq::new(short.seq().get() / 2));
        promises.trims.push((bookie.disk.ops(), log, first));
        bookie.handle(bookie::Event::Reclaim(Reclaim {
            trimmed: vec![(log, first)],
            ..Reclaim::default()
        }));
    }
    (token, short, step % 6, 700)
}

/// Opens so many states and checks each.
fn sweep(states: usize) {
    let mut config = config();
    // Small enough that every moment comes often: flush, merge, change of journal file.
    config.journal_first_file = types::ByteSize::kib(32);
    config.journal_file = types::ByteSize::kib(32);
    config.memtable = types::ByteSize::kib(8);
    config.merge_width = 3;
    let (disk, promises) = workload(&config);
    let mut snapshots = disk.take_snapshots();
    let moments = snapshots.len();
    // Spread over the whole run, however few are taken.
    let step = (moments / states).max(1);
    snapshots = snapshots.into_iter().step_by(step).collect();
    let mut cut = 0;
    let mut gone = 0;
    let all = CrashStates::new(snapshots, Rng::seeded(5)).take(states);
    for (state, (op, disk)) in all.enumerate() {
        let (model, meta) = promises.at(op);
        let mut bookie = Bookie::new(disk, config.clone());
        bookie.meta = meta;
        bookie.entropy = 0xabc0 + u128::from(op);
        let report = bookie
            .open()
            .unwrap_or_else(|error| panic!("after call {op}: {error}"));
        assert!(report.damage.is_empty(), "after call {op}: {report:?}");
        cut += usize::from(report.cut_tail);
        // The newest are the ones at stake; of the older a few.
        let mut checked = model.clone();
        let total = checked.acked.len();
        let mut index = 0;
        checked.acked.retain(|_, _| {
            index += 1;
            index + 25 > total || index % 16 == usize::try_from(op % 16).unwrap()
        });
        checked.check(&mut bookie);
        gone += check_gone(&mut bookie, &promises.gone(op));
        // What it promises from here on holds as well.
        if state % 4 != 0 {
            continue;
        }
        assert_eq!(
            bookie.added(add(ledger(8, 0), 0, 100, 1)),
            AddResult::Stored
        );
        bookie.power_loss(&Rng::seeded(op));
        let report = bookie.open().unwrap();
        assert!(
            report.damage.is_empty(),
            "second loss after call {op}: {report:?}"
        );
        checked.acked.insert((ledger(8, 0), 0), 100);
        checked.check(&mut bookie);
    }
    assert!(moments > 500 && promises.acked.len() > 300, "{moments}");
    assert!(cut > 0, "no torn tail among {states} states");
    assert!(gone > states, "nothing was given back in {states} states");
}

/// What is gone is gone together with the fact that allows it: never denied, and refused from then on. How many are.
fn check_gone(bookie: &mut Bookie, entries: &BTreeMap<LedgerId, (u64, usize)>) -> usize {
    let mut gone = 0;
    for (ledger, (id, size)) in entries {
        let wanted = entry(*ledger, *id, *size);
        match bookie.read(*ledger, *id, None) {
            ReadResult::Found { entry, .. } => assert_eq!(entry, wanted),
            ReadResult::Unknown => {
                let again = bookie.added(types::storage::Add {
                    kind: AddKind::Repair,
                    ..add(*ledger, *id, *size, 100)
                });
                assert_eq!(again, AddResult::Sealed(SealedReason::Dropped), "{ledger}");
                gone += 1;
            }
            other => panic!("{other:?} for an entry that was acked {ledger} {id}"),
        }
    }
    gone
}

#[test]
fn every_sampled_crash_state_opens_and_holds_what_was_acked() {
    sweep(2_000);
}

#[test]
#[ignore = "a minute and more"]
fn twenty_thousand_crash_states_open_and_hold_what_was_acked() {
    sweep(24_000);
}
