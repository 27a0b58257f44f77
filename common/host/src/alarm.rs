//! A timer for a deadline that keeps moving.

use std::fmt;
use std::pin::Pin;

use tokio::time::Sleep;
use types::MonoTime;

use crate::clock::Clock;

/// One timer for the whole life of a loop, of which each round has its own deadline.
///
/// A timer that is made for each round is entered into the runtime's list each time, and when it is the next one due,
/// another thread is woken to wait for it: for a loop that turns once a message both cost more than the message.
/// So the timer stays where it is while deadlines move away, which they mostly do, rings in vain once, and is moved then.
pub struct Alarm {
    clock: Clock,
    timer: Option<Pin<Box<Sleep>>>,
    /// When the timer rings or rang, no later than the deadline that was asked for last; none once that was told.
    rings_at: Option<MonoTime>,
}

impl Alarm {
    pub(crate) const fn new(clock: Clock) -> Self {
        Self {
            clock,
            timer: None,
            rings_at: None,
        }
    }

    /// Waits until the clock reads `at`, for ever when there is no such time; see [`Clock::deadline`].
    ///
    /// # Cancel safety
    ///
    /// Safe to drop, and to begin anew with any time.
    pub async fn deadline(&mut self, at: Option<MonoTime>) {
        let Some(at) = at else {
            return std::future::pending().await;
        };
        if self.rings_at.is_none_or(|rings| at < rings) {
            self.set(at);
        }
        while let Some(timer) = &mut self.timer {
            timer.as_mut().await;
            if self.rings_at == Some(at) {
                break;
            }
            self.set(at);
        }
        self.rings_at = None;
    }

    fn set(&mut self, at: MonoTime) {
        let instant = self.clock.instant(at);
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(instant),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(instant))),
        }
        self.rings_at = Some(at);
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm")
            .field("rings_at", &self.rings_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::SIMULATED_START;

    const S: Duration = Duration::from_secs(1);

    /// Whether the deadline comes within `within`; the clock then reads the moment it came.
    async fn rings(
        clock: &Clock,
        alarm: &mut Alarm,
        at: Option<MonoTime>,
        within: Duration,
    ) -> bool {
        clock.timeout(within, alarm.deadline(at)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn each_deadline_is_told_at_its_time_wherever_it_moves() {
        let clock = Clock::simulated(SIMULATED_START);
        let mut alarm = clock.alarm();
        let at = |seconds: u32| Some(MonoTime::ZERO.after(S * seconds));
        // Away, nearer, away again while the timer stands before it, and past.
        for (deadline, within, comes_at) in [
            (at(10), S, None),
            (at(20), S, None),
            (at(5), S, None),
            (at(8), 100 * S, at(8)),
            (at(8), S, at(8)),
            (None, 10 * S, None),
            (at(30), 5 * S, None),
            (at(40), 100 * S, at(40)),
            (at(41), 100 * S, at(41)),
            (at(1), S, at(41)),
        ] {
            let rang = rings(&clock, &mut alarm, deadline, within).await;
            assert_eq!(rang.then(|| clock.now()), comes_at, "{deadline:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_told_again_to_who_asks_again() {
        let clock = Clock::simulated(SIMULATED_START);
        let mut alarm = clock.alarm();
        for _ in 0..3 {
            alarm.deadline(Some(MonoTime::ZERO.after(S))).await;
        }
        assert_eq!(clock.now(), MonoTime::ZERO.after(S));
    }
}
