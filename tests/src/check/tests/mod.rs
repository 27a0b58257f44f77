//! The judge judged: each anomaly scripted and caught, correct histories passed, one planted anomaly found and no other.

mod deletions;
mod generator;
mod injected;
mod scripted;
