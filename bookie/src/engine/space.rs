//! Free space: what is known of it, and how the bookie stands by it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use types::{ByteSize, MonoTime};

use crate::job::{Work, Worker};

use super::{Effect, Engine, Standing, run};

/// How long a full disk is waited for before the next try.
const FULL_WAIT: Duration = Duration::from_secs(1);

impl Engine {
    /// Looks at free space when it is time.
    pub(super) fn ask_space(&mut self, now: MonoTime, effects: &mut Vec<Effect>) {
        if self.upkeep.space_at > now || self.upkeep.is_asking_space {
            return;
        }
        self.upkeep.is_asking_space = true;
        effects.push(run(
            Worker::Store,
            Work::Space {
                disk: Arc::clone(&self.disk),
                dirs: [self.config.journal_dir.clone(), self.make.dir.clone()],
            },
        ));
    }

    pub(super) fn space_known(
        &mut self,
        now: MonoTime,
        free: Option<u64>,
        effects: &mut Vec<Effect>,
    ) {
        self.upkeep.is_asking_space = false;
        self.upkeep.space_at = now.after(self.config.space_every);
        if let Some(free) = free {
            // A rewrite that had no room may have it now.
            self.upkeep.looks_at_files |= free != self.upkeep.free_bytes;
            self.upkeep.free_bytes = free;
            self.judge_space(effects);
        }
    }

    /// A full disk is waited for; anything else ends the process.
    pub(super) fn store_failed(
        &mut self,
        now: MonoTime,
        what: &str,
        error: &io::Error,
        effects: &mut Vec<Effect>,
    ) {
        if error.kind() != io::ErrorKind::StorageFull {
            self.fatal(what, error, effects);
            return;
        }
        self.upkeep.is_full = true;
        self.upkeep.retry_at = Some(now.after(FULL_WAIT));
        self.judge_space(effects);
    }

    pub(super) fn not_full(&mut self, effects: &mut Vec<Effect>) {
        if self.upkeep.is_full {
            self.upkeep.is_full = false;
            self.judge_space(effects);
        }
    }

    /// Free bytes of the fuller disk, as last seen, and those below which the bookie takes no writes.
    pub(crate) fn free_and_low(&self) -> (ByteSize, ByteSize) {
        (ByteSize::new(self.upkeep.free_bytes), self.config.free_low)
    }

    /// Goes read-only below the limit, and back a quarter above it.
    fn judge_space(&mut self, effects: &mut Vec<Effect>) {
        let low = self.config.free_low.get();
        let enough = match self.upkeep.standing {
            Standing::ReadWrite => low,
            Standing::ReadOnly => low + low / 4,
        };
        let standing = if self.upkeep.is_full || self.upkeep.free_bytes < enough {
            Standing::ReadOnly
        } else {
            Standing::ReadWrite
        };
        if standing != self.upkeep.standing {
            self.upkeep.standing = standing;
            effects.push(Effect::Standing(standing));
        }
    }
}
