//! What takes space, for people.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use types::LogId;

use super::Engine;
use super::reclaim::Gone;

/// What the bytes of the data files that the engine holds are, and how many of the journal's files it uses. Headers and
/// indexes are shared out over the ledgers of their file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of what is live.
    pub live: u64,
    /// Of trimmed ledgers.
    pub trimmed: u64,
    /// Of deleted logs.
    pub deleted: u64,
    /// Of ledgers that other bookies hold now.
    pub given_up: u64,
    /// Bytes of journal files that a restart may need.
    pub journal: u64,
    /// Free bytes below which writers are refused.
    pub free_low: u64,
    /// The logs with the most live bytes, and those.
    pub logs: Vec<(LogId, u64)>,
}

impl Usage {
    /// Bytes of data files in all.
    pub const fn data(&self) -> u64 {
        self.live + self.trimmed + self.deleted + self.given_up
    }
}

impl Engine {
    /// What takes space now, with so many logs at most.
    pub fn usage(&self, logs: usize) -> Usage {
        let mut usage = Usage {
            journal: self.journal.bytes_in_use(),
            free_low: self.config.free_low.get(),
            ..Usage::default()
        };
        let mut live: BTreeMap<LogId, u64> = BTreeMap::new();
        for file in self.tables.files.values() {
            // What rounding leaves over is live.
            usage.live += file.listed().length;
            for run in &file.footer().runs {
                let bytes = file.share(run.weight());
                let reason = match self.gone(run.ledger) {
                    None => {
                        *live.entry(run.ledger.log()).or_default() += bytes;
                        continue;
                    }
                    Some(Gone::Trimmed) => &mut usage.trimmed,
                    Some(Gone::Deleted) => &mut usage.deleted,
                    Some(Gone::GivenUp) => &mut usage.given_up,
                };
                *reason += bytes;
                usage.live -= bytes;
            }
        }
        usage.logs = live.into_iter().collect();
        usage
            .logs
            .sort_by_key(|(log, bytes)| (Reverse(*bytes), *log));
        usage.logs.truncate(logs);
        usage
    }
}
