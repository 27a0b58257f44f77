//! Nodes and meta together, over in-memory pipes: what `meta-client` promises.
#![cfg(test)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catalog::{Need, Snapshot, Write};
use futures::future::BoxFuture;
use host::Host;
use host::net::Address;
use meta::Meta;
use meta::store::{ChangesSince, CommitError, Embedded, EmbeddedConfig, Store, StoreError};
use meta_client::{MetaClient, MetaConfig, MetaError, Session, SessionConfig, WatchEvent};
use tokio::sync::watch;
use types::cluster::{BookieClaim, MetaGeneration, NodeRole, SessionState};
use types::command::{Answer, Change, Command, Query, Reply};
use types::{ClusterId, Incarnation, Quorum, Reason, Revision, WallTime};

const LONG: Duration = Duration::from_secs(600);
const LEASE: Duration = Duration::from_secs(10);

/// A store whose commits can be made to hang: their caller never hears the outcome.
#[derive(Debug)]
struct Hanging {
    store: Embedded,
    hangs: Arc<AtomicBool>,
    generation: MetaGeneration,
}

impl Store for Hanging {
    fn read(&self, need: Need) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        self.store.read(need)
    }

    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            let outcome = self.store.commit(write).await;
            if self.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            outcome
        })
    }

    fn changes(
        &self,
        after: Revision,
        limit: usize,
    ) -> BoxFuture<'_, Result<ChangesSince, StoreError>> {
        self.store.changes(after, limit)
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.store.revision()
    }

    fn cluster(&self) -> ClusterId {
        self.store.cluster()
    }

    fn generation(&self) -> MetaGeneration {
        self.generation
    }
}

/// A machine with meta on it, which can be stopped and started, and nodes that share its network.
struct World {
    base: Host,
    meta: Host,
    hangs: Arc<AtomicBool>,
    /// What the next start of meta finds in its store.
    generation: MetaGeneration,
}

impl World {
    async fn new() -> Self {
        let base = Host::simulated("world", 1);
        let hangs = Arc::new(AtomicBool::new(false));
        let meta = base.fork("none");
        let mut world = Self {
            base,
            meta,
            hangs,
            generation: MetaGeneration::default(),
        };
        world.start_meta().await;
        world
    }

    async fn start_meta(&mut self) {
        let host = self.node("meta");
        let store = Embedded::start(&host, EmbeddedConfig::new("meta"))
            .await
            .unwrap();
        let hangs = Arc::clone(&self.hangs);
        let store = Arc::new(Hanging {
            store,
            hangs,
            generation: self.generation,
        });
        Meta::serve(
            &host,
            store,
            Address::new("pipe:meta"),
            meta::Nodes::Anywhere,
            meta::AuditConfig::default(),
        )
        .await
        .unwrap();
        self.meta = host;
    }

    async fn stop_meta(&self) {
        self.meta.tasks.stop(LONG).await.unwrap();
        // The directory's lock is held as long as anything of the store lives.
        self.base.clock.sleep(Duration::from_millis(1)).await;
    }

    /// A node of its own: it dies alone.
    fn node(&self, name: &str) -> Host {
        let tasks = host::Tasks::new(name);
        self.base.fork(name).with_tasks(tasks)
    }

    async fn connect(&self, host: &Host) -> MetaClient {
        let config = MetaConfig::new(vec![Address::new("pipe:meta")]);
        MetaClient::connect(host, config, Duration::from_secs(5))
            .await
            .unwrap()
    }
}

fn serving(name: &str) -> SessionConfig {
    SessionConfig {
        role: NodeRole::Serving,
        name: name.parse().unwrap(),
        address: "s:1".to_owned(),
        endpoint: "http://s:2".to_owned(),
        lease: LEASE,
    }
}

fn create(topic: &str) -> Command {
    Command::CreateTopic {
        name: topic.parse().unwrap(),
        quorum: Quorum::ONE,
        retention: types::topic::Retention::DEFAULT,
        at: WallTime::from_nanos(0),
    }
}

async fn states(client: &MetaClient) -> Vec<SessionState> {
    match client.query(Query::Sessions).await {
        Ok(Answer::Sessions(sessions)) => sessions.iter().map(|s| s.state).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn node_asks_and_changes() {
    let world = World::new().await;
    let host = world.node("s1");
    let client = world.connect(&host).await;
    let Ok(Reply::Topic(made)) = client.execute(create("x")).await else {
        panic!("the topic must be made");
    };
    let found = client.query(Query::Topic(made.name.clone())).await;
    assert_eq!(found, Ok(Answer::Topic(Some(made))));
    let taken = client.execute(create("x")).await.unwrap_err();
    let MetaError::Refused(problem) = taken else {
        panic!("a refusal is no failure");
    };
    assert_eq!(problem.reason, Reason::AlreadyExists);
}

#[tokio::test(start_paused = true)]
async fn node_waits_for_meta_to_come_up_and_gives_up_in_the_end() {
    let mut world = World::new().await;
    world.stop_meta().await;
    let host = world.node("s1");
    let config = MetaConfig::new(vec![Address::new("pipe:meta")]);
    let patience = Duration::from_secs(2);
    let none = MetaClient::connect(&host, config.clone(), patience).await;
    assert!(
        matches!(none, Err(MetaError::Unreachable { .. })),
        "{none:?}"
    );
    let late = MetaClient::connect(&host, config, LONG);
    let clock = world.base.clock.clone();
    let (client, ()) = tokio::join!(late, async {
        clock.sleep(Duration::from_secs(3)).await;
        world.start_meta().await;
    });
    client.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lost_answer_is_an_unknown_outcome_and_never_a_failure() {
    let world = World::new().await;
    let host = world.node("s1");
    let client = world.connect(&host).await;
    world.hangs.store(true, Ordering::SeqCst);
    let lost = client.execute(create("x")).await.unwrap_err();
    assert!(matches!(lost, MetaError::OutcomeUnknown { .. }), "{lost:?}");
    world.hangs.store(false, Ordering::SeqCst);
    // It had its effect.
    let found = client.query(Query::Topic("x".parse().unwrap())).await;
    assert!(matches!(found, Ok(Answer::Topic(Some(_)))), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn repeatable_command_is_repeated_until_its_answer_comes() {
    let world = World::new().await;
    let host = world.node("s1");
    let client = world.connect(&host).await;
    world.hangs.store(true, Ordering::SeqCst);
    let clock = world.base.clock.clone();
    let heal = async {
        clock.sleep(Duration::from_secs(1)).await;
        world.hangs.store(false, Ordering::SeqCst);
    };
    let (session, ()) = tokio::join!(Session::open(&host, &client, serving("s1")), heal);
    session.unwrap();
    assert_eq!(states(&client).await, [SessionState::Live]);
}

#[tokio::test(start_paused = true)]
async fn session_lives_as_long_as_its_node_and_not_much_longer() {
    let world = World::new().await;
    let host = world.node("s1");
    let client = world.connect(&host).await;
    let session = Session::open(&host, &client, serving("s1")).await.unwrap();
    let certain = session.certain();
    host.clock.sleep(LEASE * 20).await;
    assert!(session.lease_is_certain(host.clock.now()));
    assert!(*certain.borrow());
    assert!(
        !certain.has_changed().unwrap(),
        "who follows it hears of no renewal"
    );
    let other = world.connect(&world.node("s2")).await;
    assert_eq!(states(&other).await, [SessionState::Live]);
    host.tasks.stop(LONG).await.unwrap();
    world.base.clock.sleep(LEASE * 2).await;
    assert_eq!(states(&other).await, [SessionState::Expired]);
    assert!(!session.lease_is_certain(world.base.clock.now()));
}

#[tokio::test(start_paused = true)]
async fn ended_session_frees_its_shards_at_once() {
    let world = World::new().await;
    let host = world.node("s1");
    let client = world.connect(&host).await;
    let session = Session::open(&host, &client, serving("s1")).await.unwrap();
    session.end().await;
    assert_eq!(states(&client).await, []);
    host.tasks.stop(LONG).await.unwrap();
}

/// The node's own clock of the lease ends before meta's: it doubts before anybody may claim.
#[tokio::test(start_paused = true)]
async fn node_doubts_its_lease_before_meta_lets_it_run_out() {
    let world = World::new().await;
    let host = world.node("s1");
    let client = world.connect(&host).await;
    let session = Session::open(&host, &client, serving("s1")).await.unwrap();
    host.clock.sleep(LEASE * 3).await;
    // From now on no keep-alive is answered.
    world.stop_meta().await;
    let gone = world.base.clock.now();
    let mut certain = session.certain();
    certain.wait_for(|is_certain| !is_certain).await.unwrap();
    let doubted = world.base.clock.now();
    assert!(doubted.since(gone) < LEASE, "{:?}", doubted.since(gone));
    assert!(!session.lease_is_certain(doubted));
}

#[tokio::test(start_paused = true)]
async fn certainty_comes_back_with_meta() {
    let mut world = World::new().await;
    let host = world.node("s1");
    let client = world.connect(&host).await;
    let session = Session::open(&host, &client, serving("s1")).await.unwrap();
    world.stop_meta().await;
    host.clock.sleep(LEASE * 3).await;
    assert!(!*session.certain().borrow());
    world.start_meta().await;
    let mut certain = session.certain();
    let back = certain.wait_for(|is_certain| *is_certain);
    host.clock.timeout(LEASE, back).await.unwrap().unwrap();
    assert!(session.lease_is_certain(host.clock.now()));
}

#[tokio::test(start_paused = true)]
async fn second_process_of_a_name_ends_the_first() {
    let world = World::new().await;
    let first = world.node("s1");
    let client = world.connect(&first).await;
    Session::open(&first, &client, serving("s1")).await.unwrap();
    let second = world.node("s1");
    let client = world.connect(&second).await;
    Session::open(&second, &client, serving("s1"))
        .await
        .unwrap();
    let failure = first
        .clock
        .timeout(LEASE, first.tasks.join())
        .await
        .unwrap();
    let reason = failure.unwrap_err().to_string();
    assert!(reason.contains("the session is over"), "{reason}");
    assert!(
        second
            .clock
            .timeout(LEASE * 5, second.tasks.join())
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn wiped_bookie_waits_for_its_last_process_to_be_over() {
    let world = World::new().await;
    let mut births = Vec::new();
    for round in 0..2 {
        let host = world.node("b1");
        let client = world.connect(&host).await;
        let config = SessionConfig {
            role: NodeRole::Bookie,
            ..serving("b1")
        };
        let session = Session::open(&host, &client, config).await.unwrap();
        let claim = BookieClaim {
            zone: None,
            name: "b1".parse().unwrap(),
            address: "b:1".to_owned(),
            id: None,
            born: None,
            incarnation: Incarnation::new(1),
            mark: 0,
            damaged: false,
        };
        let begun = host.clock.now();
        let record = client
            .register_bookie(claim, session.id(), LEASE * 2)
            .await
            .unwrap();
        let waited = host.clock.now().since(begun);
        assert_eq!(waited > LEASE / 2, round == 1, "{waited:?}");
        births.push((record.id, record.born));
        host.tasks.stop(LONG).await.unwrap(); // It is killed: nobody ends its session.
    }
    assert_eq!(births[0].0, births[1].0);
    assert!(births[0].1 < births[1].1);
}

#[tokio::test(start_paused = true)]
async fn watch_tells_every_change_across_a_restart_of_meta() {
    let mut world = World::new().await;
    let host = world.node("s1");
    let client = world.connect(&host).await;
    let mut watch = client.watch();
    assert_eq!(watch.next().await, WatchEvent::Missed);
    let mut told = Vec::new();
    for (round, name) in ["a", "b", "c"].into_iter().enumerate() {
        client.execute(create(name)).await.unwrap();
        if round == 1 {
            world.stop_meta().await;
            world.start_meta().await;
        }
    }
    while told.len() < 3 {
        match watch.next().await {
            WatchEvent::Changed(event) => {
                if let Change::Topic(name) = event.change {
                    told.push(name.short().to_owned());
                }
            }
            WatchEvent::Missed => panic!("nothing was missed"),
        }
    }
    assert_eq!(told, ["a", "b", "c"]);
}

impl World {
    /// Meta is away for a moment and comes back with metadata of another generation.
    async fn changes_generation(&mut self, generation: MetaGeneration) {
        self.stop_meta().await;
        self.generation = generation;
        self.start_meta().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_follows_its_metadata_to_another_store_and_keeps_its_session() {
    let mut world = World::new().await;
    let node = world.node("serving-1");
    let client = world.connect(&node).await;
    let session = Session::open(&node, &client, serving("serving-1"))
        .await
        .unwrap();
    let moved = MetaGeneration::default().next(7, true);
    world.changes_generation(moved).await;
    client.execute(create("orders")).await.unwrap();
    world.base.clock.sleep(LEASE * 3).await;
    assert!(session.lease_is_certain(node.clock.now()));
    assert_eq!(states(&client).await, [SessionState::Live]);
    // And once more, with nobody asking anything but the signs of life.
    world.changes_generation(moved.next(8, true)).await;
    world.base.clock.sleep(LEASE * 3).await;
    assert!(session.lease_is_certain(node.clock.now()));
    assert_eq!(node.tasks.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_knew_metadata_from_before_a_restore_stops_and_says_why() {
    let mut world = World::new().await;
    let node = world.node("serving-1");
    let client = world.connect(&node).await;
    let _session = Session::open(&node, &client, serving("serving-1"))
        .await
        .unwrap();
    let restored = MetaGeneration::default().next(7, false);
    world.changes_generation(restored).await;
    world.base.clock.sleep(LEASE * 3).await;
    let failure = node.tasks.failure().unwrap().to_string();
    assert!(failure.contains("start the node again"), "{failure}");
    let refused = client.execute(create("orders")).await.unwrap_err();
    let MetaError::Refused(problem) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(problem.reason, Reason::WrongGeneration);
    // Started again it takes part.
    let again = world.node("serving-1");
    let client = world.connect(&again).await;
    client.execute(create("orders")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_meta_that_was_left_behind_is_not_believed_and_the_node_lives_on() {
    let mut world = World::new().await;
    world
        .changes_generation(MetaGeneration::default().next(7, true))
        .await;
    let node = world.node("serving-1");
    let client = world.connect(&node).await;
    let _session = Session::open(&node, &client, serving("serving-1"))
        .await
        .unwrap();
    // A copy of the old store, started by mistake.
    world.changes_generation(MetaGeneration::default()).await;
    let refused = client.execute(create("orders")).await.unwrap_err();
    assert!(
        matches!(refused, MetaError::Unreachable { .. }),
        "{refused:?}"
    );
    assert_eq!(node.tasks.failure(), None);
}
