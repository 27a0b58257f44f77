//! Adds to many ledgers beside adds to one.

use std::time::Duration;

use benches::figures::{median, millions_per_second};
use bookie::Config;

use crate::args::Ledgers;
use crate::bed::Bed;
use crate::load::Load;
use crate::running::Running;
use crate::{Machine, process, say};

/// The log of the one ledger; the many are of those from here on.
const ONE: u64 = 1;
const MANY: u64 = 1_000;

/// What was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) count: u64,
    pub(crate) entry: u64,
    /// Whether the journal is written past the system's cache.
    pub(crate) is_direct: bool,
    /// In their order: many, one, and so on.
    pub(crate) rounds: Vec<Round>,
}

/// Over how many ledgers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Many,
    One,
}

/// One round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) over: Over,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// Frames of the journal: each was written and synced once.
    pub(crate) frames: u64,
    /// How often an entry was refused for a while.
    pub(crate) busy: u64,
    /// Memory in RAM before and after, where the system tells.
    pub(crate) resident: Option<(u64, u64)>,
}

/// Bytes of memory for each ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// When the first round over many was done: what the memtables hold of it is a part.
    pub(crate) added: u64,
    /// After the round over one that followed: the memtables hold entries of that one instead.
    pub(crate) kept: u64,
}

impl Round {
    /// Entries a second.
    pub(crate) fn entries_per_second(&self) -> f64 {
        millions_per_second(self.entries, self.took) * 1e6
    }

    /// Millions of bytes of payload a second.
    pub(crate) fn megabytes_per_second(&self) -> f64 {
        millions_per_second(self.bytes, self.took)
    }
}

impl Measured {
    /// Entries a second, of the middle round of those over so many.
    pub(crate) fn median(&self, over: Over) -> f64 {
        let rounds = self.rounds.iter().filter(|round| round.over == over);
        let rates: Vec<f64> = rounds.map(Round::entries_per_second).collect();
        median(&rates)
    }

    /// What many reach of what one does.
    pub(crate) fn ratio(&self) -> f64 {
        self.median(Over::Many) / self.median(Over::One).max(f64::MIN_POSITIVE)
    }

    /// What memory each of many ledgers takes.
    pub(crate) fn memory(&self) -> Option<Memory> {
        let first = |over| {
            self.rounds
                .iter()
                .find(|round| round.over == over)?
                .resident
        };
        let (many, one) = (first(Over::Many)?, first(Over::One)?);
        let per_ledger = |after: u64| after.saturating_sub(many.0) / self.count;
        Some(Memory {
            added: per_ledger(many.1),
            kept: per_ledger(one.1),
        })
    }
}

/// Free bytes that it needs.
///
/// # Errors
///
/// When the flags do not go together.
pub(crate) fn needed(args: &Ledgers) -> anyhow::Result<u64> {
    args.entries()?;
    let config = Config::new("journal".into(), "data".into());
    let rounds = u64::from(args.rounds) * 2 + 1;
    // Twice: a merge writes what it merges once more before that goes.
    let data = 2 * rounds * (args.bytes.get() + config.memtable.get());
    Ok(data + 8 * config.journal_file.get() + 2 * config.free_low.get())
}

/// Adds in rounds.
///
/// # Errors
///
/// When the storage fails, or an entry that was added is not there.
pub(crate) fn measure(machine: &Machine, bed: &Bed, args: &Ledgers) -> anyhow::Result<Measured> {
    let opened = bed.open(&machine.host, &bed.config())?;
    let is_direct = opened.report.direct;
    let mut running = Running::start(machine, opened.engine);
    let mut many = Load::new(MANY, args.count, args.entry.as_usize());
    let mut one = Load::new(ONE, 1, args.entry.as_usize());
    say("warming up …");
    round(&mut running, (Over::One, &mut one), args)?;
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        for (over, load) in [(Over::Many, &mut many), (Over::One, &mut one)] {
            let round = round(&mut running, (over, load), args)?;
            say(&format!(
                "round {number} of {} over {}: {:.0} entries/s",
                args.rounds,
                over.name(),
                round.entries_per_second()
            ));
            rounds.push(round);
        }
    }
    many.check_last(&mut running)?;
    one.check_last(&mut running)?;
    running.kill()?;
    Ok(Measured {
        count: args.count,
        entry: args.entry.get(),
        is_direct,
        rounds,
    })
}

/// Adds, and waits then, out of the time that counts, for what the engine does behind it.
fn round(
    running: &mut Running<'_>,
    (over, load): (Over, &mut Load),
    args: &Ledgers,
) -> anyhow::Result<Round> {
    let entries = args.entries()?;
    let window = args.in_flight.get() / args.entry.get();
    let resident = process::resident_bytes();
    let before = running.stats().frames;
    let added = load.add(running, entries, usize::try_from(window)?.max(1))?;
    let frames = running.stats().frames - before;
    running.settle()?;
    Ok(Round {
        over,
        entries,
        bytes: entries * args.entry.get(),
        took: added.took,
        frames,
        busy: added.busy,
        resident: resident.zip(process::resident_bytes()),
    })
}

impl Over {
    /// Its name in tables and in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Many => "many",
            Self::One => "one",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many rounds of a million entries, by how many seconds they took.
    fn measured(seconds: &[(Over, u64)]) -> Measured {
        let round = |&(over, seconds)| Round {
            over,
            entries: 1_000_000,
            bytes: 4_096_000_000,
            took: Duration::from_secs(seconds),
            frames: 1_000,
            busy: 0,
            resident: Some((1_000_000, 1_000_000 + 1_000 * seconds)),
        };
        Measured {
            count: 1_000,
            entry: 4096,
            is_direct: true,
            rounds: seconds.iter().map(round).collect(),
        }
    }

    #[test]
    fn the_ratio_is_of_the_middle_rounds() {
        let all = [
            (Over::One, 4),
            (Over::Many, 5),
            (Over::One, 2),
            (Over::Many, 2),
            (Over::One, 2),
            (Over::Many, 4),
        ];
        let measured = measured(&all);
        assert_eq!(measured.median(Over::Many), 250_000.0);
        assert_eq!(measured.median(Over::One), 500_000.0);
        assert_eq!(measured.ratio(), 0.5);
        assert_eq!(measured.rounds[2].megabytes_per_second(), 2048.0);
    }

    #[test]
    fn memory_counts_from_before_the_first_round_over_many() {
        let mut measured = measured(&[(Over::Many, 9), (Over::One, 2), (Over::Many, 99)]);
        assert_eq!(measured.memory(), Some(Memory { added: 9, kept: 2 }));
        // What shrank took nothing.
        measured.rounds[1].resident = Some((5_000, 6_000));
        assert_eq!(measured.memory(), Some(Memory { added: 9, kept: 0 }));
        measured.rounds[0].resident = None;
        assert_eq!(measured.memory(), None);
    }
}
