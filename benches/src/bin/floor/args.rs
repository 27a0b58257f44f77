//! What may be said on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use types::ByteSize;

/// Measures what this machine allows at best: disk, memory, loopback and streams, each alone.
///
/// Each row is the median of several rounds, after one round of warm-up. Nothing is left in --dir,
/// also after Ctrl-C.
///
///   sync_direct      4 KiB write + fdatasync over a file that was written before, past the cache
///                    of the system: a bookie's journal for one message; no ack can be faster
///   sync_buffered    the same through the cache, for file systems that do not take it otherwise
///   write            1 MiB writes past the cache, one after another, to one file
///   journal_and_data the same, each synced, and each once more to a data file, 64 MiB behind, as a
///                    bookie stores: the floor of publishing, in bytes of payload
///   read_1, read_2   1 MiB reads past the cache, one after another, of what was just written, with
///                    one and with two under way: the floor of catching up with a backlog
///   copy, crc32c     256 KiB at a time from memory that is in no cache: each copy, each check
///   tcp              writes of 256 KiB over loopback, one connection, one way
///   tcp_turn         64 bytes there and back on such a connection
///   stream           a gRPC stream over loopback as between client and server: messages of
///                    256 KiB, 32 in flight
///   stream_turn      a message of 64 bytes there and its receipt back
///
/// Times are microseconds at the percentile told. Client and server share this machine, as they do
/// in a bench on it. Let nothing else run: who waits for a core does so in every row.
#[derive(Debug, Clone, Parser)]
#[command(name = "floor", verbatim_doc_comment)]
pub(crate) struct Args {
    /// The directory whose disk is measured: where a bookie has its journal and its data.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// Bytes of each of the two files. Larger than the cache of the disk is better.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = file_size)]
    pub(crate) file_size: ByteSize,

    /// How many rounds are measured.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,

    /// How long a round is, in milliseconds. One that has reached the end of its file may be shorter.
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub(crate) round_ms: u64,

    /// What `ledgerline bench publish|latency|e2e|catchup|fanout --json` printed: its figure is told as a part of the
    /// floor. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Vec<PathBuf>,

    /// Print one JSON object, and nothing else on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Args {
    /// How long a round is.
    pub(crate) const fn round(&self) -> Duration {
        Duration::from_millis(self.round_ms)
    }
}

fn file_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
    let is_fit = (ByteSize::mib(16)..=ByteSize::mib(64 << 10)).contains(&size);
    if !is_fit || !size.get().is_multiple_of(1 << 20) {
        return Err("must be 16MiB to 64GiB, in whole MiB".to_owned());
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_explains_each_row() {
        Args::command().debug_assert();
        let help = Args::command().render_long_help().to_string();
        for name in crate::rows::NAMES {
            let word = name.trim_end_matches("_p50").trim_end_matches("_p99");
            assert!(help.contains(word), "{word}");
        }
    }

    #[test]
    fn a_file_is_whole_pieces_and_neither_tiny_nor_endless() {
        for (text, is_fine) in [
            ("16MiB", true),
            ("64GiB", true),
            ("15MiB", false),
            ("65GiB", false),
            ("16385KiB", false),
            ("much", false),
        ] {
            assert_eq!(file_size(text).is_ok(), is_fine, "{text}");
        }
    }
}
