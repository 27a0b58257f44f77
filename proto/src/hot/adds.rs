//! Frames of entries for a bookie.

use types::storage;

use crate::bookie;
use crate::bookie_v1::{AddBatch, AddEntriesRequest, add_entries_request};

/// Fills a frame with entries and LACs.
#[derive(Debug, Default)]
pub struct AddBatchBuilder {
    batch: AddBatch,
    bytes: usize,
}

impl AddBatchBuilder {
    /// Adds an entry; `id` names it in the bookie's answer.
    pub fn add(&mut self, id: u64, add: storage::Add) {
        self.bytes += add.entry.payload.len();
        self.batch.adds.push(bookie::add(id, add));
    }

    /// Adds a LAC.
    pub fn set_lac(&mut self, lac: storage::SetLac) {
        self.batch.lacs.push(bookie::set_lac(&lac));
    }

    /// Bytes of payloads so far.
    pub const fn payload_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.batch.adds.is_empty() && self.batch.lacs.is_empty()
    }

    /// The frame.
    pub fn finish(self) -> AddEntriesRequest {
        AddEntriesRequest {
            frame: Some(add_entries_request::Frame::Batch(self.batch)),
        }
    }
}
