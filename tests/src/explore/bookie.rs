//! The least that makes a bookie of an [`Acceptor`]: entries visible or durable, and a journal that syncs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ledger::{Acceptor, AddDecision, Answer, FenceDecision, Fingerprint, Held, Missing, Request};
use types::storage::{Add, AddKind, AddResult, Entry, LacResult, Read, ReadLac, ReadResult};
use types::{BookieId, EntryId, Epoch, LedgerId, LogId, Revision};

use super::observer::{Goal, Violation};

type Place = (LedgerId, EntryId);

/// An entry as the bookie holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Copy {
    entry: Entry,
    lac: Option<EntryId>,
    kind: AddKind,
    is_durable: bool,
}

/// A record on its way to the disk, and who is answered when it is there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Pending {
    Add {
        place: Place,
        epoch: Epoch,
        waiting: BTreeSet<u8>,
    },
    Fence {
        log: LogId,
        epoch: Epoch,
        answers: Vec<(u8, Answer)>,
    },
}

/// A bookie.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Bookie {
    id: BookieId,
    acceptor: Acceptor,
    entries: BTreeMap<Place, Copy>,
    journal: VecDeque<Pending>,
    /// What was durable here in any of its lives.
    ever: BTreeSet<Place>,
    /// What was visible when the highest fence of a log took effect.
    shown_at_fence: BTreeMap<LogId, BTreeSet<Place>>,
}

/// What came of a step of a bookie.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) answers: Vec<(u8, Answer)>,
    /// What reads can see from now on.
    pub(super) shown: Option<(LedgerId, Entry)>,
    pub(super) goals: Vec<Goal>,
}

impl Bookie {
    pub(super) const fn new(id: BookieId, born: Revision) -> Self {
        Self {
            id,
            acceptor: Acceptor::new(born),
            entries: BTreeMap::new(),
            journal: VecDeque::new(),
            ever: BTreeSet::new(),
            shown_at_fence: BTreeMap::new(),
        }
    }

    pub(super) const fn id(&self) -> BookieId {
        self.id
    }

    pub(super) const fn born(&self) -> Revision {
        self.acceptor.born()
    }

    pub(super) fn is_durable(&self, ledger: LedgerId, entry: EntryId) -> bool {
        let copy = self.entries.get(&(ledger, entry));
        copy.is_some_and(|copy| copy.is_durable)
    }

    pub(super) fn ever_durable(&self, ledger: LedgerId, entry: EntryId) -> bool {
        self.ever.contains(&(ledger, entry))
    }

    /// Whether something is not on the disk yet.
    pub(super) fn unsynced(&self) -> usize {
        self.journal.len()
    }

    pub(super) fn lacs(&self) -> impl Iterator<Item = (LedgerId, EntryId)> {
        self.acceptor.facts().filter_map(|(log, facts)| {
            let (seq, lac) = facts.lac?;
            Some((LedgerId::new(log, seq), lac))
        })
    }

    /// Takes a request of an owner.
    pub(super) fn request(&mut self, from: u8, request: &Request) -> Result<Outcome, Violation> {
        let mut out = Outcome::default();
        match request {
            Request::Add(add) => self.add(from, add, &mut out),
            Request::Read(read) => {
                let refuse = |by| Answer::Read {
                    ledger: read.ledger,
                    entry: read.entry,
                    result: ReadResult::Fenced { by },
                };
                let to = (from, read.ledger.log(), read.fence);
                self.fencing(to, refuse, &mut out, |bookie, out| bookie.read(read, out))?;
            }
            Request::ReadLac(read) => {
                let lac = |result| Answer::Lac {
                    ledger: read.ledger,
                    result,
                };
                let refuse = |by| lac(LacResult::Fenced { by });
                let to = (from, read.ledger.log(), read.fence);
                self.fencing(to, refuse, &mut out, |bookie, _| {
                    Ok(lac(bookie.read_lac(read)))
                })?;
            }
            Request::SetLac(set) => {
                out.goals.push(Goal::LacAlone);
                self.acceptor.set_lac(set);
            }
        }
        Ok(out)
    }

    fn add(&mut self, from: u8, add: &Add, out: &mut Outcome) {
        let place = (add.ledger, add.entry.id);
        let held = match self.entries.get(&place) {
            None => Held::Absent,
            Some(copy) => {
                let print = Fingerprint {
                    crc: copy.entry.crc,
                    len: u64::try_from(copy.entry.payload.len()).expect("lengths fit 64 bits"),
                    next_offset: copy.entry.next_offset,
                };
                if copy.is_durable {
                    Held::Durable(print)
                } else {
                    Held::Visible(print)
                }
            }
        };
        let decision = self.acceptor.add(add, held);
        if add.kind == AddKind::Recovery {
            out.goals.push(Goal::WrittenBack);
        }
        match decision {
            AddDecision::Answer(result) => {
                if let AddResult::Sealed(types::storage::SealedReason::OlderThanBirth) = result {
                    out.goals.push(Goal::RefusedByBirth);
                }
                let answer = Answer::Added {
                    ledger: add.ledger,
                    entry: add.entry.id,
                    result,
                };
                out.answers.push((from, answer));
            }
            AddDecision::Append => {
                out.shown = Some((add.ledger, add.entry.clone()));
                self.entries.insert(
                    place,
                    Copy {
                        entry: add.entry.clone(),
                        lac: add.lac,
                        kind: add.kind,
                        is_durable: false,
                    },
                );
                self.journal.push_back(Pending::Add {
                    place,
                    epoch: add.epoch,
                    waiting: BTreeSet::from([from]),
                });
            }
            AddDecision::Wait => {
                out.goals.push(Goal::WaitedForFirstCopy);
                let first = self.journal.iter_mut().find_map(|pending| match pending {
                    Pending::Add {
                        place: at, waiting, ..
                    } if *at == place => Some(waiting),
                    Pending::Add { .. } | Pending::Fence { .. } => None,
                });
                first
                    .expect("a visible copy is in the journal")
                    .insert(from);
            }
        }
    }

    /// The fence takes effect, then the look-up, then the fence is durable, then the answer.
    fn fencing(
        &mut self,
        (from, log, fence): (u8, LogId, Option<Epoch>),
        refuse: impl FnOnce(Epoch) -> Answer,
        out: &mut Outcome,
        look_up: impl FnOnce(&Self, &mut Outcome) -> Result<Answer, Violation>,
    ) -> Result<(), Violation> {
        let Some(epoch) = fence else {
            let answer = look_up(self, out)?;
            out.answers.push((from, answer));
            return Ok(());
        };
        match self.acceptor.fence(log, epoch) {
            FenceDecision::Refuse { by } => out.answers.push((from, refuse(by))),
            FenceDecision::Durable => {
                let answer = look_up(self, out)?;
                out.answers.push((from, answer));
            }
            FenceDecision::Journal => {
                let shown = self.entries.keys().copied();
                let shown = shown.filter(|(held, _)| held.log() == log).collect();
                self.shown_at_fence.insert(log, shown);
                let answer = look_up(self, out)?;
                self.journal.push_back(Pending::Fence {
                    log,
                    epoch,
                    answers: vec![(from, answer)],
                });
            }
            FenceDecision::Wait => {
                let answer = look_up(self, out)?;
                let first = self.journal.iter_mut().find_map(|pending| match pending {
                    Pending::Fence {
                        log: of,
                        epoch: by,
                        answers,
                    } if (*of, *by) == (log, epoch) => Some(answers),
                    Pending::Add { .. } | Pending::Fence { .. } => None,
                });
                let answers = first.expect("a fence in effect and not durable is in the journal");
                if !answers.contains(&(from, answer.clone())) {
                    answers.push((from, answer));
                }
            }
        }
        Ok(())
    }

    fn read(&self, read: &Read, out: &mut Outcome) -> Result<Answer, Violation> {
        let place = (read.ledger, read.entry);
        let result = match self.entries.get(&place) {
            Some(copy) => ReadResult::Found {
                entry: copy.entry.clone(),
                lac: self.acceptor.lac(read.ledger),
            },
            None => match self.acceptor.absent(read.ledger, read.created, true) {
                Missing::NeverHad if self.ever.contains(&place) => {
                    let what = format!("{} says it never had {place:?}", self.id);
                    return Err(Violation { rule: "I11", what });
                }
                Missing::NeverHad => ReadResult::NeverHad,
                Missing::Unknown => {
                    out.goals.push(Goal::SaidUnknown);
                    ReadResult::Unknown
                }
            },
        };
        Ok(Answer::Read {
            ledger: read.ledger,
            entry: read.entry,
            result,
        })
    }

    fn read_lac(&self, read: &ReadLac) -> LacResult {
        self.acceptor.lac_answer(read.ledger)
    }

    /// The journal syncs everything it has.
    pub(super) fn sync(&mut self) -> Result<Outcome, Violation> {
        self.sync_some(self.journal.len())
    }

    fn sync_some(&mut self, count: usize) -> Result<Outcome, Violation> {
        let mut out = Outcome::default();
        for _ in 0..count {
            match self.journal.pop_front() {
                None => break,
                Some(Pending::Add {
                    place,
                    epoch,
                    waiting,
                }) => {
                    let copy = self.entries.get_mut(&place);
                    copy.expect("what is journaled is visible").is_durable = true;
                    self.ever.insert(place);
                    self.check_visible_before_fence(place, epoch)?;
                    let answer = Answer::Added {
                        ledger: place.0,
                        entry: place.1,
                        result: AddResult::Stored,
                    };
                    out.answers
                        .extend(waiting.iter().map(|to| (*to, answer.clone())));
                }
                Some(Pending::Fence {
                    log,
                    epoch,
                    answers,
                }) => {
                    self.acceptor.fence_durable(log, epoch);
                    if self.acceptor.durable_fence_of(log) < Some(epoch) {
                        let what = format!("{} answers before its fence is durable", self.id);
                        return Err(Violation { rule: "I8", what });
                    }
                    out.answers.extend(answers);
                }
            }
        }
        Ok(out)
    }

    /// What is answered as stored to a fenced epoch was visible when the fence took effect (I10).
    fn check_visible_before_fence(&self, place: Place, epoch: Epoch) -> Result<(), Violation> {
        let log = place.0.log();
        let is_fenced = self.acceptor.fence_of(log) > Some(epoch);
        let shown = self.shown_at_fence.get(&log);
        if is_fenced && !shown.is_some_and(|shown| shown.contains(&place)) {
            let what = format!(
                "{} stores {place:?} that no fencing read could see",
                self.id
            );
            return Err(Violation { rule: "I10", what });
        }
        Ok(())
    }

    /// The process dies with the first `kept` records of its journal on the disk, unanswered, and starts again.
    pub(super) fn crash(&mut self, kept: usize) -> Result<(), Violation> {
        self.sync_some(kept)?;
        self.journal.clear();
        self.entries.retain(|_, copy| copy.is_durable);
        let mut acceptor = Acceptor::new(self.born());
        for (log, _) in self.acceptor.facts() {
            if let Some(epoch) = self.acceptor.durable_fence_of(log) {
                acceptor.replay_fence(log, epoch);
            }
        }
        for ((ledger, _), copy) in &self.entries {
            acceptor.replay_add(*ledger, copy.kind, copy.lac);
        }
        self.acceptor = acceptor;
        Ok(())
    }

    /// The disk is lost: the bookie is born again, remembering nothing.
    pub(super) fn rebirth(&mut self, born: Revision) {
        self.journal.clear();
        self.entries.clear();
        self.shown_at_fence.clear();
        self.acceptor = Acceptor::new(born);
    }
}
