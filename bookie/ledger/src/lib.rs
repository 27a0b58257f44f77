#![doc = include_str!("../DESIGN.md")]

pub mod acceptor;
pub mod config;
pub mod message;
pub mod owner;
pub mod reader;

mod ensemble;
mod recovery;
mod retry;
mod writer;

pub use acceptor::{Acceptor, AddDecision, FenceDecision, Fingerprint, Held, LogFacts, Missing};
pub use config::{Config, ConfigError};
pub use ensemble::{Candidate, choose};
pub use message::{Answer, Request, Token};
pub use owner::{Effect, Event, Outcome, Over, Owner, Stuck};
pub use reader::{Reader, ReaderEffect, ReaderEvent, RunPlan};
