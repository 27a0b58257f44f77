//! Entries that follow one another round robin over ledgers, and the window in which they are added.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail};
use bookie::{Answer, Ask, Request, Token};
use bytes::Bytes;
use host::Rng;
use types::storage::{Add, AddKind, AddResult, Entry, Read, ReadResult};
use types::{EntryId, Epoch, LedgerId, LedgerSeq, LogId, Offset, Payload, Revision};

use crate::running::{Answers, Running};

/// Bytes that payloads are parts of, besides the bytes of one.
const NOISE: usize = 4 << 20;
/// When the ledgers were made: after the bookie was born.
const CREATED: Revision = Revision::new(5);

/// Entries round robin over ledgers, each of which is of a log of its own. The first one is number zero.
#[derive(Debug)]
pub(crate) struct Load {
    first_log: u64,
    ledgers: u64,
    entry: usize,
    noise: Bytes,
    /// The number of the next entry.
    next: u64,
}

/// What adding so many entries took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) took: Duration,
    /// How often an entry was refused for a while, because the journal or a flush was behind.
    pub(crate) busy: u64,
}

impl Load {
    /// Entries of so many bytes over so many ledgers, in logs from that number on.
    pub(crate) fn new(first_log: u64, ledgers: u64, entry: usize) -> Self {
        let mut noise = vec![0; NOISE + entry];
        Rng::seeded(first_log).fill(&mut noise);
        Self {
            first_log,
            ledgers,
            entry,
            noise: Bytes::from(noise),
            next: 0,
        }
    }

    /// Adds so many entries, at most `window` of which wait for their answers, and returns when all are durable.
    ///
    /// # Errors
    ///
    /// When the engine refuses one for good, or fails.
    pub(crate) fn add(
        &mut self,
        running: &mut Running<'_>,
        count: u64,
        window: usize,
    ) -> anyhow::Result<Added> {
        let began = running.host().clock.now();
        let end = self.next + count;
        let mut waiting = BTreeSet::new();
        let mut again: Vec<u64> = Vec::new();
        let mut answers = Answers::new();
        let mut busy = 0;
        while self.next < end || !waiting.is_empty() {
            let acked = waiting.first().copied().unwrap_or(self.next);
            let fresh = window.saturating_sub(waiting.len()) as u64;
            let fresh = self.next..end.min(self.next + fresh);
            self.next = fresh.end;
            waiting.extend(fresh.clone());
            let numbers = again.drain(..).chain(fresh);
            let requests: Vec<Request> = numbers.map(|it| self.request(it, acked)).collect();
            if !requests.is_empty() {
                running.ask(requests, &mut answers)?;
            }
            running.wait(&mut answers)?;
            for (Token(number), answer) in answers.drain(..) {
                match answer {
                    Answer::Add(AddResult::Stored) => drop(waiting.remove(&number)),
                    Answer::Add(AddResult::Busy) => {
                        busy += 1;
                        again.push(number);
                    }
                    other => bail!("an entry was not stored: {other:?}"),
                }
            }
        }
        let took = running.host().clock.now().since(began);
        Ok(Added { took, busy })
    }

    /// Reads the last entry that was added, and looks whether it is what was.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub(crate) fn check_last(&self, running: &mut Running<'_>) -> anyhow::Result<()> {
        let last = self.next.checked_sub(1).context("nothing was added")?;
        let (ledger, entry) = self.entry(last);
        let ask = Ask::Read(Read {
            ledger,
            created: CREATED,
            entry: entry.id,
            fence: None,
        });
        match running.ask_one(ask)? {
            Answer::Read(ReadResult::Found { entry: found, .. }) if found == entry => Ok(()),
            Answer::Read(ReadResult::Found { .. }) => bail!("the last entry is another one"),
            other => bail!("the last entry is lost: {other:?}"),
        }
    }

    fn request(&self, number: u64, acked: u64) -> Request {
        let (ledger, entry) = self.entry(number);
        let add = Add {
            ledger,
            created: CREATED,
            epoch: Epoch::new(1),
            lac: last_confirmed(number, acked, self.ledgers).map(EntryId::new),
            kind: AddKind::Write,
            entry,
        };
        Request {
            token: Token(number),
            ask: Ask::Add(add),
        }
    }

    fn entry(&self, number: u64) -> (LedgerId, Entry) {
        let log = LogId::new(self.first_log + number % self.ledgers);
        let ledger = LedgerId::new(log, LedgerSeq::new(0));
        let id = number / self.ledgers;
        // Another part for each of those that lie near one another.
        let at = usize::try_from(number.wrapping_mul(4_099) % (NOISE as u64))
            .expect("a place in memory");
        let payload = Payload::whole(self.noise.slice(at..at + self.entry));
        let entry = Entry::new(ledger, EntryId::new(id), Offset::new(id + 1), payload);
        (ledger, entry)
    }
}

/// The last entry of the ledger of `number` that its writer knows stored before it adds that one, all entries below
/// `acked` being so.
fn last_confirmed(number: u64, acked: u64, ledgers: u64) -> Option<u64> {
    let before = acked.min(number);
    let place = number % ledgers;
    (before > place).then(|| (before - 1 - place) / ledgers)
}

#[cfg(test)]
mod tests {
    use bookie::Config;

    use super::*;
    use crate::Machine;
    use crate::bed::Bed;

    #[test]
    fn what_is_refused_for_a_while_is_added_again_and_there_after_a_kill() {
        let machine = Machine::start().unwrap();
        let bed = Bed::make(&std::env::temp_dir(), 0, "").unwrap();
        // More waits than an engine with so little room takes.
        let usual = bed.config();
        let config = Config::small(usual.journal_dir, usual.data_dir);
        let mut load = Load::new(1, 7, 1024);
        let engine = bed.open(&machine.host, &config).unwrap().engine;
        let mut running = Running::start(&machine, engine);
        let added = load.add(&mut running, 1000, 200).unwrap();
        assert!(added.busy > 0, "{added:?}");
        running.kill().unwrap();
        let engine = bed.open(&machine.host, &config).unwrap().engine;
        let mut running = Running::start(&machine, engine);
        load.check_last(&mut running).unwrap();
        running.settle().unwrap();
        running.kill().unwrap();
    }

    #[test]
    fn a_writer_tells_the_last_entry_of_its_own_ledger_that_is_acked() {
        // Over three ledgers, entry 7 is the third of the second one; before it are 1 and 4.
        for (acked, told) in [
            (0, None),
            (1, None),
            (2, Some(0)),
            (4, Some(0)),
            (5, Some(1)),
            (9, Some(1)),
        ] {
            assert_eq!(last_confirmed(7, acked, 3), told, "{acked}");
        }
        assert_eq!(last_confirmed(7, 7, 1), Some(6));
        assert_eq!(last_confirmed(0, 0, 1), None);
    }

    #[test]
    fn entries_go_round_the_ledgers_and_each_is_whole_and_its_own() {
        let load = Load::new(10, 3, 1024);
        let all: Vec<_> = (0..7).map(|number| load.entry(number)).collect();
        let places: Vec<_> = all
            .iter()
            .map(|(ledger, entry)| (ledger.log().get(), entry.id.get()))
            .collect();
        let round_robin = [
            (10, 0),
            (11, 0),
            (12, 0),
            (10, 1),
            (11, 1),
            (12, 1),
            (10, 2),
        ];
        assert_eq!(places, round_robin);
        let payloads: BTreeSet<_> = all.iter().map(|(_, it)| it.payload.to_bytes()).collect();
        assert_eq!(payloads.len(), all.len());
        for (ledger, entry) in &all {
            assert!(entry.is_intact(*ledger) && entry.payload.len() == 1024);
        }
    }
}
