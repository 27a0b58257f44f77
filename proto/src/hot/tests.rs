use bytes::Bytes;
use prost::Message;
use types::batch::{Body, Codec, Codecs, Compression};
use types::{
    Crc32c, Generation, Offset, ProducerEpoch, Reason, SequenceId, ShardId, WallTime, crc32c,
};

use super::*;
use crate::raw::v1::{
    CompressedBatch, ConsumeResponse, PublishBatch, PublishRequest, PublishStreamRequest,
    consume_response, delivery::Body as Delivered, publish_request, publish_stream_request,
};
use crate::transport::FRAME_TARGET;

fn batch_of(frame: PublishStreamRequest) -> PublishBatch {
    match frame.frame {
        Some(publish_stream_request::Frame::Batch(batch)) => batch,
        other => panic!("{other:?}"),
    }
}

/// The same bytes, plain and as each codec's.
fn bodies(bytes: &Bytes) -> impl Iterator<Item = Body> {
    let compression = |codec| Compression {
        codec,
        uncompressed_bytes: 1_000_000,
    };
    let compressed = Codec::ALL.map(|codec| Some(compression(codec)));
    let bytes = bytes.clone();
    let all = compressed.into_iter().chain([None]);
    all.map(move |compression| Body {
        bytes: bytes.clone(),
        compression,
    })
}

#[test]
fn a_batch_is_read_as_it_was_sent_without_a_copy() {
    let batch = Bytes::from(vec![7; 100_000]);
    for body in bodies(&batch) {
        for crc in [None, Some(crc32c(&batch))] {
            let frame = publish_frame(SequenceId::new(17), body.clone(), 3, crc);
            let received = Bytes::from(frame.encode_to_vec());
            let frame = batch_of(PublishStreamRequest::decode(received.clone()).unwrap());
            assert_eq!(frame.first_sequence_id, 17);
            let read = published(frame).unwrap();
            let claimed_count = body.compression.map(|_| 3);
            assert!(received.as_ptr_range().contains(&read.body.bytes.as_ptr()));
            let body = body.clone();
            assert_eq!(
                read,
                Incoming {
                    body,
                    claimed_count
                }
            );
        }
    }
}

#[test]
fn a_codec_that_is_not_known_is_refused_in_a_batch_and_passed_over_in_a_consumers_word() {
    for codec in [0, 4, -1] {
        let wire = CompressedBatch {
            codec,
            ..CompressedBatch::default()
        };
        let problem = Incoming::compressed(wire).unwrap_err();
        assert_eq!(
            (problem.reason, problem.field.as_deref()),
            (Reason::BadField, Some("compressed.codec"))
        );
    }
    let two = [Codec::Zstd, Codec::Snappy];
    let mut wire = wire_codecs(two);
    wire.extend([0, 77]);
    assert_eq!(codecs(&wire), two.into_iter().collect::<Codecs>());
}

#[test]
fn a_wrong_checksum_and_a_missing_batch_are_refused() {
    let crc = Some(Crc32c::new(1));
    for body in bodies(&Bytes::from_static(b"abc")) {
        let damaged = publish_frame(SequenceId::new(0), body, 1, crc);
        let problem = published(batch_of(damaged)).unwrap_err();
        assert_eq!(problem.reason, Reason::PayloadCorrupt);
        assert_eq!(problem.metadata["expected"], "1");
    }
    let problem = published(PublishBatch::default()).unwrap_err();
    assert_eq!(
        (problem.reason, problem.field.as_deref()),
        (Reason::BadField, Some("batch"))
    );

    let request = PublishRequest {
        body: Some(publish_request::Body::Batch(Bytes::from_static(b"abc"))),
        crc32c: Some(1),
        ..PublishRequest::default()
    };
    assert_eq!(
        published_once(&request).unwrap_err().reason,
        Reason::PayloadCorrupt
    );
    assert_eq!(
        published_once(&PublishRequest::default())
            .unwrap_err()
            .reason,
        Reason::BadField
    );
}

fn sized(offset: u64, len: usize) -> crate::raw::v1::Delivery {
    delivery(DeliveryParts {
        shard: ShardId::new(1),
        first: Offset::new(offset),
        offsets: Vec::new(),
        token: Bytes::from_static(b"17/0:4"),
        batch: Bytes::from(vec![7; len]).into(),
        count: 1,
        published: WallTime::from_nanos(1),
        attempt: 1,
        lease_expires: Some(WallTime::from_nanos(2)),
        producer: Some((
            "p".parse().unwrap(),
            ProducerEpoch::new(3),
            SequenceId::new(4),
        )),
        generation: Generation::new(5),
    })
}

fn items(frame: ConsumeResponse) -> Vec<crate::raw::v1::Delivery> {
    match frame.frame {
        Some(consume_response::Frame::Deliveries(deliveries)) => deliveries.items,
        other => panic!("{other:?}"),
    }
}

#[test]
fn deliveries_are_cut_at_the_frame_target_and_a_larger_one_goes_alone() {
    let lens = [400_000, 400_000, 400_000, 5 << 20, 10, FRAME_TARGET - 200];
    let all: Vec<_> = lens
        .iter()
        .enumerate()
        .map(|(at, &len)| sized(at as u64, len))
        .collect();
    let mut builder = DeliveriesBuilder::default();
    let mut frames: Vec<_> = all
        .iter()
        .cloned()
        .filter_map(|one| builder.push(one))
        .collect();
    frames.extend(builder.finish());
    assert!(builder.finish().is_none());
    for frame in &frames {
        assert!(frame.encoded_len() <= FRAME_TARGET + 16 || items(frame.clone()).len() == 1);
    }
    let sizes: Vec<usize> = frames
        .iter()
        .map(|frame| items(frame.clone()).len())
        .collect();
    assert_eq!(sizes, [2, 1, 1, 2]);
    let sent: Vec<_> = frames.into_iter().flat_map(items).collect();
    assert_eq!(sent, all);
}

#[test]
fn a_delivery_carries_its_batch_as_it_is() {
    let one = sized(9, 10);
    assert_eq!(one.body, Some(Delivered::Batch(vec![7; 10].into())));
    let first = one.first.unwrap();
    assert_eq!((first.shard.as_str(), first.offset), ("shard-1", 9));
    assert_eq!(one.producer.unwrap().first_sequence_id, 4);
}
