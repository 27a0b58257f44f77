use types::chain::{LedgerState, LogKind, ShardChange, ShardOutcome};
use types::cluster::NodeRole;
use types::command::{Answer, Command, Query, Reply};
use types::{EntryId, Epoch, LedgerId, Offset, Quorum, Reason};

use crate::world::{AT, World, end, extend, state_of};

use LogKind::{Message, State};

#[test]
fn first_claim_makes_epoch_one_and_the_claimant_owner() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    assert_eq!(view.record.epoch, Epoch::new(1));
    assert_eq!(view.record.owner, Some(session));
    assert_eq!(view, world.shard(shard));
}

#[test]
fn claim_of_a_live_owners_shard_is_refused() {
    let (mut world, shard, session) = World::with_shard();
    world.claim(shard, session).unwrap();
    let other = world.serving("s2").id;
    let problem = world.claim(shard, other).unwrap_err();
    assert_eq!(problem.reason, Reason::OwnerAlive);
    assert_eq!(problem.metadata["owner_session"], session.get().to_string());
}

#[test]
fn claim_is_permitted_once_the_owners_session_expired_or_ended() {
    let (mut world, shard, session) = World::with_shard();
    world.claim(shard, session).unwrap();
    let second = world.serving("s2").id;
    world.expire(session);
    assert_eq!(
        world.claim(shard, second).unwrap().record.epoch,
        Epoch::new(2)
    );
    world
        .apply(Command::EndSession { session: second })
        .unwrap();
    let third = world.serving("s3").id;
    assert_eq!(
        world.claim(shard, third).unwrap().record.epoch,
        Epoch::new(3)
    );
}

#[test]
fn owner_may_claim_its_own_shard_again_at_a_new_epoch() {
    let (mut world, shard, session) = World::with_shard();
    world.claim(shard, session).unwrap();
    assert_eq!(
        world.claim(shard, session).unwrap().record.epoch,
        Epoch::new(2)
    );
}

#[test]
fn repeated_claim_is_answered_as_committed_and_writes_nothing() {
    let (mut world, shard, session) = World::with_shard();
    let command = world.command_id();
    let first = world.claim_as(shard, session, command).unwrap();
    let revision = world.store.revision();
    assert_eq!(world.claim_as(shard, session, command).unwrap(), first);
    assert_eq!(world.store.revision(), revision);
}

#[test]
fn claim_by_an_ended_session_or_a_bookie_is_refused() {
    let (mut world, shard, session) = World::with_shard();
    world.apply(Command::EndSession { session }).unwrap();
    let problem = world.claim(shard, session).unwrap_err();
    assert_eq!(problem.reason, Reason::SessionUnknown);
    let bookie = world.open(NodeRole::Bookie, "b9").id;
    assert_eq!(
        world.claim(shard, bookie).unwrap_err().reason,
        Reason::WrongNode
    );
}

#[test]
fn expired_session_that_no_one_claimed_from_keeps_its_shard() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    world.expire(session);
    let view = world.commit(&view, extend(Message, None, Some(&[1])));
    assert_eq!(state_of(&view, Message), Some(LedgerState::Open));
}

#[test]
fn claim_takes_both_tails_to_recovery_at_its_epoch() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let view = world.commit(&view, extend(Message, None, Some(&[1])));
    world.commit(&view, extend(State, None, Some(&[1])));
    let view = world.claim(shard, session).unwrap();
    let recovering = Some(LedgerState::Recovering {
        epoch: Epoch::new(2),
    });
    assert_eq!(state_of(&view, Message), recovering);
    assert_eq!(state_of(&view, State), recovering);
    // A further claim raises a recovery that is under way.
    let view = world.claim(shard, session).unwrap();
    let recovering = Some(LedgerState::Recovering {
        epoch: Epoch::new(3),
    });
    assert_eq!(state_of(&view, Message), recovering);
}

#[test]
fn successor_continues_the_chain_where_its_predecessor_ended() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let view = world.commit(&view, extend(Message, None, Some(&[1])));
    assert_eq!(view.tail(Message).unwrap().created, view.version);
    let view = world.commit(&view, extend(Message, Some(end(Some(4), 12)), Some(&[1])));
    let links = &view.record.message.links;
    assert_eq!(links.len(), 2);
    assert_eq!(links[0].end, Some(end(Some(4), 12)));
    assert_eq!(links[1].first_offset, Offset::new(12));
    assert_eq!(links[1].seq.get(), 1);
    let view = world.commit(&view, extend(Message, Some(end(None, 12)), None));
    assert_eq!(view.record.message.tail(), None);
    assert_eq!(view.record.message.next_offset(), Some(Offset::new(12)));
}

#[test]
fn owners_command_on_an_older_version_is_answered_with_the_record() {
    let (mut world, shard, session) = World::with_shard();
    let old = world.claim(shard, session).unwrap();
    let new = world.commit(&old, extend(Message, None, Some(&[1])));
    let outcome = world.change(&old, extend(State, None, Some(&[1]))).unwrap();
    assert_eq!(outcome, ShardOutcome::Conflict(new));
}

#[test]
fn owners_command_that_landed_and_is_repeated_finds_its_id_in_the_conflict() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let command = types::chain::ShardCommand {
        shard,
        epoch: view.record.epoch,
        command: world.command_id(),
        planned_on: view.version,
        change: extend(Message, None, Some(&[1])),
    };
    let ShardOutcome::Committed(landed) = world.send(command.clone()).unwrap() else {
        panic!("it must land the first time");
    };
    assert_eq!(
        world.send(command.clone()).unwrap(),
        ShardOutcome::Conflict(landed.clone())
    );
    assert_eq!(landed.record.last_command, Some(command.command));
}

#[test]
fn command_of_an_older_epoch_never_lands() {
    let (mut world, shard, session) = World::with_shard();
    let old = world.claim(shard, session).unwrap();
    let new = world.claim(shard, session).unwrap();
    let mut stale = old.clone();
    stale.version = new.version; // Even one that names the present version.
    let outcome = world
        .change(&stale, extend(Message, None, Some(&[1])))
        .unwrap();
    assert_eq!(outcome, ShardOutcome::Conflict(new));
}

#[test]
fn second_open_ledger_is_refused() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let view = world.commit(&view, extend(Message, None, Some(&[1])));
    let problem = world
        .change(&view, extend(Message, None, Some(&[1])))
        .unwrap_err();
    assert_eq!(problem.reason, Reason::BadField);
    assert_eq!(problem.field.as_deref(), Some("close"));
}

#[test]
fn extend_does_not_close_a_recovering_ledger() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    world.commit(&view, extend(Message, None, Some(&[1])));
    let view = world.claim(shard, session).unwrap();
    let change = extend(Message, Some(end(None, 0)), Some(&[1]));
    assert_eq!(
        world.change(&view, change).unwrap_err().reason,
        Reason::BadField
    );
}

#[test]
fn ends_that_do_not_follow_from_the_start_are_refused() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let view = world.commit(&view, extend(Message, None, Some(&[1])));
    let view = world.commit(&view, extend(Message, Some(end(Some(0), 5)), Some(&[1])));
    for bad in [end(None, 6), end(None, 4), end(Some(0), 4)] {
        let problem = world
            .change(&view, extend(Message, Some(bad), None))
            .unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("message"), "{bad:?}");
    }
}

#[test]
fn ensembles_are_whole_distinct_and_registered() {
    let mut world = World::new();
    for name in ["b1", "b2", "b3"] {
        world.bookie(name);
    }
    let shard = world.topic("orders", Quorum::THREE_TWO);
    let session = world.serving("s1").id;
    let view = world.claim(shard, session).unwrap();
    for bad in [&[1, 2][..], &[1, 2, 2], &[1, 2, 3, 1], &[1, 2, 9], &[]] {
        let problem = world
            .change(&view, extend(Message, None, Some(bad)))
            .unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("successor"), "{bad:?}");
    }
    world.commit(&view, extend(Message, None, Some(&[3, 1, 2])));
}

#[test]
fn bookie_that_is_down_may_fill_an_ensemble() {
    let (mut world, shard, session) = World::with_shard();
    let (record, bookie) = world.bookie("b2");
    world.expire(bookie);
    let view = world.claim(shard, session).unwrap();
    world.commit(&view, extend(Message, None, Some(&[record.id.get()])));
}

#[test]
fn extend_with_nothing_to_do_is_refused() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    assert!(world.change(&view, extend(Message, None, None)).is_err());
    assert!(
        world
            .change(&view, extend(Message, Some(end(None, 0)), None))
            .is_err()
    );
}

#[test]
fn recovery_closes_every_tail_or_none() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let view = world.commit(&view, extend(Message, None, Some(&[1])));
    world.commit(&view, extend(State, None, Some(&[1])));
    let view = world.claim(shard, session).unwrap();
    let close = |message, state| ShardChange::CloseRecovered { message, state };
    let problem = world
        .change(&view, close(Some(end(Some(0), 3)), None))
        .unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("state"));
    let both = close(Some(end(Some(0), 3)), Some(end(None, 0)));
    let view = world.commit(&view, both);
    assert!(view.tails.is_empty());
    let id = LedgerId::new(view.record.message.log, view.record.message.links[0].seq);
    let Ok(Answer::Ledgers(ledgers)) = world.store.query(&Query::Ledgers(vec![id])) else {
        panic!("the query must answer");
    };
    let closed = LedgerState::Closed {
        last: Some(EntryId::new(0)),
        complete: false,
    };
    assert_eq!(ledgers[0].state, closed);
    // Without tails there is nothing to name.
    let extra = close(Some(end(Some(0), 3)), None);
    assert!(world.change(&view, extra).is_err());
    world.commit(&view, close(None, None));
}

#[test]
fn recovery_closes_only_what_is_in_recovery() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let view = world.commit(&view, extend(Message, None, Some(&[1])));
    let close = ShardChange::CloseRecovered {
        message: Some(end(None, 0)),
        state: None,
    };
    let problem = world.change(&view, close).unwrap_err();
    assert_eq!(problem.reason, Reason::BadField);
}

#[test]
fn released_shard_is_claimed_by_anyone_and_changed_by_no_one() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let view = world.commit(&view, ShardChange::Release);
    assert_eq!(view.record.owner, None);
    let problem = world
        .change(&view, extend(Message, None, Some(&[1])))
        .unwrap_err();
    assert_eq!(problem.reason, Reason::EpochMismatch);
    let other = world.serving("s2").id;
    assert_eq!(
        world.claim(shard, other).unwrap().record.epoch,
        Epoch::new(2)
    );
}

#[test]
fn planned_command_does_not_land_on_a_version_that_moved() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let command = Command::ChangeShard(types::chain::ShardCommand {
        shard,
        epoch: view.record.epoch,
        command: world.command_id(),
        planned_on: view.version,
        change: extend(Message, None, Some(&[1])),
    });
    let catalog::Planned::Write(delayed) = world.store.plan(&command) else {
        panic!("it must plan a write");
    };
    let moved = world.commit(&view, extend(State, None, Some(&[1])));
    assert!(world.store.commit(*delayed).is_err());
    // Planned again it is a conflict, never a write.
    assert_eq!(
        world.apply(command),
        Ok(Reply::Shard(ShardOutcome::Conflict(moved)))
    );
}

#[test]
fn born_again_bookie_between_plan_and_commit_only_has_the_command_planned_again() {
    let (mut world, shard, session) = World::with_shard();
    let (record, bookie) = world.bookie("b2");
    let view = world.claim(shard, session).unwrap();
    let command = Command::ChangeShard(types::chain::ShardCommand {
        shard,
        epoch: view.record.epoch,
        command: world.command_id(),
        planned_on: view.version,
        change: extend(Message, None, Some(&[record.id.get()])),
    });
    let catalog::Planned::Write(delayed) = world.store.plan(&command) else {
        panic!("it must plan a write");
    };
    world.expire(bookie);
    let again = world.open(NodeRole::Bookie, "b2").id;
    let reborn = world.register(crate::world::blank("b2"), again).unwrap();
    assert!(world.store.commit(*delayed).is_err());
    let Ok(Reply::Shard(ShardOutcome::Committed(view))) = world.apply(command) else {
        panic!("the shard's version did not move");
    };
    assert!(view.tail(Message).unwrap().created > reborn.born);
}

fn accept(ledger: LedgerId, last: Option<u64>, next_offset: u64, reason: &str) -> Command {
    Command::AcceptLoss {
        ledger,
        last: last.map(EntryId::new),
        next_offset: Offset::new(next_offset),
        reason: reason.to_owned(),
        at: AT,
    }
}

#[test]
fn loss_is_accepted_only_of_a_ledger_in_recovery_and_stays_on_record() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let view = world.commit(&view, extend(Message, None, Some(&[1])));
    let id = view.record.message.tail_id().unwrap();
    let ann = "ann: two disks burned";
    let open = world.apply(accept(id, None, 0, ann)).unwrap_err();
    assert_eq!(open.field.as_deref(), Some("ledger"));
    let owner = world.claim(shard, session).unwrap();
    assert!(world.apply(accept(id, None, 0, " ")).is_err());
    assert_eq!(world.apply(accept(id, Some(1), 3, ann)), Ok(Reply::Done));
    assert_eq!(world.apply(accept(id, Some(1), 3, ann)), Ok(Reply::Done));
    let other = world.apply(accept(id, Some(2), 4, ann)).unwrap_err();
    assert_eq!(other.reason, Reason::AlreadyExists);
    assert!(world.store.image().contains_key(&catalog::Key::Loss(id)));
    // The owner's own close conflicts on a record that keeps the owner's command id, and plans again.
    let close = ShardChange::CloseRecovered {
        message: Some(end(Some(2), 4)),
        state: None,
    };
    let Ok(ShardOutcome::Conflict(seen)) = world.change(&owner, close) else {
        panic!("the record moved");
    };
    assert_eq!(seen.record.last_command, owner.record.last_command);
    assert_eq!(seen.record.epoch, owner.record.epoch);
    assert!(seen.tails.is_empty());
}

/// Only the record knows where an empty end is: the operator need not say.
#[test]
fn loss_of_everything_ends_the_ledger_where_it_began() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let view = world.commit(&view, extend(Message, None, Some(&[1])));
    let view = world.commit(&view, extend(Message, Some(end(Some(4), 9)), Some(&[1])));
    let id = view.record.message.tail_id().unwrap();
    world.claim(shard, session).unwrap();
    for _ in 0..2 {
        assert_eq!(
            world.apply(accept(id, None, 0, "ann: gone")),
            Ok(Reply::Done)
        );
    }
    let links = world.shard(shard).record.message.links;
    assert_eq!(links[1].end, Some(end(None, 9)));
}

#[test]
fn accepted_end_before_the_start_is_refused() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let view = world.commit(&view, extend(Message, None, Some(&[1])));
    let view = world.commit(&view, extend(Message, Some(end(Some(4), 9)), Some(&[1])));
    let id = view.record.message.tail_id().unwrap();
    world.claim(shard, session).unwrap();
    let problem = world
        .apply(accept(id, Some(0), 8, "ann: gone"))
        .unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("message"));
}

#[test]
fn unknown_shard_and_ledger_are_told() {
    let (mut world, _, session) = World::with_shard();
    let unknown = types::ShardId::new(99);
    assert_eq!(
        world.claim(unknown, session).unwrap_err().reason,
        Reason::TopicNotFound
    );
    let ledger = LedgerId::new(types::LogId::new(99), types::LedgerSeq::new(0));
    assert!(world.apply(accept(ledger, None, 0, "x")).is_err());
}
