//! The cluster simulator: the real server code of a whole cluster in one process on turmoil, judged by the history
//! checker, the same from the same seed.
//!
//! Where [`l1`](crate::l1) runs the pure machines, here everything runs that runs in production: meta on its embedded
//! store, bookies, serving nodes, the public client, gRPC between them. Each process has its machine: an address on the
//! simulated network, a simulated disk that outlives it, a stream of random numbers of its own. The seed draws the
//! cluster, the load and the harm ([`Swarm`]); everything random in a run comes from it, and no real time, thread or
//! entropy takes part.
//!
//! | file | what |
//! |---|---|
//! | `swarm.rs` | what a seed makes of a run |
//! | `net.rs` | the network of a process: turmoil's TCP; the one file that knows it |
//! | `machine.rs` | a machine and the process on it: booted, stopped, killed, without power |
//! | `load.rs` | the topics, the stages of the load, and the client that waits for its end |
//! | `client.rs` | machines of clients: writers and consumers that write the history, die and come back |
//! | `operator.rs` | drains nodes and takes that back |
//! | `nemesis.rs` | the harm, drawn as the run goes |
//! | `world.rs` | the cluster and its phases: up, harm, healed, drained |
//! | `run.rs` | one run: the world, the judge, what came of it |
//! | `trace.rs` | what happened, as a digest and as lines |
//! | `marks.rs` | rare things that must be seen over many seeds |
//!
//! **Phases.** The cluster comes up and topics and subscriptions are made. Then harm is done for some seconds, with quiet
//! periods. Then everything heals and the cluster must come to rest in bounded time: every message settled, every
//! subscription drained. At last the judge reads the history. A run that does not come to rest has failed, and says what
//! it waited for.
//!
//! **What the harm may be.** Power losses take nothing that was synced, so every machine may lose power, all at once too.
//! Bookies lose their disks, or never come back, only so far that of the copies that were on disk before an ack one is
//! left, and enough to recover a ledger with: with a quorum of 3/2 that is one, with 5/3 two, with 1/1 and 2/1 none.
//!
//! **Clients die too.** A writer with a name comes back under it: the topic tells how many of its messages are stored, and
//! what was sent after these it sends again. A writer without a name never learns what became of what it had sent.
//!
//! **What is missing.** No machine stands still and then goes on as if nothing had happened: turmoil lets every machine
//! that runs take each step, and only ends or starts them. To hold all of a machine's links is not the same, since its
//! timers go on. The tests with real processes pause nodes, by SIGSTOP.
//!
//! **Why the same seed is the same run.** One seed is one process: tokio numbers tasks over a process, and drops them in an
//! order that follows from the numbers. Every node dates its answers by its own clock. What else reads the time (HTTP/2
//! forgets reset streams by it) gets the simulated one, in the program only. tokio draws from the seed only when it is
//! built with `--cfg tokio_unstable`: the alias `cargo sim-l2` does so, in a target directory of its own, and
//! [`is_repeatable`] says whether this build is.

mod client;
mod load;
mod machine;
mod marks;
mod nemesis;
mod net;
mod operator;
mod run;
mod swarm;
mod trace;
mod world;

#[cfg(test)]
mod tests;

pub use marks::Marks;
pub use net::SimNet;
pub use run::{Outcome, run};
pub use swarm::{Harm, Swarm};
pub use trace::{Detail, Trace, Traced};

/// Whether tokio takes its randomness from the seed in this build: only then is the same seed the same run.
pub const fn is_repeatable() -> bool {
    cfg!(tokio_unstable)
}
