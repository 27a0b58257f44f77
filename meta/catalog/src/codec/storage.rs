//! The records of ledgers and of bookies.

use types::chain::{Assignment, LedgerState, Verified};
use types::cluster::{BookieDuty, BookieState};
use types::{BookieId, EntryId, Epoch, Incarnation, Revision, SessionId};

use super::fields::{Reader, Writer};
use super::{ASSIGNMENTS_SINCE, COPIES_SINCE, DecodeError, ZONES_SINCE, malformed};
use crate::{BookieBody, LedgerBody};

pub(super) fn write_ledger(out: &mut Writer, body: &LedgerBody) {
    out.list(&body.ensemble, |out, id| out.u64(id.get()));
    out.quorum(body.quorum);
    match body.state {
        LedgerState::Open => out.u8(0),
        LedgerState::Recovering { epoch } => {
            out.u8(1);
            out.u64(epoch.get());
        }
        LedgerState::Closed { last, complete } => {
            out.u8(2);
            out.option(last, |out, last| out.u64(last.get()));
            out.u8(u8::from(complete));
        }
    }
    out.list(&body.verified, |out, verified| {
        out.u64(verified.bookie.get());
        out.u64(verified.born.get());
    });
    out.option(body.moving, |out, moving| {
        out.u64(moving.from.get());
        out.u64(moving.to.get());
        out.u64(moving.number.get());
    });
    if let Some(created) = body.created {
        out.u64(created.get());
    }
}

pub(super) fn read_ledger(r: &mut Reader<'_>) -> Result<LedgerBody, DecodeError> {
    let ensemble = r.list(|r| r.u64().map(BookieId::new))?;
    let quorum = r.quorum()?;
    let state = match r.u8()? {
        0 => LedgerState::Open,
        1 => LedgerState::Recovering {
            epoch: Epoch::new(r.u64()?),
        },
        2 => LedgerState::Closed {
            last: r.option(|r| r.u64().map(EntryId::new))?,
            // The old format did not say whose copies these were: they are looked at again.
            complete: r.bool()? && r.format >= COPIES_SINCE,
        },
        _ => return Err(malformed("ledger state")),
    };
    if r.format < COPIES_SINCE {
        return Ok(LedgerBody::tail(ensemble, quorum, state));
    }
    Ok(LedgerBody {
        ensemble,
        quorum,
        state,
        verified: r.list(|r| {
            let bookie = BookieId::new(r.u64()?);
            let born = Revision::new(r.u64()?);
            Ok(Verified { bookie, born })
        })?,
        moving: r.option(|r| {
            let from = BookieId::new(r.u64()?);
            let to = BookieId::new(r.u64()?);
            // Of no assignment that is made now: each changes a record, and no record is as old.
            let number = match r.format >= ASSIGNMENTS_SINCE {
                true => Revision::new(r.u64()?),
                false => Revision::new(0),
            };
            Ok(Assignment { from, to, number })
        })?,
        created: r.carried()?,
    })
}

pub(super) fn write_bookie(out: &mut Writer, body: &BookieBody) {
    out.text(body.name.as_str());
    out.text(&body.address);
    out.u64(body.incarnation.get());
    out.u64(body.mark);
    out.u8(match body.state {
        BookieState::ReadWrite => 0,
        BookieState::ReadOnly => 1,
    });
    out.u64(body.session.get());
    out.u8(match body.duty {
        BookieDuty::Active => 0,
        BookieDuty::Draining => 1,
        BookieDuty::Gone => 2,
    });
    out.option(body.zone.as_ref(), |out, zone| out.text(zone.as_str()));
}

fn read_duty(r: &mut Reader<'_>) -> Result<BookieDuty, DecodeError> {
    if r.format < COPIES_SINCE {
        return Ok(BookieDuty::Active);
    }
    match r.u8()? {
        0 => Ok(BookieDuty::Active),
        1 => Ok(BookieDuty::Draining),
        2 => Ok(BookieDuty::Gone),
        _ => Err(malformed("bookie duty")),
    }
}

pub(super) fn read_bookie(r: &mut Reader<'_>) -> Result<BookieBody, DecodeError> {
    Ok(BookieBody {
        name: r.text_as()?,
        address: r.text()?.to_owned(),
        incarnation: Incarnation::new(r.u64()?),
        mark: r.u64()?,
        state: match r.u8()? {
            0 => BookieState::ReadWrite,
            1 => BookieState::ReadOnly,
            _ => return Err(malformed("bookie state")),
        },
        session: SessionId::new(r.u64()?),
        duty: read_duty(r)?,
        zone: match r.format >= ZONES_SINCE {
            true => r.option(Reader::text_as)?,
            false => None,
        },
    })
}
