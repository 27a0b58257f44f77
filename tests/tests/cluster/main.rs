//! A whole cluster in one process: meta, bookies and serving nodes as they are, over in-memory pipes or a simulated
//! network, on simulated disks, with time that passes only when everybody waits.
//!
//! Clients speak the public protocol through generated stubs, so that what is asserted is what goes over the wire.
#![cfg(test)]

mod support;

mod admin;
mod beside;
mod compressed;
mod consume;
mod consume_streams;
mod damage;
mod failover;
mod forward;
mod monitor;
mod moves;
mod publish;
mod publish_streams;
mod routing;
mod simulated;
mod space;
mod standard;
mod topics;
