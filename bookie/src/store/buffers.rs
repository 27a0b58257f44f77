//! Memory that blocks are read into, used again and again: fresh memory is cleared by the system page by page, and by us
//! before it is read into, which costs more than the read itself. It begins at a block of the disk, so that reads can go
//! past the system's cache.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use host::disk::{AlignedBuf, BLOCK};

/// Buffers of one size that come back when nobody needs what was read into them any more. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Buffers {
    /// Bytes of a buffer.
    size: usize,
    /// Most buffers that wait to be used again.
    kept: usize,
    free: Arc<Mutex<Vec<AlignedBuf>>>,
}

/// A buffer on its way.
struct Lent {
    /// Here until it is dropped.
    bytes: Option<AlignedBuf>,
    len: usize,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.bytes
            .as_deref()
            .map_or(&[], |bytes| &bytes[..self.len])
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let kept = self.home.kept;
        if let Some(bytes) = self.bytes.take() {
            self.home.with(|free| {
                if free.len() < kept {
                    free.push(bytes);
                }
            });
        }
    }
}

impl Buffers {
    /// Buffers for reads of up to `most` bytes, of which `kept` wait to be used again.
    pub(crate) fn new(most: usize, kept: usize) -> Self {
        Self {
            // A read that goes past the cache begins and ends at blocks of the disk.
            size: most + 2 * BLOCK,
            kept,
            free: Arc::default(),
        }
    }

    /// So many bytes, as `read` fills them. Fewer than half a buffer are not worth one.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub(crate) fn fill(
        &self,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Bytes> {
        if !(self.size / 2..=self.size).contains(&len) {
            let mut bytes = AlignedBuf::zeroed(len);
            read(&mut bytes)?;
            return Ok(Bytes::from_owner(bytes));
        }
        let kept = self.with(Vec::pop);
        let mut bytes = kept.unwrap_or_else(|| AlignedBuf::zeroed(self.size));
        let done = read(&mut bytes[..len]);
        let lent = Lent {
            bytes: Some(bytes),
            len,
            home: self.clone(),
        };
        done.map(|()| Bytes::from_owner(lent))
    }

    /// How much memory so many bytes of one read take at most, as long as any of them is needed.
    pub(crate) fn weight(&self, len: usize) -> usize {
        // Whole blocks of the disk were read, to a place that begins with one.
        let read = len.next_multiple_of(BLOCK) + BLOCK;
        match (self.size / 2..=self.size).contains(&read) {
            true => self.size + BLOCK,
            false => read + BLOCK,
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<AlignedBuf>) -> T) -> T {
        // The list is whole after each statement.
        work(&mut self.free.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1 << 16;
    const SIZE: usize = MOST + 2 * BLOCK;
    const KEPT: usize = 3;

    fn filled(buffers: &Buffers, len: usize, byte: u8) -> Bytes {
        let read = |bytes: &mut [u8]| {
            bytes.fill(byte);
            Ok(())
        };
        buffers.fill(len, read).unwrap()
    }

    fn free(buffers: &Buffers) -> usize {
        buffers.with(|free| free.len())
    }

    #[test]
    fn a_buffer_is_used_again_once_every_part_of_it_is_gone() {
        let buffers = Buffers::new(MOST, KEPT);
        let mut first = filled(&buffers, SIZE - 7, 1);
        let part = first.split_to(10);
        drop(first);
        let other = filled(&buffers, SIZE, 2);
        assert_ne!(part.as_ptr(), other.as_ptr());
        assert_eq!(part, [1; 10][..]);
        let address = part.as_ptr();
        drop(part);
        let again = filled(&buffers, SIZE / 2, 3);
        assert_eq!((again.as_ptr(), again.len()), (address, SIZE / 2));
        assert!(again.iter().all(|byte| *byte == 3));
        drop((other, again));
        assert_eq!(free(&buffers), 2);
    }

    #[test]
    fn only_so_many_wait_and_none_for_small_or_huge_reads_or_failed_ones() {
        let buffers = Buffers::new(MOST, KEPT);
        let many: Vec<Bytes> = (0..=KEPT).map(|_| filled(&buffers, SIZE, 0)).collect();
        drop(many);
        assert_eq!(free(&buffers), KEPT);
        let other = Buffers::new(MOST, KEPT);
        for len in [0, SIZE / 2 - 1, SIZE + 1] {
            let bytes = filled(&other, len, 9);
            assert_eq!(bytes.len(), len);
            assert!(other.weight(len) >= len + BLOCK, "{len}");
            assert!(bytes.as_ptr().addr().is_multiple_of(BLOCK), "{len}");
        }
        assert_eq!(free(&other), 0);
        let failed = other.fill(SIZE, |_| Err(io::Error::other("bad sector")));
        assert_eq!(failed.unwrap_err().to_string(), "bad sector");
        assert_eq!(free(&other), 1);
        // Also of a read of which the blocks fill half a buffer, and what was wanted does not.
        for len in [SIZE / 2 - BLOCK, SIZE / 2, SIZE - 2 * BLOCK] {
            assert_eq!(other.weight(len), SIZE + BLOCK);
        }
    }
}
