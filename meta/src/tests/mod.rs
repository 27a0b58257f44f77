//! The service over in-memory pipes: every call, with good input and bad.

mod copies;

use std::time::Duration;

use futures::future::join_all;
use host::Host;
use proto::meta as wire;
use proto::meta::Watched;
use proto::meta_v1 as pb;
use proto::meta_v1::meta_client::MetaClient as Stub;
use proto::status::from_status;
use proto::transport::channel;
use tonic::transport::Channel;
use types::chain::{Claim, ShardOutcome, ShardView};
use types::cluster::{NodeRole, SessionRecord, SessionState};
use types::command::{Answer, Change, Query};
use types::{CommandId, Quorum, Reason, Revision, SessionId, WallTime};

use super::*;
use crate::store::suite::Reference;

const LONG: Duration = Duration::from_secs(600);
const LEASE: Duration = Duration::from_secs(10);

/// A meta node on a store that outlives it, and a connection to it.
struct Node {
    host: Host,
    stub: Stub<Channel>,
}

impl Node {
    async fn new() -> Self {
        Self::on(Arc::new(Reference::new())).await
    }

    async fn on(store: Arc<Reference>) -> Self {
        Self::of(store, Nodes::Anywhere).await
    }

    async fn of(store: Arc<Reference>, nodes: Nodes) -> Self {
        let host = Host::simulated("meta", 1);
        let meta = Meta::serve(
            &host,
            store,
            Address::new("pipe:meta"),
            nodes,
            AuditConfig::default(),
        )
        .await
        .unwrap();
        let stub = Stub::new(channel(&host.net, meta.address()));
        Self { host, stub }
    }

    async fn execute(&self, command: Command) -> Result<Reply, Problem> {
        let request = pb::ExecuteRequest {
            caller: Some(caller()),
            command: Some(wire::command_to_wire(&command).unwrap()),
        };
        let answer = self.stub.clone().execute(request).await;
        let answer = answer.map_err(|status| from_status(&status))?;
        wire::reply(answer.into_inner().reply.unwrap())
    }

    async fn query(&self, query: Query) -> Result<Answer, Problem> {
        let request = pb::QueryRequest {
            caller: Some(caller()),
            query: Some(wire::query_to_wire(&query)),
        };
        let answer = self.stub.clone().query(request).await;
        let answer = answer.map_err(|status| from_status(&status))?;
        wire::answer(answer.into_inner().answer.unwrap())
    }

    async fn keep_alive(&self, session: SessionId) -> Result<SessionState, Problem> {
        let request = pb::KeepAliveRequest {
            caller: Some(caller()),
            session: session.get(),
        };
        let answer = self.stub.clone().keep_alive(request).await;
        let answer = answer.map_err(|status| from_status(&status))?;
        Ok(wire::session(answer.into_inner().session.unwrap())
            .unwrap()
            .state)
    }

    async fn watch(&self, after: Option<Revision>) -> tonic::Streaming<pb::WatchResponse> {
        let request = pb::WatchRequest {
            caller: Some(caller()),
            after: after.map(Revision::get),
        };
        self.stub.clone().watch(request).await.unwrap().into_inner()
    }

    async fn open(&self, name: &str) -> SessionRecord {
        let open = Command::OpenSession {
            role: NodeRole::Serving,
            name: name.parse().unwrap(),
            address: "s:1".to_owned(),
            endpoint: "http://s:2".to_owned(),
            lease: LEASE,
            command: CommandId::new(self.host.rng.u128()),
        };
        match self.execute(open).await {
            Ok(Reply::Session(session)) => session,
            other => panic!("{other:?}"),
        }
    }

    async fn claim(&self, session: SessionId) -> Result<ShardView, Problem> {
        let claim = Command::ClaimShard(Claim {
            shard: types::ShardId::new(1),
            session,
            command: CommandId::new(self.host.rng.u128()),
        });
        match self.execute(claim).await? {
            Reply::Shard(ShardOutcome::Committed(view)) => Ok(view),
            other => panic!("{other:?}"),
        }
    }

    async fn states(&self) -> Vec<SessionState> {
        match self.query(Query::Sessions).await {
            Ok(Answer::Sessions(sessions)) => sessions.iter().map(|s| s.state).collect(),
            other => panic!("{other:?}"),
        }
    }
}

fn caller() -> pb::Caller {
    wire::caller(Some(ClusterId::new(1)))
}

fn create(topic: &str) -> Command {
    Command::CreateTopic {
        name: topic.parse().unwrap(),
        quorum: Quorum::ONE,
        retention: types::topic::Retention::DEFAULT,
        at: WallTime::from_nanos(0),
    }
}

async fn next(stream: &mut tonic::Streaming<pb::WatchResponse>) -> Watched {
    wire::watched(stream.message().await.unwrap().unwrap()).unwrap()
}

fn reason<T>(answer: Result<T, tonic::Status>) -> Reason {
    from_status(&answer.err().unwrap()).reason
}

#[tokio::test(start_paused = true)]
async fn hello_tells_the_cluster_to_one_who_does_not_know_it() {
    let node = Node::new().await;
    let request = pb::HelloRequest {
        caller: Some(wire::caller(None)),
    };
    let answer = node.stub.clone().hello(request).await.unwrap().into_inner();
    assert_eq!(
        wire::hello_from_wire(&answer).map(|told| told.0),
        Ok(ClusterId::new(1))
    );
    assert!(answer.revision > 0);
}

#[tokio::test(start_paused = true)]
async fn every_call_refuses_strangers() {
    let node = Node::new().await;
    let other = Some(wire::caller(Some(ClusterId::new(2))));
    let mut newer = caller();
    newer.version += 1;
    let unknown = Some(wire::caller(None));
    for (caller, wanted) in [
        (None, Reason::BadField),
        (other, Reason::WrongCluster),
        (Some(newer), Reason::WrongVersion),
        (unknown.clone(), Reason::BadField),
    ] {
        let mut stub = node.stub.clone();
        let request = pb::ExecuteRequest {
            caller: caller.clone(),
            command: Some(wire::command_to_wire(&create("x")).unwrap()),
        };
        assert_eq!(reason(stub.execute(request).await), wanted);
        let request = pb::QueryRequest {
            caller: caller.clone(),
            query: Some(wire::query_to_wire(&Query::Bookies)),
        };
        assert_eq!(reason(stub.query(request).await), wanted);
        let request = pb::WatchRequest {
            caller: caller.clone(),
            after: None,
        };
        assert_eq!(reason(stub.watch(request).await), wanted);
        let request = pb::KeepAliveRequest {
            caller: caller.clone(),
            session: 1,
        };
        assert_eq!(reason(stub.keep_alive(request).await), wanted);
        if caller != unknown {
            assert_eq!(
                reason(stub.hello(pb::HelloRequest { caller }).await),
                wanted
            );
        }
    }
    let topics = node.query(Query::Topic("x".parse().unwrap())).await;
    assert_eq!(topics, Ok(Answer::Topic(None)));
}

#[tokio::test(start_paused = true)]
async fn empty_requests_are_told_what_they_lack() {
    let node = Node::new().await;
    let request = pb::ExecuteRequest {
        caller: Some(caller()),
        command: None,
    };
    let status = node.stub.clone().execute(request).await.unwrap_err();
    assert_eq!(from_status(&status).field.as_deref(), Some("command"));
    let request = pb::QueryRequest {
        caller: Some(caller()),
        query: None,
    };
    let status = node.stub.clone().query(request).await.unwrap_err();
    assert_eq!(from_status(&status).field.as_deref(), Some("query"));
    let unknown = node.keep_alive(SessionId::new(99)).await.unwrap_err();
    assert_eq!(unknown.reason, Reason::SessionUnknown);
}

#[tokio::test(start_paused = true)]
async fn refusals_carry_reason_and_resource() {
    let node = Node::new().await;
    node.execute(create("x")).await.unwrap();
    let taken = node.execute(create("x")).await.unwrap_err();
    assert_eq!(taken.reason, Reason::AlreadyExists);
    let full = "tenants/default/namespaces/default/topics/x";
    assert_eq!(taken.resource.as_deref(), Some(full));
}

#[tokio::test(start_paused = true)]
async fn times_are_those_of_metas_clock() {
    let node = Node::new().await;
    let Ok(Reply::Topic(topic)) = node.execute(create("x")).await else {
        panic!("the topic must be made");
    };
    let now = node.host.clock.wall();
    assert!(topic.created_at <= now);
    assert!(topic.created_at > WallTime::from_nanos(now.as_nanos() / 2));
}

#[tokio::test(start_paused = true)]
async fn commands_at_once_all_get_numbers_of_their_own() {
    let node = Node::new().await;
    let names: Vec<String> = (0..50).map(|n| format!("t{n}")).collect();
    let all = join_all(names.iter().map(|name| node.execute(create(name)))).await;
    let mut ids: Vec<_> = all
        .into_iter()
        .map(|reply| match reply {
            Ok(Reply::Topic(topic)) => topic.id,
            other => panic!("{other:?}"),
        })
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn session_expires_a_lease_after_its_last_sign_of_life() {
    let node = Node::new().await;
    let session = node.open("s1").await.id;
    for _ in 0..10 {
        node.host.clock.sleep(LEASE - Duration::from_secs(1)).await;
        assert_eq!(node.keep_alive(session).await, Ok(SessionState::Live));
    }
    node.host.clock.sleep(LEASE - Duration::from_secs(1)).await;
    assert_eq!(node.states().await, [SessionState::Live]);
    node.host.clock.sleep(Duration::from_secs(2)).await;
    assert_eq!(node.states().await, [SessionState::Expired]);
}

#[tokio::test(start_paused = true)]
async fn sign_of_life_revives_an_expired_session_and_not_an_ended_one() {
    let node = Node::new().await;
    let session = node.open("s1").await.id;
    node.host.clock.sleep(LEASE * 2).await;
    assert_eq!(node.states().await, [SessionState::Expired]);
    assert_eq!(node.keep_alive(session).await, Ok(SessionState::Live));
    assert_eq!(node.states().await, [SessionState::Live]);
    // It expires again like any other.
    node.host.clock.sleep(LEASE * 2).await;
    assert_eq!(node.states().await, [SessionState::Expired]);
    node.execute(Command::EndSession { session }).await.unwrap();
    assert_eq!(node.keep_alive(session).await, Ok(SessionState::Ended));
    assert_eq!(node.states().await, []);
}

#[tokio::test(start_paused = true)]
async fn replaced_owners_shard_is_claimed_once_its_lease_ran_out_though_meta_started_meanwhile() {
    let store = Arc::new(Reference::new());
    let node = Node::on(Arc::clone(&store)).await;
    node.execute(create("x")).await.unwrap();
    let first = node.open("s1").await.id;
    node.claim(first).await.unwrap();
    let second = node.open("s1").await.id;
    assert_eq!(node.keep_alive(first).await, Ok(SessionState::Replaced));
    let alive = node.claim(second).await.unwrap_err();
    assert_eq!(alive.reason, Reason::OwnerAlive);
    node.host.tasks.stop(Duration::from_secs(5)).await.unwrap();
    let node = Node::on(store).await;
    let alive = node.claim(second).await.unwrap_err();
    assert_eq!(alive.reason, Reason::OwnerAlive);
    node.host.clock.sleep(LEASE * 2).await;
    assert_eq!(node.keep_alive(first).await, Ok(SessionState::Ended));
    assert_eq!(node.claim(second).await.unwrap().record.epoch.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn nodes_of_metas_own_process_are_gone_when_it_starts() {
    let store = Arc::new(Reference::new());
    let node = Node::on(Arc::clone(&store)).await;
    node.execute(create("x")).await.unwrap();
    let first = node.open("s1").await.id;
    node.claim(first).await.unwrap();
    node.host.tasks.stop(Duration::from_secs(5)).await.unwrap();
    let node = Node::of(store, Nodes::InThisProcess).await;
    assert_eq!(node.keep_alive(first).await, Ok(SessionState::Ended));
    let second = node.open("s2").await.id;
    assert_eq!(node.claim(second).await.unwrap().record.epoch.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn dead_owners_shard_is_claimed_once_its_lease_ran_out() {
    let node = Node::new().await;
    node.execute(create("x")).await.unwrap();
    let (first, second) = (node.open("s1").await.id, node.open("s2").await.id);
    node.claim(first).await.unwrap();
    let alive = node.claim(second).await.unwrap_err();
    assert_eq!(alive.reason, Reason::OwnerAlive);
    node.host.clock.sleep(LEASE * 2).await;
    assert_eq!(node.claim(second).await.unwrap().record.epoch.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn claims_wait_one_lease_after_meta_was_away() {
    let store = Arc::new(Reference::new());
    let node = Node::on(Arc::clone(&store)).await;
    node.execute(create("x")).await.unwrap();
    let owner = node.open("s1").await.id;
    node.claim(owner).await.unwrap();
    node.host.clock.sleep(LEASE * 2).await; // It is even expired.
    node.host.tasks.stop(LONG).await.unwrap();

    let node = Node::on(store).await;
    let other = node.open("s2").await.id;
    let alive = node.claim(other).await.unwrap_err();
    assert_eq!(alive.reason, Reason::OwnerAlive);
    node.host.clock.sleep(LEASE - Duration::from_secs(1)).await;
    assert_eq!(node.keep_alive(other).await, Ok(SessionState::Live));
    assert!(node.claim(other).await.is_err());
    node.host.clock.sleep(Duration::from_secs(2)).await;
    assert_eq!(node.claim(other).await.unwrap().record.owner, Some(other));
}

#[tokio::test(start_paused = true)]
async fn watch_tells_each_change_once_and_goes_on_where_it_ended() {
    let node = Node::new().await;
    let mut stream = node.watch(None).await;
    let Watched::Reset { now } = next(&mut stream).await else {
        panic!("a watch from now on says where that is");
    };
    node.execute(create("a")).await.unwrap();
    let Watched::Changes { events, upto } = next(&mut stream).await else {
        panic!("it must be told");
    };
    let topic = Change::Topic("a".parse().unwrap());
    assert!(events.iter().any(|event| event.change == topic));
    assert!(
        events
            .iter()
            .all(|event| event.revision > now && event.revision <= upto)
    );
    drop(stream);

    node.execute(create("b")).await.unwrap();
    let mut stream = node.watch(Some(upto)).await;
    let Watched::Changes { events, .. } = next(&mut stream).await else {
        panic!("it must be told");
    };
    let topic = Change::Topic("b".parse().unwrap());
    assert!(events.iter().all(|event| event.revision > upto));
    assert!(events.iter().any(|event| event.change == topic));
}

#[tokio::test(start_paused = true)]
async fn watch_from_a_revision_that_is_not_known_begins_anew() {
    let node = Node::new().await;
    let mut stream = node.watch(Some(Revision::new(1_000_000))).await;
    assert!(matches!(next(&mut stream).await, Watched::Reset { .. }));
    node.execute(create("a")).await.unwrap();
    assert!(matches!(next(&mut stream).await, Watched::Changes { .. }));
}

#[tokio::test(start_paused = true)]
async fn stop_ends_watches_with_a_reason() {
    let node = Node::new().await;
    let mut stream = node.watch(None).await;
    next(&mut stream).await;
    let (stopped, last) = tokio::join!(node.host.tasks.stop(LONG), stream.message());
    stopped.unwrap();
    assert_eq!(from_status(&last.unwrap_err()).reason, Reason::Stopping);
}

#[tokio::test(start_paused = true)]
async fn address_in_use_is_told() {
    let node = Node::new().await;
    let host = Host::simulated("other", 2).with_net(Arc::clone(&node.host.net));
    let store = Arc::new(Reference::new());
    let audit = AuditConfig::default();
    let again = Meta::serve(
        &host,
        store,
        Address::new("pipe:meta"),
        Nodes::Anywhere,
        audit,
    )
    .await;
    assert!(matches!(again, Err(StartError::Listen { .. })), "{again:?}");
}

#[tokio::test]
async fn whole_service_starts_on_a_disk_and_finds_its_records_again() {
    let disk = Host::simulated("meta", 1).disk;
    for round in 0..2 {
        let host = Host::simulated("meta", round).with_disk(Arc::clone(&disk));
        let config = MetaConfig {
            listen: Address::new("pipe:meta"),
            store: EmbeddedConfig::new("meta"),
            nodes: Nodes::Anywhere,
            audit: AuditConfig::default(),
        };
        let meta = Meta::start(&host, config).await.unwrap();
        let mut stub = Stub::new(channel(&host.net, meta.address()));
        let request = pb::ExecuteRequest {
            caller: Some(wire::caller(Some(meta.cluster()))),
            command: Some(wire::command_to_wire(&create("x")).unwrap()),
        };
        let answer = stub.execute(request).await;
        match round {
            0 => assert!(answer.is_ok()),
            _ => assert_eq!(reason(answer), Reason::AlreadyExists),
        }
        host.tasks.stop(LONG).await.unwrap();
    }
}

async fn is_swept(node: &Node, shard: types::ShardId) {
    loop {
        match node.query(Query::Shard(shard)).await {
            Ok(Answer::Shard(None, _)) => return,
            Ok(Answer::Shard(Some(view), _)) => assert!(view.record.is_deleted),
            other => panic!("{other:?}"),
        }
        node.host.clock.sleep(Duration::from_millis(10)).await;
    }
}

async fn deletion(node: &Node) -> Command {
    let session = node.open("s1").await.id;
    let Ok(Reply::Topic(topic)) = node.execute(create("orders")).await else {
        panic!("no topic");
    };
    let claimed = node.claim(session).await.unwrap();
    Command::DeleteTopic {
        name: topic.name,
        id: topic.id,
        session,
        epoch: claimed.record.epoch,
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_is_swept_and_its_logs_are_told_as_deleted() {
    let node = Node::new().await;
    let delete = deletion(&node).await;
    node.execute(delete).await.unwrap();
    is_swept(&node, types::ShardId::new(1)).await;
    let log = types::LogId::new(1);
    let told = node.query(Query::Logs(vec![log])).await;
    let deleted = types::chain::LogStanding::Deleted;
    assert_eq!(told, Ok(Answer::Logs(vec![(log, deleted)])));
}

#[tokio::test(start_paused = true)]
async fn what_a_process_did_not_sweep_the_next_one_does() {
    let store = Arc::new(Reference::new());
    let first = Node::on(Arc::clone(&store)).await;
    let delete = deletion(&first).await;
    first.host.tasks.stop(LONG).await.unwrap();
    // Behind the back of any process, as if it had stopped right after the commit.
    let numbering = Numbering::new();
    execute(store.as_ref(), &numbering, &delete).await.unwrap();
    let second = Node::on(store).await;
    is_swept(&second, types::ShardId::new(1)).await;
}
