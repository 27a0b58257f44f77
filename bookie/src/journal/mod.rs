//! The journal: what makes an add or a fence survive a power loss.
//!
//! One frame is on its way to the disk at a time; while it is being synced the next gathers, so that grouping adapts
//! to the device and no timer adds latency. Files are written over before use, used once in order, and recycled when
//! the checkpoint mark has passed them.

pub(crate) mod core;
pub mod format;
pub(crate) mod jobs;
pub(crate) mod replay;
