//! The public services: every request is checked here, before anything else sees it.

mod admin;
mod cluster;
mod publisher;
mod subscriber;
mod subscriptions;

use std::sync::Arc;

use proto::raw::v1 as pb;
use tonic::Status;
use types::{Problem, Reason};

use crate::config::ServingConfig;
use crate::convert;
use crate::node::Node;

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
    }
}
