//! A storage node for tests: the real acceptor over a map. Everything is durable at once.

use std::collections::BTreeMap;

use ledger::{Acceptor, AddDecision, Answer, FenceDecision, Fingerprint, Held, Missing, Request};
use types::storage::{Add, AddResult, Entry, LacResult, Read, ReadResult, ReadRun, RunItem};
use types::{EntryId, Epoch, LedgerId, LedgerSeq, LogId, Revision};

/// The acceptor, and its entries.
pub(super) struct TestBookie {
    pub(super) acceptor: Acceptor,
    pub(super) entries: BTreeMap<(LedgerId, EntryId), Entry>,
    pub(super) is_down: bool,
    /// Runs it answered.
    pub(super) runs: usize,
    /// Payload bytes that readers of whole entries got from it.
    pub(super) bytes_read: usize,
}

impl TestBookie {
    pub(super) fn new(born: Revision) -> Self {
        Self {
            acceptor: Acceptor::new(born),
            entries: BTreeMap::new(),
            is_down: false,
            runs: 0,
            bytes_read: 0,
        }
    }

    /// Takes meta's word that the older ledgers of a log are dropped.
    pub(super) fn trim(&mut self, log: LogId, first: LedgerSeq) {
        self.acceptor.trim(log, first);
        let is_dropped = |id: LedgerId| id.log() == log && id.seq() < first;
        self.entries.retain(|(ledger, _), _| !is_dropped(*ledger));
    }

    /// Answers a request; none to one that is not answered.
    pub(super) fn answer(&mut self, request: Request) -> Option<Answer> {
        Some(match request {
            Request::Add(add) => Answer::Added {
                ledger: add.ledger,
                entry: add.entry.id,
                result: self.add(&add),
            },
            Request::Read(read) => Answer::Read {
                ledger: read.ledger,
                entry: read.entry,
                result: self.read(&read),
            },
            Request::ReadLac(read) => Answer::Lac {
                ledger: read.ledger,
                result: match self.fence(read.ledger.log(), read.fence) {
                    Err(by) => LacResult::Fenced { by },
                    Ok(()) => self.acceptor.lac_answer(read.ledger),
                },
            },
            Request::SetLac(set) => {
                self.acceptor.set_lac(&set);
                return None;
            }
        })
    }

    /// The items of a run; none when it cannot be reached.
    pub(super) fn read_run(&mut self, run: &ReadRun) -> Vec<RunItem> {
        if self.is_down {
            return Vec::new();
        }
        self.runs += 1;
        let mut items = Vec::new();
        let mut left = run.max_bytes;
        for entry in run.first.get()..=run.last.get() {
            let Some(found) = self.entries.get(&(run.ledger, EntryId::new(entry))) else {
                items.push(self.missing(run.ledger, run.created));
                break;
            };
            let bytes = found.payload.to_bytes();
            let limit = run.payload_limit.map_or(usize::MAX, |limit| limit as usize);
            let len = bytes.len().min(limit);
            if !items.is_empty() && len as u64 > left {
                break;
            }
            left = left.saturating_sub(len as u64);
            items.push(match run.payload_limit {
                None => {
                    self.bytes_read += len;
                    RunItem::Entry(found.clone())
                }
                Some(_) => RunItem::Prefix {
                    id: found.id,
                    next_offset: found.next_offset,
                    prefix: bytes.slice(..len),
                },
            });
        }
        items
    }

    fn add(&mut self, add: &Add) -> AddResult {
        assert!(add.entry.is_intact(add.ledger));
        let key = (add.ledger, add.entry.id);
        let held = match self.entries.get(&key) {
            None => Held::Absent,
            Some(held) => Held::Durable(Fingerprint {
                crc: held.crc,
                len: held.payload.len() as u64,
                next_offset: held.next_offset,
            }),
        };
        match self.acceptor.add(add, held) {
            AddDecision::Answer(result) => result,
            AddDecision::Append => {
                self.entries.insert(key, add.entry.clone());
                AddResult::Stored
            }
            AddDecision::Wait => panic!("everything is durable at once"),
        }
    }

    fn fence(&mut self, log: LogId, epoch: Option<Epoch>) -> Result<(), Epoch> {
        let Some(epoch) = epoch else {
            return Ok(());
        };
        match self.acceptor.fence(log, epoch) {
            FenceDecision::Refuse { by } => Err(by),
            FenceDecision::Journal => {
                self.acceptor.fence_durable(log, epoch);
                Ok(())
            }
            FenceDecision::Wait | FenceDecision::Durable => Ok(()),
        }
    }

    fn read(&mut self, read: &Read) -> ReadResult {
        if let Err(by) = self.fence(read.ledger.log(), read.fence) {
            return ReadResult::Fenced { by };
        }
        match self.entries.get(&(read.ledger, read.entry)) {
            Some(entry) => ReadResult::Found {
                entry: entry.clone(),
                lac: self.acceptor.lac(read.ledger),
            },
            None => match self.acceptor.absent(read.ledger, read.created, true) {
                Missing::NeverHad => ReadResult::NeverHad,
                Missing::Unknown => ReadResult::Unknown,
            },
        }
    }

    fn missing(&self, ledger: LedgerId, created: Revision) -> RunItem {
        match self.acceptor.absent(ledger, created, true) {
            Missing::NeverHad => RunItem::NeverHad,
            Missing::Unknown => RunItem::Unknown,
        }
    }
}
