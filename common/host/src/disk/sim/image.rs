//! Bytes of one file: sparse, and shared between copies until one of them is written to.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use super::chunks::{CHUNK, Chunk, Chunks};

/// The unit that reaches the disk whole or not at all, tearing aside.
pub(super) const SECTOR: usize = 512;

/// All zero chunks are this one, so that preallocated files cost no memory.
static ZERO: LazyLock<Chunk> = LazyLock::new(|| Arc::new([0; CHUNK]));

/// The bytes of a file and its length. A chunk that is absent was never written: it reads as zeros and takes no space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Image {
    len: u64,
    chunks: Chunks,
}

impl Image {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of disk it takes.
    pub(super) fn allocated(&self) -> u64 {
        wide(self.chunks.len() * CHUNK)
    }

    /// Bytes of disk a write would take in addition.
    pub(super) fn would_allocate(&self, offset: u64, len: usize) -> u64 {
        let touched = chunks_of(offset, len);
        let missing = touched.filter(|number| self.chunks.get(*number).is_none());
        wide(missing.count() * CHUNK)
    }

    /// Fills `into` from `offset`; returns less at the end of the file.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = left.min(into.len());
        for (number, within, part) in pieces(offset, count) {
            let into = &mut into[part];
            match self.chunks.get(number) {
                Some(chunk) => into.copy_from_slice(&chunk[within]),
                None => into.fill(0),
            }
        }
        count
    }

    /// Writes, growing as needed.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        for (number, within, part) in pieces(offset, data.len()) {
            self.write_chunk(number, within, &data[part]);
        }
        self.len = self.len.max(offset + wide(data.len()));
    }

    /// Writes zeros, growing as needed.
    pub(super) fn write_zeros(&mut self, offset: u64, len: usize) {
        for (number, within, _) in pieces(offset, len) {
            self.write_chunk(number, within.clone(), &ZERO[within]);
        }
        self.len = self.len.max(offset + wide(len));
    }

    fn write_chunk(&mut self, number: u64, within: Range<usize>, data: &[u8]) {
        if data.len() == CHUNK && is_zero(data) {
            self.chunks.insert(number, Arc::clone(&ZERO));
            return;
        }
        if self.chunks.get(number).is_none() {
            self.chunks.insert(number, Arc::clone(&ZERO));
        }
        let chunk = self.chunks.get_mut(number).expect("it is there by now");
        Arc::make_mut(chunk)[within].copy_from_slice(data);
    }

    /// Sets the length. What lies past a shorter one is gone: growing again shows zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.cut(len);
        }
        self.len = len;
    }

    /// Drops all bytes from `len` on, and leaves the length.
    pub(super) fn cut(&mut self, len: u64) {
        self.chunks.cut(len.div_ceil(wide(CHUNK)));
        let (last, within) = (len / wide(CHUNK), narrow(len % wide(CHUNK)));
        let is_clean = |chunk: &Chunk| is_zero(&chunk[within..]);
        if within > 0 && !self.chunks.get(last).is_none_or(is_clean) {
            let chunk = self.chunks.get_mut(last).expect("it is not clean");
            Arc::make_mut(chunk)[within..].fill(0);
        }
    }

    /// Takes from `other` the chunks that a write touched, without copying bytes.
    pub(super) fn share(&mut self, other: &Self, offset: u64, len: usize) {
        for number in chunks_of(offset, len) {
            // A chunk that was written is there: only a cut removes it, and cuts are not shared so.
            if let Some(chunk) = other.chunks.get(number) {
                self.chunks.insert(number, Arc::clone(chunk));
            }
        }
    }

    /// Sets the length alone; the caller has seen to the bytes.
    pub(super) fn take_len(&mut self, len: u64) {
        self.len = len;
    }

    /// The bytes of a sector, zeros where nothing was written.
    pub(super) fn sector(&self, sector: u64) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        let offset = sector * wide(SECTOR);
        if let Some(chunk) = self.chunks.get(offset / wide(CHUNK)) {
            let start = narrow(offset % wide(CHUNK));
            bytes.copy_from_slice(&chunk[start..start + SECTOR]);
        }
        bytes
    }

    /// Sets the bytes of a sector, and leaves the length.
    pub(super) fn put_sector(&mut self, sector: u64, bytes: &[u8; SECTOR]) {
        let offset = sector * wide(SECTOR);
        let start = narrow(offset % wide(CHUNK));
        self.write_chunk(offset / wide(CHUNK), start..start + SECTOR, bytes);
    }

    /// Whether the whole chunk around a sector is zeros.
    pub(super) fn is_zero_around(&self, sector: u64) -> bool {
        let chunk = self.chunks.get(sector * wide(SECTOR) / wide(CHUNK));
        chunk.is_none_or(|chunk| Arc::ptr_eq(chunk, &ZERO))
    }

    /// Flips one bit; false when the file is shorter.
    pub(super) fn flip(&mut self, bit: u64) -> bool {
        let offset = bit / 8;
        if offset >= self.len {
            return false;
        }
        let mut byte = [0];
        self.read(offset, &mut byte);
        self.write(offset, &[byte[0] ^ (1 << (bit % 8))]);
        true
    }

    /// Every byte.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; narrow(self.len)];
        self.read(0, &mut bytes);
        bytes
    }

    /// Each part that is not a hole of zeros, with its offset, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let written = self.chunks.iter().filter(|(_, chunk)| !is_zero(&chunk[..]));
        written.map(|(number, chunk)| (number * wide(CHUNK), &chunk[..]))
    }
}

/// Whether all bytes are zero. Comparing memory is fast also without an optimising compiler.
pub(super) fn is_zero(data: &[u8]) -> bool {
    data.chunks(CHUNK).all(|part| *part == ZERO[..part.len()])
}

/// The sectors that a range touches.
pub(super) fn sectors_of(offset: u64, len: usize) -> Range<u64> {
    units_of(offset, len, SECTOR)
}

fn chunks_of(offset: u64, len: usize) -> Range<u64> {
    units_of(offset, len, CHUNK)
}

fn units_of(offset: u64, len: usize, unit: usize) -> Range<u64> {
    let first = offset / wide(unit);
    if len == 0 {
        return first..first;
    }
    first..(offset + wide(len)).div_ceil(wide(unit))
}

/// Splits a range at chunks: the number of the chunk, the range within it, the range within the data.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + wide(done);
        let start = narrow(at % wide(CHUNK));
        let count = (CHUNK - start).min(len - done);
        let piece = (at / wide(CHUNK), start..start + count, done..done + count);
        done += count;
        Some(piece)
    })
}

/// A length in memory as an offset in a file.
pub(super) fn wide(len: usize) -> u64 {
    u64::try_from(len).expect("lengths in memory fit 64 bits")
}

/// An offset as a length in memory.
pub(super) fn narrow(offset: u64) -> usize {
    usize::try_from(offset).expect("simulated files fit the memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn agrees_with_a_plain_vector_under_random_changes() {
        let rng = Rng::seeded(11);
        for _ in 0..50 {
            let (mut image, mut plain) = (Image::default(), Vec::new());
            for _ in 0..60 {
                let offset = rng.index(20_000);
                match rng.below(6) {
                    0 => {
                        image.set_len(wide(offset));
                        plain.resize(offset, 0);
                    }
                    1 => {
                        let len = rng.index(10_000);
                        image.write_zeros(wide(offset), len);
                        write_plain(&mut plain, offset, &vec![0; len]);
                    }
                    _ => {
                        let mut data = vec![0; 1 + rng.index(9_000)];
                        rng.fill(&mut data);
                        image.write(wide(offset), &data);
                        write_plain(&mut plain, offset, &data);
                    }
                }
                assert_eq!(image.to_vec(), plain);
            }
            let mut copy = Image::default();
            copy.share(&image, 0, plain.len());
            copy.take_len(image.len());
            assert_eq!(copy, image);
        }
    }

    fn write_plain(plain: &mut Vec<u8>, offset: usize, data: &[u8]) {
        plain.resize(plain.len().max(offset + data.len()), 0);
        plain[offset..offset + data.len()].copy_from_slice(data);
    }

    #[test]
    fn reads_stop_at_the_end() {
        let mut image = Image::default();
        image.write(10, b"abc");
        let mut into = [9; 8];
        assert_eq!(image.read(11, &mut into), 2);
        assert_eq!(&into[..3], b"bc\x09");
        assert_eq!(image.read(13, &mut into), 0);
        assert_eq!(image.read(u64::MAX, &mut into), 0);
    }

    #[test]
    fn zeros_take_space_on_disk_and_none_in_memory() {
        let mut image = Image::default();
        assert_eq!(image.would_allocate(100, 8192), 3 * 4096);
        image.write_zeros(0, 1 << 20);
        assert_eq!(image.allocated(), 1 << 20);
        assert_eq!(image.would_allocate(0, 1 << 20), 0);
        assert!(
            image
                .chunks
                .iter()
                .all(|(_, chunk)| Arc::ptr_eq(chunk, &ZERO))
        );
        image.set_len(1 << 30);
        assert_eq!(image.allocated(), 1 << 20);
    }

    #[test]
    fn copies_do_not_see_later_writes() {
        let mut image = Image::default();
        image.write(0, &[1; 10_000]);
        let copy = image.clone();
        image.write(5_000, &[2; 10]);
        assert_eq!(copy.to_vec(), vec![1; 10_000]);
        assert!(image.flip(8) && !image.flip(80_000));
        assert_eq!((copy.to_vec()[1], image.to_vec()[1]), (1, 0));
    }

    #[test]
    fn sectors_are_read_and_put_within_their_chunk() {
        let mut image = Image::default();
        image.write(0, &[7; 4096]);
        image.put_sector(3, &[9; SECTOR]);
        assert_eq!(image.sector(2), [7; SECTOR]);
        assert_eq!(image.sector(3), [9; SECTOR]);
        assert_eq!(image.sector(99), [0; SECTOR]);
        assert_eq!(sectors_of(511, 2), 0..2);
        assert_eq!(sectors_of(512, 0), 1..1);
    }
}
