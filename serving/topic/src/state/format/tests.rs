use proptest::prelude::*;

use super::*;
use crate::state::Folded;

fn key() -> CursorKey {
    CursorKey {
        subscription: SubscriptionId::new(300),
        generation: Generation::new(1),
    }
}

fn position(seq: u32, entry: u64) -> Position {
    Position {
        ledger: LedgerId::new(LogId::new(17), LedgerSeq::new(seq)),
        entry: EntryId::new(entry),
    }
}

fn opened() -> ProducerOpened {
    ProducerOpened {
        name: "p".parse().unwrap(),
        epoch: ProducerEpoch::new(6),
        since: ProducerEpoch::new(2),
        used: Offset::new(40),
    }
}

fn named() -> Named {
    let batch = |first, count, offset, position, time| Recent {
        first: SequenceId::new(first),
        count,
        first_offset: Offset::new(offset),
        position,
        publish_time: WallTime::from_nanos(time),
    };
    let recent = VecDeque::from([
        batch(10, 5, 100, position(0, 9), 1_000),
        batch(15, 1, 105, position(0, 10), 1_500),
        // The clock went back, the ledger changed.
        batch(16, 200, 110, position(2, 0), 900),
    ]);
    Named {
        epoch: ProducerEpoch::new(6),
        since: ProducerEpoch::new(2),
        used: Offset::new(110),
        sequences: Sequences::restore(216, recent),
        stream: None,
    }
}

fn ranges() -> Vec<OffsetRange> {
    vec![OffsetRange::of(5, 7), OffsetRange::of(8, 200)]
}

fn sample(kind: Kind) -> BytesMut {
    let mut bytes = BytesMut::new();
    put_kind(&mut bytes, kind);
    put_cursor(&mut bytes, key(), Offset::new(4), &ranges());
    put_acked(&mut bytes, key(), &ranges());
    put_opened(&mut bytes, &opened());
    let table = |last_epoch, covered, log_bytes| ProducerTable {
        last_epoch,
        covered,
        log_bytes,
        ..ProducerTable::default()
    };
    put_table(&mut bytes, &table(6, Some(position(2, 3)), 300));
    put_table(&mut bytes, &table(7, None, 0));
    put_producer(&mut bytes, &opened().name, &named());
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const PART: Kind = Kind::Snapshot(Part {
    id: 200,
    index: 1,
    is_last: true,
});

#[test]
fn records_come_back() {
    let bytes = sample(PART);
    let mut reader = Reader::new(&bytes);
    assert_eq!(read_kind(&mut reader), Ok(PART));
    let mut records = Vec::new();
    while !reader.is_empty() {
        records.push(read_record(&mut reader).unwrap());
    }
    let name = opened().name;
    let expected = [
        Record::Cursor {
            key: key(),
            mark: Offset::new(4),
            ranges: ranges(),
        },
        Record::Acked {
            key: key(),
            ranges: ranges(),
        },
        Record::Opened(opened()),
        Record::Table {
            last_epoch: 6,
            covered: Some(position(2, 3)),
            log_bytes: 300,
        },
        Record::Table {
            last_epoch: 7,
            covered: None,
            log_bytes: 0,
        },
        Record::Producer {
            name,
            named: named(),
        },
    ];
    assert_eq!(records, expected);
}

#[test]
fn the_bytes_are_frozen() {
    let golden = "0202c801010101ac02010402050201c00102ac020102050201c0010301700602280406ac02011102030407\
                  000005017006026ed801031105640009d00f0105000ae807c801050200af09";
    assert_eq!(hex(&sample(PART)), golden);
    assert_eq!(hex(&sample(Kind::Delta)[..2]), "0201");
}

#[test]
fn what_is_not_known_is_refused() {
    let refused = |bytes: &[u8]| Folded::default().feed(bytes).unwrap_err();
    assert_eq!(refused(&[1, 1]), FormatError::Version { version: 1 });
    assert_eq!(refused(&[2, 9]), FormatError::Malformed { what: "kind" });
    assert_eq!(
        refused(&[2, 1, 9]),
        FormatError::Malformed { what: "record" }
    );
    // A length that the bytes cannot hold takes no memory.
    assert_eq!(
        refused(&[2, 1, ACKED, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1]),
        FormatError::Short
    );
    assert_eq!(
        refused(&[2, 1, ACKED, 1, 1, 1, 5, 0]),
        FormatError::Malformed { what: "range" }
    );
}

#[test]
fn differences_of_times_come_back() {
    for (from, to) in [
        (0, 0),
        (5, 9),
        (9, 5),
        (0, u64::MAX),
        (u64::MAX, 0),
        (1 << 63, 0),
    ] {
        assert_eq!(unzigzag(from, zigzag(from, to)), to);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_fold_panic(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        is_part in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut folded = Folded::default();
        drop(folded.feed(&noise));
        let mut bytes = sample(if is_part { PART } else { Kind::Delta }).to_vec();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        drop(folded.feed(&bytes));
        bytes.truncate(cut.index(bytes.len()));
        drop(folded.feed(&bytes));
    }
}
