//! Commands and their replies.

use std::time::Duration;

use types::chain::{Claim, ShardOutcome, WholeCopy};
use types::cluster::BookieClaim;
use types::command::{Command, Reply};
use types::{
    BookieId, Epoch, Incarnation, Problem, Revision, SessionId, ShardId, SubscriptionId, TopicId,
    WallTime,
};

use super::nodes::{
    bookie, bookie_state, bookie_state_to_wire, bookie_to_wire, role, role_to_wire, session,
    session_to_wire,
};
use super::shards::{
    change, change_to_wire, end, end_to_wire, ledger_id, ledger_id_to_wire, view, view_to_wire,
};
use super::topics::{
    mode, mode_to_wire, namespace, namespace_to_wire, retention, retention_to_wire, start,
    start_to_wire, subscription, subscription_to_wire, tenant, tenant_to_wire, topic,
    topic_to_wire,
};
use super::{
    all, command_id, command_id_to_wire, missing, nanos, parse, parse_option, pb, quorum,
    quorum_to_wire,
};

use pb::command::Command as Wire;
use pb::reply::Reply as WireReply;

/// A command on the wire.
///
/// # Errors
///
/// `BAD_FIELD` for a command that only meta itself gives.
#[expect(
    clippy::too_many_lines,
    reason = "a table with one row for each command"
)]
pub fn command_to_wire(command: &Command) -> Result<pb::Command, Problem> {
    let wire = match command {
        Command::Bootstrap { .. }
        | Command::ReviveSession { .. }
        | Command::SweepShard { .. }
        | Command::ExpireSession { .. }
        | Command::AssignCopy { .. } => {
            let only = "only meta itself gives this command";
            return Err(Problem::bad_field("command", only));
        }
        Command::OpenSession {
            role,
            name,
            address,
            endpoint,
            lease,
            command,
        } => Wire::OpenSession(pb::OpenSession {
            role: role_to_wire(*role).into(),
            name: name.to_string(),
            address: address.clone(),
            endpoint: endpoint.clone(),
            lease_nanos: nanos(*lease),
            command: command_id_to_wire(*command),
        }),
        Command::EndSession { session } => Wire::EndSession(session.get()),
        Command::RegisterBookie { claim, session } => Wire::RegisterBookie(pb::RegisterBookie {
            session: session.get(),
            name: claim.name.to_string(),
            address: claim.address.clone(),
            id: claim.id.map(BookieId::get),
            born: claim.born.map(Revision::get),
            incarnation: claim.incarnation.get(),
            mark: claim.mark,
            damaged: claim.damaged,
            zone: claim.zone.as_ref().map(ToString::to_string),
        }),
        Command::ReportBookie {
            id,
            session,
            mark,
            state,
        } => Wire::ReportBookie(pb::ReportBookie {
            id: id.get(),
            session: session.get(),
            mark: *mark,
            state: bookie_state_to_wire(*state).into(),
        }),
        Command::DrainBookie { id, draining } => Wire::DrainBookie(pb::DrainBookie {
            id: id.get(),
            draining: *draining,
        }),
        Command::RetireBookie { id } => Wire::RetireBookie(id.get()),
        Command::DrainServing { name, draining } => Wire::DrainServing(pb::DrainServing {
            name: name.to_string(),
            draining: *draining,
        }),
        Command::CopiesWhole {
            bookie,
            session,
            born,
            copies,
        } => Wire::CopiesWhole(pb::CopiesWhole {
            bookie: bookie.get(),
            session: session.get(),
            born: born.get(),
            copies: copies.iter().map(whole_copy_to_wire).collect(),
        }),
        Command::CreateTenant { name, .. } => Wire::CreateTenant(pb::CreateTenant {
            name: name.to_string(),
        }),
        Command::CreateNamespace { name, .. } => Wire::CreateNamespace(pb::CreateNamespace {
            name: name.to_string(),
        }),
        Command::CreateTopic {
            name,
            quorum,
            retention,
            ..
        } => Wire::CreateTopic(pb::CreateTopic {
            name: name.to_string(),
            quorum: Some(quorum_to_wire(*quorum)),
            retention: Some(retention_to_wire(*retention)),
        }),
        Command::UpdateTopic { name, retention } => Wire::UpdateTopic(pb::UpdateTopic {
            name: name.to_string(),
            retention: Some(retention_to_wire(*retention)),
        }),
        Command::DeleteTopic {
            name,
            id,
            session,
            epoch,
        } => Wire::DeleteTopic(pb::DeleteTopic {
            name: name.to_string(),
            id: id.get(),
            session: session.get(),
            epoch: epoch.get(),
        }),
        Command::CreateSubscription {
            name,
            mode,
            ack_deadline,
            start,
            ..
        } => Wire::CreateSubscription(pb::CreateSubscription {
            name: name.to_string(),
            mode: mode_to_wire(*mode).into(),
            ack_deadline_nanos: nanos(*ack_deadline),
            start: Some(start_to_wire(*start)),
        }),
        Command::ActivateSubscription { name, id } => {
            Wire::ActivateSubscription(pb::ActivateSubscription {
                name: name.to_string(),
                id: id.get(),
            })
        }
        Command::DeleteSubscription { name, id, session } => {
            Wire::DeleteSubscription(pb::DeleteSubscription {
                name: name.to_string(),
                id: id.get(),
                session: session.get(),
            })
        }
        Command::ClaimShard(claim) => Wire::ClaimShard(pb::ClaimShard {
            shard: claim.shard.get(),
            session: claim.session.get(),
            command: command_id_to_wire(claim.command),
        }),
        Command::ChangeShard(command) => Wire::ChangeShard(change_to_wire(command)),
        Command::AcceptLoss {
            ledger,
            last,
            next_offset,
            reason,
            ..
        } => Wire::AcceptLoss(pb::AcceptLoss {
            ledger: Some(ledger_id_to_wire(*ledger)),
            end: Some(end_to_wire(types::chain::LinkEnd {
                last: *last,
                next_offset: *next_offset,
            })),
            reason: reason.clone(),
        }),
    };
    Ok(pb::Command {
        command: Some(wire),
    })
}

/// Reads a command that arrived at `at`.
///
/// # Errors
///
/// `BAD_FIELD` names what makes no sense.
#[expect(
    clippy::too_many_lines,
    reason = "a table with one row for each command"
)]
pub fn command(command: pb::Command, at: WallTime) -> Result<Command, Problem> {
    Ok(match command.command.ok_or_else(|| missing("command"))? {
        Wire::OpenSession(open) => Command::OpenSession {
            role: role(open.role())?,
            name: parse("name", &open.name)?,
            address: open.address,
            endpoint: open.endpoint,
            lease: Duration::from_nanos(open.lease_nanos),
            command: command_id(&open.command)?,
        },
        Wire::EndSession(session) => Command::EndSession {
            session: SessionId::new(session),
        },
        Wire::RegisterBookie(register) => Command::RegisterBookie {
            session: SessionId::new(register.session),
            claim: BookieClaim {
                name: parse("name", &register.name)?,
                zone: parse_option("zone", register.zone.as_deref())?,
                address: register.address,
                id: register.id.map(BookieId::new),
                born: register.born.map(Revision::new),
                incarnation: Incarnation::new(register.incarnation),
                mark: register.mark,
                damaged: register.damaged,
            },
        },
        Wire::ReportBookie(report) => Command::ReportBookie {
            id: BookieId::new(report.id),
            session: SessionId::new(report.session),
            mark: report.mark,
            state: bookie_state(report.state())?,
        },
        Wire::DrainBookie(drain) => Command::DrainBookie {
            id: BookieId::new(drain.id),
            draining: drain.draining,
        },
        Wire::RetireBookie(id) => Command::RetireBookie {
            id: BookieId::new(id),
        },
        Wire::DrainServing(drain) => Command::DrainServing {
            name: parse("name", &drain.name)?,
            draining: drain.draining,
        },
        Wire::CopiesWhole(word) => Command::CopiesWhole {
            bookie: BookieId::new(word.bookie),
            session: SessionId::new(word.session),
            born: Revision::new(word.born),
            copies: all(word.copies, whole_copy)?,
        },
        Wire::CreateTenant(create) => Command::CreateTenant {
            name: parse("name", &create.name)?,
            at,
        },
        Wire::CreateNamespace(create) => Command::CreateNamespace {
            name: parse("name", &create.name)?,
            at,
        },
        Wire::CreateTopic(create) => Command::CreateTopic {
            name: parse("name", &create.name)?,
            quorum: quorum(create.quorum)?,
            retention: retention(create.retention)?,
            at,
        },
        Wire::UpdateTopic(update) => Command::UpdateTopic {
            name: parse("name", &update.name)?,
            retention: retention(update.retention)?,
        },
        Wire::DeleteTopic(delete) => Command::DeleteTopic {
            name: parse("name", &delete.name)?,
            id: TopicId::new(delete.id),
            session: SessionId::new(delete.session),
            epoch: Epoch::new(delete.epoch),
        },
        Wire::CreateSubscription(create) => Command::CreateSubscription {
            name: parse("name", &create.name)?,
            mode: mode(create.mode())?,
            ack_deadline: Duration::from_nanos(create.ack_deadline_nanos),
            start: start(create.start)?,
            at,
        },
        Wire::ActivateSubscription(activate) => Command::ActivateSubscription {
            name: parse("name", &activate.name)?,
            id: SubscriptionId::new(activate.id),
        },
        Wire::DeleteSubscription(delete) => Command::DeleteSubscription {
            name: parse("name", &delete.name)?,
            id: SubscriptionId::new(delete.id),
            session: SessionId::new(delete.session),
        },
        Wire::ClaimShard(claim) => Command::ClaimShard(Claim {
            shard: ShardId::new(claim.shard),
            session: SessionId::new(claim.session),
            command: command_id(&claim.command)?,
        }),
        Wire::ChangeShard(command) => Command::ChangeShard(change(command)?),
        Wire::AcceptLoss(accept) => accept_loss(accept, at)?,
    })
}

fn accept_loss(accept: pb::AcceptLoss, at: WallTime) -> Result<Command, Problem> {
    let end = end(accept.end.ok_or_else(|| missing("end"))?);
    Ok(Command::AcceptLoss {
        ledger: ledger_id("ledger", accept.ledger)?,
        last: end.last,
        next_offset: end.next_offset,
        reason: accept.reason,
        at,
    })
}

/// A reply on the wire.
pub fn reply_to_wire(reply: &Reply) -> pb::Reply {
    let wire = match reply {
        // Only a bootstrap is answered by a cluster, and it has no wire form.
        Reply::Done | Reply::Cluster(_) => WireReply::Done(pb::Nothing {}),
        Reply::Session(it) => WireReply::Session(session_to_wire(it)),
        Reply::Bookie(it) => WireReply::Bookie(bookie_to_wire(it)),
        Reply::Tenant(it) => WireReply::Tenant(tenant_to_wire(it)),
        Reply::Namespace(it) => WireReply::Namespace(namespace_to_wire(it)),
        Reply::Topic(it) => WireReply::Topic(topic_to_wire(it)),
        Reply::Subscription(it) => WireReply::Subscription(subscription_to_wire(it)),
        Reply::Shard(ShardOutcome::Committed(it)) => WireReply::ShardCommitted(view_to_wire(it)),
        Reply::Shard(ShardOutcome::Conflict(it)) => WireReply::ShardConflict(view_to_wire(it)),
    };
    pb::Reply { reply: Some(wire) }
}

/// Reads a reply.
///
/// # Errors
///
/// `BAD_FIELD` names what makes no sense.
pub fn reply(reply: pb::Reply) -> Result<Reply, Problem> {
    Ok(match reply.reply.ok_or_else(|| missing("reply"))? {
        WireReply::Done(_) => Reply::Done,
        WireReply::Session(it) => Reply::Session(session(it)?),
        WireReply::Bookie(it) => Reply::Bookie(bookie(it)?),
        WireReply::Tenant(it) => Reply::Tenant(tenant(it)?),
        WireReply::Namespace(it) => Reply::Namespace(namespace(it)?),
        WireReply::Topic(it) => Reply::Topic(topic(it)?),
        WireReply::Subscription(it) => Reply::Subscription(subscription(it)?),
        WireReply::ShardCommitted(it) => Reply::Shard(ShardOutcome::Committed(view(it)?)),
        WireReply::ShardConflict(it) => Reply::Shard(ShardOutcome::Conflict(view(it)?)),
    })
}

fn whole_copy_to_wire(it: &WholeCopy) -> pb::WholeCopy {
    pb::WholeCopy {
        ledger: Some(ledger_id_to_wire(it.ledger)),
        assignment: it.assignment.map(Revision::get),
    }
}

fn whole_copy(it: pb::WholeCopy) -> Result<WholeCopy, Problem> {
    Ok(WholeCopy {
        ledger: ledger_id("copies.ledger", it.ledger)?,
        assignment: it.assignment.map(Revision::new),
    })
}
