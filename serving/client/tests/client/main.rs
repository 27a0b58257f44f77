//! The client against a server that tests play, over pipes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panics, and are no part of a node"
)]

mod compressed;
mod consuming;
mod fake;
mod publishing;
mod receipts;
