//! Edge values: each value that the API sends is unchanged in the table, on its day, or the run reports where it is
//! instead.

use samsara_simulator::{Simulator, SimulatorConfig};

use crate::program::{Program, Ran};

/// The program with an API that serves these bodies: path below the folder of pages, and body.
async fn serving(pages: &[(&str, &str)]) -> (Program, Simulator) {
    let folder = Program::new();
    write(&folder, pages);
    let pages_dir = Some(folder.folder().join("pages"));
    let simulator = Simulator::start(SimulatorConfig {
        pages_dir,
        ..SimulatorConfig::default()
    })
    .await
    .unwrap();
    let program = folder
        .set("SAMSARA_API_URL", &simulator.url())
        .set("SAMSARA_API_TOKEN", simulator.token());
    (program, simulator)
}

fn write(program: &Program, pages: &[(&str, &str)]) {
    for (path, body) in pages {
        program.write(&format!("pages/{path}/0001.json"), body);
    }
}

async fn run(program: &Program, tables: &[&str], [start, end]: [&str; 2]) -> Ran {
    let mut arguments = vec![
        "run",
        "--historical",
        "--summary",
        "full",
        "--start-date",
        start,
        "--end-date",
        end,
    ];
    tables
        .iter()
        .for_each(|table| arguments.extend(["--table", table]));
    program.run(&arguments).await
}

/// The rows of one column, in some order.
async fn column(program: &Program, sql: &str) -> Vec<String> {
    let rows = program.rows(sql).await;
    let text = |value: &serde_json::Value| value.as_str().map_or(value.to_string(), str::to_string);
    // A null is left out of a row.
    let mut values: Vec<String> = rows
        .iter()
        .map(|row| row.values().next().map_or("null".to_string(), text))
        .collect();
    values.sort();
    values
}

async fn rescued(program: &Program, source: &str) -> Vec<String> {
    column(
        program,
        &format!("SELECT _rescued_data FROM raw.{source} WHERE _rescued_data IS NOT NULL"),
    )
    .await
}

const STATS: &str = "fleet/vehicles/stats/history";
const RPM: &str = "fleet_vehicle_stats_engineRpm";
const SPEED: &str = "fleet_vehicle_stats_ecuSpeedMph";
const DAY: [&str; 2] = ["2024-01-01", "2024-01-02"];

fn page(data: &str) -> String {
    format!(r#"{{"data":{data},"pagination":{{"endCursor":"","hasNextPage":false}}}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_requests_rescue_into_the_right_table() {
    let body = page(r#"[{"id":"1","name":"A","engineRpm":"oops"}]"#);
    let (program, _simulator) = serving(&[(STATS, &body)]).await;
    let ran = run(&program, &[SPEED, RPM], DAY).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(rescued(&program, RPM).await, [r#"{"engineRpm":"oops"}"#]);
    assert!(
        column(&program, &format!("SELECT id FROM raw.{SPEED}"))
            .await
            .is_empty()
    );
    // Nor is the other table told of it.
    assert!(
        ran.stderr
            .contains(&format!("  {RPM}: engineRpm (does not fit its type): 1")),
        "{}",
        ran.stderr
    );
    let counted = |table: &str| {
        ran.stderr
            .lines()
            .any(|line| line.starts_with(table) && line.ends_with(" 1"))
    };
    assert!(counted(RPM) && !counted(SPEED), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn rescued_paths_are_those_of_the_day() {
    let body = page(
        r#"[{"id":"1","engineRpm":[{"time":"2023-12-31T23:59:59Z","value":1,"q":"yesterday"},
            {"time":"2024-01-01T00:00:01Z","value":2},{"time":"2024-01-01T00:00:02Z","value":3,"q":"today"}]}]"#,
    );
    let (program, _simulator) = serving(&[(STATS, &body)]).await;
    let ran = run(&program, &[RPM], ["2023-12-31", "2024-01-02"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let sql =
        format!("SELECT concat(CAST(_window_start AS DATE), ' ', _rescued_data) FROM raw.{RPM}");
    assert_eq!(
        column(&program, &sql).await,
        [
            r#"2023-12-31 {"engineRpm[0].q":"yesterday"}"#,
            r#"2024-01-01 {"engineRpm[1].q":"today"}"#
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn envelope_fields_are_kept_or_reported() {
    let idling = |data: &str| format!(r#"{{"warning":"only  partly","data":{data}}}"#);
    let event =
        |start: &str| format!(r#"{{"vehicle":{{"id":"1"}},"startTime":"{start}","durationMs":5}}"#);
    let path = "fleet/reports/vehicle/idling";
    let table = "fleet_vehicle_idling";
    // The first record is another day's, and goes without it.
    let (before, on) = (event("2023-12-31T23:00:00Z"), event("2024-01-01T01:00:00Z"));
    let (program, _simulator) = serving(&[(path, &idling(&format!("[{before},{on}]")))]).await;
    let ran = run(&program, &[table], DAY).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(
        rescued(&program, table).await,
        [r#"{"$.warning":"only  partly"}"#]
    );
    assert!(!ran.stderr.contains("without rows"), "{}", ran.stderr);
    // No row can store it: it is in the report, the log, and the table of what runs did.
    for data in ["[]".to_string(), "null".to_string(), format!("[{before}]")] {
        let (program, _simulator) = serving(&[(path, &idling(&data))]).await;
        let ran = run(&program, &[table], DAY).await;
        assert_eq!(ran.code, 0, "{data}: {}", ran.stderr);
        let told = format!("{table} 2024-01-01: $.warning = \"only  partly\": 1");
        assert!(ran.stderr.contains(&told), "{data}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("only  partly"),
            "{data}: {}",
            ran.stderr
        );
        let steps = "SELECT concat(name, ' ', \"partition\", ' ', detail) FROM _etl_partitions WHERE step = 'envelope'";
        assert_eq!(
            column(&program, steps).await,
            [format!("{table} 2024-01-01 $.warning = \"only  partly\"")]
        );
        assert!(
            column(&program, &format!("SELECT * FROM raw.{table}"))
                .await
                .is_empty(),
            "{data}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_at_the_edge_of_a_day_is_in_one_day_and_stops_none() {
    let readings = [
        "2016-12-31T23:59:60Z", // the first second of the next day
        "2016-12-31T23:59:60.5Z",
        "2016-12-31T23:59:59.999999999999Z",
        "2017-01-01t00:30:00+01:00",
        "2017-01-01T00:00:00.0000019-00:00",
    ];
    let readings = readings
        .iter()
        .enumerate()
        .map(|(value, time)| format!(r#"{{"time":"{time}","value":{value}}}"#));
    let readings: Vec<String> = readings.collect();
    let body = page(&format!(
        r#"[{{"id":"1","engineRpm":[{}]}}]"#,
        readings.join(",")
    ));
    let (program, _simulator) = serving(&[(STATS, &body)]).await;
    let count =
        format!("SELECT CAST(CAST(time AS DATE) AS VARCHAR) AS day FROM {RPM} ORDER BY day");
    // Each day alone, and both together.
    let (before, after) = ("2016-12-31", "2017-01-01");
    for (days, expected) in [
        (["2016-12-31", "2017-01-01"], vec![before, before]),
        (
            ["2017-01-01", "2017-01-02"],
            vec![before, before, after, after, after],
        ),
        (
            ["2016-12-31", "2017-01-02"],
            vec![before, before, after, after, after],
        ),
    ] {
        let ran = run(&program, &[RPM], days).await;
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(column(&program, &count).await, expected, "{days:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_outside_the_days_are_reported() {
    let body = page(
        r#"[{"id":"1","name":"A","engineRpm":[{"time":"1970-01-01T00:00:07Z","value":71},{"time":"2023-12-31T23:59:59Z","value":72},
            {"time":"2024-01-01T00:00:00Z","value":73},{"time":"2036-02-07T06:28:16Z","value":74}]}]"#,
    );
    let trips = r#"{"trips":[{"startMs":7000,"endMs":8000},{"startMs":1703900000000,"endMs":1704100000000},{"startMs":253402300800000}]}"#;
    let vehicles = page(r#"[{"id":"1"}]"#);
    let pages = [
        (STATS, body.as_str()),
        ("v1/fleet/trips", trips),
        ("fleet/vehicles", &vehicles),
    ];
    let (program, _simulator) = serving(&pages).await;
    let ran = run(&program, &[RPM, "fleet_trips"], DAY).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let told = format!(
        r#"  {RPM}: 2, from 1970-01-01T00:00:07Z to 2036-02-07T06:28:16Z, e.g. {{"id":"1","name":"A","engineRpm":{{"time":"1970-01-01T00:00:07Z","value":71.0}}}}"#
    );
    assert!(ran.stderr.contains(&told), "{}", ran.stderr);
    let told = r#"  fleet_trips: 2, from 1970-01-01T00:00:07Z to +10000-01-01T00:00:00Z, e.g. {"startMs":7000,"endMs":8000}"#;
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    let steps = "SELECT concat(name, ' ', not_owned, ' ', detail) FROM _etl_partitions WHERE step = 'outside'";
    let steps = column(&program, steps).await;
    assert!(
        steps.len() == 2 && steps[0].starts_with("fleet_trips 2 from 1970-"),
        "{steps:?}"
    );
    assert!(steps[1].contains("\"value\":74.0"), "{steps:?}");
    // Those that are near are another day's, and are counted only.
    assert!(!steps[1].contains("72"), "{steps:?}");
    assert_eq!(
        column(&program, &format!("SELECT engineRpm FROM {RPM}")).await,
        ["73.0"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_list_of_records_empties_no_day() {
    let path = "fleet/reports/vehicles/fuel-energy";
    let table = "fleet_vehicles_fuel_energy";
    let whole = page(r#"{"vehicleReports":[{"vehicle":{"id":"1"},"fuelConsumedMl":5}]}"#);
    let (program, _simulator) = serving(&[(path, &whole)]).await;
    let rows = format!("SELECT 1 FROM {table}");
    assert_eq!(run(&program, &[table], DAY).await.code, 0);
    for body in [
        r#"{"message":"Come again"}"#,
        "{}",
        r#"{"data":{}}"#,
        r#"{"data":null}"#,
        r#"{"data":[]}"#,
    ] {
        write(&program, &[(path, body)]);
        let ran = run(&program, &[table], DAY).await;
        assert_eq!(ran.code, 1, "{body}: {}", ran.stderr);
        let output = ran.stderr;
        assert!(
            output.contains("list of records") && output.contains(&format!("{table} 2024-01-01")),
            "{body}: {output}"
        );
        assert_eq!(column(&program, &rows).await.len(), 1, "{body}");
    }
    // These say that nothing is there.
    for body in [
        page("null"),
        page(r#"{"vehicleReports":null}"#),
        page(r#"{"vehicleReports":[]}"#),
    ] {
        write(&program, &[(path, &whole)]);
        assert_eq!(run(&program, &[table], DAY).await.code, 0);
        write(&program, &[(path, &body)]);
        assert_eq!(run(&program, &[table], DAY).await.code, 0, "{body}");
        assert!(column(&program, &rows).await.is_empty(), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_another_parent_are_other_rows() {
    let trip = r#"{"trips":[{"startMs":1704070000000,"endMs":1704071000000}]}"#;
    let none = r#"{"trips":[]}"#;
    let of = |id: u32| format!("v1/fleet/trips/vehicleId={id}");
    let vehicles = page(r#"[{"id":"1"},{"id":"2"},{"id":""},{"id":" "},{"name":"none"}]"#);
    let pages = [
        ("fleet/vehicles", vehicles.as_str()),
        (&of(1), trip),
        (&of(2), none),
    ];
    let (program, simulator) = serving(&pages).await;
    let parent = "SELECT _parent_id FROM raw.fleet_trips";
    let ran = run(&program, &["fleet_trips"], DAY).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(column(&program, parent).await, ["1"]);
    assert!(ran.stderr.contains("rows without an id"), "{}", ran.stderr);
    let unchanged = |ran: &Ran| {
        ran.stderr.lines().any(|line| {
            line.split_whitespace().collect::<Vec<_>>().starts_with(&[
                "fleet_trips",
                "1",
                "1",
                "1",
                "0",
            ])
        })
    };
    // The same once more, and a vehicle more that has made no trip.
    assert!(unchanged(&run(&program, &["fleet_trips"], DAY).await));
    write(
        &program,
        &[
            (
                "fleet/vehicles",
                &page(r#"[{"id":"1"},{"id":"2"},{"id":"3"}]"#),
            ),
            (&of(3), none),
        ],
    );
    assert!(unchanged(
        &run(&program, &["fleet_trips", "fleet_vehicles"], DAY).await
    ));
    write(&program, &[(&of(1), none), (&of(2), trip)]);
    let ran = run(&program, &["fleet_trips"], DAY).await;
    assert!(ran.code == 0 && !unchanged(&ran), "{}", ran.stderr);
    assert_eq!(column(&program, parent).await, ["2"]);
    // Other envelope fields with the same rows are a change too.
    write(
        &program,
        &[(
            &of(2),
            &trip.replace('{', r#"{"note":1,"#).replacen(
                r#"{"note":1,"startMs""#,
                r#"{"startMs""#,
                1,
            ),
        )],
    );
    let ran = run(&program, &["fleet_trips"], DAY).await;
    assert!(ran.code == 0 && !unchanged(&ran), "{}", ran.stderr);
    assert_eq!(rescued(&program, "fleet_trips").await, [r#"{"$.note":1}"#]);
    let blank = simulator
        .requests()
        .into_iter()
        .filter(|request| request.path == "/v1/fleet/trips");
    assert!(
        blank
            .map(|request| request.query)
            .all(|query| !query.contains("vehicleId=&") && !query.ends_with("vehicleId="))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_in_the_table_as_they_were_sent_or_rescued() {
    let reading = |(second, value): (usize, &&str)| {
        format!(r#"{{"time":"2024-01-01T00:00:{second:02}Z","value":{value}}}"#)
    };
    let sent = [
        "-0.0",
        "-0",
        "0",
        "1e2",
        "0.1",
        "1e-400",
        "1E400",
        "9007199254740993.0",
        "4503599627370497.25",
    ];
    let readings: Vec<String> = sent.iter().enumerate().map(reading).collect();
    let stats = page(&format!(
        r#"[{{"id":"1","engineRpm":[{}]}}]"#,
        readings.join(",")
    ));
    let trip = |(number, value): (i64, &&str)| {
        format!(
            r#"{{"startMs":{},"endMs":1704071000000,"startOdometer":{value}}}"#,
            1_704_070_000_000 + number
        )
    };
    let whole = [
        "1.00000000000000000001",
        "4503599627370497.25",
        "1e-400",
        "1e2",
        "9007199254740993.0",
        "-0.0",
        "1E400",
    ];
    let trips: Vec<String> = (0..).zip(&whole).map(trip).collect();
    let trips = format!(r#"{{"trips":[{}]}}"#, trips.join(","));
    let vehicles = page(r#"[{"id":"1"}]"#);
    let (program, _simulator) = serving(&[
        (STATS, &stats),
        ("v1/fleet/trips", &trips),
        ("fleet/vehicles", &vehicles),
    ])
    .await;
    let ran = run(&program, &[RPM, "fleet_trips"], DAY).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let values = column(
        &program,
        &format!("SELECT CAST(engineRpm AS VARCHAR) AS v FROM {RPM}"),
    )
    .await;
    assert_eq!(
        values,
        [
            "-0.0", "-0.0", "0.0", "0.1", "100.0", "null", "null", "null", "null"
        ]
    );
    assert_eq!(
        rescued(&program, RPM).await,
        [
            r#"{"engineRpm[5].value":1e-400,"engineRpm[6].value":1E400,"engineRpm[7].value":9007199254740993.0,"engineRpm[8].value":4503599627370497.25}"#
        ]
    );
    let values = column(
        &program,
        "SELECT CAST(startOdometer AS VARCHAR) AS v FROM raw.fleet_trips",
    )
    .await;
    assert_eq!(
        values,
        [
            "0",
            "100",
            "9007199254740993",
            "null",
            "null",
            "null",
            "null"
        ]
    );
    let expected = [
        r#"{"startOdometer":1.00000000000000000001}"#,
        r#"{"startOdometer":1E400}"#,
    ];
    let rescued = rescued(&program, "fleet_trips").await;
    assert!(
        rescued.len() == 4 && rescued[..2] == expected,
        "{rescued:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_has_each_key_once_and_keys_without_a_value() {
    let body = page(
        r#"[{"id":"1","externalIds":{"a":"1","b":null,"a":"2","x.y":"3","x.y":"4"},"gateway":{"model":"VG","fw":1},"gateway.fw":2}]"#,
    );
    let (program, _simulator) = serving(&[("fleet/vehicles", &body)]).await;
    let ran = run(&program, &["fleet_vehicles"], DAY).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let sql = "SELECT to_json(externalIds) FROM raw.fleet_vehicles";
    assert_eq!(
        column(&program, sql).await,
        [r#"{"a":"1","b":null,"x.y":"3"}"#]
    );
    let rescued = rescued(&program, "fleet_vehicles").await;
    let expected = r#""externalIds.a":"2","externalIds[\"x.y\"]":"4""#;
    assert!(
        rescued.len() == 1 && rescued[0].contains(expected),
        "{rescued:?}"
    );
    assert!(
        rescued[0].contains(r#""[\"gateway.fw\"]":2"#),
        "{rescued:?}"
    );
    let drift = program
        .succeed(&["sources", "drift", "fleet_vehicles"])
        .await
        .stdout;
    assert!(
        drift.contains(r#"#   ["gateway.fw"]: new, BIGINT (1 value)"#),
        "{drift}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_pages_keep_the_report_short() {
    let records: Vec<String> = (0..20_000)
        .map(|name| format!(r#"{{"n{name}":1}}"#))
        .collect();
    let body = page(&format!("[{}]", records.join(",")));
    let (program, _simulator) = serving(&[("fleet/vehicles", &body)]).await;
    let ran = run(&program, &["fleet_vehicles"], DAY).await;
    let sql = "SELECT count(_rescued_data) FROM raw.fleet_vehicles";
    assert_eq!(column(&program, sql).await, ["20000"], "{}", ran.stderr);
    assert!(ran.stderr.lines().count() < 400, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("more: see `samsara-etl sources drift`"),
        "{}",
        ran.stderr
    );
}
