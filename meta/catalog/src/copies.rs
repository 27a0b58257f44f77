//! Commands on the copies of closed ledgers: whose are whole, and which go to another bookie.
//!
//! None of them changes what a ledger holds or where it ends. A bookie takes another's place only with a copy that it
//! says is whole (I26), and only where it was sent to.

use std::collections::BTreeSet;

use types::chain::{Assignment, LedgerState, Move, Verified, WholeCopy};
use types::cluster::BookieDuty;
use types::command::{COPIES_MAX, Change, Reply};
use types::{BookieId, LedgerId, Problem, Reason, Revision, SessionId};

use crate::nodes::usable;
use crate::plan::{Done, Drafting, Halt};
use crate::{BookieBody, Key, LedgerBody, Record};

/// Says whether a bookie's copies are to move to others.
pub(crate) fn drain(d: &mut Drafting<'_>, id: BookieId, draining: bool) -> Result<Done, Halt> {
    let Some((body, _)) = d.bookie(&Key::Bookie(id))? else {
        return Err(no_bookie("id", id).into());
    };
    let duty = match (body.duty, draining) {
        (BookieDuty::Gone, _) => {
            let message = format!(
                "the bookie is no part of the cluster any more name={}",
                body.name
            );
            return Err(Problem::new(Reason::WrongNode, message).into());
        }
        (_, true) => BookieDuty::Draining,
        (_, false) => BookieDuty::Active,
    };
    if duty == body.duty {
        return Ok(Done::Answer(Reply::Done));
    }
    let body = BookieBody {
        duty,
        ..body.clone()
    };
    d.put(Key::Bookie(id), Record::Bookie(body));
    d.tell(Change::Bookie(id));
    Ok(Done::write(Reply::Done))
}

/// Takes a bookie out of the cluster, for good. That no ledger names it is for the caller to see before; one that comes
/// to name it in between is repaired as if the bookie were lost, which it then is.
pub(crate) fn retire(d: &mut Drafting<'_>, id: BookieId) -> Result<Done, Halt> {
    let Some((body, _)) = d.bookie(&Key::Bookie(id))? else {
        return Err(no_bookie("id", id).into());
    };
    match body.duty {
        BookieDuty::Gone => return Ok(Done::Answer(Reply::Done)),
        BookieDuty::Active => {
            let message = format!(
                "the bookie is not drained, drain it first name={}",
                body.name
            );
            return Err(Problem::bad_field("id", message).into());
        }
        BookieDuty::Draining => {}
    }
    let body = BookieBody {
        duty: BookieDuty::Gone,
        ..body.clone()
    };
    d.put(Key::Bookie(id), Record::Bookie(body));
    d.tell(Change::Bookie(id));
    Ok(Done::write(Reply::Done))
}

/// Sends a copy to a bookie that has none, or calls that off.
pub(crate) fn assign(
    d: &mut Drafting<'_>,
    id: LedgerId,
    moving: Option<Move>,
) -> Result<Done, Halt> {
    d.want([Key::Ledger(id)])?;
    let Some((body, version)) = d.ledger(&Key::Ledger(id))? else {
        // Trimmed, most likely, since the caller saw it.
        return Err(Problem::bad_field("ledger", format!("no such ledger id={id}")).into());
    };
    if !matches!(body.state, LedgerState::Closed { .. }) {
        let message = format!("only copies of closed ledgers move ledger={id}");
        return Err(Problem::bad_field("ledger", message)
            .with_resource(id)
            .into());
    }
    if let Some(moving) = moving {
        if !body.ensemble.contains(&moving.from) {
            let message = format!(
                "the ledger has no copy there ledger={id} id={}",
                moving.from
            );
            return Err(Problem::bad_field("from", message).into());
        }
        if body.ensemble.contains(&moving.to) {
            let message = format!("the ledger has a copy there ledger={id} id={}", moving.to);
            return Err(Problem::bad_field("to", message).into());
        }
        if d.birth(moving.to)?.is_none() {
            return Err(no_bookie("to", moving.to).into());
        }
    }
    if body.moving.map(|assigned| assigned.asked()) == moving {
        return Ok(Done::Answer(Reply::Done));
    }
    let number = version.modified;
    let assigned = moving.map(|Move { from, to }| Assignment { from, to, number });
    let body = LedgerBody {
        moving: assigned,
        ..body.clone()
    };
    d.put(Key::Ledger(id), Record::Ledger(body));
    Ok(Done::write(Reply::Done))
}

/// Takes a bookie's word that it holds every entry of some ledgers. It must be the registered process, at its present
/// birth; what is no longer its affair is passed over, since it may have heard of it long ago.
pub(crate) fn whole(
    d: &mut Drafting<'_>,
    word: Verified,
    session: SessionId,
    copies: &[WholeCopy],
) -> Result<Done, Halt> {
    let copies: BTreeSet<WholeCopy> = copies.iter().copied().collect();
    if copies.len() > COPIES_MAX {
        let wanted = format!("at most {COPIES_MAX} at once");
        return Err(Problem::bad_field("copies", wanted).into());
    }
    let id = word.bookie;
    let own = [Key::Session(session), Key::Bookie(id), Key::Birth(id)];
    d.want(
        own.into_iter()
            .chain(copies.iter().map(|copy| Key::Ledger(copy.ledger))),
    )?;
    usable(d, session)?;
    let Some((bookie, _)) = d.bookie(&Key::Bookie(id))? else {
        return Err(no_bookie("bookie", id).into());
    };
    if bookie.session != session || d.birth(id)? != Some(word.born) {
        let message = format!("the bookie is registered anew since id={id}");
        return Err(Problem::new(Reason::SessionUnknown, message)
            .with("session", bookie.session.get())
            .into());
    }
    let mut is_news = false;
    for copy in copies {
        let key = Key::Ledger(copy.ledger);
        let Some((body, _)) = d.ledger(&key)? else {
            continue;
        };
        if let Some(body) = with_copy(body, word, copy.assignment) {
            d.put(key, Record::Ledger(body));
            is_news = true;
        }
    }
    if is_news {
        Ok(Done::write(Reply::Done))
    } else {
        Ok(Done::Answer(Reply::Done))
    }
}

/// The record with one more whole copy: a member's, or that of who was to take a member's place and takes it now. None
/// when the word changes nothing.
fn with_copy(
    body: &LedgerBody,
    word: Verified,
    assignment: Option<Revision>,
) -> Option<LedgerBody> {
    let LedgerState::Closed { last, .. } = body.state else {
        return None;
    };
    let mut body = body.clone();
    match body.moving {
        Some(moving) if moving.to == word.bookie => {
            if assignment != Some(moving.number) {
                return None; // By an earlier assignment: that copy may be given up since.
            }
            let place = body.ensemble.iter_mut().find(|id| **id == moving.from)?;
            *place = word.bookie;
            body.verified.retain(|copy| copy.bookie != moving.from);
            body.moving = None;
        }
        _ if body.verified.contains(&word) => return None,
        _ if body.ensemble.contains(&word.bookie) => {
            body.verified.retain(|copy| copy.bookie != word.bookie);
        }
        _ => return None,
    }
    body.verified.push(word);
    let complete = body.verified.len() == body.ensemble.len();
    body.state = LedgerState::Closed { last, complete };
    Some(body)
}

fn no_bookie(field: &str, id: BookieId) -> Problem {
    Problem::bad_field(field, format!("no such bookie id={id}"))
}
