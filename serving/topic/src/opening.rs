//! From two logs to a machine: the fold that a new owner runs before it serves.

use types::topic::SubscriptionRecord;
use types::{Epoch, MonoTime, Offset};

use crate::{Config, FormatError, Position, Topic};

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

/// Reads both logs, first state, then headers. See the crate's text for the scan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Opening {
    config: Config,
}

/// What was odd about the logs. All counted, none fatal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OpeningNotes {
    /// Cursors that meta does not list: deleted subscriptions. Dropped.
    pub cursors_dropped: u64,
    /// Active subscriptions without a cursor: an alarm. They begin anew with the earliest message.
    pub cursors_missing: u64,
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
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Takes one entry of the state log, in order.
    ///
    /// # Errors
    ///
    /// [`OpeningError::Format`]: the shard cannot be opened by this program.
    pub fn replay_state(
        &mut self,
        _position: Position,
        _payload: &[u8],
    ) -> Result<(), OpeningError> {
        Ok(())
    }

    /// The entry of the message log up to which (inclusive) no header needs to be read; none for all of them. Known
    /// once the state log was read.
    pub fn covered(&self) -> Option<Position> {
        None
    }

    /// Takes the first bytes of one entry of the message log, in order.
    ///
    /// # Errors
    ///
    /// [`OpeningError::Format`]: the shard cannot be opened by this program.
    pub fn replay_header(
        &mut self,
        _position: Position,
        _prefix: &[u8],
    ) -> Result<(), OpeningError> {
        Ok(())
    }

    /// Ends the fold.
    ///
    /// # Errors
    ///
    /// [`OpeningError::Dangling`] when the scan of the state log began too late.
    pub fn finish(
        self,
        _now: MonoTime,
        opened: Opened,
    ) -> Result<(Topic, OpeningNotes), OpeningError> {
        Ok((Topic::new(self.config, opened), OpeningNotes::default()))
    }
}
