//! The end of a run: whether all is done, and what hangs when it is not.

use super::agenda::{MS, Nanos, SECOND};
use super::bookies::Process;
use super::event::Event;
use super::once::Once;
use super::producers::Producer;
use super::world::World;
use crate::history::{self, Name};

/// How long after the harm everything must be finished.
const PATIENCE: Nanos = 60 * SECOND;
/// How long after the harm every copy must be whole. A ledger that could not be copied is tried again within a minute.
const COPIES_PATIENCE: Nanos = 200 * SECOND;
/// How long a world in which more was lost than is promised goes on after the harm.
const BEYOND: Nanos = 15 * SECOND;

impl World {
    /// Whether everything is done is looked at.
    pub(super) fn check_end(&mut self) {
        let waited = self.now - self.swarm.chaos - SECOND;
        if self.swarm.is_beyond {
            self.is_done = waited > BEYOND;
        } else if self.is_finished() && self.is_whole(waited) && self.is_swept(waited) {
            if !self.is_proven() {
                if waited > COPIES_PATIENCE + PATIENCE {
                    let what = self.what_hangs();
                    self.violation("liveness", format!("the copies cannot all be read {what}"));
                }
                return self.agenda.put(self.now + 100 * MS, Event::CheckEnd);
            }
            self.is_done = true;
            let found = self.observer.ended(&self.meta.store);
            self.violations(found);
            for sub in self.subs.iter().filter(|_| self.life.is_there()) {
                let drained = history::Drained {
                    sub: Name::from(sub.label.as_str()),
                    p: self.partition(),
                };
                self.history.note(&history::Event::Drained(drained));
            }
        } else if waited > PATIENCE && !self.is_finished() {
            let what = self.what_hangs();
            self.violation("liveness", what);
        }
        self.agenda.put(self.now + 100 * MS, Event::CheckEnd);
    }

    /// Whether every copy is whole that can be.
    fn is_whole(&mut self, waited: Nanos) -> bool {
        let short = self.copies_short();
        if let Some(short) = short.as_ref().filter(|_| waited > COPIES_PATIENCE) {
            let what = self.what_hangs();
            self.violation(
                "liveness",
                format!("a copy is not made good {short} {what}"),
            );
        }
        short.is_none()
    }

    /// Whether every send has an outcome and every subscription got and acked everything.
    fn is_finished(&self) -> bool {
        if !self.producers.iter().all(Producer::is_done)
            || !self.once.iter().all(Once::is_done)
            || !self.life.is_settled()
        {
            return false;
        }
        if !self.life.is_there() {
            return true; // There is nothing to be got.
        }
        if self.subs.iter().any(|sub| sub.record.is_none()) {
            return false;
        }
        let Some((view, _)) = self.shard_now() else {
            return false;
        };
        let mut serving = self
            .servers
            .iter()
            .filter_map(|server| server.serving_shard(self.shard));
        let owner = serving.find(|s| s.shard.epoch() == Some(view.record.epoch));
        let Some(stats) = owner.and_then(|owner| owner.shard.stats()) else {
            return false;
        };
        stats.subscriptions.len() == self.subs.len()
            && stats
                .subscriptions
                .iter()
                .all(|sub| sub.backlog == 0 && sub.cursor == stats.confirmed_end)
    }

    fn what_hangs(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for producer in self.producers.iter().filter(|p| !p.is_done()) {
            let _ = write!(
                text,
                "\n  {} acked={} of {} {producer:?}",
                producer.name, producer.acked, producer.made
            );
        }
        let _ = write!(text, "\n  {:?}", self.life);
        for sub in self.subs.iter().filter(|sub| sub.record.is_none()) {
            let _ = write!(text, "\n  {} not made", sub.label);
        }
        for (at, server) in self.servers.iter().enumerate() {
            let serving = server.serving.iter();
            let status = serving.map(|s| (s.shard.status(), s.shard.stats(), s.shard.deadline()));
            let status: Vec<_> = status.collect();
            let _ = write!(
                text,
                "\n  serving-{at} up={} certain={} {status:?}",
                server.is_up,
                self.now < server.certain_until
            );
        }
        for (at, bookie) in self.bookies.iter().enumerate() {
            let stats = match &bookie.process {
                Process::Open(engine) => Some((engine.standing(), engine.stats())),
                Process::Opening(_) | Process::Down => None,
            };
            let _ = write!(
                text,
                "\n  bookie-{at} id={:?} {:?} {stats:?}",
                bookie.id, bookie.process
            );
        }
        if let Some((view, owner)) = self.shard_now() {
            let owner = owner.map(|owner| (owner.name, owner.state));
            let _ = write!(
                text,
                "\n  record epoch={} owner={owner:?} tails={:?}",
                view.record.epoch, view.tails
            );
        }
        text
    }
}
