//! Measurements. Nothing here is a test: a figure never fails a build.
//!
//! - `cargo bench -p benches` times the pure pieces of the hot path, one by one: the check of a batch, the checksum of
//!   an entry, the bookie's decision on an add, a batch through the topic's rules.
//! - End to end, `ledgerline bench` is the tool: the same that users have. It prints durability, quorum, batch, what
//!   is in flight and a probe of the disk before it begins, measures latency from the time at which a message was due,
//!   and gives its figures as JSON too.
//!
//! The figures that count, with the commands that made them and the machine they were made on, are in
//! `benches/README.md`. Machines differ and are shared: compare only what one run printed side by side.
