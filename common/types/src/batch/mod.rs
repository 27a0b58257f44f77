//! A batch of messages as it is encoded, walked without decoding it.
//!
//! A batch is a `ledgerline.v1.MessageBatch` in protobuf's encoding, made by the producer's stub and passed on
//! unopened: into an entry, into caches, to consumers. The serving node walks it once on receipt, [`check`], and
//! refuses what any consumer's stub could refuse: after that, boundaries are all anybody needs ([`records`], [`cut`]).
//! Nothing here allocates, except [`cut`] where the messages wanted do not lie side by side.
//!
//! What passes [`check`]:
//!
//! - one message or more, each within the limits; fields of a message that are known have their wire type, and strings
//!   are UTF-8; attributes and times are checked the same way inside;
//! - fields of a message that are *not* known, if they are well formed: a newer client's message keeps them on its way
//!   to a newer consumer. Groups are refused: proto3 has none, and stubs differ in how deep they follow them;
//! - no other field of the *batch* than its messages: the server cuts batches, and could not say what such a field
//!   would mean in a part;
//! - tags and lengths of at most five bytes. Some stubs refuse longer ones although the number is small.
//!
//! So every batch that passes is accepted by every conforming decoder. The crate `proto` tests this against its own.
//!
//! A batch may come compressed, [`Body`]. The crate `compression` opens it, on receipt to check it, later where a part of
//! it is wanted.

mod body;
mod check;
mod cut;
#[cfg(test)]
mod tests;
mod wire;
mod write;

pub use body::{Body, Codec, CodecError, Codecs, Compression};
pub use check::{BatchError, Facts, Limits, Malformed, check};
pub use cut::{Record, Records, cut, records};
pub use write::MessageParts;

/// The number of `MessageBatch.messages`.
const MESSAGES: u32 = 1;

/// The numbers of `Message`'s fields.
mod field {
    pub(super) const PAYLOAD: u32 = 1;
    pub(super) const ORDERING_KEY: u32 = 2;
    pub(super) const ATTRIBUTES: u32 = 4;
    pub(super) const EVENT_TIME: u32 = 6;
    pub(super) const CONTENT_TYPE: u32 = 14;
}
