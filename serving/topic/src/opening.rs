//! From two logs to a machine: the fold that a new owner runs before it serves.

use std::sync::Arc;

use types::topic::{SubscriptionRecord, SubscriptionState};
use types::{Epoch, Generation, Offset};

use crate::state::{CursorKey, Folded, State};
use crate::subscription::Subscription;
use crate::{AckSet, Config, EntryHeader, FormatError, OffsetRange, Position, Topic};

/// The generation of a cursor that was never moved. Not 0: an ack that forgot to name one is seen.
pub(crate) const FIRST_GENERATION: Generation = Generation::new(1);

/// What the owner knows once both tails are closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Opened {
    /// The owner's epoch.
    pub epoch: Epoch,
    /// The first offset there is in the message log.
    pub first_offset: Offset,
    /// The first offset after the message log's recovered end.
    pub next_offset: Offset,
    /// The first offset after the state log's recovered end.
    pub state_next_offset: Offset,
    /// The topic's subscriptions, read from meta **after** the claim was committed.
    pub subscriptions: Vec<SubscriptionRecord>,
}

/// Reads both logs, first state, then headers. The crate's text says where to begin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Opening {
    config: Arc<Config>,
    folded: Folded,
    /// What the state log said, once the first header came.
    state: Option<State>,
    /// What the newest snapshot covers, known from then on.
    covered: Option<Position>,
}

/// What was odd about the logs. All counted, none fatal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OpeningNotes {
    /// Cursors that meta does not list: deleted subscriptions. Dropped.
    pub cursors_dropped: u64,
    /// Active subscriptions without a cursor: an alarm. They begin anew with the earliest message.
    pub cursors_missing: u64,
    /// Cursors below the first message there is. Moved up.
    pub cursors_moved: u64,
    /// Cursors that knew of messages beyond the end (after an accepted loss). Cut.
    pub cursors_cut: u64,
    /// Producers that knew of messages beyond the end (after an accepted loss). Cut.
    pub producers_cut: u64,
}

/// Why a shard cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// An entry cannot be read.
    #[error("unreadable entry position={position:?}")]
    Format {
        /// Where it is.
        position: Position,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The state log speaks of cursors that were never made: the scan began too late.
    #[error("state of unknown cursors, the scan began too late count={count}")]
    Dangling {
        /// How many records.
        count: u64,
    },
}

impl Opening {
    /// Begins with nothing.
    pub fn new(config: impl Into<Arc<Config>>) -> Self {
        Self {
            config: config.into(),
            folded: Folded::default(),
            state: None,
            covered: None,
        }
    }

    /// Takes one entry of the state log, in order.
    ///
    /// # Errors
    ///
    /// [`OpeningError::Format`]: the shard cannot be opened by this program.
    ///
    /// # Panics
    ///
    /// After the first header: the state log says which headers are needed.
    pub fn replay_state(&mut self, position: Position, payload: &[u8]) -> Result<(), OpeningError> {
        assert!(
            self.state.is_none(),
            "the state log is read before the headers"
        );
        let fed = self.folded.feed(payload);
        fed.map_err(|source| OpeningError::Format { position, source })
    }

    /// The entry of the message log up to which (inclusive) no header needs to be read; none for all of them. Known
    /// once the state log was read.
    pub fn covered(&self) -> Option<Position> {
        let state = self.state.as_ref().unwrap_or_else(|| self.folded.state());
        state.table.covered
    }

    /// Takes the first bytes of one entry of the message log
    /// ([`HEADER_LEN_MAX`](crate::format::HEADER_LEN_MAX) are enough), in order. Entries that are covered already may
    /// be left out, or fed without harm.
    ///
    /// # Errors
    ///
    /// [`OpeningError::Format`]: the shard cannot be opened by this program.
    pub fn replay_header(&mut self, position: Position, prefix: &[u8]) -> Result<(), OpeningError> {
        let decoded = EntryHeader::decode(prefix);
        let (header, _) = decoded.map_err(|source| OpeningError::Format { position, source })?;
        let keep = self.config.recent_batches;
        self.begin_headers()
            .table
            .fold_entry(position, header, keep);
        Ok(())
    }

    fn begin_headers(&mut self) -> &mut State {
        let folded = &mut self.folded;
        let covered = &mut self.covered;
        self.state.get_or_insert_with(|| {
            let state = std::mem::take(folded).into_state();
            *covered = state.table.covered;
            state
        })
    }

    /// Ends the fold: the machine serves from here. Every header after [`Opening::covered`] up to the recovered end
    /// must have been fed.
    ///
    /// # Errors
    ///
    /// [`OpeningError::Dangling`] when the scan of the state log began too late.
    pub fn finish(mut self, opened: Opened) -> Result<(Topic, OpeningNotes), OpeningError> {
        let mut state = std::mem::take(self.begin_headers());
        if state.dangling > 0 {
            return Err(OpeningError::Dangling {
                count: state.dangling,
            });
        }
        let mut notes = OpeningNotes::default();
        let end = opened.next_offset;
        for named in state.table.names.values_mut() {
            notes.producers_cut += u64::from(named.sequences.truncate(end));
        }
        // The fold may have brought names back that were forgotten. They go when room is needed for a new one, not
        // now: a name that was in use is not told from them before its producer is back.
        let mut subscriptions = Vec::new();
        for record in &opened.subscriptions {
            let cursor = take_cursor(&mut state, record);
            let cursor = cursor.or_else(|| missing(record, opened.first_offset, &mut notes));
            let Some((generation, mut acked)) = cursor else {
                continue; // It is being created: `CreateCursor` comes again.
            };
            notes.cursors_cut += u64::from(acked.truncate(end));
            let trimmed = OffsetRange::new(Offset::new(0), opened.first_offset);
            notes.cursors_moved += u64::from(acked.mark() < opened.first_offset);
            acked.insert(trimmed);
            subscriptions.push(Subscription::new(record, generation, acked, true));
        }
        notes.cursors_dropped = u64::try_from(state.cursors.len()).unwrap_or(u64::MAX);
        let topic = Topic::new(
            self.config,
            &opened,
            (state.table, self.covered),
            (subscriptions, notes),
        );
        Ok((topic, notes))
    }
}

/// Takes a subscription's cursors out of the state: the newest generation is its cursor, older ones are past.
fn take_cursor(state: &mut State, record: &SubscriptionRecord) -> Option<(Generation, AckSet)> {
    let bound = |generation| CursorKey {
        subscription: record.id,
        generation,
    };
    let (first, last) = (Generation::new(0), Generation::new(u32::MAX));
    let keys = state.cursors.range(bound(first)..=bound(last));
    let keys: Vec<CursorKey> = keys.map(|(key, _)| *key).collect();
    let mut newest = None;
    for key in keys {
        let cursor = state.cursors.remove(&key);
        newest = cursor.map(|cursor| (key.generation, cursor));
    }
    newest
}

/// An active subscription had its first cursor on disk once. That it is not there is an alarm; that nothing is lost is
/// worth the repeats.
fn missing(
    record: &SubscriptionRecord,
    first_offset: Offset,
    notes: &mut OpeningNotes,
) -> Option<(Generation, AckSet)> {
    if record.state == SubscriptionState::Creating {
        return None;
    }
    notes.cursors_missing += 1;
    Some((FIRST_GENERATION, AckSet::new(first_offset)))
}
