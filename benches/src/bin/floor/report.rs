//! The table for people, the object for programs.

use std::fmt::Write as _;
use std::thread;

use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::ratio::Ratio;
use crate::rows::{Row, SYNC_DIRECT_P50, Unit};

/// A sync that is faster than this reached no disk.
const NO_DISK_MICROS: f64 = 8.0;

/// What was measured, where.
#[derive(Debug)]
pub(crate) struct Report {
    dir: String,
    cores: usize,
    file_bytes: u64,
    round_ms: u64,
    is_direct: bool,
    rows: Vec<Row>,
    ratios: Vec<Ratio>,
}

impl Report {
    pub(crate) fn new(args: &Args, is_direct: bool, rows: Vec<Row>, ratios: Vec<Ratio>) -> Self {
        Self {
            dir: args.dir.display().to_string(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            file_bytes: args.file_size.get(),
            round_ms: args.round_ms,
            is_direct,
            rows,
            ratios,
        }
    }

    /// What is printed.
    pub(crate) fn told(&self, as_json: bool) -> String {
        if as_json {
            format!("{:#}\n", self.json())
        } else {
            self.text()
        }
    }

    /// What makes the figures less than they seem.
    fn doubt(&self) -> Option<&'static str> {
        let mut syncs = self.rows.iter().filter(|row| row.name == SYNC_DIRECT_P50);
        if syncs.any(|row| row.median() < NO_DISK_MICROS) {
            return Some(
                "that is no disk but memory: set --dir to a directory on the disk of a bookie's journal",
            );
        }
        (!self.is_direct).then_some(
            "the file system takes nothing past the system's cache: \"direct\" went through it as well",
        )
    }

    fn text(&self) -> String {
        let rounds = self.rows.first().map_or(0, |row| row.rounds.len());
        let mut text = format!(
            "floor of {} cores and the disk below {}, median of {rounds} x {} ms\n\n{:<18} {:>12} {:>26}  {:>14}\n",
            self.cores, self.dir, self.round_ms, "", "median", "rounds", "1 KiB messages"
        );
        for row in &self.rows {
            text += &line(row);
        }
        if let Some(doubt) = self.doubt() {
            let _ = writeln!(text, "\n{doubt}");
        }
        for ratio in &self.ratios {
            text += &told(ratio);
        }
        text
    }

    fn json(&self) -> Value {
        let rows: Map<String, Value> = self
            .rows
            .iter()
            .map(|row| {
                let value =
                    json!({"unit": unit(row.unit), "median": row.median(), "rounds": row.rounds});
                (row.name.to_owned(), value)
            })
            .collect();
        let ratios: Vec<Value> = self
            .ratios
            .iter()
            .map(|it| {
                json!({
                    "bench": it.bench,
                    "unit": unit(it.unit),
                    "value": it.value,
                    "floor": it.floor,
                    "by": it.by,
                    "ratio": it.ratio(),
                })
            })
            .collect();
        json!({
            "dir": self.dir,
            "cores": self.cores,
            "file_bytes": self.file_bytes,
            "round_ms": self.round_ms,
            "is_direct": self.is_direct,
            "doubt": self.doubt(),
            "rows": rows,
            "ratios": ratios,
        })
    }
}

const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Micros => "us",
        Unit::MegabytesPerSecond => "MB/s",
    }
}

/// A row of the table: the median, the least and the most of the rounds, and the median as messages of 1 KiB.
fn line(row: &Row) -> String {
    let (least, most) = row.rounds.iter().fold((f64::MAX, 0.0), least_and_most);
    let (value, of, messages) = match row.unit {
        Unit::Micros => (
            format!("{:.1} us", row.median()),
            format!("{least:.1} to {most:.1}"),
            String::new(),
        ),
        Unit::MegabytesPerSecond => (
            format!("{:.0} MB/s", row.median()),
            format!("{least:.0} to {most:.0}"),
            format!("{:.0} k/s", row.median() * 1e3 / 1024.0),
        ),
    };
    let line = format!("{:<18} {value:>12} {of:>26}  {messages:>14}", row.name);
    format!("{}\n", line.trim_end())
}

fn least_and_most((least, most): (f64, f64), value: &f64) -> (f64, f64) {
    (least.min(*value), most.max(*value))
}

fn told(ratio: &Ratio) -> String {
    let (value, floor, times) = (ratio.value, ratio.floor, ratio.ratio());
    let by = ratio.by.join(" + ");
    let text = match ratio.unit {
        Unit::Micros => format!("{value:.1} us is {times:.2} times the floor of {floor:.1} us"),
        Unit::MegabytesPerSecond => {
            format!("{value:.0} MB/s is {times:.2} of the floor of {floor:.0} MB/s")
        }
    };
    format!("\n{}: {text} ({by})\n", ratio.bench)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::rows::JOURNAL_AND_DATA;

    fn report(sync: f64, is_direct: bool) -> Report {
        let args = Args::parse_from(["floor", "--dir", "/journal"]);
        let row = |name, unit, rounds| Row { name, unit, rounds };
        let rows = vec![
            row(SYNC_DIRECT_P50, Unit::Micros, vec![sync, sync, 90.0]),
            row(
                JOURNAL_AND_DATA,
                Unit::MegabytesPerSecond,
                vec![500.0, 1024.0, 1100.0],
            ),
        ];
        let ratios = vec![Ratio {
            bench: "publish",
            value: 512.0,
            unit: Unit::MegabytesPerSecond,
            floor: 1024.0,
            by: vec![JOURNAL_AND_DATA],
        }];
        Report::new(&args, is_direct, rows, ratios)
    }

    #[test]
    fn a_row_tells_median_spread_and_messages_and_a_bench_its_part() {
        let text = report(50.0, true).told(false);
        for part in [
            "the disk below /journal, median of 3 x 500 ms",
            "50.0 us               50.0 to 90.0\n",
            "1024 MB/s                500 to 1100        1000 k/s\n",
            "publish: 512 MB/s is 0.50 of the floor of 1024 MB/s (journal_and_data)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn programs_get_each_round_and_the_ratio_as_numbers() {
        let told: Value = serde_json::from_str(&report(50.0, true).told(true)).unwrap();
        let row = &told["rows"][JOURNAL_AND_DATA];
        assert_eq!(row["rounds"], json!([500.0, 1024.0, 1100.0]));
        assert_eq!(
            (&row["median"], &row["unit"]),
            (&json!(1024.0), &json!("MB/s"))
        );
        assert_eq!(told["ratios"][0]["ratio"], 0.5);
        assert_eq!(told["doubt"], Value::Null);
    }

    #[test]
    fn a_disk_that_is_none_or_that_the_cache_stands_before_is_told() {
        assert!(report(3.0, true).told(false).contains("--dir"));
        assert!(report(50.0, false).told(false).contains("cache"));
    }
}
