//! What this machine's disk can do: no ack is faster than a write and a sync.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use host::Host;
use host::disk::{AlignedBuf, OpenMode};

use super::meter::{histogram, record};

/// How often the disk is asked for a small write, and for a large one.
const SMALL_ROUNDS: u64 = 64;
const LARGE_ROUNDS: u64 = 32;
/// Bytes of them.
const SMALL: usize = 4 << 10;
const LARGE: usize = 1 << 20;
/// A sync that is faster than this reached no disk.
const NO_DISK: Duration = Duration::from_micros(8);

/// What a disk did.
#[derive(Debug)]
pub(super) struct Probe {
    /// Where it was asked.
    pub(super) dir: String,
    /// Whether writes went past the system's cache, as those of a bookie do where that is possible.
    pub(super) is_direct: bool,
    /// Writes of 4 KiB, each synced.
    pub(super) syncs: Histogram<u64>,
    /// Bytes a second of writes of 1 MiB, one after another, each synced.
    pub(super) bytes_per_second: f64,
}

impl Probe {
    /// That there may be no disk below the directory; none when there seems to be one.
    pub(super) fn doubt(&self) -> Option<&'static str> {
        let p50 = Duration::from_nanos(self.syncs.value_at_percentile(50.0));
        (p50 < NO_DISK).then_some(
            "that is no disk but memory: set --probe-dir to a directory on the disk of a bookie's journal",
        )
    }
}

/// Writes over a file that was written before, as a bookie's journal does, and syncs each write.
///
/// # Errors
///
/// The directory cannot be used: `--probe-dir` names another.
pub(super) fn run(host: &Host, dir: &Path) -> anyhow::Result<Probe> {
    let path = dir.join(format!(".ledgerline-probe-{:016x}", host.rng.u64()));
    let failed = || {
        let dir = dir.display();
        format!(
            "the disk cannot be probed in {dir}; set --probe-dir to another directory, or to none"
        )
    };
    let file = host
        .disk
        .open_direct(&path, OpenMode::CreateNew)
        .with_context(failed)?;
    // The file goes whatever happens; it stays usable while it is open.
    host.disk.remove(&path).with_context(failed)?;
    let mut data = AlignedBuf::zeroed(LARGE);
    host.rng.fill(&mut data);
    let (small, large) = (SMALL as u64, LARGE as u64);
    for round in 0..LARGE_ROUNDS {
        file.write_at(round * large, &data).with_context(failed)?;
    }
    file.sync_data().with_context(failed)?;
    let clock = &host.clock;
    let mut syncs = histogram();
    for round in 0..SMALL_ROUNDS {
        let begun = clock.now();
        file.write_at(round * small, &data[..SMALL])
            .with_context(failed)?;
        file.sync_data().with_context(failed)?;
        record(&mut syncs, clock.now().since(begun));
    }
    let begun = clock.now();
    for round in 0..LARGE_ROUNDS {
        file.write_at(round * large, &data).with_context(failed)?;
        file.sync_data().with_context(failed)?;
    }
    let took = clock.now().since(begun).as_secs_f64();
    let bytes = crate::cli::produce::to_f64(LARGE_ROUNDS * large);
    Ok(Probe {
        dir: dir.display().to_string(),
        is_direct: file.is_direct(),
        syncs,
        bytes_per_second: bytes / took.max(f64::MIN_POSITIVE),
    })
}
