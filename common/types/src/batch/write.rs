//! Messages put into a batch by our own client, each encoded once, where it will stay.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::{MESSAGES, field};
use crate::WallTime;

/// What a message is made of. Empty parts are left out of its encoding.
#[derive(Debug, Clone, Copy)]
pub struct MessageParts<'a> {
    /// The content.
    pub payload: &'a [u8],
    /// Messages with the same key keep their order.
    pub ordering_key: &'a str,
    /// Headers.
    pub attributes: &'a BTreeMap<String, String>,
    /// When it happened.
    pub event_time: Option<WallTime>,
    /// The media type of the content.
    pub content_type: &'a str,
}

static NO_ATTRIBUTES: BTreeMap<String, String> = BTreeMap::new();

impl Default for MessageParts<'_> {
    fn default() -> Self {
        Self {
            payload: &[],
            ordering_key: "",
            attributes: &NO_ATTRIBUTES,
            event_time: None,
            content_type: "",
        }
    }
}

impl MessageParts<'_> {
    /// Bytes of the encoded message: what counts against the limit on messages.
    pub fn message_len(&self) -> usize {
        let attributes = self
            .attributes
            .iter()
            .map(|(key, value)| delimited_len(field::ATTRIBUTES, entry_len(key, value)));
        let time = self
            .event_time
            .map(|time| delimited_len(field::EVENT_TIME, time_len(time)));
        some_len(field::PAYLOAD, self.payload)
            + some_len(field::ORDERING_KEY, self.ordering_key.as_bytes())
            + attributes.sum::<usize>()
            + time.unwrap_or(0)
            + some_len(field::CONTENT_TYPE, self.content_type.as_bytes())
    }

    /// Bytes that it takes in a batch.
    pub fn record_len(&self) -> usize {
        delimited_len(MESSAGES, self.message_len())
    }

    /// Appends the message to an encoded batch; batches begin empty.
    pub fn append_to(&self, batch: &mut BytesMut) {
        let len = self.message_len();
        batch.reserve(delimited_len(MESSAGES, len));
        put_header(batch, MESSAGES, len);
        put_some(batch, field::PAYLOAD, self.payload);
        put_some(batch, field::ORDERING_KEY, self.ordering_key.as_bytes());
        for (key, value) in self.attributes {
            put_header(batch, field::ATTRIBUTES, entry_len(key, value));
            put_some(batch, 1, key.as_bytes());
            put_some(batch, 2, value.as_bytes());
        }
        if let Some(time) = self.event_time {
            put_header(batch, field::EVENT_TIME, time_len(time));
            let (seconds, nanos) = split(time);
            put_number(batch, 1, seconds);
            put_number(batch, 2, nanos);
        }
        put_some(batch, field::CONTENT_TYPE, self.content_type.as_bytes());
    }
}

const DELIMITED: u64 = 2;
const VARINT: u64 = 0;

fn split(time: WallTime) -> (u64, u64) {
    let nanos = time.as_nanos();
    (nanos / 1_000_000_000, nanos % 1_000_000_000)
}

fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn tag_len(number: u32) -> usize {
    varint_len(u64::from(number) << 3)
}

fn delimited_len(number: u32, len: usize) -> usize {
    tag_len(number) + varint_len(len as u64) + len
}

fn some_len(number: u32, bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        0
    } else {
        delimited_len(number, bytes.len())
    }
}

fn number_len(number: u32, value: u64) -> usize {
    if value == 0 {
        0
    } else {
        tag_len(number) + varint_len(value)
    }
}

fn entry_len(key: &str, value: &str) -> usize {
    some_len(1, key.as_bytes()) + some_len(2, value.as_bytes())
}

fn time_len(time: WallTime) -> usize {
    let (seconds, nanos) = split(time);
    number_len(1, seconds) + number_len(2, nanos)
}

/// Puts two numbers at once: a step on the batch costs more than both.
fn put_varints(batch: &mut BytesMut, values: [u64; 2]) {
    let mut bytes = [0; 20]; // A varint has ten at most.
    let mut len = 0;
    for mut value in values {
        while value >= 0x80 {
            bytes[len] = (value & 0x7f) as u8 | 0x80;
            len += 1;
            value >>= 7;
        }
        bytes[len] = (value & 0x7f) as u8;
        len += 1;
    }
    batch.extend_from_slice(&bytes[..len]);
}

fn put_header(batch: &mut BytesMut, number: u32, len: usize) {
    put_varints(batch, [u64::from(number) << 3 | DELIMITED, len as u64]);
}

fn put_some(batch: &mut BytesMut, number: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_header(batch, number, bytes.len());
        batch.extend_from_slice(bytes);
    }
}

fn put_number(batch: &mut BytesMut, number: u32, value: u64) {
    if value != 0 {
        put_varints(batch, [u64::from(number) << 3 | VARINT, value]);
    }
}
