use std::collections::BTreeMap;
use std::time::Duration;

use types::chain::{Chain, ChainLink, LinkEnd};
use types::{Quorum, TopicName};

use types::chain::{Assignment, LedgerState, Verified};
use types::cluster::{BookieDuty, BookieState};
use types::{Incarnation, Revision};

use super::*;
use crate::{BookieBody, LedgerBody};

/// One of each, with every option both ways.
#[expect(clippy::too_many_lines, reason = "a table with one of each")]
fn samples() -> Vec<(Key, Record)> {
    let topic: TopicName = "orders".parse().unwrap();
    let billing = topic.subscription("billing").unwrap();
    let ledger = LedgerId::new(LogId::new(17), LedgerSeq::new(3));
    let at = WallTime::from_nanos(1_700_000_000_000_000_001);
    let link = |seq, end| ChainLink {
        seq: LedgerSeq::new(seq),
        first_offset: Offset::new(10),
        end,
    };
    let end = |last: Option<u64>| {
        Some(LinkEnd {
            last: last.map(EntryId::new),
            next_offset: Offset::new(10),
        })
    };
    let members = [3, 1, 2].map(BookieId::new);
    let body = |state| LedgerBody::tail(members.to_vec(), Quorum::THREE_TWO, state);
    let mut samples = vec![
        (Key::Cluster, Record::Cluster(ClusterId::new(0xabc))),
        (Key::Counters, Record::Counters(Counters::FIRST)),
        (
            Key::Tenant("tenants/acme".parse().unwrap()),
            Record::Tenant(TenantRecord {
                name: "tenants/acme".parse().unwrap(),
                created_at: at,
            }),
        ),
        (
            Key::Namespace("tenants/acme/namespaces/shop".parse().unwrap()),
            Record::Namespace(NamespaceRecord {
                name: "tenants/acme/namespaces/shop".parse().unwrap(),
                created_at: at,
            }),
        ),
        (
            Key::Topic(topic.clone()),
            Record::Topic(TopicRecord {
                id: TopicId::new(5),
                name: topic,
                quorum: Quorum::THREE_TWO,
                retention: Retention {
                    time: Some(Duration::new(60, 1)),
                    bytes: Some(ByteSize::mib(5)),
                },
                shards: vec![ShardId::new(6)],
                created_at: at,
            }),
        ),
        (
            Key::Subscription(billing.clone()),
            Record::Subscription(SubscriptionRecord {
                id: SubscriptionId::new(7),
                topic: TopicId::new(5),
                name: billing,
                mode: SubscriptionMode::Shared,
                ack_deadline: Duration::new(30, 5),
                start: StartPosition::Offset(Offset::new(9)),
                state: SubscriptionState::Creating,
                created_at: at,
            }),
        ),
        (
            Key::Shard(ShardId::new(6)),
            Record::Shard(ShardRecord {
                id: ShardId::new(6),
                topic: TopicId::new(5),
                quorum: Quorum::THREE_TWO,
                epoch: Epoch::new(4),
                owner: Some(SessionId::new(8)),
                last_command: Some(CommandId::new(0x1234)),
                message: Chain {
                    log: LogId::new(17),
                    first: LedgerSeq::new(0),
                    first_offset: Offset::new(0),
                    links: vec![link(0, end(Some(2))), link(1, end(None)), link(2, None)],
                },
                state: Chain::empty(LogId::new(18)),
                is_deleted: false,
            }),
        ),
        (
            Key::Log(LogId::new(17)),
            Record::Log(LogRecord {
                shard: ShardId::new(6),
                kind: LogKind::State,
                is_deleted: true,
            }),
        ),
        (
            Key::Loss(ledger),
            Record::Loss(LossRecord {
                last: Some(EntryId::new(1)),
                next_offset: Offset::new(2),
                reason: "ann: two disks burned".to_owned(),
                at,
            }),
        ),
        (
            Key::Node(NodeRole::Bookie, "b1".parse().unwrap()),
            Record::Node(NodeRecord {
                id: NodeId::new(2),
                session: SessionId::new(8),
                opened_by: CommandId::new(77),
                replaced: vec![SessionId::new(5)],
                is_drained: true,
            }),
        ),
        (
            Key::Session(SessionId::new(8)),
            Record::Session(SessionRecord {
                id: SessionId::new(8),
                role: NodeRole::Serving,
                node: NodeId::new(2),
                name: "s1".parse().unwrap(),
                address: "127.0.0.1:9000".to_owned(),
                endpoint: "http://127.0.0.1:9001".to_owned(),
                lease: Duration::from_millis(1500),
                state: SessionState::Expired,
            }),
        ),
        (
            Key::Bookie(BookieId::new(3)),
            Record::Bookie(BookieBody {
                zone: Some("rack-1".parse().unwrap()),
                name: "b1".parse().unwrap(),
                address: "127.0.0.1:9100".to_owned(),
                incarnation: Incarnation::new(4),
                mark: 99,
                state: BookieState::ReadOnly,
                duty: BookieDuty::Draining,
                session: SessionId::new(8),
            }),
        ),
        (Key::Birth(BookieId::new(3)), Record::Birth),
        (
            Key::BookieName("b1".parse().unwrap()),
            Record::BookieName(BookieId::new(3)),
        ),
    ];
    for (seq, state) in [
        LedgerState::Open,
        LedgerState::Recovering {
            epoch: Epoch::new(4),
        },
        LedgerState::Closed {
            last: None,
            complete: true,
        },
        LedgerState::Closed {
            last: Some(EntryId::new(7)),
            complete: false,
        },
    ]
    .into_iter()
    .enumerate()
    {
        let seq = LedgerSeq::new(u32::try_from(seq).unwrap());
        let id = LedgerId::new(LogId::new(17), seq);
        samples.push((Key::Ledger(id), Record::Ledger(body(state))));
    }
    let repaired = LedgerBody {
        verified: vec![Verified {
            bookie: BookieId::new(1),
            born: Revision::new(6),
        }],
        moving: Some(Assignment {
            from: BookieId::new(3),
            to: BookieId::new(4),
            number: Revision::new(8),
        }),
        ..body(LedgerState::Closed {
            last: Some(EntryId::new(7)),
            complete: false,
        })
    };
    let id = LedgerId::new(LogId::new(17), LedgerSeq::new(4));
    samples.push((Key::Ledger(id), Record::Ledger(repaired)));
    let carried = LedgerBody {
        created: Some(Revision::new(5)),
        ..body(LedgerState::Open)
    };
    let id = LedgerId::new(LogId::new(17), LedgerSeq::new(5));
    samples.push((Key::Ledger(id), Record::Ledger(carried)));
    let born = Record::BornAt(Revision::new(6));
    samples.push((Key::Birth(BookieId::new(4)), born));
    samples
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_written_is_read_back() {
    for (key, record) in samples() {
        assert_eq!(decode_key(&encode_key(&key)), Ok(key.clone()));
        let bytes = encode_record(&key, &record);
        assert_eq!(decode_record(&key, &bytes), Ok(record));
    }
}

/// The bytes on disk. A change here is a new format: raise `FORMAT` and read the old one too.
#[test]
fn bytes_are_frozen() {
    let shown: String = samples()
        .iter()
        .map(|(key, record)| {
            let record = encode_record(key, record);
            format!("{} {}\n", hex(&encode_key(key)), hex(&record))
        })
        .collect();
    assert_eq!(shown, include_str!("golden.txt"), "shown:\n{shown}");
}

/// What an older format had, read as it is meant now.
fn aged(format: u8, record: Record) -> Record {
    match record {
        Record::Node(mut node) => {
            node.is_drained &= format >= DRAINED_SINCE;
            Record::Node(node)
        }
        Record::Ledger(mut body) if format < COPIES_SINCE => {
            if let LedgerState::Closed { complete, .. } = &mut body.state {
                *complete = false;
            }
            body.verified.clear();
            body.moving = None;
            Record::Ledger(body)
        }
        Record::Ledger(mut body) => {
            if let Some(moving) = &mut body.moving {
                moving.number = Revision::new(0);
            }
            Record::Ledger(body)
        }
        Record::Bookie(mut body) if format < COPIES_SINCE => {
            body.duty = BookieDuty::Active;
            body.zone = None;
            Record::Bookie(body)
        }
        Record::Bookie(mut body) if format < ZONES_SINCE => {
            body.zone = None;
            Record::Bookie(body)
        }
        other => other,
    }
}

#[test]
fn records_of_older_formats_are_read() {
    for (format, written) in [
        (2, include_str!("golden_2.txt")),
        (3, include_str!("golden_3.txt")),
        (4, include_str!("golden_4.txt")),
    ] {
        for (line, (key, record)) in written.lines().zip(samples()) {
            let (_, bytes) = line.split_once(' ').unwrap();
            let bytes: Vec<u8> = (0..bytes.len() / 2)
                .map(|at| u8::from_str_radix(&bytes[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            assert_eq!(bytes[0], format);
            assert_eq!(decode_record(&key, &bytes), Ok(aged(format, record)));
        }
    }
}

#[test]
fn bytes_of_keys_have_the_order_of_keys() {
    let topic = |name: &str| Key::Topic(name.parse().unwrap());
    let mut keys: Vec<Key> = samples().into_iter().map(|(key, _)| key).collect();
    keys.extend(
        [
            "a",
            "a-b",
            "a.b",
            "a0",
            "ab",
            "A",
            "tenants/t/namespaces/a/topics/b",
        ]
        .map(topic),
    );
    keys.extend([1, 255, 256, 65_536].map(|id| Key::Shard(ShardId::new(id))));
    for role in [NodeRole::Serving, NodeRole::Bookie] {
        keys.extend(["a", "b", "aa"].map(|name| Key::Node(role, name.parse().unwrap())));
    }
    let by_bytes: BTreeMap<Vec<u8>, Key> = keys
        .iter()
        .map(|key| (encode_key(key), key.clone()))
        .collect();
    keys.sort();
    keys.dedup();
    assert_eq!(by_bytes.into_values().collect::<Vec<_>>(), keys);
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    for (key, record) in samples() {
        let bytes = encode_record(&key, &record);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_record(&key, &flipped).is_err(), "{key:?} bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(
                decode_record(&key, &bytes[..len]).is_err(),
                "{key:?} cut at {len}"
            );
        }
    }
}

#[test]
fn record_under_another_key_is_found() {
    let (key, record) = (Key::Birth(BookieId::new(1)), Record::Birth);
    let bytes = encode_record(&key, &record);
    let other = Key::Birth(BookieId::new(2));
    assert!(matches!(
        decode_record(&other, &bytes),
        Err(DecodeError::Checksum { .. })
    ));
}

#[test]
fn newer_format_is_told_apart_from_damage() {
    let key = Key::Birth(BookieId::new(1));
    let mut bytes = vec![FORMAT + 1];
    let crc = crc32c_of([encode_key(&key).as_slice(), bytes.as_slice()]);
    bytes.extend_from_slice(&crc.get().to_be_bytes());
    assert_eq!(
        decode_record(&key, &bytes),
        Err(DecodeError::Format { format: FORMAT + 1 })
    );
}

/// Right checksums around wrong bodies: refused, and nothing panics or allocates by what a length claims.
#[test]
fn malformed_bodies_are_refused() {
    for (key, record) in samples() {
        let bytes = encode_record(&key, &record);
        let body = &bytes[..bytes.len() - 4];
        for at in 1..body.len() {
            for value in [0x00, 0x01, 0x7f, 0xff] {
                let mut changed = body.to_vec();
                changed[at] = value;
                let crc = crc32c_of([encode_key(&key).as_slice(), changed.as_slice()]);
                changed.extend_from_slice(&crc.get().to_be_bytes());
                if let Ok(read) = decode_record(&key, &changed) {
                    assert_eq!(encode_record(&key, &read), changed, "{key:?} at {at}");
                }
            }
        }
    }
    for bytes in [
        &[][..],
        &[0],
        &[99],
        &[7, 1],
        &[5, b'/'],
        &[5],
        &[11, 7, b'a'],
        &[1, 0],
    ] {
        assert!(decode_key(bytes).is_err(), "{bytes:?}");
    }
}
