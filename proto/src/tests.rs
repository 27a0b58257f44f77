//! The two views of one wire form, and the walk over a batch against a real decoder.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message;
use prost_types::FileDescriptorSet;
use types::WallTime;
use types::batch::{self, BatchError, Limits, Malformed, MessageParts};

use crate::{FILE_DESCRIPTOR_SET, INTERNAL_FILE_DESCRIPTOR_SET, raw, v1};

fn message() -> impl Strategy<Value = v1::Message> {
    let text = "\\PC{0,12}";
    let attributes = proptest::collection::btree_map(text, text, 0..3);
    let time = proptest::option::of((0..4_000_000_000_i64, 0..1_000_000_000_i32));
    let payload = proptest::collection::vec(any::<u8>(), 0..300);
    (payload, text, attributes, time, text).prop_map(|(payload, key, attributes, time, kind)| {
        v1::Message {
            payload: payload.into(),
            ordering_key: key,
            attributes,
            event_time: time.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }),
            content_type: kind,
        }
    })
}

fn message_batch() -> impl Strategy<Value = v1::MessageBatch> {
    let messages = proptest::collection::vec(message(), 1..5);
    messages.prop_map(|messages| v1::MessageBatch { messages })
}

/// The batch as our own client encodes it.
fn written(batch: &v1::MessageBatch) -> Bytes {
    let mut bytes = BytesMut::new();
    for message in &batch.messages {
        let parts = MessageParts {
            payload: &message.payload,
            ordering_key: &message.ordering_key,
            attributes: &message.attributes,
            event_time: message.event_time.as_ref().and_then(crate::time::from_wire),
            content_type: &message.content_type,
        };
        let before = bytes.len();
        parts.append_to(&mut bytes);
        assert_eq!(bytes.len() - before, parts.record_len());
    }
    bytes.freeze()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_published_batch_has_one_wire_form_in_both_views(
        batch in message_batch(), first in any::<u64>(), crc in any::<Option<u32>>()
    ) {
        let encoded = Bytes::from(batch.encode_to_vec());
        let seen = v1::PublishStreamRequest {
            frame: Some(v1::publish_stream_request::Frame::Batch(v1::PublishBatch {
                first_sequence_id: first,
                crc32c: crc,
                body: Some(v1::publish_batch::Body::Batch(batch)),
            })),
        };
        let passed = raw::v1::PublishStreamRequest {
            frame: Some(raw::v1::publish_stream_request::Frame::Batch(raw::v1::PublishBatch {
                first_sequence_id: first,
                crc32c: crc,
                body: Some(raw::v1::publish_batch::Body::Batch(encoded)),
            })),
        };
        let bytes = seen.encode_to_vec();
        prop_assert_eq!(&bytes, &passed.encode_to_vec());
        prop_assert_eq!(v1::PublishStreamRequest::decode(bytes.as_slice()).unwrap(), seen);
        prop_assert_eq!(raw::v1::PublishStreamRequest::decode(bytes.as_slice()).unwrap(), passed);
    }

    #[test]
    fn a_delivered_batch_has_one_wire_form_in_both_views(
        batches in proptest::collection::vec(message_batch(), 1..4), offset in any::<u64>()
    ) {
        let position = v1::MessagePosition { shard: "shard-1".into(), offset, token: "t".into() };
        let passed = |batch: &v1::MessageBatch| raw::v1::Delivery {
            first: Some(position.clone()),
            offsets: vec![offset, 7],
            body: Some(raw::v1::delivery::Body::Batch(batch.encode_to_vec().into())),
            delivery_attempt: 2,
            ..raw::v1::Delivery::default()
        };
        let seen = |batch: &v1::MessageBatch| v1::Delivery {
            first: Some(position.clone()),
            offsets: vec![offset, 7],
            body: Some(v1::delivery::Body::Batch(batch.clone())),
            delivery_attempt: 2,
            ..v1::Delivery::default()
        };
        let frame = raw::v1::consume_response::Frame::Deliveries(raw::v1::Deliveries {
            items: batches.iter().map(passed).collect(),
        });
        let bytes = raw::v1::ConsumeResponse { frame: Some(frame) }.encode_to_vec();
        let frame = v1::consume_response::Frame::Deliveries(v1::Deliveries {
            items: batches.iter().map(seen).collect(),
        });
        let theirs = v1::ConsumeResponse { frame: Some(frame) };
        prop_assert_eq!(&theirs.encode_to_vec(), &bytes);
        prop_assert_eq!(v1::ConsumeResponse::decode(bytes.as_slice()).unwrap(), theirs);
    }

    #[test]
    fn our_client_encodes_as_every_stub_does(batch in message_batch()) {
        prop_assert_eq!(written(&batch), batch.encode_to_vec());
    }

    #[test]
    fn what_a_stub_encodes_passes_and_is_cut_at_its_messages(batch in message_batch()) {
        let bytes = Bytes::from(batch.encode_to_vec());
        let facts = batch::check(&bytes, &Limits::default()).unwrap();
        prop_assert_eq!(facts.count as usize, batch.messages.len());
        for (record, message) in batch::records(&bytes).zip(&batch.messages) {
            prop_assert_eq!(&v1::Message::decode(&bytes[record.message]).unwrap(), message);
        }
        // All but the second: two runs, so it is copied.
        let kept = batch.messages.iter().enumerate().filter(|(at, _)| *at != 1);
        let kept = kept.map(|(_, message)| message.clone()).collect();
        let wanted = [0..1, 2..facts.count.max(2)];
        let part = batch::cut(&bytes, wanted).unwrap();
        prop_assert_eq!(v1::MessageBatch::decode(part).unwrap(), v1::MessageBatch { messages: kept });
    }

    #[test]
    fn damaged_batches_are_judged_as_a_decoder_judges_them(
        batch in message_batch(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4)
    ) {
        let mut bytes = batch.encode_to_vec();
        for (at, byte, how) in damage {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.truncate(at),
                _ => bytes.insert(at, byte),
            }
        }
        judge(&bytes)?;
    }

    #[test]
    fn random_bytes_are_judged_as_a_decoder_judges_them(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0..0x40_u8], 0..60)
    ) {
        judge(&bytes)?;
        // The same as one message, so that more of it is looked at.
        let mut batch = vec![0x0a, u8::try_from(bytes.len()).unwrap()];
        batch.extend(&bytes);
        judge(&batch)?;
    }
}

/// What passes is decoded to as many messages; what is refused is refused by the decoder too, or for one of the
/// reasons that the walk states beyond it.
fn judge(bytes: &[u8]) -> Result<(), TestCaseError> {
    let decoded = v1::MessageBatch::decode(bytes);
    match batch::check(bytes, &Limits::default()) {
        Ok(facts) => {
            let decoded = decoded.map_err(|error| TestCaseError::fail(format!("{error}")))?;
            prop_assert_eq!(decoded.messages.len(), facts.count as usize);
        }
        Err(BatchError::Empty) => prop_assert!(decoded.unwrap().messages.is_empty()),
        Err(BatchError::Malformed { what, .. }) => {
            let is_stricter = matches!(
                what,
                Malformed::Group | Malformed::LongVarint | Malformed::UnknownBatchField
            );
            prop_assert!(is_stricter || decoded.is_err(), "{what:?} {decoded:?}");
        }
        Err(other) => prop_assert!(false, "{other:?}"),
    }
    Ok(())
}

#[test]
fn messages_without_a_batch_are_the_same_types_in_both_views() {
    fn same<T>(_: &T, _: &T) {}
    same(
        &v1::OpenProducer::default(),
        &raw::v1::OpenProducer::default(),
    );
    same(&v1::Receipts::default(), &raw::v1::Receipts::default());
    same(
        &v1::ConsumeRequest::default(),
        &raw::v1::ConsumeRequest::default(),
    );
    same(&v1::Topic::default(), &raw::v1::Topic::default());
}

#[test]
fn reflection_shows_batches_as_messages_and_a_comment_on_everything() {
    let public = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let internal = FileDescriptorSet::decode(INTERNAL_FILE_DESCRIPTOR_SET).unwrap();
    let services = public.file.iter().flat_map(|file| &file.service);
    assert_eq!(
        services.count(),
        8,
        "reflection names only what a serving node serves"
    );
    let mut batches = 0;
    for file in public
        .file
        .iter()
        .chain(&internal.file)
        .filter(|file| file.package().starts_with("ledgerline."))
    {
        let locations = &file
            .source_code_info
            .as_ref()
            .expect("comments are kept")
            .location;
        let commented: BTreeMap<&[i32], bool> = locations
            .iter()
            .map(|location| {
                (
                    location.path.as_slice(),
                    !location.leading_comments().is_empty(),
                )
            })
            .collect();
        for (path, name) in nameable(file) {
            assert_eq!(
                commented.get(path.as_slice()),
                Some(&true),
                "{} {name}",
                file.name()
            );
        }
        let fields = file.message_type.iter().flat_map(|message| &message.field);
        batches += fields
            .filter(|field| field.type_name() == ".ledgerline.v1.MessageBatch")
            .count();
    }
    assert_eq!(batches, 3);
}

/// The paths and names of all that a comment belongs to: messages, fields, enums, their values, services, methods.
fn nameable(file: &prost_types::FileDescriptorProto) -> Vec<(Vec<i32>, String)> {
    let index = |at: usize| i32::try_from(at).unwrap();
    let mut found = Vec::new();
    for (at, message) in file.message_type.iter().enumerate() {
        let path = vec![4, index(at)];
        found.push((path.clone(), message.name().to_owned()));
        for (at, field) in message.field.iter().enumerate() {
            let path = [path.as_slice(), &[2, index(at)]].concat();
            found.push((path, format!("{}.{}", message.name(), field.name())));
        }
    }
    for (at, kind) in file.enum_type.iter().enumerate() {
        let path = vec![5, index(at)];
        found.push((path.clone(), kind.name().to_owned()));
        for (at, value) in kind.value.iter().enumerate() {
            let path = [path.as_slice(), &[2, index(at)]].concat();
            found.push((path, value.name().to_owned()));
        }
    }
    for (at, service) in file.service.iter().enumerate() {
        let path = vec![6, index(at)];
        found.push((path.clone(), service.name().to_owned()));
        for (at, method) in service.method.iter().enumerate() {
            let path = [path.as_slice(), &[2, index(at)]].concat();
            found.push((path, format!("{}.{}", service.name(), method.name())));
        }
    }
    found
}

#[test]
fn a_field_that_comes_twice_is_merged_by_readers_of_messages_and_the_last_for_the_server() {
    // The server's reading counts: it passes on the bytes it has read, never both.
    let one = |payload: &'static [u8]| v1::PublishRequest {
        body: Some(v1::publish_request::Body::Batch(v1::MessageBatch {
            messages: vec![v1::Message {
                payload: payload.into(),
                ..v1::Message::default()
            }],
        })),
        ..v1::PublishRequest::default()
    };
    let twice = [one(b"a").encode_to_vec(), one(b"b").encode_to_vec()].concat();
    let request = raw::v1::PublishRequest::decode(twice.as_slice()).unwrap();
    let batch = crate::hot::published_once(&request).unwrap().body.bytes;
    assert_eq!(batch::check(&batch, &Limits::default()).unwrap().count, 1);
}

#[test]
fn event_times_of_our_client_are_a_stubs_times() {
    let time = WallTime::from_nanos(1_767_225_600_000_000_000);
    let mut batch = BytesMut::new();
    MessageParts {
        event_time: Some(time),
        ..MessageParts::default()
    }
    .append_to(&mut batch);
    let decoded = v1::MessageBatch::decode(batch.freeze()).unwrap();
    let wire = decoded.messages[0].event_time.as_ref().unwrap();
    assert_eq!((wire.seconds, wire.nanos), (1_767_225_600, 0));
}
