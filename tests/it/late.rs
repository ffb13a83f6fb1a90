//! Readings that reach the server days after their day was read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;

use samsara_etl::events::{Event, Observer};
use samsara_etl::store::layout::Partition;
use samsara_simulator::{LateData, Simulator, World};
use serde_json::json;

use crate::program::{Program, impatient, run_observed, simulator};
use crate::support::gate::{Turn, before};
use crate::truth::{compare, day};

const TABLES: &[&str] = &[
    "fleet_vehicle_stats_gps",
    "fleet_vehicle_stats_engineRpm",
    "fleet_vehicle_stats_engineStates",
];
const HISTORY: &str = "/fleet/vehicles/stats/history";
pub(crate) const FEED: &str = "/fleet/vehicles/stats/feed";

/// A fleet whose readings of the greater part of the 3rd are not on the server yet.
async fn fleet() -> Simulator {
    simulator(|config| {
        let withhold = Duration::from_secs(18 * 3600);
        config.late = Some(LateData {
            before: day("2024-01-04"),
            withhold,
        });
    })
    .await
}

fn run(dates: [&'static str; 2]) -> Vec<&'static str> {
    let mut arguments = vec!["run", "--start_date", dates[0], "--end_date", dates[1]];
    arguments.extend(TABLES.iter().flat_map(|table| ["--table", *table]));
    arguments
}

/// The first days of the windows that were requested, each once.
pub(crate) fn asked(simulator: &Simulator) -> Vec<String> {
    let requests = simulator.requests();
    let queries = requests
        .iter()
        .filter(|request| request.path == HISTORY)
        .map(|request| request.query.clone());
    let mut days: Vec<String> = queries
        .flat_map(|query| {
            let start = query
                .split('&')
                .find_map(|part| Some(part.strip_prefix("startTime=")?[..10].to_string()));
            start.into_iter().collect::<Vec<_>>()
        })
        .collect();
    days.sort();
    days.dedup();
    days
}

fn feeds_asked(simulator: &Simulator) -> usize {
    let requests = simulator.requests();
    requests.iter().filter(|it| it.path == FEED).count()
}

async fn wrong(program: &Program, world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    for table in TABLES {
        if let Err(difference) =
            compare(program, world, table, day("2024-01-01"), day("2024-01-06")).await
        {
            wrong.push(difference);
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn only_changed_days_are_read_again() {
    let simulator = fleet().await;
    let program = Program::with_simulator(&simulator);
    let all = run(["01/01/2024", "06/01/2024"]);
    program.succeed(&all).await;
    assert!(wrong(&program, simulator.world()).await.is_empty());
    assert_eq!(asked(&simulator).len(), 5);

    // Nothing new: the feeds are asked, no day is, and nothing is written.
    simulator.clear_requests();
    let files = program.files("samsara-data");
    program.succeed(&all).await;
    assert_eq!(
        (asked(&simulator), program.files("samsara-data")),
        (vec![], files)
    );
    // One request asks for all of them.
    assert_eq!(feeds_asked(&simulator), 1);

    simulator.release_late();
    assert_eq!(wrong(&program, simulator.world()).await.len(), TABLES.len());
    // Dates that leave the day out leave it as it is; it is not forgotten.
    simulator.clear_requests();
    program.succeed(&run(["04/01/2024", "06/01/2024"])).await;
    assert_eq!(asked(&simulator), Vec::<String>::new());
    let status = [&["status", "--calendar"], &all[1..]].concat();
    assert_eq!(
        program
            .succeed(&status)
            .await
            .stdout
            .matches("##+##")
            .count(),
        TABLES.len()
    );

    simulator.clear_requests();
    program.succeed(&all).await;
    assert_eq!(asked(&simulator), ["2024-01-03"]);
    assert_eq!(
        wrong(&program, simulator.world()).await,
        Vec::<String>::new()
    );
    assert_eq!(
        program
            .succeed(&status)
            .await
            .stdout
            .matches("#####")
            .count(),
        TABLES.len()
    );

    // Once was enough.
    simulator.clear_requests();
    program.succeed(&all).await;
    assert_eq!(asked(&simulator), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn late_data_is_read_in_one_run() {
    let simulator = fleet().await;
    let program = Program::with_simulator(&simulator).set("SAMSARA_ETL_CHECKPOINT_PAGES", "1");
    program.succeed(&run(["01/01/2024", "06/01/2024"])).await;
    simulator.release_late();
    simulator.clear_requests();
    program.succeed(&run(["01/01/2024", "06/01/2024"])).await;
    assert_eq!(asked(&simulator), ["2024-01-03"]);
    assert_eq!(
        wrong(&program, simulator.world()).await,
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_feed_loses_no_late_day() {
    let all = run(["01/01/2024", "06/01/2024"]);
    // The days themselves are read, whatever becomes of the feed.
    let shut = fleet_without_feed().await;
    let away = Program::with_simulator(&shut);
    let ran = away.run(&all).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("(changed days)") && ran.stderr.contains("403"),
        "{}",
        ran.stderr
    );
    assert!(wrong(&away, shut.world()).await.is_empty());

    // The cursor is forgotten: the feed begins again, and the log says what that means.
    let simulator = fleet().await;
    let program = Program::with_simulator(&simulator);
    program.succeed(&all).await;
    simulator.expire_cursors();
    let ran = program.succeed(&all).await;
    assert_eq!(
        ran.stderr.matches("the change feed starts over").count(),
        1,
        "{}",
        ran.stderr
    );
    simulator.release_late();
    program.succeed(&all).await;
    assert_eq!(
        wrong(&program, simulator.world()).await,
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn feeds_of_one_request_join_and_part() {
    let all = run(["01/01/2024", "06/01/2024"]);
    let simulator = fleet().await;
    let is_refused = Arc::new(AtomicBool::new(false));
    let refuses = is_refused.clone();
    let server = before(simulator.url(), move |request| {
        let query = request.uri().query().unwrap_or_default();
        let is_refused = refuses.load(Ordering::SeqCst)
            && request.uri().path() == FEED
            && query.contains("engineRpm");
        if !is_refused {
            return Turn::Through;
        }
        let body = axum::Json(json!({"message": "invalid stat type engineRpm"}));
        Turn::Away((StatusCode::BAD_REQUEST, body).into_response())
    });
    let program = Program::with_simulator(&simulator).set("SAMSARA_API_URL", server.url());

    // Read one by one, each has a position of its own; together, they go on from one, and what came late for any of
    // them is found on the way.
    for table in TABLES {
        let alone = [&all[..5], &["--table", table]].concat();
        program.succeed(&alone).await;
    }
    simulator.release_late();
    program.succeed(&all).await;
    let none = Vec::<String>::new();
    assert_eq!(wrong(&program, simulator.world()).await, none);
    simulator.clear_requests();
    program.succeed(&all).await;
    assert_eq!(feeds_asked(&simulator), 1);

    // One that is refused leaves the others their feed, each by itself.
    is_refused.store(true, Ordering::SeqCst);
    simulator.clear_requests();
    let ran = program.run(&all).await;
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let failed = ran.stderr.lines().filter(|it| it.starts_with("failed: "));
    let failed: Vec<&str> = failed.collect();
    assert!(
        failed.len() == 1 && failed[0].contains("engineRpm") && failed[0].contains("400"),
        "{failed:?}"
    );
    // The last known readings of each, and the empty page after them.
    assert_eq!(feeds_asked(&simulator), 2 * (TABLES.len() - 1));
    assert_eq!(wrong(&program, simulator.world()).await, none);
    is_refused.store(false, Ordering::SeqCst);
    program.succeed(&all).await;
    simulator.clear_requests();
    program.succeed(&all).await;
    assert_eq!(feeds_asked(&simulator), 1);
    assert_eq!(wrong(&program, simulator.world()).await, none);
}

async fn fleet_without_feed() -> Simulator {
    simulator(|config| config.missing_scopes = vec![FEED.into()]).await
}

/// The models' partitions that were derived and loaded, in order.
#[derive(Default)]
struct Worked(Mutex<Vec<(&'static str, String, Partition)>>);

impl Observer for Worked {
    fn observe(&self, event: &Event) {
        let worked = match event {
            Event::PartitionTransformed {
                model, partition, ..
            } => ("derived", model.clone(), *partition),
            Event::PartitionLoaded {
                model, partition, ..
            } => ("loaded", model.clone(), *partition),
            _ => return,
        };
        self.0.lock().unwrap().push(worked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_day_is_derived_once() {
    let simulator = fleet().await;
    let program = Program::with_simulator(&simulator);
    // The days are complete, and nothing is made of them yet: all of it could begin before the feed has answered.
    program
        .succeed(
            &[
                &run(["01/01/2024", "06/01/2024"])[..],
                &["--stages", "extract"],
            ]
            .concat(),
        )
        .await;
    simulator.release_late();
    let worked = Arc::new(Worked::default());
    let config = impatient(&program, &simulator.url(), simulator.token());
    let report = run_observed(
        config,
        TABLES,
        ["2024-01-01", "2024-01-06"],
        vec![worked.clone()],
    )
    .await;
    assert!(report.failures.is_empty(), "{report}");
    let mut worked = std::mem::take(&mut *worked.0.lock().unwrap());
    worked.sort();
    let mut once = worked.clone();
    once.dedup();
    assert_eq!(worked, once);
    // Five days of three tables, derived and loaded.
    assert_eq!(worked.len(), 2 * 5 * TABLES.len());
    assert_eq!(
        wrong(&program, simulator.world()).await,
        Vec::<String>::new()
    );
}
