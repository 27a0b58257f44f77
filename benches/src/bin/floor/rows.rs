//! The rows: what was measured, under the names that `--help` explains.

use benches::figures::median;

use crate::rounds::{Times, counted};

/// 4 KiB write + fdatasync past the cache.
pub(crate) const SYNC_DIRECT_P50: &str = "sync_direct_p50";
/// The same, of the slowest hundredth.
pub(crate) const SYNC_DIRECT_P99: &str = "sync_direct_p99";
/// 4 KiB write + fdatasync through the cache.
pub(crate) const SYNC_BUFFERED_P50: &str = "sync_buffered_p50";
/// The same, of the slowest hundredth.
pub(crate) const SYNC_BUFFERED_P99: &str = "sync_buffered_p99";
/// Writes past the cache.
pub(crate) const WRITE: &str = "write";
/// Writes as a bookie makes them.
pub(crate) const JOURNAL_AND_DATA: &str = "journal_and_data";
/// Reads past the cache, one under way.
pub(crate) const READ_1: &str = "read_1";
/// Reads past the cache, two under way.
pub(crate) const READ_2: &str = "read_2";
/// Copies in memory.
pub(crate) const COPY: &str = "copy";
/// Checksums.
pub(crate) const CRC32C: &str = "crc32c";
/// Bytes over loopback.
pub(crate) const TCP: &str = "tcp";
/// There and back over loopback.
pub(crate) const TCP_TURN: &str = "tcp_turn_p50";
/// Bytes over a stream.
pub(crate) const STREAM: &str = "stream";
/// There and back over a stream.
pub(crate) const STREAM_TURN: &str = "stream_turn_p50";

/// All of them, in the order of the table.
#[cfg(test)]
pub(crate) const NAMES: [&str; 14] = [
    SYNC_DIRECT_P50,
    SYNC_DIRECT_P99,
    SYNC_BUFFERED_P50,
    SYNC_BUFFERED_P99,
    WRITE,
    JOURNAL_AND_DATA,
    READ_1,
    READ_2,
    COPY,
    CRC32C,
    TCP,
    TCP_TURN,
    STREAM,
    STREAM_TURN,
];

/// What a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Microseconds; less is better.
    Micros,
    /// Millions of bytes a second; more is better.
    MegabytesPerSecond,
}

/// One row: what each round measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) rounds: Vec<f64>,
}

impl Row {
    /// A row of rates, the warm-up's among them.
    pub(crate) fn of_rates(name: &'static str, rates: Vec<f64>) -> Self {
        Self {
            name,
            unit: Unit::MegabytesPerSecond,
            rounds: counted(rates),
        }
    }

    /// A row of a percentile of the times of each round, the warm-up's among them.
    pub(crate) fn of_times(name: &'static str, percent: usize, times: &mut [Times]) -> Self {
        let at = times.iter_mut().map(|round| round.percentile(percent));
        Self {
            name,
            unit: Unit::Micros,
            rounds: counted(at.collect()),
        }
    }

    /// The middle round.
    pub(crate) fn median(&self) -> f64 {
        median(&self.rounds)
    }
}
