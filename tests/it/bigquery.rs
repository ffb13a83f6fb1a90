//! The same job through Cloud Storage and BigQuery: our double of the one, a third-party emulator of the other.

use serde_json::{Map, Value};

use crate::loading::{ENGINE, RPM_SQL};
use crate::program::{Program, simulator};
use crate::support::bigquery_emulator::{Emulators, shared};
use crate::truth::{day, differences};

/// A program whose buckets and dataset are on the emulators.
fn on_emulators(program: Program, emulators: &Emulators, name: &str) -> Program {
    let (raw, flat, dataset) = (
        format!("{name}-raw"),
        format!("{name}-flat"),
        format!("{name}_dwh"),
    );
    emulators.gcs.add_bucket(&raw);
    emulators.gcs.add_bucket(&flat);
    program
        // Each question about a job takes the emulator longer than most jobs: so fewer than elsewhere are asked.
        .set("SAMSARA_ETL_WAIT_SCALE", "0.1")
        .set("STORAGE_EMULATOR_HOST", emulators.gcs.url())
        .set("BIGQUERY_EMULATOR_HOST", emulators.bigquery.url())
        .set("GOOGLE_CLOUD_PROJECT", emulators.bigquery.project())
        .set("GCS_BUCKET_NAME", &raw)
        .set("GCS_BUCKET_FLATTENED_NAME", &flat)
        .set("DWH_ID", &dataset)
}

const RUN: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "03/01/2024",
];

/// Rows of a table in BigQuery: each cell as JSON, under its column's name.
async fn rows(
    emulators: &Emulators,
    dataset: &str,
    table: &str,
    columns: &[String],
) -> Vec<Map<String, Value>> {
    let cells: Vec<String> = columns
        .iter()
        .map(|name| format!("TO_JSON_STRING(`{name}`)"))
        .collect();
    let sql = format!("SELECT {} FROM `{dataset}`.`{table}`", cells.join(", "));
    let cell = |value: &Value| {
        value
            .as_str()
            .map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
    };
    let rows = emulators.bigquery.query(&sql).await;
    rows.iter()
        .map(|row| columns.iter().cloned().zip(row.iter().map(cell)).collect())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bigquery_tables_equal_the_truth() {
    let Some(emulators) = shared().await else {
        return;
    };
    let simulator = simulator(|_| ()).await;
    let program = on_emulators(Program::with_simulator(&simulator), emulators, "whole");
    let tables = [
        "fleet_vehicles",
        "fleet_tags",
        "fleet_vehicle_stats_engineRpm",
        "fleet_trips",
        "fleet_vehicles_fuel_energy",
    ];
    let selected: Vec<&str> = tables.iter().flat_map(|table| ["--table", table]).collect();
    program.succeed(&[RUN, &selected].concat()).await;
    let world = simulator.world();
    for table in [
        "fleet_vehicles",
        "fleet_tags_drivers",
        "fleet_vehicle_stats_engineRpm",
        "fleet_trips",
        "fleet_vehicles_fuel_energy",
    ] {
        let truth = world
            .truth(table, day("2024-01-01"), day("2024-01-03"))
            .unwrap();
        let columns: Vec<String> = truth[0].keys().cloned().collect();
        let found = rows(emulators, "whole_dwh", table, &columns).await;
        assert!(
            differences(table, world, found, day("2024-01-01"), day("2024-01-03")).unwrap() > 0
        );
    }
    // What runs did is written by each of them.
    let tables_only = || {
        emulators
            .gcs
            .objects("whole-flat")
            .iter()
            .filter(|it| !it.key.starts_with("audit/"))
            .count()
    };
    let before = tables_only();
    let ran = program.succeed(&[RUN, &selected].concat()).await;
    assert_eq!(before, tables_only(), "{}", ran.stderr);
    let jobs = emulators
        .bigquery
        .query("SELECT count(*) FROM `whole_dwh`.INFORMATION_SCHEMA.TABLES")
        .await;
    assert!(!jobs.is_empty());
    // The program's own query reads the flattened bucket where the warehouse is BigQuery.
    let counted = program.rows("SELECT count(*) AS n FROM fleet_trips").await;
    let truth = world
        .truth("fleet_trips", day("2024-01-01"), day("2024-01-03"))
        .unwrap()
        .len();
    assert_eq!(counted[0]["n"], truth);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rederived_day_replaces_its_rows() {
    let Some(emulators) = shared().await else {
        return;
    };
    let simulator = simulator(|_| ()).await;
    let program = on_emulators(Program::with_simulator(&simulator), emulators, "again");
    program.write("sql/f/sources.toml", ENGINE);
    program.write("sql/f/rpm.sql", RPM_SQL);
    let run = [RUN, &["--table", "rpm"]].concat();
    program.succeed(&run).await;
    let count = "SELECT count(*), max(rpm) FROM `again_dwh`.rpm";
    let first = emulators.bigquery.query(count).await;
    program.write("sql/f/rpm.sql", RPM_SQL.replace("AS rpm", "+ 10000 AS rpm"));
    program.succeed(&run).await;
    let second = emulators.bigquery.query(count).await;
    assert_eq!(first[0][0], second[0][0]);
    let number = |row: &[Value]| row[1].as_str().unwrap().parse::<f64>().unwrap();
    assert!(
        (number(&second[0]) - number(&first[0]) - 10000.0).abs() < 1e-6,
        "{first:?} {second:?}"
    );
    // A changed type is refused with both sides named, and the loaded rows stay.
    program.write(
        "sql/f/rpm.sql",
        RPM_SQL.replace("reading['value']", "CAST(reading['value'] AS VARCHAR)"),
    );
    let refused = program.run(&run).await;
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("`rpm` is FLOAT64, the model gives STRING"),
        "{}",
        refused.stderr
    );
    assert_eq!(second, emulators.bigquery.query(count).await);
    // With the flag, the table is created again, and everything is loaded again.
    program
        .succeed(&[&run[..], &["--full-refresh", "rpm"]].concat())
        .await;
    let third = emulators
        .bigquery
        .query("SELECT count(*), count(rpm || '') FROM `again_dwh`.rpm")
        .await;
    assert_eq!((&third[0][0], &third[0][1]), (&first[0][0], &first[0][0]));
    // The same in one go, from raw: the API is not asked.
    let asked = simulator.requests().len();
    program.write(
        "sql/f/rpm.sql",
        RPM_SQL.replace("reading['value']", "CAST(reading['value'] AS BIGINT)"),
    );
    let again = [
        &run[..],
        &["--stages", "transform,load", "--full-refresh", "rpm"],
    ]
    .concat();
    program.succeed(&again).await;
    assert_eq!(simulator.requests().len(), asked);
    let whole = "SELECT count(*), count(DISTINCT DATE(time)), sum(CAST(rpm AS INT64)), sum(rpm) FROM `again_dwh`.rpm";
    let fourth = emulators.bigquery.query(whole).await;
    assert_eq!((&fourth[0][0], &fourth[0][1]), (&first[0][0], &"2".into()));
    // Whole numbers: a sum of floats would be written with a point.
    assert_eq!(fourth[0][2], fourth[0][3]);
    let own = program
        .rows("SELECT count(*) AS n, sum(rpm) AS sum FROM rpm")
        .await;
    assert_eq!(own[0]["sum"].to_string(), fourth[0][3].as_str().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_tables_can_be_queried() {
    let Some(emulators) = shared().await else {
        return;
    };
    let simulator = simulator(|config| {
        config.faults = "429=0.3".parse().unwrap();
        config.missing_scopes = vec!["/tags".into()];
    })
    .await;
    let program = on_emulators(Program::with_simulator(&simulator), emulators, "audited");
    let tables = [
        "--table",
        "fleet_vehicle_stats_engineRpm",
        "--table",
        "fleet_tags_drivers",
    ];
    let until = |day| {
        [
            &["run", "--start_date", "2024-01-01", "--end_date", day],
            &tables[..],
        ]
        .concat()
    };
    let query = async |sql: &str| {
        let rows = emulators
            .bigquery
            .query(&sql.replace("FROM ", "FROM `audited_dwh`."))
            .await;
        let text = |value: &Value| value.as_str().unwrap_or("null").to_string();
        rows.iter()
            .map(|row| row.iter().map(text).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    for (number, day) in ["2024-01-04", "2024-01-05"].into_iter().enumerate() {
        let ran = program.run(&until(day)).await;
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        // Each run loads its day again, with the rows of those before.
        let runs = "SELECT count(*), count(DISTINCT run), min(failures), max(failures), count(finished_at) FROM _etl_runs";
        let number = number + 1;
        assert_eq!(
            query(runs).await,
            [format!("{number} {number} 1 1 {number}")]
        );
    }
    let steps = "SELECT step, name, count(*), count(DISTINCT day), count(error) FROM _etl_partitions GROUP BY 1, 2 ORDER BY 1, 2";
    let rpm = "fleet_vehicle_stats_engineRpm";
    assert_eq!(
        query(steps).await,
        [
            format!("extract {rpm} 4 4 0"),
            "failed fleet_tags 2 0 2".into(),
            format!("load {rpm} 4 4 0"),
            format!("transform {rpm} 4 4 0"),
        ]
    );
    // The ledger: what was derived is what was loaded is what the table holds, by day.
    let of = |step: &str| {
        format!(
            "SELECT day, sum(rows) FROM _etl_partitions WHERE step = '{step}' GROUP BY 1 ORDER BY 1"
        )
    };
    let held = query(&format!(
        "SELECT DATE(time), count(*) FROM {rpm} GROUP BY 1 ORDER BY 1"
    ))
    .await;
    assert_eq!(
        (
            held.len(),
            query(&of("load")).await,
            query(&of("transform")).await
        ),
        (4, held.clone(), held)
    );
    // What it cost: a third of the requests came back with 429.
    let sent = simulator
        .requests()
        .iter()
        .filter(|request| !request.path.contains("/me"))
        .count();
    let cost = query("SELECT sum(requests), sum(retries) FROM _etl_runs")
        .await
        .remove(0);
    let (requests, retries) = cost.split_once(' ').unwrap();
    let (requests, retries): (usize, usize) = (requests.parse().unwrap(), retries.parse().unwrap());
    assert!(
        0 < retries && retries < requests && requests <= sent,
        "{cost} of {sent}"
    );
    // Nothing to do, nothing to tell; what fails again is told.
    program.run(&until("2024-01-05")).await;
    assert_eq!(
        query("SELECT count(*), max(loaded_rows) > 0 FROM _etl_runs").await,
        ["3 true"]
    );
    assert_eq!(
        query("SELECT count(*) FROM _etl_partitions WHERE step = 'load'").await,
        ["4"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_tables_are_loaded_on_request() {
    let Some(emulators) = shared().await else {
        return;
    };
    let simulator = simulator(|_| ()).await;
    let program = on_emulators(Program::with_simulator(&simulator), emulators, "staged")
        .set("DATABASE_ID", "staged_st");
    // Sources without maps: the emulator's engine has a map type of its own where BigQuery has groups.
    let names = [
        "fleet_assets_reefers",
        "fleet_trips",
        "fleet_safety_events_audit_logs",
    ];
    let selected: Vec<&str> = names.iter().flat_map(|name| ["--table", name]).collect();
    let run = [RUN, &selected, &["--load-raw"]].concat();
    program.succeed(&run).await;
    for name in names {
        let here = program
            .rows(&format!("SELECT count(*) AS n FROM raw.{name}"))
            .await[0]["n"]
            .to_string();
        let there = emulators
            .bigquery
            .query(&format!("SELECT count(*) FROM `staged_st`.{name}"))
            .await;
        assert_eq!(there[0][0].as_str(), Some(here.as_str()), "{name}");
        assert!(here != "0", "{name}");
    }
    let unnested =
        "SELECT count(*) FROM `staged_st`.fleet_assets_reefers, UNNEST(reeferStats.setPoint) AS r";
    let changes = emulators.bigquery.query(unnested).await[0][0]
        .as_str()
        .unwrap()
        .parse::<u64>()
        .unwrap();
    let flat = program
        .rows("SELECT count(*) AS n FROM ReeferStats_setPoint")
        .await[0]["n"]
        .as_u64()
        .unwrap();
    // Exact repetitions are one row of the flattened table.
    assert!(changes >= flat && flat > 0, "{changes} and {flat}");
    let before = emulators.gcs.objects("staged-raw").len();
    program.succeed(&run).await;
    // The second run ships one more log with its page, and changes nothing else.
    assert_eq!(emulators.gcs.objects("staged-raw").len(), before + 2);
    // A schema that gains a column gives it to the table that exists.
    for (path, text) in crate::rerun::catalog_files() {
        let wider = text.replace(
            "  tollMeters DOUBLE,\n",
            "  tollMeters DOUBLE,\n  brandNew VARCHAR,\n",
        );
        program.write(&format!("sql/{path}"), wider);
    }
    let trips = [
        RUN,
        &["--table", "fleet_trips", "--load-raw", "--historical"],
    ]
    .concat();
    program.succeed(&trips).await;
    let gained = "SELECT count(*), count(brandNew) FROM `staged_st`.fleet_trips";
    let rows = program
        .rows("SELECT count(*) AS n FROM raw.fleet_trips")
        .await[0]["n"]
        .to_string();
    assert_eq!(
        emulators.bigquery.query(gained).await[0],
        [rows, "0".to_string()]
    );
    let without = Program::new().set("SAMSARA_API_TOKEN", "t");
    assert!(
        without
            .run(&["run", "--load-raw"])
            .await
            .stderr
            .contains("DATABASE_ID")
    );
}
