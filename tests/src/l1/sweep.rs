//! What a deleted topic left behind goes: its records from meta, part by part, and its ledgers from the bookies.

use std::collections::BTreeSet;

use catalog::{Image, Key, Record};
use types::command::{Command, Reply};
use types::{LogId, Problem, ShardId};

use super::agenda::{MS, Nanos, SECOND};
use super::event::Event;
use super::marks::Mark;
use super::net::Host;
use super::swarm::Harm;
use super::world::World;

/// The wait between two parts.
const PAUSE: Nanos = 10 * MS;
/// How often deletions are looked for that nobody told.
const LOOK_EVERY: Nanos = 5 * SECOND;
/// How long after the harm every bookie must have let go what was deleted.
const PATIENCE: Nanos = 60 * SECOND;

/// The sweep of one process of meta.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    shards: BTreeSet<ShardId>,
    /// Whether a part is under way.
    is_busy: bool,
}

impl World {
    /// A new process of meta looks for what the last one left.
    pub(super) fn sweep_starts(&mut self) {
        self.meta.sweep = Sweep::default();
        if self.swarm.allows(Harm::DeleteTopic) {
            self.meta_sweeps(self.meta.life, true);
        }
    }

    fn sweep_later(&mut self, wait: Nanos, is_look: bool) {
        let life = self.meta.life;
        let event = Event::MetaSweeps { life, is_look };
        self.agenda.put(self.now + wait, event);
    }

    /// The time of a look, or of the next part.
    pub(super) fn meta_sweeps(&mut self, life: u32, is_look: bool) {
        if !self.meta.is_up || life != self.meta.life {
            return;
        }
        if is_look {
            let image = self.meta.store.image().iter();
            let left = image.filter_map(|(key, versioned)| match (key, &versioned.record) {
                (Key::Shard(id), Record::Shard(shard)) if shard.is_deleted => Some(*id),
                _ => None,
            });
            self.meta.sweep.shards.extend(left);
            self.sweep_later(LOOK_EVERY, true);
        }
        if !self.meta.sweep.is_busy
            && let Some(shard) = self.meta.sweep.shards.first().copied()
        {
            self.meta.sweep.is_busy = true;
            self.meta_plan(Host::Meta, 0, 0, Command::SweepShard { shard }, 0);
        }
    }

    /// Meta carried out a command: a deleted topic's shards are swept, and after a part comes the next.
    pub(super) fn sweep_goes_on(&mut self, command: &Command, reply: &Result<Reply, Problem>) {
        match (command, reply) {
            (Command::DeleteTopic { .. }, Ok(Reply::Topic(topic))) => {
                self.meta.sweep.shards.extend(&topic.shards);
            }
            (Command::SweepShard { shard }, reply) => {
                let is_there = self.meta.store.image().contains_key(&Key::Shard(*shard));
                let sweep = &mut self.meta.sweep;
                sweep.is_busy = false;
                // What could not be swept is found at the next look.
                if reply.is_err() || !is_there {
                    sweep.shards.remove(shard);
                }
            }
            _ => return,
        }
        self.sweep_later(PAUSE, false);
    }

    /// A part was swept: nothing but what was of a deleted topic.
    pub(super) fn sweep_committed(&mut self, images: [&Image; 2], command: &Command) {
        let Command::SweepShard { shard } = command else {
            return;
        };
        let [before, after] = images;
        let removed = before.keys().filter(|key| !after.contains_key(*key));
        let is_of_it = |key: &&Key| match key {
            Key::Ledger(id) | Key::Loss(id) => self.life.is_gone(id.log()),
            Key::Shard(id) => id == shard && self.life.gone.contains_key(id),
            _ => false,
        };
        let others: Vec<Key> = removed.filter(|key| !is_of_it(key)).cloned().collect();
        if !others.is_empty() {
            let what = format!("{others:?} went with {shard}");
            return self.violation("deleted", what);
        }
        let now = self.now;
        if !after.contains_key(&Key::Shard(*shard))
            && let Some(gone) = self.life.gone.get_mut(shard)
        {
            gone.swept = Some(now);
        }
    }

    /// A bookie hears that the topic of a log was deleted.
    pub(super) fn bookie_hears_deleted(&mut self, at: usize, log: LogId) {
        let of = self.life.gone.values().find(|it| it.logs.contains(&log));
        let Some(gone) = of else {
            let what = format!("bookie-{at} is told that {log} is deleted");
            return self.violation("deleted", what);
        };
        let began = self.bookies[at].began();
        if gone.swept.is_some_and(|swept| swept < began) {
            self.marks.hit(Mark::SweptWhileAway);
        }
    }

    /// What is left of the topics that were deleted: all of it goes, and in time.
    pub(super) fn is_swept(&mut self, waited: Nanos) -> bool {
        let left = self.left_behind();
        if let Some(left) = left.as_ref().filter(|_| waited > PATIENCE) {
            self.violation(
                "liveness",
                format!("of a deleted topic there is left {left}"),
            );
        }
        left.is_none()
    }

    fn left_behind(&self) -> Option<String> {
        let mut gone = self.life.gone.iter();
        if let Some((shard, _)) = gone.find(|(_, gone)| gone.swept.is_none()) {
            return Some(format!("the record of {shard}"));
        }
        let open = self.bookies.iter().enumerate();
        let mut open = open.filter(|(_, bookie)| bookie.is_open());
        open.find_map(|(at, bookie)| {
            let held = bookie.held.iter();
            let left = held
                .flatten()
                .find(|ledger| self.life.is_gone(ledger.log()));
            match (&bookie.held, left) {
                (_, Some(left)) => Some(format!("{left} at bookie-{at}")),
                (None, _) if !self.life.gone.is_empty() => Some(format!("a doubt at bookie-{at}")),
                _ => None,
            }
        })
    }
}
