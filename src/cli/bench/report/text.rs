//! A report as a person reads it.

use super::super::figures::{grouped, line, megabytes, millis, per_s};
use super::super::meter::Measured;
use super::Report;
use crate::cli::progress::per_second;

impl Report {
    /// What was asked for, and where.
    fn head(&self) -> String {
        let (topic, quorum) = (&self.topic, &self.quorum);
        let place = if self.is_of_messages() {
            format!("topic     {topic}, quorum {quorum}, fsync before the ack")
        } else {
            format!("topics    {}, quorum {quorum}", self.topics_made())
        };
        let mut text = format!("bench {}\n  {place}\n  load      {}", self.name, self.load);
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

    pub(super) fn text(&self) -> String {
        let mut text = self.head();
        if let Some(measured) = &self.figure {
            text += &self.result(measured);
        }
        for (name, times) in &self.latencies {
            let label = format!("{name} ms");
            text += &format!("\n  {label:<9} {}", line(times));
            if let Some(ratio) = self.of_sync(name, times) {
                text += &match ratio {
                    ..1.0 => "  (below the disk's: it was slower when it was probed)".to_owned(),
                    _ => format!("  (p50 is {ratio:.1} times the disk's)"),
                };
            }
        }
        if self.is_of_messages() {
            text += &format!("\n  verified  {}", self.verified());
        } else if self.kept.is_some() {
            text += &format!("\n  kept      {}", self.kept_topics());
        }
        if self.is_interrupted || self.failure.is_some() {
            text += "\n  not ended: this is what was measured so far";
        }
        text + "\n"
    }

    fn result(&self, measured: &Measured) -> String {
        let (counted, count) = (measured.counted, measured.count);
        let seconds = measured.took.as_secs_f64();
        let mut text = format!(
            "\n  result    {} {}",
            grouped(per_second(count, seconds)),
            counted.per_second()
        );
        if counted.are_messages() {
            let each = per_s(megabytes(measured.bytes), seconds);
            text += &format!(", {each:.1} MB/s");
        }
        let (count, what) = (grouped(count), counted.name());
        text += &format!("  ({count} {what} in {seconds:.2} s");
        if let Some(ratio) = self.of_disk() {
            text += &format!(", {:.1} % of what the disk writes", ratio * 100.0);
        }
        text + ")"
    }

    /// The names of the topics that were made. They are asked for in order, and what was asked for is waited for.
    fn topics_made(&self) -> String {
        let base = &self.topic;
        match self.figure.as_ref().map_or(0, |it| it.count) {
            0 | 1 => format!("{base}-0"),
            count => format!("{base}-0 … {base}-{}", count - 1),
        }
    }

    /// What can be done with topics that stay.
    fn kept_topics(&self) -> String {
        let base = &self.topic;
        let usable = self.figure.as_ref().map_or(0, |it| it.count.min(1000));
        let (stay, flags) = match usable {
            0 | 1 => ("stays", format!("--topic {base}-0")),
            count => ("stay", format!("--topic {base} --topics {count}")),
        };
        format!(
            "{} {stay}; `ledgerline bench publish {flags}` publishes there",
            self.topics_made()
        )
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
}
