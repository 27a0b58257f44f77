//! What bookies ask of the auditor, over in-memory pipes.

use types::chain::{LinkEnd, LogKind, ShardChange, ShardCommand};
use types::cluster::{BookieClaim, BookieRecord};
use types::{BookieId, Incarnation, LedgerId, Offset};

use super::*;

#[tokio::test(start_paused = true)]
async fn due_copies_and_the_plan_are_told() {
    let node = Node::new().await;
    let due = |bookie| pb::DueCopiesRequest {
        caller: Some(caller()),
        bookie,
        limit: 16,
        stuck: Vec::new(),
    };
    let plan = async || {
        let caller = Some(caller());
        let request = pb::RepairPlanRequest { caller };
        let answer = node.stub.clone().repair_plan(request).await.unwrap();
        wire::plan(answer.into_inner()).unwrap()
    };
    let (bookie, ledger) = closed_ledger(&node).await;
    node.host.clock.sleep(AuditConfig::default().interval).await;
    node.host.clock.sleep(Duration::from_millis(100)).await;
    let given = node.stub.clone().due_copies(due(bookie.id.get())).await;
    let given = wire::due_answer(given.unwrap().into_inner()).unwrap();
    assert_eq!(given.iter().map(|it| it.id).collect::<Vec<_>>(), [ledger]);
    assert_eq!((plan().await.short, plan().await.closed), (1, 1));
    let word = Command::CopiesWhole {
        bookie: bookie.id,
        session: bookie.session,
        born: bookie.born,
        copies: vec![given[0].whole_copy(bookie.id)],
    };
    assert_eq!(node.execute(word).await, Ok(Reply::Done));
    let given = node.stub.clone().due_copies(due(bookie.id.get())).await;
    assert_eq!(given.unwrap().into_inner().ledgers, [], "at once");
    assert_eq!(plan().await.done_last_minute, 1);
    node.host
        .clock
        .sleep(AuditConfig::default().interval * 2)
        .await;
    assert!(plan().await.is_empty());
}

/// A bookie, and a ledger on it that is closed and empty.
async fn closed_ledger(node: &Node) -> (BookieRecord, LedgerId) {
    node.execute(create("x")).await.unwrap();
    let open = Command::OpenSession {
        role: NodeRole::Bookie,
        name: "b1".parse().unwrap(),
        address: "b:1".to_owned(),
        endpoint: String::new(),
        lease: LONG,
        command: CommandId::new(1),
    };
    let Ok(Reply::Session(own)) = node.execute(open).await else {
        panic!("a session opens");
    };
    let claim = BookieClaim {
        zone: None,
        name: own.name,
        address: own.address,
        id: None,
        born: None,
        incarnation: Incarnation::new(1),
        mark: 0,
        damaged: false,
    };
    let session = own.id;
    let Ok(Reply::Bookie(bookie)) = node
        .execute(Command::RegisterBookie { claim, session })
        .await
    else {
        panic!("a bookie registers");
    };
    let owner = node.open("s1").await;
    let view = node.claim(owner.id).await.unwrap();
    let view = extend(node, &view, None, Some(vec![bookie.id])).await;
    let ledger = view.record.message.tail_id().unwrap();
    let end = LinkEnd {
        last: None,
        next_offset: Offset::new(0),
    };
    extend(node, &view, Some(end), None).await;
    (bookie, ledger)
}

async fn extend(
    node: &Node,
    view: &ShardView,
    close: Option<LinkEnd>,
    successor: Option<Vec<BookieId>>,
) -> ShardView {
    let change = ShardCommand {
        shard: view.record.id,
        epoch: view.record.epoch,
        command: CommandId::new(node.host.rng.u128()),
        planned_on: view.version,
        change: ShardChange::Extend {
            log: LogKind::Message,
            close,
            successor,
        },
    };
    match node.execute(Command::ChangeShard(change)).await {
        Ok(Reply::Shard(ShardOutcome::Committed(view))) => view,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn bookie_is_drained_and_retired_only_when_the_ledgers_can_spare_it() {
    let node = Node::new().await;
    let (bookie, _) = closed_ledger(&node).await;
    node.host
        .clock
        .sleep(AuditConfig::default().interval * 2)
        .await;
    let id = bookie.id;
    let drain = Command::DrainBookie { id, draining: true };
    let few = node.execute(drain).await.unwrap_err();
    assert_eq!(few.reason, Reason::BadField);
    assert_eq!(
        (&*few.metadata["left"], &*few.metadata["needed"]),
        ("0", "1")
    );
    let named = node
        .execute(Command::RetireBookie { id })
        .await
        .unwrap_err();
    assert_eq!(named.reason, Reason::BadField);
    assert_eq!(named.metadata["ledgers"], "1");
}
