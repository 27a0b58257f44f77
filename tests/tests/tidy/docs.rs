//! What must be described, and what must not be in git because it is made.

use crate::manifest::manifests;
use crate::tree::Tree;

/// Lines of `//!` that describe a package without a DESIGN.md.
const DESCRIPTION_LINES: usize = 10;

/// Ends of the names of files that tools make.
const MADE: [&str; 8] = [
    "_pb2.py",
    "_pb2.pyi",
    "_pb2_grpc.py",
    ".pb.rs",
    ".pyc",
    ".profraw",
    ".rlib",
    ".bin.tmp",
];

pub(crate) fn packages(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for manifest in manifests(tree) {
        let folder = &manifest.folder;
        let design = tree.files.contains_key(&format!("{folder}DESIGN.md"));
        let sources = ["src/lib.rs", "src/main.rs"]
            .into_iter()
            .filter_map(|source| tree.files.get(&format!("{folder}{source}")));
        let is_described = design
            || sources.into_iter().any(|text| {
                let described = text
                    .lines()
                    .take_while(|line| line.starts_with("//!"))
                    .count();
                let included =
                    text.contains("#![doc = include_str!(") && text.contains("DESIGN.md");
                described >= DESCRIPTION_LINES || included
            });
        if !is_described {
            complaints.push(format!(
                "{}: neither DESIGN.md nor {DESCRIPTION_LINES} lines of //!",
                manifest.path
            ));
        }
    }
    complaints
}

pub(crate) fn protos(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in tree.ending(".proto") {
        if !path.starts_with("proto/ledgerline/") {
            continue; // Others wrote it.
        }
        let mut is_documented = false;
        let mut is_continued = false;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.starts_with("//") {
                is_documented = true;
                continue;
            }
            let has_comment = is_documented || line.contains("; //") || line.contains("{ //");
            if !is_continued && needs_comment(line) && !has_comment {
                complaints.push(format!("{path}:{number}: not documented: {line}"));
            }
            is_continued = needs_comment(line) && !line.ends_with([';', '{', '}'])
                || is_continued && !line.ends_with([';', '{', '}']);
            is_documented = false;
        }
    }
    complaints
}

/// Whether a line declares something: a message, enum, service, rpc, oneof, or anything with a number.
fn needs_comment(line: &str) -> bool {
    let first = line.split([' ', '<']).next().unwrap_or("");
    match first {
        "syntax" | "package" | "import" | "option" | "reserved" | "extensions" | "}" | "" => false,
        "message" | "enum" | "service" | "rpc" | "oneof" => true,
        _ => line.split_once(" =").is_some_and(|(_, rest)| {
            let rest = rest.trim_start().trim_start_matches('-');
            rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit())
        }),
    }
}

pub(crate) fn generated(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    // Spelled apart, so that this file is not taken for one.
    let mark = concat!("@gen", "erated");
    for path in &tree.in_git {
        let is_made = MADE.iter().any(|end| path.ends_with(end))
            || path
                .split('/')
                .any(|part| part == "target" || part == "__pycache__");
        let says_so = tree
            .files
            .get(path)
            .is_some_and(|text| text.lines().take(5).any(|line| line.contains(mark)));
        // Cargo.lock is made too, and belongs in git.
        if is_made || says_so && !path.ends_with("Cargo.lock") {
            complaints.push(format!("{path}: a generated file"));
        }
    }
    complaints
}

#[test]
fn a_package_without_words_is_found() {
    let manifest = "[package]\nname = \"meta\"\n[lints]\nworkspace = true\n";
    crate::finds(
        packages,
        &[("meta/Cargo.toml", manifest, "meta/Cargo.toml")],
    );
    crate::finds(
        packages,
        &[("serving/src/lib.rs", "//! To be described.\n", "serving")],
    );
    let tree = Tree::sample().with(
        "serving/src/lib.rs",
        "#![doc = include_str!(\"../../DESIGN.md\")]\n",
    );
    assert!(packages(&tree).is_empty());
}

#[test]
fn an_undocumented_proto_element_is_found() {
    let path = "proto/ledgerline/v1/b.proto";
    for (text, word) in [
        ("// M.\nmessage M {\n  string f = 1;\n}\n", "string f"),
        (
            "// M.\nmessage M {\n  map<string, string> f = 1;\n}\n",
            "map<string",
        ),
        (
            "// M.\nmessage M {\n  // F.\n  string f = 1;\n  oneof o {\n    // A.\n    int32 a = 2;\n  }\n}\n",
            "oneof o",
        ),
        ("message M {}\n", "message M"),
        (
            "// E.\nenum E {\n  // A.\n\n  A_UNSPECIFIED = 0;\n}\n",
            "A_UNSPECIFIED",
        ),
        ("// S.\nservice S {\n  rpc R(M) returns (M);\n}\n", "rpc R"),
        (
            "// M.\nmessage M {\n  // F.\n  repeated string f =\n      1;\n  string g =\n      2;\n}\n",
            "string g",
        ),
    ] {
        crate::finds(protos, &[(path, text, word)]);
    }
    let fine = "// M.\nmessage M {\n  reserved 3;\n  string f = 1; // F.\n}\n";
    assert!(protos(&Tree::sample().with(path, fine)).is_empty());
    let theirs = Tree::sample().with("proto/google/rpc/x.proto", "message M {}\n");
    assert!(protos(&theirs).is_empty());
}

#[test]
fn a_generated_file_is_found() {
    let mark = concat!("// @gen", "erated by a tool\n");
    crate::finds(
        generated,
        &[
            ("examples/python/a_pb2.py", "", "generated"),
            ("target/x.rs", "", "generated"),
            ("proto/src/wire.rs", mark, "generated"),
        ],
    );
}
