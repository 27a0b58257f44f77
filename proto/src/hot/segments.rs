//! Encoding without copying payloads: what is large is passed on as it is, between the bytes around it.

use std::collections::VecDeque;

use bytes::buf::UninitSlice;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tonic::Status;

use super::PREFIX;

/// A field of so many bytes is not copied. Below it a copy costs less than a frame of its own.
const SHARED_FROM: usize = 4 * 1024;

/// Encoded messages, as the runs of bytes that make them up.
#[derive(Debug, Default)]
pub(super) struct Segments {
    whole: VecDeque<Bytes>,
    open: BytesMut,
}

impl Segments {
    /// Adds a message behind gRPC's prefix.
    ///
    /// # Errors
    ///
    /// `OUT_OF_RANGE` when it is larger than the other side would take. Nothing was added then.
    pub(super) fn add(&mut self, message: &impl Message, max: usize) -> Result<(), Status> {
        let len = message.encoded_len();
        let announced = u32::try_from(len).ok().filter(|_| len <= max);
        let Some(announced) = announced else {
            let text = format!(
                "Error, encoded message length too large: found {len} bytes, the limit is: {max} bytes"
            );
            return Err(Status::out_of_range(text));
        };
        self.open.reserve(PREFIX + len.min(SHARED_FROM));
        self.open.put_u8(0); // Not compressed.
        self.open.put_u32(announced);
        message.encode_raw(self);
        Ok(())
    }

    /// Whether there is as much as is worth sending by itself.
    pub(super) fn is_worth_sending(&self) -> bool {
        !self.whole.is_empty() || self.open.len() >= SHARED_FROM
    }

    /// The next bytes, in order.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.whole.is_empty() {
            self.close();
        }
        self.whole.pop_front()
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.whole.push_back(self.open.split().freeze());
        }
    }
}

#[expect(
    unsafe_code,
    reason = "the trait is unsafe, and the one way to see a field before it is copied"
)]
// SAFETY: all memory that is handed out is that of `open`, which keeps the trait's promises; what `put` adds besides is
// put in order behind it and never handed out.
unsafe impl BufMut for Segments {
    fn remaining_mut(&self) -> usize {
        self.open.remaining_mut()
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        // SAFETY: the caller wrote that many bytes to what `chunk_mut` gave, which was of `open`.
        unsafe { self.open.advance_mut(count) }
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        self.open.chunk_mut()
    }

    fn put<T: Buf>(&mut self, mut source: T)
    where
        Self: Sized,
    {
        if source.remaining() < SHARED_FROM {
            self.open.put(source);
            return;
        }
        self.close();
        while source.has_remaining() {
            let run = source.chunk().len();
            self.whole.push_back(source.copy_to_bytes(run));
        }
    }

    fn put_slice(&mut self, source: &[u8]) {
        self.open.put_slice(source);
    }
}
