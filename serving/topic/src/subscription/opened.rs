//! The compressed batch that a subscription is giving out in parts.

use bytes::Bytes;
use compression::OpenError;

use crate::{Position, StoredEntry};

/// An opened batch above this is not kept while nobody takes more of it: there may be thousands of subscriptions whose
/// consumers stand still.
const KEPT: usize = 256 * 1024;

/// Opens compressed batches, and keeps the last one until all of it is given out: a consumer that takes a batch message by
/// message has it opened once, unless it is large.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Opened {
    last: Option<(Position, Bytes)>,
}

impl Opened {
    /// The encoded batch of an entry.
    pub(crate) fn batch(&mut self, entry: &StoredEntry) -> Result<Bytes, OpenError> {
        let Some(compression) = entry.header.compression else {
            return Ok(entry.body.clone());
        };
        if let Some((position, batch)) = &self.last
            && *position == entry.position
        {
            return Ok(batch.clone());
        }
        let batch = compression::open(compression, &entry.body)?;
        self.last = Some((entry.position, batch.clone()));
        Ok(batch)
    }

    /// Nobody takes more for now: gives the memory of a large batch back.
    pub(crate) fn wait(&mut self) {
        self.last.take_if(|(_, batch)| batch.len() > KEPT);
    }

    /// Gives the memory back.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use types::{EntryId, LedgerId, LedgerSeq, LogId};

    use super::*;

    #[test]
    fn a_large_opened_batch_is_not_kept_while_nobody_takes_more_and_a_smaller_one_is() {
        let position = Position {
            ledger: LedgerId::new(LogId::new(1), LedgerSeq::new(0)),
            entry: EntryId::new(0),
        };
        for (len, is_kept) in [(KEPT, true), (KEPT + 1, false)] {
            let batch = Bytes::from(vec![0; len]);
            let mut opened = Opened {
                last: Some((position, batch)),
            };
            opened.wait();
            assert_eq!(opened.last.is_some(), is_kept, "{len}");
        }
    }
}
