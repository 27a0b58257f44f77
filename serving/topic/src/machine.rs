//! The machine of a shard.

use types::{ByteSize, MonoTime, WallTime};

use crate::{Config, Effect, Event, Opened, TopicStats};

/// One shard as its users see it: producers, subscriptions and consumers over two logs it only appends to and reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    config: Config,
}

impl Topic {
    pub(crate) fn new(config: Config, _opened: Opened) -> Self {
        Self { config }
    }

    /// Takes one event in and says what is to be done about it. `now` orders leases and waits, `wall` is only shown.
    pub fn handle(
        &mut self,
        _now: MonoTime,
        _wall: WallTime,
        _event: Event,
        _effects: &mut Vec<Effect>,
    ) {
    }

    /// When to call again with [`Event::Deadline`], if nothing else happens before.
    pub fn deadline(&self) -> Option<MonoTime> {
        None
    }

    /// How it stands.
    #[expect(clippy::todo, reason = "skeleton")]
    pub fn stats(&self) -> TopicStats {
        todo!()
    }

    /// The size at which the shell should roll the state log: so large that a snapshot is a small part of it.
    pub fn state_roll_size(&self) -> ByteSize {
        self.config.state_roll
    }
}
