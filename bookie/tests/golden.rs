//! The bytes of each format, frozen: a change of any of them is a change of format.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use bookie::identity::{self, Identity, Role};
use bookie::journal::format as journal;
use bookie::manifest::{self, FileEntry, Manifest};
use bookie::store::format as store;
use bytes::Bytes;
use host::disk::AlignedBuf;
use ledger::LogFacts;
use types::storage::{AddKind, Entry};
use types::{
    BookieId, ClusterId, EntryId, Epoch, Incarnation, LedgerId, LedgerSeq, LogId, Offset, Payload,
    Revision, crc32c,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ledger() -> LedgerId {
    LedgerId::new(LogId::new(0x11), LedgerSeq::new(2))
}

fn entry() -> Entry {
    let payload = Payload::new(Bytes::from_static(b"head"), Bytes::from_static(b"body"));
    Entry::new(ledger(), EntryId::new(3), Offset::new(40), payload)
}

fn records() -> Vec<journal::Record> {
    vec![
        journal::Record::Add {
            ledger: ledger(),
            created: Revision::new(5),
            epoch: Epoch::new(6),
            lac: Some(EntryId::new(2)),
            kind: AddKind::Recovery,
            entry: entry(),
        },
        journal::Record::Fence {
            log: LogId::new(0x12),
            epoch: Epoch::new(7),
        },
    ]
}

fn frame() -> Vec<u8> {
    let place = journal::FramePlace {
        uuid: 0x0102_0304,
        sequence: 9,
        offset: 8192,
        kind: journal::FrameKind::Records,
    };
    journal::encode_frame(place, &records()).to_vec()
}

fn manifest() -> Manifest {
    let facts = LogFacts {
        fence: Some(Epoch::new(8)),
        highest: Some(LedgerSeq::new(2)),
        first_live: LedgerSeq::new(1),
        lac: Some((LedgerSeq::new(2), EntryId::new(3))),
    };
    Manifest {
        cluster: ClusterId::new(1),
        set: 2,
        id: BookieId::new(3),
        born: Revision::new(4),
        incarnation: Incarnation::new(5),
        mark: 6,
        last_frame: 7,
        next_file: 8,
        files: BTreeMap::from([(
            4,
            FileEntry {
                length: 1000,
                footer_crc: 0xaabb_ccdd,
            },
        )]),
        logs: BTreeMap::from([
            (LogId::new(0x11), facts),
            (LogId::new(0x12), LogFacts::default()),
        ]),
        deleted: vec![LogId::new(0x13)],
    }
}

fn identity() -> Identity {
    Identity {
        role: Role::Data,
        cluster: ClusterId::new(1),
        set: 2,
        name: "b-1".parse().unwrap(),
        id: Some(BookieId::new(3)),
        born: None,
        incarnation: Incarnation::new(5),
        is_damaged: true,
    }
}

fn footer() -> store::Footer {
    store::Footer {
        runs: vec![store::Run {
            ledger: ledger(),
            created: Revision::new(5),
            first: EntryId::new(3),
            last: EntryId::new(3),
            entries: 1,
            bytes: 8,
        }],
        blocks: vec![store::BlockMeta {
            offset: 64,
            length: 88,
            entries: 1,
            first: store::Key {
                ledger: ledger(),
                entry: EntryId::new(3),
            },
        }],
    }
}

fn block() -> Vec<u8> {
    let mut body = AlignedBuf::with_capacity(0);
    let stored = store::Stored {
        ledger: ledger(),
        created: Revision::new(5),
        entry: entry(),
    };
    store::encode_entry(&stored, &mut body);
    let mut block = store::encode_block_header(4, 1, &body);
    block.extend_from_slice(&body);
    block
}

fn trailer() -> store::Trailer {
    store::Trailer {
        footer_offset: 152,
        footer_length: 100,
        file_length: 300,
        footer_crc: 1,
        data_crc: 2,
    }
}

#[test]
fn every_format_has_the_bytes_it_had() {
    let journal_file = journal::FileHeader {
        cluster: ClusterId::new(1),
        set: 2,
        number: 3,
        size: 65536,
        uuid: 4,
    };
    let data_file = store::FileHeader {
        number: 4,
        cluster: ClusterId::new(1),
        set: 2,
    };
    let frame = frame();
    assert_eq!(frame.len(), 4096);
    let golden = [
        ("journal file", hex(&journal_file.encode()[..80])),
        (
            "journal file, whole",
            crc32c(&journal_file.encode()).to_string(),
        ),
        ("frame", hex(&frame[..200])),
        ("frame, whole", crc32c(&frame).to_string()),
        ("data file", hex(&data_file.encode())),
        ("block", hex(&block())),
        ("footer", hex(&footer().encode())),
        ("trailer", hex(&trailer().encode())),
        ("manifest", hex(&manifest().encode())),
        ("identity", hex(&identity().encode())),
    ];
    let words: String = golden
        .iter()
        .map(|(name, bytes)| format!("{name}: {bytes}\n"))
        .collect();
    assert_eq!(words, include_str!("golden.txt"));
}

#[test]
fn every_format_reads_back_what_it_wrote() {
    assert_eq!(
        Manifest::decode(&manifest().encode()),
        manifest::Found::Whole(Box::new(manifest()))
    );
    assert_eq!(
        Identity::decode(&identity().encode()),
        identity::Found::Whole(identity())
    );
    assert_eq!(store::Footer::decode(&footer().encode()), Some(footer()));
    assert_eq!(store::Trailer::decode(&trailer().encode()), Some(trailer()));
    let bytes = Bytes::from(frame());
    let header = journal::FrameHeader::decode(&bytes).unwrap();
    assert!(header.holds(&bytes));
    assert_eq!(journal::decode_records(&header, &bytes), Some(records()));
}

#[test]
fn no_flipped_bit_passes_in_any_format() {
    let flips = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        (0..bytes.len() * 8).map(move |bit| {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        })
    };
    for flipped in flips(&manifest().encode()) {
        assert_eq!(Manifest::decode(&flipped), manifest::Found::Damaged);
    }
    for flipped in flips(&identity().encode()) {
        assert_eq!(Identity::decode(&flipped), identity::Found::Damaged);
    }
    for flipped in flips(&trailer().encode()) {
        assert_eq!(store::Trailer::decode(&flipped), None);
    }
    for flipped in flips(&frame()).step_by(3) {
        let header = journal::FrameHeader::decode(&flipped);
        assert!(!header.is_some_and(|header| header.holds(&flipped)));
    }
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    let rng = host::Rng::seeded(3);
    let seeds = [
        manifest().encode(),
        identity().encode(),
        footer().encode(),
        block(),
        frame(),
    ];
    for round in 0..20_000_usize {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..1 + rng.index(4) {
            let at = rng.index(bytes.len());
            bytes[at] = rng.u64().to_le_bytes()[0];
        }
        bytes.truncate(rng.index(bytes.len()) + 1);
        drop(Manifest::decode(&bytes));
        drop(Identity::decode(&bytes));
        drop(store::Footer::decode(&bytes));
        let mut body = Bytes::from(bytes);
        if let Some(header) = journal::FrameHeader::decode(&body) {
            drop(journal::decode_records(&header, &body));
        }
        while store::decode_entry(&mut body).is_some() {}
    }
}
