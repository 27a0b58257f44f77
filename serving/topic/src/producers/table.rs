//! The names of producers and what is stored of them: a fold over the message log.

use std::collections::BTreeMap;

use types::{Offset, ProducerEpoch, ProducerName};

use super::sequences::{Recent, Sequences};
use crate::{EntryHeader, Position, ProducerIdentity, StreamId};

/// A producer that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Named {
    /// The epoch of its newest stream.
    pub(crate) epoch: ProducerEpoch,
    /// The epoch in which its numbers began. Entries of older epochs are another life of the name: it was forgotten
    /// in between.
    pub(crate) since: ProducerEpoch,
    /// Where the log was when it was last used: the name unused for the longest is forgotten first.
    pub(crate) used: Offset,
    /// Its numbers.
    pub(crate) sequences: Sequences,
    /// Its open stream.
    pub(crate) stream: Option<StreamId>,
}

impl Named {
    pub(crate) fn new(epoch: ProducerEpoch, used: Offset) -> Self {
        Self {
            epoch,
            since: epoch,
            used,
            sequences: Sequences::default(),
            stream: None,
        }
    }
}

/// All names. Epochs come from one counter for the whole shard, so that a name that was forgotten and comes back gets
/// a higher one than ever before.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct ProducerTable {
    pub(crate) names: BTreeMap<ProducerName, Named>,
    /// The highest epoch given out.
    pub(crate) last_epoch: u64,
    /// Up to which entry of the message log this is the fold, inclusive.
    pub(crate) covered: Option<Position>,
    /// Bytes of the batches of the message log up to there.
    pub(crate) log_bytes: u64,
}

impl ProducerTable {
    /// The next epoch of a stream.
    pub(crate) fn take_epoch(&mut self) -> ProducerEpoch {
        self.last_epoch += 1;
        ProducerEpoch::new(self.last_epoch)
    }

    /// Folds the opening of a stream.
    pub(crate) fn fold_opened(
        &mut self,
        name: ProducerName,
        epoch: ProducerEpoch,
        since: ProducerEpoch,
        used: Offset,
    ) {
        self.last_epoch = self.last_epoch.max(epoch.get());
        let named = self
            .names
            .entry(name)
            .or_insert_with(|| Named::new(since, used));
        if named.since < since {
            *named = Named::new(since, used);
        }
        named.epoch = named.epoch.max(epoch);
        named.used = named.used.max(used);
    }

    /// Folds an entry of the message log. Entries it covers already change nothing.
    pub(crate) fn fold_entry(&mut self, position: Position, header: EntryHeader, keep: usize) {
        if self.covered.is_some_and(|covered| position <= covered) {
            return;
        }
        self.covered = Some(position);
        self.log_bytes = header.log_bytes;
        let batch = Recent {
            first: header.first_sequence,
            count: header.count,
            first_offset: header.first_offset,
            position,
            publish_time: header.publish_time,
        };
        let ProducerIdentity::Named { name, epoch } = header.producer else {
            return;
        };
        self.last_epoch = self.last_epoch.max(epoch.get());
        let named = self.names.entry(name);
        let named = named.or_insert_with(|| Named::new(epoch, batch.first_offset));
        if epoch < named.since {
            return;
        }
        named.epoch = named.epoch.max(epoch);
        named.used = named.used.max(batch.first_offset);
        named.sequences.confirm(batch, keep);
    }

    /// Makes room for one more name: forgets those unused for the longest that have no stream and nothing in flight.
    /// Tells whether there is room.
    pub(crate) fn make_room(&mut self, max: usize) -> bool {
        while self.names.len() >= max {
            let idle = self
                .names
                .iter()
                .filter(|(_, named)| named.stream.is_none() && named.sequences.is_settled());
            let oldest = idle.min_by_key(|(_, named)| (named.used, named.epoch));
            let Some(name) = oldest.map(|(name, _)| name.clone()) else {
                return false;
            };
            self.names.remove(&name);
        }
        true
    }
}
