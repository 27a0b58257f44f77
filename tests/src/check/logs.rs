//! The partitions' logs as the history shows them: which committed message lies where.

use super::records::{NONE, Records, small};

/// A message at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) message: u32,
}

/// The committed messages in log order.
#[derive(Debug)]
pub(super) struct Logs {
    /// off(m), or [`NONE`], by message.
    offsets: Vec<u64>,
    /// Where consumers saw messages: sorted by (message, offset), each once.
    pub(super) seen: Vec<(u32, u64)>,
    /// Where acks say that messages are, likewise.
    pub(super) named: Vec<(u32, u64)>,
    /// By partition: the committed messages that have an offset, by offset. An index in here is a rank.
    pub(super) by_partition: Vec<Vec<Place>>,
    /// By partition: acked messages whose offset nobody knows.
    pub(super) unplaced: Vec<Vec<u32>>,
}

impl Logs {
    pub(super) fn build(records: &Records) -> Self {
        let is_real = |message: u32| records.messages[message as usize].is_real();
        let mut seen: Vec<(u32, u64)> = records
            .recvs
            .iter()
            .map(|recv| (recv.message, recv.offset))
            .filter(|&(message, _)| is_real(message))
            .collect();
        seen.sort_unstable();
        seen.dedup();
        let mut named: Vec<(u32, u64)> = records
            .named
            .iter()
            .map(|named| (named.message, named.offset))
            .filter(|&(message, _)| is_real(message))
            .collect();
        named.sort_unstable();
        named.dedup();

        let mut offsets = vec![NONE; records.messages.len()];
        for pairs in [&seen, &named] {
            for run in pairs.chunk_by(|a, b| a.0 == b.0) {
                let (message, lowest) = run[0];
                let offset = &mut offsets[message as usize];
                if *offset == NONE {
                    *offset = lowest;
                }
            }
        }

        let mut by_partition = vec![Vec::new(); records.partitions.len()];
        let mut unplaced = vec![Vec::new(); records.partitions.len()];
        for (index, message) in records.messages.iter().enumerate() {
            let id = small(index);
            let partition = records.partition_of(id) as usize;
            let offset = offsets[index];
            if offset != NONE {
                by_partition[partition].push(Place {
                    offset,
                    message: id,
                });
            } else if message.oks > 0 && message.is_real() {
                unplaced[partition].push(id);
            }
        }
        for log in &mut by_partition {
            log.sort_unstable();
        }
        Self {
            offsets,
            seen,
            named,
            by_partition,
            unplaced,
        }
    }

    /// off(m).
    pub(super) fn offset(&self, message: u32) -> Option<u64> {
        let offset = self.offsets[message as usize];
        (offset != NONE).then_some(offset)
    }

    /// Ranks by message, [`NONE`] as `u32::MAX` where there is none.
    pub(super) fn ranks(&self) -> Vec<u32> {
        let mut ranks = vec![u32::MAX; self.offsets.len()];
        for log in &self.by_partition {
            for (rank, place) in log.iter().enumerate() {
                ranks[place.message as usize] = small(rank);
            }
        }
        ranks
    }

    /// Whether consumers saw the message at more than one offset.
    pub(super) fn is_doubled(&self, message: u32) -> bool {
        let at = self.seen.partition_point(|&(other, _)| other < message);
        matches!(self.seen.get(at..at + 2), Some([a, b]) if a.0 == message && b.0 == message)
    }
}
