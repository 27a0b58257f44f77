//! Processes on loopback.
