//! What is dropped of both logs, what is not, and who goes on after it.

use std::sync::Arc;
use std::time::Duration;

use topic::StreamId;
use types::chain::LogKind;
use types::command::{Answer, Command, Query, Reply};
use types::topic::{Retention, StartPosition, SubscriptionMode};
use types::{ByteSize, LedgerSeq, Offset, Reason};

use super::super::*;
use super::world::World;

const MINUTE: Duration = Duration::from_secs(60);

fn keep(time: Option<Duration>, bytes: Option<ByteSize>) -> Retention {
    Retention { time, bytes }
}

/// A topic with this retention, whose ledgers hold two entries.
fn world(retention: Retention) -> World {
    let mut world = World::new();
    world.small_ledgers(2);
    set(&mut world, retention);
    world
}

fn set(world: &mut World, retention: Retention) {
    let name = world.topic.clone();
    world.apply(Command::UpdateTopic { name, retention });
}

fn publish(world: &mut World, node: usize, from: u64, count: u64) {
    world.open_producer(node, 100 + from, Some("p"));
    for n in from..from + count {
        world.publish(node, 100 + from, n, &["message"]);
    }
}

fn first(world: &World, log: LogKind) -> (u32, u64) {
    let record = world.view().record;
    let chain = record.chain(log);
    (chain.first.get(), chain.first_offset.get())
}

/// Entries of the message log that any bookie holds.
fn held(world: &World) -> usize {
    let log = world.message_log();
    let all = world.bookies.values().map(|bookie| {
        let of_log = bookie.entries.keys().filter(|(id, _)| id.log() == log);
        of_log.count()
    });
    all.max().unwrap()
}

#[test]
fn what_everybody_acked_and_retention_does_not_keep_is_dropped() {
    let mut world = world(keep(Some(Duration::ZERO), None));
    let node = world.open();
    let of = world.subscribe(
        node,
        "s",
        SubscriptionMode::Exclusive,
        StartPosition::Earliest,
    );
    publish(&mut world, node, 0, 10);
    world.consume(node, 2, of.id, 100);
    world.pass(MINUTE);
    assert_eq!(first(&world, LogKind::Message), (0, 0), "nothing is acked");

    world.ack(node, 2, 1, (0, 5));
    world.pass(MINUTE);
    assert_eq!(
        first(&world, LogKind::Message),
        (2, 4),
        "a ledger goes as a whole"
    );
    world.ack(node, 2, 2, (5, 10));
    world.pass(3 * MINUTE);
    // The last ledger was rolled, since it would have kept its messages.
    assert_eq!(first(&world, LogKind::Message).1, 10);
    assert_eq!(held(&world), 0);
    assert!(world.view().record.message.links.is_empty());

    publish(&mut world, node, 10, 1);
    assert_eq!(world.delivered(node, 2).last(), Some(&10));
    let stats = world.nodes[node].shard.stats().unwrap();
    assert_eq!(stats.first_offset, Offset::new(10));
}

#[test]
fn a_subscription_that_has_not_acked_keeps_what_it_needs_however_old() {
    let mut world = world(keep(Some(Duration::ZERO), Some(ByteSize::new(1))));
    let node = world.open();
    let fast = world.subscribe(
        node,
        "fast",
        SubscriptionMode::Shared,
        StartPosition::Earliest,
    );
    let slow = world.subscribe(
        node,
        "slow",
        SubscriptionMode::Shared,
        StartPosition::Earliest,
    );
    publish(&mut world, node, 0, 8);
    world.consume(node, 2, fast.id, 100);
    world.ack(node, 2, 1, (0, 8));
    world.pass(100 * MINUTE);
    assert_eq!(first(&world, LogKind::Message), (0, 0));
    world.consume(node, 3, slow.id, 100);
    assert_eq!(world.texts(node, 3).len(), 8);
}

#[test]
fn without_subscriptions_retention_alone_decides() {
    let mut world = world(keep(Some(10 * MINUTE), None));
    let node = world.open();
    publish(&mut world, node, 0, 4);
    world.pass(5 * MINUTE);
    publish(&mut world, node, 4, 4);
    assert_eq!(first(&world, LogKind::Message), (0, 0));
    world.pass(6 * MINUTE);
    assert_eq!(first(&world, LogKind::Message), (2, 4));
    // Who comes now begins with what is left.
    let of = world.subscribe(
        node,
        "s",
        SubscriptionMode::Exclusive,
        StartPosition::Earliest,
    );
    world.consume(node, 2, of.id, 100);
    assert_eq!(world.delivered(node, 2), [4, 5, 6, 7]);
}

#[test]
fn retention_by_size_keeps_the_newest_bytes() {
    // Each batch has 11 bytes, a ledger two of them.
    let mut world = world(keep(None, Some(ByteSize::new(50))));
    let node = world.open();
    publish(&mut world, node, 0, 20);
    world.pass(MINUTE);
    let (_, offset) = first(&world, LogKind::Message);
    // At least 50 bytes stay, and less than a ledger more.
    assert_eq!(20 - offset, 6);
}

#[test]
fn a_topic_that_keeps_everything_drops_nothing() {
    let mut world = world(Retention::FOREVER);
    let node = world.open();
    publish(&mut world, node, 0, 6);
    world.pass(10_000 * MINUTE);
    assert_eq!(first(&world, LogKind::Message), (0, 0));
    // Until it is told otherwise: it hears of that at once, and looks at its next turn.
    set(&mut world, keep(Some(Duration::ZERO), None));
    world.event(node, ShardEvent::RecordChanged);
    world.pass(3 * MINUTE);
    assert_eq!(first(&world, LogKind::Message).1, 6);
}

#[test]
fn an_answer_from_before_a_change_of_retention_drops_nothing() {
    let mut world = world(keep(Some(Duration::ZERO), None));
    let node = world.open();
    publish(&mut world, node, 0, 6);
    // Meta is asked how long messages stay, and has answered.
    world.now = world.now.after(world.config.trim_interval);
    world.later(node, ShardEvent::Deadline);
    world.step(node);
    // The topic is to keep everything, and the owner hears of that before it hears the answer.
    set(&mut world, Retention::FOREVER);
    world.later(node, ShardEvent::RecordChanged);
    world.step_at(node, 1);
    world.pass(10 * MINUTE);
    assert_eq!(first(&world, LogKind::Message), (0, 0));
}

#[test]
fn the_next_owner_goes_on_after_what_was_dropped() {
    let mut world = world(keep(Some(Duration::ZERO), None));
    let node = world.open();
    let of = world.subscribe(
        node,
        "s",
        SubscriptionMode::Exclusive,
        StartPosition::Earliest,
    );
    publish(&mut world, node, 0, 6);
    world.consume(node, 2, of.id, 100);
    world.ack(node, 2, 1, (0, 6));
    world.pass(3 * MINUTE);
    assert_eq!(held(&world), 0);
    publish(&mut world, node, 6, 1);
    world.kill(node);

    let next = world.open();
    // The producer's numbers are known though the messages are gone.
    world.open_producer(next, 1, Some("p"));
    world.publish(next, 1, 5, &["message"]);
    world.publish(next, 1, 7, &["new"]);
    let receipts = world.receipts(next, 1);
    assert!(matches!(
        receipts[0].outcome,
        Ok(topic::Stored::Duplicate { first_offset, .. }) if first_offset == Offset::new(5)
    ));
    assert!(receipts[1].outcome.is_ok());
    world.consume(next, 2, of.id, 100);
    assert_eq!(world.delivered(next, 2), [6, 7]);
}

#[test]
fn the_ends_of_ledgers_that_another_owner_wrote_are_read_and_no_more_of_them() {
    let mut world = world(keep(Some(10 * MINUTE), None));
    let node = world.open();
    publish(&mut world, node, 0, 6);
    world.kill(node);
    let next = world.open();
    let before: usize = world.bookies.values().map(|bookie| bookie.bytes_read).sum();
    world.pass(11 * MINUTE);
    assert_eq!(first(&world, LogKind::Message).1, 6);
    let after: usize = world.bookies.values().map(|bookie| bookie.bytes_read).sum();
    assert_eq!(after, before, "headers only");
    assert!(world.nodes[next].over.is_none());
}

#[test]
fn old_state_is_dropped_once_a_newer_ledger_has_a_whole_snapshot() {
    let mut world = world(Retention::FOREVER);
    Arc::make_mut(&mut world.config.topic).state_roll = ByteSize::new(200);
    let node = world.open();
    let of = world.subscribe(node, "s", SubscriptionMode::Shared, StartPosition::Earliest);
    publish(&mut world, node, 0, 40);
    world.consume(node, 2, of.id, 100);
    for n in 0..40 {
        world.ack(node, 2, n + 1, (n, n + 1));
    }
    let ledgers = world.view().record.state.links.len();
    assert!(ledgers > 3, "{ledgers}");
    world.pass(MINUTE);
    assert!(world.view().record.state.links.len() <= 2);
    assert!(world.view().record.state.first > LedgerSeq::new(0));
    world.kill(node);
    let next = world.open();
    world.consume(next, 3, of.id, 100);
    assert_eq!(
        world.delivered(next, 3),
        Vec::<u64>::new(),
        "all acks are known"
    );
}

#[test]
fn a_retired_shard_can_be_deleted_and_is_claimed_by_nobody_after_that() {
    let mut world = world(Retention::DEFAULT);
    let node = world.open();
    publish(&mut world, node, 0, 3);
    world.event(node, ShardEvent::Retire);
    world.pass(Duration::from_secs(1));
    assert_eq!(
        world.nodes[node].over,
        Some(Ended::Owner(ledger::Over::Retired))
    );
    assert!(world.problem(node, 100).unwrap().retry_after.is_some());
    let session = world.nodes[node].shard.setup().session;
    assert_eq!(world.view().record.owner, Some(session));
    let name = world.topic.clone();
    let Ok(Answer::Topic(Some(topic))) = world.meta.query(&Query::Topic(name.clone())) else {
        panic!("the topic is there");
    };
    let deleted = world.apply(Command::DeleteTopic {
        name,
        id: topic.id,
        session,
        epoch: world.view().record.epoch,
    });
    assert!(matches!(deleted, Reply::Topic(_)));

    let next = world.open();
    world.open_producer(next, 1, None);
    let problem = world.problem(next, 1).unwrap();
    assert_eq!(problem.reason, Reason::TopicNotFound, "{problem:?}");
    assert_eq!(world.told(next, 1).len(), 1);
    assert!(world.nodes[next].told.contains_key(&StreamId::new(1)));
}

/// An owner that does not know that its topic was deleted, and what was left of it swept away.
fn deleted_unknowingly() -> (World, usize) {
    let mut world = world(Retention::DEFAULT);
    let node = world.open();
    let name = world.topic.clone();
    let Ok(Answer::Topic(Some(topic))) = world.meta.query(&Query::Topic(name.clone())) else {
        panic!("the topic is there");
    };
    let session = world.nodes[node].shard.setup().session;
    let id = topic.id;
    let epoch = world.view().record.epoch;
    world.apply(Command::DeleteTopic {
        name,
        id,
        session,
        epoch,
    });
    let shard = world.shard;
    world.apply(Command::SweepShard { shard });
    (world, node)
}

#[test]
fn an_owner_that_reads_that_its_shard_is_no_more_is_over() {
    let (mut world, node) = deleted_unknowingly();
    world.consume(node, 2, types::SubscriptionId::new(7), 1);
    world.open_producer(node, 1, None);
    world.event(node, ShardEvent::RecordChanged);
    assert_eq!(
        world.nodes[node].over,
        Some(Ended::Owner(ledger::Over::Deleted))
    );
    let problem = world.problem(node, 1).unwrap();
    assert_eq!(problem.reason, Reason::TopicNotFound, "{problem:?}");
}

#[test]
fn an_owner_whose_command_finds_no_shard_is_over_and_does_not_repeat_it() {
    let (mut world, node) = deleted_unknowingly();
    publish(&mut world, node, 0, 1);
    assert_eq!(
        world.nodes[node].over,
        Some(Ended::Owner(ledger::Over::Deleted))
    );
    assert_eq!(world.receipts(node, 100), []);
}
