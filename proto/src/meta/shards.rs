//! Shards, their chains, and ledgers.

use types::chain::{
    Assignment, Chain, ChainLink, LedgerRecord, LedgerState, LinkEnd, LogKind, LogStanding,
    ShardChange, ShardCommand, ShardRecord, ShardView, Verified,
};
use types::{
    BookieId, EntryId, Epoch, LedgerId, LedgerSeq, LogId, Offset, Problem, Revision, SessionId,
    ShardId, TopicId,
};

use super::{all, command_id, command_id_to_wire, missing, pb, quorum, quorum_to_wire};

pub(super) fn ledger_id_to_wire(id: LedgerId) -> pb::LedgerId {
    pb::LedgerId {
        log: id.log().get(),
        seq: id.seq().get(),
    }
}

pub(super) fn ledger_id(field: &str, id: Option<pb::LedgerId>) -> Result<LedgerId, Problem> {
    let id = id.ok_or_else(|| missing(field))?;
    Ok(LedgerId::new(LogId::new(id.log), LedgerSeq::new(id.seq)))
}

pub(super) fn end_to_wire(end: LinkEnd) -> pb::LinkEnd {
    pb::LinkEnd {
        last: end.last.map(EntryId::get),
        next_offset: end.next_offset.get(),
    }
}

pub(super) fn end(end: pb::LinkEnd) -> LinkEnd {
    LinkEnd {
        last: end.last.map(EntryId::new),
        next_offset: Offset::new(end.next_offset),
    }
}

fn log_to_wire(log: LogKind) -> pb::LogKind {
    match log {
        LogKind::Message => pb::LogKind::Message,
        LogKind::State => pb::LogKind::State,
    }
}

fn log(log: pb::LogKind) -> Result<LogKind, Problem> {
    match log {
        pb::LogKind::Message => Ok(LogKind::Message),
        pb::LogKind::State => Ok(LogKind::State),
        pb::LogKind::Unspecified => Err(missing("extend.log")),
    }
}

pub(super) fn change_to_wire(it: &ShardCommand) -> pb::ChangeShard {
    use pb::change_shard::Change as Wire;
    let change = match &it.change {
        ShardChange::CloseRecovered { message, state } => {
            Wire::CloseRecovered(pb::CloseRecovered {
                message: message.map(end_to_wire),
                state: state.map(end_to_wire),
            })
        }
        ShardChange::Extend {
            log,
            close,
            successor,
        } => Wire::Extend(pb::Extend {
            log: log_to_wire(*log).into(),
            close: close.map(end_to_wire),
            successor: successor.as_ref().map(|ensemble| pb::Ensemble {
                bookies: ensemble.iter().map(|id| id.get()).collect(),
            }),
        }),
        ShardChange::Trim { log, first } => Wire::Trim(pb::Trim {
            log: log_to_wire(*log).into(),
            first: first.get(),
        }),
        ShardChange::Release => Wire::Release(pb::Nothing {}),
    };
    pb::ChangeShard {
        shard: it.shard.get(),
        epoch: it.epoch.get(),
        command: command_id_to_wire(it.command),
        planned_on: it.planned_on.get(),
        change: Some(change),
    }
}

pub(super) fn change(it: pb::ChangeShard) -> Result<ShardCommand, Problem> {
    use pb::change_shard::Change as Wire;
    let change = match it.change.ok_or_else(|| missing("change"))? {
        Wire::CloseRecovered(close) => ShardChange::CloseRecovered {
            message: close.message.map(end),
            state: close.state.map(end),
        },
        Wire::Extend(extend) => ShardChange::Extend {
            log: log(extend.log())?,
            close: extend.close.map(end),
            successor: extend
                .successor
                .map(|ensemble| ensemble.bookies.into_iter().map(BookieId::new).collect()),
        },
        Wire::Trim(trim) => ShardChange::Trim {
            log: log(trim.log())?,
            first: LedgerSeq::new(trim.first),
        },
        Wire::Release(_) => ShardChange::Release,
    };
    Ok(ShardCommand {
        shard: ShardId::new(it.shard),
        epoch: Epoch::new(it.epoch),
        command: command_id(&it.command)?,
        planned_on: Revision::new(it.planned_on),
        change,
    })
}

fn chain_to_wire(chain: &Chain) -> pb::Chain {
    let links = chain.links.iter().map(|link| pb::ChainLink {
        seq: link.seq.get(),
        first_offset: link.first_offset.get(),
        end: link.end.map(end_to_wire),
    });
    pb::Chain {
        log: chain.log.get(),
        first: chain.first.get(),
        first_offset: chain.first_offset.get(),
        links: links.collect(),
    }
}

fn chain(field: &str, chain: Option<pb::Chain>) -> Result<Chain, Problem> {
    let chain = chain.ok_or_else(|| missing(field))?;
    let links = chain.links.into_iter().map(|link| ChainLink {
        seq: LedgerSeq::new(link.seq),
        first_offset: Offset::new(link.first_offset),
        end: link.end.map(end),
    });
    Ok(Chain {
        log: LogId::new(chain.log),
        first: LedgerSeq::new(chain.first),
        first_offset: Offset::new(chain.first_offset),
        links: links.collect(),
    })
}

pub(super) fn standing_to_wire((log, standing): &(LogId, LogStanding)) -> pb::LogStanding {
    use pb::log_standing::Standing as Wire;
    pb::LogStanding {
        log: log.get(),
        standing: Some(match standing {
            LogStanding::Live { first } => Wire::First(first.get()),
            LogStanding::Deleted => Wire::Deleted(pb::Nothing {}),
        }),
    }
}

pub(super) fn standing(it: pb::LogStanding) -> Result<(LogId, LogStanding), Problem> {
    use pb::log_standing::Standing as Wire;
    let standing = match it.standing.ok_or_else(|| missing("standing"))? {
        Wire::First(first) => LogStanding::Live {
            first: LedgerSeq::new(first),
        },
        Wire::Deleted(_) => LogStanding::Deleted,
    };
    Ok((LogId::new(it.log), standing))
}

pub(super) fn ledger_to_wire(it: &LedgerRecord) -> pb::Ledger {
    use pb::ledger_state::State as Wire;
    let state = match it.state {
        LedgerState::Open => Wire::Open(pb::Nothing {}),
        LedgerState::Recovering { epoch } => Wire::Recovering(epoch.get()),
        LedgerState::Closed { last, complete } => Wire::Closed(pb::ClosedState {
            last: last.map(EntryId::get),
            complete,
        }),
    };
    pb::Ledger {
        id: Some(ledger_id_to_wire(it.id)),
        created: it.created.get(),
        ensemble: it.ensemble.iter().map(|id| id.get()).collect(),
        quorum: Some(quorum_to_wire(it.quorum)),
        state: Some(pb::LedgerState { state: Some(state) }),
        verified: it.verified.iter().map(verified_to_wire).collect(),
        moving: it.moving.map(|moving| pb::Assignment {
            from: moving.from.get(),
            to: moving.to.get(),
            number: moving.number.get(),
        }),
    }
}

pub(super) fn ledger(it: pb::Ledger) -> Result<LedgerRecord, Problem> {
    use pb::ledger_state::State as Wire;
    let state = match it.state.and_then(|state| state.state) {
        Some(Wire::Open(_)) => LedgerState::Open,
        Some(Wire::Recovering(epoch)) => LedgerState::Recovering {
            epoch: Epoch::new(epoch),
        },
        Some(Wire::Closed(closed)) => LedgerState::Closed {
            last: closed.last.map(EntryId::new),
            complete: closed.complete,
        },
        None => return Err(missing("ledger.state")),
    };
    Ok(LedgerRecord {
        id: ledger_id("ledger.id", it.id)?,
        created: Revision::new(it.created),
        ensemble: it.ensemble.into_iter().map(BookieId::new).collect(),
        quorum: quorum(it.quorum)?,
        state,
        verified: it.verified.into_iter().map(verified).collect(),
        moving: it.moving.map(|moving| Assignment {
            from: BookieId::new(moving.from),
            to: BookieId::new(moving.to),
            number: Revision::new(moving.number),
        }),
    })
}

const fn verified_to_wire(it: &Verified) -> pb::Verified {
    pb::Verified {
        bookie: it.bookie.get(),
        born: it.born.get(),
    }
}

const fn verified(it: pb::Verified) -> Verified {
    Verified {
        bookie: BookieId::new(it.bookie),
        born: Revision::new(it.born),
    }
}

pub(super) fn view_to_wire(it: &ShardView) -> pb::ShardView {
    let record = &it.record;
    let command = record.last_command.map(command_id_to_wire);
    let record = pb::Shard {
        id: record.id.get(),
        topic: record.topic.get(),
        quorum: Some(quorum_to_wire(record.quorum)),
        epoch: record.epoch.get(),
        owner: record.owner.map(SessionId::get),
        last_command: command.unwrap_or_default(),
        message: Some(chain_to_wire(&record.message)),
        state: Some(chain_to_wire(&record.state)),
        is_deleted: record.is_deleted,
    };
    pb::ShardView {
        record: Some(record),
        version: it.version.get(),
        tails: it.tails.iter().map(ledger_to_wire).collect(),
    }
}

pub(super) fn view(it: pb::ShardView) -> Result<ShardView, Problem> {
    let record = it.record.ok_or_else(|| missing("shard.record"))?;
    let last_command = if record.last_command.is_empty() {
        None
    } else {
        Some(command_id(&record.last_command)?)
    };
    let record = ShardRecord {
        id: ShardId::new(record.id),
        topic: TopicId::new(record.topic),
        quorum: quorum(record.quorum)?,
        epoch: Epoch::new(record.epoch),
        owner: record.owner.map(SessionId::new),
        last_command,
        message: chain("shard.message", record.message)?,
        state: chain("shard.state", record.state)?,
        is_deleted: record.is_deleted,
    };
    Ok(ShardView {
        record,
        version: Revision::new(it.version),
        tails: all(it.tails, ledger)?,
    })
}
