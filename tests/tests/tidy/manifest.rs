//! Reads what the rules need of a `Cargo.toml`.

use crate::tree::Tree;

/// Which table a dependency stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

/// A package's manifest.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) path: String,
    /// The package's folder, empty for the root, else with `/` at its end.
    pub(crate) folder: String,
    pub(crate) name: String,
    pub(crate) dependencies: Vec<(Kind, String)>,
    pub(crate) has_workspace_lints: bool,
}

/// The manifests of all packages.
pub(crate) fn manifests(tree: &Tree) -> Vec<Manifest> {
    tree.ending("Cargo.toml")
        .filter_map(|(path, text)| read(path, text))
        .collect()
}

/// Reads a manifest; `None` when it is of no package.
fn read(path: &str, text: &str) -> Option<Manifest> {
    let mut manifest = Manifest {
        path: path.to_owned(),
        folder: path.trim_end_matches("Cargo.toml").to_owned(),
        name: String::new(),
        dependencies: Vec::new(),
        has_workspace_lints: false,
    };
    let mut section = String::new();
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or(line).trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
            // `[dependencies.name]`
            if let Some((kind, Some(name))) = dependency_table(&section) {
                manifest.dependencies.push((kind, name.to_owned()));
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        match (&*section, key) {
            ("package", "name") => manifest.name = value.trim_matches('"').to_owned(),
            ("lints", "workspace") => manifest.has_workspace_lints = value == "true",
            _ => {
                if let Some((kind, None)) = dependency_table(&section) {
                    let key = key.split('.').next().unwrap_or(key).trim_matches('"');
                    let name = renamed(value).unwrap_or(key);
                    manifest.dependencies.push((kind, name.to_owned()));
                }
            }
        }
    }
    (!manifest.name.is_empty()).then_some(manifest)
}

/// Which dependencies a table holds, and the one it is about in the form `[dependencies.name]`.
fn dependency_table(section: &str) -> Option<(Kind, Option<&str>)> {
    if section.starts_with("workspace") {
        return None;
    }
    // `[target.'cfg(unix)'.dependencies]` counts like `[dependencies]`.
    let section = match section.strip_prefix("target.") {
        Some(rest) => {
            &rest[rest
                .find("dependencies")
                .map(|at| rest[..at].rfind('.').map_or(0, |dot| dot + 1))?..]
        }
        None => section,
    };
    let (table, name) = match section.split_once('.') {
        Some((table, name)) => (table, Some(name)),
        None => (section, None),
    };
    let kind = match table {
        "dependencies" => Kind::Normal,
        "dev-dependencies" => Kind::Dev,
        "build-dependencies" => Kind::Build,
        _ => return None,
    };
    Some((kind, name))
}

/// The real name in `{ package = "name", … }`.
fn renamed(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("package")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    rest.strip_prefix('"')?.split('"').next()
}

#[test]
fn dependencies_are_read_in_every_form() {
    let text = "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\nb.workspace = true\n\
                c = { package = \"real\", version = \"1\" } # why\n# d = \"1\"\n\
                [dependencies.e]\nversion = \"1\"\n[target.'cfg(unix)'.dependencies]\nf = \"1\"\n\
                [dev-dependencies]\ng = \"1\"\n[target.'cfg(unix)'.dev-dependencies.h]\n\
                [build-dependencies]\ni = \"1\"\n[workspace.dependencies]\nj = \"1\"\n[features]\nk = []\n";
    let manifest = read("x/Cargo.toml", text).expect("a package");
    let names = |kind| {
        let of_kind = manifest.dependencies.iter().filter(|(k, _)| *k == kind);
        of_kind.map(|(_, name)| &**name).collect::<Vec<_>>()
    };
    assert_eq!(manifest.folder, "x/");
    assert_eq!(names(Kind::Normal), ["a", "b", "real", "e", "f"]);
    assert_eq!(names(Kind::Dev), ["g", "h"]);
    assert_eq!(names(Kind::Build), ["i"]);
    assert!(read("Cargo.toml", "[workspace]\n").is_none());
}
