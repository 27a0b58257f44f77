//! Compressed batches: stored and delivered as they came, opened where a part is wanted or a consumer cannot.

mod harness;

use std::time::Duration;

use harness::{World, batch, compressed, payloads, payloads_of, range, small};
use topic::{
    BatchFault, BlockedReason, Delivery, Effect, Event, Nack, Publish, StoredEntry, StreamId,
    Unreadable,
};
use types::batch::{Body, Codec, Codecs};
use types::topic::{StartPosition, SubscriptionMode};
use types::{Generation, Offset, SequenceId, SubscriptionId};

const LZ4: Codecs = Codecs::NONE.with(Codec::Lz4);

/// A shard with two compressed batches, of six messages each, and a subscription.
fn world() -> (World, SubscriptionId, [Body; 2]) {
    let mut world = World::new(small());
    let id = world.create(1, SubscriptionMode::Shared, StartPosition::Earliest);
    let producer = world.open_producer(None, false);
    let bodies = [
        ["a", "b", "c", "d", "e", "f"],
        ["g", "h", "i", "j", "k", "l"],
    ]
    .map(|texts| compressed(&batch(&texts)));
    for (first, body) in [0, 6].into_iter().zip(&bodies) {
        world.send(Event::Publish(Publish {
            stream: producer,
            first_sequence: SequenceId::new(first),
            count: 6,
            body: body.clone(),
        }));
    }
    world.settle();
    world.out.clear();
    (world, id, bodies)
}

fn consume(
    world: &mut World,
    id: SubscriptionId,
    codecs: Codecs,
    permits: (i64, i64),
) -> (StreamId, Vec<Delivery>) {
    world.codecs = codecs;
    let stream = world.consume(id, permits);
    world.settle();
    (stream, delivered(world))
}

fn delivered(world: &mut World) -> Vec<Delivery> {
    let all = world.deliveries().into_iter();
    all.map(|(_, delivery)| delivery).collect()
}

fn grant(world: &mut World, stream: StreamId, messages: i64) -> Vec<Delivery> {
    world.send(Event::Permits {
        stream,
        messages,
        bytes: 0,
    });
    world.settle();
    delivered(world)
}

/// Each delivery: its first offset, and its messages.
fn shown(delivered: &[Delivery]) -> Vec<(u64, String)> {
    let one = |delivery: &Delivery| {
        let texts = payloads_of(&delivery.batch);
        assert_eq!(texts.len(), delivery.count as usize, "its count is true");
        (delivery.first_offset.get(), texts.concat())
    };
    delivered.iter().map(one).collect()
}

#[test]
fn a_batch_is_stored_as_it_came_and_the_header_says_how_to_open_it() {
    let (world, _, bodies) = world();
    let stored = world.stored();
    assert_eq!([stored[0].batch(), stored[1].batch()], bodies);
    assert_eq!(stored[1].header.first_offset, Offset::new(6));
    let bytes = bodies.iter().map(|body| body.len() as u64).sum::<u64>();
    assert_eq!(stored[1].header.log_bytes, bytes, "of what the disk holds");
}

#[test]
fn who_opens_a_codec_gets_whole_batches_as_they_came_and_pays_for_what_is_sent() {
    let (mut world, id, bodies) = world();
    let exact = bodies.iter().map(Body::len).sum::<usize>();
    let permits = (12, i64::try_from(exact).unwrap());
    let (_, delivered) = consume(&mut world, id, LZ4, permits);
    let batches: Vec<_> = delivered.iter().map(|one| one.batch.clone()).collect();
    assert_eq!(batches, bodies);
    let expected = [(0, "abcdef".to_owned()), (6, "ghijkl".to_owned())];
    assert_eq!(shown(&delivered), expected);
}

#[test]
fn who_does_not_open_a_codec_gets_the_same_messages_plain() {
    let others = Codecs::NONE.with(Codec::Zstd).with(Codec::Snappy);
    for codecs in [Codecs::NONE, others] {
        let (mut world, id, _) = world();
        let (_, delivered) = consume(&mut world, id, codecs, (100, 10_000));
        assert!(delivered.iter().all(|one| one.batch.compression.is_none()));
        let expected = [(0, "abcdef".to_owned()), (6, "ghijkl".to_owned())];
        assert_eq!(shown(&delivered), expected);
    }
}

#[test]
fn a_part_of_a_batch_comes_plain_to_everybody() {
    for codecs in [Codecs::NONE, LZ4] {
        let (mut world, id, _) = world();
        let (stream, mut all) = consume(&mut world, id, codecs, (1, 10_000));
        for _ in 1..12 {
            all.extend(grant(&mut world, stream, 1));
        }
        assert!(all.iter().all(|one| one.batch.compression.is_none()));
        let expected = ('a'..='l').map(String::from);
        assert_eq!(shown(&all), (0..).zip(expected).collect::<Vec<_>>());
    }
}

#[test]
fn bytes_cut_a_batch_that_does_not_fit_as_it_came() {
    let (mut world, id, bodies) = world();
    let less = i64::try_from(bodies[0].len()).unwrap() - 1;
    let (_, delivered) = consume(&mut world, id, LZ4, (100, less));
    assert_eq!(shown(&delivered)[0], (0, "abcdef".to_owned()));
    assert_eq!(delivered[0].batch.compression, None, "opened it is smaller");
    let (mut world, id, _) = self::world();
    let two = i64::try_from(batch(&["a", "b"]).len()).unwrap();
    let (_, delivered) = consume(&mut world, id, LZ4, (100, two));
    assert_eq!(shown(&delivered), [(0, "ab".to_owned())]);
}

#[test]
fn messages_given_back_come_again_alone_and_plain() {
    let (mut world, id, _) = world();
    let (stream, _) = consume(&mut world, id, LZ4, (100, 10_000));
    world.send(Event::Nack(Nack {
        stream,
        request_id: 0,
        generation: Generation::new(1),
        ranges: vec![range(1, 2), range(4, 8)],
        delay: Some(Duration::ZERO),
    }));
    world.settle();
    let again = delivered(&mut world);
    let expected = [(1, "b"), (4, "ef"), (6, "gh")].map(|(at, text)| (at, text.to_owned()));
    assert_eq!(shown(&again), expected);
    assert!(again.iter().all(|one| one.attempt == 2));
}

#[test]
fn a_part_does_not_hold_the_opened_batch_in_memory() {
    let (mut world, id, bodies) = world();
    let (_, delivered) = consume(&mut world, id, LZ4, (2, 10_000));
    let plain = compression::open(bodies[0].compression.unwrap(), &bodies[0].bytes).unwrap();
    let part = &delivered[0].batch.bytes;
    assert_eq!(payloads(part), ["a", "b"]);
    assert!(part.len() < plain.len());
    assert!(part.is_unique(), "nobody else holds what it is a slice of");
}

/// A shard with a batch of six messages whose last byte is missing, one that is whole, and a subscription.
fn broken() -> (World, SubscriptionId) {
    let mut world = World::new(small());
    let id = world.create(1, SubscriptionMode::Shared, StartPosition::Earliest);
    let producer = world.open_producer(None, false);
    let mut cut_off = compressed(&batch(&["a", "b", "c", "d", "e", "f"]));
    cut_off.bytes = cut_off.bytes.slice(..cut_off.bytes.len() - 1);
    let whole = compressed(&batch(&["g", "h", "i", "j", "k", "l"]));
    for (first, body) in [(0, cut_off), (6, whole)] {
        world.send(Event::Publish(Publish {
            stream: producer,
            first_sequence: SequenceId::new(first),
            count: 6,
            body,
        }));
    }
    world.settle();
    world.out.clear();
    (world, id)
}

fn unreadable(world: &mut World) -> Vec<Unreadable> {
    let told = world.take().into_iter();
    told.filter_map(|effect| match effect {
        Effect::Unreadable(unreadable) => Some(unreadable),
        _ => None,
    })
    .collect()
}

#[test]
fn a_batch_that_does_not_open_is_told_and_neither_skipped_nor_given_out_as_something_else() {
    let (mut world, id) = broken();
    let stream = world.consume(id, (100, 10_000));
    world.settle();
    let name = world.subscriptions[0].name.clone();
    let [told] = &unreadable(&mut world)[..] else {
        panic!("it is told once");
    };
    assert_eq!((&told.subscription, told.messages), (&name, range(0, 6)));
    assert_eq!(told.position, world.stored()[0].position);
    assert!(matches!(told.fault, BatchFault::Open(_)) && told.is_first);

    world.pass(world.config.heartbeat);

    let out = world.out.clone();
    let is_delivery = |effect: &Effect| matches!(effect, Effect::Deliver { .. });
    assert!(!out.iter().any(is_delivery), "also nothing behind it");
    let blocked = out.iter().find_map(|effect| match effect {
        Effect::Heartbeat { heartbeat, .. } => Some(heartbeat.blocked),
        _ => None,
    });
    assert_eq!(blocked, Some(Some(BlockedReason::Storage)));
    let again = unreadable(&mut world);
    assert!(!again.is_empty() && again.iter().all(|one| !one.is_first));

    // Only its consumer says that it does not want these messages.
    world.ack(stream, 1, &[range(0, 6)]);
    world.settle();
    world.pass(world.config.read_retry);
    let behind = delivered(&mut world);
    assert_eq!(shown(&behind), [(6, "ghijkl".to_owned())]);
}

#[test]
fn each_subscription_tells_of_a_batch_that_it_cannot_read() {
    let (mut world, first) = broken();
    let second = world.create(2, SubscriptionMode::Shared, StartPosition::Earliest);
    world.settle();
    for id in [first, second] {
        world.consume(id, (1, 10_000));
    }
    world.settle();
    let told = unreadable(&mut world);
    let names: Vec<_> = told.iter().map(|one| &one.subscription).collect();
    let both: Vec<_> = world.subscriptions.iter().map(|one| &one.name).collect();
    assert_eq!(names, both);
    assert_eq!(both.len(), 2);
    assert!(told.iter().all(|one| one.is_first));
}

#[test]
fn who_opens_the_codec_gets_a_batch_that_does_not_open_as_it_was_stored() {
    let (mut world, id) = broken();
    let (_, delivered) = consume(&mut world, id, LZ4, (100, 10_000));
    let stored: Vec<_> = world.stored().iter().map(StoredEntry::batch).collect();
    let batches: Vec<_> = delivered.into_iter().map(|one| one.batch).collect();
    assert_eq!(batches, stored);
}
