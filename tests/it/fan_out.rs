//! Fan-outs whose parents are not known to the API.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Router, routing::get};
use chrono::{DateTime, TimeDelta, Utc};
use samsara_etl::store::layout::Partition;
use tokio_util::sync::CancellationToken;

use crate::program::{Program, simulator};
use crate::support::runs::{config, put_state, run, run_until, state, the_day};
use crate::support::wire::Server;
use crate::truth::{compare, day};

const VEHICLES: &str =
    r#"{"data":[{"id":"1"},{"id":"2"}],"pagination":{"endCursor":"","hasNextPage":false}}"#;

/// An API with two vehicles, of which it knows the trips of the first `known`.
fn api(known: usize) -> Server {
    let trips = move |query: axum::extract::RawQuery| async move {
        let query = query.0.unwrap_or_default();
        match (0..known).any(|number| query.contains(&format!("vehicleId={}", number + 1))) {
            true => r#"{"trips":[]}"#.into_response(),
            false => (StatusCode::NOT_FOUND, "404 page not found").into_response(),
        }
    };
    let list = || async { VEHICLES.into_response() };
    Server::start(
        Router::new()
            .route("/fleet/vehicles", get(list))
            .route("/v1/fleet/trips", get(trips)),
    )
}

/// Nobody has made a trip; requests are counted.
fn counting(count: Arc<AtomicU64>) -> Router {
    let trips = move || async move {
        count.fetch_add(1, Ordering::SeqCst);
        r#"{"trips":[]}"#.into_response()
    };
    Router::new().route("/v1/fleet/trips", get(trips))
}

/// Changes the state so that the list of vehicles was read at this time.
fn vehicles_read_at(program: &Program, at: DateTime<Utc>) {
    let mut list = state(program, "fleet_vehicles").unwrap();
    let raw = &mut list.partition_mut(Partition::Snapshot).raw;
    raw.as_mut().unwrap().extracted_at = at;
    put_state(program, "fleet_vehicles", &list);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_parents_complete_no_day() {
    for (known, complete) in [(0, false), (1, true)] {
        let server = api(known);
        let program = Program::new();
        run(
            config(&program, server.url(), "token"),
            &["fleet_trips"],
            vec![],
            &CancellationToken::new(),
        )
        .await;
        let found = state(&program, "fleet_trips");
        let day = found.and_then(|state| state.partition(the_day()).cloned());
        assert_eq!(
            day.as_ref().is_some_and(|day| day.raw.is_some()),
            complete,
            "{known}: {day:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_asked_for_rows_of_lists() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let (from, to) = (day("2024-01-01"), day("2024-01-02"));
    let table = "attributes_entities";
    let dates = ["--start_date", "01/01/2024", "--end_date", "02/01/2024"];
    // Nobody has asked for the attributes, and nothing was read before.
    program
        .succeed(&[&["run", "--table", table][..], &dates].concat())
        .await;
    let rows = compare(&program, simulator.world(), table, from, to).await;
    assert!(rows.is_ok_and(|rows| rows > 0));
    let requests = simulator.requests();
    let asked = requests
        .iter()
        .filter(|request| request.path.starts_with("/attributes/"));
    let kinds: BTreeSet<&str> = asked.map(|request| request.query.as_str()).collect();
    assert_eq!(
        kinds,
        BTreeSet::from(["entityType=asset", "entityType=driver"])
    );
}

const CHOSEN: &str = r#"
[kinds]
description = "d"
kind = "snapshot"
endpoint = "/kinds"
rate_limit = "1000/s"
schema = "id VARCHAR, group VARCHAR, side BIGINT"

[defaults]
description = "d"
kind = "snapshot"
endpoint = "/values"
rate_limit = "1000/s"
schema = "id VARCHAR"

[some]
asked = ["side"]
parent = { source = "kinds", field = "id", param = "ids", batch = 2, with = { side = "side" }, where = { group = ["a", "it's"] } }

[others]
parent = { source = "kinds", field = "id", param = "id", where_not = { group = ["a", "it's"], side = ["3"] } }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_list_can_be_chosen() {
    let kinds = r#"{"data":[{"id":"1","group":"a","side":1},{"id":"2","group":"a","side":2},{"id":"3","group":"it's","side":1},
        {"id":"4","group":"a","side":1},{"id":"5","group":"b","side":1},{"id":"6","side":2},{"id":"7","group":"","side":3},{"id":"8"}]}"#;
    let server = Server::start(
        Router::new()
            .route("/kinds", get(move || async move { kinds }))
            .route("/values", get(|| async { r#"{"data":[{"id":"x"}]}"# })),
    );
    let program = Program::new()
        .set("SAMSARA_API_URL", server.url())
        .set("SAMSARA_API_TOKEN", "t");
    program.write("sql/f/sources.toml", CHOSEN);
    let table = |columns: &str| format!("/*---\ndescription = \"d\"\n---*/\nSELECT {columns}");
    program.write(
        "sql/f/some.sql",
        table("id, _asked['side'] AS side FROM raw.some"),
    );
    program.write(
        "sql/f/others.sql",
        table("id, _parent_id AS of FROM raw.others"),
    );
    program.succeed(&["run"]).await;
    // A batch is of rows with the same further values.
    let rows = program
        .rows("SELECT side, count(*) AS n FROM some GROUP BY side ORDER BY side")
        .await;
    let found: Vec<(&str, i64)> = rows
        .iter()
        .map(|row| (row["side"].as_str().unwrap(), row["n"].as_i64().unwrap()))
        .collect();
    assert_eq!(found, [("1", 2), ("2", 1)]);
    // A field without a value has none of those that are left out.
    let rows = program.rows("SELECT of FROM others ORDER BY of").await;
    let found: Vec<&str> = rows.iter().map(|row| row["of"].as_str().unwrap()).collect();
    assert_eq!(found, ["5", "6", "8"]);
    // The plan promises no more requests than there are.
    let plan = program.succeed(&["plan", "--format", "json"]).await.stdout;
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["estimate"]["requests"], 1 + 1 + 1, "{plan}");
    let told = program.succeed(&["check", "--format", "json"]).await.stdout;
    assert!(!told.contains("not checked"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_list_gives_no_ids() {
    let (shut, trips) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let (door, count) = (shut.clone(), trips.clone());
    let list = move || async move {
        match door.load(Ordering::SeqCst) {
            true => (StatusCode::BAD_REQUEST, "not today").into_response(),
            false => VEHICLES.into_response(),
        }
    };
    let server = Server::start(counting(count).route("/fleet/vehicles", get(list)));
    let program = Program::new();
    let table = "fleet_trips";
    let run = async |end| {
        trips.store(0, Ordering::SeqCst);
        let config = config(&program, server.url(), "token");
        let report = run_until(end, config, &[table], vec![], &CancellationToken::new()).await;
        (
            report,
            trips.load(Ordering::SeqCst),
            state(&program, table).unwrap().complete().count(),
        )
    };
    let (report, asked, complete) = run("2024-01-02").await;
    assert_eq!(
        (report.failures.len(), asked, complete),
        (0, 2, 1),
        "{report}"
    );

    // The list is a day old: it is read again, without success. Its old ids would miss what was added since.
    vehicles_read_at(&program, Utc::now() - TimeDelta::hours(25));
    shut.store(true, Ordering::SeqCst);
    let (report, asked, complete) = run("2024-01-03").await;
    assert_eq!(
        (report.failures.len(), asked, complete),
        (2, 0, 1),
        "{report}"
    );
    assert!(
        report
            .failures
            .iter()
            .any(|failure| failure.error.contains("its parent fleet_vehicles")),
        "{report}"
    );

    // A list whose last read failed is read again first, even if it is recent.
    vehicles_read_at(&program, Utc::now());
    let (report, asked, complete) = run("2024-01-03").await;
    assert_eq!(
        (report.failures.len(), asked, complete),
        (2, 0, 1),
        "{report}"
    );
    shut.store(false, Ordering::SeqCst);
    let (report, asked, complete) = run("2024-01-03").await;
    assert_eq!(
        (report.failures.len(), asked, complete),
        (0, 2, 2),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shrunken_list_gives_no_ids() {
    let (few, trips) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let (is_empty, count) = (few.clone(), trips.clone());
    let list = move || async move {
        let vehicles = if is_empty.load(Ordering::SeqCst) {
            0
        } else {
            12
        };
        let data: Vec<_> = (0..vehicles)
            .map(|id| serde_json::json!({ "id": id.to_string() }))
            .collect();
        axum::Json(
            serde_json::json!({ "data": data, "pagination": { "endCursor": "", "hasNextPage": false } }),
        )
    };
    let server = Server::start(counting(count).route("/fleet/vehicles", get(list)));
    let program = Program::new();
    let run = async |end, is_old: bool, accepted: &[&str]| {
        trips.store(0, Ordering::SeqCst);
        if is_old {
            vehicles_read_at(&program, Utc::now() - TimeDelta::hours(25));
        }
        let mut config = config(&program, server.url(), "token");
        config.load.accept_shrunken = accepted.iter().map(ToString::to_string).collect();
        let report = run_until(
            end,
            config,
            &["fleet_trips"],
            vec![],
            &CancellationToken::new(),
        )
        .await;
        let complete = state(&program, "fleet_trips").unwrap().complete().count();
        (report.to_string(), trips.load(Ordering::SeqCst), complete)
    };
    let (report, asked, complete) = run("2024-01-02", false, &[]).await;
    assert_eq!((asked, complete), (12, 1), "{report}");
    few.store(true, Ordering::SeqCst);
    // Each time, it is compared with the list that was accepted, and read again even if it is recent.
    for is_old in [true, false] {
        let (report, asked, complete) = run("2024-01-03", is_old, &[]).await;
        assert_eq!((asked, complete), (0, 1), "{report}");
        assert!(
            report.contains("had 12") && report.contains("--accept-shrunken fleet_vehicles"),
            "{report}"
        );
    }
    few.store(false, Ordering::SeqCst);
    let (report, asked, complete) = run("2024-01-03", false, &[]).await;
    assert_eq!((asked, complete), (12, 2), "{report}");
    // Once accepted, it is the list.
    few.store(true, Ordering::SeqCst);
    assert_eq!(run("2024-01-04", true, &[]).await.2, 2);
    assert_eq!(run("2024-01-04", false, &["fleet_vehicles"]).await.2, 3);
    assert_eq!(run("2024-01-05", true, &[]).await.2, 4);
}
