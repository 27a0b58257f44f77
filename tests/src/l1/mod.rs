//! The protocol simulator: the real machines, one queue of events, harm drawn from a seed.
//!
//! What runs is what ships: the shard's core (owner, topic, replay, reads), the rules of meta on their reference store and
//! its auditor's decisions, the bookie's engine with its disk jobs on a simulated disk, the decisions of its repair and of
//! what it asks meta. Around them is no tokio and no thread: a network that delays, loses, repeats, cuts and brings words
//! long after those that were said later (`net`), processes that die, pause and lose power (`bookies`, `servers`), clients
//! as they are to be written (`producers`, `consumers`), and somebody who does harm (`nemesis`). An observer sees everything
//! from outside and checks the invariants of the ledger protocol by number; the judge of histories has the last word.
//!
//! In half of the worlds copies are made anew: the auditor looks (`audit`), bookies repair (`bookies::repair`) and give up
//! what lives elsewhere (`space`). There one bookie after another may be wiped or lost for good, the next one only once all
//! that the last one lost was made good. Each copy that meta begins to count as whole is read at once, and every copy in the
//! end (`proof`). There, too, subscriptions are deleted in use and made again (`unsubscribe`), and so is the topic
//! (`delete`): its owner retires and asks meta (`retire`), meta sweeps its records and bookies let its ledgers go
//! (`sweep`). Nothing is acked or delivered of it from the commit on, in the end nothing is left of it anywhere, and the
//! topic that took its name has all that is its own.
//!
//! A run has two parts. For 10 to 60 simulated seconds harm is done, as the seed's swarm allows (`swarm`). Then all of it
//! ends, some nodes stay away for good, and within 60 simulated seconds every send must have its outcome and every
//! subscription must have got and acked everything. Then every copy must become whole that can, and some bookie must give
//! each entry of each ledger.
//!
//! The same seed gives the same run, to the byte of its trace.

mod agenda;
mod audit;
mod bookies;
mod consumers;
mod delete;
mod ending;
mod event;
mod links;
mod marks;
mod meta;
mod nemesis;
mod net;
mod observer;
mod once;
mod openings;
mod producers;
mod proof;
mod retire;
mod run;
mod servers;
mod serving;
mod space;
mod streams;
mod swarm;
mod sweep;
mod trace;
mod unsubscribe;
mod world;

#[cfg(test)]
mod tests;

use ::serving::shard::core as shard_core;

pub use marks::{Mark, Marks};
pub use observer::Violation;
pub use run::{Failure, Options, Outcome, run};
pub use swarm::{Harm, Swarm};
