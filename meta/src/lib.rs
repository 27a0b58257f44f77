//! The service that coordinates a cluster.

mod execute;
pub mod store;
