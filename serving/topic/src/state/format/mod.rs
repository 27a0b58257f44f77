//! The bytes of an entry of the state log.
//!
//! ```text
//! version   u8   2
//! kind      u8   1 delta, 2 part of a snapshot
//! snapshot parts only:
//!   id      varint   the same in all parts: the state offset of the first one
//!   index   varint   0, 1, 2 …
//!   last    u8       1 in the part that completes the snapshot
//! records up to the end of the entry, each a tag (u8) and its fields:
//!   1 cursor     subscription, generation, mark, ranges     makes it, or adds to it
//!   2 acked      subscription, generation, ranges           adds to a cursor that exists
//!   3 opened     name, epoch, since, used                   a producer's stream
//!   4 table      last epoch, log bytes, covered (0 none | 1, log, ledger, entry)
//!   5 producer   name, epoch, since, used, next number, recent batches
//! ```
//!
//! Numbers are varints; a name is a length (u8) and bytes. Ranges: how many, then for each the gap from the end of
//! the one before (from 0 the first time) and its length. Recent batches: how many, and if any the log, then for each,
//! oldest first, count, offset and ledger and time as differences (time zigzag) to the one before, and the entry; the
//! last one ends before the producer's next number.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use types::{
    EntryId, Generation, LedgerId, LedgerSeq, LogId, Offset, ProducerEpoch, ProducerName,
    SequenceId, SubscriptionId, WallTime,
};

use crate::codec::{Reader, put_text, put_varint};
use crate::format::read_name;
use crate::producers::{Named, ProducerOpened, ProducerTable, Recent, Sequences};
use crate::{FormatError, OffsetRange, Position};

/// The version this code writes.
pub(crate) const VERSION: u8 = 2;

/// Most ranges in one record: larger sets take several.
pub(crate) const RECORD_RANGES_MAX: usize = 4_096;

const DELTA: u8 = 1;
const SNAPSHOT: u8 = 2;

const CURSOR: u8 = 1;
const ACKED: u8 = 2;
const OPENED: u8 = 3;
const TABLE: u8 = 4;
const PRODUCER: u8 = 5;

/// A cursor's identity: what belongs to an older generation never touches a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CursorKey {
    pub(crate) subscription: SubscriptionId,
    pub(crate) generation: Generation,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Delta,
    Snapshot(Part),
}

/// A snapshot's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Part {
    pub(crate) id: u64,
    pub(crate) index: u64,
    pub(crate) is_last: bool,
}

/// One record of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Cursor {
        key: CursorKey,
        mark: Offset,
        ranges: Vec<OffsetRange>,
    },
    Acked {
        key: CursorKey,
        ranges: Vec<OffsetRange>,
    },
    Opened(ProducerOpened),
    Table {
        last_epoch: u64,
        covered: Option<Position>,
        log_bytes: u64,
    },
    Producer {
        name: ProducerName,
        named: Named,
    },
}

/// Writes the head of an entry.
pub(crate) fn put_kind(into: &mut BytesMut, kind: Kind) {
    into.put_u8(VERSION);
    match kind {
        Kind::Delta => into.put_u8(DELTA),
        Kind::Snapshot(part) => {
            into.put_u8(SNAPSHOT);
            put_varint(into, part.id);
            put_varint(into, part.index);
            into.put_u8(u8::from(part.is_last));
        }
    }
}

fn put_key(into: &mut BytesMut, key: CursorKey) {
    put_varint(into, key.subscription.get());
    put_varint(into, u64::from(key.generation.get()));
}

fn put_ranges(into: &mut BytesMut, ranges: &[OffsetRange]) {
    put_varint(
        into,
        u64::try_from(ranges.len()).expect("lengths fit 64 bits"),
    );
    let mut at = 0;
    for range in ranges {
        put_varint(into, range.start.get() - at);
        put_varint(into, range.len());
        at = range.end.get();
    }
}

/// Writes a cursor that begins here, or that a snapshot begins with. Ranges ascend.
pub(crate) fn put_cursor(
    into: &mut BytesMut,
    key: CursorKey,
    mark: Offset,
    ranges: &[OffsetRange],
) {
    into.put_u8(CURSOR);
    put_key(into, key);
    put_varint(into, mark.get());
    put_ranges(into, ranges);
}

/// Writes acked offsets of a cursor. Ranges ascend.
pub(crate) fn put_acked(into: &mut BytesMut, key: CursorKey, ranges: &[OffsetRange]) {
    into.put_u8(ACKED);
    put_key(into, key);
    put_ranges(into, ranges);
}

/// Writes the opening of a producer's stream.
pub(crate) fn put_opened(into: &mut BytesMut, opened: &ProducerOpened) {
    into.put_u8(OPENED);
    put_text(into, opened.name.as_str());
    put_varint(into, opened.epoch.get());
    put_varint(into, opened.since.get());
    put_varint(into, opened.used.get());
}

/// Writes the facts of the producers' table.
pub(crate) fn put_table(into: &mut BytesMut, table: &ProducerTable) {
    into.put_u8(TABLE);
    put_varint(into, table.last_epoch);
    put_varint(into, table.log_bytes);
    match table.covered {
        None => into.put_u8(0),
        Some(at) => {
            into.put_u8(1);
            put_varint(into, at.ledger.log().get());
            put_varint(into, u64::from(at.ledger.seq().get()));
            put_varint(into, at.entry.get());
        }
    }
}

/// Writes a producer with what is confirmed of it.
pub(crate) fn put_producer(into: &mut BytesMut, name: &ProducerName, named: &Named) {
    into.put_u8(PRODUCER);
    put_text(into, name.as_str());
    put_varint(into, named.epoch.get());
    put_varint(into, named.since.get());
    put_varint(into, named.used.get());
    put_varint(into, named.sequences.confirmed_next());
    let recent = named.sequences.recent();
    put_varint(
        into,
        u64::try_from(recent.len()).expect("lengths fit 64 bits"),
    );
    let Some(first) = recent.front() else {
        return;
    };
    put_varint(into, first.position.ledger.log().get());
    let (mut offset, mut ledger, mut time) = (0, 0, 0);
    for batch in recent {
        let seq = u64::from(batch.position.ledger.seq().get());
        let nanos = batch.publish_time.as_nanos();
        put_varint(into, u64::from(batch.count));
        put_varint(into, batch.first_offset.get() - offset);
        put_varint(into, seq - ledger);
        put_varint(into, batch.position.entry.get());
        put_varint(into, zigzag(time, nanos));
        (offset, ledger, time) = (batch.first_offset.get(), seq, nanos);
    }
}

/// The difference between two numbers, small ones small whichever way they go. Undone by [`unzigzag`].
const fn zigzag(from: u64, to: u64) -> u64 {
    let up = to.wrapping_sub(from);
    (up << 1) ^ (0_u64.wrapping_sub(up >> 63))
}

const fn unzigzag(from: u64, coded: u64) -> u64 {
    from.wrapping_add((coded >> 1) ^ (0_u64.wrapping_sub(coded & 1)))
}

/// Reads the head of an entry; the reader is left at the first record.
pub(crate) fn read_kind(reader: &mut Reader<'_>) -> Result<Kind, FormatError> {
    let version = reader.u8()?;
    if version != VERSION {
        return Err(FormatError::Version { version });
    }
    match reader.u8()? {
        DELTA => Ok(Kind::Delta),
        SNAPSHOT => Ok(Kind::Snapshot(Part {
            id: reader.varint()?,
            index: reader.varint()?,
            is_last: match reader.u8()? {
                0 => false,
                1 => true,
                _ => return malformed("last"),
            },
        })),
        _ => malformed("kind"),
    }
}

/// Reads one record.
pub(crate) fn read_record(reader: &mut Reader<'_>) -> Result<Record, FormatError> {
    match reader.u8()? {
        CURSOR => Ok(Record::Cursor {
            key: read_key(reader)?,
            mark: Offset::new(reader.varint()?),
            ranges: read_ranges(reader)?,
        }),
        ACKED => Ok(Record::Acked {
            key: read_key(reader)?,
            ranges: read_ranges(reader)?,
        }),
        OPENED => Ok(Record::Opened(ProducerOpened {
            name: read_name(reader)?,
            epoch: ProducerEpoch::new(reader.varint()?),
            since: ProducerEpoch::new(reader.varint()?),
            used: Offset::new(reader.varint()?),
        })),
        TABLE => read_table(reader),
        PRODUCER => read_producer(reader),
        _ => malformed("record"),
    }
}

const fn malformed<T>(what: &'static str) -> Result<T, FormatError> {
    Err(FormatError::Malformed { what })
}

fn read_u32(reader: &mut Reader<'_>, what: &'static str) -> Result<u32, FormatError> {
    u32::try_from(reader.varint()?).or(malformed(what))
}

fn read_key(reader: &mut Reader<'_>) -> Result<CursorKey, FormatError> {
    Ok(CursorKey {
        subscription: SubscriptionId::new(reader.varint()?),
        generation: Generation::new(read_u32(reader, "generation")?),
    })
}

/// Reads how many items of at least `size` bytes follow: a number that the bytes left cannot hold is refused before
/// any memory is taken for it.
fn read_len(reader: &mut Reader<'_>, size: usize) -> Result<usize, FormatError> {
    let len = usize::try_from(reader.varint()?).or(malformed("length"))?;
    if len > reader.remaining() / size {
        return Err(FormatError::Short);
    }
    Ok(len)
}

fn add(at: u64, by: u64, what: &'static str) -> Result<u64, FormatError> {
    at.checked_add(by).ok_or(FormatError::Malformed { what })
}

fn read_ranges(reader: &mut Reader<'_>) -> Result<Vec<OffsetRange>, FormatError> {
    let len = read_len(reader, 2)?;
    let mut ranges = Vec::with_capacity(len);
    let mut at = 0;
    for _ in 0..len {
        let start = add(at, reader.varint()?, "range")?;
        at = add(start, reader.varint()?, "range")?;
        if at == start {
            return malformed("range");
        }
        ranges.push(OffsetRange::of(start, at));
    }
    Ok(ranges)
}

fn read_table(reader: &mut Reader<'_>) -> Result<Record, FormatError> {
    let last_epoch = reader.varint()?;
    let log_bytes = reader.varint()?;
    let covered = match reader.u8()? {
        0 => None,
        1 => {
            let log = LogId::new(reader.varint()?);
            let seq = LedgerSeq::new(read_u32(reader, "ledger")?);
            Some(Position {
                ledger: LedgerId::new(log, seq),
                entry: EntryId::new(reader.varint()?),
            })
        }
        _ => return malformed("covered"),
    };
    Ok(Record::Table {
        last_epoch,
        covered,
        log_bytes,
    })
}

fn read_producer(reader: &mut Reader<'_>) -> Result<Record, FormatError> {
    let name = read_name(reader)?;
    let epoch = ProducerEpoch::new(reader.varint()?);
    let since = ProducerEpoch::new(reader.varint()?);
    let used = Offset::new(reader.varint()?);
    let next = reader.varint()?;
    let recent = read_recent(reader, next)?;
    let named = Named {
        epoch,
        since,
        used,
        sequences: Sequences::restore(next, recent),
        stream: None,
    };
    Ok(Record::Producer { name, named })
}

fn read_recent(reader: &mut Reader<'_>, next: u64) -> Result<VecDeque<Recent>, FormatError> {
    let len = read_len(reader, 5)?;
    let mut recent = VecDeque::with_capacity(len);
    if len == 0 {
        return Ok(recent);
    }
    let log = LogId::new(reader.varint()?);
    let (mut offset, mut ledger, mut time, mut total) = (0, 0, 0, 0);
    for _ in 0..len {
        let count = read_u32(reader, "count")?;
        offset = add(offset, reader.varint()?, "offset")?;
        ledger = add(ledger, reader.varint()?, "ledger")?;
        let seq = LedgerSeq::new(u32::try_from(ledger).or(malformed("ledger"))?);
        let entry = EntryId::new(reader.varint()?);
        time = unzigzag(time, reader.varint()?);
        recent.push_back(Recent {
            first: SequenceId::new(total),
            count,
            first_offset: Offset::new(offset),
            position: Position {
                ledger: LedgerId::new(log, seq),
                entry,
            },
            publish_time: WallTime::from_nanos(time),
        });
        total = add(total, u64::from(count), "count")?;
    }
    let Some(first) = next.checked_sub(total) else {
        return malformed("next number");
    };
    for batch in &mut recent {
        batch.first = SequenceId::new(batch.first.get() + first);
    }
    Ok(recent)
}

/// Ends an entry.
pub(crate) fn finish(bytes: BytesMut) -> Bytes {
    bytes.freeze()
}

#[cfg(test)]
mod tests;
