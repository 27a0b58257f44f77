//! How many threads a server has for its connections.

use std::num::NonZeroUsize;
use std::thread;

use clap::Args;

/// Threads for connections and everything else that does not wait for a disk.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Threads {
    /// Threads for connections and for keeping topics in order; disks, and what computes for long, have threads of their own.
    /// More than there are processors help nobody; fewer leave some to others [default: one for each processor].
    #[arg(long, env = "LEDGERLINE_THREADS", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    threads: Option<u16>,
}

impl Threads {
    /// How many.
    pub(crate) fn count(self) -> usize {
        self.threads.map_or_else(
            // A system that does not tell has one for us.
            || thread::available_parallelism().map_or(1, NonZeroUsize::get),
            usize::from,
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        threads: Threads,
    }

    #[test]
    fn there_are_as_many_as_were_asked_for_and_never_none() {
        let count = |line: &[&str]| {
            let line = [&["server"], line].concat();
            Line::try_parse_from(line).map(|line| line.threads.count())
        };
        assert!(count(&[]).unwrap() >= 1);
        assert_eq!(count(&["--threads", "7"]).unwrap(), 7);
        for bad in ["0", "1025", "-1", "many"] {
            assert!(count(&["--threads", bad]).is_err(), "{bad}");
        }
    }
}
