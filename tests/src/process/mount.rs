//! A filesystem that is small enough to fill.
#![expect(
    clippy::print_stdout,
    reason = "the person at a test must know that it did not run"
)]

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A small filesystem in memory. Unmounted when dropped.
#[derive(Debug)]
pub struct Mount(TempDir);

impl Mount {
    /// Mounts one with these options, such as `size=64m`; none where this is not permitted, which is printed.
    ///
    /// # Errors
    ///
    /// When no directory can be made for it.
    pub fn tmpfs(options: &str) -> anyhow::Result<Option<Self>> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(dir.path());
        let mounted = command.output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Ok(Some(Self(dir)));
        }
        println!("SKIPPED: a tmpfs cannot be mounted here (only root may)");
        Ok(None)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, also when somebody still has a file of it open; nothing can be done about an error here.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
