//! What a run sends.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::payload::Stamp;
use super::prng::Prng;

/// A load: so many writers on so many topics, each at a steady rate. Data only: drivers carry it out, and the same seed
/// always means the same messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Decides sizes and keys.
    pub seed: u64,
    /// The topics, by short name. Each has one shard, which is its partition in the history.
    pub topics: Vec<String>,
    /// Writers on each topic.
    pub writers_per_topic: u32,
    /// Messages of each writer.
    pub messages_per_writer: u64,
    /// Bytes of a payload.
    pub size_bytes: RangeInclusive<usize>,
    /// Distinct ordering keys; 0 for messages without.
    pub keys: u64,
    /// Time from one message of a writer to its next, by the plan rather than by the answer.
    pub interval: Duration,
}

/// One writer's part of a [`Workload`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterPlan {
    /// Its name, unique in the run.
    pub writer: String,
    /// The topic it writes to, also the name of the partition.
    pub topic: String,
    load: Workload,
    seed: u64,
}

impl Workload {
    /// A modest load for two cores: one topic, `writers` writers, `messages` each, of about a kilobyte, `per_second` in all.
    pub fn modest(seed: u64, writers: u32, messages: u64, per_second: u32) -> Self {
        Self {
            seed,
            topics: vec!["orders".to_owned()],
            writers_per_topic: writers,
            messages_per_writer: messages,
            size_bytes: 64..=2048,
            keys: 0,
            interval: Duration::from_secs(1) * writers / per_second.max(1),
        }
    }

    /// The parts of all writers.
    pub fn writers(&self) -> Vec<WriterPlan> {
        let mut prng = Prng::new(self.seed);
        let mut plans = Vec::new();
        for topic in &self.topics {
            for index in 0..self.writers_per_topic {
                plans.push(WriterPlan {
                    writer: format!("{topic}-w{index}"),
                    topic: topic.clone(),
                    load: self.clone(),
                    seed: prng.next_u64(),
                });
            }
        }
        plans
    }
}

impl WriterPlan {
    /// How many messages it sends.
    pub fn messages(&self) -> u64 {
        self.load.messages_per_writer
    }

    /// When message `n` is meant to be sent, from the start of the run.
    pub fn due(&self, n: u64) -> Duration {
        let count = u32::try_from(n).unwrap_or(u32::MAX);
        self.load.interval.saturating_mul(count)
    }

    /// The identity of message `n`.
    pub fn stamp(&self, n: u64) -> Stamp {
        Stamp {
            writer: self.writer.clone(),
            partition: self.topic.clone(),
            n,
        }
    }

    /// The payload of message `n`.
    pub fn payload(&self, n: u64) -> Vec<u8> {
        let (least, most) = (*self.load.size_bytes.start(), *self.load.size_bytes.end());
        let spread = most.saturating_sub(least) + 1;
        let size = least + self.prng(n).index(spread);
        self.stamp(n).payload(size)
    }

    /// The ordering key of message `n`.
    pub fn key(&self, n: u64) -> Option<String> {
        let keys = self.load.keys;
        (keys > 0).then(|| format!("k{}", self.prng(n ^ 1 << 63).below(keys)))
    }

    fn prng(&self, n: u64) -> Prng {
        Prng::new(self.seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_means_the_same_messages() {
        let (a, b) = (
            Workload::modest(7, 2, 10, 100),
            Workload::modest(7, 2, 10, 100),
        );
        for (a, b) in a.writers().iter().zip(b.writers()) {
            assert_eq!(a, &b);
            assert_eq!(a.payload(3), b.payload(3));
            assert_eq!(Stamp::read(&a.payload(3)), Ok(a.stamp(3)));
        }
    }

    #[test]
    fn the_rate_is_shared_among_the_writers() {
        let load = Workload::modest(7, 2, 10, 100);
        assert_eq!(load.writers()[0].due(50), Duration::from_secs(1));
    }
}
