//! Commands on nodes: sessions, and the identity of bookies.

use std::time::Duration;

use types::cluster::{BookieClaim, BookieDuty, BookieState, NodeRole, SessionRecord, SessionState};
use types::command::{Change, Command, Reply};
use types::{BookieId, CommandId, NodeName, Problem, Reason, Revision, SessionId};

use crate::plan::{Done, Draft, Drafting, Halt};
use crate::{BookieBody, Key, NodeRecord, Record};

/// Bounds of a lease: shorter ones expire in a hiccup, longer ones keep a dead owner's shards closed.
const LEASE_MIN: Duration = Duration::from_millis(50);
const LEASE_MAX: Duration = Duration::from_secs(60 * 60);
/// Most older sessions of one node whose leases still run: a process that is started over and over is held up here.
const REPLACED_MAX: usize = 64;
/// Most bytes of an address.
const ADDRESS_MAX: usize = 512;

/// The parts of [`Command::OpenSession`].
pub(crate) struct Opening<'c> {
    role: NodeRole,
    name: &'c NodeName,
    address: &'c str,
    endpoint: &'c str,
    lease: Duration,
    command: CommandId,
}

impl<'c> Opening<'c> {
    pub(crate) fn of(command: &'c Command) -> Self {
        let Command::OpenSession {
            role,
            name,
            address,
            endpoint,
            lease,
            command,
        } = command
        else {
            unreachable!("called for this command only");
        };
        Self {
            role: *role,
            name,
            address,
            endpoint,
            lease: *lease,
            command: *command,
        }
    }

    fn check(&self) -> Result<(), Problem> {
        if self.lease < LEASE_MIN || self.lease > LEASE_MAX {
            let wanted = format!("from {LEASE_MIN:?} to {LEASE_MAX:?}");
            return Err(Problem::bad_field("lease", wanted));
        }
        if self.address.is_empty() || self.address.len() > ADDRESS_MAX {
            let wanted = format!("1 to {ADDRESS_MAX} bytes: host:port");
            return Err(Problem::bad_field("address", wanted));
        }
        if self.endpoint.len() > ADDRESS_MAX {
            let wanted = format!("at most {ADDRESS_MAX} bytes: http://host:port");
            return Err(Problem::bad_field("endpoint", wanted));
        }
        Ok(())
    }
}

/// Starts a node's process instance and puts it in the place of the older one.
///
/// A serving node's older instance may still be alive, and sure of its shards while its lease lasts: others may claim
/// them only when that lease has run out. One older instance is spared: that of a bookie's registration. Only [`register`] ends it, once it is clear that
/// the newcomer is the same disk started again, and not a second process with a copy of it.
pub(crate) fn open_session(d: &mut Drafting<'_>, opening: &Opening<'_>) -> Result<Done, Halt> {
    opening.check()?;
    let node_key = Key::Node(opening.role, opening.name.clone());
    let name_key = Key::BookieName(opening.name.clone());
    let is_bookie = opening.role == NodeRole::Bookie;
    d.want([node_key.clone(), Key::Counters])?;
    if is_bookie {
        d.want([name_key.clone()])?;
    }
    let older = d.node(&node_key)?.map(|(node, _)| node.clone());
    let mut replaced = Vec::new();
    if let Some(node) = &older {
        let (session, _) = session(d, node.session)?;
        if node.opened_by == opening.command {
            return Ok(Done::Answer(Reply::Session(session.clone())));
        }
        replaced.clone_from(&node.replaced);
        if !is_bookie && session.state == SessionState::Live {
            check_restarts(opening, &replaced)?;
            replaced.push(session.id);
            set_state(d, session, SessionState::Replaced);
        } else if !is_bookie || registered_session(d, &name_key)? != Some(node.session) {
            set_state(d, session, SessionState::Ended);
        }
    }
    let mut counters = d.counters()?;
    // What the operators want of a node outlives its processes.
    let is_drained = older.as_ref().is_some_and(|node| node.is_drained);
    let node = older.map_or(counters.node, |node| node.id);
    let record = SessionRecord {
        id: counters.session,
        role: opening.role,
        node,
        name: opening.name.clone(),
        address: opening.address.to_owned(),
        endpoint: opening.endpoint.to_owned(),
        lease: opening.lease,
        state: SessionState::Live,
    };
    counters.session = counters.session.next();
    if node == counters.node {
        counters.node = counters.node.next();
    }
    d.put(
        node_key,
        Record::Node(NodeRecord {
            id: node,
            session: record.id,
            opened_by: opening.command,
            replaced,
            is_drained,
        }),
    );
    d.put(Key::Counters, Record::Counters(counters));
    d.put(Key::Session(record.id), Record::Session(record.clone()));
    d.tell(Change::Session(record.id));
    Ok(Done::write(Reply::Session(record)))
}

fn check_restarts(opening: &Opening<'_>, replaced: &[SessionId]) -> Result<(), Problem> {
    if replaced.len() < REPLACED_MAX {
        return Ok(());
    }
    let message = format!(
        "the node was started {} times within one lease; wait until they have run out name={}",
        replaced.len(),
        opening.name
    );
    let problem = Problem::new(Reason::Overloaded, message);
    Err(problem.retry_after(opening.lease))
}

/// The session under which the bookie of this name is registered.
fn registered_session(d: &mut Drafting<'_>, name_key: &Key) -> Result<Option<SessionId>, Halt> {
    let Some((id, _)) = d.bookie_name(name_key)? else {
        return Ok(None);
    };
    Ok(d.bookie(&Key::Bookie(*id))?.map(|(body, _)| body.session))
}

/// Brings an expired session back: a keep-alive came. A replaced or ended one never comes back.
pub(crate) fn revive(d: &mut Drafting<'_>, id: SessionId) -> Result<Done, Halt> {
    let (record, _) = session(d, id)?;
    match record.state {
        SessionState::Live => Ok(Done::Answer(Reply::Session(record.clone()))),
        SessionState::Replaced | SessionState::Ended => Err(ended(id).into()),
        SessionState::Expired => {
            let record = set_state(d, record, SessionState::Live);
            tell_bookie(d, &record)?;
            Ok(Done::write(Reply::Session(record)))
        }
    }
}

/// A lease has run out: the session's shards may be claimed. A live session is expired, a replaced one ends, any other
/// stays as it is.
pub(crate) fn expire(d: &mut Drafting<'_>, id: SessionId) -> Result<Done, Halt> {
    let (record, _) = session(d, id)?;
    match record.state {
        SessionState::Live => {}
        SessionState::Replaced => return end_replaced(d, record),
        SessionState::Expired | SessionState::Ended => {
            return Ok(Done::Answer(Reply::Session(record.clone())));
        }
    }
    let record = set_state(d, record, SessionState::Expired);
    tell_bookie(d, &record)?;
    Ok(Done::write(Reply::Session(record)))
}

/// Ends a session: the node stops.
pub(crate) fn end(d: &mut Drafting<'_>, id: SessionId) -> Result<Done, Halt> {
    let (record, _) = session(d, id)?;
    match record.state {
        SessionState::Live | SessionState::Expired => {}
        SessionState::Replaced => return end_replaced(d, record),
        SessionState::Ended => return Ok(Done::Answer(Reply::Session(record.clone()))),
    }
    let record = set_state(d, record, SessionState::Ended);
    tell_bookie(d, &record)?;
    Ok(Done::write(Reply::Session(record)))
}

/// Ends a session whose node has a newer one: its lease has run out, or its process says that it stops.
fn end_replaced(d: &mut Drafting<'_>, record: &SessionRecord) -> Result<Done, Halt> {
    let node_key = Key::Node(record.role, record.name.clone());
    if let Some((node, _)) = d.node(&node_key)? {
        let mut node = node.clone();
        node.replaced.retain(|replaced| *replaced != record.id);
        d.put(node_key, Record::Node(node));
    }
    let record = set_state(d, record, SessionState::Ended);
    Ok(Done::write(Reply::Session(record)))
}

/// How the disk of a bookie relates to what meta knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    /// The very disk, started again: it knows all it ever acked.
    Same,
    /// It lost something or may have: it is born again.
    Lost,
}

/// Registers a bookie and decides whether it is born again (rule B of `meta/DESIGN.md`).
pub(crate) fn register(
    d: &mut Drafting<'_>,
    claim: &BookieClaim,
    session_id: SessionId,
) -> Result<Done, Halt> {
    if claim.address.is_empty() || claim.address.len() > ADDRESS_MAX {
        let wanted = format!("1 to {ADDRESS_MAX} bytes: host:port");
        return Err(Problem::bad_field("address", wanted).into());
    }
    let name_key = Key::BookieName(claim.name.clone());
    d.want([name_key.clone(), Key::Session(session_id)])?;
    let own = usable(d, session_id)?;
    if own.role != NodeRole::Bookie || own.name != claim.name {
        let message = format!(
            "the session is not of this bookie session={session_id} name={}",
            claim.name
        );
        return Err(Problem::new(Reason::WrongNode, message).into());
    }
    let live = own.state == SessionState::Live;
    let known = d.bookie_name(&name_key)?.map(|(id, _)| *id);
    check_name(d, claim, known)?;
    let Some(id) = known else {
        return first_registration(d, claim, session_id, live);
    };
    let (body, _) = d.bookie(&Key::Bookie(id))?.ok_or_else(|| lost_bookie(id))?;
    let birth = d.birth(id)?.ok_or_else(|| lost_bookie(id))?;
    if body.duty == BookieDuty::Gone {
        let message = format!(
            "the bookie was taken out of the cluster; start it with another --name and an empty \
             --data-dir name={}",
            claim.name
        );
        return Err(Problem::new(Reason::WrongNode, message).into());
    }
    if is_repeat(claim, session_id, body, birth) {
        let reply = Reply::Bookie(body.with(id, birth, live));
        return Ok(Done::Answer(reply));
    }
    let disk = compare(claim, body, birth);
    end_older(d, claim, body, session_id, disk, birth)?;
    let body = BookieBody {
        name: claim.name.clone(),
        address: claim.address.clone(),
        zone: claim.zone.clone(),
        incarnation: claim.incarnation,
        mark: claim.mark,
        state: BookieState::ReadWrite,
        duty: body.duty,
        session: session_id,
    };
    if disk == Disk::Lost {
        d.put(Key::Birth(id), Record::Birth);
    }
    d.put(Key::Bookie(id), Record::Bookie(body.clone()));
    d.tell(Change::Bookie(id));
    Ok(Done::Write(Draft::Bookie {
        id,
        body,
        born: (disk == Disk::Same).then_some(birth),
        live,
    }))
}

/// Whether this very registration has landed before.
fn is_repeat(claim: &BookieClaim, session: SessionId, body: &BookieBody, birth: Revision) -> bool {
    let same = body.session == session
        && body.incarnation == claim.incarnation
        && body.address == claim.address
        && body.zone == claim.zone;
    // A disk that tells of damage after it knew of its last birth asks for a new one.
    same && !(claim.damaged && claim.born == Some(birth))
}

fn compare(claim: &BookieClaim, body: &BookieBody, birth: Revision) -> Disk {
    let is_same = claim.id.is_some()
        && !claim.damaged
        && claim.born == Some(birth)
        && claim.incarnation > body.incarnation
        && claim.mark >= body.mark;
    if is_same { Disk::Same } else { Disk::Lost }
}

/// A disk's number and a bookie's name belong together, for good.
fn check_name(
    d: &mut Drafting<'_>,
    claim: &BookieClaim,
    known: Option<BookieId>,
) -> Result<(), Halt> {
    let Some(on_disk) = claim.id else {
        return Ok(());
    };
    if known == Some(on_disk) {
        return Ok(());
    }
    let holder = d.bookie(&Key::Bookie(on_disk))?;
    let message = holder.map_or_else(
        || {
            format!(
                "the data directory belongs to a bookie that this cluster does not know; start it \
                 with the directory of this cluster, or with an empty one id={on_disk} name={}",
                claim.name
            )
        },
        |(holder, _)| {
            format!(
                "the data directory belongs to another bookie; start it with --name {}, or give \
                 {} a directory of its own id={on_disk}",
                holder.name, claim.name
            )
        },
    );
    let mut problem = Problem::new(Reason::WrongNode, message).with("id", on_disk.get());
    if let Some((holder, _)) = holder {
        problem = problem.with("name", &holder.name);
    }
    Err(problem.into())
}

/// A name never seen. With a number on its disk it was refused before.
fn first_registration(
    d: &mut Drafting<'_>,
    claim: &BookieClaim,
    session: SessionId,
    live: bool,
) -> Result<Done, Halt> {
    let mut counters = d.counters()?;
    let id = counters.bookie;
    counters.bookie = id.next();
    let body = BookieBody {
        name: claim.name.clone(),
        address: claim.address.clone(),
        zone: claim.zone.clone(),
        incarnation: claim.incarnation,
        mark: claim.mark,
        state: BookieState::ReadWrite,
        duty: BookieDuty::Active,
        session,
    };
    d.put(Key::Counters, Record::Counters(counters));
    d.put(Key::BookieName(claim.name.clone()), Record::BookieName(id));
    d.put(Key::Birth(id), Record::Birth);
    d.put(Key::Bookie(id), Record::Bookie(body.clone()));
    d.tell(Change::Bookie(id));
    Ok(Done::Write(Draft::Bookie {
        id,
        body,
        born: None,
        live,
    }))
}

/// Ends the session of the bookie's older process.
///
/// The same disk started again is proof that the older process is gone (one process at a time holds the directory's
/// lock). Any other disk is not: while the older process is alive by its lease, the newcomer loses. Two processes
/// of one identity that both answer could show a ledger's acked entry to a writer and hide it from recovery.
fn end_older(
    d: &mut Drafting<'_>,
    claim: &BookieClaim,
    body: &BookieBody,
    session_id: SessionId,
    disk: Disk,
    birth: Revision,
) -> Result<(), Halt> {
    if body.session == session_id {
        return Ok(());
    }
    let (older, _) = session(d, body.session)?;
    let is_same_disk = disk == Disk::Same
        || (claim.damaged && claim.born == Some(birth) && claim.incarnation > body.incarnation);
    if older.state == SessionState::Live && !is_same_disk {
        let message = format!(
            "another process with the identity of this bookie is alive; stop it, or wait until its \
             lease has run out name={} address={} lease={:?}",
            claim.name, body.address, older.lease
        );
        return Err(Problem::new(Reason::ExclusiveHeld, message)
            .with("holder", &body.address)
            .with_resource(&claim.name)
            .retry_after(older.lease)
            .into());
    }
    if older.state != SessionState::Ended {
        set_state(d, older, SessionState::Ended);
    }
    Ok(())
}

/// Notes how a bookie stands. Only the registered process may.
pub(crate) fn report(
    d: &mut Drafting<'_>,
    id: BookieId,
    session_id: SessionId,
    mark: u64,
    state: BookieState,
) -> Result<Done, Halt> {
    d.want([Key::Bookie(id), Key::Birth(id), Key::Session(session_id)])?;
    let own = usable(d, session_id)?;
    let live = own.state == SessionState::Live;
    let Some((body, _)) = d.bookie(&Key::Bookie(id))? else {
        let message = format!("no such bookie, register it first id={id}");
        return Err(Problem::new(Reason::WrongNode, message).into());
    };
    if body.session != session_id {
        let message = format!("the bookie is registered by a newer process id={id}");
        return Err(Problem::new(Reason::SessionUnknown, message)
            .with("session", body.session.get())
            .into());
    }
    let birth = d.birth(id)?.ok_or_else(|| lost_bookie(id))?;
    // Marks only grow: a report that was overtaken by a later one changes nothing back.
    let mark = mark.max(body.mark);
    if mark == body.mark && state == body.state {
        return Ok(Done::Answer(Reply::Bookie(body.with(id, birth, live))));
    }
    if state != body.state {
        d.tell(Change::Bookie(id));
    }
    let body = BookieBody {
        mark,
        state,
        ..body.clone()
    };
    d.put(Key::Bookie(id), Record::Bookie(body.clone()));
    Ok(Done::Write(Draft::Bookie {
        id,
        body,
        born: Some(birth),
        live,
    }))
}

/// A session that must be there.
pub(crate) fn session<'a>(
    d: &mut Drafting<'a>,
    id: SessionId,
) -> Result<(&'a SessionRecord, Revision), Halt> {
    match d.session(&Key::Session(id))? {
        Some((record, versioned)) => Ok((record, versioned.modified)),
        None => {
            let message = format!("no such session, open a new one session={id}");
            Err(Problem::new(Reason::SessionUnknown, message).into())
        }
    }
}

/// A session that has not ended. An expired one counts: its process is alive, or it would not ask.
pub(crate) fn usable<'a>(d: &mut Drafting<'a>, id: SessionId) -> Result<&'a SessionRecord, Halt> {
    let (record, _) = session(d, id)?;
    if matches!(record.state, SessionState::Replaced | SessionState::Ended) {
        return Err(ended(id).into());
    }
    Ok(record)
}

fn ended(id: SessionId) -> Problem {
    let message = format!("the session has ended, open a new one session={id}");
    Problem::new(Reason::SessionUnknown, message)
}

fn lost_bookie(id: BookieId) -> Problem {
    let message = format!("a bookie's name has no record id={id}");
    Problem::new(Reason::Internal, message)
}

fn set_state(d: &mut Drafting<'_>, session: &SessionRecord, state: SessionState) -> SessionRecord {
    let record = SessionRecord {
        state,
        ..session.clone()
    };
    d.put(Key::Session(record.id), Record::Session(record.clone()));
    d.tell(Change::Session(record.id));
    record
}

/// A bookie is shown live or not by its session, so that a change of the one is a change of the other.
fn tell_bookie(d: &mut Drafting<'_>, session: &SessionRecord) -> Result<(), Halt> {
    if session.role != NodeRole::Bookie {
        return Ok(());
    }
    let key = Key::BookieName(session.name.clone());
    if let Some((id, _)) = d.bookie_name(&key)? {
        d.tell(Change::Bookie(*id));
    }
    Ok(())
}
