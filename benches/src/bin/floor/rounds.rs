//! Rounds of a fixed time.

use std::time::Duration;

use benches::figures::millions_per_second;
use host::Clock;
use types::MonoTime;

/// How often and how long each part is measured.
#[derive(Debug, Clone)]
pub(crate) struct Rounds {
    clock: Clock,
    count: u32,
    length: Duration,
}

/// A round under way.
#[derive(Debug)]
pub(crate) struct Round<'a> {
    clock: &'a Clock,
    began: MonoTime,
    length: Duration,
}

impl Rounds {
    /// So many rounds that count.
    pub(crate) const fn new(clock: Clock, count: u32, length: Duration) -> Self {
        Self {
            clock,
            count,
            length,
        }
    }

    /// The rounds, the warm-up before them included; [`counted`] leaves it out again.
    pub(crate) const fn all(&self) -> std::ops::Range<u32> {
        0..self.count + 1
    }

    /// Begins a round now.
    pub(crate) fn begin(&self) -> Round<'_> {
        Round {
            clock: &self.clock,
            began: self.clock.now(),
            length: self.length,
        }
    }
}

impl Round<'_> {
    /// Whether its time is not over.
    pub(crate) fn goes_on(&self) -> bool {
        self.took() < self.length
    }

    /// Time since it began.
    pub(crate) fn took(&self) -> Duration {
        self.clock.now().since(self.began)
    }

    /// Millions of bytes a second, when so many were moved since it began.
    pub(crate) fn rate(&self, bytes: u64) -> f64 {
        millions_per_second(bytes, self.took())
    }
}

/// Leaves the warm-up out.
pub(crate) fn counted<T>(mut rounds: Vec<T>) -> Vec<T> {
    drop(rounds.drain(..1));
    rounds
}

/// Times of one round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Adds a time.
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that so many in a hundred do not exceed, in microseconds; zero when there are none.
    pub(crate) fn percentile(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let rank = (self.0.len() * percent).div_ceil(100);
        let at = self.0.get(rank.saturating_sub(1));
        at.map_or(0.0, |time| time.as_secs_f64() * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let mut times = Times::default();
        assert_eq!(times.percentile(50), 0.0);
        for micros in (1..=200).rev() {
            times.push(Duration::from_micros(micros));
        }
        let at = [0, 1, 50, 99, 100].map(|percent| times.percentile(percent).round());
        assert_eq!(at, [1.0, 2.0, 100.0, 198.0, 200.0]);
    }

    #[test]
    fn the_warm_up_counts_for_nothing() {
        let rounds = Rounds::new(Clock::real(), 2, Duration::from_secs(1));
        let all: Vec<u32> = rounds.all().collect();
        assert_eq!(all, [0, 1, 2]);
        assert_eq!(counted(all), [1, 2]);
    }
}
