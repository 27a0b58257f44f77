//! Whole meta processes on one etcd.

use host::net::Address;
use proto::meta as wire;
use proto::meta_v1 as pb;
use proto::meta_v1::meta_client::MetaClient as Stub;
use proto::status::from_status;
use proto::transport::channel;
use tonic::transport::Channel;
use types::cluster::{NodeRole, SessionRecord, SessionState};
use types::command::{Command, Reply};
use types::{CommandId, Problem, Reason};

use super::*;
use crate::{EtcdMetaConfig, Meta};

/// A meta process, and a connection to it.
struct Process {
    host: Host,
    stub: Stub<Channel>,
    cluster: ClusterId,
}

impl Process {
    async fn start(server: &Server) -> Self {
        let host = Host::real("meta");
        let config = EtcdMetaConfig {
            listen: Address::new("127.0.0.1:0"),
            advertise: None,
            store: server.config(PREFIX),
            audit: crate::AuditConfig::default(),
        };
        let meta = Meta::start_on_etcd(&host, config).await.unwrap();
        let stub = Stub::new(channel(&host.net, meta.address()));
        Self {
            host,
            stub,
            cluster: meta.cluster(),
        }
    }

    async fn hello(&self) -> Result<(), Problem> {
        let caller = Some(wire::caller(None));
        let answer = self.stub.clone().hello(pb::HelloRequest { caller }).await;
        answer.map(drop).map_err(|status| from_status(&status))
    }

    async fn becomes_active(&self) {
        let active = async {
            while self.hello().await.is_err() {
                self.host.clock.sleep(Duration::from_millis(20)).await;
            }
        };
        self.host.clock.timeout(LONG, active).await.unwrap();
    }

    async fn open(&self, lease: Duration) -> SessionRecord {
        let open = Command::OpenSession {
            role: NodeRole::Serving,
            name: "serving-1".parse().unwrap(),
            address: "s:1".to_owned(),
            endpoint: "http://s:2".to_owned(),
            lease,
            command: CommandId::new(1),
        };
        let request = pb::ExecuteRequest {
            caller: Some(wire::caller(Some(self.cluster))),
            command: Some(wire::command_to_wire(&open).unwrap()),
        };
        let answer = self.stub.clone().execute(request).await.unwrap();
        match wire::reply(answer.into_inner().reply.unwrap()) {
            Ok(Reply::Session(session)) => session,
            other => panic!("{other:?}"),
        }
    }

    async fn state(&self, session: &SessionRecord) -> SessionState {
        let query = types::command::Query::Sessions;
        let request = pb::QueryRequest {
            caller: Some(wire::caller(Some(self.cluster))),
            query: Some(wire::query_to_wire(&query)),
        };
        let answer = self.stub.clone().query(request).await.unwrap();
        match wire::answer(answer.into_inner().answer.unwrap()) {
            Ok(types::command::Answer::Sessions(all)) => {
                all.iter().find(|one| one.id == session.id).unwrap().state
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn one_that_stands_by_says_who_is_active_and_takes_over_with_all_leases_anew() {
    let Some(binary) = binary() else { return };
    let server = Server::start(binary, 1).await;
    let first = Process::start(&server).await;
    first.becomes_active().await;
    let second = Process::start(&server).await;
    assert_eq!(first.cluster, second.cluster);
    let told = async {
        loop {
            let problem = second.hello().await.unwrap_err();
            assert_eq!(problem.reason, Reason::Unreachable);
            if problem.metadata.contains_key("active") {
                return problem;
            }
            second.host.clock.sleep(Duration::from_millis(20)).await;
        }
    };
    let problem = second.host.clock.timeout(LONG, told).await.unwrap();
    assert!(problem.metadata["active"].starts_with("127.0.0.1:"));
    // Its lease would have run out long before the takeover is over, were it not for the new one's start.
    let lease = Duration::from_secs(2);
    let session = first.open(lease).await;
    let begun = first.host.clock.now();
    first.host.tasks.stop(LONG).await.unwrap();
    second.becomes_active().await;
    let took = first.host.clock.now().since(begun);
    assert!(
        took < Duration::from_secs(2),
        "a clean stop gives the key back: {took:?}"
    );
    assert_eq!(second.state(&session).await, SessionState::Live);
    let active = second.host.clock.now();
    while second.state(&session).await == SessionState::Live {
        second.host.clock.sleep(Duration::from_millis(20)).await;
    }
    let lasted = second.host.clock.now().since(active);
    assert!(lasted > lease / 2, "{lasted:?}");
    // An expired one is brought to life again by the next start.
    second.host.tasks.stop(LONG).await.unwrap();
    let third = Process::start(&server).await;
    third.becomes_active().await;
    assert_eq!(third.state(&session).await, SessionState::Live);
}

#[tokio::test]
async fn active_that_loses_etcd_stops_serving_and_serves_again_when_it_is_back() {
    let Some(binary) = binary() else { return };
    let mut server = Server::start(binary, 1).await;
    let node = Process::start(&server).await;
    node.becomes_active().await;
    let session = node.open(Duration::from_secs(2)).await;
    server.kill(0);
    let stops = async {
        while node.hello().await.is_ok() {
            node.host.clock.sleep(Duration::from_millis(20)).await;
        }
    };
    let begun = node.host.clock.now();
    node.host.clock.timeout(LONG, stops).await.unwrap();
    let lasted = node.host.clock.now().since(begun);
    assert!(lasted < Duration::from_secs(3), "{lasted:?}");
    server.run(0);
    node.becomes_active().await;
    assert_eq!(node.state(&session).await, SessionState::Live);
    node.host.tasks.stop(LONG).await.unwrap();
}
