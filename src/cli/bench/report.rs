//! What was measured, for people and for programs.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use types::ByteSize;

use crate::cli::client;
use crate::cli::produce::to_f64;
use crate::cli::progress::per_second;

/// The percentiles that are shown.
const PERCENTILES: [(&str, f64); 5] = [
    ("p50", 50.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("p99.99", 99.99),
];

/// A histogram of times in nanoseconds.
pub(super) fn histogram() -> Histogram<u64> {
    // From a nanosecond to ten minutes; what is longer counts as that.
    Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("the bounds are in order")
}

/// Adds a time.
pub(super) fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

/// One bench.
#[derive(Debug)]
pub(super) struct Report {
    name: String,
    topic: String,
    quorum: String,
    probe: Histogram<u64>,
    settings: Vec<(&'static str, Value)>,
    messages: u64,
    bytes: u64,
    seconds: f64,
    latencies: Vec<(&'static str, Histogram<u64>)>,
}

impl Report {
    pub(super) fn new(name: &str, topic: &str, quorum: &str, probe: Histogram<u64>) -> Self {
        Self {
            name: name.to_owned(),
            topic: topic.to_owned(),
            quorum: quorum.to_owned(),
            probe,
            settings: Vec::new(),
            messages: 0,
            bytes: 0,
            seconds: 0.0,
            latencies: Vec::new(),
        }
    }

    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        self.settings.push((name, value));
    }

    pub(super) const fn throughput(&mut self, messages: u64, bytes: u64, took: Duration) {
        self.messages = messages;
        self.bytes = bytes;
        self.seconds = took.as_secs_f64();
    }

    pub(super) fn latency(&mut self, name: &'static str, histogram: Histogram<u64>) {
        self.latencies.push((name, histogram));
    }

    /// What is known before the load begins.
    pub(super) fn head(&self) -> String {
        format!(
            "bench {}  topic {}, durability fsync before the ack, quorum {}\ndisk probe  4 KiB + fdatasync, ms: {}",
            self.name,
            self.topic,
            self.quorum,
            line(&self.probe)
        )
    }

    pub(super) fn print(&self, as_json: bool) {
        let text = if as_json {
            format!("{:#}\n", self.json())
        } else {
            self.text()
        };
        client::print(&text);
    }

    fn text(&self) -> String {
        let settings = self.settings.iter();
        let settings = settings.map(|(name, value)| match value {
            Value::String(text) => format!("{name} {text}"),
            other => format!("{name} {other}"),
        });
        let is_some = self.seconds > 0.0;
        let rate = if is_some {
            per_second(self.messages, self.seconds)
        } else {
            0
        };
        let bytes = ByteSize::new(if is_some {
            per_second(self.bytes, self.seconds)
        } else {
            0
        });
        let mut text = format!(
            "load        {}\nthroughput  {rate} messages/s, {bytes}/s ({} messages in {:.2} s)\n",
            settings.collect::<Vec<_>>().join(", "),
            self.messages,
            self.seconds
        );
        for (name, histogram) in &self.latencies {
            text.push_str(&format!("{name:<10}  ms: {}\n", line(histogram)));
        }
        text
    }

    fn json(&self) -> Value {
        let latencies = self.latencies.iter();
        let latencies: Map<String, Value> = latencies
            .map(|(name, one)| ((*name).to_owned(), percentiles(one)))
            .collect();
        let settings = self.settings.iter();
        let settings: Map<String, Value> = settings
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        json!({
            "bench": self.name,
            "topic": self.topic,
            "durability": "fsync before the ack",
            "quorum": self.quorum,
            "disk_probe_ms": percentiles(&self.probe),
            "load": settings,
            "messages": self.messages,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "messages_per_second": if self.seconds > 0.0 { to_f64(self.messages) / self.seconds } else { 0.0 },
            "latency_ms": latencies,
        })
    }
}

fn millis(nanos: u64) -> f64 {
    to_f64(nanos) / 1e6
}

fn line(histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return "nothing measured".to_owned();
    }
    let mut parts: Vec<String> = PERCENTILES
        .iter()
        .map(|(name, at)| format!("{name} {:.3}", millis(histogram.value_at_percentile(*at))))
        .collect();
    parts.push(format!("max {:.3}", millis(histogram.max())));
    parts.join("  ")
}

fn percentiles(histogram: &Histogram<u64>) -> Value {
    let mut all: Map<String, Value> = PERCENTILES
        .iter()
        .map(|(name, at)| {
            (
                (*name).to_owned(),
                json!(millis(histogram.value_at_percentile(*at))),
            )
        })
        .collect();
    all.insert("max".to_owned(), json!(millis(histogram.max())));
    all.insert("mean".to_owned(), json!(histogram.mean() / 1e6));
    all.insert("count".to_owned(), json!(histogram.len()));
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_milliseconds() {
        let mut some = histogram();
        for micros in 1..=1000 {
            record(&mut some, Duration::from_micros(micros));
        }
        let told = percentiles(&some);
        let near = |name: &str, expected: f64| {
            let value = told[name].as_f64().unwrap();
            assert!(
                (value - expected).abs() < expected / 100.0,
                "{name} {value}"
            );
        };
        near("p50", 0.5);
        near("p99", 0.99);
        near("max", 1.0);
        assert_eq!(told["count"], 1000);
        assert!(line(&some).starts_with("p50 0.5"));
        assert_eq!(line(&histogram()), "nothing measured");
    }
}
