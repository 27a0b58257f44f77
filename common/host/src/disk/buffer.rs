//! Memory that begins at a block of the disk, so that frames can be written past the page cache.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// The block of a disk: frames begin at a multiple of it and are as long as a multiple of it.
pub const BLOCK: usize = 4096;

/// Bytes whose first one lies at a multiple of [`BLOCK`] in memory. Its length is free; [`AlignedBuf::pad`] fills it
/// up to a whole block.
///
/// It is an ordinary vector, a block longer than it needs to be, of which the part that begins at a block is used.
pub struct AlignedBuf {
    /// Everything, the unused front included. Never grows past its capacity, which would move it.
    memory: Vec<u8>,
    /// Where the first block begins.
    start: usize,
}

impl AlignedBuf {
    /// An empty buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut memory: Vec<u8> = Vec::with_capacity(capacity.next_multiple_of(BLOCK) + BLOCK);
        let start = memory.as_ptr().addr().wrapping_neg() % BLOCK;
        memory.resize(start, 0);
        Self { memory, start }
    }

    /// A buffer of `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let mut buffer = Self::with_capacity(len);
        buffer.resize(len);
        buffer
    }

    /// Appends bytes. Growing past the capacity copies everything.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.memory.extend_from_slice(bytes);
    }

    /// Sets the length; new bytes are zero.
    pub fn resize(&mut self, len: usize) {
        self.reserve(len.saturating_sub(self.len()));
        self.memory.resize(self.start + len, 0);
    }

    /// Appends zeros up to a whole block.
    pub fn pad(&mut self) {
        self.resize(self.len().next_multiple_of(BLOCK));
    }

    /// Drops the bytes before `at`; the others move to the front.
    ///
    /// # Panics
    ///
    /// When there are fewer.
    pub fn drop_front(&mut self, at: usize) {
        let left = self.len() - at;
        self.copy_within(at.., 0);
        self.memory.truncate(self.start + left);
    }

    /// Drops the bytes and keeps the room.
    pub fn clear(&mut self) {
        self.memory.truncate(self.start);
    }

    /// Bytes it can hold before it has to move.
    pub fn capacity(&self) -> usize {
        self.memory.capacity() - self.start
    }

    fn reserve(&mut self, more: usize) {
        let wanted = self.len() + more;
        if wanted <= self.capacity() {
            return;
        }
        let mut larger = Self::with_capacity(wanted.max(self.len() * 2));
        larger.memory.extend_from_slice(self);
        *self = larger;
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..]
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..]
    }
}

impl Clone for AlignedBuf {
    fn clone(&self) -> Self {
        let mut copy = Self::with_capacity(self.len());
        copy.extend_from_slice(self);
        copy
    }
}

impl PartialEq for AlignedBuf {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for AlignedBuf {}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_aligned(buffer: &AlignedBuf) -> bool {
        buffer.as_ptr().addr().is_multiple_of(BLOCK)
    }

    #[test]
    fn stays_aligned_through_growth_and_copies() {
        let mut buffer = AlignedBuf::with_capacity(10);
        let mut expected = Vec::new();
        for round in 0..200_u8 {
            let bytes = [round; 97];
            buffer.extend_from_slice(&bytes);
            expected.extend_from_slice(&bytes);
            assert!(is_aligned(&buffer) && is_aligned(&buffer.clone()));
        }
        assert_eq!(*buffer, *expected);
        assert_eq!(buffer.clone(), buffer);
    }

    #[test]
    fn pads_with_zeros_to_a_whole_block_also_after_reuse() {
        let mut buffer = AlignedBuf::zeroed(BLOCK);
        buffer.fill(7);
        buffer.clear();
        assert!(buffer.is_empty());
        buffer.extend_from_slice(b"abc");
        buffer.pad();
        assert_eq!(buffer.len(), BLOCK);
        assert!(buffer[3..].iter().all(|byte| *byte == 0));
        buffer.pad();
        assert_eq!(buffer.len(), BLOCK);
    }

    #[test]
    fn what_is_behind_a_dropped_front_begins_at_a_block_again() {
        let mut buffer = AlignedBuf::with_capacity(BLOCK);
        buffer.extend_from_slice(b"abcdef");
        buffer.drop_front(4);
        assert!(is_aligned(&buffer) && *buffer == *b"ef");
        buffer.drop_front(2);
        assert!(buffer.is_empty());
    }

    #[test]
    fn does_not_move_within_its_capacity() {
        let mut buffer = AlignedBuf::with_capacity(BLOCK * 3);
        let before = buffer.as_ptr();
        buffer.extend_from_slice(&[1; BLOCK * 3]);
        assert_eq!(buffer.as_ptr(), before);
    }
}
