//! What the key of the cluster says: which cluster, and for a store that was imported where it came from. Pure.

use bytes::Bytes;
use types::cluster::MetaGeneration;
use types::{ClusterId, Revision, crc32c};

/// The first byte: of a store that was made here, and of one that was imported.
const MADE: u8 = 1;
const IMPORTED: u8 = 2;

/// The cluster, and what its revisions and its generation begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) cluster: ClusterId,
    pub(super) generation: MetaGeneration,
    /// The revision that all of this store's are above.
    pub(super) base: Revision,
}

impl Home {
    /// A store that is made here.
    pub(super) fn new(cluster: ClusterId) -> Self {
        Self {
            cluster,
            generation: MetaGeneration::default(),
            base: Revision::default(),
        }
    }

    /// A format byte and the id; imported ones also have the base, the generation's number and mark and the mark it goes
    /// on from, after a byte that says whether there is one; a CRC32C over all.
    pub(super) fn encode(&self) -> Bytes {
        let is_made = *self == Self::new(self.cluster);
        let mut bytes = vec![if is_made { MADE } else { IMPORTED }];
        bytes.extend_from_slice(&self.cluster.to_bytes());
        if !is_made {
            let generation = &self.generation;
            bytes.extend_from_slice(&self.base.get().to_be_bytes());
            bytes.extend_from_slice(&generation.number.to_be_bytes());
            bytes.extend_from_slice(&generation.mark.to_be_bytes());
            bytes.push(u8::from(generation.goes_on.is_some()));
            let goes_on = generation.goes_on.unwrap_or_default();
            bytes.extend_from_slice(&goes_on.to_be_bytes());
        }
        let crc = crc32c(&bytes).get();
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes.into()
    }

    /// Reads the bytes of [`Self::encode`]; none when they are not such.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut home = Self::new(ClusterId::from_slice(bytes.get(1..17)?)?);
        if bytes.first() == Some(&IMPORTED) {
            let number = |at: usize| {
                let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
                Some(u64::from_be_bytes(bytes))
            };
            let mark = |at: usize| {
                let bytes = bytes.get(at..at + 16)?.try_into().ok()?;
                Some(u128::from_be_bytes(bytes))
            };
            home.base = Revision::new(number(17)?);
            home.generation = MetaGeneration {
                number: number(25)?,
                mark: mark(33)?,
                goes_on: if bytes.get(49) == Some(&1) {
                    Some(mark(50)?)
                } else {
                    None
                },
            };
        }
        (home.encode() == bytes).then_some(home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_key_says_survives_its_bytes_and_flips_and_cuts_are_found() {
        let made = Home::new(ClusterId::new(77));
        let generation = MetaGeneration::default().next(0xabc, true);
        let imported = Home {
            generation,
            base: Revision::new(1 << 40),
            ..made
        };
        let restored = Home {
            generation: generation.next(5, false),
            ..imported
        };
        for home in [made, imported, restored] {
            let bytes = home.encode();
            assert_eq!(Home::decode(&bytes), Some(home));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Home::decode(&flipped), None, "bit {bit}");
            }
            for len in 0..bytes.len() {
                assert_eq!(Home::decode(&bytes[..len]), None, "cut at {len}");
            }
        }
        // A store made here is as older versions know it.
        assert_eq!(made.encode().len(), 21);
    }
}
