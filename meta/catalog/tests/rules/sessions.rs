use std::time::Duration;

use types::cluster::{NodeRole, SessionState};
use types::command::{Answer, Command, Query, Reply};
use types::{CommandId, Reason, SessionId};

use crate::world::{World, blank, opening};

fn sessions(world: &World) -> Vec<(u64, SessionState)> {
    let Ok(Answer::Sessions(sessions)) = world.store.query(&Query::Sessions) else {
        panic!("the query must answer");
    };
    sessions.iter().map(|s| (s.id.get(), s.state)).collect()
}

#[test]
fn nodes_new_instance_replaces_its_old_one_until_that_lease_is_over_and_keeps_its_number() {
    let mut world = World::new();
    let first = world.serving("s1");
    let second = world.serving("s1");
    assert_eq!(first.node, second.node);
    assert_ne!(first.id, second.id);
    let replaced = (first.id.get(), SessionState::Replaced);
    let live = (second.id.get(), SessionState::Live);
    assert_eq!(sessions(&world), [replaced, live]);
    world.expire(first.id);
    assert_eq!(sessions(&world), [live]);
    let revive = Command::ReviveSession { session: first.id };
    assert_eq!(
        world.apply(revive).unwrap_err().reason,
        Reason::SessionUnknown
    );
}

#[test]
fn replaced_session_that_says_it_stops_has_ended_at_once() {
    let mut world = World::new();
    let first = world.serving("s1").id;
    let second = world.serving("s1").id;
    let end = Command::EndSession { session: first };
    world.apply(end.clone()).unwrap();
    assert_eq!(sessions(&world), [(second.get(), SessionState::Live)]);
    world.apply(end).unwrap();
}

#[test]
fn node_that_is_started_over_and_over_within_one_lease_is_held_up_and_let_in_later() {
    let mut world = World::new();
    let mut opened: Vec<_> = (0..65).map(|_| world.serving("s1").id).collect();
    let one_more = opening(NodeRole::Serving, "s1", CommandId::new(1 << 40));
    let problem = world.apply(one_more.clone()).unwrap_err();
    assert_eq!(problem.reason, Reason::Overloaded);
    world.expire(opened.remove(0));
    world.apply(one_more).unwrap();
}

#[test]
fn same_name_in_another_role_is_another_node() {
    let mut world = World::new();
    let serving = world.open(NodeRole::Serving, "n");
    let bookie = world.open(NodeRole::Bookie, "n");
    assert_ne!(serving.node, bookie.node);
    assert_eq!(sessions(&world).len(), 1 + 1);
}

#[test]
fn repeated_opening_is_the_same_session() {
    let mut world = World::new();
    let command = opening(NodeRole::Serving, "s1", CommandId::new(99));
    let first = world.apply(command.clone()).unwrap();
    let revision = world.store.revision();
    assert_eq!(world.apply(command), Ok(first));
    assert_eq!(world.store.revision(), revision);
}

#[test]
fn expired_session_is_revived_and_an_ended_one_never() {
    let mut world = World::new();
    let session = world.serving("s1").id;
    world.expire(session);
    assert_eq!(sessions(&world), [(session.get(), SessionState::Expired)]);
    let Ok(Reply::Session(back)) = world.apply(Command::ReviveSession { session }) else {
        panic!("it must come back");
    };
    assert_eq!(back.state, SessionState::Live);
    world.apply(Command::EndSession { session }).unwrap();
    assert!(world.apply(Command::ReviveSession { session }).is_err());
    // A lease that runs out late changes nothing back.
    world.expire(session);
    assert_eq!(sessions(&world), []);
}

#[test]
fn leases_and_addresses_out_of_bounds_are_refused() {
    let mut world = World::new();
    let change = |edit: &dyn Fn(&mut Duration, &mut String)| {
        let mut command = opening(NodeRole::Serving, "s1", CommandId::new(5));
        if let Command::OpenSession { lease, address, .. } = &mut command {
            edit(lease, address);
        }
        command
    };
    for (field, command) in [
        ("lease", change(&|lease, _| *lease = Duration::ZERO)),
        ("lease", change(&|lease, _| *lease = Duration::MAX)),
        ("address", change(&|_, address| address.clear())),
        ("address", change(&|_, address| *address = "x".repeat(513))),
    ] {
        let problem = world.apply(command).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some(field));
    }
}

#[test]
fn unknown_session_is_told() {
    let mut world = World::new();
    let session = SessionId::new(99);
    let problem = world.apply(Command::EndSession { session }).unwrap_err();
    assert_eq!(problem.reason, Reason::SessionUnknown);
}

#[test]
fn registered_bookies_session_is_shown_until_its_successor_registers() {
    let mut world = World::new();
    let (_, first) = world.bookie("b1");
    let second = world.open(NodeRole::Bookie, "b1").id;
    let both = [
        (first.get(), SessionState::Live),
        (second.get(), SessionState::Live),
    ];
    assert_eq!(sessions(&world), both);
    world.expire(first);
    world.register(blank("b1"), second).unwrap();
    assert_eq!(sessions(&world), [(second.get(), SessionState::Live)]);
}
