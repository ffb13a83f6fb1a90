//! Odd times, several versions of one record, keys that are not unique, links that expire: their rows in the tables,
//! and what the run reports.

use std::path::Path;

use samsara_etl::catalog::Catalog;
use samsara_etl::sql_tests::test_model;
use samsara_simulator::Simulator;
use serde_json::{Value, json};

use crate::program::{Program, Ran, replay};

/// A program whose API answers with pages that the test writes.
struct Rig {
    program: Program,
    pages: tempfile::TempDir,
    simulator: Simulator,
}

impl Rig {
    async fn new() -> Self {
        let pages = tempfile::tempdir().unwrap();
        let simulator = replay(pages.path()).await;
        Self {
            program: Program::with_simulator(&simulator),
            pages,
            simulator,
        }
    }

    fn page(&self, path: &str, body: &Value) {
        let path = self.pages.path().join(format!("{path}.json"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body.to_string()).unwrap();
    }

    /// A chain of pages, each a list of records.
    fn list(&self, endpoint: &str, pages: &[Value]) {
        for (index, records) in pages.iter().enumerate() {
            let has_next = index + 1 < pages.len();
            let cursor = if has_next {
                format!("{endpoint} {index}")
            } else {
                String::new()
            };
            let body = json!({"data": records, "pagination": {"endCursor": cursor, "hasNextPage": has_next}});
            self.page(&format!("{endpoint}/{:04}", index + 1), &body);
        }
    }

    async fn run(&self, table: &str, flags: &[&str]) -> Ran {
        let dates = ["--start-date", "2024-01-01", "--end-date", "2024-01-03"];
        self.program
            .run(&[&["run", "--table", table][..], &dates, flags].concat())
            .await
    }

    /// The rows of a query, each as its values in the order of their names.
    async fn rows(&self, sql: &str) -> Vec<String> {
        let rows = self.program.rows(sql).await;
        let mut rows: Vec<String> = rows
            .into_iter()
            .map(|row| {
                row.into_iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        rows.sort();
        rows
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_times_become_null() {
    let rig = Rig::new().await;
    let times = [
        (
            "0",
            json!("2024-01-01T00:00:00Z"),
            Some("2024-01-01T00:00:00Z"),
        ),
        (
            "1",
            json!("0001-01-01T00:00:00Z"),
            Some("0001-01-01T00:00:00Z"),
        ),
        (
            "2",
            json!("9999-12-31T23:59:59Z"),
            Some("9999-12-31T23:59:59Z"),
        ),
        (
            "3",
            json!("2262-04-12T00:00:00Z"),
            Some("2262-04-12T00:00:00Z"),
        ),
        (
            "4",
            json!("2024-01-01T00:00:00+02:00"),
            Some("2023-12-31T22:00:00Z"),
        ),
        (
            "5",
            json!("2016-12-31T23:59:60Z"),
            Some("2017-01-01T00:00:00Z"),
        ),
        (
            "6",
            json!("1969-12-31T23:59:59.9999999Z"),
            Some("1969-12-31T23:59:59.999999Z"),
        ),
        ("7", json!(""), None),
        ("8", json!(null), None),
        ("9", json!(" "), None),
        ("a", json!("N/A"), None),
        ("b", json!("N/A"), None),
        ("c", json!("2024-02-30T00:00:00Z"), None),
        ("d", json!("2024-01-01T24:00:00Z"), None),
        ("e", json!("1704067200000"), None),
        ("f", json!("\u{1b}[31m\n10000-01-01T00:00:00Z"), None),
    ];
    let drivers = times
        .iter()
        .map(|(id, time, _)| json!({"id": id, "name": "D", "createdAtTime": time}));
    rig.list(
        "fleet/drivers/driverActivationStatus=active",
        &[drivers.collect()],
    );
    rig.list("fleet/drivers", &[json!([])]);
    let ran = rig.run("fleet_drivers", &[]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let rows = rig
        .rows("SELECT id, createdAtTime FROM fleet_drivers")
        .await;
    let expected = times.iter().map(|(id, _, time)| {
        let time = time.map_or(String::new(), |time| {
            format!("createdAtTime={} ", json!(time))
        });
        format!("{time}id={}", json!(id))
    });
    let mut expected: Vec<String> = expected.collect();
    expected.sort();
    assert_eq!(rows, expected);
    // Five different texts are distinguished; line ends and terminal colours are escaped as in JSON.
    assert!(
        ran.stderr
            .contains("schema drift (not valid times: NULL in the table"),
        "{}",
        ran.stderr
    );
    let told = "  fleet_drivers.createdAtTime: 7, first in snapshot: ";
    let line = ran
        .stderr
        .lines()
        .find(|line| line.starts_with(told))
        .unwrap_or_else(|| panic!("{}", ran.stderr));
    for text in [
        r#"" " (1)"#,
        r#""N/A" (2)"#,
        r#""2024-02-30T00:00:00Z" (1)"#,
        r#""2024-01-01T24:00:00Z" (1)"#,
    ] {
        assert!(line.contains(text), "{line}");
    }
    assert!(
        !ran.stderr.contains("\u{1b}[31m") && !ran.stderr.contains("\n10000"),
        "{}",
        ran.stderr
    );
    // It counts as read: nothing is derived or loaded again, or reported again.
    let again = rig.run("fleet_drivers", &[]).await;
    assert!(
        again.code == 0 && !again.stderr.contains("schema drift"),
        "{}",
        again.stderr
    );

    // Milliseconds, of rows that have a time of their own to be found by.
    rig.list("fleet/vehicles", &[json!([{"id": "7", "name": "V"}])]);
    let trips = [
        (1, json!(1_704_100_000_000_i64)),
        (2, json!(253_402_300_799_999_i64)),
        (3, json!(253_402_300_800_000_i64)),
        (4, json!(9_223_372_036_854_775_000_i64)),
        (5, json!(9_223_372_036_854_775_807_i64)),
    ];
    let trips = trips.iter().map(|(n, end)| {
        json!({"startMs": 1_704_067_200_000_i64 + n, "endMs": end, "startOdometer": n - 1, "endOdometer": 0})
    });
    rig.page(
        "v1/fleet/trips/0001",
        &json!({"trips": trips.collect::<Value>()}),
    );
    let ran = rig.run("fleet_trips", &[]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let told = "  fleet_trips.endTime: 2, first in 2024-01-01: 253402300800000 (1), 9223372036854775000 (1)";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    assert_eq!(
        rig.rows("SELECT endTime, startOdometer, endOdometer FROM fleet_trips")
            .await,
        [
            r#"endTime="2024-01-01T09:06:40Z""#,
            r#"endTime="9999-12-31T23:59:59.999Z" startOdometer=1"#,
            "startOdometer=2",
            "startOdometer=3",
            "startOdometer=4",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn times_out_of_range_become_null() {
    let rig = Rig::new().await;
    rig.program.write(
        "sql/f/sources.toml",
        "[contacts]\ndescription = \"d\"\nkind = \"snapshot\"\nendpoint = \"/contacts\"\nrate_limit = \"50/s\"\n\
         schema = \"id VARCHAR, ms BIGINT, at VARCHAR\"\n",
    );
    let model = "SELECT id, to_timestamp_millis(ms) AS made, samsara_time_ms(ms) + INTERVAL '1 day' AS later,
        CAST(samsara_time_ms(ms) + INTERVAL '1 day' AS DATE) AS day, date_trunc('year', samsara_time(at)) AS year,
        samsara_time(at) AS \"at\", samsara_time(at) AS secret, samsara_time(at) AS gone FROM raw.contacts";
    let front = "/*---\ndescription = \"d\"\nhash = [\"secret\"]\ndrop = [\"gone\"]\n---*/\n";
    rig.program
        .write("sql/f/people.sql", format!("{front}{model}"));
    let rig_program = Rig {
        program: rig.program.set("SAMSARA_ETL_HASH_SALT", "s"),
        ..rig
    };
    let rig = rig_program;
    rig.list(
        "contacts",
        &[json!([
            {"id": "1", "ms": 253_402_300_799_999_i64, "at": "9999-06-01T00:00:00Z"},
            {"id": "2", "ms": 9_223_372_036_854_775_000_i64, "at": "soon"},
            {"id": "3", "ms": 1_704_067_200_000_i64, "at": "0001-06-01T00:00:00Z"},
        ])],
    );
    let ran = rig.run("people", &[]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let rows = rig
        .rows("SELECT id, made, later, day, year FROM people")
        .await;
    assert_eq!(
        rows,
        [
            r#"day="2024-01-02" id="3" later="2024-01-02T00:00:00Z" made="2024-01-01T00:00:00Z" year="0001-01-01T00:00:00Z""#,
            r#"id="1" made="9999-12-31T23:59:59.999Z" year="9999-01-01T00:00:00Z""#,
            r#"id="2""#,
        ]
    );
    let told: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("  people."))
        .collect();
    assert_eq!(
        told,
        [
            r#"  people.at: 1, first in snapshot: "soon" (1)"#,
            // One beyond the bounds by itself, one by the day that was added.
            "  people.day: 2, first in snapshot: 2932897 (1), 9223372036854775000 (1)",
            "  people.gone: 1, first in snapshot",
            "  people.later: 2, first in snapshot: 253402387199999000 (1), 9223372036854775000 (1)",
            "  people.made: 1, first in snapshot: 9223372036854775000 (1)",
            "  people.secret: 1, first in snapshot",
            r#"  people.year: 1, first in snapshot: "soon" (1)"#,
        ],
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_versions_in_one_list_the_newest_is_in_the_table() {
    let rig = Rig::new().await;
    // Deactivated between the two halves of the sweep. In one case the later response has the older version: the time
    // of the change decides, not the order.
    let driver = |id: &str, status: &str, updated: &str| json!({"id": id, "name": id, "driverActivationStatus": status, "updatedAtTime": updated});
    let active = [
        driver("1", "active", "2024-01-01T00:00:00Z"),
        driver("2", "active", "2024-01-02T00:00:00.5Z"),
        driver("3", "active", ""),
        driver("4", "active", "soon"),
    ];
    let deactivated = [
        driver("1", "deactivated", "2024-01-02T00:00:00Z"),
        driver("2", "deactivated", "2024-01-02T00:00:00Z"),
        driver("3", "deactivated", ""),
        driver("4", "deactivated", "2024-01-02T00:00:00Z"),
    ];
    rig.list(
        "fleet/drivers/driverActivationStatus=active",
        &[json!(active)],
    );
    rig.list(
        "fleet/drivers/driverActivationStatus=deactivated",
        &[json!(deactivated)],
    );
    let ran = rig.run("fleet_drivers", &[]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    // Of a version that is not in the table, nothing is told.
    assert!(!ran.stderr.contains("schema drift"), "{}", ran.stderr);
    assert_eq!(
        rig.rows("SELECT id, driverActivationStatus AS s FROM fleet_drivers")
            .await,
        [
            r#"id="1" s="deactivated""#,
            r#"id="2" s="active""#,
            r#"id="3" s="deactivated""#,
            r#"id="4" s="deactivated""#
        ]
    );
    // The raw rows are all there.
    assert_eq!(
        rig.rows("SELECT count(*) AS n FROM raw.fleet_drivers")
            .await,
        ["n=8"]
    );

    // On two pages, without a time of last change: the version on the later page counts. Child rows come from that
    // version alone, and records without an id are all kept.
    let tag = |id: Value, name: &str, vehicles: &[&str]| {
        let vehicles: Value = vehicles
            .iter()
            .map(|id| json!({"id": id, "name": id}))
            .collect();
        json!({"id": id, "name": name, "vehicles": vehicles})
    };
    rig.list(
        "tags",
        &[
            json!([
                tag(json!("1"), "old", &["a", "b"]),
                tag(json!("2"), "only", &["a"]),
                tag(json!(null), "x", &["c"])
            ]),
            json!([
                tag(json!("1"), "newer", &["b"]),
                tag(json!(null), "y", &["d"])
            ]),
            json!([tag(json!("1"), "new", &["b", "e"])]),
        ],
    );
    let ran = rig.run("fleet_tags_vehicles", &[]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(
        rig.rows("SELECT tag_id AS i, tag_name AS n, vehicle_id AS v FROM fleet_tags_vehicles")
            .await,
        [
            r#"i="1" n="new" v="b""#,
            r#"i="1" n="new" v="e""#,
            r#"i="2" n="only" v="a""#,
            r#"n="x" v="c""#,
            r#"n="y" v="d""#
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_not_unique_stop_their_partition_and_no_other() {
    let rig = Rig::new().await;
    let reading = |time: &str, value: i64| json!({"time": time, "value": value});
    let day = |n: u32, readings: &[Value]| {
        let folder = format!("fleet/vehicles/stats/history/startTime=2024-01-0{n}T00%3A00%3A00Z");
        rig.list(
            &folder,
            &[json!([{"id": "7", "name": "V", "engineRpm": readings}])],
        );
    };
    rig.list("fleet/vehicles/stats/feed", &[json!([])]);
    rig.page(
        "fleet/vehicles/stats/feed/0001",
        &json!({"data": [], "pagination": {"endCursor": "c", "hasNextPage": false}}),
    );
    let twin = "2024-01-01T10:00:00Z";
    let good = [
        reading("2024-01-02T10:00:00Z", 1),
        reading("2024-01-02T10:00:00Z", 1),
    ];
    day(
        1,
        &[
            reading(twin, 1),
            reading(twin, 2),
            reading(twin, 2),
            reading("2024-01-01T11:00:00Z", 3),
        ],
    );
    day(2, &good);
    let table = "fleet_vehicle_stats_engineRpm";
    let ran = rig.run(table, &[]).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let told = "fleet_vehicle_stats_engineRpm 2024-01-01: unique_key (vehicle_id, time): 1 key on 2 rows, such as \
                vehicle_id = \"7\", time = 2024-01-01T10:00:00Z on 2.";
    assert!(
        ran.stderr.contains(told) && ran.stderr.contains("--accept-duplicates"),
        "{}",
        ran.stderr
    );
    let rows = || async {
        rig.rows(&format!("SELECT time, \"engineRpm\" AS r FROM {table}"))
            .await
    };
    assert_eq!(rows().await, [r#"r=1.0 time="2024-01-02T10:00:00Z""#]);
    // Nothing of it is left lying about.
    let flattened = rig.program.files("samsara-data/flattened");
    assert!(
        flattened
            .iter()
            .all(|(path, _, _)| !path.contains("2024-01-01")),
        "{flattened:?}"
    );

    // The preview shows the rows, and says what is wrong with them.
    let preview = rig
        .program
        .run(&[
            "sql",
            "preview",
            table,
            "--day",
            "2024-01-01",
            "--format",
            "csv",
        ])
        .await;
    assert_eq!(
        (preview.code, preview.stdout.lines().count()),
        (1, 4),
        "{}",
        preview.stderr
    );
    assert!(
        preview.stderr.contains("1 key on 2 rows"),
        "{}",
        preview.stderr
    );

    // As long as nobody says otherwise, it stays so.
    let again = rig.run(table, &[]).await;
    assert!(
        again.code == 1 && again.stderr.contains(told),
        "{}",
        again.stderr
    );
    let wrong = rig
        .run(table, &["--accept-duplicates", "fleet_trips"])
        .await;
    assert!(
        wrong.code == 2
            && wrong
                .stderr
                .contains("`fleet_trips` is not one of the tables"),
        "{}",
        wrong.stderr
    );
    let accepted = rig.run(table, &["--accept-duplicates", table]).await;
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    assert!(
        accepted
            .stderr
            .contains("accepted: fleet_vehicle_stats_engineRpm has duplicate keys"),
        "{}",
        accepted.stderr
    );
    assert_eq!(rows().await.len(), 4);
    assert_eq!(rig.run(table, &[]).await.code, 0);

    // A loaded day stays as it was when it is read again and has become invalid.
    day(2, &[good[0].clone(), reading("2024-01-02T10:00:00Z", 5)]);
    assert_eq!(rig.run(table, &["--historical"]).await.code, 3);
    assert_eq!(rows().await.len(), 4);
}

/// A test of `sql test` with rows that are not unique fails, whatever is expected.
#[tokio::test(flavor = "multi_thread")]
async fn a_case_whose_rows_are_not_unique_fails() {
    let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let catalog = Catalog::open(Some(&sql)).unwrap();
    let model = catalog.model("fleet_vehicle_stats_engineRpm").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let readings = [1, 2].map(|value| json!({"time": "2024-01-01T10:00:00Z", "value": value}));
    let body = json!({"data": [{"id": "7", "name": "V", "engineRpm": readings}], "pagination": {"hasNextPage": false}});
    let pages = json!({"day": "2024-01-01", "sources": {"fleet_vehicle_stats_engineRpm": [{"body": body}]}});
    std::fs::write(
        folder
            .path()
            .join("fleet_vehicle_stats_engineRpm.pages.json"),
        pages.to_string(),
    )
    .unwrap();
    let rows = "vehicle_id,parc_id,time,engineRpm\n7,V,2024-01-01T10:00:00Z,1.0\n7,V,2024-01-01T10:00:00Z,2.0\n";
    std::fs::write(
        folder
            .path()
            .join("fleet_vehicle_stats_engineRpm.expected.csv"),
        rows,
    )
    .unwrap();
    let error = test_model(&catalog, model, folder.path())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("are not unique: unique_key (vehicle_id, time): 1 key on 2 rows"),
        "{error}"
    );
}

const EVENTS: &str = "fleet/safety-events";
const AUDIT: &str = "fleet/safety-events/audit-logs/feed";

fn event(n: u32, state: &str, signature: &str) -> Value {
    json!({
        "id": format!("7-{n}"), "time": format!("2024-01-01T1{n}:00:00Z"), "coachingState": state,
        "vehicle": {"id": "7"}, "behaviorLabels": [{"label": "braking", "source": "automated"}],
        "downloadForwardVideoUrl": format!("https://media/{n}?signature={signature}"),
    })
}

/// The days for which events were requested.
fn asked(simulator: &Simulator) -> Vec<String> {
    let requests = simulator.requests();
    let of_events = requests
        .iter()
        .filter(|request| request.path == format!("/{EVENTS}"));
    let mut days: Vec<String> = of_events
        .filter_map(|request| Some(request.query.split("startTime=").nth(1)?[..10].to_string()))
        .collect();
    days.sort();
    days
}

#[tokio::test(flavor = "multi_thread")]
async fn expiring_links_are_no_change() {
    let rig = Rig::new().await;
    let days = |first: Value| {
        rig.list(
            &format!("{EVENTS}/startTime=2024-01-01T00%3A00%3A00Z"),
            &[first],
        );
        rig.list(
            &format!("{EVENTS}/startTime=2024-01-02T00%3A00%3A00Z"),
            &[json!([])],
        );
    };
    // The audit log is read until a page is empty; its next one is read in the next run.
    let log = |file: u32, records: Value| {
        let body = json!({"data": records, "pagination": {"endCursor": format!("c{file}"), "hasNextPage": false}});
        rig.page(&format!("{AUDIT}/000{file}"), &body);
    };
    (1..6).for_each(|file| log(file, json!([])));
    // One event came twice, on two pages, with another signature: it is one row.
    rig.list(
        &format!("{EVENTS}/startTime=2024-01-01T00%3A00%3A00Z"),
        &[
            json!([event(0, "needsReview", "a"), event(1, "needsReview", "a")]),
            json!([event(1, "needsReview", "b")]),
        ],
    );
    rig.list(
        &format!("{EVENTS}/startTime=2024-01-02T00%3A00%3A00Z"),
        &[json!([])],
    );
    let run = |flags: &'static [&'static str]| rig.run("fleet_safety_events", flags);
    let ran = run(&[]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let rows = || async {
        rig.rows(
            "SELECT event_id AS e, \"coachingState\" AS s, \"downloadForwardVideoUrl\" AS u FROM fleet_safety_events",
        )
        .await
    };
    let first = [
        r#"e="7-0" s="needsReview" u="https://media/0?signature=a""#,
        r#"e="7-1" s="needsReview" u="https://media/1?signature=b""#,
    ];
    assert_eq!(rows().await, first);
    assert_eq!(
        asked(&rig.simulator),
        ["2024-01-01", "2024-01-01", "2024-01-02"]
    );

    // Read again with other signatures: unchanged, nothing is derived or loaded.
    rig.list(
        &format!("{EVENTS}/startTime=2024-01-01T00%3A00%3A00Z"),
        &[
            json!([event(0, "needsReview", "x"), event(1, "needsReview", "x")]),
            json!([event(1, "needsReview", "y")]),
        ],
    );
    let flattened = rig.program.files("samsara-data/flattened/flattened");
    let ran = run(&["--historical"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(
        (
            rows().await.as_slice(),
            rig.program.files("samsara-data/flattened/flattened")
        ),
        (&first.map(String::from)[..], flattened)
    );

    // Both days have long been final. If the log reports a change, its day is read again at any time.
    rig.simulator.clear_requests();
    days(json!([
        event(0, "coached", "z"),
        event(1, "needsReview", "z")
    ]));
    let ran = run(&[]).await;
    assert_eq!(
        (ran.code, asked(&rig.simulator)),
        (0, vec![]),
        "{}",
        ran.stderr
    );
    let change = |event_time: Value| {
        json!({"id": "l", "time": "2024-02-20T08:00:00Z", "type": "CoachingStateActivityType",
               "safetyEvent": {"id": "7-0", "time": event_time, "vehicle": {"id": "7"}}})
    };
    // Days that were never requested, and changes without an event, have no effect.
    log(
        3,
        json!([
            change(json!("2024-01-01T10:00:00Z")),
            change(json!("2023-12-01T00:00:00Z")),
            change(json!(null))
        ]),
    );
    let ran = run(&[]).await;
    assert_eq!(
        (ran.code, asked(&rig.simulator)),
        (0, vec!["2024-01-01".to_string()]),
        "{}",
        ran.stderr
    );
    assert_eq!(
        rows().await,
        [
            r#"e="7-0" s="coached" u="https://media/0?signature=z""#,
            r#"e="7-1" s="needsReview" u="https://media/1?signature=z""#,
        ]
    );
    // Once was enough.
    rig.simulator.clear_requests();
    assert_eq!((run(&[]).await.code, asked(&rig.simulator)), (0, vec![]));
    assert!(
        rig.simulator
            .requests()
            .iter()
            .any(|request| request.path == format!("/{AUDIT}"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_changes_and_keys_are_refused() {
    let program = Program::new();
    let feed = "[audit_log]\ndescription = \"d\"\nkind = \"feed\"\nendpoint = \"/log\"\nrate_limit = \"5/s\"\n\
                window = { start = \"s\", format = \"rfc3339\" }\ntime_field = \"time\"\n\
                schema = \"time VARCHAR, of STRUCT<at VARCHAR, n BOOLEAN>\"\n";
    let list = "[list]\ndescription = \"d\"\nkind = \"snapshot\"\nendpoint = \"/list\"\nrate_limit = \"5/s\"\n\
                schema = \"id VARCHAR, l ARRAY<VARCHAR>, b BOOLEAN, j JSON, s STRUCT<x VARCHAR>\"\n";
    let events = "[events]\ndescription = \"d\"\nkind = \"window\"\nendpoint = \"/e\"\nrate_limit = \"5/s\"\n\
                  window = { start = \"s\", end = \"e\", format = \"rfc3339\" }\ntime_field = \"time\"\n\
                  schema = \"time VARCHAR\"\n";
    program.write(
        "sql/f/m.sql",
        "/*---\ndescription = \"d\"\n---*/\nSELECT id FROM raw.list\n",
    );
    let changes = |it: &str| format!("{feed}{list}{events}changes = {it}\n");
    let with = |keys: &str| format!("{feed}{list}{keys}{events}");
    let cases = [
        (
            changes("{ source = \"audit_lgo\", time_field = \"of.at\" }"),
            "unknown source `audit_lgo`; did you mean `audit_log`?",
        ),
        (
            changes("{ source = \"list\", time_field = \"id\" }"),
            "`list` is not a feed",
        ),
        (
            changes("{ source = \"audit_log\", time_field = \"of.n\" }"),
            "a time must be VARCHAR or BIGINT",
        ),
        (changes("{ source = \"audit_log\" }"), "a path, or { source"),
        (changes("\"feed\""), "must be a path that starts with `/`"),
        (
            with("changes = \"/feed\"\n"),
            "`changes` is for the kind `window` only",
        ),
        (with("key = [\"ib\"]\n"), "key `ib`: unknown field `ib`"),
        (with("key = [\"l\"]\n"), "key `l` is not a single value"),
        (
            with("key = [\"_parent_id\"]\n"),
            "`_parent_id` needs `parent`",
        ),
        (with("newest_by = \"id\"\n"), "`newest_by` needs `key`"),
        (
            with("key = [\"id\"]\nnewest_by = \"b\"\n"),
            "a time must be VARCHAR or BIGINT",
        ),
        (with("expiring = [\"l.url\"]\n"), "expiring `l.url`"),
    ];
    for (sources, told) in cases {
        program.write("sql/f/sources.toml", &sources);
        let ran = program.run(&["sql", "check"]).await;
        assert!(
            ran.code != 0 && ran.stderr.contains(told),
            "{sources}\n{}\nexpected {told}",
            ran.stderr
        );
    }
    program.write(
        "sql/f/sources.toml",
        with("key = [\"id\", \"s.x\"]\nexpiring = [\"j[].url\", \"l[]\"]\n"),
    );
    program.succeed(&["sql", "check"]).await;
    program.write(
        "sql/f/sources.toml",
        changes("{ source = \"audit_log\", time_field = \"of.at\" }"),
    );
    program.succeed(&["sql", "check"]).await;
}
