//! The stream of adds.

use types::storage::{Add, AddKind, AddResult, SealedReason, SetLac};
use types::{EntryId, Epoch, Problem};

use super::{
    bad_frame, entry_from_wire, entry_id, entry_id_if, entry_to_wire, ledger_from_wire,
    ledger_to_wire, missing, pb,
};

/// A frame from an owner.
#[derive(Debug, Clone, PartialEq)]
pub enum AddFrame {
    /// The handshake; see [`super::check_target`].
    Hello(pb::Target),
    /// Entries to store, each with the number that names it in the answer, and LACs to note.
    Batch {
        /// The entries, in order.
        adds: Vec<(u64, Add)>,
        /// The LACs.
        lacs: Vec<SetLac>,
    },
}

/// Reads a frame from an owner.
///
/// # Errors
///
/// `BAD_FRAME` when it is empty, `BAD_FIELD` when something in it is missing or makes no sense, `MESSAGE_TOO_LARGE`
/// when an entry is.
pub fn add_frame(frame: pb::AddEntriesRequest) -> Result<AddFrame, Problem> {
    use pb::add_entries_request::Frame;
    match frame.frame {
        Some(Frame::Hello(target)) => Ok(AddFrame::Hello(target)),
        Some(Frame::Batch(batch)) => {
            let adds = batch.adds.into_iter().map(add_from_wire);
            let lacs = batch.lacs.into_iter().map(set_lac_from_wire);
            Ok(AddFrame::Batch {
                adds: adds.collect::<Result<_, _>>()?,
                lacs: lacs.collect::<Result<_, _>>()?,
            })
        }
        None => Err(bad_frame(
            "the frame is empty, or of a kind this version does not know",
        )),
    }
}

/// An entry to store, named `id` in the answer.
pub fn add(id: u64, add: Add) -> pb::Add {
    pb::Add {
        id,
        ledger: Some(ledger_to_wire(add.ledger, add.created)),
        epoch: add.epoch.get(),
        lac: add.lac.map(EntryId::get),
        kind: kind_to_wire(add.kind).into(),
        entry: Some(entry_to_wire(&add.entry)),
    }
}

/// Reads an entry to store and the number that names it in the answer.
///
/// # Errors
///
/// `BAD_FIELD` when something is missing or makes no sense, `MESSAGE_TOO_LARGE` when the entry is.
pub fn add_from_wire(add: pb::Add) -> Result<(u64, Add), Problem> {
    let kind = add.kind();
    let (ledger, created) = ledger_from_wire("add.ledger", add.ledger)?;
    let it = Add {
        ledger,
        created,
        epoch: Epoch::new(add.epoch),
        lac: entry_id_if("add.lac", add.lac)?,
        kind: kind_from_wire(kind)?,
        entry: entry_from_wire("add.entry", add.entry)?,
    };
    Ok((add.id, it))
}

/// A LAC to note.
pub fn set_lac(lac: &SetLac) -> pb::SetLac {
    pb::SetLac {
        ledger: Some(ledger_to_wire(lac.ledger, lac.created)),
        epoch: lac.epoch.get(),
        lac: lac.lac.get(),
    }
}

/// Reads a LAC to note.
///
/// # Errors
///
/// `BAD_FIELD` when the ledger is missing or the LAC is no entry's id.
pub fn set_lac_from_wire(lac: pb::SetLac) -> Result<SetLac, Problem> {
    let (ledger, created) = ledger_from_wire("set_lac.ledger", lac.ledger)?;
    Ok(SetLac {
        ledger,
        created,
        epoch: Epoch::new(lac.epoch),
        lac: entry_id("set_lac.lac", lac.lac)?,
    })
}

/// A frame of answers to adds.
pub fn replies_frame(
    answers: impl IntoIterator<Item = (u64, AddResult)>,
) -> pb::AddEntriesResponse {
    let items = answers.into_iter().map(|(id, result)| reply(id, result));
    let items = items.collect();
    let replies = pb::AddReplies { items };
    pb::AddEntriesResponse {
        frame: Some(pb::add_entries_response::Frame::Replies(replies)),
    }
}

/// Reads a frame of answers to adds.
///
/// # Errors
///
/// `BAD_FRAME` when it is another frame, `BAD_FIELD` when an outcome is not known: then nothing in it may be believed.
pub fn replies(frame: pb::AddEntriesResponse) -> Result<Vec<(u64, AddResult)>, Problem> {
    match frame.frame {
        Some(pb::add_entries_response::Frame::Replies(replies)) => {
            replies.items.into_iter().map(result).collect()
        }
        _ => Err(bad_frame("a frame of answers to adds is expected")),
    }
}

fn reply(id: u64, result: AddResult) -> pb::AddReply {
    let (outcome, fenced_by) = match result {
        AddResult::Stored => (pb::AddOutcome::Stored, 0),
        AddResult::Fenced { by } => (pb::AddOutcome::Fenced, by.get()),
        AddResult::Sealed(SealedReason::SuccessorSeen) => (pb::AddOutcome::SuccessorSeen, 0),
        AddResult::Sealed(SealedReason::OlderThanBirth) => (pb::AddOutcome::OlderThanBirth, 0),
        AddResult::Sealed(SealedReason::Dropped) => (pb::AddOutcome::Dropped, 0),
        AddResult::Mismatch => (pb::AddOutcome::Mismatch, 0),
        AddResult::Busy => (pb::AddOutcome::Busy, 0),
        AddResult::ReadOnly => (pb::AddOutcome::ReadOnly, 0),
    };
    pb::AddReply {
        id,
        outcome: outcome.into(),
        fenced_by,
    }
}

fn result(reply: pb::AddReply) -> Result<(u64, AddResult), Problem> {
    let result = match reply.outcome() {
        pb::AddOutcome::Stored => AddResult::Stored,
        pb::AddOutcome::Fenced => AddResult::Fenced {
            by: Epoch::new(reply.fenced_by),
        },
        pb::AddOutcome::SuccessorSeen => AddResult::Sealed(SealedReason::SuccessorSeen),
        pb::AddOutcome::OlderThanBirth => AddResult::Sealed(SealedReason::OlderThanBirth),
        pb::AddOutcome::Dropped => AddResult::Sealed(SealedReason::Dropped),
        pb::AddOutcome::Mismatch => AddResult::Mismatch,
        pb::AddOutcome::Busy => AddResult::Busy,
        pb::AddOutcome::ReadOnly => AddResult::ReadOnly,
        pb::AddOutcome::Unspecified => return Err(missing("reply.outcome")),
    };
    Ok((reply.id, result))
}

const fn kind_to_wire(kind: AddKind) -> pb::AddKind {
    match kind {
        AddKind::Write => pb::AddKind::Write,
        AddKind::Recovery => pb::AddKind::Recovery,
        AddKind::Repair => pb::AddKind::Repair,
    }
}

fn kind_from_wire(kind: pb::AddKind) -> Result<AddKind, Problem> {
    match kind {
        pb::AddKind::Write => Ok(AddKind::Write),
        pb::AddKind::Recovery => Ok(AddKind::Recovery),
        pb::AddKind::Repair => Ok(AddKind::Repair),
        pb::AddKind::Unspecified => Err(missing("add.kind")),
    }
}
