//! What consumers get, and what becomes of what they do with it.

mod harness;

use std::time::Duration;

use harness::{World, range, small, subscription};
use topic::{
    Ack, BlockedReason, Config, Effect, Event, Extend, Nack, OffsetRange, OpenConsumer, StreamId,
};
use types::batch::Codecs;
use types::chain::LogKind;
use types::topic::{StartPosition, SubscriptionMode};
use types::{Generation, Offset, Problem, Reason, SubscriptionId};

use StartPosition::{Earliest, Latest};
use SubscriptionMode::{Exclusive, Shared};

const LOTS: (i64, i64) = (1_000, 1_000_000);
const SECOND: Duration = Duration::from_secs(1);
const GENERATION: Generation = Generation::new(1);

/// A shard with a subscription and single messages `0`, `1`, ….
fn world(mode: SubscriptionMode, messages: u64) -> (World, SubscriptionId) {
    let mut world = World::new(small());
    let id = world.create(1, mode, Earliest);
    world.settle();
    world.fill_singles(messages);
    (world, id)
}

fn texts(delivered: &[(String, u32)]) -> Vec<&str> {
    delivered.iter().map(|(text, _)| text.as_str()).collect()
}

/// Texts with attempts, as `2×1` for the second attempt of message 1.
fn shown(delivered: &[(String, u32)]) -> String {
    let shown: Vec<String> = delivered
        .iter()
        .map(|(text, n)| format!("{n}×{text}"))
        .collect();
    shown.join(" ")
}

fn ended(world: &mut World) -> Vec<Problem> {
    let ended = world.take().into_iter().filter_map(|effect| match effect {
        Effect::EndStream { problem, .. } => Some(problem),
        _ => None,
    });
    ended.collect()
}

fn refused(world: &mut World) -> Vec<Problem> {
    let refused = world.take().into_iter().filter_map(|effect| match effect {
        Effect::Refuse { problem, .. } => Some(problem),
        _ => None,
    });
    refused.collect()
}

fn open(id: SubscriptionId, stream: StreamId) -> OpenConsumer {
    OpenConsumer {
        stream,
        subscription: id,
        mode: None,
        name: None,
        ack_deadline: None,
        confirm_acks: false,
        permits: (0, 0),
        codecs: Codecs::NONE,
    }
}

fn nack(stream: StreamId, ranges: &[OffsetRange], delay: Option<Duration>) -> Event {
    Event::Nack(Nack {
        stream,
        request_id: 7,
        generation: GENERATION,
        ranges: ranges.to_vec(),
        delay,
    })
}

fn cumulative(stream: StreamId, end: u64) -> Event {
    Event::Ack(Ack {
        stream,
        request_id: 7,
        generation: GENERATION,
        ranges: Vec::new(),
        cumulative_end: Some(Offset::new(end)),
    })
}

/// The reasons an answer names, with their ranges.
fn answer(world: &mut World) -> Vec<(Option<OffsetRange>, Reason)> {
    let mut results = world.ack_results();
    assert_eq!(results.len(), 1, "{results:?}");
    let problems = results.remove(0).problems;
    problems
        .into_iter()
        .map(|found| (found.range, found.problem.reason))
        .collect()
}

#[test]
fn a_subscription_is_usable_once_its_cursor_is_durable() {
    let mut world = World::new(small());
    let id = world.create(1, Exclusive, Earliest);
    world.consume(id, LOTS);
    assert_eq!(ended(&mut world)[0].reason, Reason::ShardOpening);
    world.settle();
    let durable = Effect::CursorDurable {
        subscription: id,
        generation: GENERATION,
    };
    assert_eq!(world.take(), std::slice::from_ref(&durable));
    world.send(Event::CreateCursor {
        subscription: subscription(1, Exclusive, Earliest),
    });
    assert_eq!(world.take(), [durable]);
    world.consume(id, LOTS);
    assert!(matches!(world.take()[..], [Effect::ConsumerReady { .. }]));
}

#[test]
fn subscriptions_begin_where_they_were_told() {
    let mut world = World::new(small());
    world.fill_singles(4);
    let cases = [
        (1, Earliest, 0),
        (2, Latest, 4),
        (3, StartPosition::Offset(Offset::new(2)), 2),
    ];
    for (id, start, cursor) in cases {
        let id = world.create(id, Exclusive, start);
        world.settle();
        assert_eq!(world.topic.acked(id).unwrap().mark().get(), cursor);
    }
    let fourth = world.create(4, Exclusive, Earliest);
    let refusals = world.take().into_iter().filter(|effect| {
        matches!(effect, Effect::CursorRefused { subscription, .. } if *subscription == fourth)
    });
    assert_eq!(refusals.count(), 1);
}

#[test]
fn a_start_beyond_the_end_is_the_end() {
    let mut world = World::new(small());
    world.fill_singles(4);
    let id = world.create(1, Exclusive, StartPosition::Offset(Offset::new(99)));
    world.settle();
    assert_eq!(world.topic.acked(id).unwrap().mark().get(), 4);
}

#[test]
fn only_confirmed_messages_are_delivered() {
    let (mut world, id) = world(Exclusive, 0);
    let consumer = world.consume(id, LOTS);
    let producer = world.open_producer(None, false);
    world.publish(producer, 0, &["a"]);
    assert!(world.reads.is_empty());
    world.settle();
    assert_eq!(texts(&world.delivered_to(consumer)), ["a"]);
}

#[test]
fn an_exclusive_subscription_has_one_consumer() {
    let (mut world, id) = world(Exclusive, 3);
    let first = world.consume(id, LOTS);
    world.take();
    world.consume(id, LOTS);
    let problem = ended(&mut world).remove(0);
    assert_eq!(problem.reason, Reason::ExclusiveHeld);
    assert_eq!(problem.metadata["holder"], format!("c{}", first.get()));
    world.send(Event::CloseStream { stream: first });
    let second = world.consume(id, LOTS);
    world.settle();
    assert_eq!(texts(&world.delivered_to(second)), ["0", "1", "2"]);
}

#[test]
fn bad_openings_are_refused() {
    let (mut world, id) = world(Exclusive, 0);
    let mut reason = |change: &dyn Fn(&mut OpenConsumer)| {
        let stream = world.stream();
        let mut open = open(id, stream);
        change(&mut open);
        world.take();
        world.send(Event::OpenConsumer(open));
        ended(&mut world).remove(0).reason
    };
    let missing = SubscriptionId::new(99);
    assert_eq!(
        reason(&|open| open.subscription = missing),
        Reason::SubscriptionNotFound
    );
    assert_eq!(reason(&|open| open.mode = Some(Shared)), Reason::WrongMode);
    assert_eq!(reason(&|open| open.permits = (-1, 0)), Reason::BadField);
    assert_eq!(reason(&|open| open.permits = (0, -1)), Reason::BadField);
    assert_eq!(
        reason(&|open| open.ack_deadline = Some(Duration::ZERO)),
        Reason::BadField
    );
}

#[test]
fn consumers_of_a_subscription_are_bounded() {
    let (mut world, id) = world(Shared, 0);
    for _ in 0..4 {
        world.consume(id, LOTS);
    }
    assert_eq!(ended(&mut world)[0].reason, Reason::LimitReached);
}

#[test]
fn nothing_is_sent_beyond_the_grants_and_grants_add_up() {
    let (mut world, id) = world(Exclusive, 10);
    let consumer = world.consume(id, (2, 1_000));
    world.settle();
    assert_eq!(texts(&world.delivered_to(consumer)), ["0", "1"]);
    let grant = |messages, bytes| Event::Permits {
        stream: consumer,
        messages,
        bytes,
    };
    world.send(grant(1, 0));
    world.send(grant(2, 0));
    world.settle();
    assert_eq!(texts(&world.delivered_to(consumer)), ["2", "3", "4"]);
    for (messages, bytes) in [(-1, 0), (0, -1), (i64::MAX, i64::MAX)] {
        world.send(grant(messages, bytes));
        assert_eq!(refused(&mut world)[0].reason, Reason::BadField);
    }
    world.settle();
    assert_eq!(world.delivered_to(consumer), []);
}

#[test]
fn the_last_message_may_overdraw_the_bytes() {
    let (mut world, id) = world(Exclusive, 10);
    // Each message is 5 bytes of batch: one fits, the second overdraws by 4.
    let consumer = world.consume(id, (10, 6));
    world.settle();
    assert_eq!(texts(&world.delivered_to(consumer)), ["0", "1"]);
    let grant = |bytes| Event::Permits {
        stream: consumer,
        messages: 0,
        bytes,
    };
    world.send(grant(4));
    world.settle();
    assert_eq!(world.delivered_to(consumer), []);
    world.send(grant(1));
    world.settle();
    assert_eq!(texts(&world.delivered_to(consumer)), ["2"]);
}

#[test]
fn batches_are_cut_at_permits_and_counted_by_message() {
    let mut world = World::new(small());
    let id = world.create(1, Exclusive, Earliest);
    world.settle();
    world.fill(&[&["a", "b", "c", "d", "e"]]);
    let consumer = world.consume(id, (2, 1_000));
    world.settle();
    let deliveries = world.deliveries();
    let (_, delivery) = &deliveries[0];
    assert_eq!(harness::payloads_of(&delivery.batch), ["a", "b"]);
    assert_eq!((delivery.first_offset.get(), delivery.count), (0, 2));
    world.send(Event::Permits {
        stream: consumer,
        messages: 100,
        bytes: 0,
    });
    world.settle();
    let deliveries = world.deliveries();
    let (_, delivery) = &deliveries[0];
    assert_eq!(harness::payloads_of(&delivery.batch), ["c", "d", "e"]);
    assert_eq!(
        (delivery.first_offset.get(), delivery.first_sequence.get()),
        (2, 2)
    );
}

#[test]
fn shared_consumers_take_turns() {
    let (mut world, id) = world(Shared, 0);
    let consumers = [(); 3].map(|()| world.consume(id, LOTS));
    world.take();
    world.fill_singles_kept(6);
    let deliveries = world.deliveries();
    for consumer in consumers {
        let own = deliveries.iter().filter(|(to, _)| *to == consumer);
        assert_eq!(own.count(), 2);
    }
}

#[test]
fn a_lease_that_lapses_is_another_attempt() {
    let (mut world, id) = world(Shared, 2);
    let slow = world.consume(id, (2, 1_000));
    world.settle();
    world.take();
    let other = world.consume(id, LOTS);
    world.pass(29 * SECOND);
    assert_eq!(world.delivered_to(other), []);
    world.pass(2 * SECOND);
    assert_eq!(shown(&world.delivered_to(other)), "2×0 2×1");
    world.ack(slow, 7, &[range(0, 1)]);
    world.settle();
    let lost = answer(&mut world);
    assert_eq!(lost, [(Some(range(0, 1)), Reason::LeaseLost)]);
}

#[test]
fn a_late_ack_counts_while_nobody_else_holds_the_message() {
    let (mut world, id) = world(Shared, 2);
    let slow = world.consume(id, (2, 1_000));
    world.settle();
    world.take();
    world.pass(31 * SECOND);
    world.ack(slow, 7, &[range(0, 2)]);
    world.settle();
    assert_eq!(answer(&mut world), []);
    let other = world.consume(id, LOTS);
    world.pass(31 * SECOND);
    assert_eq!(world.delivered_to(other), []);
}

#[test]
fn what_others_hold_does_not_spoil_the_rest_of_an_ack() {
    let (mut world, id) = world(Shared, 6);
    let first = world.consume(id, (2, 1_000));
    world.settle();
    let second = world.consume(id, (2, 1_000));
    world.settle();
    world.take();
    world.ack(second, 7, &[range(0, 6)]);
    world.settle();
    assert_eq!(answer(&mut world), [(Some(range(0, 2)), Reason::LeaseLost)]);
    let acked = world.topic.acked(id).unwrap();
    assert_eq!((acked.mark().get(), acked.above().count()), (0, 4));
    world.ack(first, 7, &[range(0, 2)]);
    world.settle();
    assert_eq!(world.topic.acked(id).unwrap().mark().get(), 6);
}

#[test]
fn an_extended_lease_lives_longer_and_a_lost_one_does_not() {
    let (mut world, id) = world(Shared, 2);
    let consumer = world.consume(id, (2, 1_000));
    world.settle();
    world.take();
    let extend = |ranges: &[OffsetRange]| {
        Event::Extend(Extend {
            stream: consumer,
            request_id: 7,
            generation: GENERATION,
            ranges: ranges.to_vec(),
            deadline: Some(60 * SECOND),
        })
    };
    world.pass(20 * SECOND);
    world.take();
    world.send(extend(&[range(0, 1)]));
    assert_eq!(answer(&mut world), []);
    world.pass(20 * SECOND);
    let stats = &world.topic.stats().subscriptions[0];
    assert_eq!((stats.unacked, stats.waiting), (1, 1));
    world.take();
    world.send(extend(&[range(0, 2)]));
    assert_eq!(answer(&mut world), [(Some(range(1, 2)), Reason::LeaseLost)]);
}

#[test]
fn nacked_messages_come_again_at_once_or_later() {
    let (mut world, id) = world(Exclusive, 3);
    let consumer = world.consume(id, LOTS);
    world.settle();
    world.take();
    world.send(nack(consumer, &[range(1, 2)], None));
    world.settle();
    assert_eq!(shown(&world.delivered_to(consumer)), "2×1");
    world.send(nack(consumer, &[range(0, 2)], Some(5 * SECOND)));
    world.pass(4 * SECOND);
    assert_eq!(world.delivered_to(consumer), []);
    world.pass(2 * SECOND);
    assert_eq!(shown(&world.delivered_to(consumer)), "2×0 3×1");
    world.send(nack(consumer, &[range(2, 9)], None));
    let problems = answer(&mut world);
    assert_eq!(problems, [(Some(range(3, 9)), Reason::LeaseLost)]);
}

#[test]
fn a_consumer_that_is_gone_releases_what_it_held() {
    let (mut world, id) = world(Shared, 4);
    let first = world.consume(id, LOTS);
    world.settle();
    world.ack(first, 0, &[range(1, 2)]);
    world.take();
    let second = world.consume(id, LOTS);
    world.send(Event::CloseStream { stream: first });
    world.settle();
    assert_eq!(shown(&world.delivered_to(second)), "2×0 2×2 2×3");
}

#[test]
fn redeliveries_come_before_new_messages() {
    let (mut world, id) = world(Exclusive, 6);
    let consumer = world.consume(id, (3, 1_000));
    world.settle();
    world.take();
    world.send(nack(consumer, &[range(0, 3)], None));
    world.send(Event::Permits {
        stream: consumer,
        messages: 100,
        bytes: 0,
    });
    world.settle();
    assert_eq!(
        shown(&world.delivered_to(consumer)),
        "2×0 2×1 2×2 1×3 1×4 1×5"
    );
}

#[test]
fn cumulative_acks_need_an_order_and_do_not_pass_what_exists() {
    let (mut world, id) = world(Exclusive, 3);
    let consumer = world.consume(id, LOTS);
    world.settle();
    world.take();
    world.send(cumulative(consumer, 4));
    world.settle();
    assert_eq!(
        answer(&mut world),
        [(Some(range(0, 4)), Reason::AckOutOfRange)]
    );
    world.send(cumulative(consumer, 2));
    world.settle();
    assert_eq!(answer(&mut world), []);
    assert_eq!(world.topic.acked(id).unwrap().mark().get(), 2);

    let (mut world, id) = self::world(Shared, 3);
    let consumer = world.consume(id, LOTS);
    world.take();
    world.send(cumulative(consumer, 2));
    assert_eq!(answer(&mut world), [(None, Reason::WrongMode)]);
}

#[test]
fn bad_acks_are_refused_as_a_whole() {
    let (mut world, id) = world(Exclusive, 3);
    let consumer = world.consume(id, LOTS);
    world.settle();
    world.take();
    let mut reason = |generation, ranges: Vec<OffsetRange>| {
        world.send(Event::Ack(Ack {
            stream: consumer,
            request_id: 7,
            generation: Generation::new(generation),
            ranges,
            cumulative_end: None,
        }));
        answer(&mut world)
    };
    let whole = |reason| vec![(None, reason)];
    assert_eq!(reason(0, vec![range(0, 1)]), whole(Reason::GenerationOld));
    assert_eq!(
        reason(1, vec![range(0, 1), range(2, 2)]),
        whole(Reason::BadField)
    );
    assert_eq!(
        reason(1, vec![range(0, 1); 11]),
        whole(Reason::LimitReached)
    );
    assert_eq!(world.topic.acked(id).unwrap().mark().get(), 0);
}

#[test]
fn an_ack_is_confirmed_once_it_is_durable() {
    let (mut world, id) = world(Exclusive, 3);
    let consumer = world.consume(id, LOTS);
    world.settle();
    world.take();
    world.ack(consumer, 1, &[range(0, 1)]);
    world.ack(consumer, 2, &[range(1, 2)]);
    world.ack(consumer, 3, &[range(0, 2)]);
    assert_eq!(world.ack_results(), []);
    // One write is in flight; the second takes all that gathered.
    assert!(world.confirm(LogKind::State));
    let confirmed: Vec<_> = world
        .ack_results()
        .iter()
        .map(|result| result.request_id)
        .collect();
    assert_eq!(confirmed, [1]);
    assert!(world.confirm(LogKind::State));
    let confirmed: Vec<_> = world
        .ack_results()
        .iter()
        .map(|result| result.request_id)
        .collect();
    assert_eq!(confirmed, [2, 3]);
    assert!(!world.confirm(LogKind::State));
    world.ack(consumer, 4, &[range(0, 2)]);
    assert!(world.ack_results()[0].confirmed);
}

#[test]
fn acks_nobody_waits_for_are_written_a_little_later() {
    let (mut world, id) = world(Exclusive, 3);
    let consumer = world.consume_as(id, LOTS, false);
    world.settle();
    world.take();
    let before = world.state.entries.len();
    world.ack(consumer, 1, &[range(0, 1)]);
    world.ack(consumer, 0, &[range(1, 2)]);
    let results = world.ack_results();
    assert_eq!(results.len(), 1);
    assert!(!results[0].confirmed);
    assert_eq!(world.state.entries.len(), before);
    world.pass(SECOND);
    assert_eq!(world.state.entries.len(), before + 1);
    world.crash(0, 0);
    assert_eq!(world.topic.acked(id).unwrap().mark().get(), 2);
}

#[test]
fn confirmed_acks_that_wait_are_bounded() {
    let (mut world, id) = world(Exclusive, 10);
    let consumer = world.consume(id, LOTS);
    world.settle();
    world.take();
    for n in 0..5 {
        world.ack(consumer, n + 1, &[range(n, n + 1)]);
    }
    assert_eq!(answer(&mut world), [(None, Reason::Overloaded)]);
    assert_eq!(world.topic.acked(id).unwrap().mark().get(), 4);
}

#[test]
fn a_finished_consumer_hears_of_its_acks_first() {
    let (mut world, id) = world(Exclusive, 3);
    let consumer = world.consume(id, LOTS);
    world.settle();
    world.take();
    world.ack(consumer, 1, &[range(0, 1)]);
    world.send(Event::FinishStream { stream: consumer });
    assert_eq!(world.take(), []);
    // What it held is free at once, and so is the subscription.
    let next = world.consume(id, LOTS);
    world.settle();
    let out = world.take();
    let finished = out
        .iter()
        .position(|effect| matches!(effect, Effect::Finished { .. }));
    let answered = out
        .iter()
        .position(|effect| matches!(effect, Effect::AckResult { .. }));
    assert!(answered.unwrap() < finished.unwrap());
    world.out = out;
    assert_eq!(shown(&world.delivered_to(next)), "2×1 2×2");
}

#[test]
fn unacked_messages_are_bounded_and_the_consumer_hears_why_it_waits() {
    let config = Config {
        unacked_max: 2,
        ..small()
    };
    let mut world = World::new(config);
    let id = world.create(1, Exclusive, Earliest);
    world.settle();
    world.fill_singles(5);
    let consumer = world.consume(id, LOTS);
    world.settle();
    assert_eq!(texts(&world.delivered_to(consumer)), ["0", "1"]);
    world.pass(11 * SECOND);
    let heartbeats = world.take();
    let [Effect::Heartbeat { heartbeat, .. }] = &heartbeats[..] else {
        panic!("{heartbeats:?}");
    };
    assert_eq!(heartbeat.backlog, 5);
    assert_eq!(heartbeat.blocked, Some(BlockedReason::UnackedLimit));
    world.ack(consumer, 0, &[range(0, 1)]);
    world.settle();
    assert_eq!(texts(&world.delivered_to(consumer)), ["2"]);
}

#[test]
fn a_failed_read_is_asked_again() {
    let (mut world, id) = world(Exclusive, 2);
    let consumer = world.consume(id, LOTS);
    for is_failure in [true, false] {
        let read = world.reads.pop_front().unwrap();
        assert!(world.reads.is_empty());
        world.send(if is_failure {
            Event::ReadFailed {
                subscription: id,
                read: read.read,
                problem: Problem::new(Reason::Unreachable, "bookie is away"),
            }
        } else {
            Event::EntriesRead {
                subscription: id,
                read: read.read,
                entries: Vec::new(),
            }
        });
        assert!(world.reads.is_empty());
        world.now = world.topic.deadline().unwrap();
        world.send(Event::Deadline);
    }
    world.settle();
    assert_eq!(texts(&world.delivered_to(consumer)), ["0", "1"]);
}

#[test]
fn nothing_is_delivered_while_held() {
    let (mut world, id) = world(Exclusive, 2);
    let consumer = world.consume(id, LOTS);
    world.send(Event::HoldDelivery { held: true });
    world.settle();
    assert_eq!(world.delivered_to(consumer), []);
    world.send(Event::HoldDelivery { held: false });
    world.settle();
    assert_eq!(texts(&world.delivered_to(consumer)), ["0", "1"]);
}

#[test]
fn an_owner_that_is_not_certain_never_says_that_there_is_no_subscription() {
    let (mut world, _) = world(Exclusive, 0);
    let unknown = SubscriptionId::new(77);
    for (held, reason) in [
        (true, Reason::ShardOpening),
        (false, Reason::SubscriptionNotFound),
    ] {
        world.send(Event::HoldDelivery { held });
        world.consume(unknown, LOTS);
        assert_eq!(ended(&mut world)[0].reason, reason, "held={held}");
    }
}

#[test]
fn frames_on_the_wrong_stream_are_refused() {
    let (mut world, id) = world(Exclusive, 2);
    let consumer = world.consume(id, LOTS);
    let producer = world.open_producer(None, false);
    world.take();
    world.publish(consumer, 0, &["a"]);
    world.ack(producer, 1, &[range(0, 1)]);
    let reasons: Vec<_> = refused(&mut world)
        .iter()
        .map(|problem| problem.reason)
        .collect();
    assert_eq!(reasons, [Reason::BadFrame, Reason::BadFrame]);
}

#[test]
fn the_next_owner_delivers_what_was_not_acked_as_a_first_attempt() {
    let (mut world, id) = world(Shared, 4);
    let consumer = world.consume(id, LOTS);
    world.settle();
    world.ack(consumer, 1, &[range(1, 3)]);
    world.settle();
    world.crash(0, 0);
    let consumer = world.consume(id, LOTS);
    world.settle();
    assert_eq!(shown(&world.delivered_to(consumer)), "1×0 1×3");
}

#[test]
fn an_ack_of_what_the_last_owner_delivered_counts() {
    let (mut world, id) = world(Shared, 4);
    world.crash(0, 0);
    let consumer = world.consume(id, (0, 0));
    world.take();
    world.ack(consumer, 1, &[range(0, 4)]);
    world.settle();
    assert_eq!(answer(&mut world), []);
    assert_eq!(world.topic.stats().subscriptions[0].backlog, 0);
}

#[test]
fn cursors_that_meta_does_not_know_are_dropped_and_missing_ones_are_an_alarm() {
    let (mut world, _) = world(Shared, 4);
    let mut other = subscription(2, Shared, Latest);
    other.state = types::topic::SubscriptionState::Active;
    world.subscriptions = vec![other];
    world.crash(0, 0);
    assert_eq!(
        (world.notes.cursors_dropped, world.notes.cursors_missing),
        (1, 1)
    );
    let stats = world.topic.stats();
    assert_eq!(stats.subscriptions.len(), 1);
    assert_eq!(stats.subscriptions[0].backlog, 4);
}

#[test]
fn a_deleted_subscription_ends_its_consumers_and_is_forgotten_by_every_owner() {
    let (mut world, id) = world(Shared, 4);
    let consumer = world.consume(id, LOTS);
    world.settle();
    world.take();
    // Acks that gather when it goes are written all the same, and read back without harm.
    world.ack(consumer, 0, &[range(1, 3)]);
    world.send(Event::DropSubscription { subscription: id });
    let ends = ended(&mut world);
    assert_eq!(
        ends.iter().map(|end| end.reason).collect::<Vec<_>>(),
        [Reason::SubscriptionNotFound]
    );
    assert_eq!(world.topic.stats().subscriptions, []);
    world.send(Event::DropSubscription { subscription: id });
    world.consume(id, LOTS);
    assert_eq!(ended(&mut world)[0].reason, Reason::SubscriptionNotFound);
    world.subscriptions.clear();
    world.pass(Duration::from_secs(1));
    world.settle();
    world.crash(0, 0);
    assert_eq!(
        (world.notes.cursors_dropped, world.notes.cursors_missing),
        (1, 0)
    );
    // Another one of its name begins anew, now and after the owner has changed.
    world.create(9, Shared, Earliest);
    let again = SubscriptionId::new(9);
    world.roll(LogKind::State);
    world.settle();
    world.pass(Duration::from_secs(1));
    world.settle();
    world.crash(0, 0);
    assert_eq!(world.notes.cursors_missing, 0);
    let consumer = world.consume(again, LOTS);
    world.settle();
    assert_eq!(shown(&world.delivered_to(consumer)), "1×0 1×1 1×2 1×3");
}

#[test]
fn a_subscription_being_created_when_the_owner_died_is_created_again() {
    let mut world = World::new(small());
    world.create(1, Exclusive, Earliest);
    world.crash(0, 0);
    assert_eq!(world.topic.stats().subscriptions, []);
    world.send(Event::CreateCursor {
        subscription: subscription(1, Exclusive, Earliest),
    });
    world.settle();
    assert!(matches!(world.take()[..], [Effect::CursorDurable { .. }]));
}

#[test]
fn a_snapshot_begins_every_state_ledger() {
    let (mut world, id) = world(Exclusive, 20);
    let consumer = world.consume(id, LOTS);
    world.settle();
    for n in 0..10 {
        if n % 4 == 3 {
            world.roll(LogKind::State);
        }
        world.ack(consumer, n + 1, &[range(2 * n, 2 * n + 1)]);
        world.settle();
    }
    world.crash(0, 0);
    let acked = world.topic.acked(id).unwrap();
    assert_eq!((acked.mark().get(), acked.above().count()), (1, 9));
}

/// Else a cumulative ack of what came first would ack the older messages unseen.
#[test]
fn exclusive_consumer_begins_with_the_oldest_message_whatever_was_being_read() {
    let (mut world, id) = world(Exclusive, 4);
    let first = world.consume(id, (2, 1_000_000));
    world.settle();
    assert_eq!(texts(&world.delivered_to(first)), ["0", "1"]);
    // A read from message 2 is under way when the consumer breaks, and 0 and 1 come back.
    let (messages, bytes) = (2, 0);
    world.send(Event::Permits {
        stream: first,
        messages,
        bytes,
    });
    world.send(Event::CloseStream { stream: first });
    let second = world.consume(id, LOTS);
    world.settle();
    let delivered = world.delivered_to(second);
    assert_eq!(texts(&delivered), ["0", "1", "2", "3"]);
}
