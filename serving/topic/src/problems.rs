//! The problems a shard tells its clients, worded in one place.

use std::time::Duration;
use types::{Offset, Problem, ProducerEpoch, ProducerName, Reason, SequenceId, SubscriptionId};

pub(crate) fn limit(what: &'static str, limit: impl std::fmt::Display) -> Problem {
    Problem::new(
        Reason::LimitReached,
        format!("a limit is reached: {what} limit={limit}"),
    )
    .with("limit", what)
    .with("max", limit)
}

pub(crate) fn overloaded(what: &'static str, max: u64, wait: Duration) -> Problem {
    Problem::new(
        Reason::Overloaded,
        format!("too much is in flight: {what} max={max}"),
    )
    .with("limit", what)
    .with("max", max)
    .retry_after(wait)
}

pub(crate) fn out_of_order(expected: SequenceId) -> Problem {
    Problem::new(
        Reason::SequenceOutOfOrder,
        format!("the batch does not follow the last one expected={expected}"),
    )
    .with("expected", expected)
}

pub(crate) fn fenced(name: &ProducerName, current: ProducerEpoch) -> Problem {
    Problem::new(
        Reason::ProducerFenced,
        format!("a newer producer has the name name={name} current_epoch={current}"),
    )
    .with("current_epoch", current)
}

pub(crate) fn producer_unknown(name: Option<&ProducerName>) -> Problem {
    match name {
        Some(name) => Problem::new(
            Reason::ProducerUnknown,
            format!("no such producer is remembered name={name}"),
        )
        .with("producer_name", name),
        None => Problem::new(
            Reason::ProducerUnknown,
            "a producer without a name cannot be resumed",
        ),
    }
    .with_field("resume")
}

pub(crate) fn before_ready() -> Problem {
    Problem::new(
        Reason::BadFrame,
        "a batch came before the producer was ready",
    )
}

pub(crate) fn wrong_stream(expected: &'static str) -> Problem {
    Problem::new(
        Reason::BadFrame,
        format!("the frame does not belong on this stream expected={expected}"),
    )
}

pub(crate) fn no_subscription(id: SubscriptionId) -> Problem {
    Problem::new(
        Reason::SubscriptionNotFound,
        format!("no such subscription subscription={id}"),
    )
}

pub(crate) fn out_of_range(end: Offset) -> Problem {
    Problem::new(
        Reason::AckOutOfRange,
        format!("an ack passes what exists end={end}"),
    )
    .with("end", end)
}
