//! The auditor of meta: when it looks, and what becomes of what it finds. The decisions are those of `meta::audit::core`.

use std::collections::{BTreeMap, BTreeSet};

use catalog::{Key, Record};
use meta::audit::core::{Look, Memory};
use types::chain::{LedgerRecord, LedgerState, Move, WholeCopy};
use types::command::{Answer, Command, Query, Reply};
use types::{BookieId, LedgerId, MonoTime, Problem, Revision};

use super::agenda::{MS, Nanos, SECOND};
use super::event::{Due, Event};
use super::marks::Mark;
use super::net::Host;
use super::world::World;

/// How often it looks, when anything changed.
const EVERY: Nanos = 300 * MS;
/// The longest time from reading the bookies to reading the ledgers.
const WITHIN: Nanos = 30 * MS;
/// Most copies that move at a time.
const MOVES: usize = 32;

/// What the auditor of one process of meta knows.
#[derive(Debug, Default)]
pub(super) struct Auditor {
    memory: Memory,
    /// A look under way: the bookies are read, the ledgers are not.
    look: Option<(Look, Revision)>,
    seen: Option<Revision>,
    due: BTreeMap<BookieId, BTreeSet<LedgerId>>,
}

impl World {
    fn meta_mono(&self) -> MonoTime {
        MonoTime::from_nanos(self.now + SECOND)
    }

    /// A new process of meta begins to count anew.
    pub(super) fn audit_starts(&mut self) {
        self.meta.auditor = Auditor::default();
        if self.swarm.repairs {
            let life = self.meta.life;
            self.agenda.put(self.now, Event::MetaAudits { life });
        }
    }

    /// The auditor's time: it begins a look, or ends the one that is under way.
    pub(super) fn meta_audits(&mut self, life: u32) {
        if !self.meta.is_up || life != self.meta.life {
            return;
        }
        let wait = match self.meta.auditor.look.take() {
            Some((look, revision)) => {
                self.audit_ends(look);
                self.meta.auditor.seen = Some(revision);
                EVERY
            }
            None if self.audit_begins() => 1 + self.rng.below(WITHIN),
            None => EVERY,
        };
        self.agenda.put(self.now + wait, Event::MetaAudits { life });
    }

    fn audit_begins(&mut self) -> bool {
        let now = self.meta_mono();
        let grace = self.swarm.grace;
        let revision = self.meta.store.revision();
        let Ok(Answer::Bookies(bookies)) = self.meta.store.query(&Query::Bookies) else {
            return false;
        };
        let auditor = &mut self.meta.auditor;
        if auditor.seen == Some(revision) && !auditor.memory.wants_look(now) {
            return false;
        }
        let look = auditor.memory.look(now, grace, &bookies);
        auditor.look = Some((look, revision));
        true
    }

    fn audit_ends(&mut self, mut look: Look) {
        for record in self.ledgers() {
            look.ledger(&record);
        }
        let findings = look.finish(MOVES);
        for told in self.meta.auditor.memory.tell(&findings.beyond) {
            self.trace(|| format!("meta: beyond repair now {told:?}"));
        }
        self.meta.auditor.due = findings.due;
        for (ledger, moving) in findings.moves {
            let assign = Command::AssignCopy { ledger, moving };
            self.meta_plan(Host::Meta, 0, 0, assign, 0);
        }
    }

    /// Every ledger that meta has a record of.
    pub(super) fn ledgers(&self) -> Vec<LedgerRecord> {
        let image = self.meta.store.image().iter();
        let ledgers = image.filter_map(|(key, versioned)| match (key, &versioned.record) {
            (Key::Ledger(id), Record::Ledger(body)) => {
                Some(body.clone().with(*id, versioned.created))
            }
            _ => None,
        });
        ledgers.collect()
    }

    /// A move that the auditor wanted was begun or called off, or was overtaken.
    pub(super) fn audit_assigned(&mut self, command: &Command, reply: &Result<Reply, Problem>) {
        let Command::AssignCopy { ledger, moving } = command else {
            return;
        };
        match (moving, reply) {
            (Some(Move { to, .. }), Ok(_)) => {
                let due = self.meta.auditor.due.entry(*to).or_default();
                due.insert(*ledger);
            }
            (None, Ok(_)) => self.marks.hit(Mark::MoveCalledOff),
            (_, Err(_)) => {}
        }
    }

    /// A bookie's word on its copies was taken: they are due no more.
    pub(super) fn audit_whole(&mut self, bookie: BookieId, copies: &[WholeCopy]) {
        let now = self.meta_mono();
        let auditor = &mut self.meta.auditor;
        let Some(due) = auditor.due.get_mut(&bookie) else {
            return;
        };
        let done = copies.iter().filter(|copy| due.remove(&copy.ledger));
        let done = done.count();
        let done = u64::try_from(done).unwrap_or(u64::MAX);
        auditor.memory.done(now, done);
    }

    /// The ledgers that a bookie is to make a copy of or to look at.
    pub(super) fn audit_due(&mut self, ask: Due) -> Vec<LedgerRecord> {
        let Due {
            bookie,
            limit,
            stuck,
        } = ask;
        let auditor = &mut self.meta.auditor;
        auditor.memory.stuck(bookie, stuck);
        let due = auditor.due.get(&bookie).into_iter().flatten();
        let is_wanted = |id: &&LedgerId| !auditor.memory.is_stuck(bookie, **id);
        let ids = due.filter(is_wanted).take(limit).copied().collect();
        match self.meta.store.query(&Query::Ledgers(ids)) {
            Ok(Answer::Ledgers(mut ledgers)) => {
                ledgers.retain(|it| matches!(it.state, LedgerState::Closed { .. }));
                ledgers
            }
            _ => Vec::new(),
        }
    }

    /// What keeps the copies from being whole, if all is to be made good that can be: a copy at a bookie that is there,
    /// or one at a bookie that is not, when another could take it.
    pub(super) fn copies_short(&self) -> Option<String> {
        if !self.swarm.repairs || self.swarm.is_beyond {
            return None;
        }
        let Ok(Answer::Bookies(bookies)) = self.meta.store.query(&Query::Bookies) else {
            return Some("meta does not know its bookies".to_owned());
        };
        let is_up = |id: BookieId| {
            let mut up = self.bookies.iter().filter(|bookie| bookie.is_open());
            up.any(|bookie| bookie.id == Some(id))
        };
        let up = bookies.iter().filter(|it| is_up(it.id)).count();
        let short = self.ledgers().into_iter().find(|record| {
            let is_whole = |bookie: &types::cluster::BookieRecord| {
                !record.ensemble.contains(&bookie.id)
                    || record.is_verified(bookie.id, bookie.born)
                    || !is_up(bookie.id) && up < record.quorum.write()
            };
            matches!(record.state, LedgerState::Closed { .. }) && !bookies.iter().all(is_whole)
        });
        short.map(|record| format!("{record:?}"))
    }

    /// Whether a bookie that lost something vouches for nothing any more that it may have lost: what it lost was made
    /// good, there or elsewhere, and the next one may lose something.
    pub(super) fn is_made_good(&self, at: usize) -> bool {
        let bookie = &self.bookies[at];
        let Ok(Answer::Bookies(records)) = self.meta.store.query(&Query::Bookies) else {
            return false;
        };
        let Some(known) = records.iter().find(|it| Some(it.id) == bookie.id) else {
            return false;
        };
        if self.observer.is_blind(at) || !(bookie.is_open() || bookie.is_gone) {
            return false;
        }
        let is_good = |record: &LedgerRecord| {
            !record.ensemble.contains(&known.id)
                || !bookie.is_gone
                    && (record.created >= known.born || record.is_verified(known.id, known.born))
        };
        self.ledgers().iter().all(is_good)
    }
}
