//! The real binary's roles as processes on loopback, for tests that kill them.
//!
//! - [`commands`]: the command lines. The one place that knows the binary's flags.
//! - [`Process`]: one process, its log in a file, signalled by the pid that was recorded when it was spawned. The pid is
//!   ours until the process is reaped, which only its `Process` does, so a signal can never hit a stranger.
//! - [`Cluster`]: nodes by name, with their addresses and data directories, which outlive their processes. Faults are
//!   written to the run's history.
//! - [`Etcd`]: an etcd of one member, where the machine has one.
//! - [`Mount`]: a small filesystem that fills up.
//! - [`Network`]: a network namespace for each node, and what is cut between them.
//! - [`Tool`]: commands that end by themselves, with a deadline.
//! - [`Load`]: writers and consumers on the public client, whose doings are the run's history.
//! - [`Run`]: a cluster under load, from its start to the verdict.
//!
//! Everything listens on 127.0.0.1, or in a network of its own. Whatever still runs is killed when its handle is dropped; the directory of a cluster
//! is removed with it, unless the test panics: then it stays, with all logs, and its path is printed.

mod child;
mod cluster;
pub mod commands;
mod etcd;
mod load;
mod mount;
mod network;
mod ports;
mod run;
mod tool;

pub use child::{Process, ProcessError, wait_until};
pub use cluster::Cluster;
pub use commands::{Node, Role, binary, binary_or};
pub use etcd::Etcd;
pub(crate) use load::{Consuming, Past, Streams, Writer, is_fenced};
pub use load::{Counts, Habits, Load};
pub use mount::Mount;
pub use network::{Network, TEST};
pub use ports::free_addresses;
pub use run::{GIVE_UP, RATE, READERS, Run, TOPIC, WORKERS};
pub use tool::{Ended, Tool};

#[cfg(test)]
mod tests;
