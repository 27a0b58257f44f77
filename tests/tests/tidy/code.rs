//! What may stand in source files.

use crate::tree::Tree;

/// Longest file, in lines.
const LINES_MAX: usize = 800;

/// Kinds of files that people write.
const WRITTEN: [&str; 4] = [".rs", ".proto", ".py", ".sh"];

/// The folders of the pure crates' sources.
const PURE: [&str; 5] = [
    "common/types/src/",
    "common/compression/src/",
    "bookie/ledger/src/",
    "meta/catalog/src/",
    "serving/topic/src/",
];

/// Words that no pure crate says outside its tests, each with what it is.
const IMPURE: &[(&str, &str)] = &[
    ("Instant", "a clock"),
    ("SystemTime", "a clock"),
    ("std::fs", "a disk"),
    ("std::io", "input and output"),
    ("std::net", "a network"),
    ("std::process", "a process"),
    ("std::env", "the environment"),
    ("std::thread", "a thread"),
    ("std::os", "an operating system"),
    ("tokio", "a runtime"),
    ("tonic", "a network"),
    ("futures", "a runtime"),
    ("tracing", "logging"),
    ("async", "a task"),
    (".await", "a task"),
    ("Mutex", "a lock"),
    ("RwLock", "a lock"),
    ("Condvar", "a lock"),
    ("mpsc", "a channel"),
    ("AtomicU64", "shared state"),
    ("AtomicBool", "shared state"),
    ("AtomicUsize", "shared state"),
    ("OnceLock", "a global"),
    ("LazyLock", "a global"),
    ("thread_local!", "a global"),
    ("HashMap", "an order that changes"),
    ("HashSet", "an order that changes"),
    ("RandomState", "randomness"),
    ("rand", "randomness"),
    ("fastrand", "randomness"),
    ("getrandom", "randomness"),
];

pub(crate) fn length(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in &tree.files {
        let lines = text.lines().count();
        if lines > LINES_MAX && WRITTEN.iter().any(|end| path.ends_with(end)) {
            complaints.push(format!("{path}: {lines} lines, {LINES_MAX} at most"));
        }
    }
    complaints
}

pub(crate) fn leftovers(tree: &Tree) -> Vec<String> {
    // Spelled apart, so that this file keeps its own rule.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let mut complaints = Vec::new();
    for (path, text) in &tree.files {
        for (number, line) in (1..).zip(text.lines()) {
            let has_mark = marks.iter().any(|mark| find_word(line, mark).is_some());
            let names_issue = line
                .match_indices('#')
                .any(|(at, _)| line[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
            if has_mark && !names_issue {
                complaints.push(format!("{path}:{number}: no #number: {}", line.trim()));
            }
        }
    }
    complaints
}

pub(crate) fn pure(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in tree.ending(".rs") {
        let is_pure = PURE.iter().any(|folder| path.starts_with(folder));
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        if !is_pure || is_test {
            continue;
        }
        for (number, line) in code_lines(text) {
            for (word, what) in IMPURE {
                if find_word(&line, word).is_some() {
                    complaints.push(format!("{path}:{number}: {word} is {what}"));
                }
            }
        }
    }
    complaints
}

/// The lines of code with their numbers: without comments and texts, and without what is for tests only.
///
/// What is for tests only stands at the end of our files, behind `#[cfg(test)]` on a module; a single item under it ends
/// at its own closing brace in the first column, or with the line if it has none.
fn code_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut is_test = false;
    let mut is_in_test_item = false;
    for (number, raw) in (1..).zip(text.lines()) {
        let line = strip(raw);
        if line.trim_start().starts_with("#[cfg(test)]") {
            is_test = true;
            is_in_test_item = false;
            continue;
        }
        if is_test {
            let is_attribute = line.trim_start().starts_with("#[");
            if line.trim().is_empty() && !is_in_test_item || is_attribute {
                continue;
            }
            let is_one_line = !is_in_test_item && line.trim_end().ends_with(';');
            is_in_test_item = true;
            if is_one_line || line.starts_with('}') {
                is_test = false;
            }
            continue;
        }
        lines.push((number, line));
    }
    lines
}

/// A line without its comment and without what stands in quotes.
fn strip(line: &str) -> String {
    let mut kept = String::new();
    let mut chars = line.chars().peekable();
    let mut is_text = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if is_text => {
                chars.next();
            }
            // A quote as a character is no text's beginning.
            '"' if !kept.ends_with('\'') || is_text => is_text = !is_text,
            '/' if !is_text && chars.peek() == Some(&'/') => break,
            _ if is_text => {}
            _ => kept.push(c),
        }
    }
    kept
}

/// Where `word` stands alone in `line`.
fn find_word(line: &str, word: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).map(|(at, _)| at).find(|&at| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let starts = !word.starts_with(is_part) || !before.is_some_and(is_part);
        let ends = !word.ends_with(is_part) || !after.is_some_and(is_part);
        starts && ends
    })
}

#[test]
fn a_long_file_is_found() {
    let long = "x\n".repeat(LINES_MAX + 1);
    crate::finds(length, &[("a/src/b.rs", &long, "801 lines")]);
    let fits = "x\n".repeat(LINES_MAX);
    assert!(length(&Tree::sample().with("a.rs", &fits)).is_empty());
}

#[test]
fn work_without_an_issue_is_found() {
    let mark = concat!("// TO", "DO");
    crate::finds(
        leftovers,
        &[("a.rs", &format!("fn f() {{}} {mark}: later"), "later")],
    );
    crate::finds(
        leftovers,
        &[("a.proto", &format!("{mark}(#x) later"), "later")],
    );
    let named = Tree::sample().with("a.rs", &format!("{mark}(#12): later"));
    assert!(leftovers(&named).is_empty());
}

#[test]
fn impure_words_are_found_in_pure_crates_only_and_not_in_their_tests() {
    crate::finds(
        pure,
        &[
            (
                "bookie/ledger/src/a.rs",
                "use std::time::Instant;\n",
                "a clock",
            ),
            (
                "meta/catalog/src/a.rs",
                "let x = std::fs::read(p);\n",
                "a disk",
            ),
            (
                "serving/topic/src/a.rs",
                "#[cfg(test)]\nmod tests;\n\ntokio::spawn(f);\n",
                "a runtime",
            ),
            ("common/types/src/a.rs", "pub async fn f() {}\n", "a task"),
            (
                "bookie/ledger/src/a.rs",
                "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\nfor x in HashMap::new() {}\n",
                "an order that changes",
            ),
        ],
    );
    let innocent = "// std::fs, tokio\nlet a = \"tokio\"; let operand = 1; asynchronous();\n\
                    #[cfg(test)]\nmod tests {\n    use std::collections::HashMap;\n\n    fn f() {\n        tokio();\n    }\n}\n";
    for path in [
        "bookie/ledger/src/a.rs",
        "serving/topic/src/b/tests.rs",
        "serving/src/a.rs",
    ] {
        let text = if path.starts_with("bookie") {
            innocent
        } else {
            "use tokio::fs;"
        };
        let complaints = pure(&Tree::sample().with(path, text));
        assert_eq!(complaints, Vec::<String>::new());
    }
}
