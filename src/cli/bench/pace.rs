//! When each message is due.

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
