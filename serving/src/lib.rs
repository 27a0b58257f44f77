//! The broker: speaks gRPC to clients, puts messages in order, keeps consumer positions. It stores nothing itself.
//!
//! [`Serving::start`] opens a session with meta and listens. A shard is claimed when a request needs it and nobody
//! serves it (`node`), and from then on is one task that owns the shard's pure core (`shard`); the services
//! check what clients say (`services`) and hand it in, or pass it on to the node that owns the shard (`forward`).
//! Shards are spread over the nodes (`balance`), and go from one to another as planned (`moves`).
#![doc = include_str!("../DESIGN.md")]

mod balance;
mod budget;
mod config;
mod convert;
mod forward;
mod metrics;
mod moves;
mod node;
mod routes;
mod server;
mod services;
pub mod shard;
mod subscriptions;
mod tail_memory;

pub use balance::{BalanceConfig, BalanceConfigError};
pub use budget::Budget;
pub use config::{ServingConfig, ServingConfigError};
pub use metrics::Metrics;
pub use server::{Bound, Serving, ServingError};
pub use tail_memory::TailMemory;
