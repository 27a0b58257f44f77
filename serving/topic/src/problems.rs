//! The problems a shard tells its clients, worded in one place.

use std::time::Duration;

use types::topic::SubscriptionMode;
use types::{
    ConsumerName, Offset, Problem, ProducerEpoch, ProducerName, Reason, SequenceId, SubscriptionId,
    SubscriptionName,
};

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

pub(crate) fn after_close() -> Problem {
    Problem::new(
        Reason::BadFrame,
        "a frame came after the one that closes the stream",
    )
}

pub(crate) fn wrong_stream(expected: &'static str) -> Problem {
    Problem::new(
        Reason::BadFrame,
        format!("the frame does not belong on this stream expected={expected}"),
    )
}

pub(crate) fn uncertain() -> Problem {
    Problem::new(
        Reason::ShardOpening,
        "the node is not certain that it still serves the shard, try again",
    )
}

pub(crate) fn no_subscription(id: SubscriptionId) -> Problem {
    Problem::new(
        Reason::SubscriptionNotFound,
        format!("no such subscription subscription={id}"),
    )
}

pub(crate) fn wrong_mode(
    name: &SubscriptionName,
    mode: SubscriptionMode,
    asked: SubscriptionMode,
) -> Problem {
    let (mode, asked) = (mode_text(mode), mode_text(asked));
    Problem::new(
        Reason::WrongMode,
        format!("the subscription has another mode mode={mode} asked={asked}"),
    )
    .with_resource(name)
    .with_field("mode")
    .with("mode", mode)
}

const fn mode_text(mode: SubscriptionMode) -> &'static str {
    match mode {
        SubscriptionMode::Exclusive => "EXCLUSIVE",
        SubscriptionMode::Shared => "SHARED",
    }
}

/// Its subscription was deleted.
pub(crate) fn subscription_deleted(name: &SubscriptionName) -> Problem {
    let text = format!("the subscription was deleted subscription={name}");
    Problem::new(Reason::SubscriptionNotFound, text).with_resource(name)
}

pub(crate) fn exclusive_held(name: &SubscriptionName, holder: Option<&ConsumerName>) -> Problem {
    let holder = holder.map_or("", ConsumerName::as_str);
    Problem::new(
        Reason::ExclusiveHeld,
        format!("another consumer has the subscription holder={holder:?}"),
    )
    .with_resource(name)
    .with("holder", holder)
}

pub(crate) fn out_of_range(end: Offset) -> Problem {
    Problem::new(
        Reason::AckOutOfRange,
        format!("an ack passes what exists end={end}"),
    )
    .with("end", end)
}
