//! The newest confirmed entries, kept in memory for all subscriptions that follow the tail.

use std::collections::VecDeque;

use topic::{Position, ReadRequest, StoredEntry};
use types::{ByteSize, Offset};

/// A run of entries without a gap, the newest at the end, bounded in bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    entries: VecDeque<StoredEntry>,
    bytes: usize,
}

impl Entries {
    /// Adds the next entry.
    pub(super) fn push(&mut self, entry: StoredEntry) {
        if self
            .next_offset()
            .is_some_and(|next| next != entry.header.first_offset)
        {
            // A gap cannot be: what is kept would hide it.
            self.clear();
        }
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
    }

    /// Drops the oldest until at most `limit` bytes are left.
    pub(super) fn shrink(&mut self, limit: ByteSize) {
        while self.bytes > limit.as_usize()
            && let Some(entry) = self.entries.pop_front()
        {
            self.bytes -= cost(&entry);
        }
    }

    /// Drops the entries that lie wholly below `offset`.
    pub(super) fn drop_below(&mut self, offset: Offset) {
        while let Some(entry) = self.entries.front()
            && entry.header.next_offset() <= offset
        {
            self.bytes -= cost(entry);
            self.entries.pop_front();
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.entries = VecDeque::new(); // With the room for thousands of them.
        self.bytes = 0;
    }

    /// The first offset after them; none when there are none.
    pub(super) fn next_offset(&self) -> Option<Offset> {
        Some(self.entries.back()?.header.next_offset())
    }

    /// Where the newest one is.
    pub(super) fn last(&self) -> Option<Position> {
        Some(self.entries.back()?.position)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes they keep in memory.
    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.bytes).expect("lengths fit 64 bits")
    }

    /// Adds entries that follow.
    pub(super) fn append(&mut self, more: Self) {
        for entry in more.entries {
            self.push(entry);
        }
    }

    /// Whether they hold `offset`.
    pub(super) fn holds(&self, offset: Offset) -> bool {
        let first = self.entries.front().map(|entry| entry.header.first_offset);
        first.is_some_and(|first| first <= offset)
            && self.next_offset().is_some_and(|next| offset < next)
    }

    /// What a read asks for; none when the first entry it wants is not here.
    pub(super) fn read(&self, request: &ReadRequest) -> Option<Vec<StoredEntry>> {
        if !self.holds(request.from) || request.from >= request.end {
            return None;
        }
        let start = self
            .entries
            .partition_point(|entry| entry.header.next_offset() <= request.from);
        let mut limit = Limit::of(request);
        let wanted = self.entries.range(start..).take_while(|e| limit.takes(e));
        Some(wanted.cloned().collect())
    }
}

/// How much more of a read's answer may follow.
#[derive(Debug, Clone)]
struct Limit {
    end: Offset,
    bytes: u64,
    messages: u64,
    is_first: bool,
}

impl Limit {
    const fn of(request: &ReadRequest) -> Self {
        Self {
            end: request.end,
            bytes: request.max_bytes,
            messages: request.max_messages,
            is_first: true,
        }
    }

    /// Whether the next entry still belongs to the answer. The first one does, whatever its size.
    fn takes(&mut self, entry: &StoredEntry) -> bool {
        let bytes = u64::try_from(entry.body.len()).expect("lengths fit 64 bits");
        let messages = u64::from(entry.header.count);
        let fits = bytes <= self.bytes && messages <= self.messages;
        if entry.header.first_offset >= self.end || !(fits || self.is_first) {
            return false;
        }
        self.is_first = false;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.messages = self.messages.saturating_sub(messages);
        true
    }
}

/// Bytes that an entry keeps in memory.
fn cost(entry: &StoredEntry) -> usize {
    entry.body.len() + size_of::<StoredEntry>()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use topic::{EntryHeader, ProducerIdentity, ReadId};
    use types::{EntryId, Epoch, LedgerId, LedgerSeq, LogId, SequenceId, SubscriptionId, WallTime};

    use super::*;

    fn entry(number: u64, first: u64, count: u32, len: usize) -> StoredEntry {
        StoredEntry {
            position: Position {
                ledger: LedgerId::new(LogId::new(1), LedgerSeq::new(0)),
                entry: EntryId::new(number),
            },
            header: EntryHeader {
                shard_epoch: Epoch::new(1),
                first_offset: Offset::new(first),
                count,
                publish_time: WallTime::from_nanos(0),
                producer: ProducerIdentity::Unnamed { id: 0 },
                first_sequence: SequenceId::new(first),
                log_bytes: 0,
                compression: None,
            },
            body: Bytes::from(vec![0; len]),
        }
    }

    fn request(from: u64, end: u64, max_bytes: u64, max_messages: u64) -> ReadRequest {
        ReadRequest {
            subscription: SubscriptionId::new(1),
            read: ReadId::new(1),
            from: Offset::new(from),
            end: Offset::new(end),
            max_bytes,
            max_messages,
        }
    }

    fn five() -> Entries {
        let mut entries = Entries::default();
        for n in 0..5 {
            entries.push(entry(n, n * 10, 10, 100));
        }
        entries
    }

    fn numbers(found: Option<Vec<StoredEntry>>) -> Vec<u64> {
        let found = found.unwrap_or_default();
        found.iter().map(|e| e.position.entry.get()).collect()
    }

    #[test]
    fn a_read_starts_with_the_entry_that_holds_the_offset_and_keeps_its_limits() {
        let entries = five();
        assert_eq!(
            numbers(entries.read(&request(15, 50, 1000, 1000))),
            [1, 2, 3, 4]
        );
        assert_eq!(
            numbers(entries.read(&request(10, 31, 1000, 1000))),
            [1, 2, 3]
        );
        assert_eq!(numbers(entries.read(&request(10, 50, 200, 1000))), [1, 2]);
        assert_eq!(numbers(entries.read(&request(10, 50, 1000, 15))), [1]);
        assert_eq!(
            numbers(entries.read(&request(10, 50, 1, 1))),
            [1],
            "one always comes"
        );
        assert_eq!(entries.read(&request(50, 60, 1000, 1000)), None);
    }

    #[test]
    fn the_oldest_go_first_when_there_is_too_much() {
        let mut entries = five();
        let each = 100 + size_of::<StoredEntry>() as u64;
        entries.shrink(ByteSize::new(2 * each));
        assert_eq!(entries.read(&request(29, 50, 1000, 1000)), None);
        assert_eq!(numbers(entries.read(&request(30, 50, 1000, 1000))), [3, 4]);
        entries.drop_below(Offset::new(40));
        assert_eq!(entries.read(&request(39, 50, 1000, 1000)), None);
        assert_eq!(numbers(entries.read(&request(40, 50, 1000, 1000))), [4]);
        entries.shrink(ByteSize::new(0));
        assert_eq!(entries.bytes, 0);
    }
}
