use types::cluster::{BookieRecord, BookieState, NodeRole};
use types::command::{Answer, Command, Query, Reply};
use types::{BookieId, Incarnation, Problem, Reason, SessionId};

use crate::world::{World, blank, restarted};

fn report(
    world: &mut World,
    id: BookieId,
    session: SessionId,
    mark: u64,
    state: BookieState,
) -> Result<BookieRecord, Problem> {
    match world.apply(Command::ReportBookie {
        id,
        session,
        mark,
        state,
    })? {
        Reply::Bookie(record) => Ok(record),
        other => panic!("{other:?}"),
    }
}

#[test]
fn blank_disk_under_a_new_name_is_a_new_bookie_born_now() {
    let mut world = World::new();
    let (first, _) = world.bookie("b1");
    assert_eq!(first.born, world.store.revision());
    let (second, _) = world.bookie("b2");
    assert_ne!(first.id, second.id);
    assert!(second.born > first.born);
}

#[test]
fn same_disk_started_again_keeps_its_birth_at_once() {
    let mut world = World::new();
    let (record, first) = world.bookie("b1");
    let session = world.open(NodeRole::Bookie, "b1").id;
    let again = world.register(restarted(&record), session).unwrap();
    assert_eq!((again.id, again.born), (record.id, record.born));
    assert_eq!(again.incarnation, Incarnation::new(2));
    // The older process is ended with it.
    let old = report(&mut world, record.id, first, 1, BookieState::ReadWrite).unwrap_err();
    assert_eq!(old.reason, Reason::SessionUnknown);
}

#[test]
fn a_bookie_is_in_the_zone_that_its_last_start_named() {
    let mut world = World::new();
    let (record, _) = world.bookie("b1");
    assert_eq!(record.zone, None);
    let session = world.open(NodeRole::Bookie, "b1").id;
    let mut claim = restarted(&record);
    claim.zone = Some("rack-1".parse().unwrap());
    let moved = world.register(claim, session).unwrap();
    assert_eq!(moved.zone.unwrap().as_str(), "rack-1");
}

#[test]
fn repeated_registration_changes_nothing() {
    let mut world = World::new();
    let session = world.open(NodeRole::Bookie, "b1").id;
    let first = world.register(blank("b1"), session).unwrap();
    let revision = world.store.revision();
    assert_eq!(world.register(blank("b1"), session), Ok(first));
    assert_eq!(world.store.revision(), revision);
}

#[test]
fn repeated_registration_of_a_damaged_disk_is_one_birth() {
    let mut world = World::new();
    let (record, _) = world.bookie("b1");
    let session = world.open(NodeRole::Bookie, "b1").id;
    let mut claim = restarted(&record);
    claim.damaged = true;
    let born = world.register(claim.clone(), session).unwrap().born;
    assert!(born > record.born);
    assert_eq!(world.register(claim, session).unwrap().born, born);
}

#[test]
fn damage_found_after_a_birth_is_another_birth() {
    let mut world = World::new();
    let (record, session) = world.bookie("b1");
    let mut claim = restarted(&record);
    claim.incarnation = record.incarnation;
    claim.damaged = true;
    let again = world.register(claim, session).unwrap();
    assert!(again.born > record.born);
    assert_eq!(again.id, record.id);
}

/// Wiped, rolled back by incarnation, rolled back by mark, from before the last birth: all are born again.
#[test]
fn disk_that_lost_anything_is_born_again_under_its_number() {
    type Edit = fn(&mut types::cluster::BookieClaim);
    let cases: [(&str, Edit); 4] = [
        ("wiped", |claim| *claim = blank("b1")),
        ("older incarnation", |claim| {
            claim.incarnation = Incarnation::new(1);
        }),
        ("older mark", |claim| claim.mark = 6),
        ("other birth", |claim| claim.born = None),
    ];
    for (name, edit) in cases {
        let mut world = World::new();
        let (record, first) = world.bookie("b1");
        let record = report(&mut world, record.id, first, 7, BookieState::ReadWrite).unwrap();
        let session = world.open(NodeRole::Bookie, "b1").id;
        let mut claim = restarted(&record);
        edit(&mut claim);
        // While the older process is alive by its lease, the newcomer loses.
        let problem = world.register(claim.clone(), session).unwrap_err();
        assert_eq!(problem.reason, Reason::ExclusiveHeld, "{name}");
        assert!(problem.retry_after.is_some(), "{name}");
        world.expire(first);
        let again = world.register(claim, session).unwrap();
        assert_eq!(again.id, record.id, "{name}");
        assert_eq!(again.born, world.store.revision(), "{name}");
    }
}

#[test]
fn disk_of_another_bookie_is_refused_with_the_fix() {
    let mut world = World::new();
    let (first, _) = world.bookie("b1");
    let (second, _) = world.bookie("b2");
    for name in ["b2", "b3"] {
        let session = world.open(NodeRole::Bookie, name).id;
        let mut claim = restarted(&first);
        claim.name = name.parse().unwrap();
        let problem = world.register(claim, session).unwrap_err();
        assert_eq!(problem.reason, Reason::WrongNode);
        assert!(problem.message.contains("--name b1"), "{}", problem.message);
    }
    let session = world.open(NodeRole::Bookie, "b2").id;
    let mut claim = restarted(&second);
    claim.id = Some(BookieId::new(99));
    let problem = world.register(claim, session).unwrap_err();
    assert_eq!(problem.reason, Reason::WrongNode);
}

#[test]
fn registration_needs_a_session_of_this_bookie() {
    let mut world = World::new();
    let serving = world.serving("b1").id;
    let other = world.open(NodeRole::Bookie, "b2").id;
    for session in [serving, other] {
        let problem = world.register(blank("b1"), session).unwrap_err();
        assert_eq!(problem.reason, Reason::WrongNode);
    }
    let own = world.open(NodeRole::Bookie, "b1").id;
    world.apply(Command::EndSession { session: own }).unwrap();
    let problem = world.register(blank("b1"), own).unwrap_err();
    assert_eq!(problem.reason, Reason::SessionUnknown);
}

#[test]
fn marks_only_grow() {
    let mut world = World::new();
    let (record, session) = world.bookie("b1");
    report(&mut world, record.id, session, 9, BookieState::ReadWrite).unwrap();
    let late = report(&mut world, record.id, session, 4, BookieState::ReadOnly).unwrap();
    assert_eq!((late.mark, late.state), (9, BookieState::ReadOnly));
    assert_eq!(late.born, record.born);
}

#[test]
fn bookies_are_shown_live_by_their_session() {
    let mut world = World::new();
    let (record, session) = world.bookie("b1");
    world.bookie("b2");
    let live = |world: &World| match world.store.query(&Query::Bookies) {
        Ok(Answer::Bookies(bookies)) => bookies.iter().map(|b| (b.id, b.live)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let second = record.id.next();
    assert_eq!(live(&world), [(record.id, true), (second, true)]);
    world.expire(session);
    assert_eq!(live(&world), [(record.id, false), (second, true)]);
    world.apply(Command::ReviveSession { session }).unwrap();
    assert_eq!(live(&world), [(record.id, true), (second, true)]);
}

#[test]
fn report_on_an_unknown_bookie_is_refused() {
    let mut world = World::new();
    let (_, session) = world.bookie("b1");
    let problem = report(
        &mut world,
        BookieId::new(9),
        session,
        0,
        BookieState::ReadOnly,
    )
    .unwrap_err();
    assert_eq!(problem.reason, Reason::WrongNode);
}
