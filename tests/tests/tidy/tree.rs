//! The files of a repository, real or invented.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Folders that are not part of the repository, by name wherever they are.
const NOT_OURS: [&str; 5] = ["target", ".git", "data", ".venv", "__pycache__"];

/// Files that the rules read, by the end of their names. Others are known by name alone.
const READ: [&str; 7] = [".rs", ".toml", ".proto", ".md", ".py", ".sh", ".yaml"];

/// Paths from the root with `/`, and their text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<String, String>,
    /// What git has, which is less than what lies around.
    pub(crate) in_git: Vec<String>,
}

impl Tree {
    /// The repository that this test stands in.
    pub(crate) fn of_this_repository() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the package is a folder of the repository");
        let mut tree = Self::default();
        tree.walk(root, "");
        assert!(tree.files.len() > 20, "the repository was not found");
        let listed = Command::new("git")
            .args(["ls-files", "-z"])
            .current_dir(root)
            .output();
        // Without git (a source archive) what is there counts as what is in git.
        tree.in_git = match listed {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
                .split_terminator('\0')
                .map(str::to_owned)
                .collect(),
            _ => tree.files.keys().cloned().collect(),
        };
        tree
    }

    fn walk(&mut self, root: &Path, under: &str) {
        let entries = std::fs::read_dir(root.join(under)).expect("a folder of the repository");
        for entry in entries {
            let entry = entry.expect("an entry of a folder");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if under.is_empty() {
                name.clone()
            } else {
                format!("{under}/{name}")
            };
            let kind = entry.file_type().expect("the kind of an entry");
            if kind.is_dir() && !NOT_OURS.contains(&&*name) {
                self.walk(root, &path);
            } else if kind.is_file() && READ.iter().any(|end| name.ends_with(end)) {
                // Gone since it was listed: somebody is at work here.
                if let Ok(bytes) = std::fs::read(root.join(&path)) {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    self.files.insert(path, text);
                }
            }
        }
    }

    /// A small repository that keeps all rules.
    pub(crate) fn sample() -> Self {
        let manifest = |name: &str, rest: &str| {
            format!("[package]\nname = \"{name}\"\n\n{rest}\n[lints]\nworkspace = true\n")
        };
        let described = "//! A line.\n".repeat(10);
        Self::default()
            .with("Cargo.toml", &manifest("ledgerline", "[dependencies]\nanyhow = { workspace = true }\nserving = { workspace = true }\n"))
            .with("src/main.rs", &described)
            .with("common/types/Cargo.toml", &manifest("types", "[dependencies]\nbytes.workspace = true\n"))
            .with("common/types/src/lib.rs", &described)
            .with("bookie/ledger/Cargo.toml", &manifest("ledger", "[dependencies]\ntypes = { workspace = true }\n\n[dev-dependencies]\nproptest = { workspace = true }\n"))
            .with("bookie/ledger/src/lib.rs", "//! Short.\n")
            .with("bookie/ledger/DESIGN.md", "# The ledger\n")
            .with("serving/Cargo.toml", &manifest("serving", "[dependencies]\ntypes = { workspace = true }\ntokio = { workspace = true }\n"))
            .with("serving/src/lib.rs", &described)
            .with("proto/ledgerline/v1/a.proto", "syntax = \"proto3\";\n\npackage a;\n\n// M.\nmessage M {\n  // F.\n  string f = 1;\n}\n")
    }

    /// The same with one file more, or another text in it. It is in git too.
    pub(crate) fn with(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self.in_git.push(path.to_owned());
        self
    }

    /// The files whose names end so.
    pub(crate) fn ending(&self, end: &str) -> impl Iterator<Item = (&str, &str)> {
        let end = end.to_owned();
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(&end))
            .map(|(path, text)| (&**path, &**text))
    }
}
