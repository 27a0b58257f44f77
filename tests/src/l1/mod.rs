//! The protocol simulator: the real machines, one queue of events, harm drawn from a seed.
//!
//! What runs is what ships: the shard's core (owner, topic, replay, reads), the rules of meta on their reference store,
//! the bookie's engine with its disk jobs on a simulated disk. Around them is no tokio and no thread: a network that
//! delays, loses, repeats and cuts (`net`), processes that die, pause and lose power (`bookies`, `servers`), clients as they
//! are to be written (`producers`, `consumers`), and somebody who does harm (`nemesis`). An observer sees everything from
//! outside and checks the invariants of the ledger protocol by number; the judge of histories has the last word.
//!
//! A run has two parts. For 10 to 60 simulated seconds harm is done, as the seed's swarm allows (`swarm`). Then all of it
//! ends, some nodes stay away for good, and within 60 simulated seconds every send must have its outcome and every
//! subscription must have got and acked everything.
//!
//! The same seed gives the same run, to the byte of its trace.

mod agenda;
mod bookies;
mod consumers;
mod event;
mod links;
mod marks;
mod meta;
mod nemesis;
mod net;
mod observer;
mod once;
mod producers;
mod run;
mod servers;
mod serving;
mod streams;
mod swarm;
mod trace;
mod world;

#[cfg(test)]
mod tests;

use ::serving::shard::core as shard_core;

pub use marks::{Mark, Marks};
pub use observer::Violation;
pub use run::{Failure, Options, Outcome, run};
pub use swarm::{Harm, Swarm};
