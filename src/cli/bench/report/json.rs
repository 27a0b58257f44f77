//! A report as a program reads it.

use serde_json::{Map, Value, json};

use super::super::figures::{megabytes, per_s, percentiles};
use super::Report;
use crate::cli::produce::to_f64;

impl Report {
    pub(super) fn json(&self) -> Value {
        let mut all = Map::new();
        let mut put = |name: &str, value: Value| {
            all.insert(name.to_owned(), value);
        };
        put("bench", json!(self.name));
        put("topic", json!(self.topic));
        put("quorum", json!(self.quorum));
        for (name, value) in &self.settings {
            put(name, value.clone());
        }
        if let Some(measured) = &self.figure {
            let seconds = measured.took.as_secs_f64();
            let rate = json!(per_s(to_f64(measured.count), seconds));
            put("counted", json!(measured.counted.name()));
            put("count", json!(measured.count));
            put("seconds", json!(seconds));
            if measured.counted.are_messages() {
                put("messages_per_s", rate);
                put("bytes", json!(measured.bytes));
                put("mb_per_s", json!(per_s(megabytes(measured.bytes), seconds)));
            } else {
                put("topics_per_s", rate);
            }
        }
        for (name, times) in &self.latencies {
            put(name, percentiles(times));
        }
        put("interrupted", json!(self.is_interrupted));
        put("error", json!(self.failure));
        if self.is_of_messages() {
            self.put_of_messages(put);
        }
        Value::Object(all)
    }

    /// What only messages have.
    fn put_of_messages(&self, mut put: impl FnMut(&str, Value)) {
        put("durability", json!("fsync before the ack"));
        let probe = self.probe.as_ref().map(|probe| {
            json!({
                "dir": probe.dir,
                "is_direct": probe.is_direct,
                "sync_4kib": percentiles(&probe.syncs),
                "write_1mib_mb_per_s": probe.bytes_per_second / 1e6,
            })
        });
        put("probe", json!(probe));
        let acks = self.latencies.iter().find(|(name, _)| *name == "ack");
        let of_sync = acks.and_then(|(name, times)| self.of_sync(name, times));
        put("ack_p50_of_probe_p50", json!(of_sync));
        put("mb_per_s_of_probe", json!(self.of_disk()));
        let verdict = &self.verdict;
        put("verified", json!(verdict.verified));
        put("lost", json!(verdict.lost));
        put("doubled", json!(verdict.doubled));
        put("out_of_order", json!(verdict.out_of_order));
        put("corrupted", json!(verdict.corrupted));
        put("redelivered", json!(verdict.redelivered));
        put("foreign", json!(verdict.foreign));
        put("acks_refused", json!(self.acks_refused));
    }
}
