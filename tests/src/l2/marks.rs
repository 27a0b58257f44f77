//! Rare things that must happen sometimes: a simulator in which they never do proves nothing.

use std::collections::BTreeMap;

use super::swarm::Harm;

/// What else must be seen over the fixed seeds: what nodes log when something rare happens, by its exact message, how
/// processes end, and what clients and the operator meet.
const SEEN: &[&str] = &[
    "a copy is to move",
    "bookie drained",
    "bookie lost",
    "drain refused",
    "drain taken back",
    "machine gone for good",
    "message without an answer sent again",
    "message without an answer stored",
    "meta lets ledgers go",
    "process ended as told",
    "process ended by itself",
    "serving node drained",
    "session expired",
    "shard waits",
    "the lease is not certain any more",
    "the lease was renewed",
    "topic moved",
];

/// How often each rare thing was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    counts: BTreeMap<String, u64>,
}

impl Marks {
    /// Counts one.
    pub fn hit(&mut self, mark: &str) {
        self.add_count(mark, 1);
    }

    /// Counts so many.
    pub fn add_count(&mut self, mark: &str, count: u64) {
        if count > 0 {
            *self.counts.entry(mark.to_owned()).or_default() += count;
        }
    }

    /// How often it was seen.
    pub fn count(&self, mark: &str) -> u64 {
        self.counts.get(mark).copied().unwrap_or(0)
    }

    /// Each that was seen, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(mark, count)| (&**mark, *count))
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        for (mark, count) in &other.counts {
            self.add_count(mark, *count);
        }
    }

    /// Those that must be seen sometimes and never were.
    pub fn missing(&self) -> Vec<&'static str> {
        let harms = Harm::ALL.into_iter().map(Harm::name);
        let all = harms.chain(SEEN.iter().copied());
        all.filter(|mark| self.count(mark) == 0).collect()
    }
}
