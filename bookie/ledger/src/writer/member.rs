//! How one bookie of the ensemble keeps up with the writer.

use std::time::Duration;

use types::{BookieId, MonoTime};

use crate::config::Config;
use crate::retry::{Retry, earlier};

/// A bookie that had no room is tried again after this: room comes with the next flush, long before an answer is late.
const BUSY_WAIT: Duration = Duration::from_millis(100);

/// Whether a bookie is sent entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    /// It is.
    Taking,
    /// It was left behind, or takes no writes for now.
    Behind,
    /// It takes no more of this ledger, ever.
    Sealed,
}

/// One bookie of the ensemble.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) bookie: BookieId,
    pub(super) standing: Standing,
    pub(super) retry: Retry,
    is_connected: bool,
    owed_bytes: u64,
    /// Since when it has owed something without answering anything, or has not been connected.
    silent_since: Option<MonoTime>,
    /// It was found to owe too much, or for too long. Noticed once, so that time alone changes nothing.
    is_late: bool,
    /// It had no room for something it is owed again soon, whatever else it answers meanwhile.
    is_busy: bool,
}

impl Member {
    pub(super) fn new(
        bookie: BookieId,
        is_connected: bool,
        now: MonoTime,
        config: &Config,
    ) -> Self {
        Self {
            bookie,
            standing: Standing::Taking,
            retry: Retry::idle(config.resend_after),
            is_connected,
            owed_bytes: 0,
            silent_since: Some(now).filter(|_| !is_connected),
            is_late: false,
            is_busy: false,
        }
    }

    /// Whether entries are sent to it now.
    pub(super) fn is_sent_to(&self) -> bool {
        self.standing == Standing::Taking && self.is_connected
    }

    /// Whether its connection stands.
    pub(super) const fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Whether it keeps up.
    pub(super) fn keeps_up(&self) -> bool {
        self.is_sent_to() && !self.is_late
    }

    /// Whether the ledger goes on without it. A connection that just broke is given a straggler's time.
    pub(super) fn is_gone(&self) -> bool {
        self.standing != Standing::Taking || self.is_late
    }

    /// Whether it was left behind for its slowness alone: it could be sent to.
    pub(super) fn lags(&self) -> bool {
        self.standing == Standing::Behind && self.is_connected && self.retry.at().is_none()
    }

    /// It was sent something it has to answer.
    pub(super) fn owe(&mut self, now: MonoTime, weight: u64, config: &Config) {
        self.owed_bytes += weight;
        self.is_late |= self.owed_bytes > config.straggler_bytes.get();
        self.silent_since.get_or_insert(now);
        self.retry.arm(now);
    }

    /// It answered.
    pub(super) fn pay(&mut self, now: MonoTime, weight: u64, config: &Config) {
        self.owed_bytes -= weight;
        self.is_late = self.owed_bytes > config.straggler_bytes.get();
        if self.owed_bytes == 0 {
            self.silent_since = None;
            self.is_busy = false;
            self.retry.stop();
        } else {
            self.silent_since = Some(now);
            if !self.is_busy {
                self.retry.restart(now);
            }
        }
    }

    /// It had no room: it is sent everything again soon.
    pub(super) fn refuse(&mut self, now: MonoTime) {
        self.is_busy = true;
        self.retry.hurry(now, BUSY_WAIT);
    }

    /// It is sent everything again now.
    pub(super) fn retried(&mut self, now: MonoTime, config: &Config) {
        self.is_busy = false;
        self.retry.back_off(now, config);
    }

    /// It need not answer this any more.
    pub(super) fn forgive(&mut self, weight: u64) {
        self.owed_bytes -= weight;
    }

    /// It is not sent to, and owes nothing.
    pub(super) fn fall_behind(&mut self) {
        self.standing = Standing::Behind;
        self.owed_bytes = 0;
        self.silent_since = None;
        self.is_late = false;
        self.is_busy = false;
        self.retry.stop();
    }

    /// It is sent to again.
    pub(super) fn revive(&mut self) {
        if self.standing == Standing::Behind {
            self.standing = Standing::Taking;
        }
    }

    /// Its connection stands again: its patience begins anew.
    pub(super) fn connect(&mut self, now: MonoTime) {
        self.is_connected = true;
        self.is_late = false;
        self.silent_since = Some(now).filter(|_| self.owed_bytes > 0);
        self.revive();
    }

    /// Its connection broke.
    pub(super) fn disconnect(&mut self, now: MonoTime) {
        self.is_connected = false;
        if self.standing == Standing::Taking {
            self.silent_since.get_or_insert(now);
        }
    }

    /// Notices that it has been silent for too long.
    pub(super) fn notice(&mut self, now: MonoTime, config: &Config) {
        let late_at = self.late_at(config);
        self.is_late |= late_at.is_some_and(|at| at <= now);
    }

    fn late_at(&self, config: &Config) -> Option<MonoTime> {
        let since = self.silent_since.filter(|_| !self.is_late)?;
        Some(since.after(config.straggler_time))
    }

    /// When it needs attention.
    pub(super) fn deadline(&self, config: &Config) -> Option<MonoTime> {
        if self.standing == Standing::Sealed {
            return None;
        }
        earlier(self.retry.at(), self.late_at(config))
    }
}
