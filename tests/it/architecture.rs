//! Modules stand in the order in which data passes them: each uses only those before it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What every station may use.
const GROUND: &[&str] = &[
    "bounds", "json", "memory", "redact", "config", "http", "google", "store", "state", "events",
];
/// The stations in the order of the flow, then those that know all.
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

/// The files of `load/`, the last one being its `mod.rs`.
const LOAD: &[&str] = &[
    "bigquery/timings",
    "bigquery/limit",
    "bigquery/auth",
    "bigquery/call_error",
    "shape",
    "error",
    "warehouse",
    "finding",
    "location",
    "plan",
    "local",
    "bigquery/client",
    "bigquery/schema",
    "bigquery/job",
    "bigquery/table",
    "bigquery/query",
    "bigquery/raw",
    "bigquery/examine",
    "bigquery",
    "",
];
/// The files of `pipeline/` that load; all stages share what stands in its `mod.rs`.
const LOADING: &[&str] = &[
    "audit",
    "transform_stage",
    "load_plan",
    "load_context",
    "table_loader",
    "load_stage",
    "load_raw_stage",
];

#[test]
fn files_use_only_those_before_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (station, order, prefix) in [
        ("load", LOAD, "crate::load::"),
        ("pipeline", LOADING, "super::"),
    ] {
        let folder = root.join(station);
        for path in files(&folder) {
            let name = path.strip_prefix(&folder).unwrap().with_extension("");
            let name = name.to_str().unwrap().replace('\\', "/");
            let name = name.trim_end_matches("mod").trim_end_matches('/');
            let Some(place) = order.iter().position(|file| *file == name) else {
                // Others of `pipeline/` are not about loads.
                wrong.extend((station == "load").then(|| format!("{name} has no place")));
                continue;
            };
            let code = code(&path);
            if station == "load" && code.contains("super::") {
                wrong.push(format!("load/{name} says super:: instead of {prefix}"));
            }
            for used in named(&code, prefix) {
                let found = (0..=used.len())
                    .rev()
                    .map(|most| used[..most].join("/"))
                    .find_map(|file| order.iter().position(|it| *it == file));
                if found.is_some_and(|found| found >= place && place + 1 < order.len()) {
                    wrong.push(format!("{station}/{name} uses {}", used.join("::")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The paths behind `prefix`, each by its segments; `prefix{a, b::c}` names two.
fn named(code: &str, prefix: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for rest in code.split(prefix).skip(1) {
        let (inner, is_list) = match rest.strip_prefix('{') {
            Some(list) => (list.split('}').next().unwrap(), true),
            None => (rest, false),
        };
        for path in inner.split(',').take(if is_list { usize::MAX } else { 1 }) {
            let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let path: String = path
                .trim_start()
                .chars()
                .take_while(|c| is_part(*c))
                .collect();
            paths.push(path.split("::").map(str::to_string).collect());
        }
    }
    paths
}

/// A file without its unit tests and comments.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| format!("{line}\n")).collect()
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
        let used = edges.entry(first).or_default();
        for line in code(&file).lines() {
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
