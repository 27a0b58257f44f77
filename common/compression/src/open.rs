//! Opening a batch.

use bytes::Bytes;

use types::batch::{Codec, Compression};

use crate::lz4;

/// The largest window that every decoder of zstd has memory for (RFC 8878, 3.1.1.1.2). A frame that names its size and
/// has no window of its own needs no more than the batch itself.
const ZSTD_WINDOW_MAX: u64 = 8 << 20;

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Why a compressed batch cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OpenError {
    /// Its bytes are broken, of another form, or of more bytes than is claimed.
    #[error("the bytes are not one whole {form} of {claimed} bytes", form = form(*codec))]
    Stream {
        /// The codec it names.
        codec: Codec,
        /// How many bytes its sender claims.
        claimed: u32,
    },
    /// It opens to fewer bytes than is claimed.
    #[error("the batch opens to fewer bytes than it claims claimed={claimed} actual={actual}")]
    Short {
        /// How many bytes its sender claims.
        claimed: u32,
        /// How many there are.
        actual: usize,
    },
}

const fn form(codec: Codec) -> &'static str {
    match codec {
        Codec::Zstd => "zstd frame without a dictionary, of a window of at most 8 MiB,",
        Codec::Lz4 => "lz4 block",
        Codec::Snappy => "raw snappy block",
    }
}

/// Opens a batch into a buffer of exactly the bytes that it claims: the caller has bounded them.
///
/// # Errors
///
/// [`OpenError`]: nothing of it can be used.
pub fn open(compression: Compression, data: &[u8]) -> Result<Bytes, OpenError> {
    let Compression {
        codec,
        uncompressed_bytes: claimed,
    } = compression;
    let mut opened = vec![0; claimed as usize];
    let written = match codec {
        Codec::Zstd => open_zstd(data, &mut opened),
        Codec::Lz4 => lz4::open(data, &mut opened),
        Codec::Snappy => open_snappy(data, &mut opened),
    };
    match written {
        None => Err(OpenError::Stream { codec, claimed }),
        Some(actual) if actual < opened.len() => Err(OpenError::Short { claimed, actual }),
        Some(_) => Ok(opened.into()),
    }
}

/// Frames that stand one behind the other, and frames to be skipped, are refused: not every decoder goes on behind the
/// first.
fn open_zstd(data: &[u8], into: &mut [u8]) -> Option<usize> {
    let is_one = zstd::zstd_safe::find_frame_compressed_size(data) == Ok(data.len());
    let window = zstd_window(data)?;
    if !is_one || window > ZSTD_WINDOW_MAX {
        return None;
    }
    let mut decoder = zstd::bulk::Decompressor::new().ok()?;
    decoder.decompress_to_buffer(data, into).ok()
}

/// The bytes of a frame's window, 0 where it has none of its own (RFC 8878, 3.1.1.1).
fn zstd_window(data: &[u8]) -> Option<u64> {
    let header = data.strip_prefix(&ZSTD_MAGIC)?;
    let is_single_segment = header.first()? & 0b10_0000 != 0;
    if is_single_segment {
        return Some(0);
    }
    let window = header.get(1)?;
    let base = 1_u64 << (10 + (window >> 3));
    Some(base + base / 8 * u64::from(window & 7))
}

fn open_snappy(data: &[u8], into: &mut [u8]) -> Option<usize> {
    // More than there is room for is refused by the decoder before it writes any of it.
    snap::raw::Decoder::new().decompress(data, into).ok()
}
