//! What the disk can do: no ack is faster.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use hdrhistogram::Histogram;
use host::Host;

use super::report;

/// How often the disk is asked.
const ROUNDS: u32 = 64;

/// Writes 4 KiB and syncs them, again and again, over a file that was written before.
#[expect(
    clippy::disallowed_methods,
    reason = "it measures the machine's disk as it is, in a directory the user named"
)]
pub(super) fn run(host: &Host, dir: &Path) -> anyhow::Result<Histogram<u64>> {
    let path = dir.join(format!(".ledgerline-probe-{:016x}", host.rng.u64()));
    let failed = || {
        format!(
            "the disk cannot be probed in {}; set --probe-dir",
            dir.display()
        )
    };
    let mut file = std::fs::File::create(&path).with_context(failed)?;
    // The file goes whatever happens; it stays usable while it is open.
    std::fs::remove_file(&path).with_context(failed)?;
    let mut block = [0; 4096];
    host.rng.fill(&mut block);
    for _ in 0..ROUNDS {
        file.write_all(&block).with_context(failed)?;
    }
    file.sync_all().with_context(failed)?;
    std::io::Seek::rewind(&mut file).with_context(failed)?;
    let mut histogram = report::histogram();
    for _ in 0..ROUNDS {
        let begun = host.clock.now();
        file.write_all(&block).with_context(failed)?;
        file.sync_data().with_context(failed)?;
        report::record(&mut histogram, host.clock.now().since(begun));
    }
    Ok(histogram)
}
