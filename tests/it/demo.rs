//! Full runs over every kind of source, against the simulated world's own truth.

use crate::dashboards::{a_browser_shows, same_in_bigquery, shown_rows};
use crate::marts::{wrong_marts, wrong_months, wrong_tiles};
use crate::program::{Program, simulator};
use crate::rerun::catalog_files;
use crate::truth::{compare, day, differences, has_history, local_rows, local_tables};

/// The command line in the schedulers of the replaced program's users.
const RUN: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "10/01/2024",
    "--table_file_path",
    "ALL",
    "--max_workers",
    "5",
];

const DAYS: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "04/01/2024",
];

/// A list, a fan-out, nested readings, and two statistics that share their requests.
const DRIFTING: &[&str] = &[
    "fleet_vehicles",
    "fleet_trips",
    "ReeferStats_setPoint",
    "fleet_vehicle_stats_gps",
    "fleet_vehicle_stats_engineRpm",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_table_equals_the_truth() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    // Also what is read on request only.
    let all = [RUN, &["--include", "on-request"]].concat();
    program.succeed(&all).await;
    let mut wrong = Vec::new();
    let catalog = samsara_etl::catalog::Catalog::open(None).unwrap();
    let found = local_tables(&program.folder().join("samsara-data/warehouse")).await;
    let of_raw = catalog.models().filter(|it| it.upstream.is_empty());
    for model in of_raw.filter(|it| has_history(&catalog, &it.name)) {
        let rows = local_rows(&found, &model.name).await;
        match differences(
            &model.name,
            simulator.world(),
            rows,
            day("2024-01-01"),
            day("2024-01-10"),
        ) {
            Ok(0) => wrong.push(format!(
                "{}: equal, but empty: the world is too small for this test",
                model.name
            )),
            Ok(_) => {}
            Err(difference) => wrong.push(difference),
        }
    }
    let days = [day("2024-01-01"), day("2024-01-10")];
    wrong.extend(wrong_marts(&found, simulator.world(), days).await);
    let page = program
        .succeed(&["report", "--marts", "--output", "-"])
        .await;
    wrong.extend(wrong_tiles(
        &shown_rows(&page.stdout),
        simulator.world(),
        days,
    ));
    // A month that is over is whole or not there.
    assert!(local_rows(&found, "fuel_monthly").await.is_empty());
    let month = ["--start-date", "2024-01-01", "--end-date", "2024-02-01"];
    program
        .succeed(&[&["run", "--table", "fuel_monthly"], &month[..]].concat())
        .await;
    let found = local_tables(&program.folder().join("samsara-data/warehouse")).await;
    let days = [day("2024-01-01"), day("2024-02-01")];
    wrong.extend(wrong_months(&found, simulator.world(), days).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_kept_with_its_path() {
    let simulator = simulator(|config| config.unknown_fields = true).await;
    let program = Program::with_simulator(&simulator);
    let tables: Vec<&str> = DRIFTING
        .iter()
        .flat_map(|table| ["--table", table])
        .collect();
    let ran = program.succeed(&[DAYS, &tables].concat()).await;
    assert!(
        ran.stderr.contains("schema drift (kept in _rescued_data)"),
        "{}",
        ran.stderr
    );
    for table in DRIFTING {
        compare(
            &program,
            simulator.world(),
            table,
            day("2024-01-01"),
            day("2024-01-04"),
        )
        .await
        .unwrap();
    }
    let rescued = program
        .rows("SELECT _rescued_data FROM raw.fleet_vehicle_stats_gps")
        .await;
    assert!(!rescued.is_empty());
    for row in rescued {
        let text = row["_rescued_data"]
            .as_str()
            .expect("every record of a drifted source has rescued values");
        let rescued: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(text).unwrap();
        assert!(
            rescued.keys().any(|path| path.starts_with("gps[")),
            "{text}"
        );
        // Values of another statistic in the same request stay with that one.
        assert!(
            !rescued.keys().any(|path| path.starts_with("engineRpm[")),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_api_are_waited_out() {
    let faults = "429=0.1,500=0.05,503=0.05,reset=0.05,truncate=0.05,duplicate=0.05";
    let simulator = simulator(|config| config.faults = faults.parse().unwrap()).await;
    let program = Program::with_simulator(&simulator);
    let names = [
        "--table",
        "fleet_vehicle_stats_engineRpm",
        "--table",
        "fleet_vehicles",
        "--table",
        "fleet_trips",
    ];
    program.succeed(&[DAYS, &names[..]].concat()).await;
    for table in ["fleet_vehicle_stats_engineRpm", "fleet_trips"] {
        compare(
            &program,
            simulator.world(),
            table,
            day("2024-01-01"),
            day("2024-01-04"),
        )
        .await
        .unwrap();
    }
    assert!(
        simulator
            .requests()
            .iter()
            .any(|request| request.status == 429)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_answers_queries() {
    let program = Program::new();
    let demo = program
        .succeed(&["demo", "--vehicles", "3", "--end-date", "2024-01-03"])
        .await;
    assert!(
        demo.stderr.contains("fleet_vehicle_stats_engineRpm") && demo.stderr.contains("pages"),
        "{}",
        demo.stderr
    );
    assert!(demo.stdout.contains("mean_rpm"), "{}", demo.stdout);
    let count = "SELECT count(*) FROM fleet_vehicle_stats_engineRpm";
    let answer = program
        .succeed(&["query", count, "--format", "csv"])
        .await
        .stdout;
    let rows: u64 = answer.lines().nth(1).unwrap().parse().unwrap();
    assert!(rows > 0);
    assert_eq!(answer.lines().count(), 2);
    // Days after the simulated ones count as missing, unless they are left out.
    let status = program.succeed(&["status"]).await.stdout;
    let hint = "simulated days end with 2024-01-02, and later ones count as missing; `samsara-etl status --end-date 2024-01-03`";
    assert!(
        status.contains(hint) && status.contains(" behind"),
        "{status}"
    );
    let status = program
        .succeed(&["status", "--end-date", "2024-01-03"])
        .await;
    let status = status.stdout;
    assert!(!status.contains("simulated days"), "{status}");
    assert!(!status.contains(" behind"), "{status}");

    // The dashboards over its marts.
    program.succeed(&["report", "--marts"]).await;
    a_browser_shows(&program).await;
    let page = std::fs::read_to_string(program.folder().join("samsara-marts.html")).unwrap();
    let marts = local_tables(&program.folder().join("samsara-demo/warehouse")).await;
    same_in_bigquery(&program, &page, &marts).await;

    diffs_of_marts(&program).await;
}

/// An edit of a mart, seen before anything is written: in itself, and in a mart that is made of it.
async fn diffs_of_marts(program: &Program) {
    let day = "WHERE day = '2024-01-01' AND fuel_l > 0";
    let count = |mart: &str| format!("SELECT count(*) AS n FROM {mart} {day}");
    let vehicles = program.rows(&count("vehicle_daily")).await[0]["n"].clone();
    assert!(vehicles.as_u64() > Some(0));
    for (path, text) in catalog_files() {
        if !path.contains("/tests/") {
            program.write(&format!("sql/{path}"), text);
        }
    }
    let path = "sql/marts/vehicle_daily.sql";
    let text = std::fs::read_to_string(program.folder().join(path)).unwrap();
    let edited = text.replacen("sum(m.fuel_ml) / 1000,", "sum(m.fuel_ml) / 500,", 1);
    assert!(text != edited);
    program.write(path, edited);
    for (mart, rows, columns) in [
        (
            "vehicle_daily",
            vehicles.clone(),
            serde_json::json!({"fuel_l": vehicles}),
        ),
        (
            "fleet_daily",
            1.into(),
            serde_json::json!({"fuel_l": 1, "fuel_l_per_100_km": 1}),
        ),
    ] {
        let diff = [
            "sql",
            "diff",
            mart,
            "--day",
            "2024-01-01",
            "--format",
            "json",
        ];
        let told = program.succeed(&diff).await.stdout;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let found = &told["partitions"][0];
        assert_eq!(found["rows_changed"], rows, "{told}");
        assert_eq!(found["values_changed"], columns, "{told}");
        for none in ["rows_added", "rows_removed"] {
            assert_eq!(found[none], 0, "{told}");
        }
    }
}
