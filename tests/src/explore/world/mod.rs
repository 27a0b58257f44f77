//! One world: its state, what may happen next, and what happens then.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use catalog::MemStore;
use ledger::Event;
use types::chain::LogKind;
use types::{SessionId, ShardId};

use super::bookie::Bookie;
use super::driver::Driver;
use super::hash::{Shared, hash_of};
use super::observer::{Goal, Observer, Violation};

mod make;
mod memo;
mod message;
mod play;

pub use make::{Budget, Setup};

use memo::{Input, Memo};
use message::Message;

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The message at this place arrives.
    Deliver(usize),
    /// The message at this place arrives, and will again.
    Repeat(usize),
    /// A bookie's journal syncs all it has.
    Sync(usize),
    /// A bookie's process dies with so many records of its journal on the disk, and starts again.
    Crash(usize, usize),
    /// A bookie loses its disk and is born again.
    Rebirth(usize),
    /// Another owner claims, meta having given up on the one before.
    Start(usize),
    /// An owner appends.
    Append(usize),
    /// An owner's deadline comes.
    Deadline(usize),
    /// An owner is told that it will not hear of its command.
    Unknown(usize),
    /// An owner is told to roll its ledger.
    Roll(usize),
    /// An owner is told to give the shard up.
    Release(usize),
    /// The shard's record gets a new version, nothing else changing.
    Touch,
}

impl Action {
    /// Whether it is what happens when nothing goes wrong.
    pub const fn is_plain(self) -> bool {
        matches!(self, Self::Deliver(_) | Self::Sync(_) | Self::Append(_))
    }
}

/// What is the same in all states of a world.
#[derive(Debug)]
struct Frame {
    setup: Setup,
    shard: ShardId,
    sessions: Vec<SessionId>,
    memo: Memo,
}

/// The state of a world.
#[derive(Debug, Clone)]
pub struct World {
    frame: Arc<Frame>,
    bookies: Vec<Shared<Bookie>>,
    owners: Vec<Shared<Driver>>,
    meta: Shared<MemStore>,
    /// In order of their hashes, each once.
    net: Vec<Shared<Message>>,
    left: Budget,
    losses: usize,
    observer: Shared<Observer>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let bookies = self.bookies.iter().map(Shared::hash);
        let owners = self.owners.iter().map(Shared::hash);
        for part in bookies
            .chain(owners)
            .chain(self.net.iter().map(Shared::hash))
        {
            part.hash(state);
        }
        self.meta.hash().hash(state);
        self.observer.hash().hash(state);
        self.left.hash(state);
        self.losses.hash(state);
    }
}

impl World {
    /// Its hash.
    pub fn id(&self) -> u128 {
        hash_of(self)
    }

    /// What may happen next, in a fixed order.
    pub fn actions(&self) -> Vec<Action> {
        let mut actions: Vec<_> = (0..self.net.len()).map(Action::Deliver).collect();
        if self.left.repeats > 0 {
            actions.extend((0..self.net.len()).map(Action::Repeat));
        }
        for (place, bookie) in self.bookies.iter().enumerate() {
            let unsynced = bookie.unsynced();
            if unsynced > 0 {
                actions.push(Action::Sync(place));
            }
            if place == 0 && self.left.crashes > 0 {
                actions.extend((0..=unsynced).map(|kept| Action::Crash(place, kept)));
            }
            if place == 0 && self.left.rebirths > 0 {
                actions.push(Action::Rebirth(place));
            }
        }
        for (place, driver) in self.owners.iter().enumerate() {
            self.owner_actions(place, driver, &mut actions);
        }
        if self.left.touches > 0 {
            actions.push(Action::Touch);
        }
        actions
    }

    fn owner_actions(&self, place: usize, driver: &Driver, actions: &mut Vec<Action>) {
        let is_turn = place == 0 || self.owners[place - 1].is_started;
        if !driver.is_started {
            if is_turn {
                actions.push(Action::Start(place));
            }
            return;
        }
        if driver.owner.is_over() {
            return;
        }
        if driver.is_open && driver.appended < self.frame.setup.appends[place] {
            actions.push(Action::Append(place));
        }
        if self.left.deadlines > 0 && driver.owner.deadline().is_some() {
            actions.push(Action::Deadline(place));
        }
        if self.left.unknowns > 0 && driver.owner.awaits_outcome() {
            actions.push(Action::Unknown(place));
        }
        if self.left.rolls > 0 && driver.owner.open_ledger(LogKind::Message).is_some() {
            actions.push(Action::Roll(place));
        }
        if self.left.releases > 0 && driver.is_open {
            actions.push(Action::Release(place));
        }
    }

    /// What the world is after an action, with the goals it reached on the way.
    ///
    /// # Errors
    ///
    /// The invariant that the action broke.
    pub fn step(&self, action: Action) -> Result<(Self, Vec<Goal>), Violation> {
        let mut next = self.clone();
        let mut goals = Vec::new();
        match action {
            Action::Deliver(place) => {
                let message = next.net.remove(place);
                next.deliver(&message, &mut goals)?;
            }
            Action::Repeat(place) => {
                next.left.repeats -= 1;
                let message = next.net[place].clone();
                next.deliver(&message, &mut goals)?;
            }
            Action::Sync(place) => next.sync(place, &mut goals)?,
            Action::Crash(place, kept) => {
                next.left.crashes -= 1;
                next.crash(place, kept, &mut goals)?;
            }
            Action::Rebirth(place) => {
                next.left.rebirths -= 1;
                next.rebirth(place)?;
            }
            Action::Start(place) => next.start(place, &mut goals)?,
            Action::Append(place) => {
                let appended = next.owners[place].appended;
                let is_state = self.frame.setup.has_state_log && appended % 2 == 1;
                let log = if is_state {
                    LogKind::State
                } else {
                    LogKind::Message
                };
                next.owner_step(place, &Input::Append(log), &mut goals)?;
            }
            Action::Deadline(place) => {
                next.left.deadlines -= 1;
                next.owner_step(place, &Input::Event(Event::Deadline), &mut goals)?;
            }
            Action::Unknown(place) => {
                next.left.unknowns -= 1;
                next.owner_step(place, &Input::Unknown, &mut goals)?;
            }
            Action::Roll(place) => {
                next.left.rolls -= 1;
                let roll = Event::Roll(LogKind::Message);
                next.owner_step(place, &Input::Event(roll), &mut goals)?;
            }
            Action::Release(place) => {
                next.left.releases -= 1;
                next.owner_step(place, &Input::Event(Event::Release), &mut goals)?;
            }
            Action::Touch => {
                next.left.touches -= 1;
                next.touch();
            }
        }
        Ok((next, goals))
    }

    /// An action in words, in this world.
    pub fn describe(&self, action: Action) -> String {
        let name = |place: usize| self.bookies[place].id();
        match action {
            Action::Deliver(place) => format!("{}", *self.net[place]),
            Action::Repeat(place) => format!("{} (and stays on its way)", *self.net[place]),
            Action::Sync(place) => format!("{} syncs its journal", name(place)),
            Action::Crash(place, kept) => {
                format!(
                    "{} dies with {kept} records synced, and starts",
                    name(place)
                )
            }
            Action::Rebirth(place) => format!("{} loses its disk and is born again", name(place)),
            Action::Start(place) => format!("owner {place} starts"),
            Action::Append(place) => format!("owner {place} appends"),
            Action::Deadline(place) => format!("owner {place}'s deadline comes"),
            Action::Unknown(place) => format!("owner {place} hears that the outcome is unknown"),
            Action::Roll(place) => format!("owner {place} rolls"),
            Action::Release(place) => format!("owner {place} gives up the shard"),
            Action::Touch => "the record's version moves".to_owned(),
        }
    }
}
