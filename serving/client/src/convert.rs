//! The words of `types` as the API says them.

use proto::v1 as pb;
use types::ByteSize;
use types::topic::{Retention, StartPosition, SubscriptionMode};

pub(crate) const fn mode(mode: Option<SubscriptionMode>) -> pb::SubscriptionMode {
    match mode {
        None => pb::SubscriptionMode::Unspecified,
        Some(SubscriptionMode::Exclusive) => pb::SubscriptionMode::Exclusive,
        Some(SubscriptionMode::Shared) => pb::SubscriptionMode::Shared,
    }
}

pub(crate) fn retention(retention: Retention) -> pb::Retention {
    pb::Retention {
        time: retention.time.map(proto::time::duration_to_wire),
        bytes: retention.bytes.map(ByteSize::get),
    }
}

pub(crate) const fn position(start: StartPosition) -> pb::Position {
    use pb::position::{At, Boundary};
    let at = match start {
        StartPosition::Earliest => At::Boundary(Boundary::Earliest as i32),
        StartPosition::Latest => At::Boundary(Boundary::Latest as i32),
        StartPosition::Offset(offset) => At::Offset(offset.get()),
    };
    pb::Position { at: Some(at) }
}
