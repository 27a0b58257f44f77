use std::time::Duration;

use types::chain::{
    Assignment, Chain, ChainLink, Claim, LedgerRecord, LedgerState, LinkEnd, LogKind, LogStanding,
    ShardChange, ShardCommand, ShardOutcome, ShardRecord, ShardView, Verified, WholeCopy,
};
use types::cluster::{
    BookieClaim, BookieDuty, BookieRecord, BookieState, NodeRole, ServingNode, SessionRecord,
    SessionState, ShardPlace,
};
use types::command::{Answer, Command, Page, Query, Reply};
use types::repair::{BeyondRepair, BeyondWhy, BookieCopies, RepairPlan};
use types::topic::{
    NamespaceRecord, Retention, StartPosition, SubscriptionMode, SubscriptionRecord,
    SubscriptionState, TenantRecord, TopicRecord,
};
use types::{
    ByteSize, EntryId, Epoch, Incarnation, LedgerId, LedgerSeq, LogId, NodeId, Offset, Reason,
    SubscriptionId, SubscriptionName, TopicId, TopicName, WallTime,
};

use super::*;

const AT: WallTime = WallTime::from_nanos(5);
const HERE: ClusterId = ClusterId::new(7);

fn topic_name() -> TopicName {
    "orders".parse().unwrap()
}

fn subscription_name() -> SubscriptionName {
    "orders/subscriptions/s".parse().unwrap()
}

fn end(last: Option<u64>) -> LinkEnd {
    LinkEnd {
        last: last.map(EntryId::new),
        next_offset: Offset::new(9),
    }
}

fn change_of(change: ShardChange) -> Command {
    Command::ChangeShard(ShardCommand {
        shard: ShardId::new(1),
        epoch: Epoch::new(2),
        command: CommandId::new(3),
        planned_on: Revision::new(4),
        change,
    })
}

#[expect(clippy::too_many_lines, reason = "one of each")]
fn commands() -> Vec<Command> {
    let create = |start| Command::CreateSubscription {
        name: subscription_name(),
        mode: SubscriptionMode::Exclusive,
        ack_deadline: Duration::from_secs(30),
        start,
        at: AT,
    };
    let extend = |log, close, successor| {
        change_of(ShardChange::Extend {
            log,
            close,
            successor,
        })
    };
    let bookie = BookieId::new(3);
    vec![
        Command::OpenSession {
            role: NodeRole::Serving,
            name: "s1".parse().unwrap(),
            address: "a:1".to_owned(),
            endpoint: "http://a:2".to_owned(),
            lease: Duration::from_millis(1500),
            command: CommandId::new(u128::MAX),
        },
        Command::EndSession {
            session: SessionId::new(4),
        },
        Command::RegisterBookie {
            session: SessionId::new(4),
            claim: BookieClaim {
                zone: Some("rack-1".parse().unwrap()),
                name: "b1".parse().unwrap(),
                address: "b:1".to_owned(),
                id: Some(bookie),
                born: Some(Revision::new(0)),
                incarnation: Incarnation::new(6),
                mark: 7,
                damaged: true,
            },
        },
        Command::ReportBookie {
            id: bookie,
            session: SessionId::new(4),
            mark: 8,
            state: BookieState::ReadOnly,
        },
        Command::DrainBookie {
            id: bookie,
            draining: true,
        },
        Command::RetireBookie { id: bookie },
        Command::DrainServing {
            name: "s1".parse().unwrap(),
            draining: true,
        },
        Command::CopiesWhole {
            bookie,
            session: SessionId::new(4),
            born: Revision::new(5),
            copies: vec![
                WholeCopy {
                    ledger: LedgerId::new(LogId::new(1), LedgerSeq::new(2)),
                    assignment: None,
                },
                WholeCopy {
                    ledger: LedgerId::new(LogId::new(1), LedgerSeq::new(3)),
                    assignment: Some(Revision::new(9)),
                },
            ],
        },
        Command::CreateTenant {
            name: "tenants/acme".parse().unwrap(),
            at: AT,
        },
        Command::CreateNamespace {
            name: "tenants/acme/namespaces/shop".parse().unwrap(),
            at: AT,
        },
        Command::CreateTopic {
            name: topic_name(),
            quorum: Quorum::THREE_TWO,
            retention: Retention::FOREVER,
            at: AT,
        },
        Command::UpdateTopic {
            name: topic_name(),
            retention: Retention {
                time: Some(Duration::ZERO),
                bytes: Some(ByteSize::mib(7)),
            },
        },
        Command::DeleteTopic {
            name: topic_name(),
            id: TopicId::new(3),
            session: SessionId::new(4),
            epoch: Epoch::new(5),
        },
        create(StartPosition::Earliest),
        create(StartPosition::Latest),
        create(StartPosition::Offset(Offset::new(0))),
        Command::DeleteSubscription {
            name: "t/subscriptions/gone".parse().unwrap(),
            id: SubscriptionId::new(8),
            session: SessionId::new(9),
        },
        Command::ActivateSubscription {
            name: subscription_name(),
            id: SubscriptionId::new(5),
        },
        Command::ClaimShard(Claim {
            shard: ShardId::new(1),
            session: SessionId::new(4),
            command: CommandId::new(0),
        }),
        change_of(ShardChange::CloseRecovered {
            message: Some(end(None)),
            state: None,
        }),
        change_of(ShardChange::CloseRecovered {
            message: None,
            state: Some(end(Some(0))),
        }),
        extend(LogKind::Message, Some(end(Some(3))), Some(vec![bookie])),
        extend(LogKind::State, None, Some(Vec::new())),
        extend(LogKind::State, Some(end(None)), None),
        change_of(ShardChange::Trim {
            log: LogKind::State,
            first: LedgerSeq::new(4),
        }),
        change_of(ShardChange::Release),
        Command::AcceptLoss {
            ledger: LedgerId::new(LogId::new(1), LedgerSeq::new(2)),
            last: Some(EntryId::new(0)),
            next_offset: Offset::new(1),
            reason: "ann: gone".to_owned(),
            at: AT,
        },
    ]
}

fn ledger(state: LedgerState) -> LedgerRecord {
    LedgerRecord {
        id: LedgerId::new(LogId::new(1), LedgerSeq::new(2)),
        created: Revision::new(3),
        ensemble: vec![BookieId::new(1), BookieId::new(2)],
        quorum: Quorum::new(2, 1).unwrap(),
        state,
        verified: vec![Verified {
            bookie: BookieId::new(2),
            born: Revision::new(1),
        }],
        moving: Some(Assignment {
            from: BookieId::new(1),
            to: BookieId::new(3),
            number: Revision::new(4),
        }),
    }
}

fn view_of(owner: Option<u64>, command: Option<u128>) -> ShardView {
    let closed = ChainLink {
        seq: LedgerSeq::new(0),
        first_offset: Offset::new(0),
        end: Some(end(Some(1))),
    };
    let open = ChainLink {
        seq: LedgerSeq::new(1),
        first_offset: Offset::new(9),
        end: None,
    };
    ShardView {
        record: ShardRecord {
            id: ShardId::new(1),
            topic: TopicId::new(2),
            quorum: Quorum::ONE,
            epoch: Epoch::new(3),
            owner: owner.map(SessionId::new),
            last_command: command.map(CommandId::new),
            message: Chain {
                log: LogId::new(1),
                first: LedgerSeq::new(0),
                first_offset: Offset::new(0),
                links: vec![closed, open],
            },
            state: Chain {
                first: LedgerSeq::new(7),
                first_offset: Offset::new(8),
                ..Chain::empty(LogId::new(2))
            },
            is_deleted: true,
        },
        version: Revision::new(11),
        tails: vec![ledger(LedgerState::Open)],
    }
}

fn session_of(state: SessionState) -> SessionRecord {
    SessionRecord {
        id: SessionId::new(1),
        role: NodeRole::Bookie,
        node: NodeId::new(2),
        name: "b1".parse().unwrap(),
        address: "b:1".to_owned(),
        endpoint: String::new(),
        lease: Duration::from_secs(10),
        state,
    }
}

fn bookie_of(state: BookieState, live: bool) -> BookieRecord {
    BookieRecord {
        zone: None,
        id: BookieId::new(1),
        name: "b1".parse().unwrap(),
        address: "b:1".to_owned(),
        born: Revision::new(2),
        incarnation: Incarnation::new(3),
        mark: 4,
        state,
        duty: BookieDuty::Gone,
        session: SessionId::new(5),
        live,
    }
}

fn tenant_of() -> TenantRecord {
    TenantRecord {
        name: "tenants/acme".parse().unwrap(),
        created_at: AT,
    }
}

fn namespace_of() -> NamespaceRecord {
    NamespaceRecord {
        name: "tenants/acme/namespaces/shop".parse().unwrap(),
        created_at: AT,
    }
}

fn topic_of() -> TopicRecord {
    TopicRecord {
        id: TopicId::new(1),
        name: topic_name(),
        quorum: Quorum::THREE_TWO,
        retention: Retention::DEFAULT,
        shards: vec![ShardId::new(1)],
        created_at: AT,
    }
}

fn subscription_of(state: SubscriptionState) -> SubscriptionRecord {
    SubscriptionRecord {
        id: SubscriptionId::new(1),
        topic: TopicId::new(2),
        name: subscription_name(),
        mode: SubscriptionMode::Shared,
        ack_deadline: Duration::from_nanos(1),
        start: StartPosition::Offset(Offset::new(3)),
        state,
        created_at: AT,
    }
}

#[test]
fn commands_survive_the_wire() {
    for it in commands() {
        let wire = command_to_wire(&it).unwrap();
        assert_eq!(command(wire, AT), Ok(it));
    }
}

#[test]
fn commands_of_meta_itself_have_no_wire_form() {
    let session = SessionId::new(1);
    for it in [
        Command::Bootstrap {
            cluster: HERE,
            at: AT,
        },
        Command::ReviveSession { session },
        Command::ExpireSession { session },
    ] {
        assert_eq!(command_to_wire(&it).unwrap_err().reason, Reason::BadField);
    }
}

#[test]
fn replies_survive_the_wire() {
    let mut replies = vec![
        Reply::Done,
        Reply::Bookie(bookie_of(BookieState::ReadWrite, true)),
        Reply::Bookie(bookie_of(BookieState::ReadOnly, false)),
        Reply::Tenant(tenant_of()),
        Reply::Namespace(namespace_of()),
        Reply::Topic(topic_of()),
        Reply::Subscription(subscription_of(SubscriptionState::Creating)),
        Reply::Subscription(subscription_of(SubscriptionState::Active)),
        Reply::Subscription(subscription_of(SubscriptionState::Deleted)),
        Reply::Shard(ShardOutcome::Committed(view_of(Some(0), Some(0)))),
        Reply::Shard(ShardOutcome::Conflict(view_of(None, None))),
    ];
    for state in [
        SessionState::Live,
        SessionState::Expired,
        SessionState::Replaced,
        SessionState::Ended,
    ] {
        replies.push(Reply::Session(session_of(state)));
    }
    for it in replies {
        assert_eq!(reply(reply_to_wire(&it)), Ok(it));
    }
}

#[test]
fn queries_survive_the_wire() {
    let page = Page {
        after: Some(String::new()),
        limit: 3,
    };
    let topic = topic_name();
    let namespace = topic.namespace();
    for it in [
        Query::Cluster,
        Query::Tenant(namespace.tenant()),
        Query::Tenants(page.clone()),
        Query::Namespace(namespace.clone()),
        Query::Namespaces(namespace.tenant(), page.clone()),
        Query::Topic(topic.clone()),
        Query::Topics(namespace, page.clone()),
        Query::Subscription(subscription_name()),
        Query::Subscriptions(topic, page),
        Query::Shard(ShardId::new(1)),
        Query::Ledgers(vec![LedgerId::new(LogId::new(1), LedgerSeq::new(2))]),
        Query::Logs(vec![LogId::new(1), LogId::new(u64::MAX)]),
        Query::Bookies,
        Query::Sessions,
        Query::ServingNodes,
        Query::Shards(Page {
            after: Some(topic_name().to_string()),
            limit: 5,
        }),
    ] {
        assert_eq!(query(query_to_wire(&it)), Ok(it));
    }
}

#[test]
fn answers_survive_the_wire() {
    let recovering = LedgerState::Recovering {
        epoch: Epoch::new(0),
    };
    let closed = |last: Option<u64>, complete| LedgerState::Closed {
        last: last.map(EntryId::new),
        complete,
    };
    let states = [recovering, closed(None, false), closed(Some(0), true)];
    let session = session_of(SessionState::Ended);
    let place = |owner: Option<u64>| ShardPlace {
        shard: ShardId::new(1),
        topic: topic_name(),
        owner: owner.map(SessionId::new),
    };
    for it in [
        Answer::Cluster(HERE),
        Answer::Tenant(None),
        Answer::Tenant(Some(tenant_of())),
        Answer::Tenants(vec![tenant_of(), tenant_of()]),
        Answer::Namespace(Some(namespace_of())),
        Answer::Namespaces(Vec::new()),
        Answer::Topic(Some(topic_of())),
        Answer::Topics(vec![topic_of()]),
        Answer::Subscription(None),
        Answer::Subscriptions(vec![subscription_of(SubscriptionState::Active)]),
        Answer::Shard(None, None),
        Answer::Shard(Some(view_of(Some(1), Some(2))), Some(session.clone())),
        Answer::Ledgers(states.into_iter().map(ledger).collect()),
        Answer::Logs(vec![
            (LogId::new(1), LogStanding::Deleted),
            (
                LogId::new(2),
                LogStanding::Live {
                    first: LedgerSeq::new(0),
                },
            ),
        ]),
        Answer::Bookies(vec![bookie_of(BookieState::ReadOnly, true)]),
        Answer::Sessions(vec![session.clone()]),
        Answer::ServingNodes(vec![ServingNode {
            session,
            is_drained: true,
        }]),
        Answer::Shards(vec![place(Some(7)), place(None)]),
    ] {
        assert_eq!(answer(answer_to_wire(&it)), Ok(it));
    }
}

#[test]
fn due_copies_and_plans_survive_the_wire() {
    let id = |seq| LedgerId::new(LogId::new(1), LedgerSeq::new(seq));
    let ask = DueAsk {
        bookie: BookieId::new(2),
        limit: 16,
        stuck: vec![id(0)],
    };
    assert_eq!(due_ask(&due_ask_to_wire(caller(Some(HERE)), &ask)), ask);
    let due = vec![ledger(LedgerState::Open)];
    assert_eq!(due_answer(due_answer_to_wire(&due)), Ok(due));
    let beyond = [
        BeyondWhy::NoTarget {
            of: BookieId::new(1),
        },
        BeyondWhy::NoCopy,
        BeyondWhy::EntriesMissing {
            at: BookieId::new(3),
        },
    ];
    let beyond = beyond.map(|why| BeyondRepair { ledger: id(4), why });
    let bookie = BookieCopies {
        bookie: BookieId::new(1),
        named: 2,
        due: 3,
        leaving: 4,
        is_lost: true,
    };
    let it = RepairPlan {
        is_known: true,
        closed: 1,
        whole: 2,
        short: 3,
        moving: 4,
        waiting: 5,
        beyond_count: 6,
        beyond: beyond.to_vec(),
        bookies: vec![bookie],
        done_last_minute: 7,
        left: Some(Duration::from_millis(8)),
    };
    assert_eq!(plan(plan_to_wire(&it)), Ok(it));
}

#[test]
fn watches_survive_the_wire() {
    let changes = [
        Change::Shard(ShardId::new(1)),
        Change::Topic(topic_name()),
        Change::Subscription(subscription_name()),
        Change::Bookie(BookieId::new(2)),
        Change::Session(SessionId::new(3)),
    ];
    let events: Vec<ChangeEvent> = changes
        .into_iter()
        .map(|change| ChangeEvent {
            revision: Revision::new(4),
            change,
        })
        .collect();
    let upto = Revision::new(6);
    let wire = changes_to_wire(&events, upto);
    assert_eq!(watched(wire), Ok(Watched::Changes { events, upto }));
    assert_eq!(
        watched(reset_to_wire(upto)),
        Ok(Watched::Reset { now: upto })
    );
}

#[test]
fn empty_and_unknown_parts_are_refused_by_name() {
    use pb::command::Command as Wire;
    let refused = |wire: Option<Wire>| {
        let problem = command(pb::Command { command: wire }, AT).unwrap_err();
        assert_eq!(problem.reason, Reason::BadField);
        problem.field.unwrap()
    };
    let open = |edit: &dyn Fn(&mut pb::OpenSession)| {
        let Some(Wire::OpenSession(mut open)) = command_to_wire(&commands()[0]).unwrap().command
        else {
            panic!("the first command opens a session");
        };
        edit(&mut open);
        Some(Wire::OpenSession(open))
    };
    assert_eq!(refused(None), "command");
    assert_eq!(refused(open(&|open| open.role = 0)), "role");
    assert_eq!(refused(open(&|open| open.role = 99)), "role");
    assert_eq!(refused(open(&|open| open.name = "a b".to_owned())), "name");
    assert_eq!(
        refused(open(&|open| open.command = bytes::Bytes::new())),
        "command"
    );
    let topic = pb::CreateTopic {
        name: "x".to_owned(),
        quorum: None,
        retention: Some(pb::Retention::default()),
    };
    assert_eq!(refused(Some(Wire::CreateTopic(topic.clone()))), "quorum");
    for (write, ack) in [(0, 0), (2, 2), (300, 1), (256 + 3, 2)] {
        let quorum = Some(pb::Quorum { write, ack });
        let topic = pb::CreateTopic {
            quorum,
            ..topic.clone()
        };
        assert_eq!(refused(Some(Wire::CreateTopic(topic))), "quorum");
    }
    assert_eq!(
        refused(Some(Wire::ChangeShard(pb::ChangeShard::default()))),
        "change"
    );
    assert_eq!(
        refused(Some(Wire::AcceptLoss(pb::AcceptLoss::default()))),
        "end"
    );
    assert!(query(pb::Query::default()).is_err());
    assert!(reply(pb::Reply::default()).is_err());
    assert!(answer(pb::Answer::default()).is_err());
    assert!(watched(pb::WatchResponse::default()).is_err());
}

#[test]
fn callers_of_other_clusters_and_versions_are_refused() {
    assert_eq!(check_caller(Some(&caller(Some(HERE))), HERE), Ok(()));
    assert_eq!(check_newcomer(Some(&caller(None)), HERE), Ok(()));
    let reason = |result: Result<(), Problem>| result.unwrap_err().reason;
    let other = caller(Some(ClusterId::new(8)));
    assert_eq!(
        reason(check_caller(Some(&other), HERE)),
        Reason::WrongCluster
    );
    assert_eq!(
        reason(check_newcomer(Some(&other), HERE)),
        Reason::WrongCluster
    );
    assert_eq!(
        reason(check_caller(Some(&caller(None)), HERE)),
        Reason::BadField
    );
    assert_eq!(reason(check_caller(None, HERE)), Reason::BadField);
    let mut newer = caller(Some(HERE));
    newer.version += 1;
    assert_eq!(
        reason(check_caller(Some(&newer), HERE)),
        Reason::WrongVersion
    );
    let generation = MetaGeneration::default().next(5, true);
    let answer = hello(HERE, &generation, Revision::new(3));
    assert_eq!(hello_from_wire(&answer), Ok((HERE, generation)));
}
