//! The storage engine.

mod event;

pub use event::{Alarm, Answer, Ask, Effect, Event, Request, Standing, Stats, Token};

use types::MonoTime;

/// The storage engine: a machine without clock, thread or channel.
#[derive(Debug)]
pub struct Engine(());

impl Engine {
    /// Takes one event in, and puts what is to be done behind what `effects` holds.
    pub fn handle(&mut self, _now: MonoTime, _event: Event, _effects: &mut Vec<Effect>) {}

    /// When to call again with [`Event::Deadline`].
    pub fn deadline(&self) -> Option<MonoTime> {
        None
    }

    /// Whether it takes the writes of writers.
    pub fn standing(&self) -> Standing {
        Standing::ReadWrite
    }

    /// Numbers for metrics and for people.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// The last frame known durable: what meta is told.
    pub fn mark(&self) -> u64 {
        0
    }
}
