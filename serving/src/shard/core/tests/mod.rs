mod bookie;
mod counted;
mod histories;
mod moves;
mod trims;
mod world;

use std::time::Duration;

use ledger::{Candidate, Over};
use topic::{Stored, StreamId};
use types::chain::LogKind;
use types::command::Command;
use types::topic::{StartPosition, SubscriptionMode};
use types::{BookieId, EntryId, Offset, Reason, SequenceId};

use super::*;
use world::{World, batch};

fn offsets(world: &World, node: usize, stream: u64) -> Vec<Option<u64>> {
    let receipts = world.receipts(node, stream);
    let offset = |receipt: &topic::Receipt| match &receipt.outcome {
        Ok(Stored::New { first_offset, .. } | Stored::Duplicate { first_offset, .. }) => {
            Some(first_offset.get())
        }
        Ok(Stored::DuplicateSomewhere) | Err(_) => None,
    };
    receipts.iter().map(offset).collect()
}

#[test]
fn what_is_published_is_stored_on_a_quorum_and_delivered() {
    let mut world = World::new();
    let node = world.open();
    let epoch = world.nodes[node].shard.epoch().unwrap();
    assert_eq!(world.nodes[node].shard.status(), Status::Serving { epoch });
    let of = world.subscribe(
        node,
        "s",
        SubscriptionMode::Exclusive,
        StartPosition::Earliest,
    );

    world.open_producer(node, 1, Some("p"));
    world.publish(node, 1, 0, &["a", "b"]);
    world.publish(node, 1, 2, &["c"]);
    world.consume(node, 2, of.id, 10);

    assert_eq!(offsets(&world, node, 1), [Some(0), Some(2)]);
    assert_eq!(world.texts(node, 2), ["a", "b", "c"]);
    let log = world.message_log();
    let copies = world.bookies.values().map(|b| {
        let of_log = b.entries.keys().filter(|(ledger, _)| ledger.log() == log);
        of_log.count()
    });
    assert_eq!(copies.sum::<usize>(), 6);
    let read: usize = world.bookies.values().map(|b| b.bytes_read).sum();
    assert_eq!(read, 0, "the tail is read from memory");
}

#[test]
fn the_next_owner_goes_on_where_the_killed_one_was() {
    let mut world = World::new();
    let first = world.open();
    let of = world.subscribe(
        first,
        "s",
        SubscriptionMode::Exclusive,
        StartPosition::Earliest,
    );
    world.open_producer(first, 1, Some("p"));
    for n in 0..5 {
        world.publish(first, 1, n * 2, &["x", "y"]);
    }
    world.consume(first, 2, of.id, 100);
    world.ack(first, 2, 1, (0, 3));
    world.ack(first, 2, 2, (5, 6));
    world.kill(first);

    let second = world.open();

    // The producer's numbers go on; a repeat is stored once and told where.
    world.open_producer(second, 1, Some("p"));
    let Some(Told::ProducerReady(ready)) = world.told(second, 1).first() else {
        panic!("not ready: {:?}", world.told(second, 1));
    };
    assert_eq!(ready.last_sequence, Some(SequenceId::new(9)));
    world.publish(second, 1, 8, &["x", "y"]);
    world.publish(second, 1, 10, &["z"]);
    assert_eq!(offsets(&world, second, 1), [Some(8), Some(10)]);
    let repeat = &world.receipts(second, 1)[0];
    assert!(matches!(repeat.outcome, Ok(Stored::Duplicate { .. })));

    // The cursor is exact.
    world.consume(second, 2, of.id, 100);
    assert_eq!(world.delivered(second, 2), [3, 4, 6, 7, 8, 9, 10]);
    assert_eq!(world.texts(second, 2), ["y", "x", "x", "y", "x", "y", "z"]);
}

#[test]
fn cursors_and_numbers_survive_many_owners() {
    let mut world = World::new();
    Arc::make_mut(&mut world.config.topic).state_roll = ByteSize::new(1);
    world.small_ledgers(2);
    let mut of = None;
    for reign in 0..6_u64 {
        let node = world.open();
        let epoch = world.nodes[node].shard.epoch().unwrap();
        assert_eq!(world.nodes[node].shard.status(), Status::Serving { epoch });
        let of = *of.get_or_insert_with(|| {
            let mode = SubscriptionMode::Exclusive;
            world.subscribe(node, "s", mode, StartPosition::Earliest).id
        });
        world.open_producer(node, 1, Some("p"));
        for n in 0..5 {
            world.publish(node, 1, reign * 5 + n, &["m"]);
        }
        assert_eq!(
            offsets(&world, node, 1),
            (reign * 5..reign * 5 + 5).map(Some).collect::<Vec<_>>()
        );
        world.consume(node, 2, of, 100);
        let expected: Vec<u64> = (reign * 4..reign * 5 + 5).collect();
        assert_eq!(world.delivered(node, 2), expected, "reign {reign}");
        world.ack(node, 2, 1, (reign * 4, reign * 4 + 4));
        assert!(matches!(
            world.told(node, 2).last(),
            Some(Told::AckResult(result)) if result.confirmed && result.problems.is_empty()
        ));
        world.kill(node);
    }
    let view = world.view();
    assert!(
        view.record.chain(LogKind::State).links.len() > 6,
        "the state log rolls"
    );
    assert!(
        view.record.chain(LogKind::Message).links.len() > 12,
        "the message log rolls"
    );
}

#[test]
fn requests_wait_while_the_shard_is_opened() {
    let mut world = World::new();
    let node = world.open_later();
    world.open_producer(node, 1, None);
    assert!(matches!(world.told(node, 1), [Told::ProducerReady(_)]));
}

#[test]
fn a_request_that_waits_too_long_is_told_what_for() {
    let mut world = World::new();
    let first = world.open();
    world.open_producer(first, 1, None);
    world.publish(first, 1, 0, &["a"]);
    world.kill(first);
    let all: Vec<u64> = world.bookie_ids().into_iter().collect();
    world.down(&all, true);

    let second = world.open_later();
    world.open_producer(second, 7, None);
    world.pass(Duration::from_secs(20));

    let problem = world.problem(second, 7).unwrap();
    assert_eq!(problem.reason, Reason::ShardOpening);
    assert!(
        problem.metadata["waits_for"].contains("bookies"),
        "{problem:?}"
    );
    assert!(problem.retry_after.is_some());

    // When the bookies are back it opens by itself, and nothing is lost.
    world.down(&all, false);
    world.pass(Duration::from_secs(20));
    let of = world.subscribe(
        second,
        "s",
        SubscriptionMode::Shared,
        StartPosition::Earliest,
    );
    world.consume(second, 8, of.id, 10);
    assert_eq!(world.texts(second, 8), ["a"]);
}

#[test]
fn a_subscription_that_was_deleted_while_the_shard_opens_is_forgotten_however_long_that_takes() {
    let mut world = World::new();
    world.config.waiting_max = 1;
    let first = world.open();
    let earliest = StartPosition::Earliest;
    let of = world.subscribe(first, "s", SubscriptionMode::Shared, earliest);
    let kept = world.subscribe(first, "kept", SubscriptionMode::Shared, earliest);
    world.open_producer(first, 1, None);
    world.publish(first, 1, 0, &["a"]);
    world.expire_session(first);

    let node = world.open_later();
    world.is_meta_down = true;
    world.open_producer(node, 2, None); // There is no room for another.
    for _ in 0..2 {
        let drop = Request::DropSubscription(of.id);
        world.event(node, ShardEvent::Request(drop));
    }
    world.pass(Duration::from_secs(20));
    assert_eq!(world.problem(node, 2).unwrap().reason, Reason::ShardOpening);
    world.is_meta_down = false;
    // The list that it reads has the subscription still.
    world.pass(Duration::from_secs(20));

    world.consume(node, 8, of.id, 10);
    let problem = world.problem(node, 8).unwrap();
    assert_eq!(problem.reason, Reason::SubscriptionNotFound);
    assert!(world.texts(node, 8).is_empty());
    world.consume(node, 9, kept.id, 10);
    assert_eq!(world.texts(node, 9), ["a"]);
}

#[test]
fn too_many_waiting_requests_are_refused_at_once() {
    let mut world = World::new();
    world.config.waiting_max = 2;
    let node = world.open_later();
    world.is_meta_down = true;
    for stream in 1..=4 {
        world.open_producer(node, stream, None);
    }
    let refused: Vec<_> = (1..=4).map(|s| world.problem(node, s).is_some()).collect();
    assert_eq!(refused, [false, false, true, true]);
}

#[test]
fn a_fenced_owner_ends_its_sessions_and_stores_nothing_more() {
    let mut world = World::new();
    let old = world.open();
    let of = world.subscribe(old, "s", SubscriptionMode::Shared, StartPosition::Earliest);
    world.open_producer(old, 1, Some("p"));
    world.publish(old, 1, 0, &["a"]);
    world.consume(old, 2, of.id, 10);

    // Its lease runs out without its knowledge, and another takes the shard.
    world.expire_session(old);
    let new = world.open();
    world.publish(old, 1, 1, &["lost to the old owner"]);

    assert!(matches!(
        world.nodes[old].over,
        Some(Ended::Owner(Over::Fenced { .. }))
    ));
    for stream in [1, 2] {
        let problem = world.problem(old, stream).unwrap();
        assert_eq!(problem.reason, Reason::NotOwner);
        assert_eq!(problem.retry_after, Some(Duration::ZERO));
    }
    assert_eq!(world.receipts(old, 1).len(), 1, "no answer for the second");
    // Afterwards it answers with the same problem.
    world.open_producer(old, 9, None);
    assert_eq!(world.problem(old, 9).unwrap().reason, Reason::NotOwner);
    // The producer repeats under the same number.
    world.open_producer(new, 1, Some("p"));
    world.publish(new, 1, 1, &["b"]);
    assert_eq!(offsets(&world, new, 1), [Some(1)]);
}

#[test]
fn a_changed_record_ends_the_old_owner() {
    let mut world = World::new();
    let old = world.open();
    world.open_producer(old, 1, None);
    world.expire_session(old);
    world.open();
    world.event(old, ShardEvent::RecordChanged);
    assert!(matches!(
        world.nodes[old].over,
        Some(Ended::Owner(Over::Deposed { .. }))
    ));
    assert_eq!(world.problem(old, 1).unwrap().reason, Reason::NotOwner);
}

#[test]
fn a_lapsed_lease_delivers_nothing_and_goes_on_publishing() {
    let mut world = World::new();
    let node = world.open();
    let of = world.subscribe(
        node,
        "s",
        SubscriptionMode::Exclusive,
        StartPosition::Earliest,
    );
    world.open_producer(node, 1, None);
    world.consume(node, 2, of.id, 10);
    world.publish(node, 1, 0, &["a"]);
    assert_eq!(world.texts(node, 2), ["a"]);

    world.event(node, ShardEvent::LeaseCertain(false));
    world.publish(node, 1, 1, &["b"]);
    assert_eq!(offsets(&world, node, 1), [Some(0), Some(1)]);
    assert_eq!(world.texts(node, 2), ["a"]);

    world.event(node, ShardEvent::LeaseCertain(true));
    assert_eq!(world.texts(node, 2), ["a", "b"]);
}

#[test]
fn a_lease_that_came_back_delivers_nothing_that_another_owner_gave_out_meanwhile() {
    let mut world = World::new();
    let old = world.open();
    let of = world.subscribe(old, "s", SubscriptionMode::Shared, StartPosition::Earliest);
    world.open_producer(old, 1, None);
    world.consume(old, 2, of.id, 10);
    world.event(old, ShardEvent::LeaseCertain(false));
    world.publish(old, 1, 0, &["a"]);

    // Meta counts it as gone, another serves, and its consumer is done with everything: confirmed.
    world.expire_session(old);
    let new = world.open();
    world.consume(new, 3, of.id, 10);
    world.ack(new, 3, 1, (0, 1));
    assert_eq!(world.texts(new, 3), ["a"]);

    // Meta hears the old owner again before the old owner hears of the new one.
    let session = world.nodes[old].shard.setup().session;
    world.apply(Command::ReviveSession { session });
    world.event(old, ShardEvent::LeaseCertain(true));
    assert_eq!(world.texts(old, 2), Vec::<String>::new());
    assert!(matches!(
        world.nodes[old].over,
        Some(Ended::Owner(Over::Deposed { .. }))
    ));
}

#[test]
fn a_lease_that_came_back_is_believed_once_meta_has_confirmed_the_epoch() {
    let mut world = World::new();
    let node = world.open();
    let of = world.subscribe(node, "s", SubscriptionMode::Shared, StartPosition::Earliest);
    world.open_producer(node, 1, None);
    world.consume(node, 2, of.id, 10);
    world.event(node, ShardEvent::LeaseCertain(false));
    world.publish(node, 1, 0, &["a"]);

    world.is_meta_down = true;
    world.event(node, ShardEvent::LeaseCertain(true));
    world.pass(Duration::from_secs(2));
    assert_eq!(world.texts(node, 2), Vec::<String>::new());

    world.is_meta_down = false;
    world.pass(Duration::from_secs(2));
    assert_eq!(world.texts(node, 2), ["a"]);
}

#[test]
fn a_lease_that_lapsed_while_opening_holds_deliveries_from_the_start() {
    let mut world = World::new();
    let first = world.open();
    let of = world.subscribe(
        first,
        "s",
        SubscriptionMode::Exclusive,
        StartPosition::Earliest,
    );
    world.open_producer(first, 1, None);
    world.publish(first, 1, 0, &["a"]);
    world.kill(first);
    let second = world.open_later();
    world.nodes[second].shard.handle(
        world.now,
        world::AT,
        ShardEvent::LeaseCertain(false),
        &mut Vec::new(),
    );
    world.run();
    world.consume(second, 2, of.id, 10);
    assert_eq!(world.texts(second, 2), Vec::<String>::new());
    world.event(second, ShardEvent::LeaseCertain(true));
    assert_eq!(world.texts(second, 2), ["a"]);
}

#[test]
fn a_tail_keeps_what_the_host_has_room_for_and_reading_goes_on_from_the_bookies() {
    let mut world = World::new();
    let node = world.open();
    world.open_producer(node, 1, None);
    for n in 0..20 {
        world.publish(node, 1, n, &[format!("message {n}").as_str()]);
    }
    let shard = &mut world.nodes[node].shard;
    let before = shard.tail_bytes();
    let room = ByteSize::new(before / 4);
    shard.limit_tail(|bytes, most| {
        assert!(bytes == before && most.get() >= before);
        room
    });
    assert!((1..=room.get()).contains(&shard.tail_bytes()));
    world.publish(node, 1, 20, &["the last"]);
    assert!(world.nodes[node].shard.tail_bytes() <= room.get());
    let of = world.subscribe(
        node,
        "s",
        SubscriptionMode::Exclusive,
        StartPosition::Earliest,
    );
    world.consume(node, 2, of.id, 100);
    assert_eq!(world.texts(node, 2).len(), 21);
}

#[test]
fn an_offset_in_an_old_ledger_is_found_by_halving() {
    let mut world = World::new();
    world.config.read_ahead = ByteSize::new(1);
    let first = world.open();
    world.open_producer(first, 1, None);
    let mut sequence = 0;
    for n in 0..1_000_u64 {
        let texts: Vec<String> = (0..=n % 3).map(|k| format!("{}", sequence + k)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        world.publish(first, 1, sequence, &texts);
        sequence += texts.len() as u64;
    }
    world.kill(first);
    let second = world.open();
    for (n, offset) in [0_u64, 1, 2, 777, 1_001, 1_500, sequence - 1]
        .into_iter()
        .enumerate()
    {
        let start = StartPosition::Offset(Offset::new(offset));
        let of = world.subscribe(second, &format!("s{n}"), SubscriptionMode::Exclusive, start);
        let before: usize = world.bookies.values().map(|b| b.runs).sum();
        let stream = 10 + n as u64;
        world.consume(second, stream, of.id, 1);
        let after: usize = world.bookies.values().map(|b| b.runs).sum();
        assert_eq!(world.texts(second, stream), [offset.to_string()]);
        assert!(
            after - before <= 6,
            "{} runs for offset {offset}",
            after - before
        );
    }
}

#[test]
fn a_backlog_over_many_ledgers_is_read_in_order_with_bounded_reads() {
    let mut world = World::new();
    world.small_ledgers(7);
    Arc::make_mut(&mut world.config.topic).read_bytes = ByteSize::new(64);
    let first = world.open();
    let of = world.subscribe(
        first,
        "s",
        SubscriptionMode::Exclusive,
        StartPosition::Earliest,
    );
    world.open_producer(first, 1, None);
    for n in 0..100 {
        world.publish(first, 1, n, &[format!("message {n}").as_str()]);
    }
    world.kill(first);
    let second = world.open();
    world.consume(second, 2, of.id, 1_000);
    let expected: Vec<String> = (0..100).map(|n| format!("message {n}")).collect();
    assert_eq!(world.texts(second, 2), expected);
}

#[test]
fn reads_fall_to_another_copy() {
    let mut world = World::new();
    let first = world.open();
    let of = world.subscribe(
        first,
        "s",
        SubscriptionMode::Exclusive,
        StartPosition::Earliest,
    );
    world.open_producer(first, 1, None);
    for n in 0..10 {
        world.publish(first, 1, n, &["m"]);
    }
    world.kill(first);
    let second = world.open();
    let log = world.message_log();
    // One copy is gone, another one damaged, each for half of the entries.
    for (bookie, half) in [(1, 0), (2, 1)] {
        let bookie = world.bookies.get_mut(&BookieId::new(bookie)).unwrap();
        bookie
            .entries
            .retain(|(ledger, entry), _| ledger.log() != log || entry.get() % 2 != half);
    }
    let third = world.bookies.get_mut(&BookieId::new(3)).unwrap();
    for ((ledger, id), entry) in &mut third.entries {
        if ledger.log() == log && *id == EntryId::new(3) {
            entry.payload = types::Payload::whole(bytes::Bytes::from_static(b"rot"));
        }
    }
    world.consume(second, 2, of.id, 100);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.delivered(second, 2), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_bookie_that_is_down_does_not_stop_reading_nor_opening() {
    let mut world = World::new();
    let first = world.open();
    let of = world.subscribe(
        first,
        "s",
        SubscriptionMode::Exclusive,
        StartPosition::Earliest,
    );
    world.open_producer(first, 1, Some("p"));
    for n in 0..10 {
        world.publish(first, 1, n, &["m"]);
    }
    world.kill(first);
    world.down(&[2], true);
    let second = world.open();
    world.pass(Duration::from_secs(5));
    world.consume(second, 2, of.id, 100);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.delivered(second, 2), (0..10).collect::<Vec<_>>());
    world.open_producer(second, 1, Some("p"));
    world.publish(second, 1, 10, &["n"]);
    world.pass(Duration::from_secs(5));
    assert_eq!(offsets(&world, second, 1), [Some(10)]);
}

#[test]
fn with_too_few_bookies_publishing_is_refused_until_they_are_back() {
    let mut world = World::new();
    let node = world.open();
    world.open_producer(node, 1, None);
    world.publish(node, 1, 0, &["a"]);
    let candidates = |live| {
        (1..=3)
            .map(|b| Candidate {
                zone: None,
                bookie: BookieId::new(b),
                writable: live,
                live,
            })
            .collect()
    };
    world.event(node, ShardEvent::Candidates(candidates(false)));
    world.down(&[1, 2, 3], true);
    world.publish(node, 1, 1, &["b"]);
    world.pass(Duration::from_secs(30));
    world.publish(node, 1, 2, &["c"]);
    let last = world.receipts(node, 1).last().cloned().unwrap();
    assert_eq!(
        last.first_sequence,
        SequenceId::new(0),
        "receipts keep their order"
    );

    world.event(node, ShardEvent::Candidates(candidates(true)));
    world.down(&[1, 2, 3], false);
    world.pass(Duration::from_secs(30));
    let receipts = world.receipts(node, 1);
    assert_eq!(offsets(&world, node, 1)[..2], [Some(0), Some(1)]);
    // What came while publishing was held was refused for good, and consumed no numbers.
    if receipts.len() == 3
        && let Err(problem) = &receipts[2].outcome
    {
        assert_eq!(problem.reason, Reason::InsufficientBookies);
        world.publish(node, 1, 2, &["c"]);
        assert_eq!(offsets(&world, node, 1)[3], Some(2));
    }
}

#[test]
fn a_released_shard_is_closed_and_the_next_claim_needs_no_recovery() {
    let mut world = World::new();
    let node = world.open();
    let of = world.subscribe(
        node,
        "s",
        SubscriptionMode::Exclusive,
        StartPosition::Earliest,
    );
    world.open_producer(node, 1, Some("p"));
    world.publish(node, 1, 0, &["a"]);
    world.consume(node, 2, of.id, 10);
    world.event(node, ShardEvent::Release);
    assert_eq!(world.nodes[node].shard.status(), Status::Releasing);
    world.pass(Duration::from_secs(1));

    assert_eq!(world.nodes[node].over, Some(Ended::Owner(Over::Released)));
    assert_eq!(world.problem(node, 1).unwrap().reason, Reason::NotOwner);
    let record = world.view().record;
    assert_eq!(record.owner, None);
    assert!(
        LogKind::BOTH
            .iter()
            .all(|log| record.chain(*log).tail().is_none())
    );

    // Its session lives, and still the next one may claim at once.
    let next = world.open();
    world.open_producer(next, 1, Some("p"));
    world.publish(next, 1, 1, &["b"]);
    world.consume(next, 2, of.id, 10);
    assert_eq!(world.texts(next, 2), ["a", "b"]);
}

#[test]
fn an_idle_shard_that_is_released_asks_to_be_woken_as_soon_as_nothing_more_gathers() {
    let mut world = World::new();
    let node = world.open();
    world.pass(Duration::from_secs(5));
    world.event(node, ShardEvent::Release);
    let gathers = world.nodes[node].shard.setup().config.topic.ack_delay;
    let wanted = world.now.after(gathers);
    assert_eq!(world.nodes[node].shard.deadline(), Some(wanted));
    world.pass(gathers);
    assert_eq!(world.nodes[node].over, Some(Ended::Owner(Over::Released)));
}

#[test]
fn what_is_in_flight_when_the_shard_is_released_is_confirmed_first() {
    let mut world = World::new();
    let node = world.open();
    world.open_producer(node, 1, None);
    world.publish(node, 1, 0, &["a"]);
    world.down(&[1, 2, 3], true);
    world.publish(node, 1, 1, &["b"]);
    world.event(node, ShardEvent::Release);
    world.publish(node, 1, 2, &["c"]);
    assert_eq!(world.receipts(node, 1).len(), 1);

    world.down(&[1, 2, 3], false);
    world.pass(Duration::from_secs(10));
    assert_eq!(offsets(&world, node, 1), [Some(0), Some(1), None]);
    let refused = world.receipts(node, 1)[2].outcome.clone().unwrap_err();
    assert_eq!(refused.reason, Reason::NotOwner);
    assert_eq!(world.nodes[node].over, Some(Ended::Owner(Over::Released)));
}

#[test]
fn the_owner_of_a_live_session_is_not_robbed() {
    let mut world = World::new();
    let owner = world.open();
    let other = world.open();
    assert!(matches!(
        world.nodes[other].over,
        Some(Ended::Owner(Over::ClaimRefused { .. }))
    ));
    world.open_producer(other, 1, None);
    assert_eq!(world.problem(other, 1).unwrap().reason, Reason::NotOwner);
    assert!(world.nodes[owner].over.is_none());
}

#[test]
fn an_unanswered_meta_is_asked_again_while_replaying() {
    let mut world = World::new();
    let first = world.open();
    world.subscribe(
        first,
        "s",
        SubscriptionMode::Exclusive,
        StartPosition::Earliest,
    );
    world.kill(first);
    let second = world.open_later();
    // The claim and the close are answered, the questions of the replay are not.
    for _ in 0..200 {
        let phase = &world.nodes[second].shard.phase;
        if matches!(phase, Phase::Replaying(..)) {
            break;
        }
        world.step(second);
    }
    world.is_meta_down = true;
    world.run();
    world.pass(Duration::from_secs(3));
    let status = world.nodes[second].shard.status();
    assert!(
        matches!(&status, Status::Opening { waits_for: Some(what) } if what.contains("meta")),
        "{status:?}"
    );
    world.is_meta_down = false;
    world.pass(Duration::from_secs(3));
    let epoch = world.nodes[second].shard.epoch().unwrap();
    assert_eq!(
        world.nodes[second].shard.status(),
        Status::Serving { epoch }
    );
}

#[test]
fn a_stream_closed_while_it_waits_is_forgotten() {
    let mut world = World::new();
    let node = world.open_later();
    let stream = StreamId::new(1);
    let now = world.now;
    for request in [
        Request::OpenProducer(topic::OpenProducer {
            stream,
            name: None,
            resume: false,
        }),
        batch(1, 0, &["a"]),
        Request::CloseStream(stream),
    ] {
        let event = ShardEvent::Request(request);
        world.nodes[node]
            .shard
            .handle(now, world::AT, event, &mut Vec::new());
    }
    world.run();
    assert_eq!(world.told(node, 1), []);
    assert_eq!(
        world.nodes[node].shard.stats().unwrap().producers.streams,
        0
    );
}

#[test]
fn acks_that_nobody_waits_for_are_kept_when_the_shard_is_released() {
    let mut world = World::new();
    let node = world.open();
    let of = world.subscribe(node, "s", SubscriptionMode::Shared, StartPosition::Earliest);
    world.open_producer(node, 1, None);
    world.publish(node, 1, 0, &["a", "b"]);
    world.consume(node, 2, of.id, 10);
    world.ack(node, 2, 0, (0, 1));
    world.event(node, ShardEvent::Release);
    world.pass(Duration::from_secs(1));
    let next = world.open();
    world.consume(next, 2, of.id, 10);
    assert_eq!(world.texts(next, 2), ["b"]);
}

#[test]
fn a_shard_that_is_being_opened_can_be_given_up() {
    let mut world = World::new();
    let first = world.open();
    world.open_producer(first, 1, None);
    world.publish(first, 1, 0, &["a"]);
    world.kill(first);
    world.down(&[1, 2, 3], true);
    let second = world.open();
    world.open_producer(second, 1, None);
    world.event(second, ShardEvent::Release);
    assert_eq!(world.problem(second, 1).unwrap().reason, Reason::NotOwner);
    world.down(&[1, 2, 3], false);
    world.pass(Duration::from_secs(10));
    assert_eq!(world.nodes[second].over, Some(Ended::Owner(Over::Released)));
    assert_eq!(world.view().record.owner, None);
}
