//! The bytes of an entry: a small header made by the serving node and the body as the producer sent it, kept apart
//! so that the body is never copied to put a header before it.

use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::{Buf, Bytes};

/// An entry's bytes in two runs. Only their concatenation has meaning: equality, hash and length see one run.
#[derive(Clone, Default)]
pub struct Payload {
    head: Bytes,
    body: Bytes,
}

impl Payload {
    /// A payload of a header and a body.
    pub const fn new(head: Bytes, body: Bytes) -> Self {
        Self { head, body }
    }

    /// A payload in one run, as it comes back from a bookie.
    pub const fn whole(bytes: Bytes) -> Self {
        Self {
            head: Bytes::new(),
            body: bytes,
        }
    }

    /// The first run.
    pub const fn head(&self) -> &Bytes {
        &self.head
    }

    /// The second run.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in one run; copies only when both runs hold some.
    pub fn to_bytes(&self) -> Bytes {
        if self.head.is_empty() {
            return self.body.clone();
        }
        if self.body.is_empty() {
            return self.head.clone();
        }
        self.head
            .clone()
            .chain(self.body.clone())
            .copy_to_bytes(self.len())
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .head
                .iter()
                .chain(self.body.iter())
                .eq(other.head.iter().chain(&other.body))
    }
}

impl Eq for Payload {}

impl Hash for Payload {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.len());
        for byte in self.head.iter().chain(self.body.iter()) {
            state.write_u8(*byte);
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_concatenation_counts() {
        let split = Payload::new(Bytes::from_static(b"ab"), Bytes::from_static(b"c"));
        let whole = Payload::whole(Bytes::from_static(b"abc"));
        assert_eq!(split, whole);
        assert_eq!(split.to_bytes(), whole.to_bytes());
        assert_ne!(split, Payload::whole(Bytes::from_static(b"abd")));
    }
}
