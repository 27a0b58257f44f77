//! The tables for people, the objects for programs.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use benches::figures::{median, millions_per_second};
use serde_json::{Value, json};
use types::ByteSize;

use crate::args::Args;
use crate::ledgers::{self, Over};
use crate::replay;

/// Seconds that a replay of 1 GiB may take.
const REPLAY_MUST: f64 = 5.0;
/// Seconds that it is to take.
const REPLAY_AIM: f64 = 2.0;
/// Bytes that the target of a replay is about.
const GIB: u64 = 1 << 30;
/// The same in millions of bytes.
const GIB_MEGABYTES: f64 = 1_073.741_824;
/// What many ledgers must reach of what one does.
const RATIO_MUST: f64 = 0.8;

/// What is told when the file system takes no direct writes.
const NOT_DIRECT: &str = "the file system takes nothing past the system's cache: the journal was written through it, unlike that of a bookie on most disks";

impl replay::Measured {
    /// What is printed.
    pub(crate) fn told(&self, args: &Args) -> String {
        if args.json {
            return format!("{:#}\n", self.json(args));
        }
        let mut text = format!(
            "replay of {} in {} entries of {} below {}, {} cores, {} rounds; filled in {:.1} s\n\n",
            ByteSize::new(self.bytes),
            self.entries,
            ByteSize::new(self.entry),
            args.dir.display(),
            cores(),
            self.rounds.len(),
            self.fill.took.as_secs_f64(),
        );
        text += "round      start     finish     answer      total     journal   from disk    resident\n";
        for (index, round) in self.rounds.iter().enumerate() {
            let [start, finish, answer, total] =
                [round.start, round.finish, round.answer, round.total()]
                    .map(|time| time.as_secs_f64() * 1e3);
            let _ = writeln!(
                text,
                "{:>5} {start:>7.0} ms {finish:>7.1} ms {answer:>7.1} ms {total:>7.0} ms {:>11} {:>11} {:>11}",
                index + 1,
                size(Some(round.journal_bytes)),
                size(round.from_disk),
                size(round.resident),
            );
        }
        let held = match self.seconds_a_gib() {
            Some(seconds) => format!(
                "1GiB takes {seconds:.2} s at this rate ({}; at most {REPLAY_MUST} s, aim {REPLAY_AIM} s)",
                reached(seconds)
            ),
            None => "the target is of 1GiB, set --bytes to that".to_owned(),
        };
        let _ = writeln!(
            text,
            "\nmedian {:.3} s, slowest {:.3} s: {held}; nothing is missing",
            self.median(),
            self.slowest()
        );
        say_doubt(&mut text, self.doubt());
        text
    }

    /// Seconds of the slowest round: most often the first, before a cache below this system has seen the journal.
    fn slowest(&self) -> f64 {
        let totals = self.rounds.iter().map(replay::Round::total);
        totals.max().unwrap_or_default().as_secs_f64()
    }

    /// Seconds of the middle round.
    fn median(&self) -> f64 {
        let totals = self.rounds.iter().map(|round| round.total().as_secs_f64());
        median(&totals.collect::<Vec<_>>())
    }

    /// Seconds that 1 GiB of payload takes at this rate. None when there is less: then most of the time goes to the parts
    /// of the journal's files that hold nothing yet, which are read too.
    fn seconds_a_gib(&self) -> Option<f64> {
        // The last entry may be cut off by rounding.
        let is_enough = self.bytes + self.entry > GIB;
        is_enough.then(|| {
            GIB_MEGABYTES * self.median() / (Duration::from_micros(self.bytes).as_secs_f64())
        })
    }

    /// What makes the figures less than they seem.
    fn doubt(&self) -> Option<&'static str> {
        let is_from_disk = |round: &replay::Round| {
            round
                .from_disk
                .map(|bytes| bytes >= round.journal_bytes / 10 * 9)
        };
        let all: Vec<_> = self.rounds.iter().map(is_from_disk).collect();
        if all.contains(&Some(false)) {
            return Some(
                "a part of the journal came from the system's cache or from memory: a start after a loss of power takes longer",
            );
        }
        if all.contains(&None) {
            return Some(
                "the journal was evicted from the system's cache; whether it was read from the disk this system does not tell",
            );
        }
        (!self.is_direct).then_some(NOT_DIRECT)
    }

    fn json(&self, args: &Args) -> Value {
        let rounds = self.rounds.iter().map(|round| {
            json!({
                "start_s": round.start.as_secs_f64(),
                "finish_s": round.finish.as_secs_f64(),
                "answer_s": round.answer.as_secs_f64(),
                "total_s": round.total().as_secs_f64(),
                "frames": round.frames,
                "journal_bytes": round.journal_bytes,
                "from_disk_bytes": round.from_disk,
                "resident_bytes": round.resident,
            })
        });
        json!({
            "bench": "replay",
            "dir": args.dir.display().to_string(),
            "cores": cores(),
            "bytes": self.bytes,
            "entry_bytes": self.entry,
            "entries": self.entries,
            "fill_s": self.fill.took.as_secs_f64(),
            "fill_mb_per_s": millions_per_second(self.bytes, self.fill.took),
            "is_direct": self.is_direct,
            "rounds": rounds.collect::<Vec<_>>(),
            "median_s": self.median(),
            "slowest_s": self.slowest(),
            "seconds_per_gib": self.seconds_a_gib(),
            "seconds_per_gib_must": REPLAY_MUST,
            "seconds_per_gib_aim": REPLAY_AIM,
            "reached": self.seconds_a_gib().map(reached),
            "doubt": self.doubt(),
        })
    }
}

/// What a replay of 1 GiB in so many seconds reaches.
fn reached(seconds_a_gib: f64) -> &'static str {
    match seconds_a_gib {
        seconds if seconds <= REPLAY_AIM => "aim",
        seconds if seconds <= REPLAY_MUST => "must",
        _ => "missed",
    }
}

impl ledgers::Measured {
    /// What is printed.
    pub(crate) fn told(&self, args: &Args) -> String {
        if args.json {
            return format!("{:#}\n", self.json(args));
        }
        let mut text = format!(
            "adds of {} to {} ledgers and to one below {}, {} cores\n\n",
            ByteSize::new(self.entry),
            self.count,
            args.dir.display(),
            cores(),
        );
        text += "over      entries    seconds    entries/s       MB/s  entries a frame       busy    resident\n";
        for round in &self.rounds {
            let _ = writeln!(
                text,
                "{:<5} {:>11} {:>10.2} {:>12.0} {:>10.1} {:>16} {:>10} {:>11}",
                round.over.name(),
                round.entries,
                round.took.as_secs_f64(),
                round.entries_per_second(),
                round.megabytes_per_second(),
                round.entries / round.frames.max(1),
                round.busy,
                size(round.resident.map(|(_, after)| after)),
            );
        }
        let _ = writeln!(
            text,
            "\nmany {:.0}/s is {:.2} of one {:.0}/s ({}; at least {RATIO_MUST})",
            self.median(Over::Many),
            self.ratio(),
            self.median(Over::One),
            self.reached(),
        );
        let memory = match self.memory() {
            Some(memory) => format!(
                "memory for each ledger, roughly: {} bytes with what the memtables hold of it, {} bytes kept\n",
                memory.added, memory.kept
            ),
            None => "what memory a ledger takes this system does not tell\n".to_owned(),
        };
        text += &memory;
        say_doubt(&mut text, self.doubt());
        text
    }

    fn reached(&self) -> &'static str {
        if self.ratio() >= RATIO_MUST {
            "must"
        } else {
            "missed"
        }
    }

    /// What makes the figures less than they seem.
    fn doubt(&self) -> Option<&'static str> {
        (!self.is_direct).then_some(NOT_DIRECT)
    }

    fn json(&self, args: &Args) -> Value {
        let rounds = self.rounds.iter().map(|round| {
            json!({
                "over": round.over.name(),
                "entries": round.entries,
                "bytes": round.bytes,
                "seconds": round.took.as_secs_f64(),
                "entries_per_s": round.entries_per_second(),
                "mb_per_s": round.megabytes_per_second(),
                "frames": round.frames,
                "busy": round.busy,
                "resident_before_bytes": round.resident.map(|(before, _)| before),
                "resident_bytes": round.resident.map(|(_, after)| after),
            })
        });
        json!({
            "bench": "ledgers",
            "dir": args.dir.display().to_string(),
            "cores": cores(),
            "count": self.count,
            "entry_bytes": self.entry,
            "is_direct": self.is_direct,
            "rounds": rounds.collect::<Vec<_>>(),
            "many_entries_per_s": self.median(Over::Many),
            "one_entries_per_s": self.median(Over::One),
            "ratio": self.ratio(),
            "ratio_must": RATIO_MUST,
            "reached": self.reached(),
            "added_bytes_per_ledger": self.memory().map(|memory| memory.added),
            "kept_bytes_per_ledger": self.memory().map(|memory| memory.kept),
            "doubt": self.doubt(),
        })
    }
}

fn say_doubt(text: &mut String, doubt: Option<&str>) {
    if let Some(doubt) = doubt {
        let _ = writeln!(text, "\n{doubt}");
    }
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "?".to_owned(), |bytes| ByteSize::new(bytes).to_string())
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::load::Added;

    fn args(line: &str) -> Args {
        let words = ["bookie", "--dir", "/disk"].into_iter();
        Args::parse_from(words.chain(line.split(' ')))
    }

    fn replayed(seconds: u64, from_disk: Option<u64>) -> replay::Measured {
        let round = |seconds| replay::Round {
            start: Duration::from_secs(seconds) - Duration::from_millis(20),
            finish: Duration::from_millis(15),
            answer: Duration::from_millis(5),
            frames: 600,
            journal_bytes: 768 << 20,
            from_disk,
            resident: Some(600 << 20),
        };
        replay::Measured {
            bytes: 2 << 30,
            entry: 64 << 10,
            entries: 32_768,
            fill: Added {
                took: Duration::from_secs(1),
                busy: 0,
            },
            is_direct: true,
            rounds: [9, seconds, 1].into_iter().map(round).collect(),
        }
    }

    #[test]
    fn a_replay_tells_each_part_of_a_round_and_holds_the_median_against_the_target() {
        let text = replayed(2, Some(768 << 20)).told(&args("replay"));
        for part in [
            "replay of 2GiB in 32768 entries of 64KiB below /disk",
            "    2    1980 ms    15.0 ms     5.0 ms    2000 ms      768MiB      768MiB      600MiB\n",
            "median 2.000 s, slowest 9.000 s: 1GiB takes 1.00 s at this rate (aim; at most 5 s, aim 2 s)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(
            [2.0, 2.1, 5.0, 5.1].map(reached),
            ["aim", "must", "must", "missed"]
        );
    }

    #[test]
    fn less_than_the_target_is_about_is_not_held_against_it() {
        let less = replay::Measured {
            bytes: 1 << 29,
            ..replayed(2, None)
        };
        assert!(less.told(&args("replay")).contains("set --bytes to that"));
        let told: Value = serde_json::from_str(&less.told(&args("replay --json"))).unwrap();
        assert_eq!(
            (&told["seconds_per_gib"], &told["reached"]),
            (&Value::Null, &Value::Null)
        );
        // A GiB less a part of an entry.
        let enough = replay::Measured {
            bytes: (1 << 30) - 1000,
            ..replayed(2, None)
        };
        assert!(enough.seconds_a_gib().is_some());
    }

    #[test]
    fn a_journal_that_came_from_the_cache_or_from_nobody_knows_where_is_told() {
        let doubt = |from_disk| replayed(2, from_disk).doubt().unwrap_or_default();
        assert_eq!(doubt(Some(768 << 20)), "");
        assert!(doubt(Some(100 << 20)).contains("came from the system's cache"));
        assert!(doubt(None).contains("does not tell"));
    }

    #[test]
    fn programs_get_each_round_as_numbers() {
        let told = replayed(2, None).told(&args("replay --json"));
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["rounds"][1]["total_s"], 2.0);
        assert_eq!(told["rounds"][1]["from_disk_bytes"], Value::Null);
        assert_eq!(told["seconds_per_gib"], 1.0);

        let round = |over, seconds| ledgers::Round {
            over,
            entries: 1000,
            bytes: 4_096_000,
            took: Duration::from_secs(seconds),
            frames: 10,
            busy: 0,
            resident: Some((1 << 20, 2 << 20)),
        };
        let measured = ledgers::Measured {
            count: 100,
            entry: 4096,
            is_direct: false,
            rounds: vec![round(Over::Many, 2), round(Over::One, 1)],
        };
        let told = measured.told(&args("ledgers --json"));
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["rounds"][0]["over"], "many");
        assert_eq!(
            (&told["ratio"], &told["reached"]),
            (&json!(0.5), &json!("missed"))
        );
        assert!(told["doubt"].as_str().unwrap().contains("cache"));
        let text = measured.told(&args("ledgers"));
        assert!(
            text.contains("many 500/s is 0.50 of one 1000/s (missed; at least 0.8)"),
            "{text}"
        );
    }
}
