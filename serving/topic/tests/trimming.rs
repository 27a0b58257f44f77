//! What nobody needs any more, as the shard's machine tells it.

mod harness;

use harness::{World, range, small};
use topic::{Effect, Event, Position};
use types::chain::LogKind;
use types::topic::StartPosition::{Earliest, Offset as From};
use types::topic::SubscriptionMode::Shared;
use types::{LedgerId, Offset};

const LOTS: (i64, i64) = (1_000, 1_000_000);

/// The floors told since they were taken last.
fn floors(world: &mut World) -> Vec<(u64, Option<Position>, Option<LedgerId>)> {
    let told = world.take().into_iter().filter_map(|effect| match effect {
        Effect::Floor {
            offset,
            covered,
            state,
        } => Some((offset.get(), covered, state)),
        _ => None,
    });
    told.collect()
}

fn floor(world: &mut World) -> u64 {
    world.take();
    world.send(Event::FindFloor);
    world.settle();
    let told = floors(world);
    assert_eq!(told.len(), 1, "each question has one answer");
    told[0].0
}

#[test]
fn the_floor_is_what_every_subscription_has_acked() {
    let mut world = World::new(small());
    world.fill_singles(6);
    assert_eq!(floor(&mut world), 6, "nobody needs anything");
    let one = world.create(1, Shared, Earliest);
    let two = world.create(2, Shared, Earliest);
    world.settle();
    let (first, second) = (world.consume(one, LOTS), world.consume(two, LOTS));
    world.settle();
    world.ack(first, 0, &[range(0, 6)]);
    world.ack(second, 0, &[range(0, 2), range(3, 6)]);
    assert_eq!(floor(&mut world), 2);
    world.ack(second, 0, &[range(2, 3)]);
    assert_eq!(floor(&mut world), 6);
}

#[test]
fn the_floor_is_told_once_the_acks_below_it_are_durable() {
    let mut world = World::new(small());
    world.fill_singles(3);
    let id = world.create(1, Shared, Earliest);
    world.settle();
    let consumer = world.consume(id, LOTS);
    world.settle();
    world.ack(consumer, 0, &[range(0, 3)]);
    world.take();
    world.send(Event::FindFloor);
    assert_eq!(floors(&mut world), [], "the acks are not written");
    assert!(world.confirm(LogKind::State));
    assert_eq!(floors(&mut world).len(), 1);
    // After a crash the cursor is not below it.
    world.crash(0, 0);
    let acked = world.topic.acked(id).map(topic::AckSet::mark);
    assert_eq!(acked, Some(Offset::new(3)));
}

#[test]
fn what_is_about_to_be_dropped_is_where_no_new_subscription_begins() {
    let mut world = World::new(small());
    world.fill_singles(6);
    let first_offset = Offset::new(4);
    world.send(Event::Trimming { first_offset });
    // It never goes back.
    world.send(Event::Trimming {
        first_offset: Offset::new(1),
    });
    assert_eq!(world.topic.stats().first_offset, first_offset);
    for (number, start) in [(1, Earliest), (2, From(Offset::new(2)))] {
        let id = world.create(number, Shared, start);
        let acked = world.topic.acked(id).map(topic::AckSet::mark);
        assert_eq!(acked, Some(first_offset), "{start:?}");
    }
    assert_eq!(world.topic.lowest_cursor(), first_offset);
}

#[test]
fn a_snapshot_that_is_asked_for_covers_everything_confirmed() {
    let mut world = World::new(small());
    let producer = world.open_producer(Some("p"), false);
    world.settle();
    world.publish(producer, 0, &["a", "b"]);
    world.settle();
    world.take();
    world.send(Event::FindFloor);
    world.settle();
    let (_, before, _) = floors(&mut world)[0];
    world.send(Event::Cover);
    world.settle();
    world.send(Event::FindFloor);
    world.settle();
    let (_, covered, state) = floors(&mut world)[0];
    let last = world.message.entries.last().unwrap().0;
    assert_eq!(covered, Some(last));
    assert!(before < covered);
    assert_eq!(state, None, "its ledger is open");

    // A later owner that reads nothing before it knows the same.
    world.crash(0, 0);
    world.send(Event::FindFloor);
    world.settle();
    let (_, again, _) = floors(&mut world)[0];
    assert_eq!(again, covered);
}

#[test]
fn a_state_ledger_with_a_whole_snapshot_frees_the_older_ones_once_it_is_closed() {
    let mut world = World::new(small());
    world.create(1, Shared, Earliest);
    world.settle();
    let first = world.state.entries.last().unwrap().0.ledger;
    let told = |world: &mut World| {
        world.send(Event::FindFloor);
        world.settle();
        floors(world)[0].2
    };
    assert_eq!(told(&mut world), None, "its end may yet be given up");
    world.roll(LogKind::State);
    world.send(Event::Cover);
    world.settle();
    assert_eq!(told(&mut world), Some(first));
}

#[test]
fn the_bytes_of_the_log_go_on_with_the_next_owner() {
    let mut world = World::new(small());
    let producer = world.open_producer(None, false);
    world.publish(producer, 0, &["a", "b"]);
    world.publish(producer, 2, &["c"]);
    world.settle();
    let stored: u64 = world
        .stored()
        .iter()
        .map(|entry| entry.body.len() as u64)
        .sum();
    assert_eq!(world.topic.log_bytes(), stored);
    let last = world.stored().pop().unwrap();
    assert_eq!(last.header.log_bytes, stored);
    for covered in [false, true] {
        if covered {
            world.send(Event::Cover);
            world.settle();
        }
        world.crash(0, 0);
        assert_eq!(world.topic.log_bytes(), stored);
    }
}
