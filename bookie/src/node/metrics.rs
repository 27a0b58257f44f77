//! What a bookie counts, and whether it may be sent work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use host::metrics::{Counter, Histogram, Page, Source};
use host::{Clock, Probe};
use meta_client::Session;
use tokio::sync::watch;
use types::storage::{AddResult, LacResult, ReadResult, RunItem};

use super::handle::Report;
use crate::{Lane, Standing, Stats};

/// Results of adds, as labels.
const ADDS: [&str; 6] = [
    "stored",
    "fenced",
    "sealed",
    "mismatch",
    "busy",
    "read_only",
];
/// Lanes of reads, as labels.
const LANES: [&str; 3] = ["tail", "catch_up", "recovery"];
/// Results of reads, as labels.
const READS: [&str; 5] = ["found", "never_had", "unknown", "fenced", "busy"];

/// The numbers of a bookie that its engine does not have.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    adds: [Counter; ADDS.len()],
    stored_bytes: Counter,
    reads: [[Counter; READS.len()]; LANES.len()],
    journal_sync: Histogram,
    damaged_blocks: Counter,
    /// The engine's own, as last told.
    stats: Mutex<Stats>,
}

impl Metrics {
    /// An add was answered, of an entry of so many bytes.
    pub(super) fn added(&self, result: AddResult, bytes: u64) {
        let index = match result {
            AddResult::Stored => 0,
            AddResult::Fenced { .. } => 1,
            AddResult::Sealed(_) => 2,
            AddResult::Mismatch => 3,
            AddResult::Busy => 4,
            AddResult::ReadOnly => 5,
        };
        self.adds[index].inc();
        if result == AddResult::Stored {
            self.stored_bytes.add(bytes);
        }
    }

    /// A read of one entry was answered.
    pub(super) fn read(&self, is_fencing: bool, result: &ReadResult) {
        let lane = if is_fencing {
            Lane::Recovery
        } else {
            Lane::Tail
        };
        let index = match result {
            ReadResult::Found { .. } => 0,
            ReadResult::NeverHad => 1,
            ReadResult::Unknown => 2,
            ReadResult::Fenced { .. } => 3,
            ReadResult::Busy => 4,
        };
        self.count_reads(lane, index, 1);
    }

    /// The LAC was told.
    pub(super) fn read_lac(&self, result: LacResult) {
        let index = match result {
            LacResult::Lac(_) => 0,
            LacResult::Fenced { .. } => 3,
            LacResult::Busy => 4,
        };
        self.count_reads(Lane::Recovery, index, 1);
    }

    /// A run of entries was answered.
    pub(super) fn read_run(&self, items: &[RunItem]) {
        let mut found = 0;
        for item in items {
            match item {
                RunItem::Entry(_) | RunItem::Prefix { .. } => found += 1,
                RunItem::NeverHad => self.count_reads(Lane::CatchUp, 1, 1),
                RunItem::Unknown => self.count_reads(Lane::CatchUp, 2, 1),
                RunItem::Busy => self.count_reads(Lane::CatchUp, 4, 1),
            }
        }
        self.count_reads(Lane::CatchUp, 0, found);
    }

    fn count_reads(&self, lane: Lane, result: usize, count: u64) {
        let lane = match lane {
            Lane::Tail => 0,
            Lane::CatchUp => 1,
            Lane::Recovery => 2,
        };
        self.reads[lane][result].add(count);
    }

    /// Times the writing and syncing of frames.
    pub(super) const fn journal_sync(&self) -> &Histogram {
        &self.journal_sync
    }

    /// Times that a damaged block was found.
    pub(super) const fn damaged_blocks(&self) -> &Counter {
        &self.damaged_blocks
    }

    /// Takes the engine's numbers as they stand.
    pub(super) fn tell(&self, stats: Stats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }

    fn write_traffic(&self, page: &mut Page) {
        for (result, adds) in ADDS.iter().zip(&self.adds) {
            let help = "Adds answered, by result.";
            let labels = [("result", *result)];
            page.counter("ledgerline_bookie_adds_total", help, &labels, adds.get());
        }
        page.counter(
            "ledgerline_bookie_stored_bytes_total",
            "Bytes of entries that were answered as stored.",
            &[],
            self.stored_bytes.get(),
        );
        for (lane, reads) in LANES.iter().zip(&self.reads) {
            for (result, reads) in READS.iter().zip(reads) {
                let help = "Entries and LACs asked for, by lane and result.";
                let labels = [("lane", *lane), ("result", *result)];
                page.counter("ledgerline_bookie_reads_total", help, &labels, reads.get());
            }
        }
        page.histogram(
            "ledgerline_bookie_journal_sync_seconds",
            "How long writing and syncing one frame of the journal took.",
            &self.journal_sync,
        );
        page.counter(
            "ledgerline_bookie_damaged_blocks_total",
            "Times that a read or the scrub found a block of a data file that is not as written.",
            &[],
            self.damaged_blocks.get(),
        );
    }

    fn write_stats(&self, page: &mut Page) {
        let stats = *self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counter = |name, help, value| page.counter(name, help, &[], value);
        counter(
            "ledgerline_bookie_journal_frames_total",
            "Frames of the journal that were begun, idle ones included.",
            stats.frames,
        );
        counter(
            "ledgerline_bookie_journal_records_total",
            "Records put into frames of the journal.",
            stats.records,
        );
        counter(
            "ledgerline_bookie_cache_hits_total",
            "Reads of a block or a piece of a data file that found it in memory, also if it was read ahead.",
            stats.cache_hits,
        );
        counter(
            "ledgerline_bookie_cache_misses_total",
            "Reads of a block or a piece of a data file that had to get it from the disk.",
            stats.cache_misses,
        );
        let mut gauge = |name, help, value| page.gauge(name, help, &[], value);
        gauge(
            "ledgerline_bookie_journal_queue_bytes",
            "Bytes of entries that wait for the journal.",
            stats.waiting_bytes,
        );
        gauge(
            "ledgerline_bookie_journal_files",
            "Journal files in use.",
            stats.journal_files,
        );
        gauge(
            "ledgerline_bookie_journal_durable_frame",
            "The last frame of the journal known to be durable.",
            stats.durable_frame,
        );
        gauge(
            "ledgerline_bookie_journal_mark_frame",
            "The checkpoint mark: what frames below it hold is in data files.",
            stats.mark,
        );
        gauge(
            "ledgerline_bookie_memtable_bytes",
            "Bytes of entries in memory, not yet in data files.",
            stats.memory_bytes,
        );
        write_data(page, &stats);
    }
}

/// What the data files hold, what of it is to go, and what is free.
fn write_data(page: &mut Page, stats: &Stats) {
    let mut counter = |name, help, value| page.counter(name, help, &[], value);
    counter(
        "ledgerline_bookie_data_files_dropped_total",
        "Data files that went because nothing in them was live.",
        stats.files_dropped,
    );
    counter(
        "ledgerline_bookie_data_files_rewritten_total",
        "Data files that were rewritten because little in them was live.",
        stats.files_rewritten,
    );
    let mut gauge = |name, help, value| page.gauge(name, help, &[], value);
    gauge(
        "ledgerline_bookie_data_files",
        "Data files.",
        stats.data_files,
    );
    gauge(
        "ledgerline_bookie_data_bytes",
        "Bytes of data files.",
        stats.data_bytes,
    );
    gauge(
        "ledgerline_bookie_data_live_bytes",
        "Bytes of data files that are live.",
        stats.live_bytes,
    );
    gauge(
        "ledgerline_bookie_data_reclaimable_bytes",
        "Bytes of data files of what was trimmed, deleted or moved away.",
        stats.reclaimable_bytes,
    );
    gauge(
        "ledgerline_bookie_free_bytes",
        "Least free bytes of the journal's and the data's disk.",
        stats.free_bytes,
    );
}

impl Source for Metrics {
    fn write(&self, page: &mut Page) {
        self.write_traffic(page);
        self.write_stats(page);
    }
}

/// How a bookie stands towards those who send it work.
#[derive(Debug)]
pub(super) struct Readiness {
    pub(super) clock: Clock,
    pub(super) session: Session,
    pub(super) reports: watch::Receiver<Report>,
    is_stopping: AtomicBool,
}

impl Readiness {
    pub(super) const fn new(
        clock: Clock,
        session: Session,
        reports: watch::Receiver<Report>,
    ) -> Self {
        Self {
            clock,
            session,
            reports,
            is_stopping: AtomicBool::new(false),
        }
    }

    /// From now on it drains.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    fn is_writable(&self) -> bool {
        self.reports.borrow().standing == Standing::ReadWrite
    }
}

impl Probe for Readiness {
    fn ready(&self) -> Result<(), &'static str> {
        if self.is_stopping.load(Ordering::Relaxed) {
            Err("draining")
        } else if !self.session.lease_is_certain(self.clock.now()) {
            Err("meta is not reachable")
        } else if !self.is_writable() {
            Err("read-only, a disk is nearly full")
        } else {
            Ok(())
        }
    }
}

impl Source for Readiness {
    fn write(&self, page: &mut Page) {
        page.gauge(
            "ledgerline_bookie_writable",
            "1 while it takes the writes of writers, 0 while a disk is nearly full.",
            &[],
            self.is_writable().into(),
        );
        let is_certain = self.session.lease_is_certain(self.clock.now());
        page.gauge(
            "ledgerline_bookie_lease_certain",
            "1 while it is certain that meta counts it as alive.",
            &[],
            is_certain.into(),
        );
    }
}
