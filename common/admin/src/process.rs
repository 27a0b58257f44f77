//! What every process tells of itself.

use std::fs;
use std::time::Duration;

use host::Clock;
use host::metrics::{Page, Source};
use types::MonoTime;

/// The process, since it opened its admin port.
#[derive(Debug)]
pub(crate) struct Process {
    clock: Clock,
    began: MonoTime,
    began_wall: Duration,
}

impl Process {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            began: clock.now(),
            began_wall: Duration::from_nanos(clock.wall().as_nanos()),
        }
    }
}

impl Source for Process {
    fn write(&self, page: &mut Page) {
        let uptime = self.clock.now().since(self.began);
        page.seconds(
            "process_start_time_seconds",
            "When the process started, seconds since 1970.",
            self.began_wall,
        );
        page.seconds(
            "ledgerline_uptime_seconds",
            "For how long the process has run.",
            uptime,
        );
        page.gauge(
            "ledgerline_build_info",
            "Always 1; the labels say what runs.",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1,
        );
        // Linux tells these; elsewhere they are left out.
        if let Some(bytes) = resident_bytes() {
            page.gauge(
                "process_resident_memory_bytes",
                "Memory of the process that is in RAM.",
                &[],
                bytes,
            );
        }
        if let Some(count) = open_files() {
            let help = "Open file descriptors of the process.";
            page.gauge("process_open_fds", help, &[], count);
        }
    }
}

/// The kernel makes the text as it is read: no disk is waited for.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn open_files() -> Option<u64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is that of this look.
    u64::try_from(count.saturating_sub(1)).ok()
}
