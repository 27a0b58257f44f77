//! Which messages a run sends, and what is in them.
//!
//! A payload says who sent it: writer, partition, number, then filling drawn from these, then a checksum over all of it.
//! So a consumer knows of every message whether it is whole and where it belongs, without asking anybody, and what it
//! writes into its history is what *arrived* rather than what it expected.

mod payload;
mod plan;
mod prng;

pub use payload::{Damaged, Stamp};
pub use plan::{Workload, WriterPlan};
pub use prng::Prng;
