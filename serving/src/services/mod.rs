//! The public services: every request is checked here, before anything else sees it.

mod admin;
mod cluster;
mod intake;
mod moves;
mod publisher;
mod repair;
mod subscriber;
mod subscriptions;

#[cfg(test)]
pub(crate) use intake::checked;
#[cfg(test)]
pub(crate) use subscriber::wire_delivery;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use futures::stream::BoxStream;
use proto::raw::v1 as pb;
use tokio::sync::mpsc;
use tonic::Status;
use types::{Problem, Reason};

use crate::config::ServingConfig;
use crate::convert;
use crate::node::Node;

/// What a stream brings.
pub(crate) trait Frames<T>:
    Stream<Item = Result<T, Status>> + Send + Unpin + 'static
{
}

impl<T, S> Frames<T> for S where S: Stream<Item = Result<T, Status>> + Send + Unpin + 'static {}

/// What is answered to it.
pub(super) type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// The services of one node. Clones are the same.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) node: Arc<Node>,
}

impl Services {
    pub(crate) const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

/// A problem as a gRPC status.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what map_err hands over"
)]
pub(crate) fn refuse(problem: Problem) -> Status {
    if problem.reason == Reason::Internal {
        tracing::error!(problem = %problem, "a defect refused a request");
    }
    proto::status::to_status(&problem)
}

/// Waits for what opens a stream as long as its client is there; none once it is gone. A client that gave an opening up
/// may have opened another stream since, from which the late one must not take the producer's name or the subscription.
/// Boxed: an opening needs room for calls of meta, which a stream would keep for its whole life.
pub(crate) async fn while_there<F, T>(
    frames: &mpsc::Sender<F>,
    opening: Pin<Box<impl Future<Output = T>>>,
) -> Option<T> {
    tokio::select! {
        biased;
        () = frames.closed() => None,
        opened = opening => Some(opened),
    }
}

/// Names a field as the request has it: what is inside the request knows its own part of the path only.
pub(crate) fn inside(part: &'static str) -> impl Fn(Problem) -> Problem {
    move |mut problem| {
        if let Some(field) = &mut problem.field {
            *field = format!("{part}.{field}");
        }
        problem
    }
}

/// The bounds that clients are told.
pub(crate) fn limits(config: &ServingConfig) -> pb::Limits {
    pb::Limits {
        message_bytes_max: config.message_max.get(),
        batch_bytes_max: config.batch_max.get(),
        batch_messages_max: config.batch_limits().messages_max.into(),
        deliveries_bytes_max: proto::transport::FRAME_TARGET as u64,
        unacked_messages_max: config.shard.topic.unacked_max,
        ranges_max: config.shard.topic.ranges_max as u64,
        page_size_max: convert::PAGE_MAX,
        compression_ratio_max: config.compression_ratio_max,
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn an_opening_is_given_up_when_its_client_goes() {
        let (frames, client) = mpsc::channel::<()>(1);
        assert_eq!(while_there(&frames, Box::pin(ready(7))).await, Some(7));
        let opening = while_there(&frames, Box::pin(pending::<()>()));
        let leaving = async { drop(client) };
        assert_eq!(futures::join!(opening, leaving).0, None);
        // What is ready at once is not opened for a client that is gone either.
        assert_eq!(while_there(&frames, Box::pin(ready(7))).await, None);
    }
}
