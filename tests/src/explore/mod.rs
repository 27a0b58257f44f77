//! Explores the real machines state by state: every order of messages, losses and repeats, crashes, rebirths and
//! unknown outcomes, within small counts.
//!
//! What runs is what ships: [`ledger::Owner`] (with its writers and recoveries), [`ledger::Acceptor`] in each bookie,
//! and the rules of meta in [`catalog::MemStore`]. Around them is the least that makes a world ([`World`]): bookies
//! that hold entries visible or durable, a bag of messages, and an [`Observer`] that sees everything and checks the
//! invariants of the ledger protocol by number.
//!
//! [`explore()`] goes breadth first and remembers a 128-bit hash of each state, so a violation is told by a shortest path
//! to it. A message that is never delivered is a lost one, so loss needs no event; delivering one and keeping it is a
//! repeat, and is counted. Times are all zero: a deadline may come at any moment, and is counted too.
//!
//! A search of a world whose goals ([`Goal`]) are not all reached proves nothing, and says so.
//!
//! `README.md` beside this file has the worlds, their figures, what is left out and why, and the planted defects found.

mod bookie;
mod driver;
mod hash;
mod observer;
mod search;
mod world;
mod worlds;

pub use hash::{Shared, hash_of};
pub use observer::{Goal, Observer, Violation};
pub use search::{Limits, Report, explore, wander};
pub use world::{Action, Budget, Setup, World};
pub use worlds::{Preset, all, named};

#[cfg(test)]
mod tests;
