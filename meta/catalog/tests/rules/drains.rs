use types::chain::ShardChange;
use types::cluster::{NodeRole, ServingNode, SessionState, ShardPlace};
use types::command::{Answer, Command, Page, Query, Reply};
use types::{Problem, Quorum, Reason};

use crate::world::World;

fn drain(world: &mut World, name: &str, draining: bool) -> Result<Reply, Problem> {
    let name = name.parse().unwrap();
    world.apply(Command::DrainServing { name, draining })
}

fn nodes(world: &World) -> Vec<ServingNode> {
    match world.store.query(&Query::ServingNodes) {
        Ok(Answer::ServingNodes(nodes)) => nodes,
        other => panic!("{other:?}"),
    }
}

/// The names of nodes, and which of them are drained.
fn drained(world: &World) -> Vec<(String, bool)> {
    let nodes = nodes(world).into_iter();
    nodes
        .map(|node| (node.session.name.to_string(), node.is_drained))
        .collect()
}

fn places(world: &World, after: Option<&str>, limit: usize) -> Vec<ShardPlace> {
    let page = Page {
        after: after.map(str::to_owned),
        limit,
    };
    match world.store.query(&Query::Shards(page)) {
        Ok(Answer::Shards(places)) => places,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_drain_belongs_to_the_name_and_survives_a_restart_until_it_is_taken_back() {
    let mut world = World::new();
    world.serving("s1");
    world.serving("s2");
    assert_eq!(drain(&mut world, "s1", true), Ok(Reply::Done));
    let wanted = [("s1".to_owned(), true), ("s2".to_owned(), false)];
    assert_eq!(drained(&world), wanted);
    let again = world.serving("s1").id;
    assert_eq!(drained(&world), wanted);
    assert!(!nodes(&world)[0].takes_shards());
    // Also while its process is gone.
    world.apply(Command::EndSession { session: again }).unwrap();
    assert_eq!(drained(&world), wanted);
    drain(&mut world, "s1", false).unwrap();
    assert_eq!(drained(&world), [("s2".to_owned(), false)]);
    world.serving("s1");
    assert!(nodes(&world)[0].takes_shards());
}

#[test]
fn a_drain_again_changes_nothing() {
    let mut world = World::new();
    world.serving("s1");
    world.serving("s2");
    for draining in [true, false] {
        drain(&mut world, "s1", draining).unwrap();
        let before = world.store.clone();
        drain(&mut world, "s1", draining).unwrap();
        assert_eq!(before, world.store);
    }
}

#[test]
fn a_drain_that_leaves_nobody_to_serve_is_refused_with_the_numbers() {
    let mut world = World::new();
    world.serving("s1");
    let problem = drain(&mut world, "s1", true).unwrap_err();
    assert_eq!(problem.reason, Reason::BadField);
    assert!(
        problem.message.contains("live=1 drained=0"),
        "{}",
        problem.message
    );
    let second = world.serving("s2").id;
    drain(&mut world, "s1", true).unwrap();
    let problem = drain(&mut world, "s2", true).unwrap_err();
    assert!(
        problem.message.contains("live=2 drained=1"),
        "{}",
        problem.message
    );
    // Nor does one count that is not alive.
    drain(&mut world, "s1", false).unwrap();
    world.expire(second);
    assert!(drain(&mut world, "s1", true).is_err());
}

#[test]
fn a_drain_of_an_unknown_name_is_refused_whatever_bookies_are_called() {
    let mut world = World::new();
    world.open(NodeRole::Bookie, "b1");
    world.serving("s1");
    for draining in [true, false] {
        let problem = drain(&mut world, "b1", draining).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("node"));
        assert!(problem.message.contains("name=b1"), "{}", problem.message);
    }
}

#[test]
fn nodes_that_ended_and_are_not_drained_are_not_listed() {
    let mut world = World::new();
    let first = world.serving("s1").id;
    world.serving("s2");
    world.expire(first);
    assert_eq!(nodes(&world)[0].session.state, SessionState::Expired);
    world.apply(Command::EndSession { session: first }).unwrap();
    assert_eq!(drained(&world), [("s2".to_owned(), false)]);
}

#[test]
fn shards_of_all_namespaces_are_listed_page_by_page_with_their_owners() {
    let mut world = World::new();
    world.bookie("b1");
    let session = world.serving("s1").id;
    let shop = "tenants/default/namespaces/shop";
    world
        .apply(Command::CreateNamespace {
            name: shop.parse().unwrap(),
            at: crate::world::AT,
        })
        .unwrap();
    let names = ["b", "a", "c"].map(str::to_owned);
    for name in names.into_iter().chain([format!("{shop}/topics/a")]) {
        world.topic(&name, Quorum::ONE);
    }
    let all = places(&world, None, 9);
    let listed: Vec<_> = all.iter().map(|place| place.topic.to_string()).collect();
    let default = "tenants/default/namespaces/default/topics";
    let wanted = [
        format!("{default}/a"),
        format!("{default}/b"),
        format!("{default}/c"),
        format!("{shop}/topics/a"),
    ];
    assert_eq!(listed, wanted);
    assert!(all.iter().all(|place| place.owner.is_none()));
    let mut paged = Vec::new();
    loop {
        let after = paged
            .last()
            .map(|place: &ShardPlace| place.topic.to_string());
        let page = places(&world, after.as_deref(), 3);
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, all);
    let view = world.claim(all[0].shard, session).unwrap();
    assert_eq!(places(&world, None, 1)[0].owner, Some(session));
    world.change(&view, ShardChange::Release).unwrap();
    assert_eq!(places(&world, None, 1)[0].owner, None);
}
