//! Bookies hear what was trimmed, and what lives elsewhere, and forget it.

use std::collections::BTreeSet;

use bookie::Reclaim;
use bookie::node::asking;
use types::chain::{LedgerRecord, LogKind, LogStanding};
use types::command::Command;
use types::{LedgerId, LogId};

use super::agenda::{MS, Nanos};
use super::bookies::{Call, Process};
use super::event::{Event, Timer};
use super::marks::Mark;
use super::world::World;

/// At most so long after a trim a bookie asks meta what became of its logs.
const ASKS_WITHIN: Nanos = 3_000 * MS;
/// At most so long a bookie waits from one round of questions to the next, where copies move.
const ROUND_WITHIN: Nanos = 800 * MS;

impl World {
    /// Something was committed: when it dropped ledgers, each bookie learns of it at a time of its own. Where copies move,
    /// bookies ask by themselves.
    pub(super) fn space_committed(&mut self, command: &Command) {
        let is_trim = matches!(
            command,
            Command::ChangeShard(change)
                if matches!(change.change, types::chain::ShardChange::Trim { .. })
        );
        if !is_trim || self.swarm.repairs {
            return;
        }
        for bookie in 0..self.bookies.len() {
            let wait = self.rng.below(ASKS_WITHIN);
            let life = self.bookies[bookie].life;
            let asks = Event::BookieReclaims { bookie, life };
            self.agenda.put(self.now + wait, asks);
        }
    }

    /// A bookie asks meta what became of its logs. One that cannot reach it asks after the next trim.
    pub(super) fn bookie_reclaims(&mut self, at: usize) {
        let Some((view, _)) = self.shard_now().filter(|_| self.meta.is_up) else {
            return;
        };
        let firsts = LogKind::BOTH.map(|kind| {
            let chain = view.record.chain(kind);
            (chain.log, chain.first)
        });
        self.marks.hit(Mark::Reclaimed);
        let word = Reclaim {
            trimmed: firsts.to_vec(),
            ..Reclaim::default()
        };
        self.engine(at, bookie::Event::Reclaim(word));
    }

    /// A round of questions to meta, as the bookie's task asks them. What is not answered is asked in a later round.
    pub(super) fn bookie_asks_what_may_go(&mut self, at: usize) {
        let bookie = &mut self.bookies[at];
        let Process::Open(engine) = &mut bookie.process else {
            return;
        };
        // Before meta is asked: what is repaired from here on is not given up by an answer that is older.
        let held = engine.begin_reclaim();
        bookie.held = Some(held.clone());
        bookie.forget_reclaim_calls();
        let questions = bookie.asking.questions(&held);
        for page in questions.logs {
            self.bookie_call(at, Call::Logs(page, held.clone()));
        }
        for page in questions.ledgers {
            self.bookie_call(at, Call::Ledgers(page));
        }
        let wait = MS + self.rng.below(ROUND_WITHIN);
        self.bookie_timer(at, wait, Timer::Reclaim);
    }

    /// Meta said what became of logs.
    pub(super) fn bookie_hears_of_logs(
        &mut self,
        at: usize,
        asked: &[LogId],
        held: &BTreeSet<LedgerId>,
        standings: &[(LogId, LogStanding)],
    ) {
        let mut word = Reclaim::default();
        let asking = &mut self.bookies[at].asking;
        let unnamed = asking.logs(asked, standings, held, &mut word);
        if !unnamed.is_empty() {
            self.violation(
                "I24",
                format!("bookie-{at} holds logs that meta does not know: {unnamed:?}"),
            );
        }
        if !word.trimmed.is_empty() {
            self.marks.hit(Mark::Reclaimed);
        }
        for log in &word.deleted {
            self.bookie_hears_deleted(at, *log);
        }
        self.bookie_lets_go(at, word);
    }

    /// Meta gave the records of ledgers.
    pub(super) fn bookie_hears_of_ledgers(
        &mut self,
        at: usize,
        asked: &[LedgerId],
        records: &[LedgerRecord],
    ) {
        let Some(own) = self.bookies[at].id else {
            return;
        };
        let mut word = Reclaim::default();
        asking::ledgers(asked, records, own, &mut word);
        for ledger in &word.given_up {
            self.marks.hit(Mark::CopyGivenUp);
            self.observer.gave_up(at, *ledger);
        }
        self.bookie_lets_go(at, word);
    }

    fn bookie_lets_go(&mut self, at: usize, word: Reclaim) {
        if word != Reclaim::default() {
            self.trace(|| format!("bookie-{at} lets go {word:?}"));
            self.engine(at, bookie::Event::Reclaim(word));
        }
    }
}
