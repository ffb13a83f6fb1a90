//! Half-read days: resumed, started over, or read in smaller parts, and never duplicated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use chrono::{DateTime, TimeDelta, Utc};
use samsara_etl::state::RawState;
use samsara_etl::store::layout::Partition;
use samsara_simulator::Simulator;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::program::{Program, simulator};
use crate::support::runs::{
    HISTORY, TABLE, config, half_read, in_pages_of, is_whole, late, pages, pages_of, put_state,
    run, run_all, run_until, starts_over, state, stopped_at, the_day,
};
use crate::support::wire::Server;
use crate::truth::{compare, day, local_rows, local_tables};

#[tokio::test(flavor = "multi_thread")]
async fn a_half_read_day_resumes_at_its_cursor() {
    for tables in [&[TABLE][..], &[TABLE, "fleet_vehicle_stats_gps"]] {
        let (simulator, program, before) = half_read(tables).await;
        let note = before
            .partition(the_day())
            .unwrap()
            .checkpoint
            .clone()
            .unwrap()
            .resume
            .unwrap();
        run(
            config(&program, &simulator.url(), simulator.token()),
            tables,
            vec![],
            &CancellationToken::new(),
        )
        .await;
        let asked = pages(&simulator);
        let cursor: String = url::form_urlencoded::byte_serialize(note.cursor.as_bytes()).collect();
        assert_eq!(
            format!("{HISTORY}?{}", asked[0].0),
            format!("{}&after={cursor}", note.query)
        );
        assert!(
            asked
                .iter()
                .all(|(query, status)| query.contains("after=") && *status == 200),
            "{asked:?}"
        );
        is_whole(&program, &simulator, tables).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_cursor_restarts_its_day_once() {
    let (simulator, program, mut before) = half_read(&[TABLE]).await;
    simulator.expire_cursors();
    // The feed has not lost its place: else the day would start over for that.
    let feed = before.feed.as_mut().unwrap();
    feed.cursor = end_of_feed(&simulator, &feed.query).await;
    put_state(&program, TABLE, &before);
    simulator.clear_requests();
    run_all(&program, &simulator, &[TABLE]).await;
    let asked = pages(&simulator);
    assert_eq!(
        asked
            .iter()
            .map(|(_, status)| *status == 400)
            .collect::<Vec<_>>()[..2],
        [true, false],
        "{asked:?}"
    );
    assert_eq!(
        asked
            .iter()
            .filter(|(query, _)| !query.contains("after="))
            .count(),
        1,
        "{asked:?}"
    );
    is_whole(&program, &simulator, &[TABLE]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_plan_ignores_the_checkpoint() {
    // Three statistics were requested together, now two: another query, to which the cursor does not belong.
    let (simulator, program, _) = half_read(&[TABLE, "fleet_vehicle_stats_gps"]).await;
    run_all(&program, &simulator, &[TABLE]).await;
    starts_over(&simulator);
    is_whole(&program, &simulator, &[TABLE]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_checkpoint_restarts_the_day() {
    for spoil in ["objects", "age"] {
        let (simulator, program, mut before) = half_read(&[TABLE]).await;
        let note = before.partition_mut(the_day()).checkpoint.as_mut().unwrap();
        if spoil == "age" {
            // Cursors live 30 days.
            note.extracted_at = Utc::now() - TimeDelta::days(29);
            put_state(&program, TABLE, &before);
        } else {
            let object = note.objects().next().unwrap();
            std::fs::remove_file(program.folder().join("samsara-data/raw").join(&object.path))
                .unwrap();
        }
        run_all(&program, &simulator, &[TABLE]).await;
        starts_over(&simulator);
        is_whole(&program, &simulator, &[TABLE]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_day_ignores_its_checkpoint() {
    let simulator = late().await;
    let program = Program::with_simulator(&simulator);
    let found = stopped_at(
        &program,
        &simulator,
        &[TABLE],
        (HISTORY, 2),
        "\"unfinished\"",
    )
    .await;
    assert!(found.partition(the_day()).unwrap().checkpoint.is_some());
    // The vehicles that are done get readings, of which the feed tells.
    simulator.release_late();
    run_all(&program, &simulator, &[TABLE]).await;
    starts_over(&simulator);
    is_whole(&program, &simulator, &[TABLE]).await;
}

/// The cursor behind all that the statistics' feed has to tell.
async fn end_of_feed(simulator: &Simulator, query: &str) -> String {
    let mut cursor = String::new();
    loop {
        let after = if cursor.is_empty() {
            String::new()
        } else {
            format!("&after={cursor}")
        };
        let url = format!(
            "{}/fleet/vehicles/stats/feed?{query}{after}",
            simulator.url()
        );
        let answer = reqwest::Client::new()
            .get(url)
            .bearer_auth(simulator.token())
            .send()
            .await
            .unwrap();
        let page: serde_json::Value =
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let plain = page["pagination"]["endCursor"].as_str().unwrap();
        if page["pagination"]["hasNextPage"] == false {
            return plain.to_string();
        }
        cursor = url::form_urlencoded::byte_serialize(plain.as_bytes()).collect();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_companion_restarts_the_day() {
    const GPS: &str = "fleet_vehicle_stats_gps";
    for what in ["changed", "not heard"] {
        let simulator = late().await;
        let program = Program::with_simulator(&simulator);
        stopped_at(
            &program,
            &simulator,
            &[TABLE, GPS],
            (HISTORY, 2),
            "\"unfinished\"",
        )
        .await;
        // The checkpoint is stored with the first source only.
        assert!(state(&program, GPS).unwrap().partition(the_day()).is_none());
        simulator.release_late();
        for table in [TABLE, GPS] {
            let mut found = state(&program, table).unwrap();
            match found.feed.as_mut() {
                // The first one's feed has reported the day already; now only the other one's does.
                Some(feed) if what == "changed" && table == TABLE => {
                    feed.cursor = end_of_feed(&simulator, &feed.query).await;
                }
                Some(_) if what == "changed" => {}
                // The feeds start over, behind what has come meanwhile.
                _ => found.feed = None,
            }
            put_state(&program, table, &found);
        }
        simulator.clear_requests();
        run_all(&program, &simulator, &[TABLE, GPS]).await;
        starts_over(&simulator);
        is_whole(&program, &simulator, &[TABLE, GPS]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_read_whole_ignores_its_checkpoint() {
    let (simulator, program, before) = half_read(&[TABLE]).await;
    let mut whole = before.clone();
    let found = whole.partition_mut(the_day());
    let note = found.checkpoint.clone().unwrap();
    // Another task over the same day, begun later, has come to its end.
    found.raw = Some(RawState {
        objects: vec![],
        records: 0,
        out_of_window: 0,
        rescued: 0,
        content: "0f".repeat(32),
        extracted_at: note.extracted_at + TimeDelta::minutes(1),
    });
    put_state(&program, TABLE, &whole);
    let again = [
        "run",
        "--start-date",
        "2024-01-01",
        "--end-date",
        "2024-01-02",
        "--table",
        TABLE,
        "--historical",
    ];
    program.succeed(&again).await;
    starts_over(&simulator);
    is_whole(&program, &simulator, &[TABLE]).await;
}

/// An API that has a reading every 20 minutes, and cannot serve more than `hours` at a time.
fn overburdened(hours: i64, status: StatusCode, refusals: Arc<AtomicU64>) -> Server {
    let history = move |Query(query): Query<std::collections::HashMap<String, String>>| async move {
        let time = |name: &str| query[name].parse::<DateTime<Utc>>().unwrap();
        let (start, end) = (time("startTime"), time("endTime"));
        let second = query.contains_key("after");
        // The first page comes even so: what it brought must not count twice.
        if end - start > TimeDelta::hours(hours) && second {
            refusals.fetch_add(1, Ordering::SeqCst);
            return (status, "upstream request timeout").into_response();
        }
        let times = std::iter::successors(Some(start), |at| Some(*at + TimeDelta::minutes(20)));
        let readings: Vec<_> = times
            .take_while(|at| *at < end)
            .map(|at| json!({"time": at, "value": 700}))
            .collect();
        let page = |id: &str, more: bool| -> Response {
            let pagination =
                json!({"endCursor": if more { "two" } else { "" }, "hasNextPage": more});
            Json(json!({"data": [{"id": id, "name": id, "engineRpm": readings}], "pagination": pagination}))
                .into_response()
        };
        if second {
            page("2", false)
        } else {
            page("1", true)
        }
    };
    Server::start(Router::new().route(HISTORY, get(history)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmanageable_window_is_bisected() {
    // The day and its two halves, each with two attempts; a response that is too large is not retried.
    for (status, tries) in [
        (StatusCode::GATEWAY_TIMEOUT, 2),
        (StatusCode::PAYLOAD_TOO_LARGE, 1),
    ] {
        let refusals = Arc::new(AtomicU64::new(0));
        let server = overburdened(6, status, refusals.clone());
        let program = Program::new();
        let report = run(
            config(&program, server.url(), "token"),
            &[TABLE],
            vec![],
            &CancellationToken::new(),
        )
        .await;
        assert!(report.failures.is_empty(), "{report}");
        assert_eq!(refusals.load(Ordering::SeqCst), 3 * tries);
        let rows = local_rows(
            &local_tables(&program.folder().join("samsara-data/warehouse")).await,
            TABLE,
        )
        .await;
        assert_eq!(rows.len(), 2 * 72);
        let sql =
            format!("SELECT sum(cardinality(engineRpm)) AS n, count(*) AS r FROM raw.{TABLE}");
        let raw = program.rows(&sql).await;
        assert_eq!(
            (raw[0]["n"].as_u64(), raw[0]["r"].as_u64()),
            (Some(2 * 72), Some(2 * 4)),
            "{raw:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_window_is_not_bisected() {
    let refusals = Arc::new(AtomicU64::new(0));
    let server = overburdened(0, StatusCode::GATEWAY_TIMEOUT, refusals.clone());
    let program = Program::new();
    let report = run(
        config(&program, server.url(), "token"),
        &[TABLE],
        vec![],
        &CancellationToken::new(),
    )
    .await;
    assert!(
        report.failures[0].error.contains("failed 2 times"),
        "{report}"
    );
    // 24 h, 12 h, 6 h, 3 h, 1.5 h and 45 minutes, each with two attempts; there is no smaller part.
    assert_eq!(refusals.load(Ordering::SeqCst), 12);
    assert_eq!(
        state(&program, TABLE).map_or(0, |state| state.complete().count()),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_read_list_resumes_within_the_hour() {
    let list = "/addresses";
    for old in [false, true] {
        let simulator = in_pages_of(1).await;
        let program = Program::with_simulator(&simulator);
        let before = stopped_at(
            &program,
            &simulator,
            &["addresses"],
            (list, 2),
            "\"unfinished\"",
        )
        .await;
        let note = before
            .partition(Partition::Snapshot)
            .unwrap()
            .checkpoint
            .clone()
            .unwrap();
        if old {
            let mut before = before;
            let note = before
                .partition_mut(Partition::Snapshot)
                .checkpoint
                .as_mut()
                .unwrap();
            note.extracted_at = Utc::now() - TimeDelta::hours(2);
            put_state(&program, "addresses", &before);
        }
        run_all(&program, &simulator, &["addresses"]).await;
        let asked = pages_of(&simulator, list);
        assert_eq!(
            asked.iter().any(|(query, _)| !query.contains("after=")),
            old,
            "{asked:?}"
        );
        compare(
            &program,
            simulator.world(),
            "addresses",
            day("2024-01-01"),
            day("2024-01-02"),
        )
        .await
        .unwrap();
        let found = state(&program, "addresses")
            .unwrap()
            .partition(Partition::Snapshot)
            .unwrap()
            .clone();
        let records = found.raw.unwrap().records;
        let safe = note.resume.unwrap().pages;
        let again = if old { records } else { records - safe };
        assert_eq!(
            (asked.len() as u64, found.checkpoint),
            (again, None),
            "{safe} of {records} were safe"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_list_leaves_no_checkpoint() {
    let simulator = in_pages_of(1).await;
    let program = Program::with_simulator(&simulator);
    run_all(&program, &simulator, &["addresses"]).await;
    let before = state(&program, "addresses").unwrap();
    let half = stopped_at(
        &program,
        &simulator,
        &["addresses"],
        ("/addresses", 2),
        "\"unfinished\"",
    )
    .await;
    assert!(
        half.partition(Partition::Snapshot)
            .unwrap()
            .checkpoint
            .is_some()
    );
    run_all(&program, &simulator, &["addresses"]).await;
    // The pages of the second read are gone, and with them the objects listed by the checkpoint.
    let after = state(&program, "addresses").unwrap();
    let (found, known) = (
        after.partition(Partition::Snapshot).unwrap(),
        before.partition(Partition::Snapshot).unwrap(),
    );
    assert!(found.checkpoint.is_none(), "{found:?}");
    assert_eq!(
        found.raw.as_ref().unwrap().objects,
        known.raw.as_ref().unwrap().objects
    );
    compare(
        &program,
        simulator.world(),
        "addresses",
        day("2024-01-01"),
        day("2024-01-02"),
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_read_fan_out_resumes() {
    let (table, endpoint) = ("fleet_trips", "/v1/fleet/trips");
    let simulator = simulator(|config| config.vehicles = 20).await;
    let program = Program::with_simulator(&simulator);
    let found = stopped_at(
        &program,
        &simulator,
        &[table],
        (endpoint, 8),
        "\"unfinished\"",
    )
    .await;
    let note = found
        .partition(the_day())
        .unwrap()
        .checkpoint
        .clone()
        .unwrap();
    // Four times the two pages after which other tasks save a checkpoint.
    assert_eq!((note.requests, note.rest.len(), note.resume), (8, 0, None));
    run_all(&program, &simulator, &[table]).await;
    assert_eq!(pages_of(&simulator, endpoint).len(), 20 - 8);
    compare(
        &program,
        simulator.world(),
        table,
        day("2024-01-01"),
        day("2024-01-02"),
    )
    .await
    .unwrap();
    let raw = program
        .rows("SELECT count(*) AS n FROM raw.fleet_trips")
        .await;
    let flat = program.rows("SELECT count(*) AS n FROM fleet_trips").await;
    assert_eq!(raw[0]["n"], flat[0]["n"]);
    assert!(
        state(&program, table)
            .unwrap()
            .partition(the_day())
            .unwrap()
            .checkpoint
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_halves_survive_a_run() {
    let refusals = Arc::new(AtomicU64::new(0));
    let program = Program::new();
    // The whole day and its second half cannot be read, not even in the smallest parts.
    let broken = Arc::new(AtomicU64::new(1));
    let server = half_broken(refusals.clone(), broken.clone());
    let report = run(
        config(&program, server.url(), "token"),
        &[TABLE],
        vec![],
        &CancellationToken::new(),
    )
    .await;
    assert_eq!(report.failures.len(), 1, "{report}");
    let found = state(&program, TABLE).unwrap();
    let note = found
        .partition(the_day())
        .unwrap()
        .checkpoint
        .clone()
        .unwrap();
    assert!(
        found.complete().next().is_none() && note.whole.records == 2,
        "{note:?}"
    );
    assert!(
        note.rest
            .iter()
            .all(|window| window.start >= "2024-01-01T12:00:00Z".parse::<DateTime<Utc>>().unwrap())
    );
    broken.store(0, Ordering::SeqCst);
    let served = refusals.load(Ordering::SeqCst);
    let report = run(
        config(&program, server.url(), "token"),
        &[TABLE],
        vec![],
        &CancellationToken::new(),
    )
    .await;
    assert!(report.failures.is_empty(), "{report}");
    assert_eq!(
        refusals.load(Ordering::SeqCst),
        served,
        "the first half was asked for again"
    );
    let rows = local_rows(
        &local_tables(&program.folder().join("samsara-data/warehouse")).await,
        TABLE,
    )
    .await;
    assert_eq!(rows.len(), 2 * 72);
    let raw = program
        .rows(&format!(
            "SELECT sum(cardinality(engineRpm)) AS n FROM raw.{TABLE}"
        ))
        .await;
    assert_eq!(raw[0]["n"].as_u64(), Some(2 * 72), "{raw:?}");
}

/// Two vehicles with a reading every 20 minutes each, one vehicle per page. Times after noon are not available while
/// `broken` is not 0; `first` counts requests that begin before noon.
fn half_broken(first: Arc<AtomicU64>, broken: Arc<AtomicU64>) -> Server {
    let history = move |Query(query): Query<std::collections::HashMap<String, String>>| async move {
        let time = |name: &str| query[name].parse::<DateTime<Utc>>().unwrap();
        let (start, end) = (time("startTime"), time("endTime"));
        let noon = "2024-01-01T12:00:00Z".parse::<DateTime<Utc>>().unwrap();
        first.fetch_add(u64::from(start < noon), Ordering::SeqCst);
        let second = query.contains_key("after");
        if end > noon && second && broken.load(Ordering::SeqCst) != 0 {
            return (StatusCode::GATEWAY_TIMEOUT, "upstream request timeout").into_response();
        }
        let midnight = noon - TimeDelta::hours(12);
        let times = (0..72).map(|number| midnight + TimeDelta::minutes(20 * number));
        let readings: Vec<_> = times
            .filter(|at| start <= *at && *at < end)
            .map(|at| json!({"time": at, "value": 700}))
            .collect();
        let (id, pagination) = match second {
            true => ("2", json!({"endCursor": "", "hasNextPage": false})),
            false => ("1", json!({"endCursor": "two", "hasNextPage": true})),
        };
        Json(json!({"data": [{"id": id, "name": id, "engineRpm": readings}], "pagination": pagination})).into_response()
    };
    Server::start(Router::new().route(HISTORY, get(history)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_is_committed_as_it_comes() {
    let (table, endpoint) = (
        "fleet_safety_events_audit_logs",
        "/fleet/safety-events/audit-logs/feed",
    );
    for forgotten in [false, true] {
        let simulator = in_pages_of(2).await;
        let program = Program::with_simulator(&simulator);
        let found = stopped_at(&program, &simulator, &[table], (endpoint, 2), "\"feed\"").await;
        // In the middle of a feed: rows are stored up to the cursor, and the feed would restart where it began.
        let feed = found.feed.clone().unwrap();
        assert_eq!(feed.since, Some("2024-01-01T00:00:00Z".parse().unwrap()));
        assert!(found.complete().count() > 0);
        if forgotten {
            simulator.expire_cursors();
        }
        let end = config(&program, &simulator.url(), simulator.token());
        let report = run_until(
            "2024-02-01",
            end,
            &[table],
            vec![],
            &CancellationToken::new(),
        )
        .await;
        assert!(report.failures.is_empty(), "{report}");
        let asked = pages_of(&simulator, endpoint);
        assert_eq!(
            asked.iter().any(|(query, _)| !query.contains("after=")),
            forgotten,
            "{asked:?}"
        );
        let feed = state(&program, table).unwrap().feed.unwrap();
        assert_eq!(feed.since, Some(feed.at - TimeDelta::days(1)));
        compare(
            &program,
            simulator.world(),
            table,
            day("2024-01-01"),
            day("2025-01-01"),
        )
        .await
        .unwrap();
    }
}
