use types::command::{Answer, Command, Page, Query};
use types::{LedgerId, LedgerSeq, LogId, Quorum, ShardId};

use types::chain::LogKind;

use crate::world::{AT, World, extend};

fn topics(world: &World, namespace: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let page = Page {
        after: after.map(str::to_owned),
        limit,
    };
    match world
        .store
        .query(&Query::Topics(namespace.parse().unwrap(), page))
    {
        Ok(Answer::Topics(topics)) => topics.iter().map(|t| t.name.short().to_owned()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lists_come_in_name_order_page_by_page() {
    let mut world = World::new();
    for name in ["c", "a", "b.x", "b", "b-x", "a0"] {
        world.topic(name, Quorum::ONE);
    }
    let default = "tenants/default/namespaces/default";
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = topics(&world, default, after.as_deref(), 2);
        if page.is_empty() {
            break;
        }
        after = page.last().cloned();
        seen.extend(page);
    }
    assert_eq!(seen, ["a", "a0", "b", "b-x", "b.x", "c"]);
    let full = format!("{default}/topics/b");
    assert_eq!(topics(&world, default, Some(&full), 1), ["b-x"]);
    assert_eq!(topics(&world, default, Some("zz"), 9), Vec::<String>::new());
    assert_eq!(topics(&world, default, None, 0), Vec::<String>::new());
}

#[test]
fn lists_hold_only_their_own_parent() {
    let mut world = World::new();
    for name in ["shop", "shop-2", "shop.2"] {
        let name = format!("tenants/default/namespaces/{name}")
            .parse()
            .unwrap();
        world
            .apply(Command::CreateNamespace { name, at: AT })
            .unwrap();
    }
    for (namespace, topic) in [("shop", "a"), ("shop-2", "b"), ("shop.2", "c")] {
        let name = format!("tenants/default/namespaces/{namespace}/topics/{topic}");
        world.topic(&name, Quorum::ONE);
    }
    let shop = "tenants/default/namespaces/shop";
    assert_eq!(topics(&world, shop, None, 9), ["a"]);
    let page = Page {
        after: None,
        limit: 9,
    };
    let tenant = "tenants/default".parse().unwrap();
    let Ok(Answer::Namespaces(all)) = world.store.query(&Query::Namespaces(tenant, page.clone()))
    else {
        panic!("the query must answer");
    };
    assert_eq!(all.len(), 4);
    let Ok(Answer::Tenants(tenants)) = world.store.query(&Query::Tenants(page.clone())) else {
        panic!("the query must answer");
    };
    assert_eq!(tenants.len(), 1);
    let topic = format!("{shop}/topics/a").parse().unwrap();
    let subscriptions = world.store.query(&Query::Subscriptions(topic, page));
    assert_eq!(subscriptions, Ok(Answer::Subscriptions(Vec::new())));
}

#[test]
fn what_is_not_there_is_none() {
    let world = World::new();
    let topic: types::TopicName = "nope".parse().unwrap();
    let answer = world.store.query(&Query::Topic(topic.clone()));
    assert_eq!(answer, Ok(Answer::Topic(None)));
    let subscription = topic.subscription("s").unwrap();
    let answer = world.store.query(&Query::Subscription(subscription));
    assert_eq!(answer, Ok(Answer::Subscription(None)));
    let answer = world.store.query(&Query::Shard(ShardId::new(9)));
    assert_eq!(answer, Ok(Answer::Shard(None, None)));
    let tenant = world
        .store
        .query(&Query::Tenant("tenants/x".parse().unwrap()));
    assert_eq!(tenant, Ok(Answer::Tenant(None)));
    let name = "tenants/x/namespaces/y".parse().unwrap();
    assert_eq!(
        world.store.query(&Query::Namespace(name)),
        Ok(Answer::Namespace(None))
    );
}

#[test]
fn ledgers_come_in_the_order_asked_as_many_as_exist() {
    let (mut world, shard, session) = World::with_shard();
    let view = world.claim(shard, session).unwrap();
    let view = world.commit(&view, extend(LogKind::Message, None, Some(&[1])));
    let view = world.commit(&view, extend(LogKind::State, None, Some(&[1])));
    let message = view.record.message.tail_id().unwrap();
    let state = view.record.state.tail_id().unwrap();
    let unknown = LedgerId::new(LogId::new(99), LedgerSeq::new(0));
    let Ok(Answer::Ledgers(found)) = world
        .store
        .query(&Query::Ledgers(vec![state, unknown, message]))
    else {
        panic!("the query must answer");
    };
    let ids: Vec<LedgerId> = found.iter().map(|ledger| ledger.id).collect();
    assert_eq!(ids, [state, message]);
    assert_eq!(found[0], *view.tail(LogKind::State).unwrap());
}

#[test]
fn shard_comes_with_its_owners_session_however_it_stands() {
    let (mut world, shard, session) = World::with_shard();
    world.claim(shard, session).unwrap();
    world.expire(session);
    let Ok(Answer::Shard(Some(_), Some(owner))) = world.store.query(&Query::Shard(shard)) else {
        panic!("the query must answer");
    };
    assert_eq!(owner.id, session);
    assert_eq!(owner.endpoint, "http://s1:2");
}
