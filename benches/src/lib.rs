//! Measurements. Nothing here is a test: a figure never fails a build.
//!
//! - `cargo bench -p benches` times the pure pieces of the hot path, one by one: the check of a batch, the checksum of
//!   an entry, the bookie's decision on an add, a batch through the topic's rules.
//! - End to end, `ledgerline bench` is the tool: the same that users have. It prints durability, quorum, batch, what
//!   is in flight and a probe of the disk beside its figures, measures latency from the time at which a message was due,
//!   checks every message that it reads, and gives its figures as JSON too.
//! - `cargo run --release -p benches --bin floor -- --dir DIR` measures what the machine allows at best: the disk as a
//!   bookie uses it, memory, loopback and one hop of a stream, so that a bench's figure can be told as a part of it.
//! - `cargo run --release -p benches --bin bookie -- --dir DIR replay` (or `ledgers`) measures a bookie's engine alone: how
//!   long a start after a kill takes, and what many ledgers cost beside one.
//!
//! The figures that count, with the commands that made them and the machine they were made on, are in
//! `benches/README.md`. Machines differ and are shared: compare only what one run printed side by side.

pub mod figures;
