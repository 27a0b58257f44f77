//! Messages, as they are sent and as they are received.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use types::WallTime;
use types::batch::MessageParts;

/// A message to be published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// What it says; Ledgerline never looks inside.
    pub payload: Bytes,
    /// Messages with the same key keep their order, whatever becomes of the topic. Empty for none.
    pub ordering_key: String,
    /// Headers for consumers.
    pub attributes: BTreeMap<String, String>,
    /// When it happened, if that matters to consumers.
    pub event_time: Option<WallTime>,
    /// What kind of content the payload is, such as `application/json`. Empty for none.
    pub content_type: String,
}

impl Message {
    /// A message of this payload and nothing else.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            ..Self::default()
        }
    }

    /// The same with an ordering key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.ordering_key = key.into();
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    fn parts(&self) -> MessageParts<'_> {
        MessageParts {
            payload: &self.payload,
            ordering_key: &self.ordering_key,
            attributes: &self.attributes,
            event_time: self.event_time,
            content_type: &self.content_type,
        }
    }

    /// Bytes of its encoding: what the server's limit is about.
    pub(crate) fn encoded_len(&self) -> usize {
        self.parts().message_len()
    }

    /// Bytes it takes in a batch.
    pub(crate) fn record_len(&self) -> usize {
        self.parts().record_len()
    }

    /// Appends it to an encoded batch.
    pub(crate) fn append_to(&self, batch: &mut BytesMut) {
        self.parts().append_to(batch);
    }

    /// Reads it as it came from the server.
    pub(crate) fn from_wire(wire: proto::v1::Message) -> Self {
        Self {
            payload: wire.payload,
            ordering_key: wire.ordering_key,
            attributes: wire.attributes,
            event_time: wire.event_time.as_ref().and_then(proto::time::from_wire),
            content_type: wire.content_type,
        }
    }
}

impl<T: Into<Bytes>> From<T> for Message {
    fn from(payload: T) -> Self {
        Self::new(payload)
    }
}
