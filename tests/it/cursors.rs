//! Half-read days: gone on with, begun anew, or read in smaller parts, and never doubled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use chrono::{DateTime, TimeDelta, Utc};
use samsara_etl::catalog::Catalog;
use samsara_etl::config::{Config, Environment, Overrides, RetryConfig};
use samsara_etl::events::{Event, Observer};
use samsara_etl::pipeline::Pipeline;
use samsara_etl::plan::{Dates, Selection, Stage, Wish};
use samsara_etl::report::RunReport;
use samsara_etl::simulator::Simulator;
use samsara_etl::state::SourceState;
use samsara_etl::store::layout::Partition;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::program::{Program, simulator};
use crate::support::wire::Server;
use crate::truth::{compare, day, local_rows, local_tables};

pub(crate) const TABLE: &str = "fleet_vehicle_stats_engineRpm";
pub(crate) const HISTORY: &str = "/fleet/vehicles/stats/history";

pub(crate) fn config(program: &Program, url: &str, token: &str) -> Config {
    let environment = Environment::from_pairs([("SAMSARA_API_URL", url), ("SAMSARA_API_TOKEN", token)]);
    let mut config = Config::resolve(&environment, &Overrides::default(), program.folder(), "samsara-data").unwrap();
    config.checkpoint_pages = 2;
    config.samsara.retry = RetryConfig {
        attempts: 2,
        base: Duration::from_millis(1),
        cap: Duration::from_millis(2),
        ..RetryConfig::default()
    };
    config
}

/// One run in this process, over one day.
pub(crate) async fn run(
    config: Config,
    tables: &[&str],
    observers: Vec<Arc<dyn Observer>>,
    stop: &CancellationToken,
) -> RunReport {
    let catalog = Catalog::open(None).unwrap();
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let wish = Wish {
        selection: Selection::of_names(&catalog, &names).unwrap(),
        dates: Dates::parse(Some("2024-01-01"), Some("2024-01-02")).unwrap(),
        stages: [Stage::Extract, Stage::Transform, Stage::Load].into(),
        historical: false,
    };
    let pipeline = Pipeline::new(config, catalog).unwrap();
    let plan = pipeline.plan(wish).await.unwrap();
    pipeline.run(plan, observers, stop.clone()).await.unwrap()
}

pub(crate) fn state(program: &Program, source: &str) -> Option<SourceState> {
    let path = program.folder().join(format!("samsara-data/raw/state/{source}.json"));
    std::fs::read(path).ok().map(|bytes| SourceState::from_json(&bytes, "state").unwrap())
}

pub(crate) fn the_day() -> Partition {
    Partition::parse("2024-01-01").unwrap()
}

/// Stops the run as soon as the state holds a note of the unfinished walk.
struct StopAtNote {
    state: std::path::PathBuf,
    stop: CancellationToken,
}

impl Observer for StopAtNote {
    fn observe(&self, event: &Event) {
        let noted = || std::fs::read_to_string(&self.state).is_ok_and(|text| text.contains("\"unfinished\""));
        if matches!(event, Event::PageFetched { endpoint, .. } if endpoint == HISTORY) && noted() {
            self.stop.cancel();
        }
    }
}

/// A day of which some pages are safe and the rest was never asked for.
pub(crate) async fn half_read(tables: &[&str]) -> (Simulator, Program, SourceState) {
    let simulator = simulator(|config| {
        config.page_size = Some(1);
        config.latency = Some(Duration::from_millis(20));
    })
    .await;
    let program = Program::with_simulator(&simulator);
    let stop = CancellationToken::new();
    let path = program.folder().join(format!("samsara-data/raw/state/{TABLE}.json"));
    let observer = Arc::new(StopAtNote { state: path, stop: stop.clone() });
    let report = run(config(&program, &simulator.url(), simulator.token()), tables, vec![observer], &stop).await;
    assert!(report.cancelled);
    let found = state(&program, TABLE).unwrap();
    let partition = found.partition(the_day()).unwrap();
    // Pages go by vehicle: all that is safe is whole days of some vehicles, and no day is complete.
    assert!(partition.raw.is_none() && partition.unfinished.as_ref().unwrap().pages >= 2, "{found:?}");
    assert_eq!(found.complete().count(), 0);
    simulator.clear_requests();
    (simulator, program, found)
}

pub(crate) async fn is_whole(program: &Program, simulator: &Simulator, tables: &[&str]) {
    for table in tables {
        compare(program, simulator.world(), table, day("2024-01-01"), day("2024-01-02")).await.unwrap();
    }
    let left = state(program, TABLE).unwrap();
    assert!(left.partition(the_day()).unwrap().unfinished.is_none(), "{left:?}");
    // Not even the raw rows, which no SELECT DISTINCT has passed, are there twice.
    let rows = program.rows(&format!("SELECT count(*) AS n, count(DISTINCT id) AS d FROM raw.{TABLE}")).await;
    assert!(rows[0]["n"] == rows[0]["d"] && rows[0]["n"].as_u64() > Some(0), "{rows:?}");
}

pub(crate) fn pages(simulator: &Simulator) -> Vec<(String, u16)> {
    let asked = simulator.requests().into_iter().filter(|request| request.path == HISTORY);
    asked.map(|request| (request.query, request.status)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_read_day_goes_on_from_its_cursor_and_reads_no_finished_page_again() {
    for tables in [&[TABLE][..], &[TABLE, "fleet_vehicle_stats_gps"]] {
        let (simulator, program, before) = half_read(tables).await;
        let note = before.partition(the_day()).unwrap().unfinished.clone().unwrap();
        run(config(&program, &simulator.url(), simulator.token()), tables, vec![], &CancellationToken::new()).await;
        let asked = pages(&simulator);
        let cursor: String = url::form_urlencoded::byte_serialize(note.cursor.as_bytes()).collect();
        assert_eq!(format!("{HISTORY}?{}", asked[0].0), format!("{}&after={cursor}", note.query));
        assert!(asked.iter().all(|(query, status)| query.contains("after=") && *status == 200), "{asked:?}");
        is_whole(&program, &simulator, tables).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_cursor_begins_its_partition_again_once() {
    let (simulator, program, _) = half_read(&[TABLE]).await;
    simulator.expire_cursors();
    run(config(&program, &simulator.url(), simulator.token()), &[TABLE], vec![], &CancellationToken::new()).await;
    let asked = pages(&simulator);
    assert_eq!(asked.iter().map(|(_, status)| *status == 400).collect::<Vec<_>>()[..2], [true, false], "{asked:?}");
    assert_eq!(asked.iter().filter(|(query, _)| !query.contains("after=")).count(), 1, "{asked:?}");
    is_whole(&program, &simulator, &[TABLE]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_plan_is_not_confused_by_a_half_read_day() {
    // Three statistics were asked for together, now two: another query, to which the cursor does not belong.
    let (simulator, program, _) = half_read(&[TABLE, "fleet_vehicle_stats_gps"]).await;
    run(config(&program, &simulator.url(), simulator.token()), &[TABLE], vec![], &CancellationToken::new()).await;
    let asked = pages(&simulator);
    assert!(!asked[0].0.contains("after=") && asked.iter().all(|(_, status)| *status == 200), "{asked:?}");
    is_whole(&program, &simulator, &[TABLE]).await;
}

/// An API that has a reading every 20 minutes, and cannot manage more than `hours` at a time.
fn overburdened(hours: i64, refusals: Arc<AtomicU64>) -> Server {
    let history = move |Query(query): Query<std::collections::HashMap<String, String>>| async move {
        let time = |name: &str| query[name].parse::<DateTime<Utc>>().unwrap();
        let (start, end) = (time("startTime"), time("endTime"));
        let second = query.contains_key("after");
        // The first page comes even so: what it brought must not count twice.
        if end - start > TimeDelta::hours(hours) && second {
            refusals.fetch_add(1, Ordering::SeqCst);
            return (StatusCode::GATEWAY_TIMEOUT, "upstream request timeout").into_response();
        }
        let times = std::iter::successors(Some(start), |at| Some(*at + TimeDelta::minutes(20)));
        let readings: Vec<_> = times.take_while(|at| *at < end).map(|at| json!({"time": at, "value": 700})).collect();
        let page = |id: &str, more: bool| -> Response {
            let pagination = json!({"endCursor": if more { "two" } else { "" }, "hasNextPage": more});
            Json(json!({"data": [{"id": id, "name": id, "engineRpm": readings}], "pagination": pagination}))
                .into_response()
        };
        if second { page("2", false) } else { page("1", true) }
    };
    Server::start(Router::new().route(HISTORY, get(history)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_the_server_cannot_manage_is_read_in_halves_and_counts_once() {
    let refusals = Arc::new(AtomicU64::new(0));
    let server = overburdened(6, refusals.clone());
    let program = Program::new();
    let report = run(config(&program, server.url(), "token"), &[TABLE], vec![], &CancellationToken::new()).await;
    assert!(report.failures.is_empty(), "{report}");
    // The day and its two halves, each with two tries.
    assert_eq!(refusals.load(Ordering::SeqCst), 6);
    let rows = local_rows(&local_tables(&program.folder().join("samsara-data/warehouse")).await, TABLE).await;
    assert_eq!(rows.len(), 2 * 72);
    let raw = program.rows(&format!("SELECT sum(cardinality(engineRpm)) AS n, count(*) AS r FROM raw.{TABLE}")).await;
    assert_eq!((raw[0]["n"].as_u64(), raw[0]["r"].as_u64()), (Some(2 * 72), Some(2 * 4)), "{raw:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_at_the_floor_is_not_split_and_commits_nothing() {
    let refusals = Arc::new(AtomicU64::new(0));
    let server = overburdened(0, refusals.clone());
    let program = Program::new();
    let report = run(config(&program, server.url(), "token"), &[TABLE], vec![], &CancellationToken::new()).await;
    assert!(report.failures[0].error.contains("failed 2 times"), "{report}");
    // 24 h, 12 h, 6 h, 3 h, 1.5 h and 45 minutes, each with two tries; then there is nothing smaller.
    assert_eq!(refusals.load(Ordering::SeqCst), 12);
    assert_eq!(state(&program, TABLE).map_or(0, |state| state.complete().count()), 0);
}
