//! Modules stand in the order in which data passes them: each uses only those before it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What every module may use.
const GROUND: &[&str] = &[
    "bounds", "json", "memory", "redact", "config", "http", "google", "store", "state", "events",
];
/// The modules in the order of the data flow, then those that use all others.
const STATIONS: &[&str] = &[
    "catalog",
    "plan",
    "samsara",
    "extract",
    "transform",
    "load",
    "report",
    "error",
    "pipeline",
    "cli",
];

#[test]
fn modules_use_only_those_before_them() {
    let mut wrong = Vec::new();
    for (module, used) in edges() {
        for other in used.iter().filter(|other| **other != module) {
            let allowed = match (rank(&module), rank(other)) {
                (Some(station), Some(before)) => before < station,
                (Some(_), None) => GROUND.contains(&other.as_str()),
                (None, None) => GROUND.contains(&other.as_str()),
                (None, Some(_)) => false,
            };
            if !allowed {
                wrong.push(format!("{module} uses {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn every_module_has_its_place() {
    for module in edges().keys() {
        let known = rank(module).is_some() || GROUND.contains(&module.as_str());
        assert!(
            known,
            "{module} is no station and not of the ground: say where it stands"
        );
    }
}

fn rank(module: &str) -> Option<usize> {
    STATIONS.iter().position(|station| *station == module)
}

/// Module → modules that its code (not its unit tests) names as `crate::…`.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files(&root) {
        let relative = file.strip_prefix(&root).unwrap();
        let first = relative
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_string();
        if first == "main" || first == "lib" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let used = edges.entry(first).or_default();
        for line in code {
            for rest in line.split("crate::").skip(1) {
                used.insert(
                    rest.chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect(),
                );
            }
        }
    }
    for used in edges.values_mut() {
        used.remove("");
    }
    edges
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
