//! Compressed batches: made by clients, checked on receipt, opened where a part of one is wanted.
//!
//! What a producer compressed is stored and delivered as it came; between the two nobody opens it without need. So the
//! serving node looks into it once, [`check`], and takes only what every consumer can open: then its count and its sizes
//! are what they claim to be, offsets never lie, and no consumer meets a stream that is broken or never ends.
//!
//! Nothing here trusts a length. A batch is opened into as many bytes as its sender claims, never more, and only if
//! that many are within [`Limits`]; what does not fill them exactly is refused. A checked batch takes at most that
//! memory, for the moment of the check, on the thread that checks it.
//!
//! The forms, each in what it takes the least of all decoders:
//!
//! - zstd: one frame of RFC 8878, without a dictionary, its window at most 8 MiB or the size of the batch;
//! - lz4: one block, as `LZ4_compress_default` makes it. No frame: the size is known already;
//! - snappy: one raw block. No frame either.
//!
//! Pure: the same bytes always give the same answer, and nothing is kept between calls.

mod check;
mod compress;
mod lz4;
mod open;
#[cfg(test)]
mod tests;

pub use check::{CompressedError, Limits, check};
pub use compress::{Compressor, is_within_ratio};
pub use open::{OpenError, open};
