//! What an analyst looks at before a schema or a model is changed for good.

use serde_json::Value;

use crate::program::{Program, simulator};
use crate::rerun::copy_families;
use crate::truth::{compare, day};

const RUN: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "04/01/2024",
    "--table",
    "fleet_vehicles",
    "--table",
    "fleet_trips",
    "--table",
    "fleet_vehicle_stats_gps",
];

/// Adopts proposed schemas, as a user would by hand. Returns the names of their sources.
fn take_over(program: &Program, families: &[&str], proposed: &str) -> Vec<String> {
    let proposed: toml::Table = toml::from_str(proposed).unwrap();
    for family in families {
        let path = format!("sql/{family}/sources.toml");
        let text = std::fs::read_to_string(program.folder().join(&path)).unwrap();
        let mut declared: toml::Table = toml::from_str(&text).unwrap();
        for (source, change) in &proposed {
            if let Some(declared) = declared.get_mut(source).and_then(toml::Value::as_table_mut) {
                assert!(
                    declared
                        .insert("schema".into(), change["schema"].clone())
                        .is_some(),
                    "{source}"
                );
            }
        }
        program.write(&path, toml::to_string(&declared).unwrap());
    }
    proposed.keys().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_proposals_hold_what_the_api_sends() {
    let simulator = simulator(|config| config.unknown_fields = true).await;
    let program = Program::with_simulator(&simulator);
    let families = ["assets", "vehicles", "trips", "vehicle_stats"];
    copy_families(&program, &families);
    program.succeed(RUN).await;

    let proposal = program.succeed(&["sources", "drift"]).await;
    let sources = take_over(&program, &families, &proposal.stdout);
    assert_eq!(
        sources,
        ["fleet_trips", "fleet_vehicle_stats_gps", "fleet_vehicles"],
        "{}",
        proposal.stdout
    );
    assert!(proposal.stdout.contains("gps[]."), "{}", proposal.stdout);
    // Older rows have nothing in the new columns; nothing fails because of that.
    program.succeed(&["sql", "check"]).await;
    program.succeed(RUN).await;

    program.succeed(&[RUN, &["--historical"]].concat()).await;
    let left = program.succeed(&["sources", "drift"]).await;
    assert!(
        left.stderr.contains("0 schemas proposed"),
        "{}\n{}",
        left.stdout,
        left.stderr
    );
    for source in sources {
        compare(
            &program,
            simulator.world(),
            &source,
            day("2024-01-01"),
            day("2024-01-04"),
        )
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_fits_nothing_is_proposed() {
    let simulator = simulator(|_| {}).await;
    let program = Program::with_simulator(&simulator);
    program.succeed(RUN).await;
    let proposal = program.succeed(&["sources", "drift"]).await;
    assert_eq!(proposal.stdout, "");
    let wrong = program.run(&["sources", "drift", "fleet_trip"]).await;
    assert!(
        wrong.code == 2 && wrong.stderr.contains("`fleet_trips`"),
        "{}",
        wrong.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_keeps_nothing() {
    let simulator = simulator(|_| {}).await;
    let program = Program::with_simulator(&simulator);
    copy_families(&program, &["assets", "vehicles", "trips", "vehicle_stats"]);
    program.succeed(RUN).await;
    let before = program.files("samsara-data");
    let sorted = |text: &str| {
        let mut rows: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        // The rows of `Program::rows` have no keys for NULL.
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            row.retain(|_, value| !value.is_null());
        }
        rows.sort_by_key(ToString::to_string);
        rows
    };
    let preview = [
        "sql",
        "preview",
        "fleet_trips",
        "--format",
        "json",
        "--rows",
        "100000",
    ];
    let shown = sorted(
        &program
            .succeed(&[&preview[..], &["--day", "02/01/2024"]].concat())
            .await
            .stdout,
    );
    let of_the_day = "startTime >= '2024-01-02' AND startTime < '2024-01-03'";
    let loaded = program
        .rows(&format!("SELECT * FROM fleet_trips WHERE {of_the_day}"))
        .await;
    let loaded: Vec<String> = loaded
        .into_iter()
        .map(|row| Value::Object(row).to_string())
        .collect();
    assert_eq!(shown, sorted(&loaded.join("\n")));
    assert!(!shown.is_empty());

    // The model is edited: the preview shows it, for the last complete day, and the tables do not change.
    let path = "sql/trips/fleet_trips.sql";
    let sql = std::fs::read_to_string(program.folder().join(path)).unwrap();
    let edited = sql.replacen(
        "SELECT DISTINCT\n",
        "SELECT DISTINCT\n  7 AS seven, -- a new column\n",
        1,
    );
    program.write(path, edited);
    let shown = program.succeed(&preview).await;
    assert!(
        shown.stderr.contains("fleet_trips 2024-01-03"),
        "{}",
        shown.stderr
    );
    let rows = sorted(&shown.stdout);
    assert!(
        !rows.is_empty() && rows.iter().all(|row| row["seven"] == 7),
        "{}",
        shown.stdout
    );
    assert_eq!(program.files("samsara-data"), before);

    let cases: [(&[&str], &str); 4] = [
        (&["fleet_trip"], "`fleet_trips`"),
        (
            &["fleet_trips", "--day", "09/01/2024"],
            "no raw rows of fleet_trips of 2024-01-09",
        ),
        (
            &["fleet_vehicles", "--day", "01/01/2024"],
            "fleet_vehicles is a list",
        ),
        (
            &["fleet_vehicle_stats_gpsOdometerMeters"],
            "no raw rows of fleet_vehicle_stats_gpsOdometerMeters",
        ),
    ];
    for (arguments, told) in cases {
        let ran = program
            .run(&[&["sql", "preview"], arguments].concat())
            .await;
        assert!(
            ran.code == 2 && ran.stderr.contains(told),
            "{arguments:?}: {} {}",
            ran.code,
            ran.stderr
        );
    }
}
