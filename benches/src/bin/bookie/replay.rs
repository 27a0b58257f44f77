//! How long a start after a kill takes.

use std::time::Duration;

use anyhow::{bail, ensure};
use bookie::Config;
use types::ByteSize;

use crate::args::Replay;
use crate::bed::{Bed, Opened};
use crate::load::{Added, Load};
use crate::running::Running;
use crate::{Machine, process, say};

/// Ledgers that the entries are of.
const LEDGERS: u64 = 100;
/// Journal files that may be in use before the engine flushes.
const FILES: u64 = 3;
/// Bytes of a record of the journal besides its payload, and somewhat more.
const RECORD: u64 = 128;

/// What was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) bytes: u64,
    pub(crate) entry: u64,
    pub(crate) entries: u64,
    pub(crate) fill: Added,
    /// Whether the journal is written past the system's cache.
    pub(crate) is_direct: bool,
    pub(crate) rounds: Vec<Round>,
}

/// One opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) start: Duration,
    pub(crate) finish: Duration,
    pub(crate) answer: Duration,
    pub(crate) frames: u64,
    /// Bytes of all files of the journal, what is not used of them included.
    pub(crate) journal_bytes: u64,
    /// Bytes that came from the disk, where the system tells.
    pub(crate) from_disk: Option<u64>,
    pub(crate) resident: Option<u64>,
}

impl Round {
    /// From the beginning until it answered.
    pub(crate) fn total(&self) -> Duration {
        self.start + self.finish + self.answer
    }
}

/// Free bytes that it needs.
///
/// # Errors
///
/// When the flags do not go together.
pub(crate) fn needed(args: &Replay) -> anyhow::Result<u64> {
    let config = Config::new("journal".into(), "data".into());
    // Those in use, the next one, and one that is being made.
    let journal = (FILES + 2) * journal_file(args.bytes.get(), args.entries()?);
    Ok(journal + 2 * config.free_low.get())
}

/// Fills a journal, and opens it in rounds.
///
/// # Errors
///
/// When the storage fails, or an entry is missing.
pub(crate) fn measure(machine: &Machine, bed: &Bed, args: &Replay) -> anyhow::Result<Measured> {
    let entries = args.entries()?;
    let config = config(bed, args.bytes.get(), entries);
    let mut load = Load::new(1, LEDGERS, args.entry.as_usize());
    say(&format!("filling the journal with {} …", args.bytes));
    let (fill, is_direct, memory) = fill(machine, bed, &config, (&mut load, entries), args)?;
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        let round = open(machine, bed, &config, (&load, entries, memory))?;
        say(&format!(
            "round {number} of {}: {:.3} s",
            args.rounds,
            round.total().as_secs_f64()
        ));
        rounds.push(round);
    }
    Ok(Measured {
        bytes: entries * args.entry.get(),
        entry: args.entry.get(),
        entries,
        fill,
        is_direct,
        rounds,
    })
}

/// Adds all entries and kills the engine. Tells also whether the journal went past the cache, and what the memtable holds.
fn fill(
    machine: &Machine,
    bed: &Bed,
    config: &Config,
    (load, entries): (&mut Load, u64),
    args: &Replay,
) -> anyhow::Result<(Added, bool, u64)> {
    let opened = bed.open(&machine.host, config)?;
    let mut running = Running::start(machine, opened.engine);
    let window = args.in_flight.get() / args.entry.get();
    let window = usize::try_from(window)?.max(1);
    let added = load.add(&mut running, entries, window)?;
    // The next journal file is made by then, as it is in a bookie that has run for a while: each start reads it too.
    running.settle()?;
    let stats = running.stats();
    running.kill()?;
    if stats.data_files > 0 {
        bail!("the engine flushed, so this would be no replay of everything {stats:?}");
    }
    Ok((added, opened.report.direct, stats.memory_bytes))
}

/// Opens it, sees that nothing is lost, and kills it again.
fn open(
    machine: &Machine,
    bed: &Bed,
    config: &Config,
    (load, entries, memory): (&Load, u64, u64),
) -> anyhow::Result<Round> {
    bed.evict_journal()?;
    let journal_bytes = bed.journal_bytes()?;
    let before = process::disk_read_bytes();
    let Opened {
        engine,
        report,
        start,
        finish,
    } = bed.open(&machine.host, config)?;
    let after = process::disk_read_bytes();
    // Its threads are there before the time runs on: a node starts them while meta answers.
    let mut running = Running::start(machine, engine);
    let opened = machine.host.clock.now();
    load.check_last(&mut running)?;
    let answer = machine.host.clock.now().since(opened);
    let stats = running.stats();
    ensure!(
        (report.records, stats.memory_bytes) == (entries, memory),
        "entries are missing, or there are too many added={entries} replayed={} bytes={memory} in_memory={}",
        report.records,
        stats.memory_bytes
    );
    let resident = process::resident_bytes();
    running.settle()?;
    running.kill()?;
    Ok(Round {
        start,
        finish,
        answer,
        frames: report.frames,
        journal_bytes,
        from_disk: after.zip(before).map(|(after, before)| after - before),
        resident,
    })
}

/// Settings under which the engine has no reason to flush: neither memtable nor journal gets full.
fn config(bed: &Bed, bytes: u64, entries: u64) -> Config {
    let size = ByteSize::new(journal_file(bytes, entries));
    let config = bed.config();
    let memtable = config.memtable.get() + bytes + entries * 1024;
    Config {
        journal_file: size,
        journal_first_file: size,
        memtable: ByteSize::new(memtable),
        ..config
    }
}

/// Bytes of a journal file, so that the entries fit into few enough of them; as a production bookie has it where that does.
fn journal_file(bytes: u64, entries: u64) -> u64 {
    // A frame is filled up to whole blocks, and what does not fit at the end of a file goes to the next one.
    let records = bytes + entries * RECORD;
    let frames = records + records / 16 + (64 << 20);
    let usual = Config::new("journal".into(), "data".into()).journal_file;
    frames
        .div_ceil(FILES)
        .next_multiple_of(1 << 20)
        .max(usual.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_has_a_production_size_until_three_such_files_are_too_few() {
        let usual = 256 << 20;
        assert_eq!(journal_file(16 << 20, 256), usual);
        assert_eq!(journal_file(512 << 20, 8192), usual);
        for (bytes, entries) in [(1 << 30, 1 << 14), (1 << 30, 1 << 20), (16 << 30, 1 << 25)] {
            let size = journal_file(bytes, entries);
            assert!(
                FILES * size > bytes + entries * RECORD && size > usual,
                "{size}"
            );
            let config = Config {
                journal_file: ByteSize::new(size),
                ..Config::new("j".into(), "d".into())
            };
            assert_eq!(config.validate(), Ok(()));
        }
    }
}
