//! What is counted and timed while a load runs, by all of its tasks.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use types::MonoTime;

/// A histogram of times in nanoseconds.
pub(super) fn histogram() -> Histogram<u64> {
    // From a nanosecond to ten minutes; what is longer counts as that.
    Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("the bounds are in order")
}

/// Adds a time.
pub(super) fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Messages,
    /// Of each message one to every subscription.
    Deliveries,
    Topics,
    Subscriptions,
}

impl Counted {
    /// The word for many of them.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Deliveries => "deliveries",
            Self::Topics => "topics",
            Self::Subscriptions => "subscriptions",
        }
    }

    /// The unit of their rate: what is delivered is messages.
    pub(super) const fn per_second(self) -> &'static str {
        match self {
            Self::Messages | Self::Deliveries => "msg/s",
            Self::Topics => "topics/s",
            Self::Subscriptions => "subscriptions/s",
        }
    }

    /// Whether they are messages, which have a size and can be read again.
    pub(super) const fn are_messages(self) -> bool {
        matches!(self, Self::Messages | Self::Deliveries)
    }
}

/// Counts and times what is done. What comes in the warm-up is forgotten when it is over.
#[derive(Debug)]
pub(super) struct Meter {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    counted: Counted,
    begun: MonoTime,
    last: MonoTime,
    /// When the warm-up is over; none once it is.
    warm_at: Option<MonoTime>,
    /// All, those of the warm-up too.
    ever: u64,
    count: u64,
    bytes: u64,
    times: Histogram<u64>,
    /// Since the last look.
    recent: Recent,
}

/// What came since somebody looked.
#[derive(Debug)]
struct Recent {
    count: u64,
    bytes: u64,
    times: Histogram<u64>,
}

/// How it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) counted: Counted,
    /// All so far, those of the warm-up too.
    pub(super) all: u64,
    /// Since the last look, and their bytes.
    pub(super) count: u64,
    pub(super) bytes: u64,
    /// Percentiles since the last look; none where nothing was timed.
    pub(super) p50: Option<Duration>,
    pub(super) p99: Option<Duration>,
    pub(super) is_warming_up: bool,
}

/// What was measured.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) counted: Counted,
    pub(super) count: u64,
    pub(super) bytes: u64,
    /// From the begin, or the end of the warm-up, to the last that was counted.
    pub(super) took: Duration,
    pub(super) times: Histogram<u64>,
}

impl Meter {
    /// Begins. A load that is over before its warm-up is measured whole.
    pub(super) fn new(counted: Counted, now: MonoTime, warmup: Duration) -> Self {
        let recent = Recent {
            count: 0,
            bytes: 0,
            times: histogram(),
        };
        Self {
            state: Mutex::new(State {
                counted,
                begun: now,
                last: now,
                warm_at: (!warmup.is_zero()).then(|| now.after(warmup)),
                ever: 0,
                count: 0,
                bytes: 0,
                times: histogram(),
                recent,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counts are valid after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what is done `now`; what has a time is due since then.
    pub(super) fn count(&self, now: MonoTime, count: u64, bytes: u64, dues: &[MonoTime]) {
        let mut state = self.lock();
        if state.warm_at.is_some_and(|at| now >= at) {
            state.forget(now);
        }
        state.last = state.last.max(now);
        state.ever += count;
        state.recent.count += count;
        state.recent.bytes += bytes;
        for due in dues {
            record(&mut state.recent.times, now.since(*due));
        }
    }

    /// How it goes since the last look.
    pub(super) fn look(&self) -> Look {
        let mut state = self.lock();
        let recent = &state.recent;
        let at = |percentile| {
            let nanos = recent.times.value_at_percentile(percentile);
            (!recent.times.is_empty()).then(|| Duration::from_nanos(nanos))
        };
        let look = Look {
            counted: state.counted,
            all: state.ever,
            count: recent.count,
            bytes: recent.bytes,
            p50: at(50.0),
            p99: at(99.0),
            is_warming_up: state.warm_at.is_some(),
        };
        state.gather();
        look
    }

    /// What was measured so far.
    pub(super) fn measured(&self) -> Measured {
        let mut state = self.lock();
        state.gather();
        Measured {
            counted: state.counted,
            count: state.count,
            bytes: state.bytes,
            took: state.last.since(state.begun),
            times: state.times.clone(),
        }
    }
}

impl State {
    /// Adds what is recent to all there is.
    fn gather(&mut self) {
        self.count += std::mem::take(&mut self.recent.count);
        self.bytes += std::mem::take(&mut self.recent.bytes);
        if !self.recent.times.is_empty() {
            let added = self.times.add(&self.recent.times);
            added.expect("both have the same bounds");
            self.recent.times.reset();
        }
    }

    /// The warm-up is over.
    fn forget(&mut self, now: MonoTime) {
        self.gather();
        self.begun = self.warm_at.take().unwrap_or(now);
        (self.count, self.bytes) = (0, 0);
        self.times.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> MonoTime {
        MonoTime::ZERO.after(Duration::from_millis(millis))
    }

    #[test]
    fn the_warm_up_is_left_out() {
        let meter = Meter::new(Counted::Messages, at(0), Duration::from_millis(100));
        meter.count(at(50), 5, 50, &[at(0)]);
        assert!(meter.look().is_warming_up);
        meter.count(at(150), 2, 20, &[at(140), at(149)]);
        let measured = meter.measured();
        assert_eq!((measured.count, measured.bytes), (2, 20));
        assert_eq!(measured.took, Duration::from_millis(50));
        assert_eq!(measured.times.len(), 2);
        assert!(
            measured.times.max() < 11_000_000,
            "the slow one is forgotten"
        );
    }

    #[test]
    fn a_load_shorter_than_its_warm_up_is_measured_whole() {
        let meter = Meter::new(Counted::Messages, at(0), Duration::from_secs(1));
        meter.count(at(50), 5, 50, &[at(0)]);
        let measured = meter.measured();
        assert_eq!((measured.count, measured.times.len()), (5, 1));
        assert_eq!(measured.took, Duration::from_millis(50));
    }

    #[test]
    fn a_look_tells_what_came_since_the_last_and_loses_nothing() {
        let meter = Meter::new(Counted::Messages, at(0), Duration::ZERO);
        meter.count(at(10), 1, 10, &[at(0)]);
        assert_eq!(meter.look().count, 1);
        meter.count(at(20), 2, 20, &[at(0), at(0)]);
        let look = meter.look();
        assert_eq!((look.all, look.count, look.bytes), (3, 2, 20));
        let p50 = look.p50.unwrap().as_millis();
        assert!((19..=21).contains(&p50), "{p50}");
        assert_eq!(meter.look().p50, None);
        assert_eq!(meter.measured().times.len(), 3);
    }
}
