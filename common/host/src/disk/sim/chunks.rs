//! A sparse sequence of chunks that is cheap to copy: chunks are shared, and so are groups of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::image::wide;

/// The unit of memory that copies share.
pub(super) const CHUNK: usize = 4096;

/// Chunks of a group: copying a file of 16 MiB copies 64 pointers.
const GROUP: usize = 64;

pub(super) type Chunk = Arc<[u8; CHUNK]>;

type Group = Arc<[Option<Chunk>; GROUP]>;

/// Chunks by number. A copy shares them all; writing to one of the two parts only what it touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    /// No group is without chunks.
    groups: BTreeMap<u64, Group>,
    len: usize,
}

impl Chunks {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, number: u64) -> Option<&Chunk> {
        let (group, at) = place(number);
        self.groups.get(&group)?[at].as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Chunk> {
        let (group, at) = place(number);
        Arc::make_mut(self.groups.get_mut(&group)?)[at].as_mut()
    }

    pub(super) fn insert(&mut self, number: u64, chunk: Chunk) {
        let (group, at) = place(number);
        let empty = || Arc::new([const { None }; GROUP]);
        let group = self.groups.entry(group).or_insert_with(empty);
        let before = Arc::make_mut(group)[at].replace(chunk);
        self.len += usize::from(before.is_none());
    }

    /// Removes all chunks from this one on.
    pub(super) fn cut(&mut self, first: u64) {
        let (group, at) = place(first);
        let gone = self.groups.split_off(&(group + 1));
        self.len -= gone.values().map(count).sum::<usize>();
        if let Some(last) = self.groups.get_mut(&group) {
            let before = count(last);
            Arc::make_mut(last)[at..].fill(None);
            let after = count(last);
            self.len -= before - after;
            if after == 0 {
                self.groups.remove(&group);
            }
        }
    }

    /// Each chunk with its number, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Chunk)> {
        self.groups.iter().flat_map(|(group, chunks)| {
            let numbered = (group * wide(GROUP)..).zip(chunks.iter());
            numbered.filter_map(|(number, chunk)| Some((number, chunk.as_ref()?)))
        })
    }
}

fn place(number: u64) -> (u64, usize) {
    let at = usize::try_from(number % wide(GROUP)).expect("it is below a group's length");
    (number / wide(GROUP), at)
}

fn count(group: &Group) -> usize {
    group.iter().flatten().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn agrees_with_a_plain_map_under_random_changes() {
        let rng = Rng::seeded(5);
        let (mut chunks, mut plain) = (Chunks::default(), BTreeMap::new());
        for step in 0..3_000 {
            let number = rng.below(500);
            if rng.one_in(50) {
                chunks.cut(number);
                plain.split_off(&number);
            } else {
                let byte = rng.fork("byte").u64().to_le_bytes()[0];
                chunks.insert(number, Arc::new([byte; CHUNK]));
                plain.insert(number, byte);
            }
            assert_eq!(chunks.len(), plain.len(), "step {step}");
            assert_eq!(
                chunks.get(number).map(|chunk| chunk[0]),
                plain.get(&number).copied()
            );
        }
        assert!(chunks.iter().map(|(n, chunk)| (n, chunk[0])).eq(plain));
        let copy = chunks.clone();
        chunks.cut(0);
        assert_eq!(chunks, Chunks::default());
        assert_ne!(copy, chunks);
    }
}
