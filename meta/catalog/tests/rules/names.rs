use std::time::Duration;

use types::command::{Answer, Command, Query, Reply};
use types::topic::{Retention, StartPosition, SubscriptionMode, SubscriptionState};
use types::{ClusterId, Problem, Quorum, Reason, SubscriptionId};

use crate::world::{AT, World};

fn create_topic(world: &mut World, name: &str) -> Result<Reply, Problem> {
    world.apply(Command::CreateTopic {
        name: name.parse().unwrap(),
        quorum: Quorum::ONE,
        retention: Retention::DEFAULT,
        at: AT,
    })
}

fn create_subscription(world: &mut World, name: &str, deadline: u64) -> Result<Reply, Problem> {
    world.apply(Command::CreateSubscription {
        name: name.parse().unwrap(),
        mode: SubscriptionMode::Shared,
        ack_deadline: Duration::from_secs(deadline),
        start: StartPosition::Latest,
        at: AT,
    })
}

#[test]
fn second_bootstrap_tells_the_cluster_that_is_there() {
    let mut world = World::new();
    let revision = world.store.revision();
    let cluster = ClusterId::new(8);
    let reply = world.apply(Command::Bootstrap { cluster, at: AT });
    assert_eq!(reply, Ok(Reply::Cluster(ClusterId::new(7))));
    assert_eq!(world.store.revision(), revision);
}

#[test]
fn topic_gets_one_shard_with_two_logs_and_no_ledger() {
    let mut world = World::new();
    let shard = world.topic("orders", Quorum::THREE_TWO);
    let record = world.shard(shard).record;
    assert_ne!(record.message.log, record.state.log);
    assert!(record.message.links.is_empty() && record.state.links.is_empty());
    assert_eq!((record.epoch.get(), record.owner), (0, None));
    assert_eq!(record.quorum, Quorum::THREE_TWO);
}

#[test]
fn numbers_are_never_given_twice() {
    let mut world = World::new();
    let mut logs = Vec::new();
    for name in ["a", "b", "c"] {
        let shard = world.topic(name, Quorum::ONE);
        let record = world.shard(shard).record;
        logs.extend([record.message.log, record.state.log]);
    }
    let mut distinct = logs.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct, logs);
}

#[test]
fn taken_names_are_told_with_the_resource() {
    let mut world = World::new();
    create_topic(&mut world, "orders").unwrap();
    let problem = create_topic(&mut world, "orders").unwrap_err();
    assert_eq!(problem.reason, Reason::AlreadyExists);
    let full = "tenants/default/namespaces/default/topics/orders";
    assert_eq!(problem.resource.as_deref(), Some(full));
    let tenant = Command::CreateTenant {
        name: "tenants/default".parse().unwrap(),
        at: AT,
    };
    assert_eq!(
        world.apply(tenant).unwrap_err().reason,
        Reason::AlreadyExists
    );
    let namespace = Command::CreateNamespace {
        name: "tenants/default/namespaces/default".parse().unwrap(),
        at: AT,
    };
    assert_eq!(
        world.apply(namespace).unwrap_err().reason,
        Reason::AlreadyExists
    );
    create_subscription(&mut world, "orders/subscriptions/s", 1).unwrap();
    let problem = create_subscription(&mut world, "orders/subscriptions/s", 1).unwrap_err();
    assert_eq!(problem.reason, Reason::AlreadyExists);
}

#[test]
fn parents_must_exist() {
    let mut world = World::new();
    let namespace = |name: &str| Command::CreateNamespace {
        name: name.parse().unwrap(),
        at: AT,
    };
    let missing = world
        .apply(namespace("tenants/acme/namespaces/shop"))
        .unwrap_err();
    assert_eq!(missing.reason, Reason::TenantNotFound);
    let topic = "tenants/acme/namespaces/shop/topics/orders";
    let missing = create_topic(&mut world, topic).unwrap_err();
    assert_eq!(missing.reason, Reason::NamespaceNotFound);
    assert_eq!(
        missing.resource.as_deref(),
        Some("tenants/acme/namespaces/shop")
    );
    let missing = create_subscription(&mut world, "orders/subscriptions/s", 1).unwrap_err();
    assert_eq!(missing.reason, Reason::TopicNotFound);
    world
        .apply(Command::CreateTenant {
            name: "tenants/acme".parse().unwrap(),
            at: AT,
        })
        .unwrap();
    world
        .apply(namespace("tenants/acme/namespaces/shop"))
        .unwrap();
    create_topic(&mut world, topic).unwrap();
}

#[test]
fn subscription_is_usable_only_after_it_was_activated_by_its_number() {
    let mut world = World::new();
    create_topic(&mut world, "orders").unwrap();
    let name: types::SubscriptionName = "orders/subscriptions/s".parse().unwrap();
    let Ok(Reply::Subscription(made)) =
        create_subscription(&mut world, "orders/subscriptions/s", 9)
    else {
        panic!("it must be made");
    };
    assert_eq!(made.state, SubscriptionState::Creating);
    let activate = |id| Command::ActivateSubscription {
        name: name.clone(),
        id,
    };
    let wrong = world.apply(activate(SubscriptionId::new(77))).unwrap_err();
    assert_eq!(wrong.reason, Reason::VersionMismatch);
    for _ in 0..2 {
        let Ok(Reply::Subscription(active)) = world.apply(activate(made.id)) else {
            panic!("it must be activated, also again");
        };
        assert_eq!(active.state, SubscriptionState::Active);
    }
    let other = Command::ActivateSubscription {
        name: "orders/subscriptions/other".parse().unwrap(),
        id: made.id,
    };
    assert_eq!(
        world.apply(other).unwrap_err().reason,
        Reason::SubscriptionNotFound
    );
}

#[test]
fn subscription_is_deleted_by_the_owners_session_only_and_its_name_gets_another_number() {
    let mut world = World::new();
    create_topic(&mut world, "orders").unwrap();
    let name: types::SubscriptionName = "orders/subscriptions/s".parse().unwrap();
    let make = |world: &mut World| {
        let Ok(Reply::Subscription(made)) = create_subscription(world, "orders/subscriptions/s", 9)
        else {
            panic!("it must be made");
        };
        made
    };
    let first = make(&mut world);
    let (owner, other) = (world.serving("s1").id, world.serving("s2").id);
    let delete = |session| Command::DeleteSubscription {
        name: name.clone(),
        id: first.id,
        session,
    };
    let free = world.apply(delete(owner)).unwrap_err();
    assert_eq!(free.reason, Reason::NotOwner);
    let shard = types::ShardId::new(1);
    world.claim(shard, owner).unwrap();
    assert_eq!(
        world.apply(delete(other)).unwrap_err().reason,
        Reason::NotOwner
    );
    for _ in 0..2 {
        let Ok(Reply::Subscription(gone)) = world.apply(delete(owner)) else {
            panic!("it must be deleted, also again");
        };
        assert_eq!(
            (gone.id, gone.state),
            (first.id, SubscriptionState::Deleted)
        );
    }
    let query = Query::Subscription(name.clone());
    let Ok(Answer::Subscription(Some(kept))) = world.store.query(&query) else {
        panic!("its record stays");
    };
    assert_eq!(kept.state, SubscriptionState::Deleted);
    let activate = Command::ActivateSubscription {
        name: name.clone(),
        id: first.id,
    };
    assert_eq!(
        world.apply(activate).unwrap_err().reason,
        Reason::SubscriptionNotFound
    );
    let second = make(&mut world);
    assert_ne!(second.id, first.id);
    // A deletion whose answer was lost is sent again: it is not of this one.
    let late = world.apply(delete(owner)).unwrap_err();
    assert_eq!(late.reason, Reason::VersionMismatch);
    assert_eq!(
        world.store.query(&query),
        Ok(Answer::Subscription(Some(second)))
    );
}

#[test]
fn ack_deadlines_of_zero_or_days_are_refused() {
    let mut world = World::new();
    create_topic(&mut world, "orders").unwrap();
    for deadline in [0, 25 * 60 * 60] {
        let problem =
            create_subscription(&mut world, "orders/subscriptions/s", deadline).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("ack_deadline"));
    }
}
