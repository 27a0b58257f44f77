//! When each message is due, or may be taken.

use std::time::Duration;

use host::Clock;
use tokio::sync::mpsc;
use types::MonoTime;

use crate::cli::produce::to_f64;

/// Dues that may wait for a slow sender. They stay due when they were due.
const AHEAD: usize = 1 << 16;

/// Hands out the time each message is due, when it is due. On a thread of its own: a runtime's timers are a millisecond
/// coarse.
pub(super) fn start(clock: &Clock, rate: f64, end: End) -> mpsc::Receiver<MonoTime> {
    let (due, dues) = mpsc::channel(AHEAD);
    let clock = clock.clone();
    #[expect(
        clippy::disallowed_methods,
        reason = "a measuring tool keeps its own time"
    )]
    std::thread::spawn(move || {
        wake_on_time();
        let begun = clock.now();
        for number in 0.. {
            let at = begun.after(Duration::from_secs_f64(to_f64(number) / rate));
            if end.is_over(number, at.since(begun)) {
                return;
            }
            let early = at.since(clock.now());
            if !early.is_zero() {
                std::thread::sleep(early);
            }
            if due.blocking_send(at).is_err() {
                return;
            }
        }
    });
    dues
}

/// Has the system wake this thread when it asked for it. It wakes others up to 50 µs later, so as to wake several at once
/// (`prctl(2)`, `PR_SET_TIMERSLACK`), and what a message is late here would be counted as the servers' time.
fn wake_on_time() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)) {
        tracing::debug!(%error, "messages may be due up to 50 µs before they are sent");
    }
}

/// When a load ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// After so many messages; none for the duration.
    pub(super) count: Option<u64>,
    pub(super) duration: Duration,
}

impl End {
    /// Whether message `number`, due so long after the begin, is one too many.
    pub(super) fn is_over(&self, number: u64, since_begun: Duration) -> bool {
        match self.count {
            Some(count) => number >= count,
            None => since_begun >= self.duration,
        }
    }
}

/// What a bucket may make up for at once: more than a timer is late, so that a rate is kept, and little, so that it is
/// smooth.
const SLACK: Duration = Duration::from_millis(10);

const NANOS: u128 = 1_000_000_000;

/// Holds something to a rate: it fills evenly, with no more than comes in [`SLACK`] and one.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    /// So many a second.
    rate: u32,
    /// From here on they come, the first at once.
    begun: MonoTime,
    /// So many of these are taken.
    taken: u64,
}

impl Bucket {
    /// A rate above zero, of so many a second.
    pub(super) fn new(now: MonoTime, rate: u32) -> Self {
        assert!(rate > 0, "nothing would ever come");
        Self {
            rate,
            begun: now,
            taken: 0,
        }
    }

    /// When there is room for the next.
    pub(super) fn ready_at(&self) -> MonoTime {
        let nanos = (u128::from(self.taken) * NANOS).div_ceil(self.rate.into());
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.begun.after(Duration::from_nanos(nanos))
    }

    /// How many may be taken `now`: one at least from [`Bucket::ready_at`] on.
    pub(super) fn room(&mut self, now: MonoTime) -> u64 {
        if self.ready_at().after(SLACK) < now {
            // What was not taken by then is lost.
            let since_zero = now.since(MonoTime::ZERO).saturating_sub(SLACK);
            self.begun = MonoTime::ZERO.after(since_zero);
            self.taken = 0;
        }
        let come = now.since(self.begun).as_nanos() * u128::from(self.rate) / NANOS + 1;
        u64::try_from(come)
            .unwrap_or(u64::MAX)
            .saturating_sub(self.taken)
    }

    /// Takes so many.
    pub(super) const fn take(&mut self, count: u64) {
        self.taken += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> MonoTime {
        MonoTime::ZERO.after(Duration::from_micros(micros))
    }

    #[test]
    fn a_bucket_gives_what_its_rate_says_however_late_a_timer_is() {
        for rate in [1, 7, 50, 1_000, 333_333, u32::MAX] {
            let mut bucket = Bucket::new(at(0), rate);
            let (mut now, mut taken) = (at(0), 0);
            let end = at(20_000_000);
            while now < end {
                let room = bucket.room(now);
                assert!(room > 0, "{rate} at {now:?}");
                bucket.take(room);
                taken += room;
                now = bucket.ready_at().max(now).after(Duration::from_millis(2));
            }
            let due = u64::from(rate) * 20;
            let least = due - due / 1_000;
            assert!((least..=due + 1).contains(&taken), "{taken} of {due}");
        }
    }

    #[test]
    fn what_was_not_taken_is_made_up_for_by_no_more_than_the_slack() {
        let mut bucket = Bucket::new(at(0), 1_000);
        assert_eq!(bucket.room(at(0)), 1);
        assert_eq!(bucket.room(at(5_000)), 6);
        assert_eq!(bucket.room(at(60_000_000)), 11);
        bucket.take(11);
        assert_eq!(bucket.room(at(60_000_000)), 0);
        assert_eq!(bucket.ready_at(), at(60_001_000));
        assert_eq!(bucket.room(at(60_001_000)), 1);
    }
}
