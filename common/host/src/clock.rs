//! Time: a monotonic clock that follows tokio's, and a wall clock.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use types::{MonoTime, WallTime};

use crate::alarm::Alarm;

/// Where simulated wall clocks start: 2026-01-01 00:00:00 UTC.
pub const SIMULATED_START: WallTime = WallTime::from_nanos(1_767_225_600_000_000_000);

/// A clock. Clones read the same one.
///
/// The monotonic reading is tokio's: it stands still while a test has paused it, and is turmoil's inside a
/// simulation. It is zero when the clock is made, so readings of two clocks do not compare.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Instant,
    wall: Wall,
}

#[derive(Debug, Clone)]
enum Wall {
    System,
    /// Nanoseconds since 1970 that belong to the origin. Shared: a simulator moves it for all clones.
    Derived(Arc<AtomicU64>),
}

/// The time given to a future passed before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("time is over")]
pub struct Elapsed;

impl Clock {
    /// The machine's clocks.
    pub fn real() -> Self {
        Self {
            origin: Instant::now(),
            wall: Wall::System,
        }
    }

    /// A clock whose wall reading is `start` now and moves with tokio's time.
    pub fn simulated(start: WallTime) -> Self {
        Self {
            origin: Instant::now(),
            wall: Wall::Derived(Arc::new(AtomicU64::new(start.as_nanos()))),
        }
    }

    /// The monotonic reading.
    pub fn now(&self) -> MonoTime {
        MonoTime::ZERO.after(Instant::now().saturating_duration_since(self.origin))
    }

    /// The wall reading: what people call the time. It may jump; it orders nothing.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others are sent to"
    )]
    pub fn wall(&self) -> WallTime {
        match &self.wall {
            Wall::System => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                WallTime::default().after(since.unwrap_or_default())
            }
            Wall::Derived(at_origin) => {
                let elapsed = self.now().since(MonoTime::ZERO);
                WallTime::from_nanos(at_origin.load(Ordering::Relaxed)).after(elapsed)
            }
        }
    }

    /// Moves a simulated wall clock by so many nanoseconds, back when negative, for all clones. A real one is not
    /// moved.
    pub fn jump_wall(&self, by_nanos: i64) {
        if let Wall::Derived(at_origin) = &self.wall {
            let moved = |at: u64| Some(at.saturating_add_signed(by_nanos));
            // The closure always answers, so the update cannot fail.
            let _ = at_origin.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved);
        }
    }

    /// Waits for a time to pass.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Waits until the clock reads `at`; no wait when it has passed.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop, and to begin anew with the same time.
    pub async fn sleep_until(&self, at: MonoTime) {
        tokio::time::sleep_until(self.instant(at)).await;
    }

    /// Waits until the clock reads `at`, for ever when there is no such time: what the shell of a pure machine does
    /// with its `deadline()`.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop, and to begin anew with the same time.
    pub async fn deadline(&self, at: Option<MonoTime>) {
        match at {
            Some(at) => self.sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// A timer for a loop whose deadline is another one each time it turns.
    pub fn alarm(&self) -> Alarm {
        Alarm::new(self.clone())
    }

    /// Runs a future for at most so long.
    ///
    /// # Errors
    ///
    /// [`Elapsed`]: the future was dropped before it was done; what it had begun may still happen.
    ///
    /// # Cancel safety
    ///
    /// As safe as the future.
    pub async fn timeout<F: Future>(
        &self,
        duration: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let timed = tokio::time::timeout(duration, future).await;
        timed.map_err(|_| Elapsed)
    }

    /// Where tokio's time stands when this clock reads `at`; a far future when that is past what it can say.
    pub(crate) fn instant(&self, at: MonoTime) -> Instant {
        const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3_600);
        let since = at.since(MonoTime::ZERO).min(FAR);
        self.origin + since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn both_readings_follow_tokio_time() {
        let clock = Clock::simulated(SIMULATED_START);
        let (now, wall) = (clock.now(), clock.wall());
        clock.sleep(Duration::from_secs(90)).await;
        assert_eq!(clock.now().since(now), Duration::from_secs(90));
        assert_eq!(clock.wall(), wall.after(Duration::from_secs(90)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_jumps_for_all_clones_and_the_monotonic_one_does_not() {
        let clock = Clock::simulated(WallTime::from_nanos(5_000));
        let other = clock.clone();
        clock.jump_wall(-2_000);
        assert_eq!(other.wall().as_nanos(), 3_000);
        assert_eq!(other.now(), MonoTime::ZERO);
        clock.jump_wall(-9_000);
        assert_eq!(other.wall().as_nanos(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_its_reading_and_a_past_one_at_once() {
        let clock = Clock::simulated(SIMULATED_START);
        let at = clock.now().after(Duration::from_secs(3));
        clock.deadline(Some(at)).await;
        assert_eq!(clock.now(), at);
        clock.sleep_until(MonoTime::ZERO).await;
        assert_eq!(clock.now(), at);
        let never = clock.sleep_until(MonoTime::from_nanos(u64::MAX));
        assert_eq!(
            clock.timeout(Duration::from_secs(1), never).await,
            Err(Elapsed)
        );
        let no_deadline = clock.deadline(None);
        assert_eq!(
            clock.timeout(Duration::from_secs(1), no_deadline).await,
            Err(Elapsed)
        );
    }

    #[test]
    fn the_real_wall_clock_knows_the_century() {
        let clock = Clock::real();
        assert!(clock.wall() > WallTime::from_nanos(1_700_000_000_000_000_000));
        clock.jump_wall(i64::MIN);
        assert!(clock.wall() > WallTime::from_nanos(1_700_000_000_000_000_000));
    }
}
