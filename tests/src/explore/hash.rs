//! Values with their hash: cheap to clone, to compare, and to hash again as part of something larger.

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// A 128-bit hash of a value. Two values of one search that share one by accident are not to be expected: with a
/// hundred million states the chance is 10⁻²³.
pub fn hash_of(value: &impl Hash) -> u128 {
    let mut hasher = Wide::default();
    value.hash(&mut hasher);
    hasher.wide()
}

/// Two independent lanes of multiply-and-fold.
#[derive(Debug, Clone, Copy)]
struct Wide {
    lanes: [u64; 2],
}

const KEYS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

impl Default for Wide {
    fn default() -> Self {
        Self {
            lanes: [0x2436_a1b7_0c5f_93d1, 0x8f1b_bcdc_bfa5_3e0b],
        }
    }
}

impl Wide {
    fn wide(self) -> u128 {
        let mut last = self;
        last.mix(0x5bd1_e995_97f4_a7c1);
        last.mix(0x27d4_eb2f_1656_67c5);
        u128::from(last.lanes[0]) << 64 | u128::from(last.lanes[1])
    }

    fn mix(&mut self, word: u64) {
        for (lane, key) in self.lanes.iter_mut().zip(KEYS) {
            let product = u128::from(*lane ^ word) * u128::from(key);
            let folded = product ^ (product >> 64);
            *lane = u64::try_from(folded & u128::from(u64::MAX))
                .expect("masked to 64 bits")
                .rotate_left(23)
                .wrapping_add(key ^ word);
        }
    }
}

impl Hasher for Wide {
    fn finish(&self) -> u64 {
        self.lanes[0]
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(u64::try_from(bytes.len()).expect("lengths fit 64 bits"));
    }

    fn write_u8(&mut self, word: u8) {
        self.mix(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(u64::try_from(word).expect("lengths fit 64 bits"));
    }
}

/// A value that is never changed in place, with its hash.
#[derive(Debug)]
pub struct Shared<T>(Arc<(u128, T)>);

impl<T: Hash> Shared<T> {
    /// Hashes a value and shares it.
    pub fn new(value: T) -> Self {
        Self(Arc::new((hash_of(&value), value)))
    }

    /// Its hash.
    pub fn hash(&self) -> u128 {
        self.0.0
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}
