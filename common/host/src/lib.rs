//! What a node asks of its machine: clock, randomness, network, disk, tasks, long computations; and where it tells how
//! it does: metrics, health. Each is a value handed in, never a global, so that one process can hold many nodes:
//! standalone, tests, simulation.
//!
//! [`Host`] gathers them. Code above this crate takes what it needs from it and touches neither threads, sockets,
//! files nor clocks itself; so the same code runs on a real machine, with the time of a test standing still, and in a
//! simulation that injects every fault at the n-th operation of a disk or a network.
//!
//! | seam | real | simulated |
//! |---|---|---|
//! | [`Clock`] | tokio's time, the system's wall clock | tokio's time (paused, or turmoil's), a wall clock derived from it |
//! | [`Rng`] | seeded by the operating system | seeded by the test |
//! | [`net::Net`] | TCP and in-memory pipes ([`net::Network`]) | pipes, or a simulated network |
//! | [`disk::Disk`] | files ([`disk::RealDisk`]), blocking calls on OS threads | `disk::sim::SimDisk` (feature `sim`), calls inline |
//! | [`Tasks`] | tokio tasks with names, stopped as a tree | the same |
//! | [`Compute`] | threads, as many at once as processors | calls inline |
//! | [`metrics::Registry`], [`Health`] | values of the node, without a clock or a task of their own | the same |

pub mod disk;
pub mod metrics;
pub mod net;

mod alarm;
mod clock;
mod compute;
mod health;
mod host;
mod rng;
mod tasks;
mod worker;

pub use alarm::Alarm;
pub use clock::{Clock, Elapsed, SIMULATED_START};
pub use compute::Compute;
pub use health::{Health, Probe};
pub use host::Host;
pub use rng::Rng;
pub use tasks::{Outcome, StopError, TaskFailure, Tasks};
pub use worker::{DiskWorker, SubmitError, WorkerGone};
