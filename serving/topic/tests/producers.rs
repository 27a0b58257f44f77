//! What producers are told, with and without trouble.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets the impossible stops"
)]

mod harness;

use harness::{World, small};
use topic::{Config, Effect, Event, Receipt, Stored, StreamId};
use types::chain::LogKind;
use types::{ByteSize, Offset, Problem, Reason};

fn new_at(receipt: &Receipt) -> u64 {
    match &receipt.outcome {
        Ok(Stored::New { first_offset, .. }) => first_offset.get(),
        other => panic!("{other:?}"),
    }
}

fn duplicate_at(receipt: &Receipt) -> Option<u64> {
    match &receipt.outcome {
        Ok(Stored::Duplicate { first_offset, .. }) => Some(first_offset.get()),
        Ok(Stored::DuplicateSomewhere) => None,
        other => panic!("{other:?}"),
    }
}

fn problem(receipt: &Receipt) -> &Problem {
    receipt.outcome.as_ref().unwrap_err()
}

fn expected(receipt: &Receipt) -> &str {
    let problem = problem(receipt);
    assert_eq!(problem.reason, Reason::SequenceOutOfOrder);
    &problem.metadata["expected"]
}

fn only(world: &mut World) -> Receipt {
    let mut receipts = world.receipts();
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    receipts.remove(0).1
}

/// The number after the last stored one, as a ready stream was told.
fn ready_next(world: &mut World, stream: StreamId) -> Option<u64> {
    let next = |effect: &Effect| match effect {
        Effect::ProducerReady { stream: to, ready } if *to == stream => {
            Some(ready.last_sequence.map_or(0, |last| last.get() + 1))
        }
        _ => None,
    };
    let found = world.out.iter().find_map(next);
    world.out.clear();
    found
}

fn ended(world: &mut World) -> Vec<(StreamId, Reason)> {
    let ended = world.take().into_iter().filter_map(|effect| match effect {
        Effect::EndStream { stream, problem } => Some((stream, problem.reason)),
        _ => None,
    });
    ended.collect()
}

fn open_named(world: &mut World, name: &str) -> StreamId {
    let stream = world.open_producer(Some(name), false);
    world.settle();
    assert!(ready_next(world, stream).is_some());
    stream
}

#[test]
fn a_batch_is_answered_once_it_is_confirmed_and_not_before() {
    let mut world = World::new(small());
    let stream = world.open_producer(None, false);
    world.out.clear();
    world.publish(stream, 0, &["a", "b"]);
    world.publish(stream, 2, &["c"]);
    assert_eq!(world.receipts(), []);
    assert!(world.confirm(LogKind::Message));
    assert_eq!(new_at(&only(&mut world)), 0);
    assert!(world.confirm(LogKind::Message));
    assert_eq!(new_at(&only(&mut world)), 2);
    let stored = world.stored();
    assert_eq!(stored[1].header.first_offset, Offset::new(2));
    assert_eq!(harness::payloads(&stored[0].body), ["a", "b"]);
}

#[test]
fn an_unnamed_producer_needs_no_state() {
    let mut world = World::new(small());
    let stream = world.open_producer(None, false);
    assert_eq!(ready_next(&mut world, stream), Some(0));
    world.publish(stream, 0, &["a"]);
    world.settle();
    assert_eq!(world.state.entries.len(), 0);
}

#[test]
fn a_named_producer_is_ready_once_its_epoch_is_durable() {
    let mut world = World::new(small());
    let stream = world.open_producer(Some("p"), false);
    assert_eq!(ready_next(&mut world, stream), None);
    world.publish(stream, 0, &["early"]);
    assert_eq!(problem(&only(&mut world)).reason, Reason::BadFrame);
    world.confirm(LogKind::State);
    assert_eq!(ready_next(&mut world, stream), Some(0));
}

#[test]
fn resuming_what_is_unknown_is_refused() {
    let mut world = World::new(small());
    let named = world.open_producer(Some("p"), true);
    let unnamed = world.open_producer(None, true);
    let refused = [named, unnamed].map(|stream| (stream, Reason::ProducerUnknown));
    assert_eq!(ended(&mut world), refused);
    assert_eq!(world.topic.stats().producers.streams, 0);
}

#[test]
fn an_owner_that_may_be_deposed_does_not_say_that_a_producer_is_unknown() {
    let mut world = World::new(small());
    world.send(Event::HoldDelivery { held: true });
    let held = world.open_producer(Some("p"), true);
    assert_eq!(ended(&mut world), [(held, Reason::ShardOpening)]);
    world.send(Event::HoldDelivery { held: false });
    let certain = world.open_producer(Some("p"), true);
    assert_eq!(ended(&mut world), [(certain, Reason::ProducerUnknown)]);
}

#[test]
fn a_gap_is_refused_and_consumes_nothing() {
    let mut world = World::new(small());
    let stream = world.open_producer(None, false);
    world.out.clear();
    world.publish(stream, 1, &["b"]);
    assert_eq!(expected(&only(&mut world)), "0");
    world.publish(stream, 0, &["a"]);
    world.publish(stream, 2, &["c"]);
    world.settle();
    let receipts = world.receipts();
    assert_eq!(new_at(&receipts[0].1), 0);
    assert_eq!(expected(&receipts[1].1), "1");
    assert_eq!(world.stored().len(), 1);
}

#[test]
fn receipts_come_in_the_order_of_the_batches() {
    let mut world = World::new(small());
    let stream = world.open_producer(None, false);
    world.out.clear();
    world.publish(stream, 0, &["a"]);
    world.publish(stream, 5, &["gap"]);
    world.publish(stream, 1, &["b"]);
    world.publish(stream, 0, &["a"]);
    assert_eq!(world.receipts(), []);
    world.settle();
    let order: Vec<u64> = world
        .receipts()
        .iter()
        .map(|(_, r)| r.first_sequence.get())
        .collect();
    assert_eq!(order, [0, 5, 1, 0]);
}

#[test]
fn a_repeat_in_flight_waits_for_the_original() {
    let mut world = World::new(small());
    let stream = world.open_producer(None, false);
    world.out.clear();
    world.publish(stream, 0, &["a", "b"]);
    world.publish(stream, 0, &["a", "b"]);
    world.publish(stream, 1, &["b"]);
    assert_eq!(world.receipts(), []);
    world.settle();
    let receipts = world.receipts();
    assert_eq!(new_at(&receipts[0].1), 0);
    assert_eq!(duplicate_at(&receipts[1].1), Some(0));
    assert_eq!(duplicate_at(&receipts[2].1), None);
    assert_eq!(world.stored().len(), 1);
}

/// What a repeat gets that is cut differently, after 0..2, 2..3, 3..6 were stored.
#[test]
fn repeats_get_the_position_only_when_cut_the_same() {
    let mut world = World::new(small());
    let stream = world.open_producer(None, false);
    for (first, payloads) in [(0, &["a", "b"][..]), (2, &["c"]), (3, &["d", "e", "f"])] {
        world.publish(stream, first, payloads);
        world.settle();
    }
    let cases = [
        (0, 2, Ok(Some(0))),
        (2, 1, Ok(Some(2))),
        (3, 3, Ok(Some(3))),
        (0, 1, Ok(None)),
        (1, 1, Ok(None)),
        (1, 3, Ok(None)),
        (0, 6, Ok(None)),
        (3, 4, Err("6")),
        (5, 9, Err("6")),
        (7, 1, Err("6")),
    ];
    for (first, count, wanted) in cases {
        world.out.clear();
        world.publish(stream, first, &vec!["x"; count]);
        let receipt = only(&mut world);
        let got = match &receipt.outcome {
            Ok(_) => Ok(duplicate_at(&receipt)),
            Err(_) => Err(expected(&receipt)),
        };
        assert_eq!(got, wanted, "first={first} count={count}");
    }
    assert_eq!(world.stored().len(), 3);
}

#[test]
fn a_repeat_of_long_ago_is_a_duplicate_without_a_position() {
    let mut world = World::new(small());
    let stream = world.open_producer(None, false);
    for first in 0..6 {
        world.publish(stream, first, &["x"]);
        world.settle();
    }
    world.out.clear();
    let positions: Vec<_> = (0..6)
        .map(|first| {
            world.publish(stream, first, &["x"]);
            duplicate_at(&only(&mut world))
        })
        .collect();
    assert_eq!(positions, [None, None, Some(2), Some(3), Some(4), Some(5)]);
}

#[test]
fn a_newer_stream_of_the_name_shuts_the_older_out() {
    let mut world = World::new(small());
    let older = open_named(&mut world, "p");
    world.publish(older, 0, &["a"]);
    let newer = world.open_producer(Some("p"), true);
    assert_eq!(ended(&mut world), [(older, Reason::ProducerFenced)]);
    world.publish(older, 1, &["late"]);
    // Its epoch is durable, but what the older one has in flight is not known yet.
    world.confirm(LogKind::State);
    assert_eq!(ready_next(&mut world, newer), None);
    world.confirm(LogKind::Message);
    assert_eq!(ready_next(&mut world, newer), Some(1));
    world.publish(newer, 1, &["b"]);
    world.settle();
    let texts: Vec<_> = world
        .stored()
        .iter()
        .flat_map(|e| harness::payloads(&e.body))
        .collect();
    assert_eq!(texts, ["a", "b"]);
}

#[test]
fn a_full_window_refuses_before_anything_is_appended() {
    let mut world = World::new(small());
    let stream = world.open_producer(None, false);
    world.out.clear();
    for first in 0..5 {
        world.publish(stream, first, &["x"]);
    }
    assert_eq!(world.message.entries.len(), 3);
    world.settle();
    let receipts = world.receipts();
    assert_eq!(problem(&receipts[3].1).reason, Reason::Overloaded);
    assert!(problem(&receipts[3].1).retry_after.is_some());
    assert_eq!(expected(&receipts[4].1), "3");
    world.publish(stream, 3, &["other"]);
    world.settle();
    assert_eq!(new_at(&only(&mut world)), 3);
}

#[test]
fn one_batch_is_always_allowed() {
    let tiny = Config {
        producer_messages_max: 1,
        producer_bytes_max: ByteSize::new(1),
        in_flight_bytes_max: ByteSize::new(1),
        ..small()
    };
    let mut world = World::new(tiny);
    let stream = world.open_producer(None, false);
    world.out.clear();
    world.publish(stream, 0, &["a", "b", "c"]);
    world.publish(stream, 3, &["d"]);
    world.settle();
    let receipts = world.receipts();
    assert_eq!(new_at(&receipts[0].1), 0);
    assert_eq!(problem(&receipts[1].1).reason, Reason::Overloaded);
}

#[test]
fn waiting_receipts_are_bounded() {
    let mut world = World::new(small());
    let stream = world.open_producer(None, false);
    world.publish(stream, 0, &["a"]);
    for _ in 0..20 {
        world.publish(stream, 0, &["a"]);
    }
    assert_eq!(ended(&mut world), [(stream, Reason::LimitReached)]);
    world.settle();
    assert_eq!(world.stored().len(), 1);
}

#[test]
fn publishing_on_hold_is_refused_while_repeats_are_answered() {
    let mut world = World::new(small());
    let stream = world.open_producer(None, false);
    world.publish(stream, 0, &["a"]);
    world.settle();
    world.out.clear();
    let problem = Problem::new(Reason::InsufficientBookies, "too few bookies");
    world.send(Event::HoldPublishing {
        problem: Some(problem.clone()),
    });
    world.publish(stream, 1, &["b"]);
    world.publish(stream, 0, &["a"]);
    let receipts = world.receipts();
    assert_eq!(receipts[0].1.outcome, Err(problem));
    assert_eq!(duplicate_at(&receipts[1].1), Some(0));
    world.send(Event::HoldPublishing { problem: None });
    world.publish(stream, 1, &["b"]);
    world.settle();
    assert_eq!(new_at(&only(&mut world)), 1);
}

#[test]
fn empty_and_overflowing_batches_are_refused() {
    let mut world = World::new(small());
    let stream = world.open_producer(None, false);
    world.out.clear();
    world.publish(stream, 0, &[]);
    assert_eq!(problem(&only(&mut world)).reason, Reason::MalformedBatch);
    world.publish(stream, u64::MAX, &["a", "b"]);
    assert_eq!(
        problem(&only(&mut world)).field.as_deref(),
        Some("first_sequence_id")
    );
    world.publish(stream, 0, &["still usable"]);
    world.settle();
    assert_eq!(new_at(&only(&mut world)), 0);
}

#[test]
fn a_unary_publish_is_a_stream_of_one_batch() {
    let mut world = World::new(small());
    let stream = world.stream();
    world.send(Event::PublishOnce {
        stream,
        count: 2,
        body: harness::batch(&["a", "b"]).into(),
    });
    assert_eq!(world.receipts(), []);
    world.settle();
    assert_eq!(new_at(&only(&mut world)), 0);
    assert_eq!(world.topic.stats().producers.streams, 0);
}

#[test]
fn a_finished_stream_is_answered_first() {
    let mut world = World::new(small());
    let stream = world.open_producer(None, false);
    world.out.clear();
    world.publish(stream, 0, &["a"]);
    world.send(Event::FinishStream { stream });
    assert_eq!(world.out, []);
    world.settle();
    let out = world.take();
    assert!(matches!(
        out[..],
        [Effect::Receipt { .. }, Effect::Finished { .. }]
    ));
}

#[test]
fn names_unused_for_the_longest_are_forgotten() {
    let mut world = World::new(small());
    for (first, name) in ["a", "b", "c"].into_iter().enumerate() {
        let stream = open_named(&mut world, name);
        world.publish(stream, 0, &["x"]);
        world.settle();
        if first != 1 {
            world.send(Event::CloseStream { stream });
        }
    }
    // `a` is the oldest that nobody uses.
    let fourth = open_named(&mut world, "d");
    let again = world.open_producer(Some("a"), true);
    assert_eq!(ended(&mut world), [(again, Reason::ProducerUnknown)]);
    // Then `c`; and then all are in use.
    let fifth = open_named(&mut world, "e");
    let sixth = world.open_producer(Some("f"), false);
    assert_eq!(ended(&mut world), [(sixth, Reason::LimitReached)]);
    for stream in [fourth, fifth] {
        world.send(Event::CloseStream { stream });
    }
    // A forgotten name begins anew, also for the next owner.
    let anew = world.open_producer(Some("a"), false);
    world.settle();
    assert_eq!(ready_next(&mut world, anew), Some(0));
    world.publish(anew, 0, &["anew"]);
    world.settle();
    world.crash(0, 0);
    let resumed = world.open_producer(Some("a"), true);
    world.settle();
    assert_eq!(ready_next(&mut world, resumed), Some(1));
}

#[test]
fn a_forgotten_name_that_came_back_does_not_inherit_its_older_numbers() {
    let mut world = World::new(small());
    let older = open_named(&mut world, "a");
    world.publish(older, 0, &["x"]);
    world.settle();
    world.send(Event::CloseStream { stream: older });
    for name in ["b", "c"] {
        open_named(&mut world, name);
    }
    let idle = open_named(&mut world, "d");
    world.send(Event::CloseStream { stream: idle });
    let anew = world.open_producer(Some("a"), false);
    world.settle();
    assert_eq!(ready_next(&mut world, anew), Some(0));
    world.crash(0, 0);
    let resumed = world.open_producer(Some("a"), true);
    world.settle();
    // Else its first message would be taken for a repeat, and lost.
    assert_eq!(ready_next(&mut world, resumed), Some(0));
}

#[test]
fn the_next_owner_knows_what_the_log_knows() {
    let mut world = World::new(small());
    let stream = open_named(&mut world, "p");
    for first in 0..3 {
        world.publish(stream, first, &["x"]);
    }
    world.confirm(LogKind::Message);
    // Two are in flight; recovery finds one of them.
    world.crash(1, 0);
    let stream = world.open_producer(Some("p"), true);
    world.settle();
    assert_eq!(ready_next(&mut world, stream), Some(2));
    for first in 0..3 {
        world.publish(stream, first, &["x"]);
    }
    world.settle();
    let receipts = world.receipts();
    assert_eq!(duplicate_at(&receipts[0].1), Some(0));
    assert_eq!(duplicate_at(&receipts[1].1), Some(1));
    assert_eq!(new_at(&receipts[2].1), 2);
    assert_eq!(world.stored().len(), 3);
}

#[test]
fn a_snapshot_each_so_many_bytes_saves_headers() {
    let config = Config {
        snapshot_every: ByteSize::new(20),
        ..small()
    };
    let mut world = World::new(config);
    let stream = open_named(&mut world, "p");
    for first in 0..20 {
        world.publish(stream, first, &["xxxxx"]);
        world.settle();
    }
    let snapshots = world.state.entries.len();
    assert!((6..=12).contains(&snapshots), "{snapshots}");
    world.crash(0, 0);
    let stream = world.open_producer(Some("p"), true);
    world.settle();
    assert_eq!(ready_next(&mut world, stream), Some(20));
    world.out.clear();
    world.publish(stream, 18, &["xxxxx"]);
    assert_eq!(duplicate_at(&only(&mut world)), Some(18));
}

#[test]
fn an_owner_that_is_over_ends_every_stream_and_hears_nothing_more() {
    let mut world = World::new(small());
    let stream = world.open_producer(None, false);
    world.publish(stream, 0, &["a"]);
    world.out.clear();
    let problem = Problem::new(Reason::NotOwner, "another node owns the shard");
    world.send(Event::Over { problem });
    assert_eq!(ended(&mut world), [(stream, Reason::NotOwner)]);
    world.settle();
    assert_eq!(world.out, []);
    assert_eq!(world.topic.deadline(), None);
}
