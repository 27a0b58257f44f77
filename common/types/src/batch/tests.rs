use std::collections::BTreeMap;
use std::iter::once;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::{Reason, WallTime};

fn limits() -> Limits {
    Limits::default()
}

fn batch_of(payloads: &[&[u8]]) -> Bytes {
    let mut batch = BytesMut::new();
    for payload in payloads {
        let parts = MessageParts {
            payload,
            ..MessageParts::default()
        };
        parts.append_to(&mut batch);
    }
    batch.freeze()
}

/// A batch with a field of every kind.
fn rich() -> Bytes {
    let attributes = [("a", "1"), ("", "empty key"), ("é", "")];
    let attributes: BTreeMap<String, String> = attributes
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let mut batch = BytesMut::new();
    for index in 0..5_u8 {
        let parts = MessageParts {
            payload: &vec![index; usize::from(index) * 70],
            ordering_key: "key",
            attributes: &attributes,
            event_time: Some(WallTime::from_nanos(1_700_000_000_000_000_001)),
            content_type: "text/plain",
        };
        let before = batch.len();
        parts.append_to(&mut batch);
        assert_eq!(batch.len() - before, parts.record_len());
    }
    batch.freeze()
}

fn fault(batch: &[u8]) -> Malformed {
    match check(batch, &limits()) {
        Err(BatchError::Malformed { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

/// Wraps the bytes of one message into a batch.
fn wrap(message: &[u8]) -> Vec<u8> {
    let len = u8::try_from(message.len()).unwrap();
    assert!(len < 0x80);
    [&[0x0a, len], message].concat()
}

#[test]
fn what_the_client_writes_passes() {
    let facts = check(&rich(), &limits()).unwrap();
    assert_eq!(facts.count, 5);
    assert_eq!(
        facts.largest,
        records(&rich())
            .map(|record| record.message.len())
            .max()
            .unwrap()
    );
    assert_eq!(
        check(&batch_of(&[b""]), &limits()).unwrap(),
        Facts {
            count: 1,
            largest: 0
        }
    );
}

#[test]
fn an_empty_batch_is_refused() {
    assert_eq!(check(&[], &limits()), Err(BatchError::Empty));
    assert_eq!(
        BatchError::Empty.problem("batch").field.as_deref(),
        Some("batch.messages")
    );
}

#[test]
fn limits_hold_to_the_byte() {
    let batch = batch_of(&[&[7; 300], b"x"]);
    let message = records(&batch).next().unwrap().message.len();
    let exact = Limits {
        message_bytes_max: message,
        batch_bytes_max: batch.len(),
        messages_max: 2,
    };
    assert!(check(&batch, &exact).is_ok());
    let refused = |limits: Limits| check(&batch, &limits).unwrap_err();
    assert_eq!(
        refused(Limits {
            message_bytes_max: message - 1,
            ..exact
        }),
        BatchError::MessageTooLarge {
            message: 0,
            bytes: message,
            max: message - 1
        }
    );
    assert_eq!(
        refused(Limits {
            batch_bytes_max: batch.len() - 1,
            ..exact
        }),
        BatchError::BatchTooLarge {
            bytes: batch.len(),
            max: batch.len() - 1
        }
    );
    let many = refused(Limits {
        messages_max: 1,
        ..exact
    });
    assert_eq!(many, BatchError::TooManyMessages { max: 1 });
    assert_eq!(many.problem("batch").reason, Reason::MessageTooLarge);
}

#[test]
fn unknown_fields_of_a_message_pass_if_well_formed() {
    for unknown in [
        &[0x98, 0x06, 0x01][..],               // 99: varint
        &[0x9a, 0x06, 0x02, 0xff, 0xfe],       // 99: bytes that are no text
        &[0x99, 0x06, 1, 2, 3, 4, 5, 6, 7, 8], // 99: fixed64
        &[0x9d, 0x06, 1, 2, 3, 4],             // 99: fixed32
        &[0x3a, 0x00],                         // 7: a field of later versions
    ] {
        assert!(check(&wrap(unknown), &limits()).is_ok(), "{unknown:x?}");
        assert_eq!(
            fault(&wrap(&unknown[..unknown.len() - 1])),
            Malformed::Truncated,
            "{unknown:x?}"
        );
    }
}

#[test]
fn what_a_stub_might_refuse_is_refused() {
    for (batch, what) in [
        (&[0x12, 0x00][..], Malformed::UnknownBatchField),
        (&[0x08, 0x00], Malformed::WireType),
        (&[0x0a], Malformed::Truncated),
        (&[0x0a, 0x01], Malformed::Truncated),
        (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], Malformed::Truncated),
        (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x1f], Malformed::LongVarint),
        (
            &[0x8a, 0x80, 0x80, 0x80, 0x80, 0x00, 0x00],
            Malformed::LongVarint,
        ),
        (&[0x02, 0x00], Malformed::FieldZero),
        (&[0x0b], Malformed::Group),
        (&[0x0e], Malformed::WireType),
    ] {
        assert_eq!(fault(batch), what, "{batch:x?}");
    }
    for (message, what) in [
        (&[0x08, 0x01][..], Malformed::WireType), // payload as a number
        (&[0x12, 0x01, 0xff], Malformed::NotUtf8), // ordering key
        (&[0x72, 0x02, 0xc3, 0x28], Malformed::NotUtf8), // content type
        (&[0x22, 0x03, 0x0a, 0x01, 0x80], Malformed::NotUtf8), // attribute key
        (&[0x22, 0x03, 0x12, 0x01, 0x80], Malformed::NotUtf8), // attribute value
        (&[0x22, 0x02, 0x08, 0x01], Malformed::WireType), // attribute key as a number
        (&[0x32, 0x02, 0x0a, 0x00], Malformed::WireType), // seconds as bytes
        (
            &[
                0x32, 0x0b, 0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2,
            ],
            Malformed::LongVarint,
        ),
        (&[0x9b, 0x06, 0x9c, 0x06], Malformed::Group), // 99: a group
    ] {
        assert_eq!(fault(&wrap(message)), what, "{message:x?}");
    }
}

#[test]
fn a_fault_names_its_message_and_its_byte() {
    let mut batch = batch_of(&[b"ok"]).to_vec();
    batch.extend(wrap(&[0x12, 0x02, b'a', 0xff]));
    let error = check(&batch, &limits()).unwrap_err();
    assert_eq!(
        error,
        BatchError::Malformed {
            message: 1,
            at: batch.len() - 1,
            what: Malformed::NotUtf8
        }
    );
    let problem = error.problem("batch");
    assert_eq!(problem.reason, Reason::MalformedBatch);
    assert_eq!(problem.field.as_deref(), Some("batch.messages[1]"));
}

#[test]
fn records_tile_the_batch() {
    let batch = rich();
    let mut end = 0;
    for record in records(&batch) {
        assert_eq!(record.whole.start, end);
        assert_eq!(record.whole.end, record.message.end);
        end = record.whole.end;
    }
    assert_eq!(end, batch.len());
}

#[test]
fn a_cut_holds_exactly_the_messages_wanted() {
    let batch = rich();
    let all: Vec<_> = records(&batch)
        .map(|record| batch.slice(record.whole))
        .collect();
    // Every subset of the five messages, as ranges of one message each and as runs.
    for subset in 0..32_u32 {
        let wanted: Vec<u32> = (0..5).filter(|index| subset & (1 << index) != 0).collect();
        let expected: Vec<u8> = wanted
            .iter()
            .flat_map(|&index| all[index as usize].to_vec())
            .collect();
        let singles = wanted.iter().map(|&index| index..index + 1);
        assert_eq!(cut(&batch, singles).unwrap(), expected);
        let mut runs: Vec<std::ops::Range<u32>> = Vec::new();
        for index in wanted {
            match runs.last_mut() {
                Some(run) if run.end == index => run.end += 1,
                _ => runs.push(index..index + 1),
            }
        }
        assert_eq!(cut(&batch, runs).unwrap(), expected);
    }
}

#[test]
fn a_run_of_neighbours_is_not_copied() {
    let batch = rich();
    let part = cut(&batch, [1..2, 2..4]).unwrap();
    assert!(batch.as_ptr_range().contains(&part.as_ptr()));
}

#[test]
fn a_cut_past_the_end_or_backwards_is_refused() {
    let batch = rich();
    assert_eq!(cut(&batch, once(4..6)), None);
    assert_eq!(cut(&batch, once(5..6)), None);
    assert_eq!(cut(&batch, [2..3, 1..2]), None);
    assert_eq!(cut(&batch, [1..3, 2..4]), None);
    assert_eq!(cut(&batch, once(0..u32::MAX)), None);
    assert_eq!(cut(&batch, []), Some(Bytes::new()));
}

#[test]
fn damaged_batches_never_panic_and_what_passes_can_be_cut() {
    let original = rich();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    let mut passed = 0;
    for _ in 0..30_000 {
        let mut bytes = original.to_vec();
        for _ in 0..=random() % 3 {
            let at = random() % bytes.len();
            match random() % 4 {
                0 => bytes[at] ^= 1 << (random() % 8),
                1 => bytes[at] = u8::try_from(random() % 256).unwrap(),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, u8::try_from(random() % 256).unwrap()),
            }
        }
        let bytes = Bytes::from(bytes);
        let walked = records(&bytes).count();
        if let Ok(facts) = check(&bytes, &limits()) {
            passed += 1;
            assert_eq!(walked, facts.count as usize);
            assert_eq!(cut(&bytes, once(0..facts.count)).unwrap(), bytes);
        }
    }
    assert!(passed > 1000, "{passed}");
}

#[test]
fn every_prefix_is_refused_or_ends_at_a_boundary() {
    let batch = rich();
    let ends: Vec<usize> = records(&batch).map(|record| record.whole.end).collect();
    for end in 0..batch.len() {
        assert_eq!(
            check(&batch[..end], &limits()).is_ok(),
            ends.contains(&end),
            "{end}"
        );
    }
}

#[test]
fn a_message_is_encoded_as_the_stubs_of_other_languages_encode_it() {
    let attributes = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let parts = MessageParts {
        payload: b"x",
        ordering_key: "k",
        attributes: &attributes,
        event_time: Some(WallTime::from_nanos(1_700_000_000_000_000_000)),
        content_type: "text/plain",
    };
    let mut batch = BytesMut::new();
    parts.append_to(&mut batch);
    // What a Python stub made of the same message.
    let golden = b"\x0a\x22\x0a\x01x\x12\x01k\x22\x06\x0a\x01a\x12\x01b\x32\x06\x08\x80\xe2\xcf\xaa\x06\x72\x0atext/plain";
    assert_eq!(&batch[..], golden);
}
