use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use types::storage::{
    Add, AddKind, AddResult, LacResult, Read, ReadLac, ReadResult, ReadRun, RunItem, SealedReason,
    SetLac,
};

use super::*;
use crate::transport::FRAME_TARGET;

const HERE: ClusterId = ClusterId::new(0xabc);
const ME: BookieId = BookieId::new(4);

fn payload() -> impl Strategy<Value = Payload> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    (bytes(), bytes()).prop_map(|(head, body)| Payload::new(head.into(), body.into()))
}

fn ledger() -> impl Strategy<Value = (LedgerId, Revision)> {
    (any::<u64>(), any::<u32>(), any::<u64>()).prop_map(|(log, seq, created)| {
        (
            LedgerId::new(LogId::new(log), LedgerSeq::new(seq)),
            Revision::new(created),
        )
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    (ledger(), any::<u64>(), any::<u64>(), payload()).prop_map(
        |((ledger, _), id, next, payload)| {
            Entry::new(ledger, EntryId::new(id), Offset::new(next), payload)
        },
    )
}

fn some<T: std::fmt::Debug>(raw: fn(u64) -> T) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(any::<u64>().prop_map(raw))
}

fn add_strategy() -> impl Strategy<Value = Add> {
    let kind = prop_oneof![
        Just(AddKind::Write),
        Just(AddKind::Recovery),
        Just(AddKind::Repair)
    ];
    (ledger(), any::<u64>(), some(EntryId::new), kind, entry()).prop_map(
        |((ledger, created), epoch, lac, kind, entry)| Add {
            ledger,
            created,
            epoch: Epoch::new(epoch),
            lac,
            kind,
            entry,
        },
    )
}

fn add_result() -> impl Strategy<Value = AddResult> {
    prop_oneof![
        Just(AddResult::Stored),
        any::<u64>().prop_map(|by| AddResult::Fenced { by: Epoch::new(by) }),
        Just(AddResult::Sealed(SealedReason::SuccessorSeen)),
        Just(AddResult::Sealed(SealedReason::OlderThanBirth)),
        Just(AddResult::Sealed(SealedReason::Dropped)),
        Just(AddResult::Mismatch),
        Just(AddResult::Busy),
        Just(AddResult::ReadOnly),
    ]
}

fn run_item() -> impl Strategy<Value = RunItem> {
    prop_oneof![
        entry().prop_map(RunItem::Entry),
        (any::<u64>(), any::<u64>(), any::<[u8; 9]>()).prop_map(|(id, next, prefix)| {
            RunItem::Prefix {
                id: EntryId::new(id),
                next_offset: Offset::new(next),
                prefix: Bytes::copy_from_slice(&prefix),
            }
        }),
        Just(RunItem::NeverHad),
        Just(RunItem::Unknown),
        Just(RunItem::Busy),
    ]
}

/// Sends a message: encodes and decodes it.
fn sent<T: Message + Default>(message: &T) -> T {
    T::decode(Bytes::from(message.encode_to_vec())).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn adds_survive_the_wire(
        adds in proptest::collection::vec((any::<u64>(), add_strategy()), 0..4),
        lac in (ledger(), any::<u64>(), any::<u64>())
    ) {
        let ((ledger, created), epoch, lac) = lac;
        let lac = SetLac { ledger, created, epoch: Epoch::new(epoch), lac: EntryId::new(lac) };
        let mut builder = AddBatchBuilder::default();
        for (id, add) in &adds {
            builder.add(*id, add.clone());
        }
        builder.set_lac(lac);
        let frame = add_frame(sent(&builder.finish())).unwrap();
        prop_assert_eq!(frame, AddFrame::Batch { adds, lacs: vec![lac] });
    }

    #[test]
    fn answers_to_adds_survive_the_wire(
        answers in proptest::collection::vec((any::<u64>(), add_result()), 0..6)
    ) {
        prop_assert_eq!(replies(sent(&replies_frame(answers.clone()))).unwrap(), answers);
    }

    #[test]
    fn reads_survive_the_wire(ledger in ledger(), entry in entry(), fence in some(Epoch::new), lac in some(EntryId::new)) {
        let (ledger, created) = ledger;
        let read = Read { ledger, created, entry: entry.id, fence };
        prop_assert_eq!(read_from_wire(sent(&read_request(HERE, ME, &read))).unwrap(), read);
        let read = ReadLac { ledger, created, fence };
        prop_assert_eq!(read_lac_from_wire(sent(&read_lac_request(HERE, ME, &read))).unwrap(), read);
        let by = fence.unwrap_or(Epoch::new(0));
        for result in [
            ReadResult::Found { entry, lac },
            ReadResult::NeverHad,
            ReadResult::Unknown,
            ReadResult::Fenced { by },
            ReadResult::Busy,
        ] {
            prop_assert_eq!(read_result(sent(&read_response(&result))).unwrap(), result);
        }
        for result in [LacResult::Lac(lac), LacResult::Fenced { by }, LacResult::Busy] {
            prop_assert_eq!(lac_result(sent(&lac_response(result))).unwrap(), result);
        }
    }

    #[test]
    fn runs_survive_the_wire(
        ledger in ledger(), bounds in any::<(u64, u64)>(), max_bytes in any::<u64>(),
        payload_limit in any::<Option<u32>>(), items in proptest::collection::vec(run_item(), 0..5)
    ) {
        let (ledger, created) = ledger;
        let (first, last) = (bounds.0.min(bounds.1), bounds.0.max(bounds.1));
        let run = ReadRun {
            ledger, created, first: EntryId::new(first), last: EntryId::new(last), max_bytes, payload_limit,
        };
        prop_assert_eq!(read_run_from_wire(sent(&read_run_request(HERE, ME, &run))).unwrap(), run);
        let mut builder = RunBuilder::default();
        for item in items.clone() {
            prop_assert_eq!(builder.push(item), None);
        }
        let read = builder.finish().map_or(Vec::new(), |chunk| run_items(sent(&chunk)).unwrap());
        prop_assert_eq!(read, items);
    }

    #[test]
    fn random_frames_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let bytes = Bytes::from(bytes);
        let _ = pb::AddEntriesRequest::decode(bytes.clone()).map(add_frame);
        let _ = pb::AddEntriesResponse::decode(bytes.clone()).map(replies);
        let _ = pb::ReadRequest::decode(bytes.clone()).map(read_from_wire);
        let _ = pb::ReadResponse::decode(bytes.clone()).map(read_result);
        let _ = pb::ReadLacResponse::decode(bytes.clone()).map(lac_result);
        let _ = pb::ReadRunResponse::decode(bytes.clone()).map(run_items);
        let _ = pb::DescribeResponse::decode(bytes).map(description);
    }
}

#[test]
fn the_largest_number_is_no_entrys_id() {
    let wire = |first, last| pb::ReadRunRequest {
        ledger: Some(ledger_to_wire(
            LedgerId::new(LogId::new(1), LedgerSeq::new(0)),
            Revision::new(1),
        )),
        first,
        last,
        ..pb::ReadRunRequest::default()
    };
    assert!(read_run_from_wire(wire(0, u64::MAX - 1)).is_ok());
    let problem = read_run_from_wire(wire(0, u64::MAX)).unwrap_err();
    assert_eq!(
        (problem.reason, problem.field.as_deref()),
        (Reason::BadField, Some("last"))
    );
    let read = pb::ReadRequest {
        ledger: wire(0, 0).ledger,
        entry: u64::MAX,
        ..pb::ReadRequest::default()
    };
    assert_eq!(
        read_from_wire(read).unwrap_err().field.as_deref(),
        Some("entry")
    );
}

#[test]
fn the_handshake_names_who_is_meant_and_who_answers() {
    let AddFrame::Hello(target) = add_frame(sent(&hello(HERE, ME))).unwrap() else {
        panic!("a hello");
    };
    assert_eq!(check_target(Some(&target), HERE, ME), Ok(()));
    let reason = |cluster, bookie| {
        check_target(Some(&target), cluster, bookie)
            .unwrap_err()
            .reason
    };
    assert_eq!(reason(ClusterId::new(1), ME), Reason::WrongCluster);
    assert_eq!(reason(HERE, BookieId::new(5)), Reason::WrongNode);
    let newer = pb::Target {
        version: PROTOCOL_VERSION + 1,
        ..target.clone()
    };
    assert_eq!(
        check_target(Some(&newer), HERE, ME).unwrap_err().reason,
        Reason::WrongVersion
    );
    let short = pb::Target {
        cluster: Bytes::from_static(b"short"),
        ..target.clone()
    };
    let problem = check_target(Some(&short), HERE, ME).unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("target.cluster"));
    assert_eq!(
        check_target(None, HERE, ME).unwrap_err().reason,
        Reason::BadField
    );

    let reply = HelloReply {
        bookie: ME,
        born: Revision::new(9),
        incarnation: Incarnation::new(3),
        features: FEATURES,
    };
    assert_eq!(hello_reply(sent(&hello_frame(reply))), Ok(reply));
    let wrong = replies_frame([(1, AddResult::Stored)]);
    assert_eq!(hello_reply(wrong).unwrap_err().reason, Reason::BadFrame);
    assert_eq!(
        replies(hello_frame(reply)).unwrap_err().reason,
        Reason::BadFrame
    );
}

#[test]
fn a_description_may_be_asked_of_whoever_answers() {
    let anyone = describe_request(HERE, None).target;
    assert_eq!(check_any_target(anyone.as_ref(), HERE, ME), Ok(()));
    let problem = check_any_target(anyone.as_ref(), ClusterId::new(1), ME).unwrap_err();
    assert_eq!(problem.reason, Reason::WrongCluster);
    let other = describe_request(HERE, Some(BookieId::new(5))).target;
    let problem = check_any_target(other.as_ref(), HERE, ME).unwrap_err();
    assert_eq!(problem.reason, Reason::WrongNode);
    let it = Description {
        identity: HelloReply {
            bookie: ME,
            born: Revision::new(9),
            incarnation: Incarnation::new(3),
            features: FEATURES,
        },
        cluster: HERE,
        name: "bookie-1".to_owned(),
        writable: true,
        release: "0.1.0".to_owned(),
    };
    assert_eq!(description(sent(&describe_response(it.clone()))), Ok(it));
    assert!(description(pb::DescribeResponse::default()).is_err());
}

#[test]
fn what_takes_space_goes_through_the_wire_unchanged() {
    let it = SpaceUse {
        name: "bookie-1".to_owned(),
        bookie: ME,
        cluster: HERE,
        writable: true,
        live: 1,
        trimmed: 2,
        deleted: 3,
        moved: 4,
        passing: 5,
        journal: 6,
        ahead: 7,
        other: 8,
        free: 9,
        free_low: 10,
        logs: vec![(LogId::new(7), 11), (LogId::new(3), 12)],
    };
    assert_eq!(space_use(sent(&space_response(it.clone()))), Ok(it));
    assert!(space_use(pb::DescribeSpaceResponse::default()).is_err());
}

#[test]
fn what_is_missing_is_named_and_silence_is_never_a_no() {
    let field = |problem: Problem| problem.field.unwrap();
    let entry = Entry::new(
        LedgerId::new(LogId::new(1), LedgerSeq::new(0)),
        EntryId::new(0),
        Offset::new(1),
        Payload::default(),
    );
    let whole = add(
        1,
        Add {
            ledger: LedgerId::new(LogId::new(1), LedgerSeq::new(0)),
            created: Revision::new(1),
            epoch: Epoch::new(1),
            lac: None,
            kind: AddKind::Write,
            entry,
        },
    );
    let broken = |change: fn(&mut pb::Add)| {
        let mut add = whole.clone();
        change(&mut add);
        field(add_from_wire(add).unwrap_err())
    };
    assert_eq!(broken(|add| add.ledger = None), "add.ledger");
    assert_eq!(broken(|add| add.entry = None), "add.entry");
    assert_eq!(broken(|add| add.kind = 0), "add.kind");
    assert_eq!(broken(|add| add.kind = 99), "add.kind");
    assert_eq!(
        add_frame(pb::AddEntriesRequest::default())
            .unwrap_err()
            .reason,
        Reason::BadFrame
    );
    assert_eq!(
        field(read_result(pb::ReadResponse::default()).unwrap_err()),
        "result"
    );
    assert_eq!(
        field(lac_result(pb::ReadLacResponse::default()).unwrap_err()),
        "result"
    );
    let chunk = pb::ReadRunResponse {
        items: vec![pb::RunItem::default()],
    };
    assert_eq!(field(run_items(chunk).unwrap_err()), "item");
    let mut unheard = replies_frame([(1, AddResult::Stored)]);
    if let Some(pb::add_entries_response::Frame::Replies(replies)) = &mut unheard.frame {
        replies.items[0].outcome = 99;
    }
    assert!(replies(unheard).is_err());
}

#[test]
fn an_entry_above_the_limit_is_refused() {
    let ledger = LedgerId::new(LogId::new(1), LedgerSeq::new(0));
    let sized = |len: usize| {
        let payload = Payload::new(Bytes::from_static(b"head"), vec![7; len - 4].into());
        let entry = Entry::new(ledger, EntryId::new(0), Offset::new(1), payload);
        add_from_wire(add(
            1,
            Add {
                ledger,
                created: Revision::new(1),
                epoch: Epoch::new(1),
                lac: None,
                kind: AddKind::Write,
                entry,
            },
        ))
    };
    assert!(sized(Entry::MAX_PAYLOAD).is_ok());
    assert_eq!(
        sized(Entry::MAX_PAYLOAD + 1).unwrap_err().reason,
        Reason::MessageTooLarge
    );
}

#[test]
fn a_run_is_cut_at_the_frame_target_and_a_larger_entry_goes_alone() {
    let ledger = LedgerId::new(LogId::new(1), LedgerSeq::new(0));
    let sized = |id: u64, len: usize| {
        let payload = Payload::whole(vec![7; len].into());
        RunItem::Entry(Entry::new(
            ledger,
            EntryId::new(id),
            Offset::new(id + 1),
            payload,
        ))
    };
    let mut builder = RunBuilder::default();
    let items = [
        sized(0, 600_000),
        sized(1, 600_000),
        sized(2, 3 << 20),
        sized(3, 10),
        RunItem::Busy,
    ];
    let mut chunks: Vec<_> = items
        .iter()
        .cloned()
        .filter_map(|item| builder.push(item))
        .collect();
    chunks.extend(builder.finish());
    assert!(builder.finish().is_none());
    let lens: Vec<usize> = chunks.iter().map(|chunk| chunk.items.len()).collect();
    assert_eq!(lens, [1, 1, 1, 2]);
    for chunk in &chunks {
        assert!(chunk.items.len() == 1 || chunk.encoded_len() <= FRAME_TARGET);
    }
    let read: Vec<RunItem> = chunks
        .into_iter()
        .flat_map(|chunk| run_items(chunk).unwrap())
        .collect();
    assert_eq!(read, items);
}

#[test]
fn a_payload_is_neither_joined_nor_copied_on_its_way_into_and_out_of_a_frame() {
    let (head, body) = (Bytes::from(vec![1; 40]), Bytes::from(vec![2; 4000]));
    let ledger = LedgerId::new(LogId::new(1), LedgerSeq::new(0));
    let payload = Payload::new(head.clone(), body.clone());
    let entry = Entry::new(ledger, EntryId::new(0), Offset::new(1), payload);
    let wire = add(
        1,
        Add {
            ledger,
            created: Revision::new(1),
            epoch: Epoch::new(1),
            lac: None,
            kind: AddKind::Write,
            entry,
        },
    );
    let sent = wire.entry.as_ref().unwrap();
    assert_eq!(
        (sent.head.as_ptr(), sent.body.as_ptr()),
        (head.as_ptr(), body.as_ptr())
    );
    let received = Bytes::from(wire.encode_to_vec());
    let (_, add) = add_from_wire(pb::Add::decode(received.clone()).unwrap()).unwrap();
    assert!(
        received
            .as_ptr_range()
            .contains(&add.entry.payload.body().as_ptr())
    );
    assert!(add.entry.is_intact(ledger));
}
