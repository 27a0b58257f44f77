//! The boundaries of messages in a batch, and parts of a batch made along them.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::check::next_message;
use super::wire::Reader;

/// Where one message lies in its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its tag, length and encoding: what is copied to put it into another batch.
    pub whole: Range<usize>,
    /// Its encoding alone: a `Message`.
    pub message: Range<usize>,
}

/// The records of a batch, in order.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    reader: Reader<'a>,
}

/// The records of a batch that passed [`check`](super::check). Of another the walk ends at the first fault.
pub const fn records(batch: &[u8]) -> Records<'_> {
    Records {
        reader: Reader::new(batch),
    }
}

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if self.reader.is_empty() {
            return None;
        }
        let start = self.reader.at();
        let message = next_message(&mut self.reader).ok()?;
        let end = self.reader.at();
        Some(Record {
            whole: start..end,
            message: message.at()..end,
        })
    }
}

/// Makes a batch of some messages of a batch that passed [`check`](super::check). `wanted` names them by index, in
/// ascending ranges that do not overlap.
///
/// Messages that lie side by side are a slice and cost nothing; else they are copied, once, as they are encoded.
///
/// `None` when `wanted` names a message that is not there, or goes backwards.
pub fn cut(batch: &Bytes, wanted: impl IntoIterator<Item = Range<u32>>) -> Option<Bytes> {
    let mut records = records(batch);
    let mut index = 0;
    let mut runs = wanted.into_iter().filter(|range| !range.is_empty());
    let mut part = match runs.next() {
        Some(range) => take(&mut records, &mut index, range)?,
        None => return Some(Bytes::new()),
    };
    let mut copied: Option<BytesMut> = None;
    for range in runs {
        let next = take(&mut records, &mut index, range)?;
        if copied.is_none() && next.start == part.end {
            part.end = next.end;
            continue;
        }
        let copied = copied.get_or_insert_with(|| BytesMut::from(&batch[part.clone()]));
        copied.extend_from_slice(&batch[next]);
    }
    Some(copied.map_or_else(|| batch.slice(part), BytesMut::freeze))
}

/// The bytes of a run of messages.
fn take(records: &mut Records<'_>, index: &mut u32, range: Range<u32>) -> Option<Range<usize>> {
    let skipped = range.start.checked_sub(*index)?;
    let skipped = usize::try_from(skipped).ok()?;
    let more = usize::try_from(range.end - range.start - 1).ok()?;
    let first = records.nth(skipped)?;
    *index = range.end;
    let end = match more.checked_sub(1) {
        None => first.whole.end,
        Some(last) => records.nth(last)?.whole.end,
    };
    Some(first.whole.start..end)
}
