//! What a bench measured, as a part of what the machine allows.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::rows::{JOURNAL_AND_DATA, READ_2, Row, STREAM, STREAM_TURN, SYNC_DIRECT_P50, Unit};

/// What a bench's figure is held against.
#[derive(Debug, Clone, Copy)]
struct Floor {
    /// The name of the bench.
    bench: &'static str,
    /// Where its figure is in what it printed.
    figure: &'static str,
    /// What a message passes: the least of rates, the sum of times.
    rows: &'static [&'static str],
}

/// The benches that have a floor.
const FLOORS: [Floor; 5] = [
    Floor {
        bench: "publish",
        figure: "/mb_per_s",
        rows: &[JOURNAL_AND_DATA, STREAM],
    },
    Floor {
        bench: "latency",
        figure: "/ack/p50_us",
        rows: &[SYNC_DIRECT_P50, STREAM_TURN],
    },
    Floor {
        bench: "e2e",
        figure: "/e2e/p50_us",
        rows: &[SYNC_DIRECT_P50, STREAM_TURN],
    },
    Floor {
        bench: "catchup",
        figure: "/mb_per_s",
        rows: &[READ_2, STREAM],
    },
    Floor {
        bench: "fanout",
        figure: "/mb_per_s",
        rows: &[STREAM],
    },
];

/// A bench's figure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    floor: Floor,
    value: f64,
}

/// A bench's figure beside its floor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) bench: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: Unit,
    /// What the machine allows.
    pub(crate) floor: f64,
    /// The rows that say so: the one that allows least, or all that are summed.
    pub(crate) by: Vec<&'static str>,
}

impl Ratio {
    /// Of a rate the part of the floor that was reached, of a time how many times the floor it took.
    pub(crate) fn ratio(&self) -> f64 {
        self.value / self.floor.max(f64::MIN_POSITIVE)
    }
}

/// Reads what benches printed, before anything is measured.
///
/// # Errors
///
/// A file that cannot be read, or is not what `ledgerline bench … --json` prints.
pub(crate) fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Figure>> {
    let one = |path: &PathBuf| {
        let text = fs::read_to_string(path).context("it cannot be read")?;
        let printed: Value = serde_json::from_str(&text).context("it is no JSON")?;
        figure(&printed)
    };
    let all = paths.iter().map(|path| {
        let hint = || {
            let path = path.display();
            format!("--against {path} must be what `ledgerline bench … --json` printed")
        };
        one(path).with_context(hint)
    });
    all.collect()
}

fn figure(printed: &Value) -> anyhow::Result<Figure> {
    let name = printed["bench"].as_str().context("it names no bench")?;
    let Some(floor) = FLOORS.into_iter().find(|floor| floor.bench == name) else {
        let known = FLOORS.map(|floor| floor.bench).join(", ");
        bail!("there is a floor for {known} only bench={name:?}");
    };
    if let Some(codec) = printed["compression"].as_str() {
        bail!("there is no floor for what is compressed; bench without --compression {codec}");
    }
    let value = printed.pointer(floor.figure).and_then(Value::as_f64);
    let value = value.with_context(|| format!("there is no number at {}", floor.figure))?;
    Ok(Figure { floor, value })
}

/// Holds figures against what was measured.
pub(crate) fn ratios(rows: &[Row], figures: &[Figure]) -> Vec<Ratio> {
    let figures = figures.iter();
    figures.map(|figure| ratio(rows, figure)).collect()
}

fn ratio(rows: &[Row], figure: &Figure) -> Ratio {
    let of = figure.floor.rows;
    let passed: Vec<&Row> = rows.iter().filter(|row| of.contains(&row.name)).collect();
    let unit = passed.first().expect("every row is measured").unit;
    let least = || {
        let least = passed
            .iter()
            .min_by(|a, b| a.median().total_cmp(&b.median()));
        vec![*least.expect("every row is measured")]
    };
    let by = match unit {
        Unit::MegabytesPerSecond => least(),
        Unit::Micros => passed.clone(),
    };
    Ratio {
        bench: figure.floor.bench,
        value: figure.value,
        unit,
        floor: by.iter().map(|row| row.median()).sum(),
        by: by.iter().map(|row| row.name).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows() -> Vec<Row> {
        let row = |name, unit, median| Row {
            name,
            unit,
            rounds: vec![median],
        };
        vec![
            row(SYNC_DIRECT_P50, Unit::Micros, 50.0),
            row(JOURNAL_AND_DATA, Unit::MegabytesPerSecond, 400.0),
            row(READ_2, Unit::MegabytesPerSecond, 2000.0),
            row(STREAM, Unit::MegabytesPerSecond, 1000.0),
            row(STREAM_TURN, Unit::Micros, 30.0),
        ]
    }

    fn of(printed: &Value) -> Ratio {
        ratio(&rows(), &figure(printed).unwrap())
    }

    #[test]
    fn a_rate_is_held_against_the_part_that_allows_least() {
        let publish = of(&json!({"bench": "publish", "mb_per_s": 300.0}));
        assert_eq!((publish.floor, publish.ratio()), (400.0, 0.75));
        assert_eq!(publish.by, [JOURNAL_AND_DATA]);
        let catchup = of(&json!({"bench": "catchup", "mb_per_s": 500.0}));
        assert_eq!((catchup.floor, catchup.ratio()), (1000.0, 0.5));
        assert_eq!(catchup.by, [STREAM]);
    }

    #[test]
    fn a_time_is_held_against_the_sum_of_what_is_passed() {
        let latency = of(&json!({"bench": "latency", "ack": {"p50_us": 160.0}}));
        assert_eq!((latency.floor, latency.ratio()), (80.0, 2.0));
        assert_eq!(latency.by, [SYNC_DIRECT_P50, STREAM_TURN]);
    }

    #[test]
    fn what_no_bench_with_a_floor_printed_is_refused() {
        for (printed, word) in [
            (json!({"mb_per_s": 1.0}), "no bench"),
            (json!({"bench": "shared", "mb_per_s": 1.0}), "catchup"),
            (json!({"bench": "publish"}), "/mb_per_s"),
            (
                json!({"bench": "publish", "mb_per_s": 1.0, "compression": "lz4"}),
                "without --compression",
            ),
            (
                json!({"bench": "e2e", "e2e": {"p50_us": null}}),
                "/e2e/p50_us",
            ),
        ] {
            let error = figure(&printed).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let error = read(&["/nowhere".into()]).unwrap_err().to_string();
        assert!(error.contains("--against /nowhere"), "{error}");
    }
}
