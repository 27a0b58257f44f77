//! Small words of the protocol, and what a refusal must hold.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use proto::v1 as plain;
use tonic::{Code, Status};
use types::{Problem, Reason};

/// No step of a test takes longer, in simulated time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits, but not for ever.
pub(crate) async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it does not hang")
}

/// Tries again until it succeeds: clients repeat what failed for a reason that passes.
pub(crate) async fn until<T, F>(mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, Status>>,
{
    let mut last = None;
    for _ in 0..150 {
        match in_time(attempt()).await {
            Ok(done) => return done,
            Err(status) => last = Some(status),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it never succeeds: {last:?}");
}

/// A batch as a client's stub encodes it: one message for each payload.
pub(crate) fn batch<P: AsRef<[u8]>>(payloads: impl IntoIterator<Item = P>) -> Bytes {
    let message = |payload: P| plain::Message {
        payload: Bytes::copy_from_slice(payload.as_ref()),
        ..plain::Message::default()
    };
    let messages = payloads.into_iter().map(message).collect();
    plain::MessageBatch { messages }.encode_to_vec().into()
}

/// Its payloads, as a consumer's stub decodes them.
pub(crate) fn bytes_of(batch: &Bytes) -> Vec<Bytes> {
    let batch = plain::MessageBatch::decode(batch.clone()).expect("what is delivered decodes");
    batch.messages.into_iter().map(|m| m.payload).collect()
}

/// A unary request.
pub(crate) fn body(topic: &str, batch: Bytes) -> proto::raw::v1::PublishRequest {
    proto::raw::v1::PublishRequest {
        topic: topic.to_owned(),
        body: Some(proto::raw::v1::publish_request::Body::Batch(batch)),
        crc32c: None,
    }
}

pub(crate) fn crc_of(batch: &[u8]) -> u32 {
    types::crc32c(batch).get()
}

/// The full name of a topic that is written short.
pub(crate) fn topic_of(short: &str) -> String {
    format!("tenants/default/namespaces/default/topics/{short}")
}

/// An ack of a run of offsets.
pub(crate) fn ack(request_id: u64, start: u64, end: u64, generation: u32) -> plain::AckSet {
    plain::AckSet {
        request_id,
        ranges: vec![plain::OffsetRange { start, end }],
        generation,
        ..plain::AckSet::default()
    }
}

/// Asserts that a call was refused in this way, and returns the problem.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(
    answer: Result<T, Status>,
    code: Code,
    reason: Reason,
    field: &str,
) -> Problem {
    let status = answer.expect_err("it is refused");
    assert_eq!(status.code(), code, "{status:?}");
    checked(proto::status::from_status(&status), reason, field)
}

/// Asserts the same of a status inside a stream.
#[track_caller]
pub(crate) fn refusal(
    status: Option<&tonic_types::Status>,
    code: Code,
    reason: Reason,
    field: &str,
) -> Problem {
    let status = status.expect("it is refused");
    assert_eq!(Code::from(status.code), code, "{status:?}");
    checked(proto::status::from_rpc(status), reason, field)
}

#[track_caller]
fn checked(problem: Problem, reason: Reason, field: &str) -> Problem {
    assert_eq!(problem.reason, reason, "{problem:?}");
    assert_eq!(problem.field.as_deref().unwrap_or(""), field, "{problem:?}");
    assert!(!problem.message.is_empty(), "a person reads it");
    problem
}
