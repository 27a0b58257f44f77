//! Randomness from a seed: SplitMix64 with a step of its own for each stream, as `SplittableRandom` of Java has it.
//!
//! It is for ids, jitter and simulation, never for secrets. The state is one atomic counter, so that drawing needs no
//! lock and no exclusive borrow, and clones of a host never draw the same number twice.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of random numbers. Clones draw from the same stream; [`Rng::fork`] begins another.
#[derive(Debug, Clone)]
pub struct Rng {
    state: Arc<AtomicU64>,
    /// Odd. With the state it makes a seed of 127 bits: streams that meet in one number part at the next.
    step: u64,
}

impl Rng {
    /// The stream of a seed.
    pub fn seeded(seed: u64) -> Self {
        Self::from_parts(mix(seed), mix(seed ^ GOLDEN))
    }

    /// A stream that the operating system seeds.
    pub fn from_os() -> Self {
        // The standard library seeds each process's hashers from the system's entropy; each value differs from the last.
        let draw = |salt: u64| {
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_u64(salt);
            hasher.finish()
        };
        Self::from_parts(draw(1), draw(2))
    }

    fn from_parts(state: u64, step: u64) -> Self {
        Self {
            state: Arc::new(AtomicU64::new(state)),
            step: step | 1,
        }
    }

    /// A number of 64 random bits.
    pub fn u64(&self) -> u64 {
        mix(self.state.fetch_add(self.step, Ordering::Relaxed))
    }

    /// A number of 128 random bits, for ids.
    pub fn u128(&self) -> u128 {
        let first = self
            .state
            .fetch_add(self.step.wrapping_mul(2), Ordering::Relaxed);
        let second = first.wrapping_add(self.step);
        (u128::from(mix(first)) << 64) | u128::from(mix(second))
    }

    /// A number below `bound`, each equally likely but for a bias below 2⁻³² for bounds below 2³².
    ///
    /// # Panics
    ///
    /// When `bound` is zero.
    pub fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below zero");
        let wide = u128::from(self.u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half of 128 bits fits")
    }

    /// An index into something of `len` elements.
    ///
    /// # Panics
    ///
    /// When `len` is zero.
    pub fn index(&self, len: usize) -> usize {
        let bound = u64::try_from(len).expect("lengths fit 64 bits");
        usize::try_from(self.below(bound)).expect("it is below a length")
    }

    /// A number of the range, both ends included.
    ///
    /// # Panics
    ///
    /// When the range is empty.
    pub fn within(&self, range: RangeInclusive<u64>) -> u64 {
        let (first, last) = range.into_inner();
        assert!(first <= last, "the range is empty");
        match (last - first).checked_add(1) {
            Some(count) => first + self.below(count),
            None => self.u64(),
        }
    }

    /// True once in `n` times on average.
    ///
    /// # Panics
    ///
    /// When `n` is zero.
    pub fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// True with a probability of `per_million` in a million. At zero nothing is drawn.
    pub fn chance(&self, per_million: u32) -> bool {
        per_million > 0 && self.below(1_000_000) < u64::from(per_million)
    }

    /// Fills `into` with random bytes.
    pub fn fill(&self, into: &mut [u8]) {
        for chunk in into.chunks_mut(8) {
            chunk.copy_from_slice(&self.u64().to_le_bytes()[..chunk.len()]);
        }
    }

    /// Another stream, told apart by the name and by one number drawn from this one: the same name twice gives two
    /// streams, the same seed and the same order of calls give the same streams.
    #[must_use]
    pub fn fork(&self, name: &str) -> Self {
        let named = name
            .bytes()
            .fold(self.u64(), |hash, byte| mix(hash ^ u64::from(byte)));
        Self::from_parts(mix(named), mix(named ^ self.u64()))
    }
}

/// The finalizer of SplitMix64: a bijection in which every bit of the input moves every bit of the output.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(rng: &Rng, count: usize) -> Vec<u64> {
        (0..count).map(|_| rng.u64()).collect()
    }

    #[test]
    fn same_seed_gives_the_same_stream_and_the_same_forks() {
        let (a, b) = (Rng::seeded(7), Rng::seeded(7));
        assert_eq!(take(&a, 8), take(&b, 8));
        assert_eq!(take(&a.fork("x"), 8), take(&b.fork("x"), 8));
        assert_eq!(a.u128(), b.u128());
    }

    #[test]
    fn seeds_names_and_repeated_forks_differ() {
        let rng = Rng::seeded(7);
        let streams = [
            take(&Rng::seeded(8), 4),
            take(&rng.fork("a"), 4),
            take(&rng.fork("a"), 4),
            take(&rng.fork("b"), 4),
            take(&rng, 4),
        ];
        for (at, one) in streams.iter().enumerate() {
            assert!(!streams[at + 1..].contains(one), "stream {at} repeats");
        }
    }

    #[test]
    fn clones_never_draw_the_same_number() {
        let rng = Rng::seeded(1);
        let clone = rng.clone();
        assert_ne!(rng.u64(), clone.u64());
    }

    #[test]
    fn draws_below_a_bound_reach_every_value_evenly() {
        let rng = Rng::seeded(3);
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[rng.index(7)] += 1;
        }
        assert!(
            counts.iter().all(|n| (9_500..10_500).contains(n)),
            "{counts:?}"
        );
        assert_eq!(rng.within(5..=5), 5);
        assert!(!rng.chance(0));
        assert!(rng.chance(1_000_000));
        let _ = rng.within(0..=u64::MAX);
    }

    #[test]
    fn the_system_seeds_every_stream_anew() {
        assert_ne!(Rng::from_os().u128(), Rng::from_os().u128());
    }
}
