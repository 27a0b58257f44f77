//! The frames of the hot streams, built and read without copying a payload: `PublishBatch` up, `Deliveries` down, and
//! entries between nodes. Everything else about their encoding is the generated code's, and only this module should
//! have to change when it is to be faster.
//!
//! A batch or an entry's payload is a `Bytes` here: a slice of what the transport received, passed on as it is. Nothing
//! copies it: the generated clients and servers would copy each message once when it is sent and once when it comes, so
//! the hot methods are called and answered by [`HotMethod`] instead. A payload is written to the socket from where it
//! lies, and is a part of the transport's receive buffer when it came in one HTTP/2 frame. So it is with a
//! compressed batch: nothing here opens it.

mod adds;
mod batches;
mod calls;
mod chunks;
mod deliveries;
mod messages;
mod outgoing;
mod segments;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;

pub use adds::AddBatchBuilder;
pub use batches::{Incoming, codecs, publish_frame, published, published_once, wire_codecs};
pub use calls::{ADD_ENTRIES, Answer, CONSUME, HotMethod, PUBLISH, PUBLISH_ONCE, READ_RUN};
pub(crate) use calls::{Answering, Hot};
pub use deliveries::{DeliveriesBuilder, DeliveryParts, delivery};
pub use messages::Messages;

/// The flag and the length before each message: gRPC's framing.
const PREFIX: usize = 5;
