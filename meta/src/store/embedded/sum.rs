//! A sum over all entries of a table, kept with each change and compared at each start.
//!
//! Each entry has its own checksum, which finds a changed one; only a sum over all finds one that is *not* there: a key
//! with a flipped bit is simply not met again, and "cannot be read" would be told as "does not exist".

use types::crc32c_of;

/// How many entries there are, and the sum of their checksums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    count: u64,
    sum: u64,
}

impl Sum {
    /// An entry is added.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(entry(key, value));
    }

    /// An entry is taken away, or is about to be replaced.
    pub(super) fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(entry(key, value));
    }

    /// As it is stored: the count above the sum.
    pub(super) fn to_bits(self) -> u128 {
        u128::from(self.count) << 64 | u128::from(self.sum)
    }

    /// Reads [`Self::to_bits`].
    pub(super) fn from_bits(bits: u128) -> Self {
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).expect("it is masked");
        Self {
            count: half(bits >> 64),
            sum: half(bits),
        }
    }
}

/// The key's length stands between key and value, so that no byte can change sides.
fn entry(key: &[u8], value: &[u8]) -> u64 {
    let len = u64::try_from(key.len()).unwrap_or(u64::MAX).to_be_bytes();
    u64::from(crc32c_of([&len[..], key, value]).get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_depends_on_the_entries_and_not_on_their_history() {
        let mut straight = Sum::default();
        straight.add(b"a", b"1");
        straight.add(b"b", b"2");
        let mut winding = Sum::default();
        winding.add(b"b", b"old");
        winding.add(b"a", b"1");
        winding.remove(b"b", b"old");
        winding.add(b"b", b"2");
        assert_eq!(straight.to_bits(), winding.to_bits());
        winding.remove(b"a", b"1");
        winding.add(b"", b"a1");
        assert_ne!(straight.to_bits(), winding.to_bits());
    }
}
