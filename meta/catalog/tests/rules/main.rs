//! The rules of meta, each by a test that says it.

mod bookies;
mod names;
mod queries;
mod random;
mod sessions;
mod shards;
mod world;
