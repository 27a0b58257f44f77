//! Who may import whom.

use crate::manifest::{Kind, manifests};
use crate::tree::Tree;

/// For each package of the house, the packages of the house that it may know (architecture: "The house"). Tests of a
/// package are freer. `None`: all of them.
const MAY_KNOW: &[(&str, Option<&[&str]>)] = &[
    ("types", Some(&[])),
    ("host", Some(&["types"])),
    ("admin", Some(&["types", "host"])),
    ("proto", Some(&["types", "host"])),
    ("ledger", Some(&["types"])),
    ("catalog", Some(&["types"])),
    ("compression", Some(&["types"])),
    ("topic", Some(&["types", "compression"])),
    ("meta-client", Some(&["types", "host", "proto"])),
    (
        "bookie-client",
        Some(&["types", "host", "proto", "ledger", "meta-client"]),
    ),
    // Roles know their own core and clients, never other roles. Serving owns shards, so it knows the ledger's words.
    ("meta", Some(&["types", "host", "proto", "catalog"])),
    (
        "bookie",
        Some(&[
            "types",
            "host",
            "proto",
            "ledger",
            "meta-client",
            "bookie-client",
        ]),
    ),
    (
        "serving",
        Some(&[
            "types",
            "host",
            "proto",
            "ledger",
            "topic",
            "compression",
            "meta-client",
            "bookie-client",
        ]),
    ),
    // The public client.
    (
        "ledgerline-client",
        Some(&["types", "host", "proto", "compression"]),
    ),
    ("ledgerline", None),
    ("tests", None),
    ("benches", None),
];

/// Packages that nothing may build upon.
const ENDS: [&str; 3] = ["ledgerline", "tests", "benches"];

/// What the pure crates may know at all.
const PURE_MAY_KNOW: [&str; 4] = ["types", "bytes", "thiserror", "compression"];

/// What `compression` may know besides: the codecs, which are functions of bytes.
const CODECS: [&str; 3] = ["zstd", "lz4_flex", "snap"];

/// What `types` may know: words need no machinery.
const WORDS_MAY_KNOW: [&str; 3] = ["bytes", "thiserror", "crc-fast"];

/// Packages where errors end with a person, so that `anyhow` is enough.
const EDGES: [&str; 3] = ["ledgerline", "tests", "benches"];

pub(crate) fn allowed(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    let is_ours = |name: &str| MAY_KNOW.iter().any(|(ours, _)| *ours == name);
    for manifest in manifests(tree) {
        let Some((name, may_know)) = MAY_KNOW.iter().find(|(ours, _)| *ours == manifest.name)
        else {
            complaints.push(format!(
                "{}: package {} is not in the table of imports",
                manifest.path, manifest.name
            ));
            continue;
        };
        for (kind, dependency) in &manifest.dependencies {
            if *kind == Kind::Dev {
                continue;
            }
            let is_in_table = may_know.is_none_or(|known| known.contains(&&**dependency));
            let is_end = ENDS.contains(&&**dependency);
            let is_outside = match *name {
                "ledger" | "catalog" | "topic" => !PURE_MAY_KNOW.contains(&&**dependency),
                "compression" => {
                    !PURE_MAY_KNOW.contains(&&**dependency) && !CODECS.contains(&&**dependency)
                }
                "types" => *kind == Kind::Normal && !WORDS_MAY_KNOW.contains(&&**dependency),
                _ => false,
            };
            if is_outside || is_ours(dependency) && (!is_in_table || is_end) {
                complaints.push(format!(
                    "{}: {name} may not depend on {dependency}",
                    manifest.path
                ));
            }
        }
    }
    complaints
}

pub(crate) fn anyhow(tree: &Tree) -> Vec<String> {
    let guilty = manifests(tree).into_iter().filter(|manifest| {
        let knows = manifest
            .dependencies
            .iter()
            .any(|(_, name)| name == "anyhow");
        knows && !EDGES.contains(&&*manifest.name)
    });
    guilty
        .map(|manifest| format!("{}: anyhow only in {EDGES:?}", manifest.path))
        .collect()
}

pub(crate) fn lints(tree: &Tree) -> Vec<String> {
    let guilty = manifests(tree)
        .into_iter()
        .filter(|manifest| !manifest.has_workspace_lints);
    guilty
        .map(|manifest| format!("{}: no [lints] workspace = true", manifest.path))
        .collect()
}

#[test]
fn a_forbidden_import_is_found() {
    let manifest = |name: &str, table: &str, dependency: &str| {
        format!(
            "[package]\nname = \"{name}\"\n[{table}]\n{dependency} = \"1\"\n[lints]\nworkspace = true\n"
        )
    };
    let planted = [
        ("host", "dependencies", "proto"),
        ("admin", "dependencies", "serving"),
        ("serving", "dependencies", "admin"),
        ("types", "dependencies", "tokio"),
        ("catalog", "dependencies", "tokio"),
        ("topic", "build-dependencies", "serde"),
        ("topic", "dependencies", "ledger"),
        ("topic", "dependencies", "zstd"),
        ("ledger", "dependencies", "compression"),
        ("compression", "dependencies", "tokio"),
        ("meta", "dependencies", "bookie"),
        ("bookie", "dependencies", "topic"),
        ("meta-client", "dependencies", "bookie-client"),
        ("ledgerline-client", "dependencies", "meta-client"),
        (
            "ledgerline-client",
            "target.'cfg(unix)'.dependencies",
            "topic",
        ),
        ("serving", "dependencies", "tests"),
        ("benches", "dependencies", "ledgerline"),
        ("stranger", "dependencies", "bytes"),
    ];
    for (name, table, dependency) in planted {
        let word = if name == "stranger" {
            "table of imports"
        } else {
            dependency
        };
        crate::finds(
            allowed,
            &[("x/Cargo.toml", &manifest(name, table, dependency), word)],
        );
    }
    let tree = Tree::sample().with(
        "x/Cargo.toml",
        &manifest("topic", "dev-dependencies", "tokio"),
    );
    assert_eq!(allowed(&tree), Vec::<String>::new());
}

#[test]
fn anyhow_in_a_role_is_found() {
    let text = "[package]\nname = \"meta\"\n[dev-dependencies]\nanyhow = \"1\"\n";
    crate::finds(anyhow, &[("meta/Cargo.toml", text, "anyhow")]);
}

#[test]
fn a_package_without_the_workspace_lints_is_found() {
    let text = "[package]\nname = \"meta\"\n";
    crate::finds(lints, &[("meta/Cargo.toml", text, "lints")]);
}
