//! Compressing a batch, in a client.

use std::fmt;

use bytes::Bytes;

use types::batch::{Body, Codec, Compression};

/// zstd's own fastest level that still compresses well: batches are many, and somebody waits for each.
const ZSTD_LEVEL: i32 = 1;

/// What any batch may shrink from, whatever its ratio: so much is no bomb, and a run of zeros is honest.
const RATIO_FREE: usize = 1 << 20;

/// Whether the sizes of a batch are no bomb's: it is small when opened, or at most `ratio_max` times as large as it came.
pub const fn is_within_ratio(compressed: usize, uncompressed: usize, ratio_max: u32) -> bool {
    uncompressed <= RATIO_FREE || uncompressed <= compressed.saturating_mul(ratio_max as usize)
}

/// Compresses one batch after the other, with memory that it keeps for the next.
pub struct Compressor {
    coder: Coder,
}

enum Coder {
    Zstd(zstd::bulk::Compressor<'static>),
    Lz4,
    Snappy(Box<snap::raw::Encoder>),
}

impl Compressor {
    /// One for this codec.
    ///
    /// # Panics
    ///
    /// When zstd has no memory for its context.
    pub fn new(codec: Codec) -> Self {
        let coder = match codec {
            Codec::Zstd => {
                let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL);
                Coder::Zstd(zstd.expect("the level is one of zstd's, and there is memory"))
            }
            Codec::Lz4 => Coder::Lz4,
            Codec::Snappy => Coder::Snappy(Box::new(snap::raw::Encoder::new())),
        };
        Self { coder }
    }

    /// What it compresses with.
    pub const fn codec(&self) -> Codec {
        match self.coder {
            Coder::Zstd(_) => Codec::Zstd,
            Coder::Lz4 => Codec::Lz4,
            Coder::Snappy(_) => Codec::Snappy,
        }
    }

    /// The batch as it is to be sent: compressed if that is smaller and a server with this limit on the ratio takes it,
    /// else as it is.
    pub fn compress(&mut self, batch: Bytes, ratio_max: u32) -> Body {
        let Ok(uncompressed_bytes) = u32::try_from(batch.len()) else {
            return batch.into();
        };
        let data = match &mut self.coder {
            Coder::Zstd(zstd) => zstd.compress(&batch).ok(),
            Coder::Lz4 => Some(lz4_flex::block::compress(&batch)),
            Coder::Snappy(snappy) => snappy.compress_vec(&batch).ok(),
        };
        let is_kept = |data: &Vec<u8>| {
            data.len() < batch.len() && is_within_ratio(data.len(), batch.len(), ratio_max)
        };
        let Some(data) = data.filter(is_kept) else {
            return batch.into();
        };
        Body {
            bytes: data.into(),
            compression: Some(Compression {
                codec: self.codec(),
                uncompressed_bytes,
            }),
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compressor({})", self.codec())
    }
}
