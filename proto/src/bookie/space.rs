//! What takes a bookie's space, for people.

use types::{BookieId, ClusterId, LogId, Problem};

use super::cluster_to_wire;
use crate::bookie_v1 as pb;

/// What every byte of a bookie's directories is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceUse {
    /// The bookie's name.
    pub name: String,
    /// Its number.
    pub bookie: BookieId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Whether it takes writes.
    pub writable: bool,
    /// Bytes of data files that are live.
    pub live: u64,
    /// Bytes of data files of trimmed ledgers.
    pub trimmed: u64,
    /// Bytes of data files of deleted logs.
    pub deleted: u64,
    /// Bytes of data files of ledgers that other bookies hold now.
    pub moved: u64,
    /// Bytes of data files that are being written or removed.
    pub passing: u64,
    /// Bytes of journal files that a restart may need.
    pub journal: u64,
    /// Bytes of journal files that are made ahead.
    pub ahead: u64,
    /// Bytes of all other files.
    pub other: u64,
    /// Least free bytes of either disk.
    pub free: u64,
    /// Free bytes below which it takes no new entries.
    pub free_low: u64,
    /// The logs with the most live bytes, and those.
    pub logs: Vec<(LogId, u64)>,
}

/// Says what takes a bookie's space.
pub fn space_response(it: SpaceUse) -> pb::DescribeSpaceResponse {
    let logs = it.logs.into_iter().map(|(log, live_bytes)| pb::LogSpace {
        log: log.get(),
        live_bytes,
    });
    pb::DescribeSpaceResponse {
        name: it.name,
        bookie: it.bookie.get(),
        cluster: cluster_to_wire(it.cluster),
        writable: it.writable,
        live_bytes: it.live,
        trimmed_bytes: it.trimmed,
        deleted_bytes: it.deleted,
        moved_bytes: it.moved,
        passing_bytes: it.passing,
        journal_bytes: it.journal,
        ahead_bytes: it.ahead,
        other_bytes: it.other,
        free_bytes: it.free,
        free_low_bytes: it.free_low,
        logs: logs.collect(),
    }
}

/// Reads what takes a bookie's space.
///
/// # Errors
///
/// `BAD_FIELD` when the cluster is missing.
pub fn space_use(answer: pb::DescribeSpaceResponse) -> Result<SpaceUse, Problem> {
    let cluster = ClusterId::from_slice(&answer.cluster);
    let logs = answer.logs.into_iter();
    Ok(SpaceUse {
        name: answer.name,
        bookie: BookieId::new(answer.bookie),
        cluster: cluster.ok_or_else(|| Problem::bad_field("cluster", "16 bytes are needed"))?,
        writable: answer.writable,
        live: answer.live_bytes,
        trimmed: answer.trimmed_bytes,
        deleted: answer.deleted_bytes,
        moved: answer.moved_bytes,
        passing: answer.passing_bytes,
        journal: answer.journal_bytes,
        ahead: answer.ahead_bytes,
        other: answer.other_bytes,
        free: answer.free_bytes,
        free_low: answer.free_low_bytes,
        logs: logs
            .map(|log| (LogId::new(log.log), log.live_bytes))
            .collect(),
    })
}
