//! Models that read the tables of other models.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::program::{Program, Ran};
use crate::support::sources::{daily, list};
use crate::support::wire::Server;

fn sources() -> String {
    [
        list("people", "id VARCHAR, name VARCHAR"),
        daily("shifts", "id VARCHAR, minutes BIGINT"),
        daily("stops", "id VARCHAR"),
    ]
    .concat()
}

const WORKED: &str = "SELECT samsara_time(at) AS at, id, minutes FROM raw.shifts";
const PERSONS: &str = "SELECT id, name FROM raw.people";
const STOPPED: &str = "SELECT samsara_time(at) AS at, id FROM raw.stops";
const DAYS: &str = "SELECT CAST(w.at AS DATE) AS day, w.id, max(p.name) AS name, sum(w.minutes) AS minutes \
                    FROM worked AS w LEFT JOIN persons AS p ON p.id = w.id GROUP BY 1, 2";
const TOTALS: &str = "SELECT day, sum(minutes) AS minutes FROM days GROUP BY day";
const HEADS: &str = "SELECT count(*) AS heads FROM persons";
const MOVES: &str = "SELECT d.day, d.id, count(s.at) AS stops FROM days AS d \
                     LEFT JOIN stopped AS s ON s.id = d.id GROUP BY d.day, d.id";

/// An API whose answers change, and a catalog with models of models.
struct Rig {
    program: Program,
    /// The records of each endpoint; none: it fails.
    answers: Arc<Mutex<BTreeMap<&'static str, Option<Value>>>>,
    _server: Server,
}

impl Rig {
    fn new() -> Self {
        let shift = |day: u32, id: &str, minutes: i64| json!({"at": format!("2024-01-{day:02}T08:00:00Z"), "id": id, "minutes": minutes});
        let answers = BTreeMap::from([
            (
                "people",
                Some(json!([{"id": "a", "name": "Ann"}, {"id": "b", "name": "Bob"}])),
            ),
            (
                "shifts",
                Some(json!([
                    shift(1, "a", 60),
                    shift(1, "b", 30),
                    shift(2, "a", 45),
                    shift(3, "b", 15)
                ])),
            ),
            (
                "stops",
                Some(
                    json!([{"at": "2024-01-01T09:00:00Z", "id": "a"}, {"at": "2024-01-02T09:00:00Z", "id": "a"}]),
                ),
            ),
        ]);
        let answers = Arc::new(Mutex::new(answers));
        let route = |name: &'static str| {
            let answers = answers.clone();
            get(move || async move {
                match answers.lock().get(name).cloned().flatten() {
                    None => (StatusCode::BAD_REQUEST, "not today").into_response(),
                    Some(data) => {
                        let body = json!({"data": data, "pagination": {"endCursor": "", "hasNextPage": false}});
                        Json(body).into_response() as Response
                    }
                }
            })
        };
        let router = Router::new()
            .route("/people", route("people"))
            .route("/shifts", route("shifts"))
            .route("/stops", route("stops"));
        let server = Server::start(router);
        let program = Program::new()
            .set("SAMSARA_API_URL", server.url())
            .set("SAMSARA_API_TOKEN", "t");
        program.write("sql/f/sources.toml", sources());
        let rig = Self {
            program,
            answers,
            _server: server,
        };
        for (name, keys, sql) in [
            ("worked", "partition_by = \"at\"", WORKED),
            ("stopped", "partition_by = \"at\"", STOPPED),
            ("persons", "", PERSONS),
            ("days", "partition_by = \"day\"", DAYS),
            ("totals", "partition_by = \"day\"", TOTALS),
            ("moves", "partition_by = \"day\"", MOVES),
            ("heads", "", HEADS),
        ] {
            rig.write(name, keys, sql);
        }
        rig
    }

    fn write(&self, model: &str, keys: &str, sql: &str) {
        let text = format!("/*---\ndescription = \"d\"\n{keys}\n---*/\n{sql}\n");
        self.program.write(&format!("sql/f/{model}.sql"), text);
    }

    fn answer(&self, endpoint: &'static str, data: Option<Value>) {
        self.answers.lock().insert(endpoint, data);
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        let run = ["run", "--start-date", "2024-01-01", "--end-date"];
        let end: &[&str] = match arguments.contains(&"--historical") {
            true => &["2024-01-03"],
            false => &["2024-01-04"],
        };
        self.program.run(&[&run[..], end, arguments].concat()).await
    }

    /// The same without the API.
    async fn derive(&self, tables: &[&str]) -> Ran {
        let mut arguments = vec!["--stages", "transform,load"];
        arguments.extend(tables.iter().flat_map(|table| ["--table", table]));
        self.run(&arguments).await
    }

    /// The fingerprints of what is derived, by table and partition.
    fn made(&self) -> BTreeMap<String, String> {
        let mut made = BTreeMap::new();
        for source in ["people", "shifts", "stops"] {
            let path = format!("samsara-data/raw/state/{source}.json");
            let Ok(text) = std::fs::read(self.program.folder().join(path)) else {
                continue;
            };
            let document: Value = serde_json::from_slice(&text).unwrap();
            for (partition, found) in document["partitions"].as_object().unwrap() {
                for (table, model) in found["models"].as_object().into_iter().flatten() {
                    let day = partition.replace("2024-01-0", "");
                    let fingerprint = model["fingerprint"].as_str().unwrap();
                    made.insert(format!("{table} {day}"), fingerprint.to_string());
                }
            }
        }
        made
    }

    /// What is derived otherwise than before.
    fn changed(&self, before: &mut BTreeMap<String, String>) -> String {
        let after = self.made();
        let is_new = |(name, made): &(&String, &String)| before.get(*name) != Some(*made);
        let changed: Vec<&str> = after
            .iter()
            .filter(is_new)
            .map(|(name, _)| name.as_str())
            .collect();
        let changed = changed.join(", ");
        *before = after;
        changed
    }

    /// Rows in short.
    async fn rows(&self, sql: &str) -> String {
        let rows = self.program.rows(sql).await;
        let row = |row: &serde_json::Map<String, Value>| {
            let cells = row.values().map(|cell| match cell {
                Value::String(text) => text.replace("2024-01-0", ""),
                cell => cell.to_string(),
            });
            cells.collect::<Vec<_>>().join(" ")
        };
        rows.iter().map(row).collect::<Vec<_>>().join(", ")
    }
}

const OF_TOTALS: &str = "SELECT day, minutes FROM totals ORDER BY day";

#[tokio::test(flavor = "multi_thread")]
async fn changes_reach_exactly_what_is_below() {
    let rig = Rig::new();
    // What a mart needs is read and derived, and only the mart is loaded.
    let arguments = ["--table", "totals", "--end-date", "2024-01-04"];
    let plan = ["plan", "--start-date", "2024-01-01"];
    let plan = rig.program.succeed(&[&plan[..], &arguments].concat()).await;
    assert!(
        plan.stdout
            .contains("days, persons, worked: derived because"),
        "{}",
        plan.stdout
    );
    let ran = rig.run(&["--table", "totals"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(rig.rows(OF_TOTALS).await, "1 90, 2 45, 3 15");
    let warehouse = rig.program.folder().join("samsara-data/warehouse");
    assert!(warehouse.join("totals/_table.json").exists());
    assert!(!warehouse.join("days").exists() && !warehouse.join("worked").exists());
    let mut made = rig.made();
    assert_eq!(made.len(), 3 + 3 + 3 + 1, "{made:?}");

    // ALL is everything, and derives nothing twice.
    assert_eq!(rig.run(&[]).await.code, 0);
    assert_eq!(
        rig.changed(&mut made),
        "heads snapshot, moves 1, moves 2, moves 3, stopped 1, stopped 2, stopped 3"
    );
    assert_eq!(rig.rows("SELECT heads FROM heads").await, "2");
    assert_eq!(
        rig.rows("SELECT day, id, stops FROM moves ORDER BY day, id")
            .await,
        "1 a 1, 1 b 0, 2 a 1, 3 b 0"
    );
    let idle = rig.run(&[]).await;
    assert_eq!(
        (idle.code, rig.changed(&mut made)),
        (0, String::new()),
        "{}",
        idle.stderr
    );

    // A changed list leaves days as they were derived, and changes lists.
    let more =
        json!([{"id": "a", "name": "Anna"}, {"id": "b", "name": "Bob"}, {"id": "c", "name": "Cy"}]);
    rig.answer("people", Some(more));
    assert_eq!(rig.run(&[]).await.code, 0);
    assert_eq!(rig.changed(&mut made), "heads snapshot, persons snapshot");
    assert_eq!(rig.rows("SELECT heads FROM heads").await, "3");

    // Its SQL changes days; but not what is below them, if the rows stay.
    rig.write(
        "persons",
        "",
        "SELECT id, name FROM raw.people WHERE id <> 'c'",
    );
    assert_eq!(rig.derive(&["totals", "moves"]).await.code, 0);
    assert_eq!(
        rig.changed(&mut made),
        "days 1, days 2, days 3, moves 1, moves 2, persons snapshot, totals 1, totals 2"
    );
    assert_eq!(rig.rows(OF_TOTALS).await, "1 90, 2 45, 3 15");

    // Other SQL of the same rows is derived again, and nothing below it.
    rig.write(
        "worked",
        "partition_by = \"at\"",
        &format!("{WORKED} WHERE minutes > 0"),
    );
    let plan = ["plan", "--stages", "transform,load", "--table", "totals"];
    rig.program.succeed(&plan).await;
    assert_eq!(rig.derive(&["totals"]).await.code, 0);
    assert_eq!(rig.changed(&mut made), "worked 1, worked 2, worked 3");

    // One day changes: so does this day, all the way down.
    let second = "SELECT samsara_time(at) AS at, id, CASE WHEN at < '2024-01-02' OR at > '2024-01-03' \
                  THEN minutes ELSE minutes + 5 END AS minutes FROM raw.shifts";
    rig.write("worked", "partition_by = \"at\"", second);
    // Only the table itself is selected, as if a run had been killed before it derived the others.
    assert_eq!(rig.derive(&["worked"]).await.code, 0);
    assert_eq!(rig.changed(&mut made), "worked 1, worked 2, worked 3");
    let status = [
        "status",
        "--table",
        "totals",
        "--start-date",
        "2024-01-01",
        "--end-date",
        "2024-01-04",
    ];
    let told = rig.program.run(&status).await;
    assert!(told.stdout.contains("totals"), "{}", told.stdout);
    assert_eq!(rig.derive(&["days", "totals", "moves"]).await.code, 0);
    assert_eq!(rig.changed(&mut made), "days 2, moves 2, totals 2");
    assert_eq!(rig.rows(OF_TOTALS).await, "1 90, 2 50, 3 15");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_above_is_not_taken_as_it_was() {
    let rig = Rig::new();
    // A source that fails: the day that needs it waits, others do not.
    rig.answer("stops", None);
    let failed = rig.run(&[]).await;
    assert_eq!(failed.code, 3, "{}", failed.stderr);
    assert!(
        failed
            .stderr
            .contains("moves 2024-01-01: upstream stops could not be read"),
        "{}",
        failed.stderr
    );
    let mut made = rig.made();
    assert!(
        made.contains_key("totals 1") && !made.contains_key("moves 1"),
        "{made:?}"
    );
    rig.answer("stops", Some(json!([])));
    assert_eq!(rig.run(&[]).await.code, 0);
    assert_eq!(
        rig.changed(&mut made),
        "moves 1, moves 2, moves 3, stopped 1, stopped 2, stopped 3"
    );

    // A model that fails on one day: downstream tables stay as they were on this day.
    let test = "partition_by = \"day\"\n[[tests]]\nrange = { column = \"minutes\", max = 50 }";
    rig.write("days", test, &format!("{DAYS} ORDER BY 1"));
    rig.write(
        "totals",
        "partition_by = \"day\"",
        "SELECT day, 2 * sum(minutes) AS minutes FROM days GROUP BY day",
    );
    let failed = rig.derive(&["totals"]).await;
    assert_eq!(failed.code, 3, "{}", failed.stderr);
    assert!(
        failed
            .stderr
            .contains("totals 2024-01-01: upstream table days was not derived"),
        "{}",
        failed.stderr
    );
    assert_eq!(rig.rows(OF_TOTALS).await, "1 90, 2 90, 3 30");
    rig.write(
        "days",
        "partition_by = \"day\"",
        &format!("{DAYS} ORDER BY 1"),
    );
    assert_eq!(rig.derive(&["totals"]).await.code, 0);
    assert_eq!(rig.rows(OF_TOTALS).await, "1 180, 2 90, 3 30");

    // Removed flattened objects are derived again once they are read.
    let flattened = rig
        .program
        .folder()
        .join("samsara-data/flattened/flattened");
    for table in ["days", "worked"] {
        std::fs::remove_dir_all(flattened.join(table)).unwrap();
    }
    rig.write(
        "totals",
        "partition_by = \"day\"",
        "SELECT day, 3 * sum(minutes) AS minutes FROM days GROUP BY day",
    );
    let ran = rig.derive(&["totals"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(rig.rows(OF_TOTALS).await, "1 270, 2 135, 3 45");

    // A preview runs what is above, too.
    let preview = [
        "sql",
        "preview",
        "totals",
        "--day",
        "2024-01-02",
        "--format",
        "json",
    ];
    let shown = rig.program.succeed(&preview).await;
    assert_eq!(
        shown.stdout.trim(),
        "{\"day\":\"2024-01-02\",\"minutes\":135}"
    );
    // So does a test.
    let page = |data: &str| format!("[{{\"body\": {{\"data\": [{data}]}}}}]");
    let shift = "{\"at\": \"2024-01-05T08:00:00Z\", \"id\": \"a\", \"minutes\": 7}";
    let pages = format!(
        "{{\"day\": \"2024-01-05\", \"sources\": {{\"shifts\": {}}}}}",
        page(shift)
    );
    rig.program.write("sql/f/tests/totals.pages.json", pages);
    rig.program.write(
        "sql/f/tests/totals.expected.csv",
        "day,minutes\n2024-01-05,21\n",
    );
    rig.program.succeed(&["sql", "test", "totals"]).await;
}

const OF_WEEK: &str = "SELECT week, minutes FROM weekly";
const OF_THREE: &str = "SELECT day, minutes FROM three ORDER BY day";

#[tokio::test(flavor = "multi_thread")]
async fn windows_follow_exactly_their_days() {
    let rig = Rig::new();
    for (name, keys, sql) in [
        (
            "three",
            "partition_by = \"day\"\nwindow = \"3 days\"",
            "SELECT partition_day() AS day, sum(minutes) AS minutes FROM worked",
        ),
        (
            "two",
            "partition_by = \"day\"\nwindow = \"2 days\"",
            "SELECT partition_day() AS day, count(*) AS shifts FROM raw.shifts",
        ),
        (
            "weekly",
            "partition_by = \"week\"\nwindow = \"week\"",
            "SELECT CAST(date_trunc('week', at) AS DATE) AS week, sum(minutes) AS minutes FROM worked GROUP BY 1",
        ),
        (
            "doubled",
            "partition_by = \"week\"",
            "SELECT week, 2 * minutes AS minutes FROM weekly",
        ),
    ] {
        rig.write(name, keys, sql);
    }
    // A window with days before the first that was read, or one that is over and lacks days, waits.
    let first = rig.run(&[]).await;
    assert_eq!(first.code, 0, "{}", first.stderr);
    for told in [
        "shifts was not read for 4 days from 2024-01-04 on",
        "shifts was not read for 2 days from 2023-12-30 on",
    ] {
        assert!(first.stderr.contains(told), "{}", first.stderr);
    }
    let note = "note: weekly: 2024-01-01 waits, as its window";
    assert!(first.stderr.contains(note), "{}", first.stderr);
    // Of several days of a table, the summary has the earliest and counts the others.
    let three = first
        .stderr
        .lines()
        .find(|it| it.starts_with("note: three: 2024-01-01 "));
    assert!(
        three.is_some_and(|it| it.ends_with("(and 1 further note in the log)")),
        "{}",
        first.stderr
    );
    let of_windows = |made: &str| -> String {
        let names = ["three", "two", "weekly", "doubled"];
        let is_one = |it: &&str| names.iter().any(|name| it.starts_with(name));
        let found: Vec<&str> = made.split(", ").filter(is_one).collect();
        found.join(", ")
    };
    let mut made = BTreeMap::new();
    assert_eq!(of_windows(&rig.changed(&mut made)), "three 3, two 2, two 3");
    assert_eq!(rig.rows(OF_THREE).await, "3 150");
    let early = rig
        .program
        .run(&["sql", "preview", "weekly", "--day", "2024-01-02"])
        .await;
    assert!(
        early.code != 0 && early.stderr.contains("shifts was not read for 4 days"),
        "{}",
        early.stderr
    );

    // The rest of the week. The next Monday is another week, and waits.
    let shift = |day: u32, minutes: i64| json!({"at": format!("2024-01-{day:02}T20:00:00Z"), "id": "a", "minutes": minutes});
    let shifts = |fifth: i64| {
        json!([
            shift(1, 60),
            shift(2, 45),
            shift(3, 15),
            shift(5, fifth),
            shift(7, 7),
            shift(8, 1000)
        ])
    };
    rig.answer("shifts", Some(shifts(5)));
    let run = async |arguments: &[&str]| {
        let ran = rig.program.run(&[&["run"], arguments].concat()).await;
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    };
    let whole = ["--start-date", "2024-01-01", "--end-date", "2024-01-09"];
    run(&[&whole[..], &["--historical"]].concat()).await;
    assert_eq!(rig.rows(OF_WEEK).await, "132 1");
    assert_eq!(rig.rows("SELECT week, minutes FROM doubled").await, "264 1");
    assert_eq!(
        rig.rows(OF_THREE).await,
        "3 120, 4 60, 5 20, 6 5, 7 12, 8 1007"
    );
    assert_eq!(
        rig.rows("SELECT day, shifts FROM two ORDER BY day").await,
        "2 2, 3 2, 4 1, 5 1, 6 1, 7 1, 8 2"
    );
    let status = ["status", "--format", "json", "--table", "weekly"];
    let status = rig.program.succeed(&[&status[..], &whole].concat()).await;
    assert!(status.stdout.contains("\"weekly\""), "{}", status.stdout);
    rig.changed(&mut made);
    run(&whole).await;
    assert_eq!(rig.changed(&mut made), "");

    // Late data of one day: partitions with the day in their window are derived again, and the plan says so.
    rig.answer("shifts", Some(shifts(6)));
    let fifth = ["--start-date", "2024-01-05", "--end-date", "2024-01-06"];
    run(&[&fifth[..], &["--historical", "--stages", "extract"]].concat()).await;
    let derive = [&whole[..], &["--stages", "transform,load"]].concat();
    let plan = rig
        .program
        .succeed(&[&["plan"], &derive[..]].concat())
        .await;
    for told in [
        "three: 3 days, 2024-01-05 to 2024-01-07 (3 rows) derived again, without requests to the API: tables that it reads",
        "two: 2 days, 2024-01-05 to 2024-01-06 (2 rows) derived again, without requests to the API: the raw rows",
        "weekly: 1 week, 2024-01-01 (1 rows) derived again, without requests to the API: tables that it reads",
    ] {
        assert!(plan.stdout.contains(told), "{}", plan.stdout);
    }
    let json = [&["plan", "--format", "json"], &derive[..]].concat();
    let json: Value = serde_json::from_str(&rig.program.succeed(&json).await.stdout).unwrap();
    let again = json["derived_again"].as_array().unwrap();
    let weekly = again.iter().find(|it| it["table"] == "weekly").unwrap();
    assert_eq!(
        (
            &weekly["upstream_changed"],
            &weekly["raw_changed"],
            &weekly["period"]
        ),
        (&json!(1), &json!(0), &json!("week"))
    );
    // A diff derives what is upstream by itself.
    let diff = rig.program.run(&["sql", "diff", "weekly"]).await;
    assert!(
        diff.stdout
            .contains("weekly 2024-01-01: 1 rows before, 1 after"),
        "{} {}",
        diff.stdout,
        diff.stderr
    );
    run(&derive).await;
    let changed = rig.changed(&mut made);
    assert_eq!(
        of_windows(&changed),
        "doubled 1, three 5, three 6, three 7, two 5, two 6, weekly 1"
    );
    assert_eq!(rig.rows(OF_WEEK).await, "133 1");
    assert_eq!(
        rig.rows(OF_THREE).await,
        "3 120, 4 60, 5 21, 6 6, 7 13, 8 1007"
    );
    run(&derive).await;
    assert_eq!(rig.changed(&mut made), "");
}

/// Days and a list, derived at the same time, read another list whose objects are gone: it is derived for all of them,
/// and the objects listed by the state exist afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn removed_objects_are_derived_for_all_readers() {
    let rig = Rig::new();
    let ran = rig.run(&[]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let flattened = rig
        .program
        .folder()
        .join("samsara-data/flattened/flattened");
    for (round, others) in [(1, "AND true"), (2, "AND 1 = 1"), (3, "AND 2 = 2")] {
        std::fs::remove_dir_all(flattened.join("persons")).unwrap();
        let days = DAYS.replace("p.id = w.id", &format!("p.id = w.id {others}"));
        rig.write("days", "partition_by = \"day\"", &days);
        let heads = format!("SELECT count(*) + {round} - {round} AS heads FROM persons");
        rig.write("heads", "", &heads);
        let ran = rig.derive(&["days", "heads"]).await;
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stderr.contains("are gone"), "{}", ran.stderr);
        // The objects listed by the state exist: nothing is derived again for the next readers.
        rig.write(
            "heads",
            "",
            &format!("SELECT count(id) + {round} - {round} AS heads FROM persons"),
        );
        let ran = rig.derive(&["heads"]).await;
        assert!(
            ran.code == 0 && !ran.stderr.contains("are gone"),
            "{}",
            ran.stderr
        );
        assert_eq!(rig.rows("SELECT heads FROM heads").await, "2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_windows_are_told() {
    let rig = Rig::new();
    let by_week =
        "SELECT CAST(date_trunc('week', at) AS DATE) AS day, count(*) AS n FROM worked GROUP BY 1";
    let of_both = "SELECT partition_day() AS day, count(*) AS n FROM worked AS w JOIN weekly AS k ON k.day < w.at";
    let by_day = |window: &str| format!("partition_by = \"day\"\n{window}");
    let week = by_day("window = \"week\"");
    rig.write("weekly", &week, by_week);
    rig.write("one", &by_day("window = \"1 days\""), by_week);
    rig.write("list", "window = \"week\"", PERSONS);
    rig.write("longer", &week, &by_week.replace("'week'", "'month'"));
    rig.write("missing", &by_day(""), by_week);
    rig.write("mixed", &by_day(""), of_both);
    rig.write("parts", &by_day("window = \"month\""), of_both);
    let checked = rig.program.run(&["sql", "check"]).await;
    assert_ne!(checked.code, 0);
    let told = format!("{}{}", checked.stdout, checked.stderr);
    for problem in [
        "window is `1 days`, not \"week\", \"month\" or a number of days",
        "window: the model reads no table by day",
        "groups by month, but the model is derived week by week",
        "or give the model `window = \"week\"`",
        "`weekly` is by week, and the model also reads a table by day: give the model `window = \"week\"`",
        "window: `weekly` is by week, of which a window of \"month\" may hold a part",
    ] {
        assert!(told.contains(problem), "{problem} is not in {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_tested_against_other_tables() {
    let rig = Rig::new();
    let by_day = "partition_by = \"day\"";
    let relationship = |to: &str, field: &str, severity: &str| {
        format!(
            "{by_day}\n[[tests]]\nrelationships = {{ column = \"id\", to = \"{to}\", field = \"{field}\" }}\nseverity = \"{severity}\""
        )
    };
    let freshness = |column: &str, hours: u32| {
        format!(
            "partition_by = \"at\"\n[[tests]]\nfreshness = {{ column = \"{column}\", max_age_hours = {hours} }}"
        )
    };
    // What the model does not read or have is told before anything runs.
    rig.write("days", &relationship("person", "id", "error"), DAYS);
    rig.write("moves", &relationship("days", "ids", "error"), MOVES);
    rig.write("worked", &freshness("minutes", 1), WORKED);
    let checked = rig.program.run(&["sql", "check"]).await;
    assert_ne!(checked.code, 0);
    let told = format!("{}{}", checked.stdout, checked.stderr);
    assert!(
        told.contains("freshness: `minutes` is INT64, not TIMESTAMP or DATE"),
        "{told}"
    );
    rig.write("worked", &freshness("at", 16), WORKED);
    let checked = rig.program.run(&["sql", "check"]).await;
    let told = format!("{}{}", checked.stdout, checked.stderr);
    assert!(
        told.contains(
            "relationships: the model does not read the table `person`; did you mean `persons`?"
        ),
        "{told}"
    );
    rig.write("days", &relationship("persons", "id", "error"), DAYS);
    let checked = rig.program.run(&["sql", "check"]).await;
    let told = format!("{}{}", checked.stdout, checked.stderr);
    assert!(
        told.contains("relationships: `days` has no column `ids`; did you mean `id`?"),
        "{told}"
    );

    // Someone who is not listed works on the second day; NULL is nobody.
    rig.write("moves", by_day, MOVES);
    let shift = |day: u32, id: Value, minutes: i64| json!({"at": format!("2024-01-{day:02}T08:00:00Z"), "id": id, "minutes": minutes});
    let shifts = json!([
        shift(1, json!("a"), 60),
        shift(1, Value::Null, 1),
        shift(2, json!("z"), 45),
        shift(3, json!("b"), 15)
    ]);
    rig.answer("shifts", Some(shifts));
    let ran = rig.run(&[]).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr.contains(
            "days 2024-01-02: test relationships (id, persons.id): 1 row, such as id = \"z\""
        ),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("days 2024-01-01") && !ran.stderr.contains("worked 2024"));
    rig.write("days", &relationship("persons", "id", "warn"), DAYS);
    let ran = rig.derive(&["totals"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(rig.rows(OF_TOTALS).await, "1 61, 2 45, 3 15");

    // Sixteen hours lie between the shifts and the end of the day. A day without rows has none in time.
    let stricter = WORKED.replace("minutes FROM", "minutes + 1 AS minutes FROM");
    rig.write("worked", &freshness("at", 15), &stricter);
    let ran = rig.derive(&["worked"]).await;
    assert_ne!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("worked 2024-01-03: test freshness (at, 15 hours): 1 row, such as at = "),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_setting_derives_its_models() {
    let rig = Rig::new();
    let settings = |price: &str| rig.program.write("sql/settings.toml", price);
    settings("price = 1.50\nzone = \"UTC\"\n");
    let priced = "SELECT day, CAST(setting('price') AS DOUBLE) * sum(minutes) AS cost FROM days GROUP BY day";
    rig.write("priced", "partition_by = \"day\"", priced);
    let ran = rig.run(&[]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let mut made = rig.made();
    let of_cost = "SELECT cost FROM priced ORDER BY day";
    assert_eq!(rig.rows(of_cost).await, "135.0, 67.5, 22.5");
    // Neither a comment nor another setting is the price.
    settings("price = 1.5 # per minute\nzone = \"Europe/Paris\"\n");
    let ran = rig.run(&[]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(rig.changed(&mut made), "");
    settings("price = 2\n");
    let ran = rig.run(&[]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(rig.changed(&mut made), "priced 1, priced 2, priced 3");
    assert_eq!(
        rig.rows("SELECT cost FROM priced WHERE cost = 180").await,
        "180.0"
    );
    settings("prize = 2\n");
    let told = rig.program.run(&["sql", "check"]).await;
    assert!(
        format!("{}{}", told.stdout, told.stderr)
            .contains("settings.toml has no setting `price`; did you mean `prize`?"),
        "{} {}",
        told.stdout,
        told.stderr
    );
}
