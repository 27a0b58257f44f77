//! Commands on a shard's record: the claim, its owner's changes, and the operator's last resort.
//!
//! Every one of them writes the shard's record, so that any two of them conflict and versions order them all.

use std::collections::BTreeSet;

use types::chain::{
    ChainLink, Claim, LedgerState, LinkEnd, LogKind, ShardChange, ShardCommand, ShardOutcome,
    ShardRecord, TRIM_MAX,
};
use types::cluster::{NodeRole, SessionState};
use types::command::{Change, Command, Reply};
use types::{BookieId, LedgerId, LedgerSeq, Problem, Reason, Revision, SessionId, ShardId};

use crate::names::not_found;
use crate::nodes::usable;
use crate::plan::{Done, Draft, Drafting, Halt, missing_ledger, view};
use crate::{Key, LedgerBody, LossRecord, Record};

/// Most bytes of the reason of an accepted loss.
const REASON_MAX: usize = 4096;

/// A new owner: epoch + 1, and every tail to `Recovering` at that epoch.
///
/// The same claim again, when it was the last to change the record's owner and id, is answered as committed and
/// writes nothing.
pub(crate) fn claim(d: &mut Drafting<'_>, claim: &Claim) -> Result<Done, Halt> {
    d.want([Key::Shard(claim.shard), Key::Session(claim.session)])?;
    let own = usable(d, claim.session)?;
    if own.role != NodeRole::Serving {
        let message = format!(
            "only a serving node claims shards session={}",
            claim.session
        );
        return Err(Problem::new(Reason::WrongNode, message).into());
    }
    let (record, version) = shard(d, claim.shard)?;
    if record.is_deleted {
        return Err(not_found(Reason::TopicNotFound, "shard", &claim.shard).into());
    }
    if record.owner == Some(claim.session) && record.last_command == Some(claim.command) {
        let view = view(d, &record, version)?;
        return Ok(Done::Answer(Reply::Shard(ShardOutcome::Committed(view))));
    }
    check_permission(d, &record, claim.session)?;
    let mut tails = Vec::with_capacity(2);
    for tail in view(d, &record, version)?.tails {
        let (body, versioned) = d
            .ledger(&Key::Ledger(tail.id))?
            .ok_or_else(|| missing_ledger(tail.id))?;
        tails.push((tail.id, body.clone(), versioned.created));
    }
    let record = ShardRecord {
        epoch: record.epoch.next(),
        owner: Some(claim.session),
        last_command: Some(claim.command),
        ..record
    };
    let mut written = Vec::with_capacity(tails.len());
    for (id, tail, made) in tails {
        let epoch = record.epoch;
        let state = LedgerState::Recovering { epoch };
        let body = LedgerBody {
            created: tail.created,
            ..LedgerBody::tail(tail.ensemble, tail.quorum, state)
        };
        d.put(Key::Ledger(id), Record::Ledger(body.clone()));
        written.push((id, body, Some(made)));
    }
    Ok(write_shard(d, record, written))
}

/// A claim is permitted when there is no owner, when its session's lease is over, or when it is the claimant's own.
fn check_permission(
    d: &mut Drafting<'_>,
    record: &ShardRecord,
    claimant: SessionId,
) -> Result<(), Halt> {
    let Some(owner) = record.owner.filter(|owner| *owner != claimant) else {
        return Ok(());
    };
    let Some((session, _)) = d.session(&Key::Session(owner))? else {
        return Ok(());
    };
    let (what, endpoint) = match session.state {
        SessionState::Live => ("is alive", Some(&session.endpoint)),
        SessionState::Replaced => (
            "was replaced and may still be alive until its lease runs out",
            None,
        ),
        SessionState::Expired | SessionState::Ended => return Ok(()),
    };
    let message = format!(
        "the shard's owner {what} shard={} owner={}",
        record.id, session.name
    );
    let mut problem = Problem::new(Reason::OwnerAlive, message)
        .with("owner_session", owner.get())
        .with("epoch", record.epoch.get());
    if let Some(endpoint) = endpoint {
        problem = problem.with("owner_endpoint", endpoint);
    }
    Err(problem.into())
}

/// An owner's change, on exactly the version it was planned on, or answered with the record.
///
/// The answer to a command that landed before, asked again, is a conflict whose record holds its id.
pub(crate) fn change(d: &mut Drafting<'_>, command: &ShardCommand) -> Result<Done, Halt> {
    let (record, version) = shard(d, command.shard)?;
    if record.epoch != command.epoch || version != command.planned_on {
        let view = view(d, &record, version)?;
        return Ok(Done::Answer(Reply::Shard(ShardOutcome::Conflict(view))));
    }
    if record.owner.is_none() {
        let message = format!("the shard was given up, claim it shard={}", record.id);
        return Err(Problem::new(Reason::EpochMismatch, message)
            .with("epoch", record.epoch.get())
            .into());
    }
    let mut record = record;
    record.last_command = Some(command.command);
    match &command.change {
        ShardChange::CloseRecovered { message, state } => {
            close_recovered(d, &mut record, [*message, *state])?;
        }
        ShardChange::Extend {
            log,
            close,
            successor,
        } => {
            let created = extend(d, &mut record, *log, *close, successor.as_deref())?;
            let tails = tails_after(d, &record, created)?;
            return Ok(write_shard(d, record, tails));
        }
        ShardChange::Trim { log, first } => trim(d, &mut record, *log, *first)?,
        ShardChange::Release => record.owner = None,
    }
    let tails = tails_after(d, &record, None)?;
    Ok(write_shard(d, record, tails))
}

/// Closes every tail at the end its recovery found, each from exactly this epoch's `Recovering` (I4).
fn close_recovered(
    d: &mut Drafting<'_>,
    record: &mut ShardRecord,
    ends: [Option<LinkEnd>; 2],
) -> Result<(), Halt> {
    for (kind, end) in LogKind::BOTH.into_iter().zip(ends) {
        let (Some(id), Some(end)) = (record.chain(kind).tail_id(), end) else {
            if record.chain(kind).tail_id().is_some() != end.is_some() {
                let wanted = "an end for every ledger that is not closed, and for no other";
                return Err(Problem::bad_field(field(kind), wanted).into());
            }
            continue;
        };
        let wanted = LedgerState::Recovering {
            epoch: record.epoch,
        };
        close(d, record, kind, id, end, wanted)?;
    }
    Ok(())
}

/// Closes the open ledger of a log, appends a successor, or both.
fn extend(
    d: &mut Drafting<'_>,
    record: &mut ShardRecord,
    kind: LogKind,
    end: Option<LinkEnd>,
    successor: Option<&[BookieId]>,
) -> Result<Option<(LedgerId, LedgerBody)>, Halt> {
    if end.is_none() && successor.is_none() {
        let wanted = "an end, bookies for a successor, or both";
        return Err(Problem::bad_field("extend", wanted).into());
    }
    match (record.chain(kind).tail_id(), end) {
        (Some(id), Some(end)) => close(d, record, kind, id, end, LedgerState::Open)?,
        (None, None) => {}
        (Some(id), None) => {
            let message = format!("the log would have two ledgers not closed, close={id} first");
            return Err(Problem::bad_field("close", message).into());
        }
        (None, Some(_)) => {
            return Err(Problem::bad_field("close", "the log has no open ledger").into());
        }
    }
    successor
        .map(|ensemble| append(d, record, kind, ensemble))
        .transpose()
}

/// Appends a ledger to a chain whose every ledger is closed (I18).
fn append(
    d: &mut Drafting<'_>,
    record: &mut ShardRecord,
    kind: LogKind,
    ensemble: &[BookieId],
) -> Result<(LedgerId, LedgerBody), Halt> {
    let distinct: BTreeSet<BookieId> = ensemble.iter().copied().collect();
    if ensemble.len() != record.quorum.write() || distinct.len() != ensemble.len() {
        let wanted = format!("{} bookies, each once", record.quorum.write());
        return Err(Problem::bad_field("successor", wanted).into());
    }
    d.want(distinct.iter().map(|id| Key::Birth(*id)))?;
    for id in distinct {
        if d.birth(id)?.is_none() {
            let message = format!("no such bookie id={id}");
            return Err(Problem::bad_field("successor", message).into());
        }
    }
    let chain = record.chain(kind);
    let id = LedgerId::new(chain.log, record.next_seq(kind));
    let first_offset = chain
        .next_offset()
        .expect("the tail was closed just before, or there was none");
    if d.ledger(&Key::Ledger(id))?.is_some() {
        let message = format!("a ledger is there that its chain does not name ledger={id}");
        return Err(Problem::new(Reason::Internal, message).into());
    }
    let body = LedgerBody::tail(ensemble.to_vec(), record.quorum, LedgerState::Open);
    d.put(Key::Ledger(id), Record::Ledger(body.clone()));
    record.chain_mut(kind).links.push(ChainLink {
        seq: id.seq(),
        first_offset,
        end: None,
    });
    Ok((id, body))
}

/// Drops the oldest ledgers of a chain, all of them closed. Their records go in the same commit: who holds a copy learns
/// from the chain that it may drop it.
fn trim(
    d: &mut Drafting<'_>,
    record: &mut ShardRecord,
    kind: LogKind,
    first: LedgerSeq,
) -> Result<(), Halt> {
    let chain = record.chain_mut(kind);
    let dropped = chain
        .links
        .iter()
        .take_while(|link| link.seq < first)
        .count();
    let is_closed = chain.links[..dropped].iter().all(|link| link.end.is_some());
    if dropped == 0 || first > chain.next_seq() || !is_closed {
        let wanted = format!(
            "above the first ledger, at most the next one to be made, closed ones only first={first} there={} next={}",
            chain.first,
            chain.next_seq()
        );
        return Err(Problem::bad_field(field(kind), wanted).into());
    }
    if dropped > TRIM_MAX {
        let wanted = format!("at most {TRIM_MAX} ledgers at once, {dropped} were asked");
        return Err(Problem::bad_field(field(kind), wanted).into());
    }
    for ledger in chain.trim(dropped) {
        d.remove(Key::Ledger(ledger));
        d.remove(Key::Loss(ledger));
    }
    Ok(())
}

/// Closes one tail, from exactly the state that the caller may close it from.
fn close(
    d: &mut Drafting<'_>,
    record: &mut ShardRecord,
    kind: LogKind,
    id: LedgerId,
    end: LinkEnd,
    wanted: LedgerState,
) -> Result<(), Halt> {
    let (body, _) = d
        .ledger(&Key::Ledger(id))?
        .ok_or_else(|| missing_ledger(id))?;
    if body.state != wanted {
        let message = format!(
            "the ledger cannot be closed from its state ledger={id} state={:?} wanted={wanted:?}",
            body.state
        );
        return Err(Problem::bad_field(field(kind), message)
            .with_resource(id)
            .into());
    }
    let link = record
        .chain_mut(kind)
        .links
        .last_mut()
        .expect("a tail is the last link");
    check_end(kind, link, end)?;
    link.end = Some(end);
    let body = LedgerBody {
        state: LedgerState::Closed {
            last: end.last,
            complete: false,
        },
        ..body.clone()
    };
    d.put(Key::Ledger(id), Record::Ledger(body));
    Ok(())
}

/// An end that cannot be: an empty ledger moves no offset, and none goes back.
fn check_end(kind: LogKind, link: &ChainLink, end: LinkEnd) -> Result<(), Problem> {
    let is_sane = match end.last {
        None => end.next_offset == link.first_offset,
        Some(_) => end.next_offset >= link.first_offset,
    };
    if is_sane {
        return Ok(());
    }
    let message = format!(
        "the end does not follow from the start first_offset={} last={:?} next_offset={}",
        link.first_offset, end.last, end.next_offset
    );
    Err(Problem::bad_field(field(kind), message))
}

/// The operator's last resort: closes a ledger in recovery at an end that he names, and keeps who said so and why.
///
/// The owner and its epoch stay: its own next command conflicts, and it plans on what it then sees.
pub(crate) fn accept_loss(d: &mut Drafting<'_>, command: &Command) -> Result<Done, Halt> {
    let Command::AcceptLoss {
        ledger: id,
        last,
        next_offset,
        reason,
        at,
    } = command
    else {
        unreachable!("called for this command only");
    };
    let id = *id;
    if reason.trim().is_empty() || reason.len() > REASON_MAX {
        let wanted = format!("who says so and why, at most {REASON_MAX} bytes");
        return Err(Problem::bad_field("reason", wanted).into());
    }
    d.want([Key::Log(id.log()), Key::Ledger(id), Key::Loss(id)])?;
    let unknown = || not_found(Reason::EntryLost, "ledger", &id);
    let (log, _) = d.log(&Key::Log(id.log()))?.ok_or_else(unknown)?;
    let (body, _) = d.ledger(&Key::Ledger(id))?.ok_or_else(unknown)?;
    if let Some((there, _)) = d.loss(&Key::Loss(id))? {
        let same = there.last == *last && (last.is_none() || there.next_offset == *next_offset);
        return if same {
            Ok(Done::Answer(Reply::Done))
        } else {
            let message = format!("another end was accepted before ledger={id}");
            Err(Problem::new(Reason::AlreadyExists, message)
                .with_resource(id)
                .into())
        };
    }
    let state = body.state;
    let (record, _) = shard(d, log.shard)?;
    let LedgerState::Recovering { .. } = state else {
        let message =
            format!("only a ledger in recovery can be given up ledger={id} state={state:?}");
        return Err(Problem::bad_field("ledger", message)
            .with_resource(id)
            .into());
    };
    let mut record = record;
    // Of an empty end only the record knows the offset.
    let next_offset = match (last, record.chain(log.kind).tail()) {
        (None, Some(tail)) => tail.first_offset,
        _ => *next_offset,
    };
    let last = *last;
    close(
        d,
        &mut record,
        log.kind,
        id,
        LinkEnd { last, next_offset },
        state,
    )?;
    let reason = reason.clone();
    let loss = LossRecord {
        last,
        next_offset,
        reason,
        at: *at,
    };
    d.put(Key::Loss(id), Record::Loss(loss));
    d.tell(Change::Shard(record.id));
    d.put(Key::Shard(record.id), Record::Shard(record));
    Ok(Done::write(Reply::Done))
}

/// The tails after a change: those read, and the one made now.
fn tails_after(
    d: &mut Drafting<'_>,
    record: &ShardRecord,
    created: Option<(LedgerId, LedgerBody)>,
) -> Result<Vec<(LedgerId, LedgerBody, Option<Revision>)>, Halt> {
    let mut tails = Vec::with_capacity(2);
    for kind in LogKind::BOTH {
        let Some(id) = record.chain(kind).tail_id() else {
            continue;
        };
        if let Some((_, body)) = created.as_ref().filter(|(new, _)| *new == id) {
            tails.push((id, body.clone(), None));
            continue;
        }
        let (body, versioned) = d
            .ledger(&Key::Ledger(id))?
            .ok_or_else(|| missing_ledger(id))?;
        tails.push((id, body.clone(), Some(versioned.created)));
    }
    Ok(tails)
}

fn write_shard(
    d: &mut Drafting<'_>,
    record: ShardRecord,
    tails: Vec<(LedgerId, LedgerBody, Option<Revision>)>,
) -> Done {
    d.tell(Change::Shard(record.id));
    d.put(Key::Shard(record.id), Record::Shard(record.clone()));
    Done::Write(Draft::Shard { record, tails })
}

pub(crate) fn shard(d: &mut Drafting<'_>, id: ShardId) -> Result<(ShardRecord, Revision), Halt> {
    match d.shard(&Key::Shard(id))? {
        Some((record, versioned)) => Ok((record.clone(), versioned.modified)),
        None => Err(not_found(Reason::TopicNotFound, "shard", &id).into()),
    }
}

const fn field(kind: LogKind) -> &'static str {
    match kind {
        LogKind::Message => "message",
        LogKind::State => "state",
    }
}
