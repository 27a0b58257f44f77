//! How a bench goes while it runs: a line that moves at a terminal, plain lines elsewhere if they are asked for.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::time::Duration;

use host::Clock;
use indicatif::{ProgressBar, ProgressStyle};

use super::figures::{grouped, megabytes, per_s};
use super::meter::{Look, Meter};
use super::pace::End;
use crate::cli::produce::to_f64;
use crate::cli::progress::per_second;
use crate::terminal::say;

/// How often a line moves, and how often one is printed.
const MOVES: Duration = Duration::from_secs(1);
const PRINTS: Duration = Duration::from_secs(5);

/// Shows how it goes.
#[derive(Debug)]
pub(super) enum Live {
    /// A line that moves.
    Moving(ProgressBar),
    /// Line after line.
    Printed,
    /// Nobody wants to know.
    Off,
}

impl Live {
    /// At a terminal, or elsewhere because the user asked.
    pub(super) fn new(is_asked: bool) -> Self {
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                bar.set_style(style);
            }
            return Self::Moving(bar);
        }
        if is_asked { Self::Printed } else { Self::Off }
    }

    /// Shows a load until the work is done. `end` is where it will be, as far as that is known.
    pub(super) async fn during<T>(
        &self,
        clock: &Clock,
        what: &str,
        (meter, end): (&Meter, Option<End>),
        work: impl Future<Output = T>,
    ) -> T {
        if let Self::Moving(bar) = self
            && bar.is_finished()
        {
            bar.reset(); // Something comes after the line was taken away.
        }
        let done = tokio::select! {
            biased;
            done = work => done,
            never = self.follow(clock, what, meter, end) => match never {},
        };
        if let Self::Moving(bar) = self {
            bar.set_message("");
        }
        done
    }

    async fn follow(
        &self,
        clock: &Clock,
        what: &str,
        meter: &Meter,
        end: Option<End>,
    ) -> Infallible {
        let every = match self {
            Self::Moving(_) => MOVES,
            Self::Printed => PRINTS,
            Self::Off => return std::future::pending().await,
        };
        let begun = clock.now();
        let mut last = begun;
        loop {
            clock.sleep_until(last.after(every)).await;
            let now = clock.now();
            let text = line(what, &meter.look(), now.since(last), now.since(begun), end);
            last = now;
            match self {
                Self::Moving(bar) => bar.set_message(text),
                _ => say(text),
            }
        }
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        if let Self::Moving(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// One look, in a line.
fn line(what: &str, look: &Look, since: Duration, elapsed: Duration, end: Option<End>) -> String {
    let seconds = since.as_secs_f64();
    let each = per_second(look.count, seconds);
    let mut text = format!(
        "{what}  {:.0} s  {} {}",
        elapsed.as_secs_f64(),
        grouped(each),
        look.counted.per_second()
    );
    if look.counted.are_messages() {
        let each = per_s(megabytes(look.bytes), seconds);
        text += &format!("  {each:.1} MB/s");
    }
    if let (Some(p50), Some(p99)) = (look.p50, look.p99) {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        text += &format!("  p50 {:.2} ms  p99 {:.2} ms", millis(p50), millis(p99));
    }
    let left = match end {
        Some(End {
            count: Some(count), ..
        }) if each > 0 => Some(to_f64(count.saturating_sub(look.all)) / to_f64(each)),
        Some(End {
            count: None,
            duration,
        }) => Some(duration.saturating_sub(elapsed).as_secs_f64()),
        _ => None,
    };
    if let Some(left) = left {
        text += &format!("  {left:.0} s left");
    }
    if look.is_warming_up {
        text += "  (warming up)";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::meter::Counted;
    use super::*;

    #[test]
    fn a_line_tells_rate_percentiles_and_what_is_left() {
        let second = Duration::from_secs(1);
        let mut look = Look {
            counted: Counted::Messages,
            all: 4_000,
            count: 2_000,
            bytes: 2_000_000,
            p50: Some(Duration::from_micros(300)),
            p99: Some(Duration::from_millis(2)),
            is_warming_up: false,
        };
        let end = |count| End {
            count,
            duration: second * 10,
        };
        let text = line("publishing", &look, second, second * 2, Some(end(None)));
        assert_eq!(
            text,
            "publishing  2 s  2,000 msg/s  2.0 MB/s  p50 0.30 ms  p99 2.00 ms  8 s left"
        );
        look.p50 = None;
        look.is_warming_up = true;
        let text = line(
            "reading",
            &look,
            second,
            second * 2,
            Some(end(Some(10_000))),
        );
        assert_eq!(
            text,
            "reading  2 s  2,000 msg/s  2.0 MB/s  3 s left  (warming up)"
        );
        let at_once = line("reading", &look, Duration::ZERO, second, Some(end(Some(9))));
        assert_eq!(at_once, "reading  1 s  0 msg/s  0.0 MB/s  (warming up)");
        look.counted = Counted::Topics;
        look.is_warming_up = false;
        let end = Some(end(Some(10_000)));
        let text = line("making topics", &look, second, second, end);
        assert_eq!(text, "making topics  1 s  2,000 topics/s  3 s left");
    }
}
