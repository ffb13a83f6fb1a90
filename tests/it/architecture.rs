//! Modules are in the order of the data flow: each uses only those before it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What every module may use.
const FOUNDATION: &[&str] = &[
    "bounds", "clock", "json", "memory", "redact", "config", "http", "google", "store", "state",
    "events",
];
/// The modules in the order of the data flow, then those that use all others.
const MODULES: &[&str] = &[
    "catalog",
    "plan",
    "samsara",
    "extract",
    "transform",
    "load",
    "delta",
    "report",
    "telemetry",
    "error",
    "audit",
    "clean",
    "sql_tests",
    "pipeline",
    "lsp",
    "cli",
];
/// Folders with an order of their own: each file uses only those before it, and `mod.rs` may use all.
const FOLDERS: &[(&str, &[&str])] = &[
    (
        "extract",
        &[
            // Values, rows and days.
            "decode_error",
            "instant",
            "number",
            "drift",
            "raw_type",
            "rescue",
            "misfits",
            "validate",
            "direct",
            "outside",
            "assign_day",
            "decode",
            "intervals",
            "expiring",
            // The types of a task, its result and progress.
            "request",
            "outcome",
            "error",
            "content",
            "partial_result",
            "queue",
            "checkpoint",
            // The two halves of a task, and `extractor`, which joins them.
            "fetch",
            "sort",
            "decode_ahead",
            "write",
            "extractor",
            // Other ways to read pages.
            "changes",
            "decode_page",
        ],
    ),
    (
        "pipeline",
        &[
            "threads",
            "run",
            // Extract.
            "raw_rows",
            "ended_rows",
            "feed_tail",
            "commit_raw",
            "change_feed",
            "resumable",
            "updates",
            "extract_task",
            "extract_stage",
            // Transform and load.
            "delta_stage",
            "transform_stage",
            "load_plan",
            "load_context",
            "table_loader",
            "load_stage",
            "load_raw_stage",
            // State of the tables.
            "changes",
            "coverage",
        ],
    ),
    (
        "lsp",
        &[
            // Text and words.
            "transport",
            "position",
            "lexer",
            "scope",
            "words",
            "front_matter",
            "source_keys",
            // Their meaning in the catalog.
            "workspace",
            "resolve",
            // Requests of editors.
            "diagnostics",
            "hover",
            "definition",
            "completion",
            "rename",
            "actions",
        ],
    ),
    (
        "load",
        &[
            // BigQuery's calls, then what every warehouse shares.
            "timings",
            "limit",
            "auth",
            "call_error",
            "shape",
            "error",
            "observed",
            "warehouse",
            "finding",
            "location",
            "plan",
            "local",
            // The rest of `bigquery/`.
            "client",
            "schema",
            "job",
            "table",
            "query",
            "raw",
            "examine",
        ],
    ),
];

/// Names of tests are typed on command lines, and stand in docs/faults.md.
const LONGEST_TEST_NAME: usize = 60;

#[test]
fn modules_use_only_those_before_them() {
    let mut wrong = Vec::new();
    for (module, used) in edges() {
        for other in used.iter().filter(|other| **other != module) {
            let allowed = match (rank(&module), rank(other)) {
                (Some(place), Some(before)) => before < place,
                (Some(_), None) => FOUNDATION.contains(&other.as_str()),
                (None, None) => FOUNDATION.contains(&other.as_str()),
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
        let known = rank(module).is_some() || FOUNDATION.contains(&module.as_str());
        assert!(
            known,
            "{module} is missing in MODULES and FOUNDATION: add it where its dependencies allow"
        );
    }
}

#[test]
fn files_of_a_room_use_only_those_before() {
    let mut wrong = Vec::new();
    for (name_of_folder, order) in FOLDERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src")
            .join(name_of_folder);
        let own: BTreeSet<String> = files(&folder).iter().map(|file| stem(file)).collect();
        let known: BTreeSet<String> = order.iter().map(|file| (*file).to_string()).collect();
        assert_eq!(
            own.iter()
                .filter(|file| *file != "mod")
                .collect::<BTreeSet<_>>(),
            known.iter().collect::<BTreeSet<_>>(),
            "{name_of_folder}: list each file in its order"
        );
        let rank = |file: &str| order.iter().position(|other| *other == file);
        for file in files(&folder) {
            let name = stem(&file);
            let Some(own) = rank(&name) else { continue };
            let (code, folder_path) = (code_of(&file), format!("crate::{name_of_folder}::"));
            for path in ["super::", &folder_path, "crate::load::bigquery::"] {
                for used in names_after(&code, path) {
                    if rank(&used).is_some_and(|other| other > own) {
                        wrong.push(format!("{name_of_folder}/{name} uses {used}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn test_names_are_short() {
    let mut long = Vec::new();
    for folder in ["src", "simulator/src", "tests", "fuzz"] {
        for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
            let text = std::fs::read_to_string(&file).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                let line = line.strip_prefix("async ").unwrap_or(line);
                let Some(rest) = line.strip_prefix("fn ").filter(|_| is_test) else {
                    continue;
                };
                is_test = false;
                let name = rest.split('(').next().unwrap();
                if name.len() > LONGEST_TEST_NAME {
                    long.push(format!("{}: {name}", file.display()));
                }
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap().to_str().unwrap().to_string()
}

/// A file without its unit tests and comments.
fn code_of(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The names that stand behind a path, also in braces: `super::{a, b}`.
fn names_after(code: &str, path: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut names = BTreeSet::new();
    for rest in code.split(path).skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                names.extend(list.split(',').map(|item| word(item.trim())));
            }
            None => _ = names.insert(word(rest)),
        }
    }
    names
}

fn rank(module: &str) -> Option<usize> {
    MODULES.iter().position(|place| *place == module)
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
        used.extend(names_after(&code_of(&file), "crate::"));
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
