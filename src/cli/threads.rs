//! How many threads a server has for its connections.

use std::num::NonZeroUsize;
use std::thread;

use clap::Args;

/// Threads for connections and everything else that does not wait for a disk.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Threads {
    /// Threads for connections and for keeping topics in order; disks, and what computes for long, have threads of their own.
    /// More than there are processors help nobody [default: one for each processor but one].
    #[arg(long, env = "LEDGERLINE_THREADS", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    threads: Option<u16>,
}

impl Threads {
    /// How many.
    ///
    /// One message at a time is handed from task to task, and each of two threads wakes the other one in vain: with two
    /// processors one thread is faster, also where no disk is (`benches/README.md`, *What holds a thread up*).
    pub(crate) fn count(self) -> usize {
        self.threads.map_or_else(
            || {
                // A system that does not tell has one for us.
                let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
                processors.saturating_sub(1).max(1)
            },
            usize::from,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_left_to_the_disks_unless_there_is_only_one() {
        let processors = thread::available_parallelism().unwrap().get();
        let count = Threads::default().count();
        assert_eq!(count, (processors - 1).max(1));
        assert_eq!(Threads { threads: Some(7) }.count(), 7);
    }
}
