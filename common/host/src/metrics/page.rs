//! The page that is shown: Prometheus' text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Histogram;

/// Numbers as they stand at one moment, by name. Its text is what is shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    families: BTreeMap<&'static str, Family>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Family {
    kind: Kind,
    help: &'static str,
    /// By their labels, as they are written.
    samples: BTreeMap<String, Sample>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Sample {
    Whole(u64),
    Seconds(Duration),
    Buckets {
        bounds: &'static [Duration],
        counts: Vec<u64>,
        sum: Duration,
    },
}

impl Page {
    /// Writes a number that only grows. Its name ends in `_total`.
    ///
    /// # Panics
    ///
    /// When the name was written as something of another kind, or does not end so.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: u64,
    ) {
        assert!(name.ends_with("_total"), "the name of a counter says so");
        self.add(Kind::Counter, name, help, labels, Sample::Whole(value));
    }

    /// Writes a number of things.
    ///
    /// # Panics
    ///
    /// When the name was written as something of another kind.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: u64,
    ) {
        self.add(Kind::Gauge, name, help, labels, Sample::Whole(value));
    }

    /// Writes seconds that are no whole number. Their name ends in `_seconds`.
    ///
    /// # Panics
    ///
    /// As [`Page::gauge`].
    pub fn seconds(&mut self, name: &'static str, help: &'static str, value: Duration) {
        self.add(Kind::Gauge, name, help, &[], Sample::Seconds(value));
    }

    /// Writes how long things took. The name ends in `_seconds`.
    ///
    /// # Panics
    ///
    /// When the name was written as something of another kind, or with other bounds.
    pub fn histogram(&mut self, name: &'static str, help: &'static str, value: &Histogram) {
        let buckets = Sample::Buckets {
            bounds: value.bounds(),
            counts: value.counts(),
            sum: value.sum(),
        };
        self.add(Kind::Histogram, name, help, &[], buckets);
    }

    fn add(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        sample: Sample,
    ) {
        let family = self.families.entry(name).or_insert_with(|| Family {
            kind,
            help,
            samples: BTreeMap::new(),
        });
        assert!(family.kind == kind, "one name is of one kind");
        match family.samples.entry(label_text(labels)) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(sample);
            }
            std::collections::btree_map::Entry::Occupied(mut known) => known.get_mut().join(sample),
        }
    }
}

impl Sample {
    fn join(&mut self, other: Self) {
        match (self, other) {
            (Self::Whole(sum), Self::Whole(more)) => *sum = sum.saturating_add(more),
            (Self::Seconds(sum), Self::Seconds(more)) => *sum = sum.saturating_add(more),
            (
                Self::Buckets {
                    bounds,
                    counts,
                    sum,
                },
                Self::Buckets {
                    bounds: same,
                    counts: more,
                    sum: longer,
                },
            ) => {
                assert!(*bounds == same, "one name has the same bounds");
                *sum = sum.saturating_add(longer);
                for (count, more) in counts.iter_mut().zip(more) {
                    *count += more;
                }
            }
            _ => unreachable!("one name is of one kind"),
        }
    }
}

/// To the nanosecond, without zeros at the end.
fn seconds(value: Duration) -> String {
    let text = format!("{}.{:09}", value.as_secs(), value.subsec_nanos());
    let text = text.trim_end_matches('0');
    text.strip_suffix('.').unwrap_or(text).to_owned()
}

/// `a="1",b="2"`, in the order given.
fn label_text(labels: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        let value = value.replace('\\', r"\\");
        let value = value.replace('"', "\\\"").replace('\n', r"\n");
        text.push_str(&format!("{name}=\"{value}\""));
    }
    text
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, family) in &self.families {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let help = family.help.replace('\\', r"\\").replace('\n', r"\n");
            writeln!(f, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
            for (labels, sample) in &family.samples {
                sample.write(f, name, labels)?;
            }
        }
        Ok(())
    }
}

impl Sample {
    fn write(&self, f: &mut fmt::Formatter<'_>, name: &str, labels: &str) -> fmt::Result {
        let braced = |labels: &str| match labels {
            "" => String::new(),
            some => format!("{{{some}}}"),
        };
        match self {
            Self::Whole(value) => writeln!(f, "{name}{} {value}", braced(labels)),
            Self::Seconds(value) => writeln!(f, "{name}{} {}", braced(labels), seconds(*value)),
            Self::Buckets {
                bounds,
                counts,
                sum,
            } => {
                let comma = if labels.is_empty() { "" } else { "," };
                let texts = bounds.iter().map(|bound| seconds(*bound));
                let texts = texts.chain(std::iter::once("+Inf".to_owned()));
                let mut below = 0;
                for (count, bound) in counts.iter().zip(texts) {
                    below += count;
                    let labels = format!("{labels}{comma}le=\"{bound}\"");
                    writeln!(f, "{name}_bucket{{{labels}}} {below}")?;
                }
                let labels = braced(labels);
                writeln!(f, "{name}_sum{labels} {}", seconds(*sum))?;
                writeln!(f, "{name}_count{labels} {below}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_written_as_the_format_wants_it() {
        const BOUNDS: &[Duration] = &[Duration::from_micros(2_500), Duration::from_secs(1)];
        let took = Histogram::new(BOUNDS);
        took.record(Duration::from_millis(1));
        took.record(Duration::from_secs(2));
        let mut page = Page::default();
        page.histogram("took_seconds", "How long.", &took);
        page.counter("b_total", "Back\\slash\nline.", &[("k", "x\"y\\z\n")], 7);
        page.counter(
            "b_total",
            "Back\\slash\nline.",
            &[("k", "a"), ("l", "b")],
            1,
        );
        page.seconds("a_seconds", "Time.", Duration::from_millis(1_500));
        assert_eq!(
            page.to_string(),
            r##"# HELP a_seconds Time.
# TYPE a_seconds gauge
a_seconds 1.5
# HELP b_total Back\\slash\nline.
# TYPE b_total counter
b_total{k="a",l="b"} 1
b_total{k="x\"y\\z\n"} 7
# HELP took_seconds How long.
# TYPE took_seconds histogram
took_seconds_bucket{le="0.0025"} 1
took_seconds_bucket{le="1"} 1
took_seconds_bucket{le="+Inf"} 2
took_seconds_sum 2.001
took_seconds_count 2
"##
        );
    }

    #[test]
    fn what_two_sources_tell_is_added_up() {
        let took = Histogram::default();
        took.record(Duration::from_secs(3));
        let mut page = Page::default();
        for _ in 0..2 {
            page.histogram("took_seconds", "How long.", &took);
            page.counter("done_total", "Done.", &[], 4);
            page.seconds("age_seconds", "Age.", Duration::from_secs(1));
        }
        let text = page.to_string();
        for line in [
            "took_seconds_count 2",
            "took_seconds_sum 6",
            "done_total 8",
            "age_seconds 2",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn seconds_are_exact() {
        for (nanos, text) in [
            (0, "0"),
            (1, "0.000000001"),
            (100_000, "0.0001"),
            (10_000_000_000, "10"),
            (1_904_092_901, "1.904092901"),
        ] {
            assert_eq!(seconds(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    #[should_panic(expected = "of one kind")]
    fn a_name_of_two_kinds_is_a_defect() {
        let mut page = Page::default();
        page.gauge("x_total", "X.", &[], 1);
        page.counter("x_total", "X.", &[], 1);
    }
}
