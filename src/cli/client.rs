//! What all commands that use a cluster have in common: where it is, how to reach it, how to print.

use std::future::Future;
use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ledgerline_client::{Client, Error, ErrorKind, Reason};
use serde_json::{Map, Value};

/// Which cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct Server {
    /// Serving nodes of the cluster, with commas between: any one that runs will do.
    #[arg(
        long = "server",
        env = "LEDGERLINE_SERVER",
        default_value = "http://127.0.0.1:7450",
        value_name = "URL,…",
        value_delimiter = ',',
        global = true
    )]
    pub(crate) servers: Vec<String>,
}

impl Server {
    /// Connects.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        Client::connect(self.servers.join(","))
            .await
            .map_err(explain)
    }
}

/// A refusal with what a person at a command line can do about it.
pub(crate) fn explain(error: Error) -> anyhow::Error {
    let advice = match error.reason() {
        Reason::Unreachable => "start one with `ledgerline standalone`, or set --server",
        Reason::BadField if error.problem().field.as_deref() == Some("endpoint") => {
            "set --server to an address such as http://127.0.0.1:7450"
        }
        Reason::TopicNotFound => "`ledgerline topic create NAME` makes one",
        Reason::NamespaceNotFound => "`ledgerline namespace create NAME` makes one",
        Reason::TenantNotFound => "`ledgerline tenant create NAME` makes one",
        Reason::ExclusiveHeld => {
            "wait for the other consumer to end, or choose another --subscription"
        }
        Reason::WrongMode => "leave --mode out, or choose another --subscription",
        Reason::InsufficientBookies => {
            "`ledgerline cluster status` tells which bookies are missing"
        }
        Reason::ProducerFenced => "another producer uses this name; choose another --producer-name",
        _ if error.kind() == ErrorKind::Unknown => {
            "look before you try again: it may have happened"
        }
        _ => return anyhow::Error::new(error),
    };
    let text = error.to_string();
    if text.contains(advice) {
        return anyhow::Error::new(error);
    }
    anyhow::anyhow!("{text}\n  try: {advice}")
}

/// Runs a command on a runtime of its own.
pub(crate) fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the threads of the process cannot be started")?;
    let done = runtime.block_on(command);
    // Connections that still say goodbye are not worth waiting for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    done
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// Print JSON.
    #[arg(long, env = "LEDGERLINE_JSON", global = true)]
    pub(crate) json: bool,
}

impl Output {
    /// Prints an object as lines, a list of objects as a table; or either as JSON.
    pub(crate) fn print(self, value: &Value) {
        let text = if self.json {
            format!("{value:#}\n")
        } else {
            as_text(value)
        };
        print(&text);
    }
}

/// Prints what a command answers with. Whoever read it may have seen enough, as `head` has.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn as_text(value: &Value) -> String {
    match value {
        Value::Array(rows) => table(rows),
        Value::Object(fields) => {
            let width = fields.keys().map(String::len).max().unwrap_or(0);
            let line = |name: &str| match &fields[name] {
                Value::Array(rows) if rows.iter().any(Value::is_object) => {
                    format!("{name}:\n{}", table(rows))
                }
                value => format!("{name:width$}  {}\n", cell(value)),
            };
            in_order(fields).into_iter().map(line).collect()
        }
        value => format!("{}\n", cell(value)),
    }
}

/// What is told first; the rest follows in order of name.
const FIRST: &[&str] = &[
    "cluster", "version", "standing", "concerns", "name", "shard", "role", "mode", "state",
    "quorum",
];

fn in_order(fields: &Map<String, Value>) -> Vec<&str> {
    let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
    let rank = |name: &&str| {
        FIRST
            .iter()
            .position(|first| first == name)
            .unwrap_or(FIRST.len())
    };
    names.sort_by_key(rank);
    names
}

/// A value in few words.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn table(rows: &[Value]) -> String {
    let Some(Value::Object(first)) = rows.first() else {
        return "none\n".to_owned();
    };
    let names = in_order(first);
    let cells = |row: &Value| names.iter().map(|name| cell(&row[*name])).collect();
    let mut lines: Vec<Vec<String>> = vec![names.iter().map(|name| name.to_uppercase()).collect()];
    lines.extend(rows.iter().map(cells));
    let width = |at: usize| {
        lines
            .iter()
            .map(|line| line[at].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_few_words_in_a_cell() {
        let value = serde_json::json!({"a": null, "b": [], "c": ["x", "y"], "d": 7, "e": "text"});
        let cells = ["a", "b", "c", "d", "e"].map(|name| cell(&value[name]));
        assert_eq!(cells, ["-", "-", "x, y", "7", "text"]);
    }

    #[test]
    fn objects_are_lines_and_lists_are_tables() {
        let text =
            as_text(&serde_json::json!({"b": 1, "name": "x", "rows": [{"z": 1, "name": "y"}]}));
        assert_eq!(text, "name  x\nb     1\nrows:\nNAME  Z\ny     1\n");
        assert_eq!(as_text(&serde_json::json!([])), "none\n");
    }

    #[test]
    fn a_refusal_tells_what_to_do_next() {
        let problem = ledgerline_client::Problem::new(Reason::ExclusiveHeld, "held by c-1");
        let text = explain(problem.into()).to_string();
        assert!(
            text.starts_with("held by c-1") && text.contains("--subscription"),
            "{text}"
        );
    }
}
