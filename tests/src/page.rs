//! A strict reader of Prometheus' text format 0.0.4: what it takes, every monitor takes.

use std::collections::BTreeMap;

/// Values by name and sorted labels.
type Samples = BTreeMap<(String, Labels), f64>;
type Labels = Vec<(String, String)>;

/// A page of metrics that was read whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Kinds by family.
    kinds: BTreeMap<String, String>,
    samples: Samples,
}

impl Page {
    /// Reads a page.
    ///
    /// # Errors
    ///
    /// The first line, or family, that is not as the format and our own rules want it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(text) = text.strip_suffix('\n') else {
            return Err("the last line does not end".to_owned());
        };
        let (mut kinds, mut samples) = (BTreeMap::new(), Samples::new());
        let (mut helped, mut family) = (String::new(), String::new());
        for line in text.split('\n') {
            let told = |what: &str| format!("{what}: {line:?}");
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').ok_or_else(|| told("no help"))?;
                if !is_name(name) || help.is_empty() || kinds.contains_key(name) {
                    return Err(told("a name without help, or twice"));
                }
                name.clone_into(&mut helped);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').ok_or_else(|| told("no type"))?;
                let is_known = matches!(kind, "counter" | "gauge" | "histogram");
                if name != helped || !is_known || kinds.contains_key(name) {
                    return Err(told("a type before its help, unknown, or twice"));
                }
                if (kind == "counter") != name.ends_with("_total") {
                    return Err(told("what ends in _total is a counter, and nothing else"));
                }
                kinds.insert(name.to_owned(), kind.to_owned());
                name.clone_into(&mut family);
            } else {
                let (name, labels, value) = sample(line).ok_or_else(|| told("no sample"))?;
                let kind = kinds.get(&family).map_or("", String::as_str);
                if !belongs(&name, &family, kind) {
                    return Err(told("a sample outside its family"));
                }
                if kind != "gauge" && (value < 0.0 || !value.is_finite()) {
                    return Err(told("what only grows is below zero, or no number"));
                }
                if samples.insert((name, labels), value).is_some() {
                    return Err(told("a sample twice"));
                }
            }
        }
        let page = Self { kinds, samples };
        for (name, kind) in &page.kinds {
            page.check(name, kind)?;
        }
        Ok(page)
    }

    /// A family has samples; a histogram has all that belongs to it.
    fn check(&self, name: &str, kind: &str) -> Result<(), String> {
        if kind != "histogram" {
            let has_any = self.samples.keys().any(|(sample, _)| sample == name);
            return has_any
                .then_some(())
                .ok_or_else(|| format!("{name} has no sample"));
        }
        let buckets = self.buckets(name)?;
        let is_rising = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let last = buckets.last().copied();
        let count = self.get(&format!("{name}_count"), &[]);
        let has_sum = self.get(&format!("{name}_sum"), &[]).is_some();
        if !is_rising || last.is_none() || last != count.map(|count| (f64::INFINITY, count)) {
            return Err(format!("the buckets of {name} do not rise to its count"));
        }
        has_sum
            .then_some(())
            .ok_or_else(|| format!("{name} has no sum"))
    }

    /// The buckets of a histogram, as bounds and counts, in order of their bounds.
    fn buckets(&self, name: &str) -> Result<Vec<(f64, f64)>, String> {
        let bucket = format!("{name}_bucket");
        let mut buckets = Vec::new();
        for ((sample, labels), count) in &self.samples {
            if *sample == bucket {
                let [(label, bound)] = &labels[..] else {
                    return Err(format!("a bucket of {name} has other labels"));
                };
                let bound = number(bound).filter(|_| label == "le");
                buckets.push((
                    bound.ok_or(format!("a bucket of {name} has no bound"))?,
                    *count,
                ));
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(buckets)
    }

    /// One value, with exactly these labels in order of their names.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let key = (name.to_owned(), labels.collect());
        self.samples.get(&key).copied()
    }

    /// The sum of all values of a name; zero when there is none.
    pub fn sum(&self, name: &str) -> f64 {
        let samples = self.samples.iter();
        samples
            .filter(|((sample, _), _)| sample == name)
            .map(|(_, value)| value)
            .sum()
    }

    /// The names of the families.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }
}

fn belongs(name: &str, family: &str, kind: &str) -> bool {
    match (name.strip_prefix(family), kind) {
        (Some(""), "counter" | "gauge") => true,
        (Some(end), "histogram") => matches!(end, "_bucket" | "_sum" | "_count"),
        _ => false,
    }
}

/// `name{label="value",…} number`.
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), rest),
    };
    let value = number(value.strip_prefix(' ')?)?;
    is_name(name).then(|| (name.to_owned(), labels, value))
}

/// The labels up to their closing brace, and what comes behind it.
fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        let (name, behind) = rest.split_once("=\"")?;
        let (value, behind) = quoted(behind)?;
        let is_new = labels.iter().all(|(known, _)| known != name);
        if !is_name(name) || name.contains(':') || !is_new {
            return None;
        }
        labels.push((name.to_owned(), value));
        match behind.strip_prefix(',') {
            Some(behind) => rest = behind,
            None => {
                labels.sort();
                return Some((labels, behind.strip_prefix('}')?));
            }
        }
    }
}

/// A value up to its closing quote, and what comes behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('"' | '\\') => c,
                _ => return None,
            }),
            (_, c) => value.push(c),
        }
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ => {
            let is_plain = text
                .bytes()
                .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
            text.parse().ok().filter(|_| is_plain)
        }
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let is_first = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b':';
    bytes.next().is_some_and(is_first) && bytes.all(|b| is_first(b) || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total A.\n# TYPE a_total counter\na_total{b=\"x\\\"\\\\\\ny\",a=\"1\"} 3\n\
        # HELP h H.\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 1.5\nh_count 2\n";

    #[test]
    fn a_good_page_is_read() {
        let page = Page::parse(GOOD).unwrap();
        let labels = [("a", "1"), ("b", "x\"\\\ny")];
        assert_eq!(page.get("a_total", &labels), Some(3.0));
        assert_eq!(page.get("a_total", &[]), None);
        assert_eq!(page.sum("a_total"), 3.0);
        assert_eq!(page.names().collect::<Vec<_>>(), ["a_total", "h"]);
    }

    #[test]
    fn each_fault_is_found() {
        let faults = [
            ("h_count 2\n", "h_count 2"),
            ("h_count 2\n", "h_count 3\n"),
            ("h_sum 1.5\n", ""),
            ("le=\"0.5\"} 1", "le=\"0.5\"} 3"),
            ("le=\"0.5\"", "l=\"0.5\""),
            ("le=\"+Inf\"", "le=\"0.7\""),
            ("# TYPE h histogram\n", ""),
            ("# TYPE h histogram", "# TYPE h gauge"),
            ("# HELP h H.\n", ""),
            ("# HELP h H.\n", "# HELP h H.\n\n"),
            ("a_total{", "a{"),
            ("a_total{", "b_total{"),
            ("# TYPE a_total counter", "# TYPE a_total gauge"),
            (",a=\"1\"", ",b=\"1\""),
            (",a=\"1\"", ",=\"1\""),
            (",a=\"1\"", ",a=1"),
            ("\\ny", "\\ty"),
            ("} 3\n", "} -3\n"),
            ("} 3\n", "} three\n"),
            ("} 3\n", "}3\n"),
            ("h_sum 1.5\n", "h_sum 1.5\nh_sum 1.5\n"),
        ];
        for (good, bad) in faults {
            let page = GOOD.replacen(good, bad, 1);
            assert_ne!(page, GOOD, "{good:?} is there");
            assert!(Page::parse(&page).is_err(), "{good:?} as {bad:?} is taken");
        }
    }
}
