//! Reads copies, to see that they are there (I1, I26): each that meta begins to count as whole, and in the end all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bookie::{Answer, Ask};
use catalog::{Image, Key, LedgerBody, Record};
use types::chain::{LedgerRecord, LedgerState, LogStanding, WholeCopy};
use types::command::{Answer as Known, Command, Query};
use types::storage::{ReadRun, RunItem};
use types::{EntryId, LedgerId};

use super::agenda::MS;
use super::bookies::Bookie;
use super::event::{Asker, Timer};
use super::marks::Mark;
use super::world::World;

/// How long to wait when a bookie is too busy to be read.
const BUSY: u64 = 20 * MS;
/// Most bytes of one reading.
const RUN_BYTES: u64 = 1 << 20;

/// What is being read, and what was found in the end.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// The ledgers to be read yet at each bookie.
    left: BTreeMap<usize, VecDeque<LedgerId>>,
    /// The one that is being read.
    reading: BTreeMap<usize, Reading>,
    /// The last proof of all, once it began.
    last: Option<Last>,
}

#[derive(Debug)]
struct Reading {
    ledger: LedgerId,
    next: EntryId,
    last: EntryId,
}

#[derive(Debug)]
struct Last {
    /// The processes there were: a proof in which one died is begun again.
    lives: Vec<u32>,
    ledgers: Vec<LedgerId>,
    seen: BTreeSet<(LedgerId, EntryId)>,
}

fn body<'a>(image: &'a Image, id: &LedgerId) -> Option<&'a LedgerBody> {
    match &image.get(&Key::Ledger(*id))?.record {
        Record::Ledger(body) => Some(body),
        _ => None,
    }
}

impl World {
    /// Meta took a bookie's word: each copy that it counts as whole from now on is read.
    pub(super) fn copies_committed(&mut self, images: [&Image; 2], command: &Command) {
        let Command::CopiesWhole { bookie, copies, .. } = command else {
            return;
        };
        let Some(at) = self.bookie_of(*bookie) else {
            return;
        };
        for WholeCopy { ledger: id, .. } in copies {
            let [Some(before), Some(after)] = images.map(|image| body(image, id)) else {
                continue;
            };
            if before.ensemble != after.ensemble {
                self.marks.hit(Mark::PlaceTaken);
            }
            if before.verified != after.verified {
                self.proves(at, *id);
            }
        }
    }

    /// Has a bookie's copy read, after those that are to be read before it.
    fn proves(&mut self, at: usize, ledger: LedgerId) {
        if !self.bookies[at].is_open() {
            return;
        }
        let left = self.proof.left.entry(at).or_default();
        left.push_back(ledger);
        if !self.proof.reading.contains_key(&at) {
            self.proof_begins(at);
        }
    }

    /// The bookie's process died: nothing of it is read.
    pub(super) fn proof_stops(&mut self, at: usize) {
        self.proof.left.remove(&at);
        self.proof.reading.remove(&at);
    }

    /// The record of a ledger that somebody may still want to read: the copies of a deleted log are let go before its records
    /// are.
    fn record(&self, ledger: LedgerId) -> Option<LedgerRecord> {
        let log = self.meta.store.query(&Query::Logs(vec![ledger.log()]));
        if !matches!(log, Ok(Known::Logs(logs)) if matches!(logs[..], [(_, LogStanding::Live { .. })]))
        {
            return None;
        }
        match self.meta.store.query(&Query::Ledgers(vec![ledger])) {
            Ok(Known::Ledgers(mut records)) => records.pop(),
            _ => None,
        }
    }

    /// The next ledger that is to be read there and has something to be read.
    fn proof_begins(&mut self, at: usize) {
        self.proof.reading.remove(&at);
        loop {
            let left = self.proof.left.get_mut(&at);
            let Some(ledger) = left.and_then(VecDeque::pop_front) else {
                return;
            };
            if let Some(LedgerState::Closed {
                last: Some(last), ..
            }) = self.record(ledger).map(|record| record.state)
            {
                let next = EntryId::new(0);
                let reading = Reading { ledger, next, last };
                self.proof.reading.insert(at, reading);
                return self.proof_goes_on(at);
            }
        }
    }

    /// Reads on.
    pub(super) fn proof_goes_on(&mut self, at: usize) {
        let Some(reading) = self.proof.reading.get(&at) else {
            return;
        };
        // What was trimmed meanwhile is nobody's affair any more.
        let Some(record) = self.record(reading.ledger) else {
            return self.proof_begins(at);
        };
        let run = ReadRun {
            ledger: reading.ledger,
            created: record.created,
            first: reading.next,
            last: reading.last,
            max_bytes: RUN_BYTES,
            payload_limit: None,
        };
        self.ask_engine(at, Asker::Proof, vec![Ask::ReadRun(run)]);
    }

    /// A bookie gave a part of its copy.
    pub(super) fn proof_hears(&mut self, at: usize, ask: &Ask, answer: Answer) {
        let (Some(reading), Ask::ReadRun(run), Answer::ReadRun(items)) =
            (self.proof.reading.get_mut(&at), ask, answer)
        else {
            return;
        };
        if (run.ledger, run.first) != (reading.ledger, reading.next) {
            return; // Of a proof that was begun again.
        }
        let mut is_missing = false;
        for item in items {
            match item {
                RunItem::Entry(entry) => {
                    if let Some(last) = &mut self.proof.last {
                        last.seen.insert((reading.ledger, entry.id));
                    }
                    reading.next = entry.id.next();
                }
                RunItem::Busy => return self.bookie_timer(at, BUSY, Timer::Proof),
                RunItem::Prefix { .. } | RunItem::NeverHad | RunItem::Unknown => is_missing = true,
            }
        }
        let (ledger, entry) = (reading.ledger, reading.next);
        if is_missing {
            reading.next = entry.next();
        }
        let is_over = reading.next > reading.last;
        if is_missing && self.counts_as_whole(at, ledger) {
            let what = format!("bookie-{at} does not give {ledger} {entry} and counts as whole");
            self.violation("I26", what);
        }
        if is_over {
            self.marks.hit(Mark::Proven);
            self.proof_begins(at);
        } else {
            self.proof_goes_on(at);
        }
    }

    /// Whether meta says that a bookie's copy is whole, and nobody harmed its bytes since.
    fn counts_as_whole(&self, at: usize, ledger: LedgerId) -> bool {
        let (Some(record), Some(id)) = (self.record(ledger), self.bookies[at].id) else {
            return false;
        };
        let born = self.bookies[at].born;
        !self.observer.is_blind(at) && record.ensemble.contains(&id) && record.is_verified(id, born)
    }

    /// Has every copy read. True when that is done; what no bookie gave that is there is lost.
    pub(super) fn is_proven(&mut self) -> bool {
        // One that is still opening may hold the only copy: with one ack, nobody promised more.
        let there = self.bookies.iter().filter(|bookie| !bookie.is_gone);
        if !there.into_iter().all(Bookie::is_open) {
            return false;
        }
        let lives: Vec<u32> = self.bookies.iter().map(|bookie| bookie.life).collect();
        if self
            .proof
            .last
            .as_ref()
            .is_none_or(|last| last.lives != lives)
        {
            self.proof_of_all(lives);
            return false;
        }
        if !self.proof.reading.is_empty() {
            return false;
        }
        let Some(last) = self.proof.last.take() else {
            return false;
        };
        let there = self.ledgers().into_iter();
        let there = there.filter(|record| last.ledgers.contains(&record.id));
        for record in there.collect::<Vec<_>>() {
            let LedgerState::Closed {
                last: Some(end), ..
            } = record.state
            else {
                continue;
            };
            let entries = (0..=end.get()).map(EntryId::new);
            let lost = entries
                .into_iter()
                .find(|entry| !last.seen.contains(&(record.id, *entry)));
            if let Some(entry) = lost.filter(|_| !self.swarm.is_beyond) {
                let what = format!("no bookie that is there gives {} {entry}", record.id);
                self.violation("I1", what);
            }
        }
        true
    }

    fn proof_of_all(&mut self, lives: Vec<u32>) {
        let records = self.ledgers().into_iter();
        let closed = records.filter(|it| matches!(it.state, LedgerState::Closed { .. }));
        let closed: Vec<LedgerRecord> = closed.collect();
        self.proof = Proof {
            last: Some(Last {
                lives,
                ledgers: closed.iter().map(|record| record.id).collect(),
                seen: BTreeSet::new(),
            }),
            ..Proof::default()
        };
        for record in closed {
            for id in &record.ensemble {
                if let Some(at) = self.bookie_of(*id) {
                    self.proves(at, record.id);
                }
            }
        }
    }
}
