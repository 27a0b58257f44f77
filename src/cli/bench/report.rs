//! What was measured, for people and for programs.

use anyhow::bail;
use hdrhistogram::Histogram;
use ledgerline_client::Codec;
use serde_json::{Map, Value, json};

use super::figures::{counted, grouped, line, megabytes, millis, per_s, percentiles};
use super::meter::Measured;
use super::probe::Probe;
use super::publish::{Load, Way};
use super::read::Waited;
use super::verify::Verdict;
use crate::cli::client;
use crate::cli::produce::to_f64;
use crate::cli::progress::per_second;
use crate::terminal::Interrupted;

/// Settings of what is published.
const PUBLISHED: [&str; 11] = [
    "message_bytes",
    "compressible_percent",
    "compression",
    "producers",
    "tasks",
    "unary",
    "outstanding",
    "rate_per_s",
    "batch_bytes",
    "in_flight",
    "warmup_s",
];

/// One bench.
#[derive(Debug)]
pub(super) struct Report {
    name: &'static str,
    topic: String,
    quorum: String,
    probe: Option<Probe>,
    /// What was asked for, in words.
    load: String,
    settings: Vec<(&'static str, Value)>,
    /// Messages wait for room in the producer: latency is no property of a disk then.
    is_queued: bool,
    /// What is counted, and what was.
    figure: Option<(&'static str, Measured)>,
    latencies: Vec<(&'static str, Histogram<u64>)>,
    verdict: Verdict,
    is_read: bool,
    is_in_vain: bool,
    acks_refused: u64,
    is_interrupted: bool,
    /// Why it ended early.
    failure: Option<String>,
    /// The topic that stays and can be read.
    kept: Option<String>,
}

impl Report {
    pub(super) fn new(name: &'static str, topic: &str, probe: Option<Probe>) -> Self {
        Self {
            name,
            topic: topic.to_owned(),
            quorum: String::new(),
            probe,
            load: String::new(),
            settings: Vec::new(),
            is_queued: false,
            figure: None,
            latencies: Vec::new(),
            verdict: Verdict::default(),
            is_read: false,
            is_in_vain: false,
            acks_refused: 0,
            is_interrupted: false,
            failure: None,
            kept: None,
        }
    }

    /// The quorum of the topic.
    pub(super) fn quorum(&mut self, quorum: String) {
        self.quorum = quorum;
    }

    /// The topic stays, for others to read.
    pub(super) fn keeps(&mut self, topic: &str) {
        self.kept = Some(topic.to_owned());
    }

    /// Something that was asked for, for programs.
    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        self.settings.push((name, value));
    }

    /// What is published.
    pub(super) fn describe(&mut self, load: &Load, more: &str) {
        let (tasks, unary, outstanding) = match load.way {
            Way::Stream { outstanding } => (None, false, outstanding),
            Way::Tasks(tasks) => (Some(tasks), false, None),
            Way::Unary => (None, true, None),
        };
        self.is_queued = matches!(load.way, Way::Stream { .. }) && load.rate.is_none();
        self.set("message_bytes", json!(load.size.get()));
        self.set("compressible_percent", json!(load.compressible));
        self.set("compression", json!(load.codec.map(Codec::name)));
        self.set("producers", json!(load.producers));
        self.set("topics", json!(load.topics));
        self.set("tasks", json!(tasks));
        self.set("unary", json!(unary));
        self.set("outstanding", json!(outstanding));
        self.set("rate_per_s", json!(load.rate));
        self.set("batch_bytes", json!(load.batching.batch.get()));
        self.set("in_flight", json!(load.batching.in_flight));
        self.set("warmup_s", json!(load.warmup.as_secs_f64()));
        let producers = counted(load.producers, "producer");
        let topics = counted(load.topics, "topic");
        let in_flight = load.batching.in_flight;
        let way = match load.way {
            Way::Tasks(1) => "one message at a time".to_owned(),
            Way::Tasks(tasks) => format!("{tasks} tasks each that wait for each ack"),
            Way::Unary => format!("unary calls, {in_flight} in flight"),
            Way::Stream { outstanding } => {
                let batch = load.batching.batch;
                let most = outstanding.map(|most| format!(", {most} messages outstanding"));
                let most = most.unwrap_or_default();
                format!("batches up to {batch}, {in_flight} in flight{most}")
            }
        };
        let pace = match load.rate {
            Some(rate) => format!("{} msg/s", grouped(rate.into())),
            None => "closed loop".to_owned(),
        };
        let size = load.size;
        let zeros = match load.compressible {
            0 => String::new(),
            percent => format!(", {percent} % of their noise zeros"),
        };
        let codec = load.codec.map(|codec| format!(", compressed by {codec}"));
        let codec = codec.unwrap_or_default();
        self.load =
            format!("{size} messages{zeros}{codec}, {producers}, {topics}, {way}, {pace}{more}");
    }

    /// Nothing is published: the topic holds `messages` that are read.
    pub(super) fn found(&mut self, messages: u64, more: &str) {
        for (name, value) in &mut self.settings {
            if PUBLISHED.contains(name) {
                *value = Value::Null;
            }
        }
        self.load = format!("{} messages that were there{more}", grouped(messages));
    }

    pub(super) fn figure(&mut self, counted: &'static str, measured: Measured) {
        self.figure = Some((counted, measured));
    }

    pub(super) fn latency(&mut self, name: &'static str, times: Histogram<u64>) {
        self.latencies.push((name, times));
    }

    pub(super) const fn acks_refused(&mut self, count: u64) {
        self.acks_refused = count;
    }

    /// What became of what was read.
    pub(super) fn verdict(&mut self, verdict: Verdict, waited: Waited) {
        self.verdict = verdict;
        self.is_read = true;
        self.is_in_vain = waited == Waited::InVain;
    }

    pub(super) const fn interrupted(&mut self) {
        self.is_interrupted = true;
    }

    /// It ended early, for this reason.
    pub(super) fn failed(&mut self, error: &anyhow::Error) {
        self.failure = Some(error.to_string());
    }

    /// Whether there is anything to tell.
    pub(super) const fn has_figure(&self) -> bool {
        self.figure.is_some()
    }

    /// What was asked for, and where.
    fn head(&self) -> String {
        let topic = &self.topic;
        let mut text = format!(
            "bench {}\n  topic     {topic}, quorum {}, fsync before the ack\n  load      {}",
            self.name, self.quorum, self.load
        );
        if let Some(probe) = &self.probe {
            let at = |percentile| millis(probe.syncs.value_at_percentile(percentile));
            let way = if probe.is_direct { "" } else { ", buffered" };
            text += &format!(
                "\n  disk      4 KiB write + fdatasync p50 {:.3} ms, p99 {:.3} ms: no ack can be faster; 1 MiB writes {:.0} MB/s  ({}{way})",
                at(50.0),
                at(99.0),
                probe.bytes_per_second / 1e6,
                probe.dir
            );
            if let Some(doubt) = probe.doubt() {
                text += &format!("\n            {doubt}");
            }
        }
        text
    }

    pub(super) fn print(&self, as_json: bool) {
        let text = if as_json {
            format!("{:#}\n", self.json())
        } else {
            self.text()
        };
        client::print(&text);
    }

    /// Whether what was read is not what was published.
    pub(super) fn has_complaint(&self) -> bool {
        self.verdict.complaint().is_some()
    }

    /// Whether all is well: how the command ends.
    pub(super) fn outcome(&self) -> anyhow::Result<()> {
        if let Some(complaint) = self.verdict.complaint() {
            bail!("{complaint}; of topic {}", self.topic);
        }
        if self.is_in_vain {
            bail!(
                "nothing came for as long as --timeout says, and not all was read and acked; `ledgerline cluster status` tells what is wrong"
            );
        }
        if self.is_interrupted {
            let text = "what was measured so far is told".to_owned();
            return Err(Interrupted(text).into());
        }
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = self.head();
        if let Some((counted, measured)) = &self.figure {
            let seconds = measured.took.as_secs_f64();
            text += &format!(
                "\n  result    {} msg/s, {:.1} MB/s  ({} {counted} in {seconds:.2} s{})",
                grouped(per_second(measured.messages, seconds)),
                per_s(megabytes(measured.bytes), seconds),
                grouped(measured.messages),
                self.of_disk()
                    .map(|ratio| format!(", {:.1} % of what the disk writes", ratio * 100.0))
                    .unwrap_or_default()
            );
        }
        for (name, times) in &self.latencies {
            let label = format!("{name} ms");
            text += &format!("\n  {label:<8}  {}", line(times));
            if let Some(ratio) = self.of_sync(name, times) {
                text += &match ratio {
                    ..1.0 => "  (below the disk's: it was slower when it was probed)".to_owned(),
                    _ => format!("  (p50 is {ratio:.1} times the disk's)"),
                };
            }
        }
        text += &format!("\n  verified  {}", self.verified());
        if self.is_interrupted || self.failure.is_some() {
            text += "\n  not ended: this is what was measured so far";
        }
        text + "\n"
    }

    fn verified(&self) -> String {
        if !self.is_read {
            return match &self.kept {
                Some(topic) => format!(
                    "nothing was read; `ledgerline bench catchup --topic {topic}` reads and checks it"
                ),
                None => {
                    "nothing was read; e2e, catchup, fanout and shared read and check".to_owned()
                }
            };
        }
        let verdict = &self.verdict;
        let mut text = format!(
            "{} messages read: {} lost, {} doubled, {} out of order, {} corrupted",
            grouped(verdict.verified),
            verdict.lost,
            verdict.doubled,
            verdict.out_of_order,
            verdict.corrupted
        );
        let rare = [
            (verdict.redelivered, "delivered again"),
            (verdict.foreign, "of others"),
            (self.acks_refused, "acks refused"),
        ];
        for (count, what) in rare.iter().filter(|(count, _)| *count > 0) {
            text += &format!("; {count} {what}");
        }
        text
    }

    fn json(&self) -> Value {
        let mut all = Map::new();
        let mut put = |name: &str, value: Value| {
            all.insert(name.to_owned(), value);
        };
        put("bench", json!(self.name));
        put("topic", json!(self.topic));
        put("quorum", json!(self.quorum));
        put("durability", json!("fsync before the ack"));
        for (name, value) in &self.settings {
            put(name, value.clone());
        }
        let measured = self.figure.as_ref();
        let (counted, messages, bytes, seconds) = measured
            .map(|(counted, it)| (*counted, it.messages, it.bytes, it.took.as_secs_f64()))
            .unwrap_or_default();
        put("counted", json!(counted));
        put("count", json!(messages));
        put("bytes", json!(bytes));
        put("seconds", json!(seconds));
        put("messages_per_s", json!(per_s(to_f64(messages), seconds)));
        put("mb_per_s", json!(per_s(megabytes(bytes), seconds)));
        for (name, times) in &self.latencies {
            put(name, percentiles(times));
        }
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
        put("interrupted", json!(self.is_interrupted));
        put("error", json!(self.failure));
        Value::Object(all)
    }

    /// The part of what the disk writes that was published; none where something else was measured.
    fn of_disk(&self) -> Option<f64> {
        let (_, measured) = self.figure.as_ref().filter(|_| self.name == "publish")?;
        let rate = per_s(to_f64(measured.bytes), measured.took.as_secs_f64());
        Some(rate / self.probe.as_ref()?.bytes_per_second)
    }

    /// How many syncs of the disk an ack takes at the median; none where it waits for others most of the time.
    fn of_sync(&self, name: &str, times: &Histogram<u64>) -> Option<f64> {
        let sync = self.probe.as_ref()?.syncs.value_at_percentile(50.0);
        let is_known = !times.is_empty() && sync > 0;
        (name == "ack" && !self.is_queued && is_known)
            .then(|| to_f64(times.value_at_percentile(50.0)) / to_f64(sync))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::meter::{histogram, record};
    use super::*;

    fn report() -> Report {
        let mut syncs = histogram();
        record(&mut syncs, Duration::from_micros(100));
        let probe = Probe {
            dir: "/journal".to_owned(),
            is_direct: true,
            syncs,
            bytes_per_second: 500e6,
        };
        let mut report = Report::new("publish", "t", Some(probe));
        report.quorum("3/2".to_owned());
        let mut times = histogram();
        record(&mut times, Duration::from_micros(400));
        report.latency("ack", times.clone());
        let measured = Measured {
            messages: 1_000_000,
            bytes: 1_000_000_000,
            took: Duration::from_secs(10),
            times,
        };
        report.figure("messages", measured);
        report
    }

    #[test]
    fn figures_stand_beside_what_the_disk_allows() {
        let report = report();
        let text = report.text();
        for part in [
            "quorum 3/2",
            "100,000 msg/s, 100.0 MB/s  (1,000,000 messages in 10.00 s, 20.0 % of what the disk writes)",
            "p50 is 4.0 times the disk's",
            "no ack can be faster",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json = report.json();
        let near = |name: &str, expected: f64| {
            let value = json[name].as_f64().unwrap();
            assert!((value / expected - 1.0).abs() < 0.01, "{name} {value}");
        };
        near("mb_per_s_of_probe", 0.2);
        near("ack_p50_of_probe_p50", 4.0);
        near("messages_per_s", 100_000.0);
    }

    #[test]
    fn an_ack_that_seems_faster_than_the_disk_is_explained() {
        let mut report = report();
        let mut times = histogram();
        record(&mut times, Duration::from_micros(50));
        report.latencies = vec![("ack", times)];
        let text = report.text();
        assert!(text.contains("slower when it was probed"), "{text}");
    }

    #[test]
    fn a_broken_promise_fails_the_command_and_an_interruption_says_so() {
        let mut report = report();
        assert!(report.outcome().is_ok());
        report.interrupted();
        let error = report.outcome().unwrap_err();
        assert!(error.downcast_ref::<Interrupted>().is_some());
        let broken: [fn(&mut Verdict); 4] = [
            |it| it.lost = 1,
            |it| it.doubled = 1,
            |it| it.out_of_order = 1,
            |it| it.corrupted = 1,
        ];
        for breaks in broken {
            let mut verdict = Verdict::default();
            breaks(&mut verdict);
            report.verdict(verdict, Waited::All);
            let error = report.outcome().unwrap_err();
            assert!(error.downcast_ref::<Interrupted>().is_none(), "{error}");
        }
        let redelivered = Verdict {
            redelivered: 1,
            foreign: 1,
            ..Verdict::default()
        };
        report.verdict(redelivered, Waited::All);
        let error = report.outcome().unwrap_err();
        assert!(error.downcast_ref::<Interrupted>().is_some(), "{error}");
        report.verdict(redelivered, Waited::InVain);
        assert!(
            report
                .outcome()
                .unwrap_err()
                .to_string()
                .contains("--timeout")
        );
    }
}
