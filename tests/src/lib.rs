//! What proves Ledgerline: one history format, one judge of histories, the description of a workload, and a harness
//! that runs the real binary's roles as processes.
//!
//! - [`history`]: what a run writes down. JSON Lines, one format for simulated and real runs.
//! - [`check`]: the judge. It reads a history and says valid, violated or inconclusive; it knows nothing of how the
//!   system works, only what it promises.
//! - [`workload`]: which messages a run sends, and payloads that say themselves who sent them.
//! - [`explore`]: the real ledger machines, state by state.
//! - [`l1`]: the real cores, catalog and bookie engine in a simulated world, from a seed.
//! - [`l2`]: the real servers and clients of a whole cluster on a simulated network and disks, from a seed.
//! - [`page`]: metrics as a monitor reads them, strictly.
//! - [`process`]: processes on loopback, killed and paused by recorded pid, gone when the harness is dropped.
//! - [`seeds`]: the seeds of a simulator, those on record and many at a time.
//!
//! `reliability.md` of the design is the reason for all of it: a run that acked nothing proves nothing, and a judge that
//! has never found a planted fault is not believed either, so each check has the faults it must find among its tests.
//! Any run writes its history to the file that `LEDGERLINE_HISTORY` names; `judge FILE…` judges it again.

pub mod check;
pub mod explore;
pub mod history;
pub mod l1;
pub mod l2;
pub mod page;
pub mod process;
pub mod seeds;
pub mod workload;
