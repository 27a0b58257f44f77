//! Decoding without copying payloads: a large field that lies within one of the runs of bytes that came is a part of it.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A field of so many bytes is a part of the run it came in. A smaller one is copied: whoever keeps it, as a tail or a
/// memtable does for long, would keep all that its connection received beside it.
const SHARED_FROM: usize = 16 * 1024;

/// A run below this is short.
const SHORT: usize = 1024;

/// Runs of bytes as the transport gave them, read as one.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    runs: VecDeque<Bytes>,
    /// Short runs behind them.
    short: BytesMut,
    len: usize,
}

impl Chunks {
    /// Adds a run at the end. Short ones that follow each other become one: each would cost more than its bytes.
    pub(super) fn push(&mut self, run: Bytes) {
        self.len += run.len();
        if run.is_empty() {
            return;
        }
        if run.len() < SHORT {
            self.short.extend_from_slice(&run);
            return;
        }
        self.close();
        self.runs.push_back(run);
    }

    /// Makes a run of the short ones.
    fn close(&mut self) {
        if !self.short.is_empty() {
            self.runs.push_back(self.short.split().freeze());
        }
    }

    /// Takes the first `len` bytes off, which there must be.
    pub(super) fn split_to(&mut self, len: usize) -> Self {
        let mut taken = Self::default();
        while taken.len < len {
            taken.push(self.run(len - taken.len));
        }
        taken
    }

    /// Takes off what lies in one run, `most` bytes at most.
    fn run(&mut self, most: usize) -> Bytes {
        if self.runs.is_empty() {
            self.close();
        }
        let front = self.runs.front_mut().expect("the caller knows the length");
        let taken = front.split_to(front.len().min(most));
        if front.is_empty() {
            self.runs.pop_front();
        }
        self.len -= taken.len();
        taken
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.runs.front().map_or(&self.short[..], |run| run)
    }

    fn advance(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            left -= self.run(left).len();
        }
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        let is_whole = self.runs.front().is_some_and(|front| front.len() >= len);
        if is_whole && len >= SHARED_FROM {
            return self.run(len);
        }
        let mut whole = BytesMut::with_capacity(len);
        while whole.len() < len {
            let run = self.run(len - whole.len());
            whole.put(run);
        }
        whole.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_runs_become_one_and_stay_in_order_with_long_ones() {
        let mut chunks = Chunks::default();
        let all: Vec<u8> = (0..10_000_u32)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect();
        let (short, rest) = all.split_at(3_000);
        let (long, last) = rest.split_at(6_000);
        for byte in short.chunks(1) {
            chunks.push(Bytes::copy_from_slice(byte));
        }
        assert!(chunks.runs.is_empty(), "no run of a byte is held by itself");
        chunks.push(Bytes::copy_from_slice(long));
        for byte in last.chunks(1) {
            chunks.push(Bytes::copy_from_slice(byte));
        }
        assert_eq!(chunks.runs.len(), 2);
        assert_eq!((chunks.remaining(), chunks.get_u8()), (10_000, all[0]));
        assert_eq!(chunks.copy_to_bytes(9_999), all[1..]);
        assert!(!chunks.has_remaining());
    }
}
