//! Topics: what trims them, changes them, deletes them.

use catalog::{Key, Record, check};
use types::chain::{LedgerState, LogKind, LogStanding, ShardChange, ShardOutcome, ShardView};
use types::command::{Answer, Change, Command, Page, Query, Reply};
use types::topic::{Retention, StartPosition, SubscriptionMode, TopicRecord};
use types::{
    Epoch, LedgerId, LedgerSeq, LogId, Offset, Problem, Quorum, Reason, SessionId, ShardId,
};

use crate::world::{AT, World, end, extend};

fn trim(log: LogKind, first: u32) -> ShardChange {
    ShardChange::Trim {
        log,
        first: LedgerSeq::new(first),
    }
}

/// A shard whose message log has `closed` closed ledgers of ten messages, and an open one.
fn with_ledgers(world: &mut World, closed: u64) -> (ShardView, SessionId) {
    world.bookie("b1");
    let shard = world.topic("orders", Quorum::ONE);
    let session = world.serving("s1").id;
    let mut view = world.claim(shard, session).unwrap();
    view = world.commit(&view, extend(LogKind::Message, None, Some(&[1])));
    for ledger in 0..closed {
        let close = end(Some(9), (ledger + 1) * 10);
        view = world.commit(&view, extend(LogKind::Message, Some(close), Some(&[1])));
    }
    (view, session)
}

fn topic(world: &World) -> Option<TopicRecord> {
    match world.store.query(&Query::Topic("orders".parse().unwrap())) {
        Ok(Answer::Topic(topic)) => topic,
        other => panic!("{other:?}"),
    }
}

fn logs(world: &World, ids: &[LogId]) -> Vec<(LogId, LogStanding)> {
    match world.store.query(&Query::Logs(ids.to_vec())) {
        Ok(Answer::Logs(logs)) => logs,
        other => panic!("{other:?}"),
    }
}

fn delete(world: &mut World, session: SessionId) -> Result<Reply, Problem> {
    let topic = topic(world).unwrap();
    let epoch = world.shard(topic.shards[0]).record.epoch;
    delete_at(world, session, epoch)
}

fn delete_at(world: &mut World, session: SessionId, epoch: Epoch) -> Result<Reply, Problem> {
    let id = topic(world).unwrap().id;
    world.apply(Command::DeleteTopic {
        name: "orders".parse().unwrap(),
        id,
        session,
        epoch,
    })
}

/// Closes what is open, so that the topic may be deleted.
fn close(world: &mut World, view: &ShardView) -> ShardView {
    let next = view.record.message.tail().unwrap().first_offset.get();
    world.commit(view, extend(LogKind::Message, Some(end(None, next)), None))
}

#[test]
fn a_trim_drops_the_oldest_ledgers_and_their_records_and_nothing_else() {
    let mut world = World::new();
    let (view, _) = with_ledgers(&mut world, 3);
    let log = view.record.message.log;
    let view = world.commit(&view, trim(LogKind::Message, 2));
    let chain = &view.record.message;
    assert_eq!(chain.first, LedgerSeq::new(2));
    assert_eq!(chain.first_offset, Offset::new(20));
    assert_eq!(chain.links.len(), 2);
    assert_eq!(chain.next_seq(), LedgerSeq::new(4));
    let left = world.store.image().keys().filter_map(|key| match key {
        Key::Ledger(id) => Some(id.seq().get()),
        _ => None,
    });
    assert_eq!(left.collect::<Vec<_>>(), [2, 3]);
    let first = LedgerSeq::new(2);
    assert_eq!(logs(&world, &[log]), [(log, LogStanding::Live { first })]);
    assert_eq!(check(world.store.image()), []);
}

#[test]
fn a_chain_that_is_trimmed_to_its_end_goes_on_where_it_was() {
    let mut world = World::new();
    let (view, _) = with_ledgers(&mut world, 2);
    let view = world.commit(
        &view,
        extend(LogKind::Message, Some(end(Some(4), 25)), None),
    );
    let view = world.commit(&view, trim(LogKind::Message, 3));
    assert_eq!(view.record.message.links, []);
    assert_eq!(view.record.message.next_offset(), Some(Offset::new(25)));
    let view = world.commit(&view, extend(LogKind::Message, None, Some(&[1])));
    let link = &view.record.message.links[0];
    assert_eq!(
        (link.seq, link.first_offset),
        (LedgerSeq::new(3), Offset::new(25))
    );
    assert_eq!(check(world.store.image()), []);
}

#[test]
fn a_trim_never_takes_an_open_ledger_or_one_not_made_and_never_goes_back() {
    let mut world = World::new();
    let (view, _) = with_ledgers(&mut world, 2);
    for first in [0, 3, 4, u32::MAX] {
        let refused = world.change(&view, trim(LogKind::Message, first));
        assert_eq!(refused.unwrap_err().reason, Reason::BadField, "{first}");
    }
    let refused = world.change(&view, trim(LogKind::State, 1));
    assert_eq!(refused.unwrap_err().reason, Reason::BadField);
    let view = world.commit(&view, trim(LogKind::Message, 2));
    let refused = world.change(&view, trim(LogKind::Message, 1));
    assert_eq!(refused.unwrap_err().reason, Reason::BadField);
}

#[test]
fn more_ledgers_than_one_commit_takes_are_trimmed_in_parts() {
    let mut world = World::new();
    let (view, _) = with_ledgers(&mut world, 40);
    let refused = world.change(&view, trim(LogKind::Message, 33));
    assert!(refused.unwrap_err().message.contains("at most 32"));
    let view = world.commit(&view, trim(LogKind::Message, 32));
    let view = world.commit(&view, trim(LogKind::Message, 40));
    assert_eq!(view.record.message.links.len(), 1);
}

#[test]
fn a_trim_planned_on_an_old_version_changes_nothing() {
    let mut world = World::new();
    let (old, _) = with_ledgers(&mut world, 2);
    let view = world.commit(&old, trim(LogKind::Message, 1));
    let again = world.change(&old, trim(LogKind::Message, 2)).unwrap();
    assert_eq!(again, ShardOutcome::Conflict(view));
}

#[test]
fn a_topics_retention_is_changed_and_its_owner_is_told() {
    let mut world = World::new();
    let (view, _) = with_ledgers(&mut world, 1);
    assert_eq!(topic(&world).unwrap().retention, Retention::DEFAULT);
    let update = Command::UpdateTopic {
        name: "orders".parse().unwrap(),
        retention: Retention::FOREVER,
    };
    let (reply, told) = world.store.execute(&update);
    reply.unwrap();
    assert!(
        told.iter()
            .any(|event| event.change == Change::Shard(view.record.id))
    );
    assert_eq!(topic(&world).unwrap().retention, Retention::FOREVER);
    // The owner's next command still lands: the shard's own record is unchanged.
    world.commit(&view, trim(LogKind::Message, 1));
    let unknown = world.apply(Command::UpdateTopic {
        name: "other".parse().unwrap(),
        retention: Retention::FOREVER,
    });
    assert_eq!(unknown.unwrap_err().reason, Reason::TopicNotFound);
}

#[test]
fn a_topic_is_deleted_by_its_owner_with_both_logs_closed_and_by_nobody_else() {
    let mut world = World::new();
    let (view, session) = with_ledgers(&mut world, 1);
    let other = world.serving("s2").id;
    assert_eq!(
        delete(&mut world, other).unwrap_err().reason,
        Reason::NotOwner
    );
    let open = delete(&mut world, session).unwrap_err();
    assert!(open.message.contains("not closed"), "{open:?}");
    close(&mut world, &view);
    delete(&mut world, session).unwrap();
    assert_eq!(topic(&world), None);
    assert_eq!(check(world.store.image()), []);
}

#[test]
fn a_deletion_that_comes_late_leaves_a_topic_that_was_opened_again() {
    let mut world = World::new();
    let (view, session) = with_ledgers(&mut world, 1);
    close(&mut world, &view);
    let again = world.claim(view.record.id, session).unwrap();
    let late = delete_at(&mut world, session, view.record.epoch);
    assert_eq!(late.unwrap_err().reason, Reason::EpochMismatch);
    delete_at(&mut world, session, again.record.epoch).unwrap();
}

#[test]
fn a_deleted_topics_shard_is_claimed_and_changed_by_nobody() {
    let mut world = World::new();
    let (view, session) = with_ledgers(&mut world, 1);
    let view = close(&mut world, &view);
    delete(&mut world, session).unwrap();
    let claim = world.claim(view.record.id, session);
    assert_eq!(claim.unwrap_err().reason, Reason::TopicNotFound);
    let change = world.change(&view, extend(LogKind::Message, None, Some(&[1])));
    match change.unwrap() {
        ShardOutcome::Conflict(now) => assert!(now.record.epoch > view.record.epoch),
        other @ ShardOutcome::Committed(_) => panic!("{other:?}"),
    }
}

#[test]
fn a_deletion_by_an_old_number_leaves_the_topic_that_took_the_name() {
    let mut world = World::new();
    let (view, session) = with_ledgers(&mut world, 1);
    close(&mut world, &view);
    let old = topic(&world).unwrap().id;
    delete(&mut world, session).unwrap();
    world.topic("orders", Quorum::ONE);
    let again = world.apply(Command::DeleteTopic {
        name: "orders".parse().unwrap(),
        id: old,
        session,
        epoch: Epoch::new(1),
    });
    assert_eq!(again.unwrap_err().reason, Reason::VersionMismatch);
    assert!(topic(&world).is_some());
}

#[test]
fn a_new_topic_of_the_name_has_none_of_the_old_ones_subscriptions() {
    let mut world = World::new();
    let (view, session) = with_ledgers(&mut world, 1);
    close(&mut world, &view);
    // More than one commit removes.
    for number in 0..60 {
        subscribe(&mut world, &format!("s{number:02}")).unwrap();
    }
    delete(&mut world, session).unwrap();
    world.topic("orders", Quorum::ONE);
    let page = Page {
        after: None,
        limit: 100,
    };
    let name: types::TopicName = "orders".parse().unwrap();
    let listed = world.store.query(&Query::Subscriptions(name.clone(), page));
    assert_eq!(listed, Ok(Answer::Subscriptions(Vec::new())));
    let one = Query::Subscription(name.subscription("s59").unwrap());
    assert_eq!(world.store.query(&one), Ok(Answer::Subscription(None)));
    subscribe(&mut world, "s59").unwrap();
    assert_eq!(
        subscribe(&mut world, "s59").unwrap_err().reason,
        Reason::AlreadyExists
    );
}

#[test]
fn what_an_old_topic_of_the_name_left_ends_no_list_of_the_new_ones_subscriptions() {
    let mut world = World::new();
    let (view, session) = with_ledgers(&mut world, 1);
    close(&mut world, &view);
    for number in 0..60 {
        subscribe(&mut world, &format!("s{number:02}")).unwrap();
    }
    delete(&mut world, session).unwrap();
    world.topic("orders", Quorum::ONE);
    // The names before and between them are left of the old topic.
    for name in ["s52", "s58", "z"] {
        subscribe(&mut world, name).unwrap();
    }
    let name: types::TopicName = "orders".parse().unwrap();
    let mut listed = Vec::new();
    loop {
        let page = Page {
            after: listed.last().cloned(),
            limit: 2,
        };
        let query = Query::Subscriptions(name.clone(), page);
        let Ok(Answer::Subscriptions(found)) = world.store.query(&query) else {
            panic!("subscriptions are told");
        };
        if found.is_empty() {
            break;
        }
        assert!(found.len() <= 2);
        listed.extend(found.into_iter().map(|it| it.name.as_str().to_owned()));
    }
    let expected = ["s52", "s58", "z"].map(|it| name.subscription(it).unwrap());
    let expected: Vec<String> = expected.iter().map(|it| it.as_str().to_owned()).collect();
    assert_eq!(listed, expected);
}

fn subscribe(world: &mut World, name: &str) -> Result<Reply, Problem> {
    let topic: types::TopicName = "orders".parse().unwrap();
    world.apply(Command::CreateSubscription {
        name: topic.subscription(name).unwrap(),
        mode: SubscriptionMode::Shared,
        ack_deadline: std::time::Duration::from_secs(30),
        start: StartPosition::Earliest,
        at: AT,
    })
}

#[test]
fn a_sweep_removes_what_a_deleted_topic_left_and_keeps_the_word_for_bookies() {
    let mut world = World::new();
    let (view, session) = with_ledgers(&mut world, 70);
    let shard = view.record.id;
    let refused = world.apply(Command::SweepShard { shard });
    assert_eq!(refused.unwrap_err().reason, Reason::BadField);
    close(&mut world, &view);
    delete(&mut world, session).unwrap();
    let mut rounds = 0;
    while is_there(&world, shard) {
        let before = world.store.clone();
        world.apply(Command::SweepShard { shard }).unwrap();
        assert_eq!(check(world.store.image()), []);
        assert_eq!(catalog::check_step(before.image(), world.store.image()), []);
        rounds += 1;
    }
    assert_eq!(rounds, 2);
    let ledgers = world
        .store
        .image()
        .keys()
        .filter(|key| matches!(key, Key::Ledger(_)));
    assert_eq!(ledgers.count(), 0);
    let log = view.record.message.log;
    let unknown = LogId::new(99);
    assert_eq!(logs(&world, &[log, unknown]), [(log, LogStanding::Deleted)]);
    world.apply(Command::SweepShard { shard }).unwrap();
}

fn is_there(world: &World, shard: ShardId) -> bool {
    world.store.image().contains_key(&Key::Shard(shard))
}

#[test]
fn logs_are_asked_in_bounded_numbers() {
    let world = World::new();
    let many: Vec<LogId> = (0..257).map(LogId::new).collect();
    let refused = world.store.query(&Query::Logs(many));
    assert_eq!(refused.unwrap_err().reason, Reason::BadField);
}

#[test]
fn a_ledger_that_was_given_up_goes_with_its_audit_record() {
    let mut world = World::new();
    let (view, session) = with_ledgers(&mut world, 0);
    world.expire(session);
    let other = world.serving("s2").id;
    let claimed = world.claim(view.record.id, other).unwrap();
    let ledger = claimed.record.message.tail_id().unwrap();
    world
        .apply(Command::AcceptLoss {
            ledger,
            last: None,
            next_offset: Offset::new(0),
            reason: "ann: the disk burned".to_owned(),
            at: AT,
        })
        .unwrap();
    let view = world.shard(claimed.record.id);
    world.commit(&view, trim(LogKind::Message, 1));
    let about = |id: LedgerId| {
        let keys = world.store.image().iter();
        keys.filter(|(key, _)| matches!(key, Key::Ledger(it) | Key::Loss(it) if *it == id))
            .count()
    };
    assert_eq!(about(ledger), 0);
    let closed = world.store.image().values().any(|it| {
        matches!(&it.record, Record::Ledger(body) if matches!(body.state, LedgerState::Closed { .. }))
    });
    assert!(!closed);
}
