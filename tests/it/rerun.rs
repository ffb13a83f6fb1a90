//! Running again: complete partitions are left alone, stale ones are derived again, and nothing else.

use std::collections::BTreeSet;

use samsara_simulator::World;

use crate::late::asked;
use crate::program::{Program, fleet, simulator};
use crate::support::runs::state;
use crate::truth::{compare, day};

const DATES: &[&str] = &["--start_date", "01/01/2024", "--end_date", "04/01/2024"];

fn run(more: &[&'static str]) -> Vec<&'static str> {
    [&["run"], DATES, more].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_changes_nothing() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let run = [
        "run",
        "--start_date",
        "01/01/2024",
        "--end_date",
        "02/01/2024",
    ];
    program.succeed(&run).await;
    // The program's own tables tell of each run.
    let data = || {
        let mut files = program.files("samsara-data");
        files.retain(|(path, _, _)| !path.contains("/_etl_"));
        files
    };
    let before = data();
    simulator.clear_requests();
    let ran = program.succeed(&run).await;
    assert_eq!(before, data(), "{}", ran.stderr);
    let asked: BTreeSet<String> = simulator
        .requests()
        .into_iter()
        .map(|request| request.path)
        .collect();
    let catalog = samsara_etl::catalog::Catalog::open(None).unwrap();
    for source in catalog.sources() {
        use samsara_etl::catalog::SourceKind::{Report, Window};
        if matches!(source.kind, Window | Report) {
            assert!(
                !asked.contains(&source.endpoint),
                "{} was asked for again",
                source.name
            );
        }
    }
}

/// In another place, the warehouse is another one, too: everything is loaded there, and what is gone is derived first.
#[tokio::test(flavor = "multi_thread")]
async fn removed_rows_are_derived_for_another_warehouse() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let only = run(&["--table", "fleet_trips"]);
    program.succeed(&only).await;
    let trips = "SELECT * FROM fleet_trips ORDER BY vehicle_id, \"startTime\"";
    let before = program.rows(trips).await;
    assert!(!before.is_empty());
    let data = program.folder().join("samsara-data");
    for gone in ["flattened/flattened", "warehouse"] {
        std::fs::remove_dir_all(data.join(gone)).unwrap();
    }
    let moved = Program::with_simulator(&simulator);
    std::fs::rename(data, moved.folder().join("samsara-data")).unwrap();
    simulator.clear_requests();
    moved.succeed(&only).await;
    assert_eq!(moved.rows(trips).await, before);
    assert_eq!(simulator.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stage_runs_alone() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let only = [
        "--table",
        "fleet_vehicle_stats_gps",
        "--table",
        "fleet_tags",
    ];
    program
        .succeed(&[&run(&["--stages", "download"])[..], &only].concat())
        .await;
    let world = World::new(&fleet());
    // From here on there is no API.
    simulator.shutdown().await;
    program
        .succeed(&[&run(&["--stages", "transform"])[..], &only].concat())
        .await;
    assert!(
        program
            .run(&["query", "SELECT * FROM fleet_vehicle_stats_gps"])
            .await
            .code
            != 0
    );
    program
        .succeed(&[&run(&["--stages", "load"])[..], &only].concat())
        .await;
    for table in ["fleet_vehicle_stats_gps", "fleet_tags_drivers"] {
        assert!(
            compare(
                &program,
                &world,
                table,
                day("2024-01-01"),
                day("2024-01-04")
            )
            .await
            .unwrap()
                > 0
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_share_calls() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let names =
        ["engineRpm", "gps", "faultCodes"].map(|name| format!("fleet_vehicle_stats_{name}"));
    let tables: Vec<&str> = names.iter().flat_map(|name| ["--table", name]).collect();
    program.succeed(&[&run(&[])[..], &tables].concat()).await;
    let queries: BTreeSet<String> = simulator
        .requests()
        .into_iter()
        .filter(|r| r.path.ends_with("/stats/history"))
        .map(|r| r.query)
        .collect();
    assert!(!queries.is_empty());
    assert!(
        queries
            .iter()
            .all(|query| query.contains("types=engineRpm%2CfaultCodes%2Cgps")),
        "{queries:?}"
    );
    let states = program.files("samsara-data/raw/state");
    assert_eq!(states.len(), 3);
    // Alone, a statistic has the very rows that it has in company.
    let alone = Program::with_simulator(&simulator);
    alone
        .succeed(&run(&["--table", "fleet_vehicle_stats_gps"]))
        .await;
    let count = "SELECT count(*) AS n, count(_rescued_data) AS r FROM raw.fleet_vehicle_stats_gps";
    assert_eq!(alone.rows(count).await, program.rows(count).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_model_asks_nothing() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    copy_families(&program, &["vehicle_stats"]);
    let only = [
        "--table",
        "fleet_vehicle_stats_engineRpm",
        "--table",
        "fleet_vehicle_stats_gps",
    ];
    program.succeed(&[&run(&[])[..], &only].concat()).await;
    let gps = program.files("samsara-data/flattened/flattened/fleet_vehicle_stats_gps");
    simulator.clear_requests();
    let model = "sql/vehicle_stats/fleet_vehicle_stats_engineRpm.sql";
    let text = std::fs::read_to_string(program.folder().join(model)).unwrap();
    let text = text.replace(
        "AS engineRpm                       -- revolutions per minute",
        "AS engineRpm,                      -- revolutions per minute\n  reading['value'] / 60 AS perSecond -- revolutions per second",
    );
    program.write(model, text);
    let ran = program.succeed(&[&run(&[])[..], &only].concat()).await;
    // The feeds are asked whether old days have changed; no data is.
    assert!(
        simulator
            .requests()
            .iter()
            .all(|request| request.path.ends_with("/stats/feed")),
        "{}",
        ran.stderr
    );
    let rows = program
        .rows("SELECT count(*) AS n, count(perSecond) AS p FROM fleet_vehicle_stats_engineRpm WHERE perSecond = engineRpm / 60")
        .await;
    assert!(
        rows[0]["n"].as_u64().unwrap() > 0 && rows[0]["n"] == rows[0]["p"],
        "{rows:?}"
    );
    assert_eq!(
        gps,
        program.files("samsara-data/flattened/flattened/fleet_vehicle_stats_gps")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_adds_to_its_days() {
    let simulator =
        simulator(|config| config.now = Some(day("2024-01-03") + chrono::TimeDelta::hours(7)))
            .await;
    let program = Program::with_simulator(&simulator);
    let only = ["--table", "fleet_safety_events_audit_logs"];
    program.succeed(&[&run(&[])[..], &only].concat()).await;
    let first = program
        .rows("SELECT * FROM fleet_safety_events_audit_logs")
        .await
        .len();
    simulator.set_now(day("2024-01-09"));
    simulator.clear_requests();
    program
        .succeed(&[&["run", "--end_date", "09/01/2024"][..], &only].concat())
        .await;
    assert!(
        simulator
            .requests()
            .iter()
            .all(|request| request.path == "/me" || request.query.contains("after="))
    );
    let table = "fleet_safety_events_audit_logs";
    let second = compare(
        &program,
        simulator.world(),
        table,
        day("2024-01-01"),
        day("2024-01-09"),
    )
    .await
    .unwrap();
    assert!(second > first && first > 0, "{first} then {second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_cursor_doubles_nothing() {
    let simulator =
        simulator(|config| config.now = Some(day("2024-01-03") + chrono::TimeDelta::hours(7)))
            .await;
    let program = Program::with_simulator(&simulator);
    let only = ["--table", "fleet_safety_events_audit_logs"];
    program.succeed(&[&run(&[])[..], &only].concat()).await;
    simulator.expire_cursors();
    simulator.set_now(day("2024-01-09"));
    program
        .succeed(&[&["run", "--end_date", "09/01/2024"][..], &only].concat())
        .await;
    let refused = simulator
        .requests()
        .iter()
        .filter(|request| request.status == 400)
        .count();
    assert_eq!(refused, 1);
    let rows = program
        .rows("SELECT count(*) AS n, count(DISTINCT id) AS d FROM fleet_safety_events_audit_logs")
        .await;
    assert_eq!(rows[0]["n"], rows[0]["d"]);
}

/// The catalog of this checkout.
pub(crate) fn catalog_files() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let settings = std::fs::read_to_string(root.join("settings.toml")).unwrap();
    let mut files = vec![("settings.toml".to_string(), settings)];
    for family in std::fs::read_dir(&root)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().is_dir())
    {
        for file in std::fs::read_dir(family.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
        {
            let name = file.strip_prefix(&root).unwrap().display().to_string();
            files.push((name, std::fs::read_to_string(&file).unwrap()));
        }
    }
    files
}

/// The files of these families. A source needs the families of its parent, a model those of its sources.
pub(crate) fn family_files(families: &[&str]) -> Vec<(String, String)> {
    let mut files = catalog_files();
    let is_wanted = |path: &str| {
        let family = path.split('/').next();
        family.is_some_and(|family| families.contains(&family))
    };
    files.retain(|(path, _)| is_wanted(path));
    files
}

/// Copies these families into the program's folder: it starts faster with few models than with all.
pub(crate) fn copy_families(program: &Program, families: &[&str]) {
    for (path, text) in family_files(families) {
        program.write(&format!("sql/{path}"), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn days_a_killed_run_missed_are_read() {
    const TABLE: &str = "fleet_vehicle_stats_gps";
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let from = |start| {
        [
            "run",
            "--start_date",
            start,
            "--end_date",
            "06/01/2024",
            "--table",
            TABLE,
        ]
    };
    program.succeed(&from("03/01/2024")).await;
    let begun = || {
        state(&program, TABLE)
            .unwrap()
            .asked_from
            .unwrap()
            .to_string()
    };
    assert_eq!(begun(), "2024-01-03");
    program.succeed(&from("01/01/2024")).await;
    program.succeed(&from("02/01/2024")).await;
    assert_eq!(begun(), "2024-01-01");
    // As if it had been killed when only the last days were committed: days are read concurrently.
    let mut killed = state(&program, TABLE).unwrap();
    killed
        .partitions
        .retain(|day, _| day.to_string().as_str() > "2024-01-03");
    program.write(
        &format!("samsara-data/raw/state/{TABLE}.json"),
        killed.to_json().unwrap(),
    );
    simulator.clear_requests();
    program
        .succeed(&["run", "--end_date", "06/01/2024", "--table", TABLE])
        .await;
    assert_eq!(
        asked(&simulator),
        ["2024-01-01", "2024-01-02", "2024-01-03"]
    );
    compare(
        &program,
        simulator.world(),
        TABLE,
        day("2024-01-01"),
        day("2024-01-06"),
    )
    .await
    .unwrap();
}
