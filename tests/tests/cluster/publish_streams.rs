//! `PublishStream`: batches in, receipts out, in order.

use bytes::Bytes;
use proto::raw::v1 as pb;
use proto::raw::v1::publish_stream_request::Frame as Up;
use proto::raw::v1::publish_stream_response::Frame as Down;
use tonic::Code;
use types::Reason;

use crate::support::{
    Cluster, MESSAGE_MAX, Plan, Publishing, batch, crc_of, open_producer, publishing, refusal,
    refused, topic_of,
};

/// The offset of a stored batch.
#[track_caller]
fn place(receipt: &pb::Receipt) -> u64 {
    assert_eq!(receipt.status, None, "{receipt:?}");
    receipt.first.as_ref().expect("stored somewhere").offset
}

#[tokio::test(start_paused = true)]
async fn batches_are_stored_in_order_and_answered_in_order() {
    let cluster = Cluster::small().await;
    let open = open_producer("orders", "p");
    let (mut stream, ready) = Publishing::open(cluster.client(0), open).await.unwrap();
    assert_eq!(ready.last_sequence_id, None);
    let limits = ready.limits.unwrap();
    assert_eq!(limits.message_bytes_max, MESSAGE_MAX as u64);
    let credits = ready.credits.unwrap();
    assert!(credits.messages > 0 && credits.bytes > 0);
    for first in 0..10 {
        let batch = batch([format!("m{}", 2 * first), format!("m{}", 2 * first + 1)]);
        let crc = Some(crc_of(&batch));
        stream.send_with(2 * first, Some(batch), crc).await;
    }
    let receipts = stream.receipts(10).await.unwrap();
    for (first, receipt) in (0_u64..).zip(&receipts) {
        assert_eq!((receipt.first_sequence_id, receipt.count), (2 * first, 2));
        assert_eq!(place(receipt), 2 * first);
        assert!(!receipt.duplicate);
    }
    stream.frame(Some(Up::Close(pb::CloseProducer {}))).await;
    stream.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_stream_is_answered_to_the_end() {
    let cluster = Cluster::small().await;
    let open = open_producer("orders", "");
    let (mut stream, _) = Publishing::open(cluster.client(0), open).await.unwrap();
    for first in 0..5 {
        stream.send(first, batch(["m"])).await;
    }
    stream.half_close();
    let receipts = stream.receipts(5).await.unwrap();
    assert_eq!(
        receipts.iter().map(place).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4]
    );
    stream.end().await.unwrap();

    // One that is closed before it is opened ends without a word.
    let open = Some(Up::Close(pb::CloseProducer {}));
    let mut wrong = publishing(cluster.client(0), open).await.unwrap();
    refused(
        wrong.end().await,
        Code::InvalidArgument,
        Reason::BadFrame,
        "frame",
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_opens_with_another_frame_is_refused() {
    let cluster = Cluster::small().await;
    let first = pb::PublishBatch {
        first_sequence_id: 0,
        crc32c: None,
        body: Some(pb::publish_batch::Body::Batch(batch(["a"]))),
    };
    for frame in [Some(Up::Batch(first)), None] {
        let mut stream = publishing(cluster.client(0), frame).await.unwrap();
        let problem = refused(
            stream.end().await,
            Code::InvalidArgument,
            Reason::BadFrame,
            "frame",
        );
        assert!(problem.message.contains("open"), "{problem:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_opens_a_producer_is_checked_field_by_field() {
    let plan = Plan {
        auto_create_topics: false,
        ..Plan::default()
    };
    let cluster = Cluster::start(plan).await;
    let bad = [
        (open_producer("a b", "p"), "open.topic"),
        (open_producer("orders", "p q"), "open.producer_name"),
        (
            pb::OpenProducer {
                access_mode: 77,
                ..open_producer("orders", "p")
            },
            "open.access_mode",
        ),
    ];
    for (open, field) in bad {
        let answer = Publishing::open(cluster.client(0), open).await;
        refused(answer, Code::InvalidArgument, Reason::BadField, field);
    }
    let answer = Publishing::open(cluster.client(0), open_producer("orders", "p")).await;
    let problem = refused(answer, Code::NotFound, Reason::TopicNotFound, "");
    assert_eq!(problem.resource, Some(topic_of("orders")));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_not_known_cannot_be_resumed() {
    let cluster = Cluster::small().await;
    let resume = |name: &str| pb::OpenProducer {
        resume: true,
        ..open_producer("orders", name)
    };
    for name in ["p", ""] {
        let answer = Publishing::open(cluster.client(0), resume(name)).await;
        let (code, reason) = (Code::FailedPrecondition, Reason::ProducerUnknown);
        refused(answer, code, reason, "open.resume");
    }
    let (mut first, _) = Publishing::open(cluster.client(0), open_producer("orders", "p"))
        .await
        .unwrap();
    first.send(0, batch(["a", "b"])).await;
    assert_eq!(place(&first.receipt().await), 0);
    let (_, ready) = Publishing::open(cluster.client(0), resume("p"))
        .await
        .unwrap();
    assert_eq!(ready.last_sequence_id, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_consumes_no_numbers_and_the_stream_goes_on() {
    let cluster = Cluster::small().await;
    let open = open_producer("orders", "p");
    let (mut stream, _) = Publishing::open(cluster.client(0), open).await.unwrap();
    stream.send(0, batch(["a"])).await;
    assert_eq!(place(&stream.receipt().await), 0);

    let malformed = Bytes::from_static(b"\x0a\x05");
    let not_text = Bytes::from_static(b"\x0a\x03\x12\x01\xff");
    let large = batch([vec![1_u8; MESSAGE_MAX]]);
    let bad = [
        (
            Some(malformed),
            None,
            Code::InvalidArgument,
            Reason::MalformedBatch,
            "batch.batch.messages[0]",
        ),
        (
            Some(not_text),
            None,
            Code::InvalidArgument,
            Reason::MalformedBatch,
            "batch.batch.messages[0]",
        ),
        (
            Some(large),
            None,
            Code::InvalidArgument,
            Reason::MessageTooLarge,
            "batch.batch.messages[0]",
        ),
        (
            Some(Bytes::new()),
            None,
            Code::InvalidArgument,
            Reason::BadField,
            "batch.batch.messages",
        ),
        (
            Some(batch(["b"])),
            Some(17),
            Code::DataLoss,
            Reason::PayloadCorrupt,
            "batch.crc32c",
        ),
        (
            None,
            None,
            Code::InvalidArgument,
            Reason::BadField,
            "batch.batch",
        ),
    ];
    for (bytes, crc, code, reason, field) in bad {
        stream.send_with(1, bytes, crc).await;
        let receipt = stream.receipt().await;
        assert_eq!((receipt.first_sequence_id, &receipt.first), (1, &None));
        refusal(receipt.status.as_ref(), code, reason, field);
    }

    stream.send(1, batch(["b"])).await;
    assert_eq!(place(&stream.receipt().await), 1);
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_refused_with_the_number_that_is_expected() {
    let cluster = Cluster::small().await;
    let open = open_producer("orders", "p");
    let (mut stream, _) = Publishing::open(cluster.client(0), open).await.unwrap();
    stream.send(0, batch(["a", "b"])).await;
    stream.send(3, batch(["d"])).await;
    stream.send(u64::MAX, batch(["x", "y"])).await;
    // Half of it is stored already.
    stream.send(1, batch(["b", "c"])).await;
    stream.send(2, batch(["c"])).await;
    let receipts = stream.receipts(5).await.unwrap();
    assert_eq!(place(&receipts[0]), 0);
    let code = Code::FailedPrecondition;
    for refused in [&receipts[1], &receipts[3]] {
        let problem = refusal(
            refused.status.as_ref(),
            code,
            Reason::SequenceOutOfOrder,
            "",
        );
        assert_eq!(problem.metadata["expected"], "2");
    }
    refusal(
        receipts[2].status.as_ref(),
        Code::InvalidArgument,
        Reason::BadField,
        "batch.first_sequence_id",
    );
    assert_eq!(place(&receipts[4]), 2);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_answered_with_the_first_ones_place() {
    let cluster = Cluster::small().await;
    let open = || open_producer("orders", "p");
    let (mut stream, _) = Publishing::open(cluster.client(0), open()).await.unwrap();
    stream.send(0, batch(["a"])).await;
    stream.send(1, batch(["b"])).await;
    stream.receipts(2).await.unwrap();
    let (mut again, ready) = Publishing::open(cluster.client(0), open()).await.unwrap();
    assert_eq!(ready.last_sequence_id, Some(1));
    again.send(1, batch(["b"])).await;
    let receipt = again.receipt().await;
    assert!(receipt.duplicate);
    assert_eq!(place(&receipt), 1);
    again.send(2, batch(["c"])).await;
    assert_eq!(place(&again.receipt().await), 2);

    let problem = refused(
        stream.end().await,
        Code::FailedPrecondition,
        Reason::ProducerFenced,
        "",
    );
    assert_eq!(problem.metadata["current_epoch"], ready.epoch.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_frame_out_of_place_is_told_and_the_stream_goes_on() {
    let cluster = Cluster::small().await;
    let open = open_producer("orders", "p");
    let (mut stream, _) = Publishing::open(cluster.client(0), open.clone())
        .await
        .unwrap();
    for frame in [None, Some(Up::Open(open))] {
        stream.frame(frame).await;
        match stream.next().await.unwrap() {
            Down::Error(error) => {
                let (code, reason) = (Code::InvalidArgument, Reason::BadFrame);
                refusal(error.status.as_ref(), code, reason, "frame");
            }
            other => panic!("{other:?}"),
        }
    }
    stream.send(0, batch(["a"])).await;
    assert_eq!(place(&stream.receipt().await), 0);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_cannot_be_read_ends_the_stream_after_its_receipts() {
    let cluster = Cluster::small().await;
    let open = open_producer("orders", "p");
    let (mut stream, _) = Publishing::open(cluster.client(0), open).await.unwrap();
    stream.send(0, batch(["a"])).await;
    stream.send(1, Bytes::from(vec![0; (16 << 20) + 1])).await;
    assert_eq!(place(&stream.receipt().await), 0);
    let (code, reason) = (Code::InvalidArgument, Reason::MessageTooLarge);
    refused(stream.end().await, code, reason, "batch");
}
