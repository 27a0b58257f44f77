//! What may be said on the command line.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Parser, Subcommand};
use types::ByteSize;

/// Measures a bookie's engine alone, on a real disk with real syncs.
///
/// It is driven as a bookie drives it, with a thread for each of its workers; gRPC and meta are
/// left out. All it writes is in one directory below --dir, which is removed at the end and after
/// Ctrl-C; after a kill, remove DIR/.ledgerline-bookie-* yourself. Let nothing else run.
#[derive(Debug, Clone, Parser)]
#[command(name = "bookie", verbatim_doc_comment)]
pub(crate) struct Args {
    /// The directory whose disk is measured: journal and data are put below it. Say it before the command.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// Print one JSON object, and nothing else on stdout.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// What is measured.
    #[command(subcommand)]
    pub(crate) work: Work,
}

/// What is measured.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Work {
    Replay(Replay),
    Ledgers(Ledgers),
}

/// Measures how long a bookie takes to start after a kill, with a journal of which nothing is in
/// data files.
///
/// Fills the journal with entries over 100 ledgers, each fsynced before it counts, and drops the
/// engine without a stop. Then, in each round, opens it and reads the last entry, and drops it
/// again:
///
///   start    until everything is read (Opening::start)
///   finish   until it may answer (Opening::finish); meta's answer between them is left out
///   answer   until the last entry that was added is read
///   total    the sum of them
///
/// A round fails when an entry is missing. A memtable and journal files that hold all of it keep
/// the engine from flushing: larger ones than a bookie has, which flushes after 64 MiB. The
/// journal is evicted from the system's cache before each round; how many bytes then came from the
/// disk is told. A cache below this system, as a virtual machine's host has, is not known. Needs
/// as much memory as --bytes. Rounds share a process: what the first one takes to get memory from
/// the system, later ones may have. Files of a journal are read whole, also where nothing was
/// written yet, so a small --bytes says nothing about the target, 1 GiB in at most 5 s.
#[derive(Debug, Clone, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Replay {
    /// Bytes of payload that the journal is filled with: 1MiB to 16GiB.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = between(1 << 20, 16 << 30))]
    pub(crate) bytes: ByteSize,

    /// Bytes of an entry, as of a batch of messages: 512B to 8MiB.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = between(512, 8 << 20))]
    pub(crate) entry: ByteSize,

    /// How often it is opened, 1 to 100.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// Bytes of entries that wait for their answers while the journal is filled: 4KiB to 32MiB, and one entry at least.
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = between(4 << 10, 32 << 20))]
    pub(crate) in_flight: ByteSize,
}

/// Measures adds to many ledgers beside adds to one, in turn, in one engine with a bookie's
/// settings.
///
/// A round adds entries, each fsynced before it counts, round robin over the ledgers, each of
/// which is of a log of its own; requests that wait are handed in together and share a frame.
/// After a round to one ledger that does not count there are --rounds pairs, many first. Between
/// rounds, out of the time that is measured, what the engine flushes and merges is waited for.
///
/// The payloads are parts of one buffer, so that what the process grows by is what the engine
/// keeps beside them. The memory for each ledger is told twice: as what the process grew by in the
/// first round over many, divided by their number, and what is left of that after the next round
/// over one, when the memtables hold nothing of them any more, if --bytes is 128MiB or more. It is
/// rough: the allocator keeps what it may need again.
#[derive(Debug, Clone, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Ledgers {
    /// How many ledgers are many, 2 to 1000000.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    pub(crate) count: u64,

    /// Bytes of payload of a round: 1MiB to 64GiB, and an entry for each ledger at least.
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = between(1 << 20, 64 << 30))]
    pub(crate) bytes: ByteSize,

    /// Bytes of an entry: 512B to 8MiB.
    #[arg(long, value_name = "SIZE", default_value = "4KiB", value_parser = between(512, 8 << 20))]
    pub(crate) entry: ByteSize,

    /// How many pairs of rounds there are, 1 to 100.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// Bytes of entries that wait for their answers: 4KiB to 32MiB, and one entry at least.
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = between(4 << 10, 32 << 20))]
    pub(crate) in_flight: ByteSize,
}

impl Replay {
    /// How many entries there are.
    ///
    /// # Errors
    ///
    /// When not even one fits.
    pub(crate) fn entries(&self) -> anyhow::Result<u64> {
        let (bytes, entry) = (self.bytes, self.entry);
        match bytes.get() / entry.get() {
            0 => bail!("--bytes {bytes} must be at least --entry {entry}"),
            count => Ok(count),
        }
    }
}

impl Ledgers {
    /// How many entries a round has.
    ///
    /// # Errors
    ///
    /// When there is not one for each ledger.
    pub(crate) fn entries(&self) -> anyhow::Result<u64> {
        let count = self.bytes.get() / self.entry.get();
        if count < self.count {
            let (ledgers, needed) = (self.count, ByteSize::new(self.count * self.entry.get()));
            bail!(
                "--bytes {} must be at least {needed}, an entry for each of {ledgers} ledgers: give more, or a lower --count or --entry",
                self.bytes
            );
        }
        Ok(count)
    }
}

/// Takes a size from the least to the most.
fn between(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<ByteSize, String> + Clone + Send + Sync + 'static {
    move |text| {
        let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
        let (least, most) = (ByteSize::new(least), ByteSize::new(most));
        if (least..=most).contains(&size) {
            Ok(size)
        } else {
            Err(format!("must be {least} to {most}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(["bookie", "--dir", "/d"].into_iter().chain(line.split(' ')))
    }

    #[test]
    fn the_command_line_is_sound_and_its_defaults_are_what_the_targets_are_about() {
        Args::command().debug_assert();
        let Work::Replay(replay) = parse("replay").unwrap().work else {
            panic!("another command");
        };
        assert_eq!(replay.bytes, ByteSize::mib(1024));
        assert_eq!(replay.entries().unwrap(), 16_384);
        let Work::Ledgers(ledgers) = parse("ledgers --json").unwrap().work else {
            panic!("another command");
        };
        assert_eq!((ledgers.count, ledgers.rounds), (100_000, 2));
        assert_eq!(ledgers.entries().unwrap(), 524_288);
    }

    #[test]
    fn a_size_out_of_its_bounds_is_refused_with_its_flag_and_the_bounds() {
        for (line, parts) in [
            ("replay --bytes 17GiB", ["--bytes", "1MiB to 16GiB"]),
            ("replay --entry 511", ["--entry", "512B to 8MiB"]),
            (
                "ledgers --in-flight 33MiB",
                ["--in-flight", "4KiB to 32MiB"],
            ),
            ("ledgers --bytes much", ["--bytes", "much"]),
        ] {
            let refused = parse(line).unwrap_err().to_string();
            for part in parts {
                assert!(refused.contains(part), "{line}: {refused}");
            }
        }
    }

    #[test]
    fn fewer_bytes_than_the_ledgers_or_one_entry_need_are_refused_by_name() {
        let Work::Ledgers(ledgers) = parse("ledgers --count 1000 --bytes 1MiB").unwrap().work
        else {
            panic!("another command");
        };
        let refused = ledgers.entries().unwrap_err().to_string();
        assert!(
            refused.contains("--bytes 1MiB must be at least 3.9MiB"),
            "{refused}"
        );
        let Work::Replay(replay) = parse("replay --bytes 1MiB --entry 8MiB").unwrap().work else {
            panic!("another command");
        };
        let refused = replay.entries().unwrap_err().to_string();
        assert!(refused.contains("at least --entry 8MiB"), "{refused}");
    }
}
