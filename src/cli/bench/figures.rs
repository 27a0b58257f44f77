//! Figures as people and programs read them.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::cli::produce::to_f64;

/// The percentiles that are told: for people, for programs.
const PERCENTILES: [(&str, &str, f64); 4] = [
    ("p50", "p50_us", 50.0),
    ("p90", "p90_us", 90.0),
    ("p99", "p99_us", 99.0),
    ("p99.9", "p999_us", 99.9),
];

/// `1 producer`, `2 producers`.
pub(super) fn counted(count: u32, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

/// `1,234,567`.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Millions of bytes.
pub(super) fn megabytes(bytes: u64) -> f64 {
    to_f64(bytes) / 1e6
}

/// A value by seconds; zero in no time.
pub(super) fn per_s(value: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { value / seconds } else { 0.0 }
}

/// Nanoseconds as milliseconds.
pub(super) fn millis(nanos: u64) -> f64 {
    to_f64(nanos) / 1e6
}

/// Percentiles for people, in milliseconds.
pub(super) fn line(times: &Histogram<u64>) -> String {
    if times.is_empty() {
        return "nothing measured".to_owned();
    }
    let mut parts: Vec<String> = PERCENTILES
        .iter()
        .map(|(name, _, at)| format!("{name} {:.3}", millis(times.value_at_percentile(*at))))
        .collect();
    parts.push(format!("max {:.3}", millis(times.max())));
    parts.join("  ")
}

/// Percentiles for programs, in microseconds; nulls where nothing was timed.
pub(super) fn percentiles(times: &Histogram<u64>) -> Value {
    let micros = |nanos: u64| (!times.is_empty()).then(|| to_f64(nanos) / 1e3);
    let mut all: Map<String, Value> = PERCENTILES
        .iter()
        .map(|(_, name, at)| {
            let value = micros(times.value_at_percentile(*at));
            ((*name).to_owned(), json!(value))
        })
        .collect();
    all.insert("max_us".to_owned(), json!(micros(times.max())));
    let mean = (!times.is_empty()).then(|| times.mean() / 1e3);
    all.insert("mean_us".to_owned(), json!(mean));
    all.insert("count".to_owned(), json!(times.len()));
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::meter::{histogram, record};
    use super::*;

    #[test]
    fn percentiles_are_microseconds_for_programs_and_milliseconds_for_people() {
        let mut some = histogram();
        for micros in 1..=1000 {
            record(&mut some, Duration::from_micros(micros));
        }
        let told = percentiles(&some);
        let near = |name: &str, expected: f64| {
            let value = told[name].as_f64().unwrap();
            let off = (value - expected).abs();
            assert!(off < expected / 100.0, "{name} {value}");
        };
        near("p50_us", 500.0);
        near("p99_us", 990.0);
        near("max_us", 1000.0);
        assert_eq!(told["count"], 1000);
        assert!(line(&some).starts_with("p50 0.5"));
        assert_eq!(line(&histogram()), "nothing measured");
        assert_eq!(percentiles(&histogram())["p50_us"], Value::Null);
    }

    #[test]
    fn thousands_are_grouped() {
        let all = [0, 7, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
    }
}
