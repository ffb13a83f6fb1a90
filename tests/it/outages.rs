//! Outages of one part: the results of the others are kept and processed, nothing hangs, and the last line is accurate.

use std::fs::File;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use samsara_etl::catalog::Catalog;
use samsara_etl::config::{Config, Environment, Overrides, RetryConfig};
use samsara_etl::error::Error;
use samsara_etl::events::{Event, Observer};
use samsara_etl::pipeline::Pipeline;
use samsara_etl::plan::{Dates, RunRequest, Selection, Stage};
use samsara_etl::report::RunReport;
use samsara_etl::samsara::SamsaraError;
use samsara_etl::store::layout::Partition;
use samsara_simulator::{Simulator, SimulatorConfig};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::program::{Program, Ran, impatient, run_here, signal, simulator};
use crate::rerun::copy_families;
use crate::support::faults::{Action, Fault};
use crate::support::gate::{Turn, before};
use crate::support::gcs::GcsDouble;
use crate::support::runs::{HISTORY, TABLE};
use crate::support::until;
use crate::support::wire::Server;
use crate::truth::day;

const ALL: [Stage; 3] = [Stage::Extract, Stage::Transform, Stage::Load];
/// Much longer than any of these runs takes, and much shorter than what would delay it.
const MAX_WAIT: Duration = Duration::from_secs(120);

fn run_request(
    catalog: &Catalog,
    table: &str,
    [start, end]: [&str; 2],
    stages: &[Stage],
) -> RunRequest {
    RunRequest {
        selection: Selection::of_names(catalog, &[table.to_string()]).unwrap(),
        dates: Dates::parse(Some(start), Some(end)).unwrap(),
        stages: stages.iter().copied().collect(),
        historical: false,
    }
}

/// A run in this process; a local API gets all the requests it can take.
async fn run(
    mut config: Config,
    table: &str,
    dates: [&str; 2],
    stages: &[Stage],
    observers: Vec<Arc<dyn Observer>>,
) -> Result<RunReport, Error> {
    config.samsara.rate_share = 1000.0;
    let catalog = Catalog::open(None).unwrap();
    let run_request = run_request(&catalog, table, dates, stages);
    let pipeline = Pipeline::new(config, catalog).unwrap();
    let plan = pipeline.plan(run_request).await.unwrap();
    let ran = pipeline.run(plan, observers, CancellationToken::new());
    tokio::time::timeout(MAX_WAIT, ran)
        .await
        .expect("the run hangs")
}

/// A configuration whose buckets are on a double.
fn on_double(program: &Program, double: &GcsDouble, url: &str, token: &str) -> Config {
    let environment = Environment::from_pairs([
        ("SAMSARA_API_URL", url),
        ("SAMSARA_API_TOKEN", token),
        ("STORAGE_EMULATOR_HOST", double.url()),
        ("GCS_BUCKET_NAME", "raw"),
        ("GCS_BUCKET_FLATTENED_NAME", "flat"),
    ]);
    let mut config = Config::resolve(
        &environment,
        &Overrides::default(),
        program.folder(),
        "samsara-data",
    )
    .unwrap();
    let quick = Duration::from_millis(1);
    config.samsara.retry = RetryConfig {
        attempts: 2,
        base: quick,
        cap: quick,
        ..RetryConfig::default()
    };
    config
}

/// Lets no state be written any more once the first page of a day has come.
struct BreakState {
    double: Arc<GcsDouble>,
    is_broken: AtomicBool,
}

impl Observer for BreakState {
    fn observe(&self, event: &Event) {
        let is_page = matches!(event, Event::PageFetched { endpoint, .. } if endpoint == HISTORY);
        if is_page && !self.is_broken.swap(true, Ordering::SeqCst) {
            self.double
                .fault(Fault::on("PUT", "state/", Action::Status(403)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_checkpoint_write_ends_the_run() {
    // Far more pages than wait anywhere between network, decoder and state.
    let simulator = simulator(|config| (config.vehicles, config.page_size) = (60, Some(1))).await;
    let double = Arc::new(GcsDouble::start(&["raw", "flat"]));
    let program = Program::new();
    let mut config = on_double(&program, &double, &simulator.url(), simulator.token());
    config.checkpoint_pages = 1;
    let broken = Arc::new(BreakState {
        double: double.clone(),
        is_broken: AtomicBool::new(false),
    });
    let error = run(
        config.clone(),
        TABLE,
        ["2024-01-01", "2024-01-02"],
        &ALL,
        vec![broken],
    )
    .await
    .unwrap_err();
    assert!(
        matches!(error, Error::State(_)) && error.to_string().contains("state/fleet_vehicle"),
        "{error}"
    );
    let lock = String::from_utf8(double.get("raw", "lock.json").unwrap().to_vec()).unwrap();
    assert!(lock.contains(r#""released":true"#), "{lock}");
    // Reading on for a day that nobody can commit would be of no use.
    let pages = simulator
        .requests()
        .iter()
        .filter(|request| request.path == HISTORY)
        .count();
    assert!(pages < 60, "{pages}");
    double.clear_faults();
    let report = run(config, TABLE, ["2024-01-01", "2024-01-02"], &ALL, vec![])
        .await
        .unwrap();
    assert!(
        report.failures.is_empty() && report.models[TABLE].loaded == 1,
        "{report}"
    );
}

/// Where nobody listens any more.
async fn dead_url() -> String {
    let gone = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let url = gone.url();
    gone.shutdown().await;
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_cannot_be_reached_stops_no_other_stage() {
    let simulator = simulator(|_| ()).await;
    let (trips, dates) = ("fleet_trips", ["2024-01-01", "2024-01-04"]);
    let dead = dead_url().await;
    for region_is_known in [true, false] {
        let program = Program::with_simulator(&simulator);
        let good = impatient(&program, &simulator.url(), simulator.token());
        // A list, which each run reads again, and days, of which one more is requested now.
        for table in [trips, "fleet_vehicles"] {
            let report = run(good.clone(), table, dates, &[Stage::Extract], vec![])
                .await
                .unwrap();
            assert!(report.failures.is_empty(), "{report}");
        }
        let mut config = impatient(&program, &dead, simulator.token());
        if !region_is_known {
            config.samsara.url = None;
        }
        for (table, partitions) in [(trips, 3), ("fleet_vehicles", 1)] {
            let catalog = Catalog::open(None).unwrap();
            let asked = run_request(&catalog, table, ["2024-01-01", "2024-01-05"], &ALL);
            let regions = vec![dead.clone(), dead.clone()];
            let pipeline = Pipeline::new(config.clone(), catalog)
                .unwrap()
                .with_regions(regions);
            let plan = pipeline.plan(asked).await.unwrap();
            let report = pipeline
                .run(plan, vec![], CancellationToken::new())
                .await
                .unwrap();
            // Complete days are derived and loaded; what could not be read is a failure.
            assert_eq!(report.models[table].loaded, partitions, "{report}");
            assert!(
                !report.failures.is_empty() && report.idle.is_none(),
                "{report}"
            );
            if !region_is_known {
                let failed = &report.failures[0];
                assert_eq!(
                    (report.failures.len(), failed.name.as_str()),
                    (1, "extract"),
                    "{report}"
                );
                assert!(
                    failed.error.contains("region")
                        && failed
                            .remedy
                            .as_ref()
                            .is_some_and(|remedy| remedy.contains("SAMSARA_REGION")),
                    "{report}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_ends_the_run_at_once() {
    let simulator = simulator(|config| config.vehicles = 2).await;
    let double = Arc::new(GcsDouble::start(&["raw", "flat"]));
    let program = Program::new();
    let good = on_double(&program, &double, &simulator.url(), simulator.token());
    let trips = "fleet_trips";
    // More days than all queues between the stages hold.
    let report = run(
        good,
        trips,
        ["2023-07-01", "2023-12-01"],
        &[Stage::Extract],
        vec![],
    )
    .await
    .unwrap();
    assert!(
        report.failures.is_empty() && report.sources[trips].partitions > 150,
        "{report}"
    );
    // Nothing of it can be derived as long as the raw objects do not come.
    double.fault(Fault::on(
        "GET",
        "raw/fleet_trips",
        Action::Delay(Duration::from_secs(3600)),
    ));
    double.fault(Fault::on(
        "HEAD",
        "raw/fleet_trips",
        Action::Delay(Duration::from_secs(3600)),
    ));
    let refused = on_double(&program, &double, &simulator.url(), "samsara_api_wrong");
    let error = run(refused, trips, ["2023-07-01", "2023-12-02"], &ALL, vec![])
        .await
        .unwrap_err();
    let api = match &error {
        Error::Samsara(error) => Some(error),
        Error::Extract(error) => error.api(),
        _ => None,
    };
    assert!(
        matches!(api, Some(SamsaraError::TokenRefused { .. })),
        "{error}"
    );
}

fn last_line(ran: &Ran) -> &str {
    ran.stderr
        .lines()
        .rfind(|line| !line.contains(" pages, "))
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_does_nothing_says_why() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let trips = [
        "--table",
        "fleet_trips",
        "--start_date",
        "01/01/2024",
        "--end_date",
        "03/01/2024",
    ];
    let told = async |arguments: &[&str], part: &str| {
        let ran = program.succeed(&[&["run"], arguments].concat()).await;
        assert!(
            last_line(&ran).contains(part),
            "{arguments:?} lacks {part}\n{}",
            ran.stderr
        );
    };
    let future = [
        "--table",
        "fleet_trips",
        "--start_date",
        "2999-01-01",
        "--end_date",
        "2999-01-03",
    ];
    told(&future, "nothing to do: 2999-01-01 has not begun yet").await;
    let plan = program
        .succeed(&[&["plan"], &future[..]].concat())
        .await
        .stdout;
    assert!(
        plan.contains("2 days, from 2999-01-01 on, have not begun and are not requested"),
        "{plan}"
    );
    let only = |stages| [&trips[..], &["--stages", stages]].concat();
    told(
        &only("transform,load"),
        "2 partitions not read, 0 not derived, 0 not loaded",
    )
    .await;
    program
        .succeed(&[&["run"], &only("extract")[..]].concat())
        .await;
    told(
        &only("extract"),
        "0 partitions not read, 2 not derived, 0 not loaded",
    )
    .await;
    program
        .succeed(&[&["run"], &only("transform")[..]].concat())
        .await;
    told(
        &only("transform"),
        "0 partitions not read, 0 not derived, 2 not loaded",
    )
    .await;
    program.succeed(&[&["run"], &trips[..]].concat()).await;
    told(
        &trips,
        "nothing to do: everything requested is complete and loaded",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_claims_nothing() {
    // An API that takes requests and never answers.
    let asked = Arc::new(AtomicBool::new(false));
    let seen = asked.clone();
    let silent = Server::start(Router::new().fallback(move || {
        seen.store(true, Ordering::SeqCst);
        std::future::pending::<StatusCode>()
    }));
    let program = Program::new()
        .set("SAMSARA_API_URL", silent.url())
        .set("SAMSARA_API_TOKEN", "t");
    let child = program.start(&["run", "--table", "fleet_vehicles"], Stdio::piped());
    until(|| asked.load(Ordering::SeqCst)).await;
    signal(&child, "INT").await;
    let ran = Ran::of(
        tokio::time::timeout(MAX_WAIT, child.wait_with_output())
            .await
            .unwrap()
            .unwrap(),
    );
    assert_eq!(ran.code, 130, "{}", ran.stderr);
    assert!(
        last_line(&ran).contains("stopped early") && !ran.stderr.contains("nothing to do"),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_are_not_there_are_no_success() {
    // An empty folder of recorded pages: nothing but `/me` is there.
    let program = Program::new();
    std::fs::create_dir(program.folder().join("pages")).unwrap();
    let pages_dir = Some(program.folder().join("pages"));
    let nothing = Simulator::start(SimulatorConfig {
        pages_dir,
        ..SimulatorConfig::default()
    })
    .await
    .unwrap();
    let (url, token) = (nothing.url(), nothing.token().to_string());
    let program = program
        .set("SAMSARA_API_URL", &url)
        .set("SAMSARA_API_TOKEN", &token);
    let days = ["--start_date", "01/01/2024", "--end_date", "03/01/2024"];
    let all = [&["run", "--category", "core"][..], &days].concat();
    let ran = program.run(&all).await;
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("no endpoint that was asked is available")
            && ran.stderr.contains("SAMSARA_API_URL"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("not available: fleet_tags: ")
            && ran.stderr.contains("not available: fleet_vehicles: "),
        "{}",
        ran.stderr
    );

    // A 404 of one endpoint among others is not a failure, unless it worked before.
    let simulator = simulator(|_| ()).await;
    let is_gone = |path: &'static str| {
        before(simulator.url(), move |request| {
            match request.uri().path() == path {
                true => Turn::Away((StatusCode::NOT_FOUND, "404 page not found").into_response()),
                false => Turn::Through,
            }
        })
    };
    let program = Program::with_simulator(&simulator);
    let both = ["run", "--table", "fleet_tags", "--table", "fleet_vehicles"];
    let gate = is_gone("/tags");
    let program = program.set("SAMSARA_API_URL", gate.url());
    let ran = program.succeed(&["run", "--category", "core"]).await;
    assert!(
        ran.stderr.contains("not available: fleet_tags"),
        "{}",
        ran.stderr
    );
    let gate = is_gone("/fleet/vehicles");
    let program = program.set("SAMSARA_API_URL", gate.url());
    let ran = program.run(&both).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("failed: fleet_vehicles") && ran.stderr.contains("404"),
        "{}",
        ran.stderr
    );
    assert_eq!(program.rows("SELECT * FROM fleet_vehicles").await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_cannot_be_written_to_is_no_panic() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let run = ["run", "-vv", "--table", "fleet_vehicles"];
    // Nobody reads it; or it takes nothing.
    let code = async |arguments: &[&str], stderr: Stdio, is_closed: bool| {
        let mut child = program.start(arguments, stderr);
        if is_closed {
            drop(child.stderr.take());
        }
        child.wait().await.unwrap().code()
    };
    for (arguments, expected) in [(&run[..], 0), (&["run", "--table", "no_such"], 2)] {
        assert_eq!(
            code(arguments, Stdio::piped(), true).await,
            Some(expected),
            "{arguments:?}"
        );
        if cfg!(target_os = "linux") {
            assert_eq!(
                code(arguments, full(), false).await,
                Some(expected),
                "{arguments:?}"
            );
        }
    }
    if cfg!(target_os = "linux") {
        let query = |format| ["query", "SELECT * FROM fleet_vehicles", "--format", format];
        for arguments in [
            &["tables"][..],
            &["status"],
            &query("csv"),
            &query("json"),
            &query("table"),
        ] {
            let ran = Ran::of(
                program
                    .start_with(arguments, full())
                    .wait_with_output()
                    .await
                    .unwrap(),
            );
            assert_eq!(ran.code, 1, "{arguments:?}: {}", ran.stderr);
            assert!(
                ran.stderr
                    .contains("cannot write the result: No space left"),
                "{arguments:?}: {}",
                ran.stderr
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_is_whatever_is_not_in_the_warehouse() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let table = [
        "--table",
        "fleet_vehicle_stats_gps",
        "--table",
        "fleet_tags_drivers",
    ];
    let dates = ["--start_date", "01/01/2024", "--end_date", "03/01/2024"];
    let missing = async |dates: &[&str]| {
        let ran = program
            .run(
                &[
                    &["status", "--missing", "--fail-on-missing"],
                    &table[..],
                    dates,
                ]
                .concat(),
            )
            .await;
        let mut lines: Vec<String> = ran.stdout.lines().map(String::from).collect();
        lines.sort();
        (ran.code, lines)
    };
    let calendar = async || {
        program
            .succeed(&[&["status", "--calendar"], &table[..], &dates].concat())
            .await
            .stdout
    };
    // Nothing was ever requested.
    let (code, lines) = missing(&[]).await;
    assert_eq!(code, 3);
    assert_eq!(
        lines,
        [
            "fleet_tags snapshot not requested",
            "fleet_vehicle_stats_gps never requested"
        ]
    );
    let steps = [
        ("extract", "ee", "extracted, not derived or not loaded: "),
        ("transform", "dd", "derived, not loaded: "),
        ("load", "##", ""),
    ];
    for (stage, letters, why) in steps {
        program
            .succeed(&[&["run", "--stages", stage], &table[..], &dates].concat())
            .await;
        let shown = calendar().await;
        assert!(
            shown.contains(&format!("  2024-01 {letters}\n")),
            "{stage}: {shown}"
        );
        let (code, lines) = missing(&dates).await;
        if why.is_empty() {
            assert_eq!((code, lines), (0, vec![]));
            continue;
        }
        assert_eq!((code, lines.len()), (3, 3), "{lines:?}");
        let day = format!("fleet_vehicle_stats_gps 2024-01-01 {why}fleet_vehicle_stats_gps");
        assert!(
            lines[0].starts_with("fleet_tags snapshot") && lines[1] == day,
            "{stage}: {lines:?}"
        );
        // A query reports what is missing; of the raw rows nothing is.
        let ran = program
            .run(&["query", "SELECT count(*) FROM fleet_vehicle_stats_gps"])
            .await;
        let note = "note: fleet_vehicle_stats_gps: 2 partitions";
        assert_eq!(
            ran.stderr.contains(note),
            stage == "transform",
            "{stage}: {}",
            ran.stderr
        );
        let ran = program
            .succeed(&["query", "SELECT count(*) FROM raw.fleet_vehicle_stats_gps"])
            .await;
        assert!(!ran.stderr.contains("note: "), "{}", ran.stderr);
    }
    // Another day is requested, and what is there is as it was.
    assert_eq!(
        missing(&["--start_date", "01/01/2024", "--end_date", "04/01/2024"])
            .await
            .1
            .len(),
        1
    );
    // An edited model makes what is loaded stale.
    copy_families(&program, &["tags", "vehicle_stats"]);
    assert_eq!(missing(&dates).await, (0, vec![]));
    let model = program
        .folder()
        .join("sql/vehicle_stats/fleet_vehicle_stats_gps.sql");
    let text = std::fs::read_to_string(&model).unwrap();
    std::fs::write(&model, format!("{text}WHERE TRUE\n")).unwrap();
    assert_eq!(missing(&dates).await.1.len(), 2);
}

const LOGS: &str = "fleet_safety_events_audit_logs";

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_brings_the_requested_days() {
    // All rows of two months fit on a page, or some on each.
    for page_size in [100, 3] {
        let now = "2024-03-01T00:00:00Z".parse().unwrap();
        let simulator =
            simulator(|config| (config.now, config.page_size) = (Some(now), Some(page_size))).await;
        let program = Program::with_simulator(&simulator);
        let config = || impatient(&program, &simulator.url(), simulator.token());
        let run = async |dates| {
            let report = run_here(config(), &[LOGS], dates).await;
            assert!(report.failures.is_empty(), "{report}");
            report
        };
        let plan = program.succeed(&[
            "plan",
            "--table",
            LOGS,
            "--start_date",
            "2024-01-02",
            "--end_date",
            "2024-01-05",
        ]);
        let plan = plan.await.stdout;
        let announced =
            "feed, begins: rows from 2024-01-02 to 2024-01-04, up to 3 daily partitions";
        assert!(plan.contains(announced), "{plan}");
        let open = program
            .succeed(&["plan", "--table", LOGS, "--start_date", "2024-01-02"])
            .await
            .stdout;
        assert!(
            open.contains("feed, begins: rows from 2024-01-02 to 20"),
            "{open}"
        );

        let is_right = async |end: &str| {
            let expected = simulator
                .world()
                .truth(LOGS, day("2024-01-02"), day(end))
                .unwrap();
            let ids = |rows: &[Map<String, Value>]| {
                let mut ids: Vec<String> = rows.iter().map(|row| row["id"].to_string()).collect();
                ids.sort();
                ids
            };
            assert!(!expected.is_empty());
            // Not even the raw rows are there twice.
            for table in [LOGS.to_string(), format!("raw.{LOGS}")] {
                let found = program.rows(&format!("SELECT id FROM {table}")).await;
                assert_eq!(ids(&found), ids(&expected), "{table} up to {end}");
            }
        };
        run(["2024-01-02", "2024-01-05"]).await;
        is_right("2024-01-05").await;
        let state = crate::support::runs::state(&program, LOGS).unwrap();
        let last = state.complete().map(|(partition, _)| partition).max();
        assert!(
            last < Some(Partition::parse("2024-01-05").unwrap()),
            "{last:?}"
        );
        // Once more, or less of it: there is nothing to ask.
        simulator.clear_requests();
        for end in ["2024-01-05", "2024-01-04"] {
            let report = run(["2024-01-02", end]).await;
            assert!(!report.did_something(), "{report}");
        }
        assert!(simulator.requests().is_empty());
        for end in ["2024-01-06", "2024-02-10"] {
            run(["2024-01-02", end]).await;
            is_right(end).await;
        }
        // Without an end date, up to the last existing row; the next run finds nothing new.
        for _ in 0..2 {
            program.succeed(&["run", "--table", LOGS]).await;
            is_right("2024-03-01").await;
        }
        let status = program
            .succeed(&["status", "--calendar", "--table", LOGS, "--fail-on-missing"])
            .await
            .stdout;
        assert!(status.contains("##") || status.contains('#'), "{status}");
    }
}
