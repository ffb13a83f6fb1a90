//! Each version of a list's rows, kept in `<table>_history`.

use samsara_simulator::Simulator;
use serde_json::{Value, json};

use crate::program::{Program, replay, simulator};
use crate::support::sources::list;

const ID: &str = "\"id\"";
const RUN: &[&str] = &["run", "--table", "people"];

fn model(keys: &str, columns: &str) -> String {
    format!(
        "/*---\ndescription = \"People.\"\nunique_key = [{keys}]\nhistory = true\n---*/\n\
         SELECT id, {columns} FROM raw.contacts\n"
    )
}

/// A program whose list of contacts is what [`Rig::list`] wrote last.
struct Rig {
    program: Program,
    pages: tempfile::TempDir,
    _simulator: Simulator,
}

impl Rig {
    async fn new() -> Self {
        let pages = tempfile::tempdir().unwrap();
        let simulator = replay(pages.path()).await;
        let program = Program::with_simulator(&simulator);
        let source = list("contacts", "id VARCHAR, name VARCHAR, email VARCHAR");
        program.write("sql/f/sources.toml", source);
        program.write("sql/f/people.sql", model(ID, "name"));
        Self {
            program,
            pages,
            _simulator: simulator,
        }
    }

    /// What Samsara lists from now on: id, name and e-mail of each.
    fn list(&self, people: &[(&str, Value)]) {
        let records: Vec<Value> = people
            .iter()
            .map(|(id, name)| json!({"id": id, "name": name, "email": format!("{id}@x")}))
            .collect();
        let page = json!({"data": records, "pagination": {"endCursor": "", "hasNextPage": false}});
        std::fs::create_dir_all(self.pages.path().join("contacts")).unwrap();
        std::fs::write(
            self.pages.path().join("contacts/0001.json"),
            page.to_string(),
        )
        .unwrap();
    }

    async fn run(&self, people: &[(&str, Value)]) {
        self.list(people);
        self.program.succeed(RUN).await;
    }

    /// All versions as `id name from-to`, deleted ones with an `x`; the times as numbers from 1, in their order.
    async fn versions(&self, columns: &str) -> Vec<String> {
        let sql = format!(
            "SELECT id, {columns} AS v, valid_from, valid_to, is_deleted FROM people_history"
        );
        let rows = self.program.rows(&sql).await;
        let time = |row: &serde_json::Map<String, Value>, name: &str| {
            row.get(name).and_then(Value::as_str).map(str::to_string)
        };
        let mut times: Vec<String> = rows
            .iter()
            .flat_map(|row| [time(row, "valid_from"), time(row, "valid_to")])
            .flatten()
            .collect();
        times.sort();
        times.dedup();
        let number = |at: Option<String>| {
            at.map_or(String::new(), |at| {
                (times.binary_search(&at).unwrap() + 1).to_string()
            })
        };
        let mut versions: Vec<String> = rows
            .iter()
            .map(|row| {
                let deleted = if row["is_deleted"].as_bool().unwrap() {
                    " x"
                } else {
                    ""
                };
                let value = row.get("v").and_then(Value::as_str).unwrap_or("null");
                let (from, to) = (
                    number(time(row, "valid_from")),
                    number(time(row, "valid_to")),
                );
                format!(
                    "{} {value} {from}-{to}{deleted}",
                    row["id"].as_str().unwrap()
                )
            })
            .collect();
        versions.sort();
        versions
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_changes_are_versions() {
    let rig = Rig::new().await;
    rig.run(&[
        ("a", json!("Ann")),
        ("b", json!("Ben")),
        ("c", json!(null)),
        ("d", json!("Dan")),
    ])
    .await;
    assert_eq!(
        rig.versions("name").await,
        ["a Ann 1-", "b Ben 1-", "c null 1-", "d Dan 1-"]
    );

    // Changed, unchanged, still without a value, gone, new.
    rig.run(&[
        ("a", json!("Anna")),
        ("b", json!("Ben")),
        ("c", json!(null)),
        ("e", json!("Eve")),
    ])
    .await;
    let second = [
        "a Ann 1-2",
        "a Anna 2-",
        "b Ben 1-",
        "c null 1-",
        "d Dan 1-2",
        "d Dan 2- x",
        "e Eve 2-",
    ];
    assert_eq!(rig.versions("name").await, second);
    // The table itself has what is there now.
    let now = rig.program.rows("SELECT id FROM people ORDER BY id").await;
    assert_eq!(
        now.iter()
            .map(|row| row["id"].as_str().unwrap())
            .collect::<String>(),
        "abce"
    );

    // The same list again leaves everything as it is, byte for byte.
    let files = rig.program.files("samsara-data");
    rig.program.succeed(RUN).await;
    assert_eq!(rig.program.files("samsara-data"), files);

    // A value appears and another goes; the removed row comes back as it was; another one goes.
    rig.run(&[
        ("a", json!(null)),
        ("b", json!("Ben")),
        ("c", json!("Cleo")),
        ("d", json!("Dan")),
    ])
    .await;
    let third = [
        "a Ann 1-2",
        "a Anna 2-3",
        "a null 3-",
        "b Ben 1-",
        "c Cleo 3-",
        "c null 1-3",
        "d Dan 1-2",
        "d Dan 2-3 x",
        "d Dan 3-",
        "e Eve 2-3",
        "e Eve 3- x",
    ];
    assert_eq!(rig.versions("name").await, third);
    // What is gone stays gone without a further version.
    rig.run(&[
        ("a", json!(null)),
        ("b", json!("Bo")),
        ("c", json!("Cleo")),
        ("d", json!("Dan")),
    ])
    .await;
    let gone: Vec<_> = rig
        .versions("name")
        .await
        .into_iter()
        .filter(|version| version.starts_with('e'))
        .collect();
    assert_eq!(gone, ["e Eve 2-3", "e Eve 3- x"]);

    let checked = rig
        .program
        .succeed(&["check", "--warehouse", "--table", "people"])
        .await
        .stdout;
    assert!(
        checked.contains("people_history")
            && checked.contains("1 partitions, 12 rows, equal to the state"),
        "{checked}"
    );
    let refreshed = rig
        .program
        .succeed(&[RUN, &["--full-refresh", "people_history"]].concat())
        .await;
    assert_eq!(rig.versions("name").await.len(), 12, "{}", refreshed.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_column_makes_no_version() {
    let rig = Rig::new().await;
    rig.run(&[("a", json!("7")), ("b", json!("8"))]).await;
    rig.run(&[("a", json!("9")), ("b", json!("8"))]).await;
    // The SQL is edited and nothing is read.
    rig.program
        .write("sql/f/people.sql", model(ID, "name, email"));
    rig.program
        .succeed(&[RUN, &["--stages", "transform,load"]].concat())
        .await;
    assert_eq!(
        rig.versions("concat(name, ' ', coalesce(email, '-'))")
            .await,
        ["a 7 - 1-2", "a 9 a@x 2-", "b 8 b@x 1-"]
    );
    // Now it counts.
    rig.program
        .write("sql/f/people.sql", model(ID, "name, upper(email) AS email"));
    rig.program
        .succeed(&[RUN, &["--stages", "transform,load"]].concat())
        .await;
    let versions = rig
        .versions("concat(name, ' ', coalesce(email, '-'))")
        .await;
    assert!(versions.contains(&"b 8 B@X 2-".to_string()), "{versions:?}");

    let before = rig.versions("name").await;
    rig.program.write(
        "sql/f/people.sql",
        model(ID, "CAST(name AS BIGINT) AS name, upper(email) AS email"),
    );
    let refused = rig
        .program
        .run(&[RUN, &["--stages", "transform,load"]].concat())
        .await;
    assert_ne!(refused.code, 0);
    assert!(
        refused
            .stderr
            .contains("column `name` is STRING, the model gives INT64"),
        "{}",
        refused.stderr
    );
    assert_eq!(rig.versions("name").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shrunken_list_deletes_nothing() {
    let rig = Rig::new().await;
    rig.program.write(
        "sql/f/people.sql",
        model("\"id\", \"email\"", "name, email"),
    );
    let ids: Vec<String> = (10..40).map(|id| id.to_string()).collect();
    let all: Vec<(&str, Value)> = ids.iter().map(|id| (id.as_str(), json!("n"))).collect();
    rig.run(&all).await;
    rig.list(&all[..5]);
    let refused = rig.program.run(RUN).await;
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("people_history snapshot: row count fell from 30 to 5"),
        "{}",
        refused.stderr
    );
    assert!(
        rig.versions("name")
            .await
            .iter()
            .all(|version| version.ends_with(" n 1-"))
    );
    // The list is complete again.
    rig.run(&all).await;
    assert_eq!(rig.versions("name").await.len(), 30);
    // It was not.
    rig.list(&all[..5]);
    assert_eq!(rig.program.run(RUN).await.code, 3);
    rig.program
        .succeed(&[RUN, &["--accept-shrunken", "people"]].concat())
        .await;
    let versions = rig.versions("name").await;
    let deleted = versions
        .iter()
        .filter(|version| version.ends_with(" n 2- x"))
        .count();
    assert_eq!((versions.len(), deleted), (55, 25));
}

#[tokio::test(flavor = "multi_thread")]
async fn unversionable_models_are_refused() {
    let rig = Rig::new().await;
    rig.program
        .write("sql/f/people.sql", model("\"name\"", "name"));
    rig.list(&[("a", json!("x")), ("b", json!("x"))]);
    let twins = rig.program.run(RUN).await;
    assert_eq!(twins.code, 3, "{}", twins.stderr);
    assert!(
        twins
            .stderr
            .contains("people snapshot: unique_key (name): 1 key on 2 rows"),
        "{}",
        twins.stderr
    );
    let twins = rig
        .program
        .run(&[RUN, &["--accept-duplicates", "people"]].concat())
        .await;
    assert_eq!(twins.code, 3, "{}", twins.stderr);
    assert!(
        twins.stderr.contains("duplicate keys (\"name\")"),
        "{}",
        twins.stderr
    );
    // The list itself is there.
    assert_eq!(rig.program.rows("SELECT * FROM people").await.len(), 2);

    let cases = [
        (
            model(ID, "name").replace("unique_key = [\"id\"]\n", ""),
            "history: `unique_key` is missing",
        ),
        (
            model(ID, "name AS valid_from"),
            "history: the history table adds a column `valid_from`",
        ),
        (
            model(ID, "name").replace("= true", "= \"yes\""),
            "people.sql:4:",
        ),
    ];
    for (sql, reason) in cases {
        rig.program.write("sql/f/people.sql", sql);
        let refused = rig.program.run(&["sql", "check"]).await;
        assert!(
            refused.code != 0 && refused.stderr.contains(reason),
            "{}\n{}",
            refused.stdout,
            refused.stderr
        );
    }
    rig.program.write("sql/f/people.sql", model(ID, "name"));
    rig.program.write(
        "sql/f/people_history.sql",
        model(ID, "name").replace("history = true\n", ""),
    );
    let refused = rig.program.run(&["sql", "check"]).await;
    assert!(
        refused
            .stderr
            .contains("history: the table `people_history` exists already"),
        "{}",
        refused.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_days_have_no_versions() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let sql = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/sql/trips/fleet_trips.sql"
    ))
    .unwrap();
    let sources = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/sql/trips/sources.toml"
    ))
    .unwrap();
    let vehicles = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/sql/vehicles/sources.toml"
    ))
    .unwrap();
    program.write("sql/trips/sources.toml", sources);
    program.write("sql/vehicles/sources.toml", vehicles);
    program.write(
        "sql/trips/fleet_trips.sql",
        sql.replacen("---*/", "history = true\n---*/", 1),
    );
    let refused = program.run(&["sql", "check"]).await;
    assert!(
        refused
            .stderr
            .contains("history: only models of a list can have it"),
        "{}",
        refused.stderr
    );
}
