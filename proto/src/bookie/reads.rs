//! Reads.

use types::storage::{LacResult, Read, ReadLac, ReadResult, ReadRun, RunItem};
use types::{BookieId, ClusterId, EntryId, Epoch, Offset, Problem};

use super::{
    entry_from_wire, entry_id, entry_id_if, entry_to_wire, epoch, ledger_from_wire, ledger_to_wire,
    missing, pb, target,
};
use crate::transport::FRAME_TARGET;

/// Asks `bookie` for one entry.
pub fn read_request(cluster: ClusterId, bookie: BookieId, read: &Read) -> pb::ReadRequest {
    pb::ReadRequest {
        target: Some(target(cluster, bookie)),
        ledger: Some(ledger_to_wire(read.ledger, read.created)),
        entry: read.entry.get(),
        fence: read.fence.map(Epoch::get),
    }
}

/// Reads a request for one entry. Its target is checked apart: [`super::check_target`].
///
/// # Errors
///
/// `BAD_FIELD` when the ledger is missing.
pub fn read_from_wire(request: pb::ReadRequest) -> Result<Read, Problem> {
    let (ledger, created) = ledger_from_wire("ledger", request.ledger)?;
    Ok(Read {
        ledger,
        created,
        entry: entry_id("entry", request.entry)?,
        fence: epoch(request.fence),
    })
}

/// Answers a request for one entry.
pub fn read_response(result: &ReadResult) -> pb::ReadResponse {
    use pb::read_response::Result as Wire;
    let result = match result {
        ReadResult::Found { entry, lac } => Wire::Found(pb::Found {
            entry: Some(entry_to_wire(entry)),
            lac: lac.map(EntryId::get),
        }),
        ReadResult::NeverHad => Wire::NeverHad(pb::Nothing {}),
        ReadResult::Unknown => Wire::Unknown(pb::Nothing {}),
        ReadResult::Fenced { by } => Wire::FencedBy(by.get()),
        ReadResult::Busy => Wire::Busy(pb::Nothing {}),
    };
    pb::ReadResponse {
        result: Some(result),
    }
}

/// Reads the answer to a request for one entry. Its checksum is not verified.
///
/// # Errors
///
/// `BAD_FIELD` when it is empty or of a kind this version does not know: it says nothing then, least of all "no".
pub fn read_result(answer: pb::ReadResponse) -> Result<ReadResult, Problem> {
    use pb::read_response::Result as Wire;
    Ok(match answer.result.ok_or_else(|| missing("result"))? {
        Wire::Found(found) => ReadResult::Found {
            entry: entry_from_wire("found.entry", found.entry)?,
            lac: entry_id_if("found.lac", found.lac)?,
        },
        Wire::NeverHad(pb::Nothing {}) => ReadResult::NeverHad,
        Wire::Unknown(pb::Nothing {}) => ReadResult::Unknown,
        Wire::FencedBy(by) => ReadResult::Fenced { by: Epoch::new(by) },
        Wire::Busy(pb::Nothing {}) => ReadResult::Busy,
    })
}

/// Asks `bookie` for the highest LAC it has seen.
pub fn read_lac_request(
    cluster: ClusterId,
    bookie: BookieId,
    read: &ReadLac,
) -> pb::ReadLacRequest {
    pb::ReadLacRequest {
        target: Some(target(cluster, bookie)),
        ledger: Some(ledger_to_wire(read.ledger, read.created)),
        fence: read.fence.map(Epoch::get),
    }
}

/// Reads a request for the highest LAC. Its target is checked apart: [`super::check_target`].
///
/// # Errors
///
/// `BAD_FIELD` when the ledger is missing.
pub fn read_lac_from_wire(request: pb::ReadLacRequest) -> Result<ReadLac, Problem> {
    let (ledger, created) = ledger_from_wire("ledger", request.ledger)?;
    Ok(ReadLac {
        ledger,
        created,
        fence: epoch(request.fence),
    })
}

/// Answers a request for the highest LAC.
pub fn lac_response(result: LacResult) -> pb::ReadLacResponse {
    use pb::read_lac_response::Result as Wire;
    let result = match result {
        LacResult::Lac(lac) => Wire::Lac(pb::Lac {
            entry: lac.map(EntryId::get),
        }),
        LacResult::Fenced { by } => Wire::FencedBy(by.get()),
        LacResult::Busy => Wire::Busy(pb::Nothing {}),
    };
    pb::ReadLacResponse {
        result: Some(result),
    }
}

/// Reads the answer to a request for the highest LAC.
///
/// # Errors
///
/// `BAD_FIELD` when it is empty or of a kind this version does not know.
pub fn lac_result(answer: pb::ReadLacResponse) -> Result<LacResult, Problem> {
    use pb::read_lac_response::Result as Wire;
    Ok(match answer.result.ok_or_else(|| missing("result"))? {
        Wire::Lac(lac) => LacResult::Lac(entry_id_if("lac.entry", lac.entry)?),
        Wire::FencedBy(by) => LacResult::Fenced { by: Epoch::new(by) },
        Wire::Busy(pb::Nothing {}) => LacResult::Busy,
    })
}

/// Asks `bookie` for a run of entries.
pub fn read_run_request(cluster: ClusterId, bookie: BookieId, run: &ReadRun) -> pb::ReadRunRequest {
    pb::ReadRunRequest {
        target: Some(target(cluster, bookie)),
        ledger: Some(ledger_to_wire(run.ledger, run.created)),
        first: run.first.get(),
        last: run.last.get(),
        max_bytes: run.max_bytes,
        payload_limit: run.payload_limit,
    }
}

/// Reads a request for a run of entries. Its target is checked apart: [`super::check_target`].
///
/// # Errors
///
/// `BAD_FIELD` when the ledger is missing or the run ends before it begins.
pub fn read_run_from_wire(request: pb::ReadRunRequest) -> Result<ReadRun, Problem> {
    let (ledger, created) = ledger_from_wire("ledger", request.ledger)?;
    if request.last < request.first {
        return Err(Problem::bad_field("last", "is before first"));
    }
    Ok(ReadRun {
        ledger,
        created,
        first: entry_id("first", request.first)?,
        last: entry_id("last", request.last)?,
        max_bytes: request.max_bytes,
        payload_limit: request.payload_limit,
    })
}

/// Fills messages with a run's items. A message is full at [`FRAME_TARGET`] bytes of payloads, unless one entry alone
/// is larger.
#[derive(Debug, Default)]
pub struct RunBuilder {
    items: Vec<pb::RunItem>,
    bytes: usize,
}

impl RunBuilder {
    /// Adds an item. Returns the message before it when the item does not fit into that one any more.
    #[must_use = "the message is to be sent"]
    pub fn push(&mut self, item: RunItem) -> Option<pb::ReadRunResponse> {
        let bytes = match &item {
            RunItem::Entry(entry) => entry.payload.len(),
            RunItem::Prefix { prefix, .. } => prefix.len(),
            RunItem::NeverHad | RunItem::Unknown | RunItem::Busy => 0,
        };
        // What surrounds a payload takes at most some forty bytes.
        let bytes = bytes + 48;
        let full = !self.items.is_empty() && self.bytes + bytes > FRAME_TARGET;
        let message = if full { self.finish() } else { None };
        self.items.push(item_to_wire(item));
        self.bytes += bytes;
        message
    }

    /// The message of what is left; none when there is nothing.
    #[must_use = "the message is to be sent"]
    pub fn finish(&mut self) -> Option<pb::ReadRunResponse> {
        if self.items.is_empty() {
            return None;
        }
        self.bytes = 0;
        Some(pb::ReadRunResponse {
            items: std::mem::take(&mut self.items),
        })
    }
}

/// Reads the items of one message of a run. Checksums are not verified.
///
/// # Errors
///
/// `BAD_FIELD` when an item is empty or of a kind this version does not know.
pub fn run_items(message: pb::ReadRunResponse) -> Result<Vec<RunItem>, Problem> {
    message.items.into_iter().map(item_from_wire).collect()
}

fn item_to_wire(item: RunItem) -> pb::RunItem {
    use pb::run_item::Item;
    let item = match item {
        RunItem::Entry(entry) => Item::Entry(entry_to_wire(&entry)),
        RunItem::Prefix {
            id,
            next_offset,
            prefix,
        } => Item::Prefix(pb::Prefix {
            id: id.get(),
            next_offset: next_offset.get(),
            prefix,
        }),
        RunItem::NeverHad => Item::NeverHad(pb::Nothing {}),
        RunItem::Unknown => Item::Unknown(pb::Nothing {}),
        RunItem::Busy => Item::Busy(pb::Nothing {}),
    };
    pb::RunItem { item: Some(item) }
}

fn item_from_wire(item: pb::RunItem) -> Result<RunItem, Problem> {
    use pb::run_item::Item;
    Ok(match item.item.ok_or_else(|| missing("item"))? {
        Item::Entry(entry) => RunItem::Entry(entry_from_wire("entry", Some(entry))?),
        Item::Prefix(prefix) => RunItem::Prefix {
            id: EntryId::new(prefix.id),
            next_offset: Offset::new(prefix.next_offset),
            prefix: prefix.prefix,
        },
        Item::NeverHad(pb::Nothing {}) => RunItem::NeverHad,
        Item::Unknown(pb::Nothing {}) => RunItem::Unknown,
        Item::Busy(pb::Nothing {}) => RunItem::Busy,
    })
}
