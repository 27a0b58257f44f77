//! The scrub: all data files are read through and verified, at a modest rate, again and again. What is damaged is
//! repaired while other bookies hold it whole, and not found out when they do not.

use std::sync::Arc;
use std::time::Duration;

use host::Host;
use host::metrics::{Counter, Page, Source};
use tokio_util::sync::CancellationToken;
use types::ByteSize;

use super::handle::{EngineGone, EngineHandle};
use super::repair::Pace;
use crate::{Scrub, ScrubResult};

/// The longest wait from a start to the first pass.
const FIRST_MAX: Duration = Duration::from_secs(600);
/// The wait when the engine is busy.
const BUSY: Duration = Duration::from_millis(200);

/// How a bookie reads its data files through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubConfig {
    /// From the begin of one pass to the begin of the next; none: no scrub.
    pub interval: Option<Duration>,
    /// Most bytes read in a second.
    pub rate: ByteSize,
}

impl Default for ScrubConfig {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_hours(7 * 24)),
            rate: ByteSize::mib(16),
        }
    }
}

/// A number that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScrubConfigError {
    /// The interval is too short.
    #[error("--scrub-interval is at least 1s, or `off`: each pass reads everything")]
    Interval,
    /// The rate is too low.
    #[error("--scrub-rate is at least 1MiB: a pass must come to its end")]
    Rate,
}

impl ScrubConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// The flag to change, and to what.
    pub fn validate(&self) -> Result<(), ScrubConfigError> {
        if self.interval.is_some_and(|it| it < Duration::from_secs(1)) {
            return Err(ScrubConfigError::Interval);
        }
        if self.rate < ByteSize::mib(1) {
            return Err(ScrubConfigError::Rate);
        }
        Ok(())
    }
}

/// What the scrub counts.
#[derive(Debug, Default)]
pub(super) struct ScrubMetrics {
    bytes: Counter,
    passes: Counter,
}

impl Source for ScrubMetrics {
    fn write(&self, page: &mut Page) {
        let mut counter = |name, help, value: &Counter| page.counter(name, help, &[], value.get());
        counter(
            "ledgerline_bookie_scrub_bytes_total",
            "Bytes of data files that the scrub read and verified.",
            &self.bytes,
        );
        counter(
            "ledgerline_bookie_scrub_passes_total",
            "Times that the scrub went through all data files.",
            &self.passes,
        );
    }
}

/// Reads through until the bookie stops.
pub(super) struct ScrubTask {
    pub(super) host: Host,
    pub(super) config: ScrubConfig,
    pub(super) engine: EngineHandle,
    pub(super) metrics: Arc<ScrubMetrics>,
    pub(super) closing: CancellationToken,
}

impl ScrubTask {
    /// Runs until the node stops.
    pub(super) async fn run(self) {
        let Some(interval) = self.config.interval else {
            return;
        };
        let stop = self.host.tasks.token();
        tokio::select! {
            biased; // Stop first.
            () = stop.cancelled() => {}
            () = self.closing.cancelled() => {}
            // The engine is gone: the bookie stops.
            _ = self.passes(interval) => {}
        }
    }

    async fn passes(&self, interval: Duration) -> Result<(), EngineGone> {
        // Nodes that are started together do not read in step, and a start has better things to do.
        let most = u64::try_from(interval.min(FIRST_MAX).as_nanos()).unwrap_or(u64::MAX);
        let first = Duration::from_nanos(self.host.rng.below(most.max(1)));
        self.host.clock.sleep(first).await;
        loop {
            let again = self.host.clock.now().after(interval);
            self.pass().await?;
            self.metrics.passes.inc();
            self.host.clock.sleep_until(again).await;
        }
    }

    async fn pass(&self) -> Result<(), EngineGone> {
        let mut pace = Pace::new(self.config.rate);
        let mut at = Some(Scrub::default());
        while let Some(place) = at {
            let wait = match self.engine.scrub(place).await? {
                ScrubResult::Busy => BUSY,
                ScrubResult::Passed { bytes, next } => {
                    self.metrics.bytes.add(bytes);
                    at = next;
                    pace.passed(self.host.clock.now(), bytes)
                }
            };
            self.host.clock.sleep(wait).await;
        }
        Ok(())
    }
}
