//! Progress on stderr: a line that moves at a terminal, nothing elsewhere, and a summary at the end.

use std::time::Duration;

use host::Clock;
use indicatif::{ProgressBar, ProgressStyle};
use types::{ByteSize, MonoTime};

use crate::terminal::say;

/// Counts messages and bytes, and shows them.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    clock: Clock,
    begun: MonoTime,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Progress {
    /// Begins. `total`: how many messages there will be, where that is known.
    pub(super) fn new(clock: &Clock, verb: &str, total: Option<u64>) -> Self {
        // Hidden where stderr is no terminal.
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        let template = if total.is_some() {
            "{msg} {human_pos} of {human_len} messages, {per_sec}, {eta} left"
        } else {
            "{msg} {human_pos} messages, {per_sec}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(verb.to_owned());
        Self {
            bar,
            clock: clock.clone(),
            begun: clock.now(),
            messages: 0,
            bytes: 0,
        }
    }

    /// One more message.
    pub(super) fn add(&mut self, bytes: usize) {
        self.add_many(1, bytes as u64);
    }

    /// More messages.
    pub(super) fn add_many(&mut self, messages: u64, bytes: u64) {
        let before = self.messages;
        self.messages += messages;
        self.bytes += bytes;
        // A slow load is shown message by message, a fast one in steps.
        if before < 256 || before / 256 != self.messages / 256 {
            self.bar.set_position(self.messages);
        }
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Since the begin.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.now().since(self.begun)
    }

    /// Says what was done: `published 10 messages (1KiB) in 0.1 s, 100/s`, and something more.
    pub(super) fn finish(&self, verb: &str, more: &str) {
        self.clear();
        let seconds = self.elapsed().as_secs_f64();
        let each = per_second(self.messages, seconds);
        let (messages, bytes) = (self.messages, ByteSize::new(self.bytes));
        let noun = if messages == 1 { "message" } else { "messages" };
        say(format_args!(
            "{verb} {messages} {noun} ({bytes}) in {seconds:.1} s, {each}/s{more}"
        ));
    }
}

/// A count by seconds, whole; zero in no time.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is shown to a person"
)]
pub(super) fn per_second(count: u64, seconds: f64) -> u64 {
    if seconds > 0.0 {
        (count as f64 / seconds) as u64
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_fast_in_no_time() {
        assert_eq!(per_second(10, 0.0), 0);
        assert_eq!(per_second(10, 4.0), 2);
    }
}
