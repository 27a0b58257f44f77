//! Copies that move to other bookies while an owner reads by records that it got before.

use std::collections::BTreeSet;
use std::sync::Arc;

use types::chain::{LedgerRecord, LedgerState, Move};
use types::cluster::BookieRecord;
use types::command::{Answer, Command, Query};
use types::topic::{Retention, StartPosition, SubscriptionMode};
use types::{BookieId, LedgerId};

use super::world::World;
use super::*;

/// The closed ledgers.
fn closed(world: &World) -> Vec<LedgerRecord> {
    let view = world.view();
    let ids = LogKind::BOTH.into_iter().flat_map(|kind| {
        let chain = view.record.chain(kind);
        let links = chain.links.iter();
        links.map(|link| LedgerId::new(chain.log, link.seq))
    });
    let Ok(Answer::Ledgers(mut found)) = world.meta.query(&Query::Ledgers(ids.collect())) else {
        panic!("ledgers are told");
    };
    found.retain(|it| matches!(it.state, LedgerState::Closed { .. }));
    found
}

fn bookie(world: &World, id: BookieId) -> BookieRecord {
    let Ok(Answer::Bookies(bookies)) = world.meta.query(&Query::Bookies) else {
        panic!("bookies are told");
    };
    bookies.into_iter().find(|bookie| bookie.id == id).unwrap()
}

/// Moves every closed ledger's copies to three other bookies, as the repair does.
fn move_all(world: &mut World) {
    for record in closed(world) {
        for (place, from) in record.ensemble.iter().copied().enumerate() {
            let to = BookieId::new(4 + u64::try_from(place).unwrap());
            let copy = world.bookies[&from].entries.clone();
            let copy = copy.into_iter().filter(|((id, _), _)| *id == record.id);
            let target = world.bookies.get_mut(&to).unwrap();
            target.entries.extend(copy);
            world.apply(Command::AssignCopy {
                ledger: record.id,
                moving: Some(Move { from, to }),
            });
            let assigned = closed(world).into_iter().find(|it| it.id == record.id);
            let assigned = assigned.unwrap();
            let word = bookie(world, to);
            world.apply(Command::CopiesWhole {
                bookie: to,
                session: word.session,
                born: word.born,
                copies: vec![assigned.whole_copy(to)],
            });
        }
    }
}

/// An owner that has begun to read what lies on bookies 1 to 3, and three others.
fn reading() -> (World, usize) {
    let mut world = World::new();
    world.small_ledgers(7);
    world.config.read_ahead = ByteSize::new(1);
    Arc::make_mut(&mut world.config.topic).read_bytes = ByteSize::new(64);
    let first = world.open();
    let start = StartPosition::Earliest;
    let of = world.subscribe(first, "s", SubscriptionMode::Exclusive, start);
    world.open_producer(first, 1, None);
    for n in 0..30 {
        world.publish(first, 1, n, &[format!("message {n}").as_str()]);
    }
    world.kill(first);
    let second = world.open();
    world.consume(second, 2, of.id, 3);
    assert_eq!(world.texts(second, 2).len(), 3);
    for n in 4..=6 {
        world.add_bookie(&format!("bookie-{n}"));
    }
    move_all(&mut world);
    (world, second)
}

fn read_on(world: &mut World, node: usize) {
    let more = Request::Permits {
        stream: StreamId::new(2),
        messages: 1_000,
        bytes: 0,
    };
    world.request(node, more);
    world.pass(Duration::from_secs(20));
    let expected: Vec<String> = (0..30).map(|n| format!("message {n}")).collect();
    assert_eq!(world.texts(node, 2), expected);
}

/// An owner that has read one ledger, which everybody acked, and whose copies then moved to three other bookies. It does
/// not know that ledger's end yet.
fn acked() -> (World, usize) {
    let mut world = World::new();
    world.small_ledgers(7);
    world.config.read_ahead = ByteSize::new(1);
    Arc::make_mut(&mut world.config.topic).read_bytes = ByteSize::new(64);
    let retention = Retention {
        time: Some(Duration::ZERO),
        bytes: None,
    };
    let name = world.topic.clone();
    world.apply(Command::UpdateTopic { name, retention });
    let first = world.open();
    let start = StartPosition::Earliest;
    let of = world.subscribe(first, "s", SubscriptionMode::Exclusive, start);
    world.open_producer(first, 1, None);
    for n in 0..30 {
        world.publish(first, 1, n, &["message"]);
    }
    world.kill(first);
    let second = world.open();
    world.consume(second, 2, of.id, 7);
    world.ack(second, 2, 1, (0, 7));
    for n in 4..=6 {
        world.add_bookie(&format!("bookie-{n}"));
    }
    move_all(&mut world);
    (world, second)
}

/// The first offset that is not trimmed, some looks later.
fn first_later(world: &mut World) -> u64 {
    world.pass(Duration::from_secs(180));
    world.view().record.message.first_offset.get()
}

#[test]
fn trims_go_on_when_the_copies_moved_since_the_record_was_read() {
    let (mut world, _) = acked();
    for old in 1..=3 {
        let old = world.bookies.get_mut(&BookieId::new(old)).unwrap();
        old.entries.clear();
    }
    assert_eq!(first_later(&mut world), 7);
}

#[test]
fn trims_go_on_when_the_copies_moved_from_bookies_which_are_gone() {
    let (mut world, _) = acked();
    world.down(&[1, 2, 3], true);
    assert_eq!(first_later(&mut world), 7);
}

#[test]
fn reads_find_copies_that_moved_since_the_record_was_read() {
    let (mut world, second) = reading();
    for old in 1..=3 {
        let old = world.bookies.get_mut(&BookieId::new(old)).unwrap();
        old.entries.clear();
    }
    read_on(&mut world, second);
}

#[test]
fn reads_find_copies_that_moved_from_bookies_which_are_gone() {
    let (mut world, second) = reading();
    world.down(&[1, 2, 3], true);
    read_on(&mut world, second);
}

/// Tells a node which bookies there are.
fn candidates(world: &mut World, node: usize, ids: impl IntoIterator<Item = u64>) {
    let candidate = |id| Candidate {
        zone: None,
        bookie: BookieId::new(id),
        writable: true,
        live: true,
    };
    let candidates = ids.into_iter().map(candidate).collect();
    world.event(node, ShardEvent::Candidates(candidates));
}

/// The bookies of ledgers that are open.
fn written(world: &World) -> BTreeSet<u64> {
    let tails = world.view().tails;
    let open = tails.iter().filter(|it| it.state == LedgerState::Open);
    open.flat_map(|it| it.ensemble.iter().map(|id| id.get()))
        .collect()
}

#[test]
fn an_owner_leaves_a_bookie_that_is_no_candidate_any_more() {
    let mut world = World::new();
    let node = world.open();
    let start = StartPosition::Earliest;
    world.subscribe(node, "s", SubscriptionMode::Exclusive, start);
    world.open_producer(node, 1, None);
    world.publish(node, 1, 0, &["before"]);
    assert_eq!(written(&world), [1, 2, 3].into());
    // Two would not hold three copies: it stays.
    candidates(&mut world, node, [2, 3]);
    assert_eq!(written(&world), [1, 2, 3].into());
    world.add_bookie("bookie-4");
    candidates(&mut world, node, 2..=4);
    world.publish(node, 1, 1, &["after"]);
    let left = written(&world);
    assert!(!left.contains(&1) && !left.is_empty(), "{left:?}");
    // Once is enough.
    let chain = world.view().record.message.links.len();
    candidates(&mut world, node, 2..=4);
    world.publish(node, 1, 2, &["later"]);
    assert_eq!(world.view().record.message.links.len(), chain);
}
