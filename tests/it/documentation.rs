//! What the documents say is so.

use std::path::{Path, PathBuf};

use samsara_etl::config::env;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// What stands in a file between `<!-- begin -->` and `<!-- end -->`.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("<!-- {begin} -->\n")).unwrap();
    rest.split_once(&format!("<!-- {end} -->")).unwrap().0
}

#[test]
fn every_variable_is_documented() {
    for file in ["README.md", ".env.example"] {
        let text = read(file);
        for variable in env::ALL {
            assert!(
                text.contains(variable.name),
                "{file} lacks {}",
                variable.name
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_documented() {
    let table = crate::program::Program::new()
        .succeed(&["tables", "--markdown"])
        .await
        .stdout;
    let text = read("docs/tables.md");
    let listed = between(&text, "tables: samsara-etl tables --markdown", "/tables");
    assert!(
        listed == table,
        "put the output of `samsara-etl tables --markdown` into docs/tables.md"
    );
}

/// The file in which a test such as `chaos::name` or `state::lock::tests::name` stands, and its name.
fn home(test: &str) -> (Vec<PathBuf>, &str) {
    let (module, name) = test.rsplit_once("::").unwrap_or(("", test));
    let path = module.trim_end_matches("::tests").replace("::", "/");
    let file = |file: String| root().join(file);
    (
        vec![
            file(format!("tests/it/{path}.rs")),
            file(format!("src/{path}.rs")),
            file(format!("src/{path}/mod.rs")),
            file(format!("src/{path}/tests.rs")),
        ],
        name,
    )
}

#[test]
fn fault_table_names_real_tests() {
    let faults = read("docs/faults.md");
    let is_row = |line: &&str| line.starts_with("| ") && line.ends_with("` |");
    let rows: Vec<&str> = between(&faults, "faults", "/faults")
        .lines()
        .filter(is_row)
        .collect();
    assert!(rows.len() > 100, "{} rows", rows.len());
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit_once(" | ").unwrap().1;
        for test in tests.split(", ") {
            let (files, name) = home(
                test.strip_prefix('`')
                    .and_then(|test| test.strip_suffix('`'))
                    .unwrap_or_default(),
            );
            let is_there = |file: &PathBuf| {
                std::fs::read_to_string(file)
                    .is_ok_and(|text| text.contains(&format!("fn {name}(")))
            };
            assert!(
                !name.is_empty() && files.iter().any(is_there),
                "there is no test {test}, which this row names:\n{row}"
            );
        }
    }
}
