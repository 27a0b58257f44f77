//! When something without an answer is tried again.

use std::time::Duration;

use types::MonoTime;

use crate::config::Config;

/// A wait that doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Retry {
    at: Option<MonoTime>,
    first_wait: Duration,
    wait: Duration,
}

impl Retry {
    /// Nothing to try yet; when there is, the first wait is this.
    pub(crate) const fn idle(first_wait: Duration) -> Self {
        Self {
            at: None,
            first_wait,
            wait: first_wait,
        }
    }

    /// When it is due, if it is armed.
    pub(crate) const fn at(&self) -> Option<MonoTime> {
        self.at
    }

    /// Whether it is armed and its time has come.
    pub(crate) fn is_due(&self, now: MonoTime) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    /// Waits from now on, unless it does already.
    pub(crate) fn arm(&mut self, now: MonoTime) {
        if self.at.is_none() {
            self.at = Some(now.after(self.wait));
        }
    }

    /// Waits no longer than this.
    pub(crate) fn hurry(&mut self, now: MonoTime, wait: Duration) {
        let soon = now.after(wait);
        self.at = Some(self.at.map_or(soon, |at| at.min(soon)));
    }

    /// Waits for so long, whatever came before.
    pub(crate) fn wait_for(&mut self, now: MonoTime, wait: Duration) {
        self.at = Some(now.after(wait));
    }

    /// Waits anew, twice as long as the last time.
    pub(crate) fn back_off(&mut self, now: MonoTime, config: &Config) {
        self.at = Some(now.after(self.wait));
        self.wait = (self.wait * 2).min(config.retry_after_max.max(self.first_wait));
    }

    /// Waits anew, the shortest time: there was progress.
    pub(crate) fn restart(&mut self, now: MonoTime) {
        self.wait = self.first_wait;
        self.at = Some(now.after(self.wait));
    }

    /// Nothing to try any more.
    pub(crate) fn stop(&mut self) {
        *self = Self::idle(self.first_wait);
    }
}

/// The earlier of two deadlines.
pub(crate) fn earlier(one: Option<MonoTime>, other: Option<MonoTime>) -> Option<MonoTime> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
