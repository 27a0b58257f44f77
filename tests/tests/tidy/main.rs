//! Holds the repository to its own rules: who may import whom, how long a file may be, what must be described.
//!
//! Each rule is a function from the files of a repository to complaints. It runs here twice: over the real repository,
//! where it must find nothing, and over a small invented one with a planted violation, where it must find exactly that.
#![expect(
    clippy::disallowed_methods,
    reason = "this test reads the repository itself, on the real disk"
)]

mod code;
mod docs;
mod imports;
mod manifest;
mod tree;

use tree::Tree;

/// A rule: complaints about a repository, empty when it keeps the rule.
type Rule = fn(&Tree) -> Vec<String>;

#[track_caller]
fn holds(rule: Rule) {
    let complaints = rule(&Tree::of_this_repository());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Checks that `rule` complains about each planted file, once, and says the word.
#[track_caller]
fn finds(rule: Rule, planted: &[(&str, &str, &str)]) {
    for (path, text, word) in planted {
        let complaints = rule(&Tree::sample().with(path, text));
        assert!(
            complaints.len() == 1 && complaints[0].contains(word),
            "{path} should be found with {word:?}, found {complaints:#?}"
        );
    }
    let complaints = rule(&Tree::sample());
    assert!(complaints.is_empty(), "without a plant: {complaints:#?}");
}

#[test]
fn packages_import_only_what_the_architecture_allows() {
    holds(imports::allowed);
}

#[test]
fn anyhow_stays_at_the_edges() {
    holds(imports::anyhow);
}

#[test]
fn every_package_keeps_the_workspace_lints() {
    holds(imports::lints);
}

#[test]
fn pure_crates_know_no_clock_disk_network_lock_or_task() {
    holds(code::pure);
}

#[test]
fn files_stay_short() {
    holds(code::length);
}

#[test]
fn work_left_over_names_its_issue() {
    holds(code::leftovers);
}

#[test]
fn every_package_is_described() {
    holds(docs::packages);
}

#[test]
fn every_proto_element_is_documented() {
    holds(docs::protos);
}

#[test]
fn no_generated_file_is_in_git() {
    holds(docs::generated);
}
