//! What was measured. `text`: for people, `json`: for programs.

mod json;
mod text;

use anyhow::bail;
use hdrhistogram::Histogram;
use ledgerline_client::Codec;
use serde_json::{Value, json};

use super::figures::{counted, grouped, per_s};
use super::meter::Measured;
use super::probe::Probe;
use super::publish::{Load, Way};
use super::read::Waited;
use super::topics::Making;
use super::verify::Verdict;
use crate::cli::client;
use crate::cli::produce::to_f64;
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
    figure: Option<Measured>,
    latencies: Vec<(&'static str, Histogram<u64>)>,
    verdict: Verdict,
    is_read: bool,
    is_in_vain: bool,
    acks_refused: u64,
    is_interrupted: bool,
    /// Why it ended early.
    failure: Option<String>,
    /// The first topic, where those of the run stay.
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

    /// The topics stay, of which this is the first.
    pub(super) fn keeps(&mut self, first: &str) {
        self.kept = Some(first.to_owned());
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

    /// Topics are made, and nothing is published.
    pub(super) fn describe_topics(&mut self, making: Making) {
        let Making { count, at_once, .. } = making;
        self.set("topics", json!(count));
        self.set("at_once", json!(at_once));
        let pace = match at_once {
            1 => "one at a time".to_owned(),
            _ => format!("{} at a time", grouped(at_once.into())),
        };
        self.load = format!("{} new topics, {pace}", grouped(count.into()));
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

    pub(super) fn figure(&mut self, measured: Measured) {
        self.figure = Some(measured);
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

    /// Whether messages are what was measured.
    fn is_of_messages(&self) -> bool {
        let measured = self.figure.as_ref();
        measured.is_none_or(|it| it.counted.are_messages())
    }

    /// Whether there is anything to tell.
    pub(super) const fn has_figure(&self) -> bool {
        self.figure.is_some()
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

    /// The part of what the disk writes that was published; none where something else was measured.
    fn of_disk(&self) -> Option<f64> {
        let measured = self.figure.as_ref().filter(|_| self.name == "publish")?;
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

    use super::super::meter::{Counted, histogram, record};
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
            counted: Counted::Messages,
            count: 1_000_000,
            bytes: 1_000_000_000,
            took: Duration::from_secs(10),
            times,
        };
        report.figure(measured);
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
    fn of_topics_nothing_is_told_that_only_messages_have() {
        let mut report = Report::new("topics", "t", None);
        report.quorum("3/2".to_owned());
        report.describe_topics(Making {
            count: 3_000,
            at_once: 2,
            timeout: Duration::ZERO,
        });
        let mut times = histogram();
        record(&mut times, Duration::from_millis(3));
        report.latency("create", times.clone());
        report.figure(Measured {
            counted: Counted::Topics,
            count: 3_000,
            bytes: 0,
            took: Duration::from_secs(10),
            times,
        });
        let deleted = "bench topics
  topics    t-0 … t-2999, quorum 3/2
  load      3,000 new topics, 2 at a time
  result    300 topics/s  (3,000 topics in 10.00 s)
  create ms p50 3.000  p90 3.000  p99 3.000  p99.9 3.000  max 3.000
";
        let rounded = |text: String| text.replace("3.001", "3.000");
        assert_eq!(rounded(report.text()), deleted);
        let told = report.json();
        let names: Vec<&String> = told.as_object().unwrap().keys().collect();
        let mut expected = [
            "bench",
            "topic",
            "quorum",
            "topics",
            "at_once",
            "counted",
            "count",
            "seconds",
            "topics_per_s",
            "create",
            "interrupted",
            "error",
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!(told["topics_per_s"], 300.0);
        report.keeps("t-0");
        report.interrupted();
        let kept = "
  kept      t-0 … t-2999 stay; `ledgerline bench publish --topic t --topics 1000` publishes there
  not ended: this is what was measured so far
";
        assert!(report.text().ends_with(kept), "{}", report.text());
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
