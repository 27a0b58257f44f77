use proptest::prelude::*;
use types::LedgerSeq;
use types::LogId;

use super::*;

fn header() -> EntryHeader {
    EntryHeader {
        shard_epoch: Epoch::new(7),
        first_offset: Offset::new(1_000),
        count: 3,
        publish_time: WallTime::from_nanos(1_700_000_000_000_000_001),
        producer: ProducerIdentity::Named {
            name: "till-4".parse().unwrap(),
            epoch: ProducerEpoch::new(9),
        },
        first_sequence: SequenceId::new(42),
        log_bytes: 77,
        compression: None,
    }
}

fn compressed(codec: Codec) -> EntryHeader {
    EntryHeader {
        compression: Some(Compression {
            codec,
            uncompressed_bytes: 0x0102_0304,
        }),
        ..header()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_header_of_a_named_producer_is_frozen() {
    let golden = "02010700000000000000e8030000000000000300000001002a36fe9c97172a00000000000000\
                  4d0000000000000009000000000000000674696c6c2d34";
    let bytes = header().encode();
    assert_eq!(EntryHeader::decode(&bytes), Ok((header(), bytes.len())));
    assert_eq!(hex(&bytes), golden);
}

#[test]
fn the_header_of_an_unnamed_producer_is_frozen() {
    let header = EntryHeader {
        producer: ProducerIdentity::Unnamed { id: 5 },
        ..header()
    };
    let bytes = header.encode();
    let golden = "02000700000000000000e8030000000000000300000001002a36fe9c97172a00000000000000\
                  4d000000000000000500000000000000";
    assert_eq!(hex(&bytes), golden);
    assert_eq!(EntryHeader::decode(&bytes), Ok((header, bytes.len())));
}

#[test]
fn the_header_of_a_compressed_batch_is_frozen() {
    let plain = "03010700000000000000e8030000000000000300000001002a36fe9c97172a00000000000000\
                 4d0000000000000009000000000000000674696c6c2d34";
    for (codec, number) in [(Codec::Zstd, 1), (Codec::Lz4, 2), (Codec::Snappy, 3)] {
        let header = compressed(codec);
        let bytes = header.encode();
        assert_eq!(hex(&bytes), format!("{plain}{number:02x}04030201"));
        assert_eq!(EntryHeader::decode(&bytes), Ok((header, bytes.len())));
    }
}

#[test]
fn the_longest_header_fits_the_prefix() {
    let header = EntryHeader {
        producer: ProducerIdentity::Named {
            name: "x".repeat(255).parse().unwrap(),
            epoch: ProducerEpoch::new(u64::MAX),
        },
        ..compressed(Codec::Zstd)
    };
    assert_eq!(header.encode().len(), HEADER_LEN_MAX);
}

#[test]
fn what_is_not_known_is_refused() {
    let bytes = header().encode().to_vec();
    let with = |at: usize, byte: u8| {
        let mut changed = bytes.clone();
        changed[at] = byte;
        EntryHeader::decode(&changed).unwrap_err()
    };
    assert_eq!(with(0, 1), FormatError::Version { version: 1 });
    assert_eq!(with(0, 4), FormatError::Version { version: 4 });
    assert_eq!(with(1, 2).to_string(), "malformed entry what=producer kind");
    assert_eq!(with(18, 0).to_string(), "malformed entry what=count");
    assert_eq!(
        with(55, b'/').to_string(),
        "malformed entry what=producer name"
    );
    let mut unknown = compressed(Codec::Lz4).encode().to_vec();
    let at = unknown.len() - 5;
    for number in [0, 4] {
        unknown[at] = number;
        let refused = EntryHeader::decode(&unknown).unwrap_err();
        assert_eq!(refused.to_string(), "malformed entry what=codec");
    }
    for bytes in [bytes, compressed(Codec::Lz4).encode().to_vec()] {
        for len in 0..bytes.len() {
            assert_eq!(EntryHeader::decode(&bytes[..len]), Err(FormatError::Short));
        }
    }
}

#[test]
fn an_entry_is_taken_apart_however_its_bytes_are_held() {
    let position = Position {
        ledger: LedgerId::new(LogId::new(3), LedgerSeq::new(0)),
        entry: EntryId::new(8),
    };
    let head = header().encode();
    let body = Bytes::from_static(b"batch");
    let whole = Payload::new(head.clone(), body.clone()).to_bytes();
    let held = [
        Payload::new(head.clone(), body.clone()),
        Payload::whole(whole.clone()),
        Payload::new(whole.slice(..5), whole.slice(5..)),
        Payload::new(whole.slice(..head.len() + 2), whole.slice(head.len() + 2..)),
        Payload::new(whole.clone(), Bytes::new()),
    ];
    for payload in held {
        let entry = StoredEntry::decode(position, &payload).unwrap();
        assert_eq!((entry.header, entry.body), (header(), body.clone()));
    }
}

proptest! {
    #[test]
    fn headers_come_back(
        numbers in any::<(u64, u64, u64, u64, u64, u64)>(),
        count in 1_u32..,
        name in prop::option::of("[a-zA-Z0-9_-]{1,255}"),
        compression in prop::option::of((prop::sample::select(Codec::ALL.to_vec()), any::<u32>())),
    ) {
        let (epoch, offset, time, sequence, producer, log_bytes) = numbers;
        let room = u64::MAX - u64::from(count);
        let header = EntryHeader {
            shard_epoch: Epoch::new(epoch),
            first_offset: Offset::new(offset.min(room)),
            count,
            publish_time: WallTime::from_nanos(time),
            producer: match name {
                Some(name) => ProducerIdentity::Named {
                    name: name.parse().unwrap(),
                    epoch: ProducerEpoch::new(producer),
                },
                None => ProducerIdentity::Unnamed { id: producer },
            },
            first_sequence: SequenceId::new(sequence.min(room)),
            log_bytes,
            compression: compression.map(|(codec, uncompressed_bytes)| Compression {
                codec,
                uncompressed_bytes,
            }),
        };
        let mut bytes = header.encode().to_vec();
        let len = bytes.len();
        bytes.extend_from_slice(b"and the batch");
        prop_assert_eq!(EntryHeader::decode(&bytes), Ok((header, len)));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        noise in prop::collection::vec(any::<u8>(), 0..320),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        drop(EntryHeader::decode(&noise));
        let mut bytes = compressed(Codec::Zstd).encode().to_vec();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok((header, len)) = EntryHeader::decode(&bytes) {
            prop_assert_eq!(&header.encode()[..], &bytes[..len]);
        }
    }
}
