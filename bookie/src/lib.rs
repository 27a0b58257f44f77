#![doc = include_str!("../DESIGN.md")]
//!
//! # Driving it
//!
//! ```text
//! let opening = Opening::start(config, disk, place)?;       // blocking: locks, raises the incarnation, replays
//! let record = /* meta's answer to */ opening.claim(address);
//! let (mut engine, report) = opening.finish(&record, now)?; // blocking: persists the birth
//! loop {
//!     engine.handle(now, event, &mut effects);
//!     // Effect::Run { worker, job }: run the job on that worker, in order, and hand its end back as Event::Done.
//! }
//! ```

mod codec;
pub mod config;
pub mod debug;
pub mod engine;
mod files;
pub mod identity;
pub mod job;
pub mod journal;
pub mod manifest;
pub mod node;
pub mod open;
pub mod store;

pub use config::Config;
pub use engine::{
    Answer, Ask, Effect, Engine, Event, Forgotten, Holdings, HoldingsResult, Reclaim, Request,
    Scrub, ScrubResult, Standing, Stats, Token, Usage,
};
pub use job::{Job, JobDone, Lane, Worker};
pub use node::{
    BookieNode, NodeConfig, NodeError, RepairConfig, RepairConfigError, ScrubConfig,
    ScrubConfigError,
};
pub use open::{OpenError, OpenReport, Opening, Place};
